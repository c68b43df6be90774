"""How a job ends when somebody wants it to: limits, cancels, signals, and what tries to get away."""

import os
import signal
from pathlib import Path

import pytest
from shell_node import SHELLS, Node, Runner, is_alive, need_shell, wait_until

from sshq.runner import protocol as p

CLOSING = "slurmstepd-node3: error: *** JOB {} ON node3 CANCELLED AT "


@pytest.fixture
def runner(shared: Runner) -> Runner:
    shared.replies.clear()
    return shared


def kill(runner: Runner, call: p.LaunchCall, mode: str = "cancel", **fields: object) -> p.KillResult:
    runner.send(p.encode_kill(id=call.id, seq=call.seq, mode=mode, **fields))
    return runner.wait(p.KillResult, lambda r: r.id == call.id)


def out(runner: Runner, call: p.LaunchCall) -> str:
    return Path(p.out_path(runner.hello.spool, call.id)).read_text()


def begin(runner: Runner, script: bytes, word: str = "ready", **fields: object) -> p.LaunchCall:
    """Launch, and wait until the job has said that it is ready."""
    call = runner.launch(script, **fields)
    runner.wait_start(call.id)
    wait_until(lambda: word in out(runner, call), what=f"{word} in the output")
    return call


def pids_named(text: str) -> list[int]:
    return [int(w) for w in text.split() if w.isdigit()]


def sleepers(runner: Runner) -> list[int]:
    """Live processes whose working directory is this spool: supervisors, watchdogs, their sleeps."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            if os.readlink(process / "cwd") == runner.hello.spool and b"sleep" in words and b"0.1" not in words:  # a nap is none
                found.append(int(process.name))
        except OSError:
            continue
    return found


def test_a_cancel_ends_the_job_says_so_in_its_output_and_in_the_record(runner):
    call = begin(runner, b"echo ready; sleep 300\n")
    assert kill(runner, call, grace_s=10).result == "asked"
    record = runner.wait_end(call.id)
    assert (record.how, record.signal, record.sent, record.survivors) == ("cancel", 15, ("TERM",), ())
    assert out(runner, call).startswith("ready\n" + CLOSING.format(call.job_id))
    assert kill(runner, call).result == "gone"


def test_the_closing_line_of_a_requeue_says_that_it_is_one(runner):
    call = begin(runner, b"echo ready; sleep 300\n")
    assert kill(runner, call, "requeue", grace_s=10).result == "asked"
    assert runner.wait_end(call.id).how == "cancel"
    assert out(runner, call).startswith("ready\n" + CLOSING.format(call.job_id)) and "DUE TO JOB REQUEUE ***" in out(runner, call)


def test_the_closing_line_comes_before_what_the_job_says_to_its_term(runner):
    call = begin(runner, b"trap 'echo got TERM; exit 7' TERM; echo ready; sleep 300 & wait\n")
    kill(runner, call, grace_s=10)
    record = runner.wait_end(call.id)
    assert (record.how, record.code, record.signal) == ("cancel", 7, None)
    lines = out(runner, call).splitlines()
    assert lines[1].startswith(CLOSING.format(call.job_id)) and lines[2] == "got TERM"


def test_a_job_deaf_to_term_is_killed_after_its_grace(runner):
    call = begin(runner, b"trap '' TERM; echo ready; while :; do sleep 1; done\n")
    kill(runner, call, grace_s=1)
    record = runner.wait_end(call.id)
    assert (record.how, record.signal, record.sent) == ("cancel", 9, ("TERM", "KILL"))


def test_a_second_cancel_may_shorten_the_grace(runner):
    call = begin(runner, b"trap '' TERM; echo ready; while :; do sleep 1; done\n")
    kill(runner, call, grace_s=600)
    wait_until(lambda: "CANCELLED" in out(runner, call))
    kill(runner, call, grace_s=0)
    assert runner.wait_end(call.id).sent == ("TERM", "KILL")


ESCAPES = b"\n".join([
    b"setsid sh -c 'echo $$; exec sleep 300' &",  # a session of its own
    b"( (echo $(exec sh -c 'echo $PPID'); exec sleep 300) & )",  # a double fork
    b"setsid sh -c 'trap \"\" TERM; echo $$; while :; do sleep 1; done' &",  # deaf, and a session of its own
    b"python3 -c 'import os,time\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\nprint(os.getpid(), flush=True)\ntime.sleep(300)'",
])  # fmt: skip


def test_what_tries_to_get_away_is_gone_when_a_cancel_is_recorded(runner):
    call = begin(runner, ESCAPES + b"\necho ready; sleep 300\n")
    pids = wait_until(lambda: len(found := pids_named(out(runner, call))) == 4 and found)
    assert all(is_alive(pid) for pid in pids)
    kill(runner, call, grace_s=1)
    record = runner.wait_end(call.id)
    assert (record.how, record.survivors, record.sent) == ("cancel", (), ("TERM", "KILL"))
    assert not any(is_alive(pid) for pid in pids)


# ------------------------------------------------------------ limits: all these jobs run side by side, once a shell

DEAF = b"trap '' TERM; echo ready; while :; do sleep 1; done\n"
WARNED = b"trap 'echo script warned' USR1; sh -c 'trap \"echo child warned\" USR1; while :; do sleep 0.1; done' & while :; do wait; done\n"
LIMITED: dict[str, dict[str, object]] = {
    "hears": {"script": b"echo ready; sleep 300\n", "limit_s": 1},
    "deaf": {"script": DEAF, "limit_s": 1, "grace_s": 1},
    "orphan": {"script": b"echo ready; sleep 300\n", "limit_s": 1, "grace_s": 1},
    "warned": {"script": WARNED, "limit_s": 2, "grace_s": 1, "warn_signal": (10, 1, False)},
    "warned alone": {"script": WARNED, "limit_s": 2, "grace_s": 1, "warn_signal": (10, 1, True)},
}


@pytest.fixture(scope="module", params=SHELLS)
def limited(request, tmp_path_factory):
    """Calls of jobs with limits, and a runner that connected only after they had started, their own being gone."""
    need_shell(request.param)
    with Node(tmp_path_factory.mktemp("limits"), request.param) as node:
        first = node.connect()
        first.reserve()
        calls = {name: first.launch(**fields) for name, fields in LIMITED.items()}
        for call in calls.values():
            first.wait_start(call.id)
        os.kill(supervisor_of(first, calls["orphan"]), signal.SIGKILL)
        first.kill_process()
        yield node.connect(), calls


def wait_record(runner: Runner, call: p.LaunchCall) -> p.ExitRecord:
    return wait_until(lambda: runner.list()[call.id].record)


def test_a_limit_ends_the_job_without_any_controller(limited):
    runner, calls = limited
    record = wait_record(runner, calls["hears"])
    assert (record.how, record.signal, record.sent) == ("timeout", 15, ("TERM",))
    assert 1 <= record.end_uptime_s - record.start_uptime_s < 10
    assert "DUE TO TIME LIMIT ***\n" in out(runner, calls["hears"])


def test_a_limit_kills_what_does_not_hear_it(limited):
    runner, calls = limited
    record = wait_record(runner, calls["deaf"])
    assert (record.how, record.signal, record.sent) == ("timeout", 9, ("TERM", "KILL"))


def test_a_limit_holds_although_the_supervisor_was_killed(limited):
    runner, calls = limited
    entry = wait_until(lambda: (e := runner.list()[calls["orphan"].id]) and not e.alive and e)
    assert (entry.record, entry.damaged) == (None, False)


@pytest.mark.parametrize("name", ["warned", "warned alone"])
def test_a_warning_comes_before_the_limit(limited, name):
    runner, calls = limited
    assert wait_record(runner, calls[name]).how == "timeout"
    assert "script warned" in out(runner, calls[name])
    assert ("child warned" in out(runner, calls[name])) is (name == "warned")


def test_limits_that_were_enforced_leave_no_watchdog(limited):
    runner, calls = limited
    for name in calls:
        wait_until(lambda name=name: not runner.list()[calls[name].id].alive)
    wait_until(lambda: sleepers(runner) == [], what="no sleep left")


def test_a_job_that_ends_in_time_leaves_no_watchdog(runner):
    for _ in range(3):
        assert runner.wait_end(runner.launch(b"exit 1", limit_s=3600).id).how == "exit"
    wait_until(lambda: sleepers(runner) == [], what="no sleep left")


def test_a_job_without_a_limit_has_no_watchdog(runner):
    call = begin(runner, b"echo ready; exec tail -f /dev/null\n")
    assert sleepers(runner) == []
    kill(runner, call, grace_s=0)
    runner.wait_end(call.id)


def test_a_signal_is_only_a_signal(runner):
    call = begin(runner, b"trap 'echo one' USR1; trap 'exit 9' USR2; echo ready; while :; do sleep 0.05; done\n")
    assert kill(runner, call, "signal", signal="USR1").result == "signalled"
    wait_until(lambda: "one" in out(runner, call))
    assert kill(runner, call, "signal-batch", signal=12).result == "signalled"
    record = runner.wait_end(call.id)
    assert (record.how, record.code, record.sent) == ("exit", 9, ())
    assert kill(runner, call, "signal", signal="USR1").result == "gone"


def test_a_signal_to_the_script_only_spares_its_children(runner):
    call = begin(runner, b"sh -c 'trap \"echo child\" USR1; sleep 0.3' & trap 'echo script' USR1; echo ready; wait; wait\n")
    kill(runner, call, "signal-batch", signal="USR1")
    runner.wait_end(call.id)
    assert "script" in out(runner, call) and "child" not in out(runner, call)


def test_a_term_by_signal_leaves_the_closing_line_as_slurm_does(runner):
    call = begin(runner, b"trap 'echo heard; exit 7' TERM; echo ready; sleep 300 & wait\n")
    assert kill(runner, call, "signal", signal="TERM").result == "signalled"
    assert (runner.wait_end(call.id).how, out(runner, call).count("CANCELLED")) == ("exit", 1)


def test_suspend_and_resume(runner):
    call = begin(runner, b"sleep 300 & echo $!; echo ready; wait\n")
    [child, *_] = pids_named(out(runner, call))

    def state() -> str:
        return Path(f"/proc/{child}/stat").read_text().rsplit(") ", 1)[1][0]

    kill(runner, call, "suspend")
    wait_until(lambda: state() == "T")
    kill(runner, call, "resume")
    wait_until(lambda: state() in "SR")
    kill(runner, call, "suspend")
    kill(runner, call, grace_s=5)
    record = runner.wait_end(call.id)
    assert record.how == "cancel" and record.sent == ("TERM",), "a stopped job hears a cancel"
    assert record.signal == 15 or runner.node.shell[0] == "zsh"  # zsh forgets how a job ended that it saw stopped


def test_a_cancel_before_the_start_is_a_fence(runner):
    call = runner.call(b"exit 0")
    assert kill(runner, call).result == "never"
    runner.send(*p.encode_launch(call))
    assert runner.wait(p.Refused).why == "go-lost"
    assert runner.list()[call.id].go == "directory"


def test_a_cancel_sent_right_behind_its_launch_ends_it_one_way_or_the_other(runner):
    for _ in range(8):
        call = runner.call(b"sleep 300\n")
        runner.send(*p.encode_launch(call), p.encode_kill(id=call.id, seq=call.seq, mode="cancel", grace_s=1))
        result = runner.wait(p.KillResult, lambda r: r.id == call.id).result
        if result == "never":
            assert runner.wait(p.Refused, lambda r: r.id == call.id).why == "go-lost"
        else:
            assert runner.wait_end(call.id).how in ("cancel", "never")


def supervisor_of(runner: Runner, call: p.LaunchCall) -> int:
    return int((runner.node.spool / "a" / f"{call.id}.sup").read_text().split()[1])


def test_a_job_whose_supervisor_was_killed_is_seen_alive_and_can_be_cancelled(runner):
    call = begin(runner, b"setsid sleep 300 & echo $!; echo ready; sleep 300\n")
    os.kill(supervisor_of(runner, call), signal.SIGKILL)
    entry = wait_until(lambda: (e := runner.list()[call.id]) and not e.supervisor and e)
    assert (entry.alive, entry.go, entry.record) == (True, "file", None)
    assert kill(runner, call, grace_s=2).result == "killing"
    record = runner.wait_end(call.id)
    assert (record.how, record.reason, record.code, record.sent) == ("cancel", "orphan", None, ("TERM",))
    assert runner.wait(p.KillResult, lambda r: r.result == "killed").survivors == ()
    assert not any(is_alive(pid) for pid in pids_named(out(runner, call))[:1])


def test_a_job_whose_supervisor_was_killed_ends_without_a_record(runner, tmp_path):
    call = begin(runner, b"echo ready; while [ ! -e %s/stop ]; do sleep 0.05; done\n" % bytes(tmp_path))
    os.kill(supervisor_of(runner, call), signal.SIGKILL)
    (tmp_path / "stop").touch()
    entry = wait_until(lambda: (e := runner.list()[call.id]) and not e.alive and not e.supervisor and e)
    assert (entry.go, entry.record, entry.damaged) == ("file", None, False)
    assert kill(runner, call).result == "gone"


def test_a_supervisor_told_to_terminate_stays_and_says_so(runner):
    call = begin(runner, b"echo ready; sleep 0.3; exit 3\n")
    os.kill(supervisor_of(runner, call), signal.SIGTERM)
    record = runner.wait_end(call.id)
    assert (record.how, record.code, record.terminated) == ("exit", 3, True)


def test_signals_storming_a_supervisor_do_not_change_what_it_records(runner):
    for _ in range(4):
        call = begin(runner, b"echo ready; i=0; while [ $i -lt 8 ]; do sleep 0.01; i=$((i+1)); done; exit 3\n", limit_s=600)
        supervisor = supervisor_of(runner, call)
        for _ in range(300):
            try:
                os.kill(supervisor, signal.SIGUSR2)  # a false alarm: no deadline has passed
            except ProcessLookupError:
                break
            runner.pump(0.001)
        record = runner.wait_end(call.id)
        # bash and ksh may lose a status under such fire: it is said, and never a success.  None of them may hang.
        lost = (record.code, record.reason) == (1, "lost") and os.path.basename(runner.node.shell[0]) in ("bash", "ksh93")
        assert record.how == "exit" and (record.code == 3 or lost)


def test_many_cancels_without_grace_all_come_to_an_end(runner):
    """TERM, the tick of the deadline and the job's end fall together here, many times on a busy machine."""
    calls = [runner.launch(b"exec sleep 300\n") for _ in range(20)]
    for call in calls:
        runner.wait_start(call.id)
    runner.send(*(p.encode_kill(id=c.id, seq=c.seq, mode="cancel", grace_s=0) for c in calls))
    for call in calls:
        assert runner.wait_end(call.id).how == "cancel"


def test_a_sweep_ends_what_an_ended_attempt_left_and_spares_the_living(runner, tmp_path):
    flee = b"setsid sh -c 'echo $$ >%s; exec sleep 300' & while [ ! -s %s ]; do sleep 0.01; done; cat %s; "
    ended = runner.launch(flee % ((bytes(tmp_path / "a"),) * 3) + b"exit 0\n")
    living = begin(runner, flee % ((bytes(tmp_path / "b"),) * 3) + b"echo ready; sleep 300\n")
    runner.wait_end(ended.id)
    left = pids_named(out(runner, ended))
    spared = pids_named(out(runner, living))[:1]
    assert all(is_alive(pid) for pid in left + spared)
    runner.send(p.encode_sweep(tag="w", ids=[ended.id, living.id]))
    swept = runner.wait(p.Swept)
    assert (swept.killed, swept.survivors) == (1, ())
    assert not any(is_alive(pid) for pid in left) and all(is_alive(pid) for pid in spared)


def test_a_signal_and_an_exit_code_above_128_are_told_apart_where_the_shell_can(runner):
    code = runner.wait_end(runner.launch(b"exit 130\n").id)
    killed = runner.wait_end(runner.launch(b"kill -s KILL $$\n").id)
    assert killed.signal == 9
    if os.path.basename(runner.node.shell[0]) in ("dash", "busybox"):
        assert code.sure and killed.sure
    if code.sure:
        assert (code.how, code.code, code.signal) == ("exit", 130, None)


def set_limit(runner: Runner, call: p.LaunchCall, limit_s: int | None) -> None:
    runner.send(p.encode_limit(id=call.id, seq=call.seq, limit_s=limit_s))
    runner.wait(p.KillResult, lambda r: r.id == call.id and r.result == "asked")


def test_a_limit_is_given_lifted_and_lowered_while_the_job_runs(runner):
    free = begin(runner, b"echo ready; sleep 300\n")
    long = begin(runner, b"echo ready; sleep 300\n", limit_s=900)
    spared = begin(runner, b"echo ready; sleep 2.5\n", limit_s=2)
    set_limit(runner, spared, None)
    set_limit(runner, free, 1)
    set_limit(runner, long, 1)
    for call in (free, long):
        record = runner.wait_end(call.id)
        assert (record.how, record.signal) == ("timeout", 15)
        assert "DUE TO TIME LIMIT" in out(runner, call)
    assert runner.wait_end(spared.id).how == "exit"
    assert sleepers(runner) == []


def test_a_warning_follows_a_limit_that_came_later_and_comes_once(runner):
    script = b"trap 'echo warned' USR1; echo ready; while :; do sleep 0.1; done\n"
    call = begin(runner, script, warn_signal=(10, 600, True))
    set_limit(runner, call, 300)
    wait_until(lambda: "warned" in out(runner, call), what="the warning")
    set_limit(runner, call, 400)
    set_limit(runner, call, 1)
    assert runner.wait_end(call.id).how == "timeout"
    assert out(runner, call).count("warned") == 1


def test_a_job_has_a_temporary_directory_of_its_own_until_it_ends(runner):
    script = b'echo "$TMPDIR" $SLURM_TASK_PID $$ $(ls -A "$TMPDIR" | wc -l); mkdir -p "$TMPDIR/d/e"; touch "$TMPDIR/.x"; chmod 0 "$TMPDIR/d"\n'
    call = runner.launch(script, slot=7)
    runner.wait_end(call.id)
    path, task, own, count = out(runner, call).split()
    assert (path, task, count) == (f"/tmp/sshq-{runner.hello.spool_id}/7", own, "0")
    assert not os.path.exists(path)
    held = begin(runner, b'touch "$TMPDIR/left"; echo ready; sleep 300\n', slot=7)
    assert os.stat(path).st_mode & 0o777 == 0o700
    other = runner.launch(b'echo "$TMPDIR"\n', slot=8)
    runner.wait_end(other.id)
    assert out(runner, other) == f"{path[:-1]}8\n"
    kill(runner, held, signal="KILL", grace_s=0)
    runner.wait_end(held.id)
    os.makedirs(f"{path}/left over")  # as if its supervisor had been killed with it
    after = runner.launch(b'ls -A "$TMPDIR"; echo none\n', slot=7)
    runner.wait_end(after.id)
    assert out(runner, after) == "none\n"
    own = runner.launch(b'echo "$TMPDIR"\n', slot=7, environ={"TMPDIR": "/scratch"})
    runner.wait_end(own.id)
    assert out(runner, own) == "/scratch\n"


def test_limits_of_the_submitter_are_set_and_what_cannot_be_is_told(runner):
    limits = (("CORE", 0), ("FSIZE", 1 << 20), ("NOFILE", 100), ("NPROC", 5000), ("STACK", 4 << 20), ("CPU", -1))
    call = runner.launch(b"cat /proc/self/limits\n", limits=limits)
    runner.wait_end(call.id)
    soft = {line[:25].strip(): line[25:].split()[0] for line in out(runner, call).splitlines()[1:]}
    wanted = {"Max core file size": "0", "Max file size": "1048576", "Max open files": "100", "Max stack size": "4194304"}
    assert {key: soft[key] for key in wanted} == wanted
    assert (soft["Max processes"], soft["Max cpu time"]) == ("5000", "unlimited")
    call = runner.launch(b"echo on\n", limits=(("NOFILE", 1 << 40),))
    runner.wait_end(call.id)
    told, on = out(runner, call).splitlines()
    assert (told.partition(": ")[2], on) == (f"error: Can't propagate RLIMIT_NOFILE of {1 << 40} from submit host: Operation not permitted", "on")
