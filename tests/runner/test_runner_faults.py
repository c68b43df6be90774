"""The runner's processes and its spool under faults of the node: stopped, starved, wiped, read-only, aged."""

import itertools
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from shell_node import SHELLS, Node, Runner, is_alive, need_shell, wait_until

from sshq.runner import protocol as p

BUSY_PATIENCE_S = 60


def file_of(runner: Runner, call: p.LaunchCall, name: str) -> Path:
    return runner.node.spool / "a" / f"{call.id}.{name}"


def supervisor_of(runner: Runner, call: p.LaunchCall) -> int:
    return int(file_of(runner, call, "sup").read_text().split()[1])


def spawner_of(runner: Runner) -> int:
    children = Path(f"/proc/{runner.process.pid}/task/{runner.process.pid}/children").read_text().split()
    [spawner] = [int(c) for c in children if os.getsid(int(c)) == int(c)]
    return spawner


def cancel(runner: Runner, call: p.LaunchCall, **fields: object) -> str:
    runner.send(p.encode_kill(id=call.id, seq=call.seq, mode="cancel", **fields))
    return runner.wait(p.KillResult, lambda r: r.id == call.id).result


def wipe(spool: Path) -> bool:
    shutil.rmtree(spool, ignore_errors=True)
    return not spool.exists()


def numbers(path: Path) -> list[int]:
    return [int(w) for w in path.read_text().split()] if path.exists() else []


# ---- stopped processes -----------------------------------------------------------------------------------------------


def test_a_launcher_that_was_stopped_and_fenced_refuses_when_it_goes_on(runner, tmp_path):
    runner.wait_end(runner.launch(b"exit 1").id)
    spawner = spawner_of(runner)
    os.kill(spawner, signal.SIGSTOP)
    call = runner.launch(b"touch %s/ran\n" % bytes(tmp_path))
    runner.send(p.encode_fence(id=call.id, seq=call.seq))
    assert runner.wait(p.FenceResult).result == "won"
    os.kill(spawner, signal.SIGCONT)
    assert runner.wait(p.Refused).why == "go-lost"
    assert runner.wait_end(runner.launch(b"exit 3").id).code == 3
    assert not (tmp_path / "ran").exists()


def test_a_stopped_runner_is_replaced_and_never_goes_on(node, runner, tmp_path):
    os.kill(runner.process.pid, signal.SIGSTOP)
    call = runner.launch(b"touch %s/ran\n" % bytes(tmp_path))
    new = node.connect()
    assert new.hello.took_over and new.reserve().ok
    assert runner.process.wait(10) == -signal.SIGKILL
    assert new.list() == {}
    new.send(*p.encode_launch(call))
    assert new.wait(p.Refused).why == "floor"
    assert not (tmp_path / "ran").exists()


def test_a_stopped_supervisor_hears_a_cancel_and_a_limit(runner, tmp_path):
    calls = [runner.launch(b"sleep 300\n"), runner.launch(b"sleep 300\n", limit_s=1)]
    for call in calls:
        runner.wait_start(call.id)
        os.kill(supervisor_of(runner, call), signal.SIGSTOP)
    assert cancel(runner, calls[0], grace_s=5) == "asked"
    assert [runner.wait_end(call.id).how for call in calls] == ["cancel", "timeout"]


# ---- who tries to get away -------------------------------------------------------------------------------------------

CLEARED = b"env -i sh -c 'echo $$ >>%s; exec sleep 300' &\n"  # in the session
CLEARED_SESSION = b"env -i setsid sh -c 'echo $$ >>%s; exec sleep 300' &\n"  # its parent lives
CLEARED_ORPHAN = b"env -i setsid sh -c '(echo $(exec sh -c \"echo \\$PPID\") >>%s; exec sleep 300) &' &\n"  # the known miss
MARKED = b"setsid sh -c '(echo $(exec sh -c \"echo \\$PPID\") >>%s; exec sleep 300) &' &\n"  # a daemon that kept its environment


@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_who_left_the_session_or_the_environment_is_killed_but_for_the_known_miss(runner, tmp_path, how):
    caught, missed = tmp_path / "caught", tmp_path / "missed"
    script = b"".join(line % bytes(caught) for line in (CLEARED, CLEARED_SESSION, MARKED)) + CLEARED_ORPHAN % bytes(missed)
    call = runner.launch(script + b"wait; sleep 300\n", grace_s=2, limit_s=None if how == "cancel" else 2)
    wait_until(lambda: len(numbers(caught)) == 3 and len(numbers(missed)) == 1, what="all have named themselves")
    pids, [away] = numbers(caught), numbers(missed)
    if how == "cancel":
        cancel(runner, call, grace_s=2)
    record = runner.wait_end(call.id)
    assert (record.how, record.survivors) == (how, ())
    assert not any(map(is_alive, pids))
    # Outside the session, without its environment, and its parents gone: without a control group nothing connects it to the job.
    assert is_alive(away)
    os.kill(away, signal.SIGKILL)


# ---- a spool that takes nothing --------------------------------------------------------------------------------------


def test_a_record_that_cannot_be_written_is_said_and_kept_until_it_can(runner, tmp_path):
    """A limit on file sizes that is below the first byte: nothing at all can be written, as on a read-only file system."""
    call = runner.launch(b"while [ ! -e %s/go ]; do sleep 0.05; done; exit 3\n" % bytes(tmp_path), work_dir="/", stdout="/dev/null")
    runner.wait_start(call.id)
    supervisor = supervisor_of(runner, call)
    soft, hard = resource.prlimit(supervisor, resource.RLIMIT_FSIZE)
    resource.prlimit(supervisor, resource.RLIMIT_FSIZE, (0, hard))
    (tmp_path / "go").touch()
    assert runner.wait_end(call.id).code == 3, "the bell has it at once"
    entry = runner.list()[call.id]
    assert (entry.record, entry.supervisor) == (None, True), "so it is not taken for lost"
    resource.prlimit(supervisor, resource.RLIMIT_FSIZE, (soft, hard))
    assert wait_until(lambda: runner.list()[call.id].record, BUSY_PATIENCE_S).code == 3
    wait_until(lambda: not is_alive(supervisor))


def test_a_record_nobody_wants_any_more_holds_no_supervisor(runner, tmp_path):
    call = runner.launch(b"while [ ! -e %s/go ]; do sleep 0.05; done; exit 3\n" % bytes(tmp_path), work_dir="/", stdout="/dev/null")
    runner.wait_start(call.id)
    supervisor = supervisor_of(runner, call)
    resource.prlimit(supervisor, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    (tmp_path / "go").touch()
    runner.wait_end(call.id)
    runner.send(p.encode_ack(tag="a", high=call.seq, open_seqs=(), ids=[call.id]))
    assert runner.wait(p.Acked).ok
    wait_until(lambda: not is_alive(supervisor), BUSY_PATIENCE_S)
    assert runner.list() == {}


def test_a_record_fits_under_a_limit_of_one_kilobyte(runner, tmp_path):
    call = runner.launch(b"while [ ! -e %s/go ]; do sleep 0.05; done; exit 3\n" % bytes(tmp_path), work_dir="/", stdout="/dev/null")
    runner.wait_start(call.id)
    resource.prlimit(supervisor_of(runner, call), resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
    (tmp_path / "go").touch()
    runner.wait_end(call.id)
    assert runner.list()[call.id].record.code == 3


def test_whether_a_launch_would_find_room_is_told_with_the_load(runner):
    def room() -> str:
        runner.send(p.encode_load(tag="l"))
        return runner.wait(p.Load).room

    assert room() == "ok"
    resource.prlimit(runner.process.pid, resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
    assert room() == "no-space"
    resource.prlimit(runner.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert room() == "ok"
    assert not list(runner.node.spool.glob("room*"))
    shutil.rmtree(runner.node.spool)
    assert room() == "no-files"


# ---- a spool that is wiped -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["claimed", "before go", "running", "ended"])
def test_a_spool_wiped_in_any_state_starts_nothing_again_and_its_processes_are_found(node, runner, tmp_path, state):
    ledger = tmp_path / "ledger"
    runner.wait_end(runner.launch(b"exit 1").id)
    spawner = spawner_of(runner)
    tail = {"running": b"sleep 300\n"}.get(state, b"exit 3\n")
    call = runner.call(b"echo $$ >>%s\n" % bytes(ledger) + tail, work_dir=str(tmp_path), stdout="/dev/null")
    hook = file_of(runner, call, "sup")
    if state == "claimed":
        os.kill(spawner, signal.SIGSTOP)
    elif state == "before go":
        os.mkfifo(hook)  # the supervisor hangs in opening it
        os.link(hook, tmp_path / "held")
    runner.send(*p.encode_launch(call))
    if state in ("running", "ended"):
        runner.wait_start(call.id)
    if state == "running":
        wait_until(lambda: numbers(ledger))
    elif state == "ended":
        runner.wait_end(call.id)
    runner.ping()
    wait_until(lambda: wipe(node.spool), what="wiped, whoever writes there meanwhile")
    if state == "claimed":
        os.kill(spawner, signal.SIGCONT)
    elif state == "before go":
        held = os.open(tmp_path / "held", os.O_RDWR)  # lets it go on
    runner.send(p.encode_list(nonce="n"))
    assert runner.wait(p.CallFailed).call == "list"
    old_spool, old_pid = runner.hello.spool_id, runner.process.pid
    new = node.connect()
    assert new.hello.spool_id != old_spool and new.list() == {}
    wait_until(lambda: not is_alive(old_pid) or not list(node.spool.glob(f"r.{old_pid}.*")))
    new.send(p.encode_reserve(tag="r", old_gen=0, new_gen=5, high=5_000_000, open_seqs=(call.seq,)))
    assert new.wait(p.Reserved).ok
    new.send(p.encode_sweep(tag="w", ids=[call.id]))
    swept = new.wait(p.Swept)
    assert swept.survivors == ()
    if state == "running":
        assert swept.killed >= 1
        wait_until(lambda: not any(map(is_alive, numbers(ledger))))
    assert len(numbers(ledger)) == (0 if state == "claimed" else len(set(numbers(ledger)))) <= 1
    if state == "before go":
        os.close(held)
    assert new.list() == {}, "nobody writes into the new spool what belonged to the old"
    runner.close()


def test_files_are_touched_before_a_cleaner_takes_them_for_old(node, runner, tmp_path):
    call = runner.launch(b"touch kept; while [ ! -e %s/go ]; do sleep 0.05; done\n" % bytes(tmp_path))
    runner.wait_start(call.id)
    wait_until(lambda: (file_of(runner, call, "d") / "kept").exists())
    runner.kill_process()
    old = time.time() - 40 * 86400
    paths = [path for path in node.spool.rglob("*") if not path.is_fifo()]
    for path in paths:
        os.utime(path, (old, old))
    new = node.connect()
    new.list()
    mine = [path for path in paths if path.exists()]
    assert {f"{call.id}.{name}" for name in ("exit", "go", "req", "run", "sup")} <= {path.name for path in mine}
    wait_until(lambda: all(max(path.stat().st_atime, path.stat().st_mtime) > old + 86400 for path in mine), what="all are young again")
    assert (file_of(new, call, "d") / "kept").stat().st_mtime == pytest.approx(old, abs=2), "the job's own dates stay"
    (tmp_path / "go").touch()


# ---- no process to be had --------------------------------------------------------------------------------------------

BOMB = b"""exec python3 -c '
import os, time
while True:
    try:
        os.fork()
    except OSError:
        time.sleep(0.02)
'
"""
LIMIT = 60  # processes of that user
STARVED = itertools.count()


@pytest.fixture
def starved() -> Iterator[tuple[Path, int]]:
    """A directory of a user that nobody else is, so that a limit on processes counts only ours."""
    if os.getuid() != 0:
        pytest.skip("optional: only root can be another user")
    uid = 61_000 + (os.getpid() * 16 + next(STARVED)) % 4_000
    root = Path(tempfile.mkdtemp(prefix="sshq-starved-"))
    root.chmod(0o755)
    os.chown(root, uid, uid)
    yield root, uid
    end_all_of(uid)
    shutil.rmtree(root, ignore_errors=True)


def end_all_of(uid: int) -> None:
    def gone() -> bool:  # all at once, or a bomb goes on
        subprocess.run(["setpriv", f"--reuid={uid}", "--clear-groups", "sh", "-c", "kill -9 -1"], check=False, capture_output=True)
        return not processes_of(uid)

    wait_until(gone, BUSY_PATIENCE_S, what="nothing of that user is left")


def processes_of(uid: int) -> int:
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            count += process.stat().st_uid == uid  # zombies count against the limit, too
        except OSError:
            continue
    return count


@pytest.mark.slow
@pytest.mark.parametrize(("shell", "how"), [("dash", "timeout"), *((shell, "cancel") for shell in SHELLS)])
def test_a_fork_bomb_is_ended_and_recorded_although_nobody_can_fork(starved, shell, how):
    root, uid = starved
    need_shell(shell)
    node = Node(root, shell)
    os.chown(node.home, uid, uid)
    plain = " ".join(node.shell)
    node.shell = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "prlimit", f"--nproc={LIMIT}", *node.shell]
    with node:
        runner = node.connect(shell=plain)
        runner.reserve()
        runner.wait_end(runner.launch(b"exit 1\n", uid=uid).id)
        call = runner.launch(BOMB, uid=uid, grace_s=3, limit_s=None if how == "cancel" else 3)
        runner.wait_start(call.id)
        wait_until(lambda: processes_of(uid) >= LIMIT, BUSY_PATIENCE_S, what="the bomb fills the limit")
        if how == "cancel":
            runner.send(p.encode_kill(id=call.id, seq=call.seq, mode="cancel", grace_s=3))
        wait_until(lambda: f"how={how} " in file_of(runner, call, "exit").read_text(), BUSY_PATIENCE_S, what="the record")
        wait_until(lambda: processes_of(uid) < 20, BUSY_PATIENCE_S, what="the bomb is gone")
        new = node.connect(shell=plain)
        assert new.list()[call.id].record.how == how
        new.reserve(open_seqs=(call.seq,))
        assert new.wait_end(new.launch(b"exit 4\n", uid=uid).id).code == 4, "the node recovered"


@pytest.mark.skipif(os.getuid() != 0, reason="optional: only root can mount")
def test_a_spool_that_becomes_read_only_loses_no_end(tmp_path, shell):
    base = tmp_path / "base"
    base.mkdir(mode=0o700)
    subprocess.run(["mount", "--bind", base, base], check=True)
    try:
        with Node(tmp_path, shell, base=base) as node:
            runner = node.connect()
            runner.reserve()
            call = runner.launch(b"while [ ! -e %s/go ]; do sleep 0.05; done; exit 3\n" % bytes(tmp_path), work_dir="/", stdout="/dev/null")
            runner.wait_start(call.id)
            subprocess.run(["mount", "-o", "remount,bind,ro", base], check=True)
            refused = runner.launch(b"touch %s/ran\n" % bytes(tmp_path))
            assert runner.wait(p.Refused, lambda r: r.id == refused.id).why == "space"
            (tmp_path / "go").touch()
            assert runner.wait_end(call.id).code == 3
            runner.kill_process()
            assert node.start().wait(p.Unusable).why == "spool-space"
            subprocess.run(["mount", "-o", "remount,bind,rw", base], check=True)
            new = node.connect()
            assert wait_until(lambda: new.list()[call.id].record, BUSY_PATIENCE_S).code == 3
            assert not (tmp_path / "ran").exists()
    finally:
        subprocess.run(["umount", "-l", base], check=True)
