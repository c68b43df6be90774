"""What must never go wrong: the arbiter, the floor, generations, takeovers, spools that are not ours, disks that are full."""

import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shell_node import Node, Runner, is_alive, new_id, wait_until

from sshq.runner import protocol as p


def fence(runner: Runner, call: p.LaunchCall) -> p.FenceResult:
    runner.send(p.encode_fence(id=call.id, seq=call.seq))
    return runner.wait(p.FenceResult, lambda r: r.id == call.id)


def ack(runner: Runner, high: int, open_seqs: tuple[int, ...], ids: list[str]) -> p.Acked:
    runner.send(p.encode_ack(tag="ack", high=high, open_seqs=open_seqs, ids=ids))
    return runner.wait(p.Acked)


def floor_of(runner: Runner) -> p.Floor:
    words = (runner.node.spool / "floor").read_text().split()
    return p.Floor(high=int(words[1]), open_seqs=frozenset(map(int, words[2:])))


def wait_refused(runner: Runner, call: p.LaunchCall) -> p.Refused:
    runner.send(*p.encode_launch(call))
    return runner.wait(p.Refused, lambda r: r.id == call.id)


# ------------------------------------------------------------ arbiter and floor


def test_a_fence_that_wins_closes_the_launch_for_ever(runner, tmp_path):
    call = runner.call(b"touch %s/ran\n" % bytes(tmp_path))
    assert fence(runner, call).result == "won"
    assert fence(runner, call).result == "won", "asked again"
    assert wait_refused(runner, call).why == "go-lost"
    assert runner.list()[call.id].go == "directory" and not runner.list()[call.id].claimed
    assert not (tmp_path / "ran").exists()


def test_a_fence_that_loses_says_how_the_launch_stands(runner):
    call = runner.launch(b"exit 3\n")
    runner.wait_end(call.id)
    lost = fence(runner, call)
    assert (lost.result, lost.entry.id, lost.entry.record.code) == ("lost", call.id, 3)


def test_launch_and_fence_at_once_have_one_winner(runner, tmp_path):
    for n in range(12):
        ran = tmp_path / f"ran{n}"
        call = runner.call(b"touch %s\n" % bytes(ran))
        writes = [*p.encode_launch(call), p.encode_fence(id=call.id, seq=call.seq)]
        runner.send(*(writes if n % 4 else reversed(writes)))
        result = runner.wait(p.FenceResult, lambda r, i=call.id: r.id == i).result
        if result == "won":
            assert runner.wait(p.Refused, lambda r, i=call.id: r.id == i).why == "go-lost"
            assert not ran.exists()
        else:
            assert runner.wait_end(call.id).code == 0 and ran.exists()


def test_a_fence_against_a_supervisor_that_was_held_up_wins(runner, tmp_path):
    """The supervisor is stopped before it takes `go`; its spool is read through a FIFO it hangs on."""
    call = runner.call(b"touch %s/ran\n" % bytes(tmp_path))
    spool = runner.node.spool
    os.mkfifo(spool / "a" / f"{call.id}.sup")  # its own identity goes there first: opening it blocks
    runner.send(*p.encode_launch(call))
    wait_until(lambda: (spool / "a" / f"{call.id}.exit").exists())
    assert fence(runner, call).result == "won"
    (spool / "a" / f"{call.id}.sup").read_bytes()  # lets it go on
    assert runner.wait(p.Refused).why == "go-lost"
    assert not (tmp_path / "ran").exists()


def test_settled_launches_are_refused_and_open_ones_are_not(runner):
    old = [runner.call(b"exit 0") for _ in range(4)]
    ack(runner, old[3].seq, (old[1].seq,), [])
    assert [wait_refused(runner, old[i]).why for i in (0, 2, 3)] == ["floor"] * 3
    assert runner.list() == {}, "a refusal leaves nothing behind"
    runner.send(*p.encode_launch(old[1]))
    assert runner.wait_end(old[1].id).code == 0
    new = runner.launch(b"exit 0")
    assert runner.wait_end(new.id).code == 0


def test_the_floor_is_read_after_the_arbiter_was_won(runner, tmp_path):
    """A late supervisor of a launch that was settled and collected meanwhile must not start it."""
    call = runner.call(b"touch %s/ran\n" % bytes(tmp_path))
    sup = runner.node.spool / "a" / f"{call.id}.sup"
    os.mkfifo(sup)
    runner.send(*p.encode_launch(call))
    wait_until(lambda: (runner.node.spool / "a" / f"{call.id}.exit").exists())
    runner.send(p.encode_reserve(tag="r", old_gen=1, new_gen=2, high=2_000_000, open_seqs=()))
    assert runner.wait(p.Reserved).ok
    sup.read_bytes()
    record = runner.wait_end(call.id)
    assert (record.how, record.reason) == ("never", "floor")
    assert not (tmp_path / "ran").exists()


def test_a_fence_of_what_was_settled_and_collected_says_forgotten(runner):
    call = runner.launch(b"exit 0")
    runner.wait_end(call.id)
    assert ack(runner, call.seq, (), [call.id]).ok
    assert fence(runner, call).result == "lost-forgotten"
    assert runner.list() == {}
    assert wait_refused(runner, call).why == "floor"


SEQS = st.integers(1, 12)
RAISES = st.lists(st.tuples(SEQS, st.frozensets(SEQS, max_size=6)), min_size=1, max_size=6)


@settings(max_examples=25, deadline=None)
@given(raises=RAISES)
def test_the_floor_only_rises_and_merges(shared_dash, raises):
    """Settled is what was settled before or is settled now: the rule `raised` of the checked model, as sets."""
    runner = shared_dash
    (runner.node.spool / "floor").unlink(missing_ok=True)
    settled: set[int] = set()
    for high, open_seqs in raises:
        ack(runner, high, tuple(open_seqs), [])
        settled |= {s for s in range(1, high + 1) if s not in open_seqs}
        floor = floor_of(runner)
        assert {s for s in range(1, 14) if floor.settled(s)} == settled
        assert all(s <= floor.high for s in floor.open_seqs)


@pytest.fixture(scope="module")
def shared_dash(tmp_path_factory):
    if not shutil.which("dash"):
        pytest.skip("apt-get install dash")
    with Node(tmp_path_factory.mktemp("floor"), "dash") as node:
        yield node.connect()


def test_a_generation_is_taken_by_one_who_knows_the_present_one(runner):
    assert runner.gen == 1
    call = runner.call(b"exit 0")
    stale = runner.reserve(old=0)
    assert (stale.ok, stale.gen) == (False, 1)
    taken = runner.reserve(old=1, open_seqs=(call.seq,))
    assert (taken.ok, taken.gen, taken.floor_high) == (True, 2, 2_000_000)
    runner.send(*p.encode_launch(call))
    assert runner.wait_end(call.id).code == 0, "it was said to be open"
    assert wait_refused(runner, runner.call(b"exit 0", seq=1_000_099)).why == "floor", "older, and not said to be open"


def test_a_launch_for_another_boot_or_account_is_refused_for_good(runner):
    wrong_boot = runner.call(b"exit 0", boot="0000-11:1:1")
    wrong_uid = runner.call(b"exit 0", uid=os.getuid() + 1)
    assert wait_refused(runner, wrong_boot).why == "boot"
    assert wait_refused(runner, wrong_uid).why == "uid"
    assert runner.list() == {}


def test_a_reboot_makes_old_processes_dead_whatever_pids_say(node, runner):
    call = runner.launch(b"sleep 300\n")
    runner.wait_start(call.id)
    for kind in ("sup", "run"):
        file = node.spool / "a" / f"{call.id}.{kind}"
        file.write_text(file.read_text().replace(runner.hello.boot, "another-boot:1:1"))
    entry = runner.list()[call.id]
    assert (entry.supervisor, entry.alive, entry.go) == (False, False, "file")


# ------------------------------------------------------------ records, listings, acks


def test_a_damaged_record_is_never_an_end(runner):
    call = runner.launch(b"exit 0\n")
    runner.wait_end(call.id)
    supervisor = int((runner.node.spool / "a" / f"{call.id}.sup").read_text().split()[1])
    wait_until(lambda: not is_alive(supervisor))
    file = runner.node.spool / "a" / f"{call.id}.exit"
    line = file.read_text().split("\n")[0] + "\n"
    for content in (
        line, line + line.replace("status=0", "status=1"), "\x00\xff" * 50 + "\n" * 2, "", line.replace(call.id, new_id()) * 2,
        line[:-40] + "\n" + line, " " * 1023 + "\n", line + line[:100],
    ):  # fmt: skip
        file.write_text(content)
        entry = runner.list()[call.id]
        assert (entry.record, entry.damaged) == (None, bool(content.strip())), content
        assert not entry.alive and not entry.supervisor and entry.go == "file"
    file.write_text(line * 2 + " " * 99)
    assert runner.list()[call.id].record.code == 0


def test_an_ack_removes_what_it_names_and_follows_no_link(runner, tmp_path):
    kept, gone = runner.launch(b"exit 0\n"), runner.launch(b"mkdir -p x/y; chmod 000 x; echo hello\n")
    outside = tmp_path / "precious"
    outside.mkdir()
    (outside / "file").touch()
    for call in (kept, gone):
        runner.wait_end(call.id)
    spool = runner.node.spool
    (spool / "a" / f"{gone.id}.d" / "link").symlink_to(outside)
    (spool / "a" / f"{gone.id}.cancel").symlink_to(outside / "file")
    assert ack(runner, gone.seq, (kept.seq,), [gone.id]).ok
    assert list(runner.list()) == [kept.id]
    wait_until(lambda: not list(spool.glob(f"a/{gone.id}*")), what="all files removed")
    assert (outside / "file").exists()


def test_an_ack_of_many_removes_all_of_each(runner):
    # More than one step of it, and no multiple of one.
    calls = [runner.launch(b"echo hello\n") for _ in range(21)]
    for call in calls:
        runner.wait_end(call.id)
    assert ack(runner, calls[-1].seq, (), [call.id for call in calls]).ok
    assert runner.list() == {}
    wait_until(lambda: not [f for call in calls for f in runner.node.spool.glob(f"a/{call.id}*")], what="all files removed")


def test_a_purge_waits_for_the_living_and_leaves_nothing(runner):
    call = runner.launch(b"sleep 300\n")
    runner.wait_start(call.id)
    runner.send(p.encode_purge(tag="z"))
    assert runner.wait(p.Purged) == p.Purged(tag="z", ok=False, alive=1)
    runner.send(p.encode_kill(id=call.id, seq=call.seq, mode="cancel", grace_s=0))
    runner.wait_end(call.id)

    def purged() -> p.Purged:
        runner.send(p.encode_purge(tag="z"))
        return runner.wait(p.Purged)

    assert wait_until(lambda: (z := purged()).ok and z).alive == 0
    assert not runner.node.spool.exists()


def test_a_spool_that_went_away_is_said_and_starts_nothing(runner):
    shutil.rmtree(runner.node.spool)
    runner.send(p.encode_list(nonce="n"))
    assert runner.wait(p.CallFailed).call == "list"
    assert wait_refused(runner, runner.call(b"exit 0")).why == "spool"


# ------------------------------------------------------------ connections that come and go


def test_a_new_runner_ends_the_old_one_and_adopts_its_jobs(node, runner, tmp_path):
    running = runner.launch(b"while [ ! -e %s/stop ]; do sleep 0.02; done; exit 6\n" % bytes(tmp_path))
    runner.wait_start(running.id)
    new = node.connect()
    assert new.hello.took_over and new.hello.spool_id == runner.hello.spool_id and new.hello.gen == 1
    assert runner.process.wait(10) == -signal.SIGKILL
    entry = new.list()[running.id]
    assert entry.alive and entry.supervisor and entry.job_id == running.job_id and entry.started_uptime_s is not None
    (tmp_path / "stop").touch()
    assert new.wait_end(running.id).code == 6, "the bell rings at the newest runner"


def test_a_job_outlives_its_runner_and_is_found_ended(node, runner, tmp_path):
    call = runner.launch(b"while [ ! -e %s/stop ]; do sleep 0.02; done; exit 7\n" % bytes(tmp_path))
    runner.wait_start(call.id)
    runner.kill_process()
    (tmp_path / "stop").touch()
    new = node.connect()
    assert not new.hello.took_over
    assert wait_until(lambda: new.list()[call.id].record).code == 7


def test_when_a_connection_ends_only_supervisors_and_jobs_stay(node, runner):
    call = runner.launch(b"sleep 300\n")
    runner.wait_start(call.id)
    supervisor = int((node.spool / "a" / f"{call.id}.sup").read_text().split()[1])
    runner.close()

    def left() -> set[int]:
        found = set()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(process / "cwd") == str(node.spool) and is_alive(int(process.name)):
                    found.add(int(process.name))
            except OSError:
                continue
        return found

    wait_until(lambda: left() == {supervisor}, what="only the supervisor left in the spool")


def test_a_bell_nobody_reads_holds_up_neither_jobs_nor_records(node, runner, tmp_path):
    """The old connection hangs: its reader is stopped and its FIFO is full.  Then a new one comes."""
    [name] = [f.name for f in node.spool.glob("c.*")]
    reader = int(name.split(".")[1])
    os.kill(reader, signal.SIGSTOP)
    filler = os.open(node.spool / "bell", os.O_RDWR | os.O_NONBLOCK)
    ended = runner.launch(b"touch %s; sleep 0.1; exit 5\n" % bytes(tmp_path / "running"))
    wait_until(lambda: (tmp_path / "running").exists())
    with pytest.raises(BlockingIOError):
        while True:
            os.write(filler, b"x" * 512)
    os.close(filler)
    wait_until(
        lambda: b"status=5" in (node.spool / "a" / f"{ended.id}.exit").read_bytes(), what="the record, although the bell is stuck"
    )
    new = node.connect()
    assert new.list()[ended.id].record.code == 5
    supervisor = int((node.spool / "a" / f"{ended.id}.sup").read_text().split()[1])
    wait_until(lambda: not is_alive(supervisor), what="the supervisor let go")
    wait_until(lambda: not is_alive(reader), what="the old reader, which was told to die before the new runner said hello")
    assert [f.name for f in node.spool.glob("b.*")] == [f"b.{new.process.pid}"]


def test_a_spawner_that_was_killed_is_replaced(runner):
    call = runner.launch(b"exit 1")
    runner.wait_end(call.id)
    children = Path(f"/proc/{runner.process.pid}/task/{runner.process.pid}/children").read_text().split()
    [spawner] = [int(c) for c in children if os.getsid(int(c)) == int(c)]
    os.kill(spawner, signal.SIGKILL)
    wait_until(lambda: not is_alive(spawner))
    assert runner.wait_end(runner.launch(b"exit 2").id).code == 2


def test_two_runners_that_start_at_once_do_not_both_stay(node):
    starts = [node.start() for _ in range(4)]
    for runner in starts:
        try:
            while runner.pump(1.0) and not any(isinstance(r, p.Hello) for r in runner.replies):
                pass
        except OSError:
            pass
    wait_until(lambda: sum(r.process.poll() is None for r in starts) <= 1, what="at most one alive")
    assert node.connect().reserve().ok


# ------------------------------------------------------------ spools that are not ours



def test_whether_a_directory_is_shared_is_proved_by_a_file(runner, tmp_path):
    (tmp_path / "proof").write_text("nonce 1\n")

    def shared(path: Path, content: str) -> tuple[bool, bool, bool]:
        runner.send(p.encode_shared(tag="d", path=str(path), name="proof", content=content))
        reply = runner.wait(p.SharedResult)
        return reply.present, reply.directory, reply.writable

    assert shared(tmp_path, "nonce 1") == (True, True, True)
    assert shared(tmp_path, "nonce 2") == (False, True, True)
    assert shared(tmp_path / "none", "nonce 1") == (False, False, False)


def test_a_directory_that_hangs_holds_up_no_other_call(runner, tmp_path):
    os.mkfifo(tmp_path / "hangs")
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "proof").write_text("x\n")
    # A job whose output hangs at the opening blocks itself only.
    stuck = runner.launch(b"exit 0", stdout=str(tmp_path / "hangs"))
    assert runner.wait_end(runner.launch(b"exit 3").id).code == 3
    runner.send(p.encode_kill(id=stuck.id, seq=stuck.seq, mode="cancel", grace_s=1))
    assert runner.wait_end(stuck.id).how in ("cancel", "never")


def test_load_and_ping_answer(runner):
    runner.send(p.encode_load(tag="l"))
    load = runner.wait(p.Load)
    assert load.load1 >= 0 and load.free_mib > 0 and load.uptime_s >= runner.hello.uptime_s
    assert runner.ping().uptime_s >= load.uptime_s


def read_file(runner: Runner, path: Path, **fields: object) -> tuple[subprocess.Popen, p.ReadHead, bytes]:
    channel = subprocess.Popen(runner.node.shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", env=runner.node.env)
    channel.stdin.write(p.encode_read(nonce="rd", path=str(path), **fields))
    channel.stdin.close()
    data = b""
    while (head := p.parse_read_head(data, "rd")) is None:
        chunk = os.read(channel.stdout.fileno(), 4096)
        assert chunk, data
        data += chunk
    return channel, head, data[head.body_at :]


def test_a_second_channel_reads_a_file_from_an_offset(runner, tmp_path):
    file = tmp_path / "it's -a file"
    file.write_bytes(bytes(range(256)) * 20)
    for offset in (0, 1, 5000, 5120, 9000):
        channel, head, body = read_file(runner, file, offset=offset)
        body += channel.stdout.read()
        assert channel.wait() == 0 and head.size == 5120
        assert body == file.read_bytes()[offset:]
        channel.stdout.close()
    assert read_file(runner, tmp_path / "none")[1].error == "missing"
    assert read_file(runner, tmp_path)[1].error == "unreadable"


def test_a_follower_is_ended_by_identity(runner, tmp_path):
    file = tmp_path / "log"
    file.write_bytes(b"one\n")
    channel, head, body = read_file(runner, file, follow=True)
    while body != b"one\n":
        body += os.read(channel.stdout.fileno(), 100)
    with file.open("ab") as log:
        log.write(b"two\n")
    while body != b"one\ntwo\n":
        body += os.read(channel.stdout.fileno(), 100)
    assert head.pid == channel.pid and head.start > 0
    runner.send(p.encode_reap(pid=head.pid, start=head.start + 1), p.encode_reap(pid=head.pid, start=head.start))
    assert [runner.wait(p.Reaped).ok for _ in range(2)] == [False, True]
    assert channel.wait(10) == -signal.SIGKILL
    channel.stdout.close()


def test_many_supervisors_ring_at_once_without_mixing_lines(runner):
    calls = [runner.call(b"") for _ in range(60)]
    threading.Thread(target=lambda: runner.send(*(w for c in calls for w in p.encode_launch(c)))).start()
    for call in calls:
        assert runner.wait_end(call.id).code == 0
    assert not [r for r in runner.replies if isinstance(r, p.Malformed)]


# ------------------------------------------------------------ identities


def starts(runner: Runner, launch_id: str) -> None:
    """What a supervisor and a job wrote of themselves is what the kernel says of them."""
    for kind in ("sup", "run"):
        pid, start = (runner.node.spool / "a" / f"{launch_id}.{kind}").read_text().split()[1:3]
        assert start == Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()[19], kind


def test_supervisors_and_jobs_know_their_own_start(runner):
    for _ in range(12):  # some within one hundredth of a second, some not
        call = runner.launch(b"sleep 300\n")
        runner.wait_start(call.id)
        starts(runner, call.id)
        entry = runner.list()[call.id]
        assert entry.supervisor and entry.alive


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare")
def test_where_the_uptime_is_not_the_clock_of_processes_their_start_is_right_all_the_same(node, tmp_path, shell):
    uptime = tmp_path / "uptime"
    uptime.write_text("500.00 400.00\n")  # as a container shows one of its own
    argv = " ".join(node.shell)
    node.shell = ["unshare", "-m", "sh", "-c", f"mount --bind {uptime} /proc/uptime && exec {argv}"]
    runner = node.connect(shell=argv)
    runner.reserve()
    call = runner.launch(b"sleep 300\n")
    runner.wait_start(call.id)
    starts(runner, call.id)
