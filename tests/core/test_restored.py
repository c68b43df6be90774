"""A restored backup is behind the world: what was launched since is found, taken in, and never started beside itself."""

import pytest
from scenario import Scenario

from sshq.core.events import EndRecord, FenceAnswered, InventoryLoaded, NodeEntry, NodeListed
from sshq.core.model import SEQ_PER_GENERATION

DONE = EndRecord(how="exit", code=0)
LATER = "f" * 32


def restored(state: str = "PENDING", nodes: str = "n1", **spec: object) -> Scenario:
    """Job a in that state when the backup was made; the store is restored, and no node has been heard of since."""
    s = Scenario().nodes(nodes)
    s.submit("a", **{"requeue": "no", **spec})
    if state != "PENDING":
        s.plan()
    if state == "RUNNING":
        s.started("a")
    s.restart()
    for row in s.cluster.hold_after_restore(s.now):
        if hasattr(row, "spec"):
            s.rows.jobs[row.job_id] = row
    return s


def later(s: Scenario, attempt: int = 2, **more: object) -> NodeEntry:
    """A launch of job a that was decided after the backup."""
    seq = 5 * SEQ_PER_GENERATION + attempt
    return NodeEntry(launch_id=LATER, seq=seq, job_id=s.id("a"), attempt=attempt, **{"go": "file", **more})


# ---- a cancel before the nodes were asked --------------------------------------------------------------------------


def test_a_cancel_before_the_node_was_listed_is_only_noted() -> None:
    s = restored()
    assert s.control("cancel", "a") == ["cancelled"]
    assert s.state("a") == "PENDING"
    assert "n1" in s.last.result[0].message
    s.connect("n1")
    assert s.state("a") == "CANCELLED"


def test_a_noted_cancel_kills_what_is_found_running() -> None:
    s = restored()
    s.control("cancel", "a")
    s.connect("n1", later(s, attempt=1, supervisor_alive=True))
    assert (s.state("a"), s.kills()) == ("RUNNING", [15])
    s.ended("a", signal=15, cancelled=True)
    assert s.state("a") == "CANCELLED"


@pytest.mark.parametrize("how", ["listed", "down", "removed"])
def test_a_noted_cancel_waits_for_each_node_until_it_is_heard_declared_dead_or_gone(how) -> None:
    s = restored(nodes="n[1-2]")
    s.control("cancel", "a")
    s.connect("n1")
    assert s.state("a") == "PENDING"
    s.connect("n2") if how == "listed" else s.set_node("n2", "down") if how == "down" else s.remove_node("n2")
    assert s.state("a") == "CANCELLED"


def test_a_noted_cancel_outlives_the_controller() -> None:
    s = restored(nodes="n[1-2]")
    s.control("cancel", "a")
    s.connect("n1").restart(epoch=3)
    s.connect("n1")
    assert s.state("a") == "PENDING"
    s.connect("n2")
    assert s.state("a") == "CANCELLED"


def test_a_cancel_after_all_were_listed_ends_a_pending_job_at_once() -> None:
    s = restored().connect("n1")
    s.control("cancel", "a")
    assert s.state("a") == "CANCELLED"


def test_a_job_submitted_after_the_restore_is_cancelled_at_once() -> None:
    s = restored()
    s.submit("b")
    s.control("cancel", "b")
    assert s.state("b") == "CANCELLED"


def test_a_released_job_starts_only_when_every_node_was_asked() -> None:
    s = restored(nodes="n[1-2]").connect("n1")
    s.control("release", "a")
    assert s.plan() == {}
    assert s.reason("a") == "ReqNodeNotAvail"
    s.connect("n2")
    assert s.plan() == {"a": "n1"}


def test_a_released_job_that_is_found_running_is_not_started() -> None:
    s = restored(nodes="n[1-2]").connect("n1")
    s.control("release", "a")
    s.plan()
    s.connect("n2", later(s, attempt=1, supervisor_alive=True))
    assert s.plan() == {}
    assert (s.state("a"), s.job("a").nodes) == ("RUNNING", ("n2",))


def test_a_deadline_that_passes_before_the_nodes_were_asked_ends_nothing() -> None:
    s = restored(deadline_at=1500.0)
    s.wait(1000)
    assert s.state("a") == "PENDING"
    s.connect("n1").wait(1)
    assert s.state("a") == "DEADLINE"


# ---- attempts the store has not heard of ---------------------------------------------------------------------------


@pytest.mark.parametrize("held_open", ["CONFIGURING", "RUNNING"])
@pytest.mark.parametrize(
    ("shown", "state"), [({"supervisor_alive": True}, "RUNNING"), ({"record": DONE}, "COMPLETED"), ({}, "NODE_FAIL")]
)
def test_a_later_attempt_moves_the_job_whatever_becomes_of_the_one_held_open(held_open, shown, state) -> None:
    s = restored(held_open)
    first = s.launch_id("a")
    s.connect("n1", later(s, **shown))
    assert (s.state("a"), s.launch_id("a"), s.job("a").attempt) == (state, LATER, 2)
    assert s.fences() == [first], "the older one is still settled, by the arbiter"
    s.feed(FenceAnswered(now=s.now, launch_id=first, won=False, forgotten=True))
    assert s.state("a") == state
    assert [(row.launch_id, row.outcome.name) for row in s.rows.accounting if row.launch_id == first] == [(first, "LOST")]


def test_a_later_attempt_on_another_node_moves_the_job_and_its_room() -> None:
    s = restored("RUNNING", nodes="n[1-2]")
    s.connect("n2", later(s, supervisor_alive=True))
    assert (s.state("a"), s.job("a").nodes) == ("RUNNING", ("n2",))
    assert [s.cluster.nodes[n].jobs for n in ("n1", "n2")] == [set(), {s.id("a")}]
    s.connect("n1")
    assert s.state("a") == "RUNNING"


def test_a_job_that_ended_by_an_older_launch_runs_again_when_the_later_one_is_found() -> None:
    """Nothing is started: it is seen to run."""
    s = restored("RUNNING", nodes="n[1-2]")
    first = s.entry("a")
    s.connect("n1", first)
    assert s.state("a") == "NODE_FAIL"
    s.connect("n2", later(s, supervisor_alive=True))
    assert s.state("a") == "RUNNING"
    s.ended("a", code=0)
    assert s.state("a") == "COMPLETED"


def test_an_attempt_known_to_be_older_moves_nothing() -> None:
    s = restored("RUNNING")
    alive = s.entry("a", alive=True)
    older = NodeEntry(launch_id="0" * 32, seq=1, job_id=s.id("a"), attempt=0, go="file", record=DONE)
    s.connect("n1", alive, older)
    assert (s.state("a"), s.launch_id("a")) == ("RUNNING", alive.launch_id)
    assert s.acked() == ["0" * 32]


# ---- what the store never knew -------------------------------------------------------------------------------------


def test_files_of_a_launch_that_the_store_never_had_are_kept_for_ever() -> None:
    """Over any number of restarts: a number below the next one proves nothing."""
    s = restored()
    stranger = NodeEntry(launch_id="e" * 32, seq=1, job_id=7, attempt=1, go="file", record=DONE)
    for epoch in (3, 4, 5):
        s.connect("n1", stranger)
        assert s.acked() == []
        assert s.cluster.orphans == {"e" * 32: ("n1", 7)}
        s.restart(epoch=epoch)


def test_a_listing_that_was_not_compared_with_the_store_settles_nothing_unknown() -> None:
    s = restored().connect("n1")
    stranger = NodeEntry(launch_id="e" * 32, seq=1, job_id=7, attempt=1, go="file", record=DONE)
    generation = s.cluster.nodes["n1"].record.generation
    s.feed(NodeListed(now=s.now, name="n1", generation=generation, entries=(stranger,), sent=frozenset()))
    assert s.acked() == []
    assert s.cluster.orphans == {}


def test_an_inventory_without_nodes_ends_all_doubts() -> None:
    s = restored()
    s.control("cancel", "a")
    s.feed(InventoryLoaded(now=s.now, nodes=(), partitions=()))
    assert s.state("a") == "CANCELLED"


def test_launches_of_a_later_second_stand_behind_those_before_and_no_restored_store_makes_one_again() -> None:
    """So the newest stand together in the indexes of the store, and the rest is at random."""
    cluster = Scenario().cluster
    ids = [cluster.new_launch_id(bytes([n]) * 16, 0, 1.7e9 + n) for n in range(200)]
    assert ids == sorted(ids)
    assert {len(one) for one in ids} == {32}
    assert len({one[8:] for one in ids}) == 200
    assert cluster.new_launch_id(b"a" * 16, 0, 1.7e9) != cluster.new_launch_id(b"b" * 16, 0, 1.7e9)
