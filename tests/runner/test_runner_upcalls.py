"""Commands inside jobs that ask the controller: the node's side of the channel, under every shell."""

import os
import secrets
import shlex
import time
from pathlib import Path

import pytest
from shell_node import PATIENCE_S, Node, Runner, new_id, wait_until

from sshq.core.hostlist import expand_hostlist
from sshq.runner import protocol as p
from sshq.runner.replies import Answered
from sshq.runner.upcalls import BadRequestError, encode_answer, encode_question, parse_given, parse_request

HOSTILE = b"a\nb\\0 'q\" $HOME `x` \xff\xfe\t\x01*"


class Caller:
    """The controller's part, by hand: waits for the call of a job, and answers it."""

    def __init__(self, runner: Runner, launch_id: str) -> None:
        self.runner = runner
        self.id = launch_id
        self.token = runner.wait(p.Upcall, lambda u: u.id == launch_id).words[0]
        self.folder = runner.node.spool / "a" / f"{launch_id}.calls" / self.token
        self.request = parse_request((self.folder / "request").read_bytes())

    def answer(self, number: int, kind: str, data: bytes = b"", status: int | None = None, *, ask: bool = False) -> Answered:
        tag = secrets.token_hex(4)
        call = encode_answer(
            tag=tag, id=self.id, token=self.token, number=number, kind=kind, data=data, status=status, ask=ask
        )
        self.runner.send(call)
        return self.runner.wait(Answered, lambda r: r.tag == tag)

    def ask(self, kind: str, data: bytes = b"", question: str = "") -> bytes | None:
        """What the command answers a question with; None where it cannot."""
        self.question = question or new_id()
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            tag = secrets.token_hex(4)
            self.runner.send(
                encode_question(tag=tag, id=self.id, token=self.token, question=self.question, kind=kind, data=data)
            )
            if self.runner.wait(Answered, lambda r, tag=tag: r.tag == tag).given:
                break
        return parse_given(self.given_file.read_bytes())[0]

    @property
    def given_file(self) -> Path:
        return self.folder / f"{self.question}.in"


@pytest.fixture
def job(shared: Runner, tmp_path: Path):
    """Start a script; its output is in tmp_path/out, its errors in tmp_path/err."""

    def start(script: str, **fields: object) -> str:
        streams = {"work_dir": str(tmp_path), "stdout": "out", "stderr": "err"}
        return shared.launch(script=b"#!/bin/sh\n" + script.encode("utf-8", "surrogateescape"), **(streams | fields)).id

    return start


def test_words_environment_and_directory_arrive_as_they_are(shared, job, tmp_path):
    word = HOSTILE.decode("utf-8", "surrogateescape")
    quoted = "'" + word.replace("'", "'\\''") + "'"
    environ = {"PATH": shared.node.env["PATH"], "ODD": word, "EMPTY": ""}
    odd = tmp_path / "a\nb "
    odd.mkdir()
    launch = job(f"umask 027; cd 'a\nb '; sbatch -n 2 {quoted} '' last; echo rc=$?", environ=environ)
    call = Caller(shared, launch)
    assert (call.request.verb, call.request.umask) == ("sbatch", 0o027)
    assert call.request.argv == ("-n", "2", word, "", "last")
    assert call.request.environ["ODD"] == word
    assert call.request.environ["EMPTY"] == ""
    assert call.request.cwd == call.request.real_cwd == str(odd)
    assert call.answer(1, "out", b"Submitted\n").waits
    assert call.answer(2, "err", HOSTILE).waits
    call.answer(3, "out", b"x\0y\\n\n")
    call.answer(3, "-", status=7)
    assert shared.wait_end(launch).code == 0
    assert (tmp_path / "out").read_bytes() == b"Submitted\nx\0y\\n\nrc=7\n"
    assert (tmp_path / "err").read_bytes() == HOSTILE
    assert list(call.folder.parent.iterdir()) == []


def test_a_piece_that_comes_twice_is_shown_once(shared, job, tmp_path):
    launch = job("squeue")
    call = Caller(shared, launch)
    call.answer(1, "out", b"one\n")
    wait_until(lambda: call.answer(0, "-", ask=True).seen == 1)
    for _ in range(2):  # as of a controller that was restarted and begins anew
        call.answer(1, "out", b"one\n")
        call.answer(2, "out", b"two\n")
    call.answer(2, "-", status=0)
    assert shared.wait_end(launch).code == 0
    assert (tmp_path / "out").read_text() == "one\ntwo\n"


def test_files_are_read_and_written_on_the_node(shared, job, tmp_path):
    script = b"#!/bin/sh\n\0" + bytes(range(256)) * 4096
    (tmp_path / "-job 1\n").write_bytes(script)
    launch = job("echo typed | sbatch; cat 'to write'")
    call = Caller(shared, launch)
    assert call.ask("read", b"-job 1\n", "1" * 32) == script
    assert call.ask("stdin") == b"typed\n"
    (tmp_path / "-job 1\n").unlink()
    assert call.ask("read", b"-job 1\n", "1" * 32) == script  # the same question: as of a controller that was restarted
    assert call.ask("path", b"to write") == b""
    assert call.ask("data", b"part one,\0", "2" * 32) == b""
    assert call.ask("data", b"part one,\0", "2" * 32) == b""
    assert call.ask("data", b" part two\n") == b""
    for name, why in ((b"/nonexistent", "No such file or directory"), (b"/", "Is a directory")):
        assert call.ask("read", name) is None
        assert parse_given(call.given_file.read_bytes())[1] == why
    assert call.ask("path", b"/nonexistent/x") is None
    call.answer(0, "-", status=0)
    shared.wait_end(launch)
    assert (tmp_path / "out").read_bytes() == b"part one,\0 part two\n"
    assert os.stat(tmp_path / "to write").st_mode & 0o777 == 0o700


def test_a_nonce_shows_the_directory_and_goes_with_the_command(shared, job, tmp_path):
    launch = job("sbatch x")
    call = Caller(shared, launch)
    assert call.ask("nonce", b".sshq-nonce-0123456789abcdef cafecafe") == b""
    assert (tmp_path / ".sshq-nonce-0123456789abcdef").read_text() == "cafecafe"
    assert call.ask("nonce", b"../escape x") is None
    call.answer(0, "-", status=0)
    shared.wait_end(launch)
    assert sorted(f.name for f in tmp_path.iterdir() if "sshq" in f.name or f.name == "escape") == []


def test_a_call_that_nobody_heard_is_announced_by_each_listing(shared, job):
    launch = job("squeue; exit $?")
    call = Caller(shared, launch)
    for _ in range(2):
        shared.list()
        again = shared.wait(p.Upcall, lambda u: u.id == launch)
        assert again.words == (call.token, "again")
    call.answer(0, "-", status=3)
    assert shared.wait_end(launch).code == 3
    shared.list()
    assert not [r for r in shared.replies if isinstance(r, p.Upcall) and r.id == launch and r.words[1:] == ("again",)]


@pytest.mark.slow
def test_a_command_says_once_that_it_waits(shared, job, tmp_path):
    launch = job("sinfo")
    call = Caller(shared, launch)
    wait_until(lambda: (tmp_path / "err").read_text(), what="the word that it waits")
    call.answer(0, "-", status=0)
    shared.wait_end(launch)
    assert (tmp_path / "err").read_text() == "sinfo: the controller does not answer, waiting for it\n"


def test_a_command_that_is_ended_takes_its_call_along(shared, job, tmp_path):
    launch = job("sacct & wait $!; echo rc=$?; until [ -e over ]; do sleep 0.1; done")
    call = Caller(shared, launch)
    call.answer(0, "-")
    os.kill(call.request.pid, 15)
    gone = shared.wait(p.Upcall, lambda u: u.id == launch and "gone" in u.words)
    assert gone.words == (call.token, "gone")
    (tmp_path / "over").touch()  # only now: the end of a job ends what still tells of it
    shared.wait_end(launch)
    assert (tmp_path / "out").read_text() == "rc=143\n"
    assert not call.answer(1, "out", b"late").waits
    assert list(call.folder.parent.iterdir()) == []


def cmdline_of(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_a_command_that_is_ended_with_all_of_its_job_says_nothing_of_its_own(shared, job, tmp_path):
    shell = shlex.join(shared.node.shell)  # as where it is the node's /bin/sh
    if shell.startswith(("ksh", "zsh")):
        pytest.skip("optional: ksh sleeps by itself, zsh goes on for a few lines after it was told to exit; nobody has them as /bin/sh")
    launch = job(f'trap : TERM; {shell} "$(command -v squeue)"; echo rc=$?')
    call = Caller(shared, launch)
    children = Path(f"/proc/{call.request.pid}/task/{call.request.pid}/children")
    wait_until(lambda: any("sleep" in cmdline_of(pid) for pid in children.read_text().split()), what="the command to sleep")
    os.killpg(os.getpgid(call.request.pid), 15)
    shared.wait_end(launch)
    assert ((tmp_path / "out").read_text(), (tmp_path / "err").read_text()) == ("rc=143\n", "")


def test_what_a_killed_command_left_goes_with_a_listing_or_its_job(shared, job):
    launch = job("squeue & wait; sleep 0.1; sinfo")
    call = Caller(shared, launch)
    os.kill(call.request.pid, 9)
    other = Caller(shared, launch)
    assert other.request.verb == "sinfo"
    shared.list()
    wait_until(lambda: not call.folder.exists(), what="the dead call's files to go")
    shared.send(p.encode_kill(id=launch, seq=1, mode="cancel", signal="KILL", grace_s=0))
    shared.wait_end(launch)
    shared.send(p.encode_ack(tag="t", high=0, open_seqs=(), ids=(launch,)))
    assert shared.wait(p.Acked).ok
    assert not other.folder.parent.exists()


def test_a_fifo_in_the_way_does_not_hang_the_runner(shared, job):
    launch = job("squeue & wait")
    call = Caller(shared, launch)
    os.mkfifo(call.folder / "1.out")
    shared.send(encode_answer(tag="f", id=launch, token=call.token, number=1, kind="out", data=b"x"))
    assert shared.wait(p.CallFailed, lambda r: r.tag == "f").call == "answer"
    (call.folder / "1.out").unlink()
    call.answer(1, "-", status=0)
    shared.ping()
    os.kill(call.request.pid, 9)
    shared.wait_end(launch)


def test_a_flood_of_the_bell_is_read_and_a_torn_answer_does_nothing(shared, job):
    launch = job('i=0; while [ $i -lt 3000 ]; do echo "U $SSHQ_ATTEMPT junk$i flood" 1<>"${SSHQ_DIR%/a/*}/bell"; i=$((i+1)); done; squeue')
    call_words = shared.wait(p.Upcall, lambda u: u.id == launch and u.words[1] == "new").words
    folder = shared.node.spool / "a" / f"{launch}.calls" / call_words[0]
    whole = encode_answer(tag="t", id=launch, token=call_words[0], number=1, kind="out", data=b"x" * 5000, status=0)
    shared.send(whole.replace(b"END-t", b"END-"))
    shared.ping()
    assert not list(folder.glob("1.*"))
    shared.send(whole)
    assert shared.wait_end(launch).code == 0


@pytest.mark.parametrize("data", [
    b"", b"\n", b"2 squeue 0 022 1 1\nSSHQ-END", b"1 squeue 0 022 1 1\n", b"1 ../x 0 022 1 1\nsh\0x\0SSHQ-CWD\0/\0/\0SSHQ-ENVIRON\0SSHQ-END",
    b"1 squeue 9 022 1 1\nsh\0x\0SSHQ-CWD\0/\0/\0SSHQ-ENVIRON\0SSHQ-END", b"1 squeue x 022 1 1\nSSHQ-END",
    b"1 squeue 0 9 1 1\nSSHQ-END", b"1 squeue -1 022 1 1\nSSHQ-END", b"\xff" * 100,
])  # fmt: skip
def test_a_malformed_request_is_refused(data):
    with pytest.raises(BadRequestError):
        parse_request(data)


def test_words_that_look_like_marks_stay_words():
    words = b"sh\0/spool/bin/upcall\0squeue\0SSHQ-CWD\0a\0b\0SSHQ-ENVIRON\0SSHQ-CWD\0/w\0/r\0SSHQ-ENVIRON\0A=1\0B\0SSHQ-END"
    request = parse_request(b"1 squeue 4 022 7 9\n" + words)
    assert (request.argv, request.cwd, request.environ) == (("SSHQ-CWD", "a", "b", "SSHQ-ENVIRON"), "/w", {"A": "1"})


def test_an_identity_is_needed(tmp_path):
    with Node(tmp_path) as node:
        runner = node.connect()
        runner.reserve()
        bin_dir = node.spool / "bin"
        assert {f.name for f in bin_dir.iterdir()} >= {"srun", "upcall", "sbatch", "squeue", "scancel", "sinfo", "sacct", "scontrol"}
        launch = runner.launch(script=b"unset SSHQ_DIR; squeue; exit $?", work_dir=str(tmp_path), stdout="out", stderr="err")
        assert runner.wait_end(launch.id).code == 1
        assert "belongs to jobs of sshq" in (tmp_path / "err").read_text()
        runner.send(encode_answer(tag="n", id=new_id(), token=new_id(), number=1, kind="out", data=b"x"))
        assert not runner.wait(Answered).waits


HOSTLISTS = """n1 n1,n2 n[1-3] n[01-03,7] a[1-2]b[1-2] x[1-2],y,z[08-11] node[0-0] n[1,3,5]-ib n-[1-2].x n[099-101] a[1-2]b[3-4]c[5-6],d
    n[ n] n[1- n[3-1] n[a-b] n[1-2 n1,,n2 ,n n[1-99999] n$(x) n[] n[1]] n[1-2-3] n[[1]]""".split()  # noqa: SIM905


def test_host_names_need_no_controller(shared, job, tmp_path):
    script = "".join(f"scontrol show hostnames '{one}'; echo ==\n" for one in HOSTLISTS)
    environ = {"PATH": shared.node.env["PATH"], "SLURM_JOB_NODELIST": "n[7-8]"}
    launch = job(script + "scontrol show hostnames\n", environ=environ)
    said, ended = [], False
    while not ended:  # what it cannot read is asked for
        reply = shared.wait((p.Upcall, p.Ended), lambda r: r.id == launch and (isinstance(r, p.Ended) or r.words[1] == "new"))
        ended = isinstance(reply, p.Ended)
        if not ended:
            shared.replies.append(reply)
            call = Caller(shared, launch)
            said.append(call.request.argv[2])
            call.answer(1, "out", b"asked\n", 0)
    lists = []
    for one in HOSTLISTS:
        try:
            lists.append("\n".join(expand_hostlist(one)))
        except ValueError:
            assert one in said
            lists.append("asked")
    lists = ["asked" if one in said else found for one, found in zip(HOSTLISTS, lists, strict=True)]
    assert len(said) == 14
    assert (tmp_path / "out").read_text() == "\n==\n".join([*lists, "n7\nn8\n"])
