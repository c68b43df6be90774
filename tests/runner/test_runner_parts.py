"""Parts of an allocation: what its holder starts on request, at most once, under every shell; input in pieces; terminals."""

import fcntl
import os
import pty
import secrets
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest
from shell_node import Runner, is_alive, wait_until

from sshq.core.model import JobSpec
from sshq.kinds import payload_of
from sshq.runner import parts
from sshq.runner import protocol as p
from sshq.runner.replies import PartAnswer, PartNews

SPEC = JobSpec(name="interactive", uid=0, user="u", gid=0, group="g", script="", environ="", kind="allocation")
BYTES = bytes(range(256)) * 3 + b"%s\\n'%%\n\n"


def allocate(runner: Runner, **fields: object) -> str:
    payload = payload_of(SPEC, b"")
    call = runner.launch(script=payload.script, interpreter=payload.interpreter, **fields)
    runner.wait_start(call.id)
    return call.id


def ask(runner: Runner, *writes: bytes, tag: str) -> PartAnswer:
    runner.send(*writes)
    return runner.wait(PartAnswer, lambda r: r.tag == tag)


def start(runner: Runner, launch: str, *argv: str, token: str = "", **fields: object) -> str:
    token, tag = token or secrets.token_hex(8), secrets.token_hex(4)
    call = parts.PartCall(id=launch, token=token, argv=argv, **fields)
    assert ask(runner, *parts.encode_start_part(call, tag=tag), tag=tag).word in ("made", "known")
    return token


def wait_code(runner: Runner, token: str) -> int:
    return runner.wait(PartNews, lambda r: (r.token, r.word) == (token, "ended")).value


def feed(runner: Runner, launch: str, token: str, *chunks: bytes) -> None:
    for number, data in enumerate((*chunks, b"")):
        tag = secrets.token_hex(4)
        answer = ask(runner, *parts.encode_input(tag=tag, id=launch, token=token, number=number, data=data), tag=tag)
        assert answer.word == "took"


def end(runner: Runner, launch: str, code: int = 0) -> p.ExitRecord:
    tag = secrets.token_hex(4)
    assert ask(runner, parts.encode_end_parts(tag=tag, id=launch, code=code), tag=tag).word == "ending"
    return runner.wait_end(launch)


def folder(runner: Runner, launch: str, token: str) -> Path:
    return Path(parts.part_dir(str(runner.node.spool), launch, token))


def read_out(runner: Runner, launch: str, token: str) -> str:
    path = folder(runner, launch, token) / "out"
    return path.read_text() if path.exists() else ""


def test_a_part_has_its_words_environment_directory_and_streams(shared, tmp_path):
    launch = allocate(shared)
    script = 'printf "%s|" "$PWD" "$A" "$SSHQ_ATTEMPT" "$@"; echo wrong >&2; exit 7'
    words = ("a b", "", "'\"$(x)`\\\n", "é")
    token = start(shared, launch, "sh", "-c", script, "sh", *words, environ={"A": "one\ntwo'"}, work_dir=str(tmp_path))
    assert wait_code(shared, token) == 7
    where = folder(shared, launch, token)
    assert (where / "out").read_text() == "|".join([str(tmp_path), "one\ntwo'", launch, *words, ""])
    assert (where / "err").read_text() == "wrong\n"
    joined = start(shared, launch, "sh", "-c", "echo 1; echo 2 >&2", stdout=str(tmp_path / "o"), stderr="-", umask=0o77)
    assert wait_code(shared, joined) == 0
    assert (tmp_path / "o").read_text() == "1\n2\n"
    assert (tmp_path / "o").stat().st_mode & 0o777 == 0o600
    assert end(shared, launch).code == 0


def test_a_repeated_request_starts_nothing_again(shared, tmp_path):
    launch = allocate(shared)
    ledger = tmp_path / "ledger"
    token = start(shared, launch, "sh", "-c", f"echo x >>{ledger}")
    for _ in range(5):
        start(shared, launch, "sh", "-c", f"echo x >>{ledger}", token=token)
    assert wait_code(shared, token) == 0
    start(shared, launch, "sh", "-c", f"echo x >>{ledger}", token=token)
    assert wait_code(shared, start(shared, launch, "true")) == 0
    assert ledger.read_text() == "x\n"
    tag = secrets.token_hex(4)
    assert ask(shared, parts.encode_ask_part(tag=tag, id=launch, token=token), tag=tag).word == "ended"
    end(shared, launch)
    tag = secrets.token_hex(4)
    writes = parts.encode_start_part(parts.PartCall(id=launch, token="late", argv=("true",)), tag=tag)
    assert ask(shared, *writes, tag=tag).word == "gone"


def test_what_was_asked_before_the_holder_listened_is_found(shared):
    """The request stands there before the launch, as when the runner is faster than the holder."""
    call = shared.call(script=payload_of(SPEC, b"").script)
    where = shared.node.spool / "a" / f"{call.id}.parts" / "early"
    where.mkdir(parents=True)
    (where / "req").write_bytes(parts._request(parts.PartCall(id=call.id, token="early", argv=("sh", "-c", "exit 3"))))
    shared.send(*p.encode_launch(call))
    assert wait_code(shared, "early") == 3
    end(shared, call.id)


def test_a_large_request_comes_in_pieces(shared):
    launch = allocate(shared)
    token = start(shared, launch, "sh", "-c", 'printf "%s" "$BIG" "$1"', "sh", "y" * 30_000, environ={"BIG": "x'" * 20_000})
    assert wait_code(shared, token) == 0
    assert (folder(shared, launch, token) / "out").read_text() == "x'" * 20_000 + "y" * 30_000
    end(shared, launch)


def test_input_arrives_byte_for_byte_and_ends(shared):
    launch = allocate(shared)
    token = start(shared, launch, "cat", stdin="feed")
    data = [BYTES, os.urandom(20_000), b"-n\n", b"last"]
    feed(shared, launch, token, *data)
    assert wait_code(shared, token) == 0
    assert (folder(shared, launch, token) / "out").read_bytes() == b"".join(data)
    empty = start(shared, launch, "cat", stdin="feed")
    feed(shared, launch, empty)
    assert wait_code(shared, empty) == 0
    end(shared, launch)


def test_input_that_nobody_reads_is_refused(shared):
    launch = allocate(shared)
    token = start(shared, launch, "sh", "-c", "read line; exec <&-; sleep 30", stdin="feed")
    tag, number, word = "", 0, "took"
    while word == "took":
        tag = secrets.token_hex(4)
        writes = parts.encode_input(tag=tag, id=launch, token=token, number=number, data=b"x\n" * 1000)
        word = ask(shared, *writes, tag=tag).word
        number += 1
    assert word == "closed"
    end(shared, launch)


def test_signals_reach_a_part_and_its_end_is_told(shared):
    launch = allocate(shared)
    token = start(shared, launch, "sh", "-c", "trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done")
    wait_until(lambda: read_out(shared, launch, token) == "ready\n")
    tag = secrets.token_hex(4)
    assert ask(shared, parts.encode_signal_part(tag=tag, id=launch, token=token, signal="USR1"), tag=tag).word == "signalled"
    assert wait_code(shared, token) == 9
    token = start(shared, launch, "sh", "-c", "trap 'exit 8' INT; echo ready; while :; do sleep 0.05; done")
    wait_until(lambda: read_out(shared, launch, token) == "ready\n")
    tag = secrets.token_hex(4)
    ask(shared, parts.encode_signal_part(tag=tag, id=launch, token=token, signal="INT"), tag=tag)
    assert wait_code(shared, token) == 8
    end(shared, launch)


def test_the_holder_outlives_signals_and_ends_with_its_parts(shared):
    launch = allocate(shared)
    token = start(shared, launch, "sleep", "1000")
    pid = shared.wait(PartNews, lambda r: (r.token, r.word) == (token, "started")).value
    for name in ("USR1", "HUP"):
        shared.send(p.encode_kill(id=launch, seq=1, mode="signal-batch", signal=name))
        shared.wait(p.KillResult, lambda r: r.id == launch)
    assert wait_code(shared, start(shared, launch, "true")) == 0
    record = end(shared, launch, 4)
    assert (record.how, record.code) == ("exit", 4)
    wait_until(lambda: not is_alive(pid))


def test_a_cancel_and_a_limit_end_all_parts(shared):
    launch = allocate(shared)
    token = start(shared, launch, "sleep", "1000")
    pid = shared.wait(PartNews, lambda r: (r.token, r.word) == (token, "started")).value
    shared.send(p.encode_kill(id=launch, seq=1, mode="cancel", grace_s=2))
    assert shared.wait_end(launch).how == "cancel"
    wait_until(lambda: not is_alive(pid))
    launch = allocate(shared, limit_s=1, grace_s=1)
    start(shared, launch, "sleep", "1000")
    assert shared.wait_end(launch).how == "timeout"


def test_the_launch_ends_with_its_main_part(shared):
    launch = allocate(shared)
    start(shared, launch, "sh", "-c", "exit 5", main=True)
    assert shared.wait_end(launch).code == 5


class Terminal:
    """A channel with a terminal, as sshd makes one."""

    def __init__(self, runner: Runner, launch: str, token: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
        command = parts.terminal_command(str(runner.node.spool), launch, token)
        if runner.node.shell != ["dash"]:
            command = command.replace("exec /bin/sh", "exec " + " ".join(runner.node.shell))
        self.process = subprocess.Popen(
            ["sh", "-c", command], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env=runner.node.env | {"TERM": "xterm"}, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        self.seen = b""

    def read_until(self, text: bytes) -> None:
        deadline = time.monotonic() + 20
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            try:
                self.seen += os.read(self.master, 4096)
            except OSError:
                break
        assert text in self.seen, self.seen


def open_terminal(runner: Runner, launch: str, *argv: str, **fields: object) -> tuple[Terminal, str]:
    token = start(runner, launch, *argv, terminal=True, **fields)
    return Terminal(runner, launch, token), token


def test_a_terminal_is_the_jobs_and_its_status_comes_back(shared):
    launch = allocate(shared, environ={"PATH": shared.node.env["PATH"], "SLURM_JOB_ID": "77"})
    script = "stty size; tty; echo $SLURM_JOB_ID $A $TERM; read x; echo got $x; exit 6"
    terminal, token = open_terminal(shared, launch, "sh", "-c", script, environ={"A": "b c"})
    terminal.read_until(b"77 b c xterm")
    assert b"33 77" in terminal.seen
    assert b"/dev/" in terminal.seen
    os.write(terminal.master, b"word\n")
    terminal.read_until(b"got word")
    assert terminal.process.wait(20) == 6
    assert wait_code(shared, token) == 6
    end(shared, launch)


def test_control_c_is_for_the_command_and_a_lost_line_ends_it(shared):
    launch = allocate(shared)
    script = "trap 'echo caught' INT; echo ready; while :; do sleep 0.05; done"
    terminal, token = open_terminal(shared, launch, "sh", "-c", script)
    terminal.read_until(b"ready")
    os.write(terminal.master, b"\x03")
    terminal.read_until(b"caught")
    os.close(terminal.master)
    terminal.process.wait(20)
    assert wait_code(shared, token) == 129
    end(shared, launch)


def test_a_terminal_that_is_the_main_part_ends_the_launch(shared):
    launch = allocate(shared)
    terminal, _ = open_terminal(shared, launch, "sh", "-c", "exit 3", main=True)
    assert terminal.process.wait(20) == 3
    assert shared.wait_end(launch).code == 3
    launch = allocate(shared)
    terminal, _ = open_terminal(shared, launch, "sh", "-c", "echo ready; exec sleep 1000", main=True)
    terminal.read_until(b"ready")
    terminal.process.send_signal(signal.SIGKILL)  # the session's leader: the kernel hangs up on the rest
    record = shared.wait_end(launch)
    assert (record.code or 128 + record.signal) == 129  # not every shell tells the two apart


def test_a_cancel_ends_a_terminal(shared):
    launch = allocate(shared)
    terminal, _ = open_terminal(shared, launch, "sh", "-c", "echo ready; exec sleep 1000")
    terminal.read_until(b"ready")
    shared.send(p.encode_kill(id=launch, seq=1, mode="cancel", grace_s=2))
    assert shared.wait_end(launch).how == "cancel"
    terminal.process.wait(20)


def test_an_attended_command_reads_what_is_fed(shared, tmp_path):
    spec = JobSpec(name="cat", uid=0, user="u", gid=0, group="g", script="", environ="", kind="attended", args=("-n1", "cat"))
    payload = payload_of(spec, b"")
    environ = {"PATH": shared.node.env["PATH"], "SLURM_JOB_ID": "7", "SLURMD_NODENAME": "node3", "SLURM_JOB_CPUS_PER_NODE": "1"}
    fields = {"script": payload.script, "args": payload.args, "stdout": str(tmp_path / "out"), "stderr": str(tmp_path / "err")}
    launch = shared.launch(work_dir=str(tmp_path), environ=environ, **fields)
    shared.wait_start(launch.id)
    feed(shared, launch.id, "main", BYTES, b"more\n")
    record = shared.wait_end(launch.id)
    assert (record.code, (tmp_path / "out").read_bytes(), (tmp_path / "err").read_text()) == (0, BYTES + b"more\n", "")


@pytest.mark.parametrize("line", [
    b"V x y ended 1", b"V " + b"a" * 32 + b" .. ended 1", b"V " + b"a" * 32 + b" t ended x", b"V " + b"a" * 32 + b" t",
    b"Y t what", b"Y t ended 1 2", b"Y", b"V", b"V " + b"a" * 32 + b" t ended " + b"9" * 30,
])  # fmt: skip
def test_lines_that_are_not_well_formed(line):
    parser = p.ReplyParser("n")
    assert [type(r) for r in parser.feed(b"SSHQ n hello 1\n" + line + b"\n")][-1:] == [p.Malformed]
