"""Leases: what is settled without a word from its node, and what comes of it when the node is back."""

import pytest
from scenario import Scenario

from sshq.core.effects import KillLaunch, SweepLaunches
from sshq.core.events import EndRecord, LaunchEnded, LaunchesSwept, LeasesEnded
from sshq.core.lease import SLACK_S, grace_s, has_leases, hold_s, leased_away

LEASED = EndRecord(how="lease", signal=15)


def running(**spec: object) -> Scenario:
    """Job a, with a lease unless said otherwise, runs on n1; n2 is free."""
    s = Scenario().nodes("n[1-2]")
    s.submit("a", **{"lease_s": 300, **spec})
    assert s.plan() == {"a": "n1"}
    return s.started("a")


def end_lease(s: Scenario, *launch_ids: str) -> None:
    s.feed(LeasesEnded(now=s.now, name="n1", launch_ids=launch_ids))


def launch_of(s: Scenario, name: str = "a") -> str:
    return s.cluster.jobs[s.ids[name]].launch_id


@pytest.mark.parametrize("lease_s", [5, 20, 60, 300, 3600, 86400])
def test_we_hold_a_launch_for_longer_than_its_node_lets_it_live(lease_s: int) -> None:
    node_s = lease_s + grace_s(lease_s)
    assert hold_s(lease_s) >= node_s + SLACK_S + 0.1 * lease_s
    assert 2 <= grace_s(lease_s) <= 30


def test_a_launch_on_a_node_that_is_away_is_given_up_and_its_job_runs_elsewhere() -> None:
    s = running()
    first = launch_of(s)
    assert has_leases(s.cluster, "n1")
    assert leased_away(s.cluster) == []
    s.lose("n1")
    assert leased_away(s.cluster) == [("n1", first, 300)]
    end_lease(s, first)
    assert (s.state("a"), s.outcomes("a")) == ("PENDING", ["LEASE_ENDED"])
    assert s.plan() == {"a": "n2"}
    assert not has_leases(s.cluster, "n1")


def test_what_lives_all_the_same_is_killed_before_a_slot_opens() -> None:
    s = running()
    entry = s.entry("a", alive=True)
    s.lose("n1")
    end_lease(s, entry.launch_id)
    s.plan()
    s.connect("n1", entry)
    (kill,) = [e for e in s.last.effects if isinstance(e, KillLaunch)]
    assert (kill.launch_id, kill.signal) == (entry.launch_id, 9)
    s.submit("b", req_nodes=("n1",))
    assert s.plan() == {}
    s.feed(LaunchEnded(now=s.now, launch_id=entry.launch_id, record=LEASED))  # nothing new, and no second row
    assert [e.launch_ids for e in s.last.effects if isinstance(e, SweepLaunches)] == [(entry.launch_id,)]
    s.feed(LaunchesSwept(now=s.now, name="n1", launch_ids=(entry.launch_id,), survivors=()))
    assert s.plan() == {"b": "n1"}
    assert s.outcomes("a") == ["LEASE_ENDED"]


def test_of_a_node_that_is_back_its_listing_tells() -> None:
    s = running()
    entry = s.entry("a", alive=True)
    s.lose("n1").connect("n1", entry)
    end_lease(s, entry.launch_id)
    assert s.state("a") == "RUNNING"


def test_a_job_without_a_lease_is_never_given_up() -> None:
    s = running(lease_s=None)
    s.lose("n1")
    assert leased_away(s.cluster) == []
    end_lease(s, launch_of(s), "f" * 32)
    assert s.state("a") == "RUNNING"


@pytest.mark.parametrize(("requeue", "state"), [("yes", "PENDING"), ("always", "PENDING"), ("no", "NODE_FAIL")])
@pytest.mark.parametrize("heard", [False, True])
def test_whether_it_runs_again_is_what_was_asked_for_a_reboot(requeue: str, state: str, heard: bool) -> None:
    s = running(requeue=requeue)
    if heard:
        s.feed(LaunchEnded(now=s.now, launch_id=launch_of(s), record=LEASED))
    else:
        s.lose("n1")
        end_lease(s, launch_of(s))
    assert (s.state("a"), s.outcomes("a")) == (state, ["LEASE_ENDED"])


def test_a_cancel_that_could_not_be_delivered_comes_true() -> None:
    s = running()
    s.lose("n1").control("cancel", "a")
    end_lease(s, launch_of(s))
    assert (s.state("a"), s.outcomes("a")) == ("CANCELLED", ["LEASE_ENDED"])


def test_a_launch_that_may_never_have_arrived_is_given_up_too() -> None:
    s = Scenario().nodes("n[1-2]")
    s.submit("a", lease_s=300)
    s.plan()
    first = launch_of(s)
    s.lose("n1")
    end_lease(s, first)
    assert s.state("a") == "PENDING"
    s.connect("n1")
    assert [e.launch_ids for e in s.last.effects if isinstance(e, SweepLaunches)] == [(first,)]
