"""Which node takes a request, or why each does not: the first step that fails is the rejection."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenario import Scenario, make_spec

from sshq.core.model import Job, JobSpec
from sshq.core.placement import Directories, Step, judge, read_request, request_of


def judge_on(s: Scenario, name: str, node: str = "n1") -> tuple[Step, str] | None:
    found = judge(request_of(s.job(name)), s.cluster.nodes[node], s.cluster.directories)
    return None if found is None else (found.step, found.detail)


def busy(**taken: object) -> Scenario:
    s = Scenario().nodes("n1", cpus=4, memory_mib=1000, features=("gpu", "x86")).nodes("n2", cpus=64, memory_mib=64000, features=("fpga",))
    s.nodes("m1", partitions=("other",), features=("fpga",))
    if taken:
        s.submit("taken", req_nodes=("n1",), **taken)
        s.plan()
    return s


@pytest.mark.parametrize(
    ("taken", "asked", "step", "words"),
    [
        ({}, {"partitions": ("other",)}, Step.NOT_ASKED, "not in partition other"),
        ({}, {"req_nodes": ("n2",)}, Step.NOT_ASKED, "not among --nodelist=n2"),
        ({}, {"exc_nodes": ("n1",)}, Step.NOT_ASKED, "excluded"),
        ({}, {"features": "fpga"}, Step.CONSTRAINT, "lacks fpga (has gpu,x86)"),
        ({}, {"num_tasks": 5}, Step.TOO_SMALL, "5 slots asked, 4 present"),
        ({}, {"cpus_per_task": 5}, Step.TOO_SMALL, "5 CPUs asked, 4 present"),
        ({}, {"memory_mib": 1001}, Step.TOO_SMALL, "1001 MiB asked, 1000 present"),
        ({}, {"memory_per_cpu_mib": 300, "num_tasks": 2, "cpus_per_task": 2}, Step.TOO_SMALL, "1200 MiB asked"),
        ({"num_tasks": 2}, {"num_tasks": 3}, Step.BUSY, "3 slots asked, 2 of 4 free"),
        ({"cpus_per_task": 3}, {"cpus_per_task": 2}, Step.BUSY, "2 CPUs asked, 1 of 4 free"),
        ({"memory_mib": 600}, {"memory_mib": 500}, Step.BUSY, "500 MiB asked, 400 of 1000 free"),
        ({"exclusive": True}, {}, Step.BUSY, "taken exclusively"),
        ({"num_tasks": 1}, {"exclusive": True}, Step.BUSY, "not empty"),
    ],
)
def test_the_first_step_that_fails_is_the_rejection(taken, asked, step, words) -> None:
    s = busy(**taken)
    s.submit("a", **asked)
    found = judge_on(s, "a")
    assert found is not None
    assert found[0] is step
    assert words in found[1]


@pytest.mark.parametrize(
    ("taken", "asked"),
    [
        ({}, {"num_tasks": 4, "memory_mib": 1000, "exclusive": True}),
        ({}, {"features": "gpu&x86"}),
        ({"num_tasks": 2, "memory_mib": 600}, {"num_tasks": 2, "memory_mib": 400}),
    ],
)
def test_what_just_fits_is_taken(taken, asked) -> None:
    s = busy(**taken)
    s.submit("a", **asked)
    assert judge_on(s, "a") is None


@pytest.mark.parametrize(("state", "words"), [("drain", "drained: because"), ("down", "down: because")])
def test_a_node_out_of_use_says_so(state, words) -> None:
    s = busy().set_node("n1", state)
    s.submit("a")
    assert judge_on(s, "a") == (Step.UNAVAILABLE, words)


def test_an_unreachable_node_says_why() -> None:
    s = busy().lose("n1")
    s.submit("a")
    assert judge_on(s, "a") == (Step.UNAVAILABLE, "unreachable: no route to host")


@pytest.mark.parametrize(
    ("answers", "anywhere", "takes", "private"),
    [
        ({}, False, False, None),  # nobody has answered yet: wait for the answer
        ({}, True, True, True),
        ({"n1": True}, False, True, False),
        ({"n1": False}, False, True, True),  # shared with nobody: a private directory
        ({"n1": False, "n2": True}, False, False, None),
        ({"n1": False, "n2": True}, True, True, True),
    ],
)
def test_a_directory_counts_where_it_is_proved(answers, anywhere, takes, private) -> None:
    from sshq.core.events import DirectoryProved

    s = busy()
    for node, shared in answers.items():
        s.feed(DirectoryProved(now=s.now, path="/work", node=node, shared=shared))
    s.submit("a", work_dir="/work", provable=True, anywhere=anywhere, req_nodes=("n1",))
    assert (judge_on(s, "a") is None) == takes
    assert s.plan() == ({"a": "n1"} if takes else {})
    if takes:
        assert s.job("a").private_dir == private


def test_a_proof_dies_with_its_connection() -> None:
    directories = Directories()
    directories.record("/work", "n1", shared=True, now=5.0)
    assert directories.answer("/work", "n1") is True
    assert directories.age_s("/work", "n1", 8.0) == 3.0
    directories.forget_node("n1")
    assert directories.answer("/work", "n1") is None
    assert not directories.is_shared_by_any("/work")


def test_a_node_that_has_used_up_its_launch_numbers_takes_nothing_until_it_reconnects() -> None:
    """The next number would belong to the next generation, whose floor would close it."""
    s = Scenario().nodes("n1")
    s.cluster.nodes["n1"].next_n = 1_000_000
    s.submit("a")
    assert s.plan() == {}
    s.connect("n1")
    assert s.plan() == {"a": "n1"}


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 2), st.sampled_from([None, 100, 400])), min_size=1, max_size=12))
def test_slots_given_are_distinct_and_within_the_node(jobs) -> None:
    s = Scenario().nodes("n1", cpus=6, memory_mib=1000)
    for i, (tasks, cpus, memory) in enumerate(jobs):
        s.submit(f"j{i}", num_tasks=tasks, cpus_per_task=cpus, memory_mib=memory)
    s.plan()
    running = [j for j in s.cluster.jobs.values() if not j.released]
    slots = [slot for j in running for slot in j.slots]
    assert len(slots) == len(set(slots))
    assert set(slots) <= set(range(6))
    assert sum(j.cpus for j in running) <= 6
    assert sum(share.memory_mib for j in running for share in j.shares()) <= 1000


@pytest.mark.parametrize("field", dataclasses.fields(JobSpec), ids=lambda field: field.name)
def test_a_request_that_is_kept_is_the_one_that_would_be_made(field: "dataclasses.Field[object]") -> None:
    bases = ({}, {"num_nodes": 2, "num_tasks": 4}, {"tree": "t", "provable": True}, {"provable": True, "seen_from": "n1"}, {"overcommit": True})
    values = {"tuple": ("n1",), "float": 3.0, "bool": True, "int": 3, "": "2"}  # by what the type's name contains
    odd = {"container": "image.sif", "licenses": "x:2", "reservations": ("r",), "memory_mib": 70}
    value = odd.get(field.name, next(value for word, value in values.items() if word in str(field.type)))
    for base in bases:
        job = Job(job_id=1, spec=make_spec(**base), spec_id=1, submit_at=0.0)
        for other in (job, dataclasses.replace(job, last_refused_by="n1")):
            request_of(other)  # kept
            changed = dataclasses.replace(other, spec=dataclasses.replace(other.spec, **{field.name: value}))
            assert request_of(changed) == read_request(changed)
            assert request_of(changed) is request_of(dataclasses.replace(changed, spec=dataclasses.replace(changed.spec)))
