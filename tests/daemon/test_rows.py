"""A long queue comes as rows of a few columns: they hold what whole jobs do, and squeue prints the same of both."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sshq.controller.requests import check_request
from sshq.controller.rowviews import COLUMNS, job_rows
from sshq.controller.views import live_job_view
from sshq.core import events as ev
from sshq.errors import RefusedError
from sshq.slurm.layout import Field, read_format
from sshq.slurm.squeue import read_squeue_options, render_squeue
from sshq.slurm.squeue_columns import choose_columns, read_rows

sys.path.append(str(Path(__file__).parents[1] / "core"))
from scenario import Scenario


@pytest.fixture(scope="module")
def queue() -> Scenario:
    """Jobs in as many conditions as a queue has them."""
    s = Scenario().nodes("n[1-3]", cpus=4, partitions=("lab",)).nodes("b[1-2]", cpus=8, partitions=("lab", "big"))
    s.submit("ended", time_limit_s=60)
    s.submit("failed", partitions=("big", "lab"))
    s.submit("running", time_limit_s=3600, partitions=("lab", "big"))
    s.submit("unlimited", num_tasks=2)
    s.submit("cancelling", time_limit_s=600)
    s.submit("home", provable=True, work_dir="/elsewhere")  # which no host shares
    for name in s.cluster.nodes:
        s.feed(ev.DirectoryProved(now=s.now, path="/elsewhere", node=name, shared=False))
    s.submit("gang", num_nodes=2, nodes_given=True, num_tasks=4)
    s.plan()
    s.started("ended", "failed", "running", "unlimited", "cancelling", "home", "gang")
    s.ended("ended").ended("failed", code=3).ended("home")
    s.control("cancel", "cancelling")
    s.submit("array", array="0-40:2", array_limit=3, cpus_per_task=4, nice=5)
    s.submit("tasks", array="1-9")
    s.plan()
    s.submit("held", held=True, account="physics", comment="x")
    s.submit("later", begin_at=s.now + 500)
    s.submit("chain", dependency=f"afterok:{s.id('running')}")
    s.submit("wide", num_tasks=8, cpus_per_task=1, exclusive=True, priority=77)
    s.submit("na\nme with ünïcode and a lone surrogate \udcff", num_tasks=8)
    s.plan()
    s.lose("n1")
    return s


def test_every_column_is_what_the_whole_job_has(queue: Scenario) -> None:
    jobs = list(queue.cluster.jobs.values())
    assert {job.state.name for job in jobs} >= {"PENDING", "RUNNING", "COMPLETED", "FAILED", "CONFIGURING"}
    names = list(COLUMNS)
    for job, row in zip(jobs, job_rows(queue.cluster, jobs, names), strict=True):
        view = live_job_view(queue.cluster, job)
        assert dict(zip(names, row, strict=True)) == {name: view[name] for name in names}


CALLS = [
    [], ["-l"], ["--start"], ["-h", "-o", "%i|%T|%r|%p|%Q|%V|%y|%C|%g|%Z|%o"], ["-a", "-r"], ["-t", "all"], ["-t", "PD", "-S", "-i,u"],
    ["-u", "anna"], ["-u", "nobody"], ["-n", "running,held"], ["-p", "big"], ["-w", "n[1-2]"], ["-S", "t,-S,j"], ["-P"], ["-j", "3,8"],
    ["-j", "9_4"], ["-j", "12345"], ["-o", "%20i %.3j%% %N\n"], ["-o", "%A %F %K %L %M %a"], ["--Format=jobid,name:.10,state"],
]  # fmt: skip


@pytest.mark.parametrize("argv", CALLS, ids=" ".join)
def test_squeue_prints_the_same_of_rows_as_of_whole_jobs(queue: Scenario, argv: list[str]) -> None:
    def read():
        return read_squeue_options(argv, {}, me="anna", lookup_uid={"anna": 1000}.get)

    jobs = [queue.cluster.jobs[i] for i in sorted(queue.cluster.jobs)]
    whole = render_squeue([live_job_view(queue.cluster, job) for job in jobs], read(), queue.now + 100)
    columns = choose_columns(read())
    assert columns is not None and set(columns) <= set(COLUMNS)
    rows = read_rows([{"rows": job_rows(queue.cluster, jobs, columns)}], columns)
    short = render_squeue(rows, read(), queue.now + 100)
    assert (list(short.lines), short.messages, short.exit_code) == (list(whole.lines), whole.messages, whole.exit_code)


@pytest.mark.parametrize("argv", [["--json"], ["-o", "%i %m"], ["-S", "w"], ["-q", "normal"], ["-A", "physics"], ["-O", "jobid,stdout"]])
def test_what_needs_more_than_the_columns_asks_for_whole_jobs(argv: list[str]) -> None:
    assert choose_columns(read_squeue_options(argv, {}, me="anna", lookup_uid=lambda _: None)) is None


@given(
    width=st.integers(0, 12), right=st.booleans(), cut=st.booleans(), star=st.booleans(), value=st.text(max_size=15),
    suffix=st.text(max_size=5), prefix=st.text(max_size=5),
)  # fmt: skip
def test_lines_are_line_after_line(width, right, cut, star, value, suffix, prefix) -> None:
    field = Field("x", "x", "HEADER", lambda row: row, cut=cut, keeps_star=star)
    layout = read_format(f"{prefix}%{'.' if right else ''}{width or ''}x{suffix}", [field])
    rows = [value, f"{value}*", "a\nb"]
    assert list(layout.lines(rows)) == [layout.line(row) for row in rows]


@pytest.mark.parametrize("columns", [[], ["no_such"], "job_id", [1], ["job_id"] * 100])
def test_columns_that_are_none_are_refused(columns) -> None:
    with pytest.raises(RefusedError, match="columns"):
        check_request("jobs", {"columns": columns})


def test_a_spec_with_every_text_still_makes_rows(queue: Scenario) -> None:
    job = next(iter(queue.cluster.jobs.values()))
    odd = replace(job, spec=replace(job.spec, account="a\x00b", command="\udc80"))
    assert job_rows(queue.cluster, [odd], ["account", "command"]) == [["a\x00b", "\udc80"]]
