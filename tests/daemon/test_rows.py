"""A long queue comes as rows of a few columns: they hold what whole jobs do, and squeue prints the same of both."""

import os
import sys
from array import array
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sshq.controller.filters import read_filter
from sshq.controller.listing import Listing, read_asked
from sshq.controller.requests import check_request
from sshq.controller.rowviews import COLUMNS, job_rows
from sshq.controller.views import live_job_view
from sshq.core import events as ev
from sshq.errors import RefusedError
from sshq.slurm.layout import Field, read_format
from sshq.slurm.squeue import choose_layout, read_squeue_options, render_head, render_squeue
from sshq.slurm.squeue_columns import choose_columns, choose_listing
from sshq.slurm.views import read_rows

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


# ---- lines made by the controller ---------------------------------------------------------------------------------


def listed_by_controller(s: Scenario, argv: list[str], environ: dict[str, str] | None = None) -> list[str] | None:
    """What squeue prints of lines from the controller, of a request as it crosses the socket; None where it asks for rows."""
    options = read_squeue_options(argv, environ or {}, me="anna", lookup_uid={"anna": 1000, "ben": 1001}.get)
    asked = choose_listing(options)
    if asked is None:
        return None
    params = {"filter": options.filter, "finished": options.include_finished, "listing": asked}
    check_request("jobs", params)
    wanted = read_filter(params)
    listing = Listing(read_asked(asked), wanted, finished=options.include_finished, now=s.now + 100)
    ids = sorted(s.cluster.jobs)
    for start in range(0, len(ids), 7):
        listing.sort_in(s.cluster, ids[start : start + 7])
    ordered = array("q")
    for part in listing.order():
        ordered += part
    text, at = "".join(line + "\n" for line in render_head(options, choose_layout(options), s.now + 100)[0]), 0
    while at < len(ordered):
        piece, at = listing.render(s.cluster, ordered, at)
        text += piece
    return text.split("\n")[:-1]


def listed_by_squeue(s: Scenario, argv: list[str], environ: dict[str, str] | None = None) -> list[str]:
    """What squeue prints of whole jobs."""
    options = read_squeue_options(argv, environ or {}, me="anna", lookup_uid={"anna": 1000, "ben": 1001}.get)
    wanted = read_filter({"filter": {**options.filter, "users": None, "uids": None}})
    jobs = [s.cluster.jobs[i] for i in sorted(s.cluster.jobs)]
    views = [live_job_view(s.cluster, job) for job in jobs if wanted.matches(job, finished=options.include_finished)]
    return "\n".join([*render_squeue(views, options, s.now + 100).lines, ""]).split("\n")[:-1]


@pytest.mark.parametrize("argv", [*CALLS, ["-u", "1000"], ["-u", "99999999999999"], ["-S", "-P,-j,T"], ["-o", "a%% %i\t%o%%"]], ids=" ".join)
def test_the_controller_makes_the_lines_that_squeue_makes(queue: Scenario, argv: list[str]) -> None:
    lines = listed_by_controller(queue, argv)
    if lines is None:
        assert {"--start", "-r", "-P", "-j", "nobody"} & set(argv) or any("%V" in word or word.startswith("%20i") for word in argv)
    else:
        assert lines == listed_by_squeue(queue, argv)


SUBMISSIONS = st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "longer name", "b%sc", "tab\there", "new\nline", "ü\udcff", "z" * 30])},
    optional={
        "user": st.sampled_from(["anna", "ben"]), "partitions": st.sampled_from([("lab",), ("big", "lab"), ("big",)]),
        "nice": st.integers(-3, 3), "priority": st.sampled_from([5, 77, 1 << 31]), "held": st.booleans(), "num_tasks": st.integers(1, 9),
        "time_limit_s": st.sampled_from([60, 86400 * 3, -1]), "account": st.sampled_from(["physics", "x"]), "num_nodes": st.just(2),
        "array": st.sampled_from(["1-3", "0-20:5"]), "begin_at": st.just(2e9), "work_dir": st.sampled_from(["/a", "/b\nc", "/%d"]),
        "command": st.sampled_from(["/x", "c%i"]), "exclusive": st.booleans(),
    },
)  # fmt: skip
LETTERS = st.sampled_from("iAFKPjuUgtTMlLDCNRrQpYyaZo")
FORMATS = st.lists(st.tuples(st.sampled_from(["", ".", "5", ".7", "20", ".3"]), LETTERS, st.sampled_from(["", " ", "%%", "|é", "%!"])), min_size=1)
SORTS = st.lists(st.tuples(st.sampled_from(["", "-", "+"]), st.sampled_from("iAFKPjuUgtTMlLDCNRrSQpVyaZo")), max_size=4)


@settings(max_examples=int(os.environ.get("SSHQ_LISTINGS", "60")), deadline=None)
@given(jobs=st.lists(SUBMISSIONS, max_size=14), steps=st.lists(st.integers(0, 13), max_size=6), format_=FORMATS, sort=SORTS,
       states=st.sampled_from([None, "all", "PD", "R,CG", "CD"]), some=st.sampled_from([[], ["-u", "ben"], ["-p", "lab"], ["-n", "a"], ["-w", "n1"]]))  # fmt: skip
def test_any_queue_any_format_any_order_is_listed_alike(jobs, steps, format_, sort, states, some) -> None:
    s = Scenario().nodes("n[1-2]", cpus=4, partitions=("lab",)).nodes("b1", cpus=8, partitions=("lab", "big"))
    for number, fields in enumerate(jobs):
        s.submit(**{**fields, "name": f"{fields['name']}{number}"})
    s.plan()
    alive = [job for job in s.every_job().values() if job.state.name == "CONFIGURING"]
    for number in steps:
        if number < len(alive) and alive[number].array_job_id is None and alive[number].spec.num_nodes == 1:
            name = s.name_of(alive[number].job_id)
            if s.job(name).state.name == "CONFIGURING":
                s.started(name)
            elif s.job(name).state.name == "RUNNING":
                s.ended(name, code=number % 2)
    s.plan()
    argv = ["-o", "".join(f"%{width}{letter}{behind}" for width, letter, behind in format_), *some]
    argv += ["-S", ",".join(sign + letter for sign, letter in sort)] if sort else []
    argv += ["-t", states] if states else []
    lines = listed_by_controller(s, argv)
    assert lines is None or lines == listed_by_squeue(s, argv)
    assert lines is not None or len(format_) > 20
