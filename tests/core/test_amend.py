"""scontrol update and top: what changes a job in each state, and who is told."""

import pytest
from scenario import ANNA, BERT, ROOT, Scenario

from sshq.core.effects import SetLimit
from sshq.core.lifecycle import State


def limits(s):
    return [(e.launch_id, e.limit_s) for e in s.last.effects if isinstance(e, SetLimit)]


def update(s, job, by=ROOT, **changes):
    return s.control("update", job, uid=by, admin=by == ROOT, changes=changes)


def test_a_running_jobs_new_limit_is_told_at_once_and_at_each_connect():
    s = Scenario().nodes("n1")
    s.submit("a", time_limit_s=600)
    s.plan()
    assert update(s, "a", time_limit_s=1200) == ["done"]  # launched, not yet started: said again with its start
    s.started("a")
    assert limits(s) == [(s.launch_id("a"), 1200)]
    assert update(s, "a", time_limit_s=-1) == ["done"]
    assert limits(s) == [(s.launch_id("a"), None)]
    assert s.job("a").spec.time_limit_s is None
    s.lose("n1")
    assert update(s, "a", time_limit_s=60) == ["done"]
    assert "cannot be reached now" in s.last.result[0].message
    s.connect("n1", s.entry("a", alive=True))
    assert limits(s) == [(s.launch_id("a"), 60)]
    s.restart()
    s.connect("n1", s.entry("a", alive=True))
    assert limits(s) == [(s.launch_id("a"), 60)]


def test_who_never_changed_its_limit_is_not_told_it():
    s = Scenario().nodes("n1")
    s.submit("a", time_limit_s=600)
    s.plan()
    s.started("a")
    assert update(s, "a", comment="hi") == ["done"]
    assert limits(s) == []
    s.lose("n1").connect("n1", s.entry("a", alive=True))
    assert limits(s) == []


def test_an_end_time_is_a_limit():
    s = Scenario().nodes("n1")
    s.submit("a", time_limit_s=600)
    assert update(s, "a", end_at=s.now + 300) == ["refused"]
    s.plan()
    s.started("a")
    assert update(s, "a", end_at=s.now + 300) == ["done"]
    assert s.job("a").spec.time_limit_s == 300


def test_users_lower_their_limits_and_priorities_and_raise_neither():
    s = Scenario().nodes("n1", cpus=1)
    s.submit("a", time_limit_s=600)
    s.plan()
    s.started("a")
    assert update(s, "a", ANNA, time_limit_s=660) == ["denied"]
    assert update(s, "a", ANNA, time_limit_s=540) == ["done"]
    assert update(s, "a", BERT, time_limit_s=60) == ["denied"]
    s.submit("b")
    assert update(s, "b", ANNA, priority=77) == ["done"]
    assert update(s, "b", ANNA, priority=4294967290) == ["denied"]


def test_the_throttle_of_an_array_is_lifted_while_it_runs():
    s = Scenario().nodes("n1", cpus=8)
    s.submit("a", array="1-6", array_limit=2)
    assert len(s.plan()) == 2
    assert set(update(s, "a", array_limit=3)) == {"done"}
    assert len(s.plan()) == 1
    assert set(update(s, "a", array_limit=0)) == {"done"}
    assert len(s.plan()) == 3


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"num_cpus": 4}, "cpus_per_task", 4),
        ({"num_nodes": 2}, "num_tasks", 2),
        ({"num_tasks": 3}, "ntasks_given", True),
        ({"req_nodes": ["n2"]}, "req_nodes", ("n2",)),
        ({"features": ""}, "features", None),
        ({"memory_per_cpu_mib": 50}, "memory_mib", None),
        ({"work_dir": "/elsewhere"}, "work_dir", "/elsewhere"),
        ({"std_out": "x.out"}, "std_out", "x.out"),
        ({"min_cpus": 2}, "min_cpus", 2),
        ({"licenses": ""}, "licenses", None),
    ],
)
def test_a_pending_job_is_another_job(changes, field, value):
    s = Scenario().nodes("n[1-2]")
    s.submit("a", memory_mib=100)
    assert update(s, "a", **changes) == ["done"]
    assert getattr(s.job("a").spec, field) == value
    assert s.state("a") == State.PENDING.name


def test_what_no_node_can_hold_is_refused_unless_the_job_is_held():
    s = Scenario().nodes("n1", memory_mib=100)
    s.submit("a")
    assert update(s, "a", memory_mib=200) == ["refused"]
    s.control("hold", "a", uid=ROOT, admin=True)
    assert update(s, "a", memory_mib=200) == ["done"]


def test_the_top_of_ones_own_jobs_passes_nobody_elses():
    s = Scenario().nodes("n1", cpus=1)
    s.submit("x")
    s.plan()
    for name, uid in (("a", ANNA), ("b", BERT), ("c", ANNA), ("d", ANNA)):
        s.submit(name, uid=uid)
    assert s.control("top", "d") == ["denied"]
    assert s.control("top", "d", uid=ROOT, admin=True) == ["done"]
    assert s.control("top", "x", uid=ROOT, admin=True) == ["refused"]
    order = []
    running = "x"
    for _ in range(4):
        s.started(running).ended(running)
        (running,) = s.plan()
        order.append(running)
    assert order == ["d", "b", "a", "c"]
