"""Arrays from one record to tasks with lives of their own: none twice, none lost, %N kept."""

import pytest
from scenario import Scenario

from sshq.core.arrays import parse_indices


def array(tasks: str = "0-4", *, cpus: int = 2, **spec: object) -> Scenario:
    s = Scenario().nodes("n1", cpus=cpus)
    s.submit("a", array=tasks, **spec)
    return s


def record_of(s: Scenario) -> str | None:
    found = [j for j in s.cluster.jobs.values() if j.is_array_record]
    assert len(found) <= 1
    return found[0].array_tasks if found else None


def test_tasks_leave_the_record_one_by_one_and_the_last_keeps_its_id() -> None:
    s = array("3-5", cpus=1)
    ids = []
    for left in ("4-5", "5", None):
        (name,) = s.plan()
        assert record_of(s) == left
        ids.append(s.id(name))
        s.started(name).ended(name)
    assert ids == [2, 3, 1]
    assert s.states("a_3", "a_4", "a_5") == ["COMPLETED"] * 3


def test_a_pass_starts_as_many_as_fit() -> None:
    s = array(cpus=3)
    assert s.plan() == {"a_0": "n1", "a_1": "n1", "a_2": "n1"}
    assert record_of(s) == "3-4"


def test_the_limit_counts_every_task_whatever_became_of_it() -> None:
    s = array("0-5", cpus=6, array_limit=2, retries=1)
    assert list(s.plan()) == ["a_0", "a_1"]
    assert s.plan() == {}
    s.started("a_0").ended("a_0", code=1)
    assert len(s.plan()) == 1, "one place, for the retried one or the next"
    s.control("hold", "a", tasks=(4, 5))
    s.control("release", "a", tasks=(4, 5))
    assert s.plan() == {}, "tasks with jobs of their own count too"
    s.control("update", "a", changes={"num_tasks": 2}, tasks=(5,))
    assert s.plan() == {}


@pytest.mark.parametrize("verb", ["cancel", "hold", "release", "requeue", "suspend", "resume", "update"])
@pytest.mark.parametrize("tasks", [(0,), (2, 4), (0, 1, 2, 3, 4)])
def test_whatever_verb_meets_some_tasks_none_is_lost(verb, tasks) -> None:
    s = array(cpus=9)
    s.control(verb, "a", tasks=tasks, changes={"uid": 5})
    s.control("release", "a")
    started = {int(name.partition("_")[2]) for name in s.plan()}
    assert started == set(range(5)) - (set(tasks) if verb == "cancel" else set())


def test_tasks_that_do_not_exist_are_unknown() -> None:
    s = array()
    assert s.control("cancel", "a", tasks=(2, 77)) == ["cancelled", "unknown"]


def test_a_cancelled_record_can_still_be_asked_about_and_requeued() -> None:
    s = array()
    s.control("cancel", "a")
    assert s.control("cancel", "a", tasks=(3,)) == ["ended"]
    s.submit("b", dependency=f"afterany:{s.id('a')}_3")
    assert s.plan() == {"b": "n1"}
    s.started("b").ended("b")
    assert s.control("requeue", "a", tasks=(3,)) == ["done"]
    assert s.plan() == {"a_3": "n1"}
    s.started("a_3").ended("a_3")
    assert set(s.control("requeue", "a")) == {"done"}
    assert set(s.plan()) == {"a_3", "a_0"}


def test_the_whole_array_means_the_record_and_all_its_tasks() -> None:
    s = array()
    s.plan()
    assert s.control("cancel", "a") == ["cancelled"] * 3
    s.started("a_0", "a_1").ended("a_0", "a_1", signal=15, cancelled=True)
    assert s.all_final()


def test_a_verb_on_all_that_is_left_of_an_array_splits_nothing_off() -> None:
    s = array("0-99999", cpus=1)
    assert s.plan() == {"a_0": "n1"}
    assert s.control("hold", "a", tasks=tuple(range(1, 100000))) == ["done"]
    assert len(s.cluster.jobs) == 2
    assert record_of(s) == "1-99999"


def test_another_users_verb_splits_nothing_off() -> None:
    s = array()
    assert s.control("cancel", "a", uid=4711, tasks=(1, 2)) == ["denied"]
    assert record_of(s) == "0-4"


def test_a_task_split_off_while_its_array_waits_goes_on_waiting_for_the_same() -> None:
    s = Scenario().nodes("n1", cpus=9)
    s.submit("first")
    s.submit("a", array="0-2", dependency="afterok:1")
    s.control("hold", "a", tasks=(1,))
    s.control("release", "a", tasks=(1,))
    assert s.reason("a_1") == "Dependency"
    s.run_to_end("first")
    assert set(s.plan()) == {"a_0", "a_1", "a_2"}


@pytest.mark.parametrize("after", range(1, 5))
def test_a_restart_keeps_every_task(after) -> None:
    s = array("0-5", cpus=2, array_limit=2)
    seen: list[str] = []
    for step in range(10):
        if step == after:
            s.restart().connect("n1", *[s.entry(f"a_{j.array_task_id}", alive=True) for j in s.cluster.jobs.values() if not j.released])
        names = s.plan()
        seen += names
        s.started(*names).ended(*names)
    assert sorted(seen) == [f"a_{i}" for i in range(6)]
    assert s.all_final()


def test_a_task_that_is_named_is_purged_alone() -> None:
    s = array("0-3", cpus=4)
    s.run_to_end("a_0", "a_1", "a_2", "a_3")
    s.purge(tasks=frozenset({(s.ids["a"], 1), (s.ids["a"], 2), (s.ids["a"], 9)}))
    assert sorted(job.array_task_id for job in s.cluster.jobs.values()) == [0, 3]


def test_purging_finished_tasks_keeps_the_others_together() -> None:
    s = array("0-2", cpus=1)
    s.run_to_end("a_0")
    s.purge(keep=0)
    assert s.cluster.array_members[s.ids["a"]] == {1}
    s.run_to_end("a_1").run_to_end("a_2")
    s.purge(keep=0)
    assert not s.cluster.jobs
    assert not s.cluster.array_members
    assert not s.cluster.array_sets
    assert not s.cluster.environments


def test_a_large_array_is_one_record_and_one_row() -> None:
    s = array("0-999999")
    assert len(s.cluster.jobs) == 1
    s.plan()
    assert record_of(s) == "2-999999"
    assert len(parse_indices(record_of(s) or "")) == 999_998
