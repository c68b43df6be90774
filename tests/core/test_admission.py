"""Submitting: defaults filled in, what can never run refused with Slurm's words, and nothing changed by a refusal."""

import pytest
from scenario import Scenario, make_spec

from sshq.core import events as ev
from sshq.core.effects import ProveDirectories
from sshq.core.model import Job, ScriptBlob, SubmitToken
from sshq.errors import RefusedError

MIN = 60


def small() -> Scenario:
    return Scenario().nodes("n[1-2]", cpus=4, memory_mib=8000, features=("gpu",))


def test_ids_count_from_one_and_the_rows_hold_job_script_and_token() -> None:
    s = small()
    assert s.submit("a", token="t1") == 1
    kinds = [type(row) for row in s.last.rows]
    assert kinds.count(ScriptBlob) == kinds.count(SubmitToken) == 1
    assert Job in kinds
    assert s.submit("b") == 2


def test_the_default_partition_is_taken() -> None:
    s = small().nodes("m1", partitions=("big",))
    s.submit("a")
    assert s.job("a").spec.partitions == ("lab",)


@pytest.mark.parametrize(
    ("default_s", "max_s", "asked_s", "stored_s"),
    [
        (None, None, None, None),
        (10 * MIN, 60 * MIN, None, 10 * MIN),
        (None, 60 * MIN, None, 60 * MIN),
        (10 * MIN, None, 30 * MIN, 30 * MIN),
        (10 * MIN, None, -1, None),  # UNLIMITED
    ],
)
def test_the_time_limit_is_the_one_asked_else_the_default_else_the_maximum(default_s, max_s, asked_s, stored_s) -> None:
    s = small().partition("lab", default_time_s=default_s, max_time_s=max_s)
    s.submit("a", time_limit_s=asked_s)
    assert s.job("a").spec.time_limit_s == stored_s


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"partitions": ("nope",)}, "invalid partition specified: nope"),
        ({"req_nodes": ("ghost",)}, "Invalid node name specified"),
        ({"exc_nodes": ("ghost",)}, "Invalid node name specified"),
        ({"features": "fpga"}, "Invalid feature specification"),
        ({"features": "gpu&"}, "Invalid feature specification"),
        ({"dependency": "afterok:x"}, "Job dependency problem"),
        ({"memory_mib": 9000}, "Memory specification can not be satisfied"),
        ({"req_nodes": ("n1",), "memory_mib": 9000}, "Memory specification can not be satisfied"),
        ({"req_nodes": ("n1",), "exc_nodes": ("n1",)}, "Requested node configuration is not available"),
    ],
)
def test_what_can_never_run_is_refused_and_changes_nothing(asked, said) -> None:
    s = small()
    before = (s.cluster.next_job_id, s.cluster.next_order, dict(s.cluster.jobs), dict(s.cluster.environments))
    with pytest.raises(RefusedError, match=said):
        s.submit("a", **asked)
    assert (s.cluster.next_job_id, s.cluster.next_order, s.cluster.jobs, s.cluster.environments) == before
    assert s.load().last.rows == [], "rows of the refused one are not stored with the next event"


def test_without_a_partition_nothing_can_be_submitted() -> None:
    with pytest.raises(RefusedError, match="No partition specified or system default partition"):
        Scenario().submit("a")


def test_too_many_cpus_are_accepted_and_wait_as_in_slurm() -> None:
    s = small()
    s.submit("a", num_tasks=99)
    assert s.plan() == {}
    assert (s.state("a"), s.reason("a")) == ("PENDING", "PartitionConfig")


def test_a_node_of_unknown_size_keeps_every_door_open() -> None:
    s = small().nodes("n3", connected=False)
    s.submit("a", memory_mib=9000)
    assert s.state("a") == "PENDING"


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"held": True}, "JobHeldUser"),
        ({"begin_at": 2000.0}, "BeginTime"),
        ({"dependency": "afterok:1"}, "Dependency"),
        ({"dependency": "afterok:77"}, "DependencyNeverSatisfied"),
        ({}, "None"),
    ],
)
def test_the_reason_to_wait_is_known_at_once(asked, reason) -> None:
    s = small()
    s.submit("first")
    s.submit("a", **asked)
    assert s.job("a").reason == reason
    assert s.rows.jobs[s.id("a")] == s.job("a")


def test_a_begin_time_lets_it_go_when_it_comes_and_asks_for_one_timer() -> None:
    s = small()
    s.submit("a", begin_at=1060.0)
    for _ in range(5):
        s.control("update", "a", changes={"comment": "x"})
    assert s.cluster.next_timer() == 1060.0
    assert s.cluster.due_timers(1060.0) == [s.id("a")], "however often it was looked at"


def test_begin_time_passed() -> None:
    s = small()
    s.submit("a", begin_at=1060.0)
    assert s.plan() == {}
    s.wait(60)
    assert s.plan() == {"a": "n1"}
    assert s.job("a").eligible_at == 1060.0


def test_a_deadline_ends_what_has_not_started_by_then() -> None:
    s = small()
    s.submit("runs", deadline_at=1060.0)
    s.plan()
    s.started("runs")
    s.submit("held", deadline_at=1060.0, held=True)
    s.wait(60)
    assert s.states("runs", "held") == ["RUNNING", "DEADLINE"]
    assert s.reason("held") == "DeadLine"


def test_the_environment_is_kept_until_the_last_job_that_may_need_it_is_purged() -> None:
    """A final job may be requeued, and then it needs what it was submitted with."""
    s = small()
    s.submit("a", environ="e")
    s.submit("b", environ="e")
    s.run_to_end("a", "b")
    assert "e" in s.cluster.environments
    s.purge(job_ids=(s.id("a"),))
    assert s.last.effects == []
    s.purge(job_ids=(s.id("b"),))
    assert [type(e).__name__ for e in s.last.effects] == ["DropEnvironment"]


def test_an_unlimited_job_stays_unlimited_when_something_else_is_updated() -> None:
    s = small().partition("lab", default_time_s=600)
    s.submit("a", time_limit_s=-1)
    s.control("update", "a", changes={"comment": "x"})
    assert s.job("a").spec.time_limit_s is None


def test_an_event_that_is_refused_keeps_what_the_restart_found_out() -> None:
    s = small()
    s.submit("a", begin_at=1060.0)
    s.now = 2000.0
    s.restart()
    assert s.rows.jobs[s.id("a")] == s.job("a"), "the changed reason was stored with the first event"
    with pytest.raises(RefusedError):
        s.feed(ev.Submitted(now=s.now, spec=make_spec("x", partitions=("nope",)), script=b""))


def test_a_host_that_came_while_the_job_was_on_its_way_is_asked_for_its_directory_once():
    s = Scenario().nodes("n[1-2]")
    s.feed(ev.DirectoryProved(now=s.now, node="n1", path="/home/a", shared=True))
    for name in "abc":
        s.submit(name, work_dir="/home/a", provable=True)
    asked = [(e.node, e.paths) for e in s.effects if isinstance(e, ProveDirectories)]
    assert asked == [("n2", ("/home/a",))]
    s.lose("n2")
    s.connect("n2")
    asked = [(e.node, e.paths) for e in s.effects if isinstance(e, ProveDirectories)]
    assert asked == [("n2", ("/home/a",))] * 2
