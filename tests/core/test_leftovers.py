"""Launches declared dead are killed and proved gone before a slot opens; what cannot be killed takes its node out of use."""

import pytest
from scenario import ROOT, Scenario

from sshq.core.effects import Audit, KillLaunch, SweepLaunches
from sshq.core.events import EndRecord, LaunchEnded, LaunchesSwept, NodeEntry
from sshq.core.model import NodeRecord

DONE = EndRecord(how="exit", code=0)


def declared_dead(**spec: object) -> tuple[Scenario, NodeEntry]:
    """Job a ran on n1, which was declared dead and resumed; what n1 would show of it if it lived."""
    s = Scenario().nodes("n[1-2]")
    s.submit("a", req_nodes=("n1",), **{"requeue": "no", **spec})
    s.plan()
    entry = s.started("a").entry("a", alive=True)
    s.lose("n1").set_node("n1", "down").set_node("n1", "resume")
    assert s.outcomes("a") == ["ASSERTED"]
    return s, entry


def swept(s: Scenario, launch_id: str, *survivors: str) -> None:
    s.feed(LaunchesSwept(now=s.now, name="n1", launch_ids=(launch_id,), survivors=survivors))


def orders(s: Scenario, kind: type) -> list[object]:
    return [e for e in s.last.effects if isinstance(e, kind)]


def takes_jobs(s: Scenario) -> bool:
    s.submit("probe", req_nodes=("n1",))
    started = s.plan() == {"probe": "n1"}
    if not started:
        s.control("cancel", "probe")
    return started


def test_what_lives_is_killed_and_slots_open_when_it_is_proved_gone() -> None:
    s, entry = declared_dead()
    s.connect("n1", entry)
    (kill,) = orders(s, KillLaunch)
    assert (kill.launch_id, kill.signal, kill.cancel) == (entry.launch_id, 9, True)
    assert not takes_jobs(s)
    s.feed(LaunchEnded(now=s.now, launch_id=entry.launch_id, record=EndRecord(how="cancel", signal=9, cancelled=True)))
    assert [e.launch_ids for e in orders(s, SweepLaunches)] == [(entry.launch_id,)]
    assert not takes_jobs(s), "what left its group and session may still run"
    swept(s, entry.launch_id)
    assert s.acked() == [entry.launch_id]
    assert any(e.verb == "node reclaim" and entry.launch_id in e.detail for e in orders(s, Audit))
    assert takes_jobs(s)
    assert (s.state("a"), s.outcomes("a")) == ("NODE_FAIL", ["ASSERTED"])


@pytest.mark.parametrize("shown", [None, {"go": ""}, {"go": "file"}, {"go": "file", "record": DONE}])
def test_what_is_dead_is_searched_for_strays_first(shown) -> None:
    s, entry = declared_dead()
    left = () if shown is None else (NodeEntry(launch_id=entry.launch_id, seq=entry.seq, job_id=1, attempt=1, **shown),)
    s.connect("n1", *left)
    assert orders(s, KillLaunch) == []
    assert [e.launch_ids for e in orders(s, SweepLaunches)] == [(entry.launch_id,)]
    assert s.acked() == []
    assert not takes_jobs(s)
    swept(s, entry.launch_id)
    assert takes_jobs(s)


def test_a_reboot_is_proof_enough() -> None:
    s, entry = declared_dead()
    s.connect("n1", NodeEntry(launch_id=entry.launch_id, seq=entry.seq, job_id=1, attempt=1, go="file"), boot="b2")
    assert orders(s, SweepLaunches) == orders(s, KillLaunch) == []
    assert s.acked() == [entry.launch_id]
    assert takes_jobs(s)


def test_orders_that_were_lost_are_given_again_by_each_sweep() -> None:
    s, entry = declared_dead()
    s.connect("n1", entry).sweep("n1", entry)
    assert [e.launch_id for e in orders(s, KillLaunch)] == [entry.launch_id]


@pytest.mark.parametrize("how", ["restart", "purge", "removed"])
def test_the_condemned_are_remembered(how) -> None:
    s, entry = declared_dead()
    if how == "restart":
        s.restart()
    elif how == "purge":
        s.purge(keep=0)
    else:
        config, partition = s.configs["n1"], s.partitions["lab"]
        s.remove_node("n1")
        s.configs["n1"], s.partitions["lab"] = config, partition
        s.load()
    s.connect("n1", entry)
    assert [e.launch_id for e in orders(s, KillLaunch)] == [entry.launch_id]
    assert not takes_jobs(s)


def test_a_host_that_was_declared_dead_while_it_still_answered_is_believed_dead_once_it_no_longer_does() -> None:
    s = Scenario().nodes("n1")
    s.submit("a", requeue="always")
    s.plan()
    s.started("a").set_node("n1", "down")
    assert s.state("a") == "RUNNING"
    s.lose("n1")
    assert (s.state("a"), s.outcomes("a")) == ("PENDING", ["ASSERTED"])


def test_what_was_never_declared_dead_is_never_killed() -> None:
    s = Scenario().nodes("n1")
    s.submit("a")
    s.plan()
    entry = s.started("a").entry("a", alive=True)
    s.lose("n1").connect("n1", entry)
    assert s.kills() == []
    assert s.cluster.nodes["n1"].record.condemned == ()


# ---- what cannot be killed -----------------------------------------------------------------------------------------


def record_of(s: Scenario) -> NodeRecord:
    return s.cluster.nodes["n1"].record


def test_a_node_that_could_not_kill_a_job_is_drained_as_slurm_does() -> None:
    s = Scenario().nodes("n1")
    s.submit("a")
    s.plan()
    s.started("a").control("cancel", "a")
    s.ended("a", how="cancel", signal=9, cancelled=True, survivors=("77:sleep",))
    assert (s.state("a"), s.job("a").survivors) == ("CANCELLED", ("77:sleep",))
    assert (record_of(s).drain_reason, record_of(s).drain_by, record_of(s).drain_uid) == ("Kill task failed", "root", ROOT)
    assert [e.detail for e in orders(s, Audit)] == ["Kill task failed: 77:sleep"]
    assert not takes_jobs(s)
    s.set_node("n1", "resume")
    assert takes_jobs(s)


def test_a_reason_that_stands_there_already_is_kept() -> None:
    s = Scenario().nodes("n1").set_node("n1", "drain", "fan")
    swept(s, "0" * 32, "77:sleep")
    assert record_of(s).drain_reason == "fan"


def test_strays_that_cannot_be_killed_drain_the_node_and_keep_the_condemned() -> None:
    s, entry = declared_dead()
    s.connect("n1")
    swept(s, entry.launch_id, "77:sleep")
    assert record_of(s).drain_reason == "Kill task failed"
    s.set_node("n1", "resume")
    assert not takes_jobs(s)
    swept(s, entry.launch_id)
    assert takes_jobs(s)
