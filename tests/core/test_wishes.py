"""What else a job may ask of its nodes: CPUs and disk at least, preferred features, room for one task, licenses."""

import pytest
from scenario import Scenario

from sshq.core.licenses import parse_licenses
from sshq.core.model import NodeFacts
from sshq.errors import RefusedError


def test_a_node_has_the_cpus_free_that_are_asked_at_least():
    s = Scenario().nodes("n1", cpus=2).nodes("n2", cpus=8)
    s.submit("a", min_cpus=4)
    assert s.plan() == {"a": "n2"}
    assert s.cluster.nodes["n2"].cpus_taken == 1
    s.submit("b", min_cpus=8)
    assert s.plan() == {}
    assert s.reason("b") == "Resources"


def test_a_node_has_the_disk_that_is_asked():
    s = Scenario().nodes("n[1-2]")
    s.cluster.nodes["n1"].facts = NodeFacts(cpus=4, memory_mib=8000, tmp_disk_mib=100)
    s.cluster.nodes["n2"].facts = NodeFacts(cpus=4, memory_mib=8000, tmp_disk_mib=5000)
    s.submit("a", tmp_disk_mib=1000)
    assert s.plan() == {"a": "n2"}
    with pytest.raises(RefusedError, match="Requested node configuration is not available"):
        s.submit("b", tmp_disk_mib=6000)


def test_preferred_features_choose_and_never_bar():
    s = Scenario().nodes("n1").nodes("n2", features=("fast",), weight=9)
    s.submit("a", prefer="fast", num_tasks=4)
    s.submit("b", prefer="fast", num_tasks=4)
    assert s.plan() == {"a": "n2", "b": "n1"}
    with pytest.raises(RefusedError, match="Invalid feature specification"):
        s.submit("c", prefer="fast&&")


def test_overcommitted_tasks_share_the_room_of_one():
    s = Scenario().nodes("n1", cpus=2)
    s.submit("a", num_tasks=8, ntasks_given=True, overcommit=True)
    s.submit("b", num_tasks=6, cpus_per_task=2, overcommit=True)
    assert s.plan() == {"a": "n1"}
    assert (s.cluster.nodes["n1"].cpus_taken, s.job("a").slots, s.job("a").spec.num_tasks) == (1, (0,), 8)
    assert s.reason("b") == "Resources"


def test_licenses_are_counted_over_all_nodes():
    s = Scenario().nodes("n[1-4]")
    s.cluster.licenses = {"matlab": 3}
    for name in "abc":
        s.submit(name, licenses="matlab:2" if name == "a" else "matlab")
    s.submit("free")
    assert set(s.plan()) == {"a", "b", "free"}
    assert s.reason("c") == "Licenses"
    s.restart()
    for name in ("n1", "n2", "n3", "n4"):
        s.connect(name, *(s.entry(job, alive=True) for job in ("a", "b") if s.job(job).nodes == (name,)))
    s.cluster.licenses = {"matlab": 3}
    assert s.plan() == {}
    s.started("a").ended("a")
    assert set(s.plan()) == {"c"}


def test_an_array_takes_licenses_task_by_task():
    s = Scenario().nodes("n1", cpus=8)
    s.cluster.licenses = {"x": 2}
    s.submit("a", array="0-4", licenses="x", array_text="0-4")
    assert len(s.plan()) == 2


@pytest.mark.parametrize("text", ["matlab", "fluent:1", "x:4", "x:", ":2", "a b"])
def test_licenses_nobody_has_are_refused(text):
    s = Scenario().nodes("n1")
    s.cluster.licenses = {"x": 3}
    with pytest.raises(RefusedError, match="Batch job submission failed: Invalid license specification"):
        s.submit("a", licenses=text)


def test_licenses_are_read_as_slurm_writes_them():
    assert parse_licenses("a:2,b, a") == (("a", 3), ("b", 1))
    assert parse_licenses("") == ()


def test_a_job_that_cannot_end_before_its_deadline_is_given_up():
    s = Scenario().nodes("n1", cpus=1)
    s.submit("busy")
    s.plan()
    s.submit("a", deadline_at=s.now + 1000, time_limit_s=600)
    s.wait(400)
    assert s.state("a") == "PENDING"
    s.wait(1)
    assert (s.state("a"), s.job("a").reason) == ("DEADLINE", "DeadLine")
