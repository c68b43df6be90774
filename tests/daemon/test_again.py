"""A job as a submission: what is told of any spec makes the same spec when it is submitted."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sshq.controller.again import describe_again, left_out, refuse_again
from sshq.controller.requests import check_request
from sshq.controller.submission import read_description
from sshq.core.replacing import replace
from sshq.inventory.config import Config
from sshq.wire.server import Peer
from store.build import make_spec

PEER = Peer(pid=1, uid=os.getuid(), gid=os.getgid())
CONFIG = Config()
OWN = ("script", "environ", "uid", "user", "gid", "group", "submit_line", "submit_host", "origin", "provable", "tree_bytes")


def resubmit(spec, task=None):
    described = describe_again(spec, b"#!/bin/sh\n\xff\n", task)
    check_request("submit", {"description": described, "environ": {}})
    incoming = read_description({"description": described}, PEER, CONFIG)
    assert incoming.script == b"#!/bin/sh\n\xff\n"
    return replace(incoming.spec, **{name: getattr(spec, name) for name in OWN}), incoming


CASES = [
    {}, {"args": ("a b", "ü", "-x")}, {"name": "n", "comment": "c", "account": "a", "qos": "q", "nice": -5, "priority": 7},
    {"work_dir": "/data/x", "submit_dir": "/data", "std_out": "o-%j", "std_err": "/e", "std_in": "in", "open_mode": "append", "umask": 0o77},
    {"partitions": ("a", "b"), "time_limit_s": 90, "exclusive": True, "features": "gpu&ssd", "prefer": "fast"},
    {"time_limit_s": None},
    {"num_nodes": 3, "nodes_given": True, "num_tasks": 6, "ntasks_given": True, "ntasks_per_node": 2},
    {"cpus_per_task": 4, "cpus_per_task_given": True, "overcommit": True, "min_cpus": 2, "tmp_disk_mib": 5},
    {"memory_mib": 100}, {"memory_per_cpu_mib": 10}, {"memory_per_gpu_mib": 10, "gpus_per_node": "a100:2", "gpus_by_gres": True},
    {"gpus_total": "3", "gpus_per_task": "1", "ntasks_per_gpu": 2, "cpus_per_gpu": 3},
    {"req_nodes": ("n1", "n2"), "exc_nodes": ("n3",), "reservations": ("r1", "r2"), "licenses": "matlab:2"},
    {"requeue": "no"}, {"requeue": "always", "retries": 3, "lease_s": 900}, {"signal": (10, 60, True)},
    {"export": "NONE", "limits": (("CORE", 0), ("NOFILE", -1)), "stage_out": ("out/*.csv", "results/")},
    {"anywhere": True}, {"tree": "ab" * 32, "frozen": True},
    {"kind": "container", "container": "docker://x", "container_mounts": (("/a", "/b", True),), "container_workdir": "/w",
     "container_pull": "missing", "container_env": ("A",)},
    {"array_text": "1-5:2", "array_limit": 2, "array_min": 1, "array_max": 5, "array_step": 2, "array_count": 3},
]  # fmt: skip


@pytest.mark.parametrize("fields", CASES, ids=str)
def test_what_is_told_makes_the_same_spec(fields):
    spec = make_spec(**{"time_limit_s": 60, "command": "/x/job.sh", "export": None} | fields)
    again, _ = resubmit(spec)
    assert again == (replace(spec, time_limit_s=-1) if spec.time_limit_s is None else spec)  # as it is before the core fills it in


def test_one_task_of_an_array_is_that_task():
    spec = make_spec(array_text="1-5:2", array_limit=2, array_min=1, array_max=5, array_step=2, array_count=3)
    again, incoming = resubmit(spec, 3)
    assert (again.array_text, again.array_limit, again.array_count, incoming.array) == ("3", None, 1, "3")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(CASES[:-2]), max_size=5))
def test_whatever_comes_together(picked):
    fields = {"time_limit_s": 60, "command": "/x", "work_dir": "/w"}
    for one in picked:
        fields |= one
    spec = make_spec(**fields)
    again, _ = resubmit(spec)
    assert again == (replace(spec, time_limit_s=-1) if spec.time_limit_s is None else spec)


def test_what_belongs_to_one_moment_is_not_told():
    spec = make_spec(dependency="afterok:3", begin_at=5.0, deadline_at=9.0, time_limit_s=60)
    again, incoming = resubmit(spec)
    assert (again.dependency, again.begin_at, again.deadline_at, incoming.held) == (None, None, None, False)
    assert left_out(spec) == ["--dependency=afterok:3", "--begin", "--deadline"]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"kind": "callable"}, "the call of a Python function"), ({"kind": "allocation", "submit_line": "salloc -n1"}, "salloc -n1"),
        ({"kind": "container", "container": "x", "submit_line": "srun --container=x true"}, "srun --container=x true"),
        ({"seen_from": "n1"}, "submitted inside a job, from a directory of n1"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_again_has_a_reason(fields, why):
    assert why in refuse_again(make_spec(**fields))
    assert refuse_again(make_spec()) is None
