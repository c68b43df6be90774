"""Who waits for whom: woken by what ends, starts or is requeued, never by accident, and never forgotten."""

import pytest
from scenario import ANNA, BERT, Scenario, make_spec

from sshq.core import events as ev


def first(**spec: object) -> Scenario:
    s = Scenario().nodes("n1", cpus=8)
    s.submit("first", **spec)
    return s


@pytest.mark.parametrize(
    ("kind", "ok", "failed"),
    [
        ("after", "None", "None"),
        ("afterany", "None", "None"),
        ("afterok", "None", "DependencyNeverSatisfied"),
        ("afternotok", "DependencyNeverSatisfied", "None"),
        ("aftercorr", "None", "DependencyNeverSatisfied"),
    ],
)
def test_each_kind_after_each_end(kind, ok, failed) -> None:
    for code, reason in ((0, ok), (1, failed)):
        s = first()
        s.submit("then", dependency=f"{kind}:1")
        assert s.reason("then") == "Dependency"
        assert list(s.plan()) == ["first"]
        s.started("first")
        assert s.reason("then") == ("None" if kind == "after" else "Dependency")
        s.ended("first", code=code)
        assert s.reason("then") == reason
        assert s.rows.jobs[s.id("then")] == s.job("then")


def test_a_failure_that_is_retried_wakes_nobody() -> None:
    s = first(retries=1)
    s.submit("bad", dependency="afternotok:1")
    s.submit("good", dependency="afterok:1")
    s.run_to_end("first", code=1)
    assert [s.reason("bad"), s.reason("good")] == ["Dependency"] * 2
    s.run_to_end("first", code=0)
    assert [s.reason("bad"), s.reason("good")] == ["DependencyNeverSatisfied", "None"]


def test_an_allocation_is_not_yet_a_start() -> None:
    s = first()
    s.submit("then", dependency="after:1")
    s.plan()
    s.control("update", "then", changes={"comment": "look again"})
    assert s.reason("then") == "Dependency"
    s.refused("first")
    assert s.plan() == {"first": "n1"}
    s.started("first")
    assert s.plan() == {"then": "n1"}


def test_after_minutes_counts_from_the_start() -> None:
    s = first()
    s.submit("then", dependency="after:1+5")
    s.plan()
    s.started("first")
    s.wait(299)
    assert s.plan() == {}
    s.wait(1)
    assert s.plan() == {"then": "n1"}


@pytest.mark.parametrize("last", [0, 1, 2])
def test_an_array_is_over_when_its_last_task_is_whichever_that_is(last) -> None:
    """The task that keeps the array's id may end before the others."""
    s = Scenario().nodes("n1", cpus=8)
    s.submit("a", array="0-2")
    s.submit("then", dependency=f"afterok:{s.id('a')}")
    s.plan()
    order = [i for i in range(3) if i != last] + [last]
    for task in order:
        assert s.plan() == {}
        s.started(f"a_{task}").ended(f"a_{task}")
    assert s.plan() == {"then": "n1"}


def test_one_task_of_an_array_can_be_waited_for() -> None:
    s = Scenario().nodes("n1", cpus=1)
    s.submit("a", array="0-2")
    s.submit("then", dependency="afterok:1_1", priority=4294967294)
    s.run_to_end("a_0")
    assert list(s.plan()) == ["a_1"]
    s.started("a_1").ended("a_1")
    assert s.plan() == {"then": "n1"}


def test_a_failed_and_purged_task_still_counts() -> None:
    s = Scenario().nodes("n1", cpus=1)
    s.submit("a", array="0-1")
    s.submit("then", dependency="afterok:1")
    s.run_to_end("a_0", code=1)
    s.purge(keep=0)
    s.run_to_end("a_1", code=0)
    assert s.reason("then") == "DependencyNeverSatisfied"


@pytest.mark.parametrize("delay", ["held", "restart", "update"])
def test_what_was_satisfied_stays_so_while_the_job_waits_for_something_else(delay) -> None:
    s = first()
    s.submit("then", dependency="afterok:1", held=delay == "held")
    s.run_to_end("first")
    s.purge(keep=0)
    match delay:
        case "held":
            s.control("release", "then")
        case "restart":
            s.restart().connect("n1")
        case "update":
            s.control("update", "then", changes={"comment": "x"})
    assert s.plan() == {"then": "n1"}
    s.started("then").ended("then")
    s.purge(keep=0)
    assert not s.cluster.jobs, "nobody waits any more: nothing is kept"


@pytest.mark.parametrize(("kind", "then"), [("after", "retried"), ("afterok", "requeued"), ("afterany", "requeued")])
def test_what_was_met_stays_met_whatever_becomes_of_the_job_it_named(kind, then) -> None:
    s = Scenario().nodes("n1", cpus=1)
    s.submit("first", retries=1)
    s.submit("then", dependency=f"{kind}:1")
    s.plan()
    s.started("first")
    if then == "retried":
        s.ended("first", code=1)
    else:
        s.ended("first")
        s.control("requeue", "first")
    s.control("update", "then", changes={"comment": "look again"})
    assert s.reason("then") == "None"
    s.restart().connect("n1")
    assert "then" in s.plan()


def test_what_was_met_stays_met_while_the_begin_time_is_waited_for() -> None:
    s = Scenario().nodes("n1", cpus=1)
    s.submit("first", retries=1)
    begin_at = s.now + 100
    s.submit("then", dependency="after:1", begin_at=begin_at)
    s.plan()
    s.started("first").ended("first", code=1)
    assert (s.reason("then"), s.job("then").eligible_at) == ("BeginTime", begin_at)
    s.restart().connect("n1")
    assert s.reason("then") == "BeginTime"
    s.control("update", "then", changes={"begin_at": begin_at - 50})
    assert s.job("then").eligible_at == begin_at - 50
    s.wait(51)
    assert (s.reason("then"), s.job("then").eligible_at) == ("None", begin_at - 50)


def test_a_job_cancelled_while_it_waited_waits_again_when_requeued() -> None:
    s = first()
    s.submit("then", dependency="afterok:1")
    s.control("cancel", "then")
    s.control("requeue", "then")
    assert s.reason("then") == "Dependency"
    s.run_to_end("first")
    assert s.plan() == {"then": "n1"}


def test_a_new_dependency_makes_an_eligible_job_wait() -> None:
    s = first()
    s.submit("then")
    s.control("update", "then", changes={"dependency": "afterok:1"})
    assert s.reason("then") == "Dependency"
    assert s.plan() == {"first": "n1"}


def test_hope_comes_back_with_a_requeue() -> None:
    s = first()
    s.submit("then", dependency="afterok:1")
    s.run_to_end("first", code=1)
    assert s.reason("then") == "DependencyNeverSatisfied"
    s.control("requeue", "first")
    assert s.reason("then") == "Dependency"
    s.run_to_end("first", code=0)
    assert s.plan() == {"then": "n1"}


def test_killing_on_an_invalid_dependency_works_down_a_long_chain() -> None:
    s = first()
    for i in range(2, 3000):
        s.submit(f"j{i}", dependency=f"afterok:{i - 1}", kill_on_invalid_dep=True)
    s.run_to_end("first", code=1)
    assert s.all_final()
    assert s.state("j2999") == "CANCELLED"
    assert s.reason("j2999") == "DependencyNeverSatisfied"


def test_a_dead_dependency_found_at_a_restart_is_stored() -> None:
    s = first()
    s.submit("then", dependency="afterok:1", kill_on_invalid_dep=True, held=True)
    s.submit("last", dependency="afterok:2", kill_on_invalid_dep=True)
    s.run_to_end("first", code=1)
    s.control("cancel", "then")
    s.restart()
    assert {i: j.state for i, j in s.rows.jobs.items()} == {i: j.state for i, j in s.cluster.jobs.items()}


def test_an_unknown_job_satisfies_nothing() -> None:
    s = Scenario().nodes("n1")
    s.submit("a", dependency="afterany:77")
    assert s.reason("a") == "DependencyNeverSatisfied"
    assert s.plan() == {}


def test_any_of_several_is_enough() -> None:
    s = first()
    s.submit("second")
    s.submit("then", dependency="afterok:1?afterok:2")
    s.plan()
    s.started("first", "second").ended("first", code=1)
    assert s.reason("then") == "Dependency"
    s.ended("second", code=0)
    assert s.plan() == {"then": "n1"}


def test_an_update_of_the_dependency_takes_effect_and_forgets_the_old_one() -> None:
    s = first()
    s.submit("then", dependency="afterok:1")
    s.control("update", "then", changes={"dependency": ""})
    assert "then" in s.plan()
    s.started("first").ended("first")
    s.purge(keep=0)
    assert s.id("first") not in s.cluster.jobs


def test_singletons_of_one_name_and_user_come_one_by_one_in_their_order() -> None:
    s = Scenario().nodes("n1", cpus=8)
    for i in range(3):
        s.submit("same", dependency="singleton")
        s.ids[f"same{i}"] = s.ids["same"]
    s.submit("other", dependency="singleton")
    s.submit("same", dependency="singleton", uid=BERT)
    s.ids["bert"] = s.ids["same"]
    del s.ids["same"]
    assert set(s.plan()) == {"same0", "other", "bert"}
    for i in range(2):
        s.started(f"same{i}").ended(f"same{i}", code=1)
        assert list(s.plan()) == [f"same{i + 1}"]


def test_a_singleton_waits_for_a_later_one_that_came_into_the_queue_before_it() -> None:
    s = Scenario().nodes("n1", cpus=8)
    members = (ev.Member(shared=make_spec("same", dependency="singleton"), own={"script": "00"}, script=b""),)
    s.feed(ev.SubmittedTogether(members=members))  # numbered, and being stored
    jobs = tuple(s.last.result.make_jobs(members, 0, s.now))
    s.submit("same", dependency="singleton")
    assert list(s.plan()) == ["same"]
    s.started("same")
    s.rows.jobs |= {job.job_id: job for job in jobs}
    s.feed(ev.StoredTogether(now=s.now, jobs=jobs))
    s.ids["first"] = jobs[0].job_id
    assert s.plan() == {} and s.reason("first") == "Dependency"
    s.ended("same")
    assert list(s.plan()) == ["first"]


def test_a_singleton_waits_for_a_later_one_whose_turn_has_come_already() -> None:
    s = Scenario().nodes("n1", cpus=1)
    s.submit("in-the-way")
    s.plan()
    s.started("in-the-way")
    members = (ev.Member(shared=make_spec("same", dependency="singleton"), own={"script": "00"}, script=b""),)
    s.feed(ev.SubmittedTogether(members=members))
    jobs = tuple(s.last.result.make_jobs(members, 0, s.now))
    s.submit("same", dependency="singleton")  # nobody is before it: it waits for room alone
    s.rows.jobs |= {job.job_id: job for job in jobs}
    s.feed(ev.StoredTogether(now=s.now, jobs=jobs))
    s.ids["first"] = jobs[0].job_id
    s.nodes("n2", cpus=8)
    assert list(s.plan()) == ["same"]
    assert s.reason("first") == "Dependency"
    s.started("same").ended("same")
    assert list(s.plan()) == ["first"]


def test_a_singleton_waits_no_longer_for_one_that_was_requeued_and_held() -> None:
    s = Scenario().nodes("n1", cpus=8)
    s.submit("same", held=True)
    s.ids["before"] = s.ids["same"]
    s.submit("same", dependency="singleton")
    s.ids["singleton"] = s.ids["same"]
    s.submit("same")
    assert list(s.plan()) == ["same"]
    s.started("same").control("cancel", "before")
    assert s.plan() == {} and s.reason("singleton") == "Dependency"  # one of its name runs
    s.control("requeue", "same", hold=True)
    s.ended("same", code=None, signal=15, cancelled=True)
    assert s.reason("same") == "JobHeldUser"
    assert list(s.plan()) == ["singleton"]


@pytest.mark.parametrize("how", ["cancelled", "renamed"])
def test_a_singleton_goes_on_when_the_one_before_leaves_its_name(how) -> None:
    s = Scenario().nodes("n1", cpus=8)
    s.submit("same", held=True)
    s.ids["before"] = s.ids["same"]
    s.submit("same", dependency="singleton")
    assert s.plan() == {}
    if how == "cancelled":
        s.control("cancel", "before")
    else:
        s.control("update", "before", uid=ANNA, changes={"name": "another"})
    assert list(s.plan().values()) == ["n1"]


def test_a_retried_singleton_keeps_its_successor_waiting() -> None:
    s = Scenario().nodes("n1", cpus=8)
    s.submit("same", retries=1)
    s.ids["before"] = s.ids["same"]
    s.submit("same", dependency="singleton")
    s.plan()
    s.started("before").ended("before", code=1)
    assert s.reason("same") == "Dependency"
