"""Each pair of what the store holds and what a listing shows; silence settles nothing."""

import pytest
from scenario import Scenario

from sshq.core.events import EndRecord, NodeEntry, NodeListed
from sshq.core.model import SEQ_PER_GENERATION

DONE = EndRecord(how="exit", code=0)


def world(state: str) -> Scenario:
    s = Scenario().nodes("n1")
    s.submit("a", requeue="no")
    s.plan()
    return s.started("a") if state == "RUNNING" else s


SHOWN = [
    # launch here, what the first listing of a new connection shows, boot and spool, job's state, outcome, fenced
    ("INTENT", {"go": "file", "record": DONE}, {}, "COMPLETED", ["EXITED"], False),
    ("RUNNING", {"go": "file", "record": DONE}, {}, "COMPLETED", ["EXITED"], False),
    ("INTENT", None, {}, "CONFIGURING", [], True),
    ("INTENT", {"go": ""}, {}, "CONFIGURING", [], True),
    ("INTENT", {"go": "", "alive": True}, {}, "CONFIGURING", [], True),
    ("INTENT", {"go": "file", "alive": True}, {}, "RUNNING", [], False),
    ("RUNNING", {"go": "file", "alive": True}, {}, "RUNNING", [], False),
    ("INTENT", {"go": "file"}, {}, "NODE_FAIL", ["LOST"], False),
    ("RUNNING", {"go": "file"}, {}, "NODE_FAIL", ["LOST"], False),
    ("INTENT", {"go": "dir"}, {}, "PENDING", ["NEVER_STARTED"], False),
    ("RUNNING", {"go": "dir"}, {}, "NODE_FAIL", ["LOST"], False),
    ("INTENT", {"go": "file"}, {"boot": "b2"}, "NODE_FAIL", ["REBOOTED"], False),
    ("RUNNING", {"go": "file"}, {"boot": "b2"}, "NODE_FAIL", ["REBOOTED"], False),
    ("RUNNING", None, {"boot": "b2"}, "NODE_FAIL", ["REBOOTED"], False),  # it had started: that it left nothing proves nothing
    ("INTENT", None, {"boot": "b2"}, "NODE_FAIL", ["REBOOTED"], False),  # a power cut may have taken its `go`
    ("INTENT", {"go": ""}, {"boot": "b2"}, "NODE_FAIL", ["REBOOTED"], False),
    ("INTENT", {"go": "dir"}, {"boot": "b2"}, "PENDING", ["NEVER_STARTED"], False),
    ("RUNNING", {"go": "file", "record": DONE}, {"boot": "b2"}, "COMPLETED", ["EXITED"], False),
    ("INTENT", None, {"spool": "s2"}, "NODE_FAIL", ["SPOOL_LOST"], False),
    ("RUNNING", None, {"spool": "s2", "boot": "b2"}, "NODE_FAIL", ["SPOOL_LOST"], False),  # perhaps another machine
]


@pytest.mark.parametrize(("launch", "shown", "changed", "state", "outcomes", "fenced"), SHOWN)
def test_a_first_listing_settles_what_it_proves(launch, shown, changed, state, outcomes, fenced) -> None:
    s = world(launch)
    entries = () if shown is None else (s.entry("a", **shown),)
    s.lose("n1").connect("n1", *entries, **changed)
    assert (s.state("a"), s.outcomes("a")) == (state, outcomes)
    assert bool(s.fences()) == fenced


@pytest.mark.parametrize(
    ("launch", "shown", "sent", "state", "fenced"),
    [
        ("INTENT", None, False, "CONFIGURING", False),  # it may not have been written yet
        ("INTENT", None, True, "CONFIGURING", True),
        ("RUNNING", None, False, "RUNNING", False),
        ("INTENT", {"go": "file", "alive": True}, False, "RUNNING", False),
        ("INTENT", {"go": "file", "record": DONE}, False, "COMPLETED", False),
    ],
)
def test_a_sweep_is_silent_only_about_what_was_sent_before_it(launch, shown, sent, state, fenced) -> None:
    s = world(launch)
    s.sweep("n1", *([] if shown is None else [s.entry("a", **shown)]), sent=("a",) if sent else ())
    assert s.state("a") == state
    assert bool(s.fences()) == fenced


def test_a_fence_that_was_lost_on_its_way_is_sent_again_by_the_next_sweep() -> None:
    """The launch is of an older generation: nothing of it can be under way on this connection."""
    s = world("INTENT").connect("n1")
    s.sweep("n1")
    assert s.fences() == [s.launch_id("a")]


@pytest.mark.parametrize("generation", [0, 5])
def test_a_listing_of_another_generation_says_nothing(generation) -> None:
    s = world("RUNNING")
    s.feed(
        NodeListed(now=s.now, name="n1", generation=generation, entries=(s.entry("a"),), sent=frozenset([s.launch_id("a")]))
    )
    assert s.last.rows == []
    assert s.state("a") == "RUNNING"


def test_silence_of_the_host_changes_no_job() -> None:
    s = world("RUNNING").lose("n1")
    s.wait(10**7)
    assert s.state("a") == "RUNNING"
    assert s.cluster.nodes["n1"].jobs == {s.id("a")}


@pytest.mark.parametrize("verb", ["cancel", "requeue"])
def test_a_cancel_or_requeue_ordered_while_the_host_was_away_is_carried_out_when_it_is_back(verb) -> None:
    s = Scenario().nodes("n1")
    s.submit("a")
    s.plan()
    s.started("a").lose("n1")
    s.control(verb, "a")
    s.connect("n1", s.entry("a", alive=True))
    assert s.kills() == [15]
    s.ended("a", signal=15, cancelled=True)
    assert s.state("a") == {"cancel": "CANCELLED", "requeue": "PENDING"}[verb]


def test_a_settled_launch_whose_directory_is_still_there_is_acknowledged_again() -> None:
    s = world("RUNNING").ended("a", code=0)
    s.connect("n1", s.entry("a", record=DONE))
    assert s.acked() == [s.launch_id("a")]


@pytest.mark.parametrize("purged", [False, True])
def test_what_still_runs_is_never_acknowledged(purged) -> None:
    """Its directory is all that can ever tell of it."""
    s = world("RUNNING")
    entry = s.entry("a", alive=True)
    s.sweep("n1", s.entry("a"))
    assert s.outcomes("a") == ["LOST"]
    if purged:
        s.purge(keep=0)
    s.connect("n1", entry)
    assert s.acked() == []
    assert entry.launch_id in s.cluster.orphans
    s.sweep("n1", NodeEntry(launch_id=entry.launch_id, seq=entry.seq, job_id=1, attempt=1, go="file", record=DONE))
    assert s.acked() == [entry.launch_id]
    assert not s.cluster.orphans


def test_whatever_is_left_of_a_purged_job_is_acknowledged() -> None:
    s = world("RUNNING")
    s.sweep("n1", s.entry("a"))  # LOST: no record
    entry = s.entry("a")
    s.purge(keep=0).connect("n1", entry)
    assert s.acked() == [entry.launch_id]


# ---- a restored store ------------------------------------------------------------------------------------------


def unknown(job_id: int, attempt: int = 1, **more: object) -> NodeEntry:
    return NodeEntry(launch_id="f" * 32, seq=5 * SEQ_PER_GENERATION, job_id=job_id, attempt=attempt, **{"go": "file", **more})


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_job_of_a_later_time_is_kept_and_its_number_never_given_out_again(times) -> None:
    s = Scenario().nodes("n1")
    for _ in range(times):
        s.connect("n1", unknown(40, record=DONE))
        assert s.acked() == []
    assert s.cluster.orphans == {"f" * 32: ("n1", 40)}
    assert s.submit("a") == 41


def test_what_ran_between_backup_and_restore_is_kept() -> None:
    """Its number is below those given out from now on, and yet it was never purged here."""
    s = Scenario().nodes("n1", connected=False)
    s.cluster.hold_after_restore(s.now)
    s.connect("n1", unknown(7, record=DONE))
    assert s.acked() == []
    assert s.cluster.orphans == {"f" * 32: ("n1", 7)}
    assert s.submit("a") > 7


@pytest.mark.parametrize(
    ("shown", "state", "outcomes"),
    [
        ({"supervisor_alive": True}, "RUNNING", []),
        ({"record": DONE}, "COMPLETED", ["EXITED"]),
        ({}, "NODE_FAIL", ["LOST"]),
    ],
)
def test_a_launch_the_store_has_not_heard_of_is_adopted_by_its_pending_job(shown, state, outcomes) -> None:
    s = Scenario().nodes("n1", connected=False)
    s.submit("a")
    s.connect("n1", unknown(s.id("a"), **shown))
    assert (s.state("a"), s.outcomes("a")) == (state, outcomes)
    assert s.plan() == {}, "it is not started a second time"
    if state == "RUNNING":
        s.ended("a", code=0)
    assert s.cluster.nodes["n1"].jobs == set()
    assert s.job("a").attempt == 1


def test_of_several_unknown_launches_the_newest_moves_the_job() -> None:
    s = Scenario().nodes("n1", connected=False)
    s.submit("a")
    older = NodeEntry(launch_id="0" * 32, seq=1, job_id=1, attempt=1, go="file", record=EndRecord(how="exit", code=1))
    s.connect("n1", older, unknown(1, attempt=2, supervisor_alive=True))
    assert (s.state("a"), s.job("a").attempt) == ("RUNNING", 2)
    assert s.acked() == ["0" * 32]


def test_an_unknown_launch_beside_one_of_ours_is_kept() -> None:
    s = world("RUNNING")
    s.sweep("n1", unknown(s.id("a"), attempt=2, supervisor_alive=True))
    assert s.cluster.orphans == {"f" * 32: ("n1", s.id("a"))}
    assert s.state("a") == "RUNNING"


# ---- the floor -------------------------------------------------------------------------------------------------


def test_the_floor_lists_what_is_open_below_it() -> None:
    s = Scenario().nodes("n1")
    for name in "abc":
        s.submit(name)
    s.plan()
    s.started(*"abc").ended("b")
    from sshq.core.effects import AckLaunches

    ack = next(e for e in s.last.effects if isinstance(e, AckLaunches))
    seqs = {name: s.rows.launches[s.launch_id(name)].seq for name in "abc"}
    assert ack.high == seqs["c"]
    assert ack.open_seqs == (seqs["a"], seqs["c"])
    assert ack.launch_ids == (s.launch_id("b"),)
