"""A pass: who starts where, what the others are told, and that nobody is passed over for ever."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenario import Scenario

from sshq.core.schedule import STARTS_MAX, schedule


def test_first_come_first_served_on_the_fullest_node_then_by_name() -> None:
    s = Scenario().nodes("n[1-2]", cpus=2)
    for name in "abc":
        s.submit(name)
    assert s.plan() == {"a": "n1", "b": "n1", "c": "n2"}


def test_the_lightest_weight_comes_before_the_fullest() -> None:
    s = Scenario().nodes("n1", weight=5).nodes("n2", weight=1)
    s.submit("a")
    s.submit("b")
    assert s.plan() == {"a": "n2", "b": "n2"}


TREE = {"tree": "a" * 64, "frozen": True}


def had_tree(s: Scenario, node: str) -> Scenario:
    s.submit("before", req_nodes=(node,), **TREE)
    s.plan()
    return s.run_to_end("before")


def test_a_host_that_has_the_files_is_taken_before_others_that_do_as_well() -> None:
    s = had_tree(Scenario().nodes("n[1-3]", cpus=2), "n3")
    s.submit("other", tree="b" * 64)
    s.submit("none")
    assert s.plan() == {"other": "n1", "none": "n1"}
    for name in "abc":
        s.submit(name, **TREE)
    assert s.plan() == {"a": "n3", "b": "n3", "c": "n2"}  # n1 is full, and n3 then, too


@pytest.mark.parametrize(
    ("nodes", "wish"),
    [
        ({"weight": 2}, {}),  # the inventory's word
        ({}, {"exc_nodes": ("n2",)}), ({"features": ("slow",)}, {"prefer": "fast"}), ({"cpus": 1}, {"num_tasks": 2}),
    ],
)  # fmt: skip
def test_files_are_no_reason_against_fit_weight_or_preference(nodes, wish) -> None:
    s = had_tree(Scenario().nodes("n1", cpus=4, features=("fast",)).nodes("n2", **{"cpus": 4} | nodes), "n2")
    s.submit("a", **TREE, **wish)
    assert s.plan() == {"a": "n1"}


@pytest.mark.parametrize(
    ("first", "second", "order"),
    [
        ({}, {}, ["first", "second"]),
        ({"nice": 10}, {}, ["second", "first"]),
        ({}, {"priority": 4294967294}, ["second", "first"]),
        ({"priority": 1}, {}, ["second", "first"]),
    ],
)
def test_priority_decides_who_is_first(first, second, order) -> None:
    s = Scenario().nodes("n1", cpus=1)
    s.submit("first", **first)
    s.submit("second", **second)
    assert list(s.plan()) == order[:1]


def test_the_head_waits_for_resources_and_holds_one_node_open_for_itself() -> None:
    s = Scenario().nodes("n[1-2]", cpus=4)
    for name in ("a", "b"):
        s.submit(name, num_tasks=3)
    assert s.plan() == {"a": "n1", "b": "n2"}
    s.submit("wide", num_tasks=4)
    for i in range(4):
        s.submit(f"small{i}")
    placed = s.plan()
    assert len(placed) == 1, "one of the two nodes is kept open"
    assert s.reason("wide") == "Resources"
    s.started("a", "b").ended("a", "b")
    assert s.plan()["wide"] in ("n1", "n2")


def test_a_wide_job_gets_its_turn_among_a_stream_of_small_ones() -> None:
    s = Scenario().nodes("n[1-2]", cpus=2)
    for i in range(4):
        s.submit(f"old{i}")
    s.plan()
    s.submit("wide", num_tasks=2)
    running = [f"old{i}" for i in range(4)]
    for i in range(20):
        s.submit(f"new{i}")
        ends = running.pop(0)
        s.started(ends).ended(ends)
        placed = s.plan()
        if "wide" in placed:
            break
        running += list(placed)
    assert s.state("wide") == "CONFIGURING"
    assert i <= 4


@pytest.mark.parametrize(
    ("asked", "partition", "reason"),
    [
        ({"time_limit_s": 3600}, {"max_time_s": 600}, "PartitionTimeLimit"),
        ({}, {"up": False}, "PartitionDown"),
        ({"num_nodes": 2}, {}, "PartitionConfig"),
        ({"num_tasks": 99}, {}, "PartitionConfig"),
    ],
)
def test_what_its_partition_does_not_allow_waits_with_the_reason(asked, partition, reason) -> None:
    s = Scenario().nodes("n1").partition("lab", **partition)
    s.submit("a", **asked)
    assert s.plan() == {}
    assert s.reason("a") == reason


def test_of_two_partitions_only_the_open_one_is_used() -> None:
    s = Scenario().nodes("n1", partitions=("down",)).nodes("n2", partitions=("up",)).partition("down", up=False)
    s.submit("a", partitions=("down", "up"))
    assert s.plan() == {"a": "n2"}
    s.submit("b", partitions=("down", "up"), num_tasks=4)
    assert s.plan() == {}
    assert s.reason("b") == "Resources"


def test_a_partition_whose_limit_is_too_short_is_passed_by() -> None:
    s = Scenario().nodes("n1", partitions=("short",)).nodes("n2", partitions=("long",)).partition("short", max_time_s=60)
    s.submit("a", partitions=("short", "long"), time_limit_s=600)
    assert s.plan() == {"a": "n2"}


def test_unreachable_nodes_are_named() -> None:
    s = Scenario().nodes("n[1-3]")
    for name in ("n1", "n2", "n3"):
        s.lose(name)
    s.submit("a")
    s.plan()
    assert s.reason("a") == "ReqNodeNotAvail, UnavailableNodes:n[1-3]"


def test_the_reason_goes_when_the_cause_does() -> None:
    s = Scenario().nodes("n1", cpus=2)
    s.submit("a", num_tasks=2)
    s.submit("b", num_tasks=2)
    s.plan()
    assert s.reason("b") == "Resources"
    s.started("a").ended("a")
    assert s.plan() == {"b": "n1"}
    assert not [group for group in s.cluster.pending.groups.values() if group.blocked]


def test_exclusive_means_alone() -> None:
    s = Scenario().nodes("n1", cpus=4)
    s.submit("alone", exclusive=True)
    s.submit("other")
    assert s.plan() == {"alone": "n1"}
    s.started("alone").ended("alone")
    assert s.plan() == {"other": "n1"}
    s.submit("again", exclusive=True)
    assert s.plan() == {}


def test_two_exclusive_ones_do_not_share_a_pass() -> None:
    s = Scenario().nodes("n[1-2]", cpus=4)
    s.submit("small")
    s.submit("a", exclusive=True)
    s.submit("b", exclusive=True)
    assert s.plan() == {"small": "n1", "a": "n2"}


def test_a_pass_changes_nothing_and_says_when_it_stopped_early() -> None:
    s = Scenario().nodes("n1", cpus=1000)
    s.submit("many", array=f"0-{STARTS_MAX + 99}")
    plan = schedule(s.cluster, s.now)
    assert plan == schedule(s.cluster, s.now)
    assert (len(plan.starts), plan.more) == (STARTS_MAX, True)
    s.plan()
    plan = schedule(s.cluster, s.now)
    assert (len(plan.starts), plan.more) == (100, False)


def test_a_hundred_thousand_pending_jobs_cost_no_hundred_thousand_steps() -> None:
    s = Scenario().nodes("n[1-8]", cpus=8, memory_mib=64000)
    for i in range(3000):
        s.submit(f"j{i}", num_tasks=1 + i % 8, memory_mib=100 * (i % 5))
    s.submit("many", array="0-99999")
    s.plan()
    began = time.process_time()
    schedule(s.cluster, s.now)
    assert time.process_time() - began < 0.1


requests = st.fixed_dictionaries(
    {}, optional={"num_tasks": st.integers(1, 4), "memory_mib": st.sampled_from([100, 900]), "exclusive": st.booleans(),
                  "nice": st.integers(0, 5), "req_nodes": st.sampled_from([(), ("n2",)])},
)  # fmt: skip


@given(st.lists(requests, max_size=15), st.permutations(["n1", "n2", "n3"]))
def test_the_plan_does_not_depend_on_the_order_of_the_nodes(jobs, order) -> None:
    s = Scenario().nodes("n[1-3]", cpus=4, memory_mib=1000)
    for i, job in enumerate(jobs):
        s.submit(f"j{i}", **job)
    plan = schedule(s.cluster, s.now)
    s.cluster.nodes = {name: s.cluster.nodes[name] for name in order}
    assert schedule(s.cluster, s.now) == plan


@given(st.lists(requests, max_size=15))
def test_when_everything_ends_the_queue_empties(jobs) -> None:
    s = Scenario().nodes("n[1-3]", cpus=4, memory_mib=1000)
    for i, job in enumerate(jobs):
        s.submit(f"j{i}", **job)
    for _ in range(len(jobs)):
        placed = s.plan()
        s.started(*placed).ended(*placed)
    assert s.all_final()
