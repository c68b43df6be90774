"""Nodes joining, leaving, drained and declared dead; inventories changing under running jobs."""

import pytest
from scenario import Scenario

from sshq.core.effects import ProveDirectories
from sshq.core.events import DirectoryProved, LoadReported, NodeConnected, NodeUpdated
from sshq.core.model import NodeFacts
from sshq.errors import RefusedError


def running(*nodes: str) -> Scenario:
    s = Scenario().nodes("n[1-2]")
    for i, node in enumerate(nodes or ("n1",)):
        s.submit(f"j{i}", req_nodes=(node,), requeue="no")
    placed = s.plan()
    return s.started(*placed)


def test_a_lost_connection_frees_nothing_and_starts_nothing() -> None:
    s = running().lose("n1")
    s.submit("b", req_nodes=("n1",))
    assert s.plan() == {}
    assert s.cluster.nodes["n1"].jobs
    s.connect("n1", s.entry("j0", alive=True))
    assert s.plan() == {"b": "n1"}


def test_a_drained_node_ends_its_jobs_and_takes_none_until_resumed() -> None:
    s = running().set_node("n1", "drain", "fan")
    s.submit("b", req_nodes=("n1",))
    assert s.plan() == {}
    s.ended("j0")
    assert s.state("j0") == "COMPLETED"
    s.set_node("n1", "resume")
    assert s.plan() == {"b": "n1"}


def test_a_drain_outlives_the_controller() -> None:
    s = Scenario().nodes("n1").set_node("n1", "drain", "fan").restart()
    s.connect("n1")
    s.submit("a")
    assert s.plan() == {}
    assert s.cluster.nodes["n1"].record.drain_reason == "fan"


@pytest.mark.parametrize(
    ("name", "state", "reason", "said"),
    [
        ("ghost", "drain", "x", "Invalid node name specified"),
        ("n1", "drain", None, "You must specify a reason"),
        ("n1", "fly", "x", "Invalid node state specified"),
    ],
)
def test_a_wrong_update_is_refused(name, state, reason, said) -> None:
    s = Scenario().nodes("n1")
    with pytest.raises(RefusedError, match=said):
        s.feed(NodeUpdated(now=s.now, name=name, state=state, reason=reason, uid=0, user="root"))
    assert s.cluster.nodes["n1"].record.drain_reason is None


def test_down_asserts_the_death_of_an_unreachable_node_only() -> None:
    s = running("n1", "n2").lose("n2")
    s.set_node("n1", "down").set_node("n2", "down")
    assert s.states("j0", "j1") == ["RUNNING", "NODE_FAIL"]
    assert s.outcomes("j1") == ["ASSERTED"]
    assert s.rows.accounting[-1].detail == "root declared n2 down"


def test_several_jobs_of_a_removed_and_dead_node_end_together() -> None:
    s = Scenario().nodes("n[1-2]")
    for name in "abc":
        s.submit(name, req_nodes=("n1",))
    s.plan()
    s.remove_node("n1").lose("n1").set_node("n1", "down")
    assert s.states(*"abc") == ["NODE_FAIL"] * 3
    assert "n1" not in s.cluster.nodes
    assert not s.rows.open_launches()


def test_a_removed_node_ends_its_jobs_takes_none_and_is_forgotten() -> None:
    s = running().remove_node("n1")
    s.submit("b")
    assert s.plan() == {"b": "n2"}
    s.ended("j0")
    assert s.state("j0") == "COMPLETED"
    s.lose("n1")
    assert "n1" not in s.cluster.nodes


def test_a_removed_node_that_comes_back_goes_on() -> None:
    s = running()
    config, partition = s.configs["n1"], s.partitions["lab"]
    s.remove_node("n1")
    s.configs["n1"], s.partitions["lab"] = config, partition
    s.load()
    assert s.cluster.nodes["n1"].note == "", "it was never disconnected"
    s.submit("b", req_nodes=("n1",))
    assert s.plan() == {"b": "n1"}


def test_a_node_that_shrank_under_its_jobs_gives_nothing_below_zero() -> None:
    s = Scenario().nodes("n1", cpus=4)
    for name in "abcd":
        s.submit(name)
    s.plan()
    s.nodes("n1", cpus=2, connected=False)
    s.submit("e")
    assert s.plan() == {}
    s.ended(*"ab")
    assert s.plan() == {}
    s.ended("c")
    assert s.plan() == {"e": "n1"}


def test_two_names_of_one_spool_are_one_node_too_many() -> None:
    s = Scenario().nodes("n[1-2]", connected=False).connect("n1", spool="s")
    assert s.connect("n2", spool="s").last.result == "n1"
    s.submit("a", req_nodes=("n2",))
    assert s.plan() == {}


def test_a_connection_to_a_node_that_was_removed_meanwhile_is_turned_away() -> None:
    s = Scenario().nodes("n[1-2]", connected=False)
    late = NodeConnected(
        now=s.now, name="n1", generation=1, boot="b", spool_id="s", machine_id="m", uid=1, facts=NodeFacts(), facts_json=""
    )
    assert s.remove_node("n1").feed(late).last.result == "(removed)"


def test_directories_of_all_that_may_yet_be_launched_are_asked_for() -> None:
    """Not only of jobs that could start now: held, waiting and running ones need the answer later."""
    s = Scenario().nodes("n1")
    s.feed(DirectoryProved(now=0, path="/run", node="n1", shared=True))
    s.submit("runs", work_dir="/run", provable=True)
    s.plan()
    s.submit("held", work_dir="/held", provable=True, held=True)
    s.submit("later", work_dir="/later", provable=True, begin_at=5000.0)
    s.submit("after", work_dir="/after", provable=True, dependency="afterok:1")
    s.submit("anywhere", work_dir="/any", provable=True, anywhere=True)
    s.submit("over", work_dir="/over", provable=True)
    s.control("cancel", "over")
    s.connect("n1", s.entry("runs", alive=True))
    asked = [e.paths for e in s.last.effects if isinstance(e, ProveDirectories)]
    assert asked == [("/after", "/held", "/later", "/run")]


def test_load_is_only_told() -> None:
    s = Scenario().nodes("n1").feed(LoadReported(name="n1", load=0.5, memory_free_mib=77))
    assert (s.cluster.nodes["n1"].load, s.last.rows) == (0.5, [])


def test_a_restart_knows_the_allocations_before_any_node_is_back() -> None:
    s = running("n1", "n2").restart()
    assert s.cluster.nodes["n1"].jobs == {s.id("j0")}
    assert s.states("j0", "j1") == ["RUNNING", "RUNNING"]
    s.connect("n1", s.entry("j0", alive=True)).ended("j0")
    assert s.state("j0") == "COMPLETED"
