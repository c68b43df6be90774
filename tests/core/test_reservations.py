"""Reservations: who may run on their nodes and when, what is refused, and that they outlive the controller."""

import pytest
from scenario import ANNA, BERT, ROOT, Scenario

from sshq.core import events as ev
from sshq.core.arrangements import Reservation, Withdrawn
from sshq.errors import RefusedError

HOUR = 3600


def change(s, verb="create", name=None, **changes):
    s.feed(ev.ReservationChanged(now=s.now, verb=verb, name=name, uid=ROOT, changes=changes))
    return s.last.result


def reserve(s, name="r", *, begins=0, lasts=HOUR, users=("anna",), **changes):
    return change(s, name=name, start_at=s.now + begins, duration_s=lasts, users=list(users), **changes)


def kept(s):
    """What the store would hold."""
    return [row.name for row in s.last.rows if isinstance(row, (Reservation, Withdrawn))]


def test_a_reserved_node_takes_only_its_own_jobs():
    s = Scenario().nodes("n[1-2]", cpus=1)
    assert reserve(s, nodes=["n1"]) == "r"
    assert kept(s) == ["r"]
    s.submit("mine", reservations=("r",), time_limit_s=60)
    s.submit("other", time_limit_s=60)
    s.submit("late", time_limit_s=60)
    assert s.plan() == {"mine": "n1", "other": "n2"}
    assert s.reason("late") == "Resources"
    s.started("mine").ended("mine")
    assert s.plan() == {}


def test_before_it_begins_only_what_ends_in_time_starts():
    s = Scenario().nodes("n1")
    reserve(s, begins=HOUR, nodes=["n1"], flags=["MAINT"])
    s.submit("short", time_limit_s=HOUR - 60)
    s.submit("long", time_limit_s=HOUR + 60)
    s.submit("endless")
    assert s.plan() == {"short": "n1"}
    assert s.reason("long") == "ReqNodeNotAvail, May be reserved for other job"
    s.wait(HOUR)
    s.submit("now", time_limit_s=60)
    assert s.plan() == {}
    assert s.reason("now") == "ReqNodeNotAvail, Reserved for maintenance"
    s.wait(HOUR)
    assert set(s.plan()) == {"long", "endless", "now"}
    assert s.cluster.reservations == {}


def test_its_jobs_wait_until_it_begins_and_are_told_when_it_has_gone():
    s = Scenario().nodes("n1")
    reserve(s, begins=HOUR, nodes=["n1"])
    s.submit("a", reservations=("r",), time_limit_s=60)
    assert s.plan() == {}
    assert s.reason("a") == "Reservation"
    change(s, "delete", "r")
    assert kept(s) == ["r"]
    s.plan()
    assert s.reason("a") == "ReservationDeleted"


def test_it_is_for_those_it_names():
    s = Scenario().nodes("n1")
    reserve(s, nodes=["n1"])
    with pytest.raises(RefusedError, match="Access denied to requested reservation"):
        s.submit("b", uid=BERT, user="bert", reservations=("r",))
    with pytest.raises(RefusedError, match="Requested reservation is invalid"):
        s.submit("c", uid=ANNA, reservations=("nosuch",))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"nodes": ["nosuch"]}, "Invalid node name specified"),
        ({"node_count": 9}, "Requested nodes are busy"),
        ({"nodes": ["n1"]}, "Requested nodes are busy"),
        ({"nodes": ["n2"], "begins": -7200}, "Invalid time specified"),
        ({"nodes": ["n2"], "users": ()}, "Either Users/Groups and/or Accounts must be specified."),
        ({"nodes": ["n3"], "name": "s"}, "Requested reservation overlaps with another reservation"),
        ({"nodes": ["n2"], "partition": "nosuch"}, "Invalid partition name specified"),
    ],
)
def test_what_cannot_be_reserved_is_refused(changes, text):
    s = Scenario().nodes("n[1-3]", cpus=1)
    s.submit("busy")
    s.plan()
    reserve(s, nodes=["n3"])
    with pytest.raises(RefusedError, match=text):
        reserve(s, **({"name": "t"} | changes))
    assert list(s.cluster.reservations) == ["r"]


def test_what_runs_may_be_ignored_and_goes_on():
    s = Scenario().nodes("n1", cpus=1)
    s.submit("busy")
    s.plan()
    reserve(s, nodes=["n1"], flags=["IGNORE_JOBS"])
    assert s.state("busy") == "CONFIGURING"


def test_nodes_are_chosen_by_number_and_names_are_made():
    s = Scenario().nodes("n[1-3]", cpus=1)
    s.submit("busy")
    s.plan()
    assert change(s, start_at=s.now, duration_s=60, users=["anna"], node_count=2) == "anna_1"
    assert s.cluster.reservations["anna_1"].nodes == ("n2", "n3")
    assert change(s, "update", "anna_1", duration_s=120, users=["bert"]) == "anna_1"
    assert s.cluster.reservations["anna_1"].end_at == s.now + 120
    assert s.cluster.reservations["anna_1"].users == ("bert",)
    with pytest.raises(RefusedError, match="Requested reservation is invalid"):
        change(s, "update", "nosuch", duration_s=5)


def test_one_in_use_is_not_deleted():
    s = Scenario().nodes("n1")
    reserve(s, nodes=["n1"])
    s.submit("a", reservations=("r",))
    s.plan()
    with pytest.raises(RefusedError, match="Requested reservation is in use"):
        change(s, "delete", "r")


def test_partitions_are_changed_over_the_inventory_and_over_a_restart():
    s = Scenario().nodes("n1").nodes("n2", partitions=("other",))
    s.feed(ev.PartitionUpdated(now=s.now, name="lab", uid=ROOT, changes={"state": "INACTIVE", "max_time_s": 60}))
    s.feed(ev.PartitionUpdated(now=s.now, name="other", uid=ROOT, changes={"default": True}))
    for _ in range(2):
        assert (s.cluster.partitions["lab"].up, s.cluster.partitions["lab"].max_time_s) == (False, 60)
        assert s.cluster.default_partition == "other"
        with pytest.raises(RefusedError, match="Required partition not available"):
            s.submit("a", partitions=("lab",))
        records = list(s.cluster.partition_records.values())
        s.restart()
        s.cluster.arrange(records, [])
        s.load()
    s.feed(ev.PartitionUpdated(now=s.now, name="lab", uid=ROOT, changes={"state": "DRAIN", "max_time_s": -1}))
    assert (s.cluster.partitions["lab"].up, s.cluster.partitions["lab"].accepts) == (True, False)
    assert s.cluster.partitions["lab"].max_time_s is None
    for name, text in (("nosuch", "Invalid partition name"), ("lab", "Invalid partition state")):
        with pytest.raises(RefusedError, match=text):
            s.feed(ev.PartitionUpdated(now=s.now, name=name, uid=ROOT, changes={"state": "GONE"}))


def test_a_nodes_weight_and_features_are_changed_over_a_restart():
    s = Scenario().nodes("n1", features=("old",)).nodes("n2", weight=5)
    s.feed(ev.NodeUpdated(now=s.now, name="n1", state="", reason=None, uid=ROOT, user="root", weight=9, features=("new",)))
    s.restart()
    for name in ("n1", "n2"):
        s.connect(name)
    assert s.cluster.nodes["n1"].features == {"new"}
    s.submit("a")
    s.submit("b", features="new")
    assert s.plan() == {"a": "n2", "b": "n1"}
