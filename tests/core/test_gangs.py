"""Jobs over several nodes: all of them or none, filled in Slurm's order, ended by the loss of any."""

from dataclasses import replace

import pytest
from scenario import Scenario

from sshq.core.effects import AckLaunches, BringOutput, KillLaunch, StartLaunch
from sshq.core.events import EndRecord, FenceAnswered, LaunchRefused, LaunchStarted, NodeEntry
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
    assert s.cluster.pending.blocked(s.id("a")) == "PartitionConfig"


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


def two_nodes(**asked: object) -> Scenario:
    """A job "a" on n1 and n2, decided and not yet started."""
    s = Scenario().nodes("n[1-2]")
    s.submit("a", num_nodes=2, num_tasks=2, **asked)
    assert s.plan() == {"a": "n1"}
    return s


def part_of(s: Scenario, job: str = "a") -> str:
    (part,) = s.job(job).part_launches
    return part


def sent_by(s: Scenario) -> list[str]:
    return [effect.node for effect in s.last.effects if isinstance(effect, StartLaunch)]


def test_the_script_is_sent_when_the_other_nodes_are_there():
    s = two_nodes()
    assert sent_by(s) == ["n2"]
    assert s.cluster.launches[s.launch_id("a")].held
    s.part_started("a", 0)
    assert sent_by(s) == ["n1"]
    assert not s.cluster.launches[s.launch_id("a")].held
    assert s.state("a") == "CONFIGURING"
    s.feed(LaunchStarted(now=s.now, launch_id=s.launch_id("a"), pid=5))
    assert s.state("a") == "RUNNING"


def test_a_node_that_refuses_undoes_the_whole_job():
    s = two_nodes()
    first, part = s.launch_id("a"), part_of(s)
    s.feed(LaunchRefused(now=s.now, launch_id=part, why="no space"))
    assert (s.state("a"), s.job("a").note, s.job("a").refusals) == ("PENDING", "n2 refused it: no space", 1)
    assert s.job("a").last_refused_by == "n2"
    assert not s.cluster.launches
    assert [row.outcome.name for row in s.rows.accounting] == ["NEVER_STARTED", "NEVER_STARTED"]
    assert s.plan() == {"a": "n1"}
    assert s.launch_id("a") != first


def test_a_script_that_is_refused_waits_for_the_parts_it_undoes():
    s = two_nodes().part_started("a", 0)
    s.refused("a")
    assert (s.state("a"), kills_of(s)) == ("CONFIGURING", [("n2", part_of(s))])
    assert s.plan() == {}, "its other launch is open"
    s.part_ended("a", 0, how="cancel", cancelled=True)
    assert s.state("a") == "PENDING"
    assert s.plan() == {"a": "n1"}


def test_the_job_is_over_when_its_last_launch_is_settled():
    s = two_nodes().started("a")
    s.submit("next", exclusive=True, req_nodes=("n2",))
    s.script_ended("a", code=3)
    assert (s.state("a"), s.job("a").exit_code, kills_of(s)) == ("RUNNING", 3, [("n2", part_of(s))])
    assert s.control("cancel", "a") == ["ended"]
    assert s.control("requeue", "a") == ["refused"]
    assert s.control("suspend", "a", uid=0, admin=True) == ["refused"]
    s.restart()
    for name in ("n1", "n2"):
        entry = NodeEntry(launch_id=part_of(s), seq=s.rows.launches[part_of(s)].seq, job_id=s.id("a"), attempt=1, rank=1, go="file",
                          supervisor_alive=True, job_alive=True)  # fmt: skip
        s.connect(name, *([entry] if name == "n2" else []))
    assert kills_of(s)[-1] == ("n2", part_of(s)), "the order to end it may have been lost"
    assert s.plan() == {}
    s.part_ended("a", 0, how="cancel", cancelled=True)
    assert (s.state("a"), s.job("a").exit_code) == ("FAILED", 3)
    assert s.plan() == {"next": "n2"}


def test_output_comes_home_after_the_last_launch():
    s = Scenario().nodes("n[1-2]")
    s.submit("a", num_nodes=2, num_tasks=2, provable=True, work_dir="/w", anywhere=True)
    s.plan()
    s.started("a").script_ended("a", code=0)
    assert not any(isinstance(e, BringOutput) or (isinstance(e, AckLaunches) and s.launch_id("a") in e.launch_ids) for e in s.effects)
    s.part_ended("a", 0, how="cancel", cancelled=True)
    assert any(isinstance(e, BringOutput) for e in s.last.effects)


@pytest.mark.parametrize("started", [False, True])
def test_a_cancel_means_all_launches(started):
    s = two_nodes()
    if started:
        s.started("a")
    assert s.control("cancel", "a") == ["cancelled"]
    if started:
        assert kills_of(s) == [("n1", s.launch_id("a")), ("n2", part_of(s))]
        s.script_ended("a", how="cancel", cancelled=True, signal=15)
    else:
        assert kills_of(s) == [("n2", part_of(s))]
    assert s.state("a") != "CANCELLED"
    if started:
        s.part_ended("a", 0, how="cancel", cancelled=True)
    else:
        s.feed(FenceAnswered(now=s.now, launch_id=part_of(s), won=True))
    assert s.state("a") == "CANCELLED"
    assert not s.cluster.launches


def test_stopped_and_signalled_everywhere():
    s = two_nodes().started("a")
    s.control("suspend", "a", uid=0, admin=True)
    assert [(e.node, e.signal, e.whole) for e in s.last.effects if isinstance(e, KillLaunch)] == [("n1", 19, True), ("n2", 19, True)]
    s.control("resume", "a", uid=0, admin=True)
    s.control("cancel", "a", signal=10)
    assert [(e.node, e.signal, e.tasks_only) for e in s.last.effects if isinstance(e, KillLaunch)] == [("n1", 10, False), ("n2", 10, True)]


def test_a_node_that_rebooted_ends_the_job_and_it_runs_again():
    s = two_nodes().started("a")
    first = s.launch_id("a")
    s.lose("n2")
    assert (s.state("a"), kills_of(s)) == ("RUNNING", [])
    s.connect("n2", boot="another")
    assert kills_of(s) == [("n1", first)]
    assert s.state("a") == "RUNNING"
    s.script_ended("a", cancelled=True, signal=15)
    assert s.state("a") == "PENDING"
    assert s.plan() == {"a": "n1"}
    assert s.job("a").restarts == 1


@pytest.mark.parametrize(("requeue", "state"), [("no", "NODE_FAIL"), ("yes", "PENDING")])
def test_a_node_declared_down_ends_the_job(requeue, state):
    s = two_nodes(requeue=requeue).started("a")
    s.lose("n2")
    s.set_node("n2", "down")
    s.script_ended("a", cancelled=True, signal=15)
    assert s.state("a") == state
    assert not s.cluster.nodes["n2"].jobs


@pytest.mark.parametrize("which", ["n1", "n2"])
def test_a_node_declared_down_before_the_start(which):
    s = two_nodes()
    s.lose(which)
    s.set_node(which, "down")
    if which == "n1":
        s.feed(FenceAnswered(now=s.now, launch_id=part_of(s), won=True))
    assert s.state("a") == "PENDING"
    assert not s.cluster.launches


def test_a_part_that_ends_by_itself_ends_the_job():
    s = two_nodes().started("a")
    s.part_ended("a", 0, code=1)
    assert kills_of(s) == [("n1", s.launch_id("a"))]
    s.script_ended("a", cancelled=True, signal=15)
    assert s.state("a") == "PENDING"


def test_a_job_that_ended_well_before_it_heard_of_the_loss_is_completed():
    s = two_nodes().started("a")
    s.lose("n2")
    s.connect("n2", boot="another")
    s.script_ended("a", code=0)
    assert s.state("a") == "COMPLETED"


def test_jobs_of_the_release_before_have_nothing_on_their_other_nodes():
    s = two_nodes().started("a")
    part = s.cluster.launches.pop(part_of(s))
    s.cluster.node_launches["n2"].discard(part.id)
    s.cluster.jobs[s.id("a")] = replace(s.job("a"), part_launches=())
    s.lose("n2")
    s.connect("n2", boot="another")
    assert kills_of(s) == [("n1", s.launch_id("a"))]
    s.ended("a", cancelled=True, signal=15)
    assert s.state("a") == "PENDING"


def test_a_controller_that_restarts_before_the_script_was_sent_undoes_the_job():
    s = two_nodes()
    first = s.launch_id("a")
    s.restart()
    s.connect("n1")
    assert s.fences() == [], "nobody was ever told of it"
    part = part_of(s)
    s.connect("n2")
    assert s.fences() == [part]
    s.feed(FenceAnswered(now=s.now, launch_id=part, won=True))
    assert (s.state("a"), s.job("a").refusals) == ("PENDING", 0)
    assert s.plan() == {"a": "n1"}
    assert s.launch_id("a") != first


def test_a_restored_store_takes_in_the_parts_of_the_script_it_found():
    s = Scenario().nodes("n[1-2]")
    s.submit("a", num_nodes=2, num_tasks=2)
    for row in s.cluster.hold_after_restore(s.now):
        s.rows.jobs[row.job_id] = row
    entry = {"seq": 5_000_001, "job_id": s.id("a"), "attempt": 1, "go": "file", "supervisor_alive": True, "job_alive": True}
    part = NodeEntry(launch_id="b" * 32, rank=1, **entry)
    s.connect("n2", part)
    assert "b" * 32 in s.cluster.orphans, "its script is not known yet"
    s.connect("n1", NodeEntry(launch_id="a" * 32, **entry))
    s.sweep("n2", part)
    assert (s.state("a"), s.job("a").part_launches, s.job("a").nodes) == ("RUNNING", ("b" * 32,), ("n1", "n2"))
    s.script_ended("a", code=0)
    assert kills_of(s)[-1] == ("n2", "b" * 32)
    s.part_ended("a", 0, how="cancel", cancelled=True)
    assert s.state("a") == "COMPLETED"
    s.sweep("n2", NodeEntry(launch_id="c" * 32, rank=1, **entry))
    assert kills_of(s)[-1] == ("n2", "c" * 32), "a part whose script is over"


def test_a_part_of_a_job_nobody_knows_ends_once_no_node_runs_its_script():
    s = Scenario().nodes("n[1-3]", connected=False)
    entry = {"seq": 5_000_001, "job_id": 77, "attempt": 1, "go": "file", "supervisor_alive": True, "job_alive": True}
    part, script = NodeEntry(launch_id="b" * 32, rank=1, **entry), NodeEntry(launch_id="a" * 32, **entry)
    s.connect("n2", part)
    s.connect("n1", script)
    s.sweep("n2", part)
    assert kills_of(s) == [], "n3 has not been heard"
    s.connect("n3")
    s.sweep("n2", part)
    assert kills_of(s) == [], "its script runs on n1"
    s.sweep("n1", replace(script, supervisor_alive=False, job_alive=False, record=EndRecord(how="exit")))
    s.sweep("n2", part)
    assert kills_of(s) == [("n2", "b" * 32)]


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
