"""How a launch's end becomes a job's: each kind of evidence, retries and requeues in the same transaction, once."""

import pytest
from scenario import ANNA, ROOT, Scenario

from sshq.core.effects import BringOutput
from sshq.core.events import DirectoryProved, OutputReturned
from sshq.core.model import Accounting, Launch


def launched(started: bool = True, **spec: object) -> Scenario:
    s = Scenario().nodes("n1")
    s.submit("a", **spec)
    s.plan()
    return s.started("a") if started else s


@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize(
    ("record", "state", "exit_", "reason"),
    [
        ({"code": 0}, "COMPLETED", (0, None), "None"),
        ({"code": 3}, "FAILED", (3, None), "NonZeroExitCode"),
        ({"code": 0, "signal": 11}, "FAILED", (0, 11), "RaisedSignal:11"),
        ({"code": 0, "signal": 9}, "FAILED", (0, 9), "JobLaunchFailure"),
        ({"how": "output"}, "FAILED", (0, 53), "RaisedSignal:53"),
        ({"code": 0, "signal": 15, "timed_out": True}, "TIMEOUT", (0, 15), "TimeLimit"),
        ({"code": 0, "timed_out": True}, "TIMEOUT", (0, None), "TimeLimit"),
        ({"code": 0, "signal": 15, "cancelled": True}, "CANCELLED", (0, 15), "None"),
        ({"code": 0, "cancelled": True}, "CANCELLED", (0, 15), "None"),
    ],
)
def test_a_record_says_how_it_ended(started, record, state, exit_, reason) -> None:
    s = launched(started).ended("a", **record)
    job = s.job("a")
    assert (job.state.name, (job.exit_code, job.exit_signal), job.reason) == (state, exit_, reason)
    assert job.released
    assert not s.cluster.nodes["n1"].jobs
    assert s.outcomes("a") == ["EXITED"]
    assert s.acked() == [s.launch_id("a")]


def test_the_rows_of_an_end_are_one_transaction() -> None:
    s = launched().ended("a", code=0, cpu_time_s=2.5)
    row = next(row for row in s.last.rows if isinstance(row, Accounting))
    assert (row.state.name, row.cpu_time_s, row.attempt) == ("COMPLETED", 2.5, 1)
    assert [row.outcome.name for row in s.last.rows if isinstance(row, Launch)] == ["EXITED"]
    assert s.rows.jobs[s.id("a")].state.name == "COMPLETED"


def test_a_second_reading_changes_nothing() -> None:
    s = launched().ended("a", code=1)
    for again in (lambda: s.ended("a", code=0), lambda: s.started("a"), lambda: s.refused("a"), lambda: s.fenced("a")):
        again()
        assert s.last.rows == []
        assert s.last.effects == []
    assert s.state("a") == "FAILED"


def test_times_are_the_nodes_where_it_told_them() -> None:
    s = launched(started=False)
    s.wait(100)
    s.ended("a", code=0, duration_s=30.0)
    assert (s.job("a").start_at, s.job("a").end_at) == (1070.0, 1100.0)


def test_retries_come_before_the_end_and_nobody_sees_the_failure() -> None:
    s = launched(retries=2)
    for left in (1, 0):
        s.ended("a", code=1)
        assert s.state("a") == "PENDING"
        assert {j.state.name for j in s.last.rows if getattr(j, "job_id", 0) and hasattr(j, "spec")} <= {"PENDING"}
        assert s.plan() == {"a": "n1"}
        s.started("a")
        del left
    s.ended("a", code=1)
    assert (s.state("a"), s.job("a").attempt, s.job("a").restarts) == ("FAILED", 3, 2)
    assert [row.state.name for row in s.rows.accounting] == ["FAILED"] * 3


def test_a_retried_job_goes_to_the_end_of_its_class() -> None:
    s = Scenario().nodes("n1", cpus=1)
    s.submit("a", retries=1)
    s.submit("b")
    s.run_to_end("a", code=1)
    assert s.plan() == {"b": "n1"}


@pytest.mark.parametrize(("requeue", "state"), [("yes", "PENDING"), ("always", "PENDING"), ("no", "NODE_FAIL")])
def test_a_proved_reboot_requeues_unless_told_not_to(requeue, state) -> None:
    s = launched(requeue=requeue).connect("n1", boot="boot-2")
    assert s.state("a") == state
    assert s.outcomes("a") == ["REBOOTED"]


@pytest.mark.parametrize(("requeue", "state"), [("yes", "NODE_FAIL"), ("always", "PENDING"), ("no", "NODE_FAIL")])
def test_what_may_have_run_is_not_run_again_by_itself(requeue, state) -> None:
    s = launched(requeue=requeue)
    s.sweep("n1", s.entry("a"))
    assert (s.state("a"), s.outcomes("a")) == (state, ["LOST"])


def test_refusals_hold_a_job_after_three_and_release_gives_three_more() -> None:
    s = launched(started=False)
    for _ in range(2):
        s.refused("a", "no space")
        assert s.state("a") == "PENDING"
        assert s.plan() == {"a": "n1"}
    s.refused("a", "no space")
    assert s.reason("a") == "launch failed requeued held"
    assert s.job("a").note == "n1 refused it: no space"
    assert s.plan() == {}
    s.control("release", "a")
    assert s.plan() == {"a": "n1"}
    s.refused("a")
    assert s.reason("a") == "None"


def test_our_own_fences_are_no_refusals() -> None:
    s = launched(started=False)
    for _ in range(5):
        s.connect("n1")
        assert s.fences() == [s.launch_id("a")]
        s.fenced("a")
        assert s.plan() == {"a": "n1"}
    assert s.job("a").refusals == 0
    assert s.job("a").attempt == 6


def test_a_refusal_while_our_fence_is_on_its_way_is_not_the_nodes() -> None:
    s = launched(started=False).connect("n1").refused("a")
    assert (s.state("a"), s.job("a").refusals) == ("PENDING", 0)


def test_a_refused_job_keeps_its_place() -> None:
    s = Scenario().nodes("n1", cpus=1)
    s.submit("a")
    s.submit("b")
    s.plan()
    s.refused("a")
    assert s.plan() == {"a": "n1"}


def test_a_refusal_says_nothing_of_a_launch_that_runs() -> None:
    s = launched().refused("a")
    assert s.state("a") == "RUNNING"


@pytest.mark.parametrize("suspended", [False, True])
def test_a_fence_won_over_a_launch_that_had_started_finds_it_lost_not_never_started(suspended) -> None:
    """Its directory was removed behind our back; to start it again might make two of it."""
    s = launched()
    if suspended:
        s.control("suspend", "a", uid=ROOT, admin=True)
    s.sweep("n1", sent=("a",))
    assert s.fences() == [s.launch_id("a")]
    s.fenced("a")
    assert (s.state("a"), s.outcomes("a")) == ("NODE_FAIL", ["LOST"])


def test_a_fence_lost_changes_nothing_yet() -> None:
    s = launched(started=False).connect("n1").fenced("a", won=False)
    assert s.state("a") == "CONFIGURING"


def test_forgotten_by_the_node_is_lost() -> None:
    s = launched(started=False).connect("n1").fenced("a", won=False, forgotten=True)
    assert (s.state("a"), s.outcomes("a")) == ("NODE_FAIL", ["LOST"])


def test_only_the_newest_launch_moves_the_job() -> None:
    s = launched(retries=1)
    first = s.launch_id("a")
    s.ended("a", code=1)
    s.plan()
    from sshq.core.events import EndRecord, LaunchEnded

    s.feed(LaunchEnded(now=s.now, launch_id=first, record=EndRecord(how="exit", code=0)))
    assert s.state("a") == "CONFIGURING"


@pytest.mark.parametrize(
    ("record", "retries", "state"),
    [
        ({"code": 0, "signal": 15, "cancelled": True}, 1, "CANCELLED"),
        ({"code": 1}, 1, "FAILED"),  # it failed by itself just before; cancelled jobs are not retried
        ({"code": 0}, 1, "COMPLETED"),
        ({"how": "never"}, 1, "CANCELLED"),
    ],
)
def test_a_cancelled_job_is_not_retried_whatever_the_record_says(record, retries, state) -> None:
    s = launched(started=False, retries=retries)
    s.control("cancel", "a")
    s.ended("a", **record)
    assert s.state("a") == state


def test_a_cancelled_job_whose_node_rebooted_is_cancelled() -> None:
    s = launched().lose("n1")
    s.control("cancel", "a")
    s.connect("n1", boot="boot-2")
    assert s.state("a") == "CANCELLED"


def private() -> Scenario:
    s = Scenario().nodes("n1").feed(DirectoryProved(now=0, path="/w", node="n1", shared=False))
    s.submit("a", work_dir="/w", provable=True)
    s.run_to_end("a", code=0)
    return s


def test_private_output_comes_home_before_the_directory_goes() -> None:
    s = private()
    assert s.state("a") == "COMPLETED"
    assert s.job("a").output_pending
    assert [e.launch_id for e in s.last.effects if isinstance(e, BringOutput)] == [s.launch_id("a")]
    assert s.acked() == []
    s.purge(keep=0)
    assert s.id("a") in s.cluster.jobs
    s.feed(OutputReturned(now=s.now, job_id=s.id("a"), launch_id=s.launch_id("a")))
    assert s.acked() == [s.launch_id("a")]
    assert not s.job("a").output_pending


def test_output_that_cannot_come_home_stays_where_it_is() -> None:
    s = private()
    s.feed(OutputReturned(now=s.now, job_id=s.id("a"), launch_id=s.launch_id("a"), problem="disk full"))
    assert s.acked() == []
    assert "disk full" in (s.job("a").note or "")
    entry = s.entry("a", record=None)
    s.connect("n1", entry)
    assert s.acked() == []


def test_output_still_away_at_a_restart_is_brought_once_the_node_is_back() -> None:
    s = private().restart()
    entry = s.entry("a")
    s.connect("n1", entry)
    assert [e.launch_id for e in s.last.effects if isinstance(e, BringOutput)] == [s.launch_id("a")]
    assert s.acked() == []
    s.lose("n1").connect("n1", entry)
    assert [e for e in s.last.effects if isinstance(e, BringOutput)] == [], "one order is enough: it is retried until done"


def test_a_hold_put_on_a_running_job_outlives_its_retry() -> None:
    s = launched(retries=1)
    s.control("hold", "a")
    s.ended("a", code=1)
    assert s.reason("a") == "JobHeldUser"
    assert s.plan() == {}


def test_an_accounting_row_names_who_cancelled() -> None:
    s = launched()
    s.control("cancel", "a", uid=ANNA)
    s.ended("a", signal=15, cancelled=True)
    assert s.rows.accounting[-1].cancelled_by == ANNA
