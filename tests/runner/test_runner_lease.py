"""A job with a lease ends by itself when the controller has not been heard from; a renewal that comes late renews nothing."""

import os
import signal
from pathlib import Path

import pytest
from shell_node import Runner, is_alive, wait_until

from sshq.runner import protocol as p

WAIT = b"echo ready; sleep 300\n"


@pytest.fixture
def runner(shared: Runner) -> Runner:
    shared.replies.clear()
    return shared


def uptime_of(runner: Runner) -> int:
    return int(runner.ping().uptime_s)


def renew(runner: Runner, uptime_s: int) -> p.Pong:
    tag = f"n{os.urandom(4).hex()}"
    runner.send(p.encode_renew(tag=tag, uptime_s=uptime_s))
    return runner.wait(p.Pong, lambda r: r.tag == tag)


def begin(runner: Runner, script: bytes = WAIT, **fields: object) -> tuple[p.LaunchCall, int]:
    """Launch, wait for its first line, and return it with the pid of its script."""
    fields = {"lease_s": 2, "lease_from_s": uptime_of(runner), "lease_grace_s": 2} | fields
    call = runner.launch(script, **fields)
    pid = runner.wait_start(call.id).pid
    wait_until(lambda: Path(p.out_path(runner.hello.spool, call.id)).read_text(), what="the job's first line")
    return call, pid


def supervisor_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])


def test_without_news_jobs_end_whoever_watches_and_records_say_why(runner):
    deaf, _ = begin(runner, b"trap '' TERM; echo ready; while :; do sleep 1; done\n")
    orphan, orphan_pid = begin(runner)
    os.kill(supervisor_of(orphan_pid), signal.SIGKILL)
    plain, _ = begin(runner, lease_grace_s=20)
    record = runner.wait_end(plain.id)
    assert (record.how, record.signal, record.sent, record.survivors) == ("lease", 15, ("TERM",), ())
    assert record.end_uptime_s >= plain.lease_from_s + plain.lease_s
    assert "DUE TO THE END OF ITS LEASE" in Path(p.out_path(runner.hello.spool, plain.id)).read_text()
    record = runner.wait_end(deaf.id)
    assert (record.how, record.signal) == ("lease", 9)
    assert record.end_uptime_s >= deaf.lease_from_s + deaf.lease_s
    wait_until(lambda: not is_alive(orphan_pid), what="the watchdog ends the job")
    assert uptime_of(runner) >= orphan.lease_from_s + orphan.lease_s


def test_one_renewal_is_for_all_jobs_and_counts_from_the_moment_it_names(runner):
    calls = [begin(runner)[0] for _ in range(2)]
    named = uptime_of(runner) + 1
    for uptime_s in (named, named - 1, 0):  # late ones change nothing
        assert renew(runner, uptime_s).uptime_s > 0
    for call in calls:
        record = runner.wait_end(call.id)
        assert record.how == "lease"
        assert record.end_uptime_s >= named + 2


def test_after_a_long_standstill_there_is_no_grace(runner):
    call, pid = begin(runner, b"trap '' TERM; echo ready; while :; do sleep 0.1; done\n")
    frozen = [child for child in children_of(supervisor_of(pid)) if child != pid]  # who watches; the job runs on
    for q in frozen:
        os.kill(q, signal.SIGSTOP)
    wait_until(lambda: uptime_of(runner) > call.lease_from_s + 5, what="the lease and its grace pass")
    for q in frozen:
        os.kill(q, signal.SIGCONT)
    record = runner.wait_end(call.id)
    assert (record.how, record.sent) == ("lease", ("KILL",))


def children_of(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if supervisor_of(int(path.name)) == pid:
                found.append(int(path.name))
        except OSError:
            continue
    return found


def test_an_order_that_was_longer_on_its_way_than_its_lease_starts_nothing(runner):
    call = runner.launch(b"echo ran\n", lease_s=2, lease_from_s=max(0, uptime_of(runner) - 2), lease_grace_s=2)
    record = runner.wait_end(call.id)
    assert (record.how, record.reason) == ("never", "lease")
    assert not Path(p.out_path(runner.hello.spool, call.id)).exists()


def test_a_job_that_ends_in_time_leaves_no_watchdog(runner):
    call, pid = begin(runner, b"echo ready; sleep 0.5; exit 3\n", lease_s=300)
    supervisor = supervisor_of(pid)
    assert runner.wait_end(call.id).code == 3
    wait_until(lambda: not is_alive(supervisor), what="the supervisor ends")
    assert not [q for q in map(int, filter(str.isdigit, os.listdir("/proc"))) if mentions(q, "300") and is_in(q, runner.hello.spool)]


def mentions(pid: int, word: str) -> bool:
    try:
        return word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def is_in(pid: int, place: str) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/cwd") == place
    except OSError:
        return False


def test_another_limit_leaves_the_lease_as_it_is(runner):
    call, _ = begin(runner, lease_s=5, limit_s=300)
    runner.send(p.encode_limit(id=call.id, seq=call.seq, limit_s=200))
    taken = Path(runner.hello.spool, "a", f"{call.id}.limited")
    wait_until(lambda: taken.exists() and "200" in taken.read_text(), what="the supervisor takes the new limit")
    record = runner.wait_end(call.id)
    assert record.how == "lease"
    assert record.end_uptime_s >= call.lease_from_s + call.lease_s
