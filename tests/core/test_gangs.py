"""Jobs over several nodes: all of them or none, filled in Slurm's order, ended by the loss of any."""

import pytest
from scenario import Scenario

from sshq.core.effects import KillLaunch
from sshq.core.placement import request_of, spread


def kills_of(s: Scenario) -> list[tuple[str, str]]:
    return [(effect.node, effect.launch_id) for effect in s.effects if isinstance(effect, KillLaunch)]


def parts_of(s: Scenario, job: str) -> list[tuple[str, int]]:
    return [(share.node, len(share.slots)) for share in s.job(job).shares()]


@pytest.mark.parametrize(("asked", "parts"), [
    ({"num_nodes": 2, "num_tasks": 2}, [("n1", 1), ("n2", 1)]),
    ({"num_nodes": 2, "num_tasks": 4, "cpus_per_task": 2}, [("n1", 3), ("n2", 1)]),  # 8 CPUs a node: 3(6), 1(2), as Slurm
    ({"num_nodes": 2, "num_tasks": 6, "ntasks_per_node": 3}, [("n1", 3), ("n2", 3)]),
    ({"num_nodes": 2, "num_tasks": 12}, [("n1", 8), ("n2", 4)]),
    ({"num_nodes": 3, "num_tasks": 3}, [("n1", 1), ("n2", 1), ("n10", 1)]),  # n10 stands behind n2
    ({"num_nodes": 2, "num_tasks": 2, "req_nodes": ("n2", "n10")}, [("n2", 1), ("n10", 1)]),
    ({"num_nodes": 2, "num_tasks": 2, "req_nodes": ("n10",)}, [("n1", 1), ("n10", 1)]),
    ({"num_nodes": 2, "num_tasks": 2, "exc_nodes": ("n1",)}, [("n2", 1), ("n10", 1)]),
    ({"num_nodes": 2, "num_tasks": 4, "memory_per_cpu_mib": 400}, [("n1", 2), ("n2", 2)]),
    ({"num_nodes": 2, "num_tasks": 2, "memory_mib": 900}, [("n1", 1), ("n2", 1)]),
])  # fmt: skip
def test_tasks_are_spread_as_slurm_spreads_them(asked, parts):
    s = Scenario().nodes("n1,n2,n10", cpus=8, memory_mib=1000)
    s.submit("a", **asked)
    assert s.plan() == {"a": parts[0][0]}
    assert parts_of(s, "a") == parts
    assert [(name, node.cpus_taken) for name, node in s.cluster.nodes.items() if node.jobs] == [
        (name, tasks * asked.get("cpus_per_task", 1)) for name, tasks in parts
    ]
    s.started("a").ended("a", code=0)
    assert s.state("a") == "COMPLETED"
    assert not any(node.jobs or node.slots_taken or node.cpus_taken or node.memory_taken_mib for node in s.cluster.nodes.values())


def test_all_nodes_or_none():
    s = Scenario().nodes("n[1-2]", cpus=4)
    s.submit("filler", num_tasks=4, req_nodes=("n1",))
    s.plan()
    s.submit("gang", num_nodes=2, num_tasks=2)
    assert s.plan() == {}
    assert not s.cluster.nodes["n2"].jobs
    s.started("filler").ended("filler", code=0)
    assert s.plan() == {"gang": "n1"}


def test_more_nodes_than_there_are_wait_with_slurms_reason():
    s = Scenario().nodes("n[1-2]")
    s.submit("a", num_nodes=3, num_tasks=3)
    s.plan()
    assert s.cluster.pending.blocked[request_of(s.job("a"))] == "PartitionConfig"


def test_a_gang_is_not_passed_over_for_ever():
    s = Scenario().nodes("n[1-2]", cpus=2)
    s.submit("first", num_tasks=2, req_nodes=("n1",))
    s.plan()
    s.submit("gang", num_nodes=2, num_tasks=2)
    s.submit("small")
    assert s.plan() == {}, "n2 is kept for the gang"
    s.started("first").ended("first", code=0)
    assert s.plan()["gang"] == "n1"


def test_larger_nodes_are_taken_where_the_first_do_not_hold_the_tasks():
    s = Scenario().nodes("n[1-2]", cpus=1).nodes("n[3-4]", cpus=4)
    s.submit("a", num_nodes=2, num_tasks=7)
    s.plan()
    assert parts_of(s, "a") == [("n3", 4), ("n4", 3)]


def test_a_node_that_rebooted_ends_the_job_and_it_runs_again():
    s = Scenario().nodes("n[1-2]")
    s.submit("a", num_nodes=2, num_tasks=2)
    s.plan()
    s.started("a")
    first = s.launch_id("a")
    s.lose("n2")
    assert (s.state("a"), kills_of(s)) == ("RUNNING", [])
    s.connect("n2", boot="another")
    assert kills_of(s) == [("n1", first)]
    assert s.state("a") == "RUNNING"
    s.ended("a", cancelled=True, signal=15)
    assert s.state("a") == "PENDING"
    assert s.plan() == {"a": "n1"}
    assert s.job("a").restarts == 1


@pytest.mark.parametrize(("requeue", "state"), [("no", "NODE_FAIL"), ("yes", "PENDING")])
def test_a_node_declared_down_ends_the_job(requeue, state):
    s = Scenario().nodes("n[1-2]")
    s.submit("a", num_nodes=2, num_tasks=2, requeue=requeue)
    s.plan()
    s.started("a")
    s.lose("n2")
    s.set_node("n2", "down")
    s.ended("a", cancelled=True, signal=15)
    assert s.state("a") == state
    assert not s.cluster.nodes["n2"].jobs


def test_a_job_that_ended_well_before_it_heard_of_the_loss_is_completed():
    s = Scenario().nodes("n[1-2]")
    s.submit("a", num_nodes=2, num_tasks=2)
    s.plan()
    s.started("a")
    s.lose("n2")
    s.connect("n2", boot="another")
    s.ended("a", code=0)
    assert s.state("a") == "COMPLETED"


def test_a_node_with_a_part_of_a_job_stays_after_its_removal():
    s = Scenario().nodes("n[1-2]")
    s.submit("a", num_nodes=2, num_tasks=2)
    s.plan()
    s.started("a")
    del s.configs["n2"]
    s.load()
    assert "n2" in s.cluster.nodes
    s.ended("a", code=0)
    s.lose("n2")
    assert "n2" not in s.cluster.nodes


def test_spread_gives_nothing_where_the_named_nodes_are_not_there():
    s = Scenario().nodes("n[1-3]")
    s.submit("a", num_nodes=2, num_tasks=2, req_nodes=("n3",))
    nodes = s.cluster.nodes
    assert spread(request_of(s.job("a")), [(nodes["n1"], 4), (nodes["n2"], 4)]) == []
