"""History comes as rows of the columns that a call of sacct needs: they hold what whole jobs do, and sacct prints the same of both."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sshq.controller.historyrows import COLUMNS, history_rows, whole_view
from sshq.controller.requests import check_request
from sshq.core.lifecycle import FINAL, State
from sshq.core.model import Step
from sshq.errors import OptionError, RefusedError
from sshq.slurm.fields_sacct import FIELDS, GETTERS, AccountRow
from sshq.slurm.getopt import parse_options
from sshq.slurm.layout import keep_on_line
from sshq.slurm.sacct import read_sacct_options, render_sacct
from sshq.slurm.sacct_columns import ALWAYS, VALUES, choose_columns
from sshq.slurm.table import join_cells, make_joiner
from sshq.slurm.views import read_rows
from sshq.store.history import HistoryJob
from sshq.wire.codec import encode_json
from store.build import make_job, make_spec, settle_launch

NOW = 2000.0
ENDS = sorted(FINAL, key=lambda state: state.name)
GPU = ("GPU-1", 0, "a100")
WORDS = ["lab", "gpu", "anna", "a\udcff", "two\nlines", "a name of many letters", ""]
NUMBERS = st.none() | st.integers(0, 5000)
TIMES = st.none() | st.sampled_from([100.0, 150.5, 900.0, 1999.0, 86400.0 * 9])

SPECS = st.builds(
    make_spec, name=st.sampled_from(WORDS), user=st.sampled_from(["anna", "ben"]), uid=st.sampled_from([1000, 1001]),
    group=st.sampled_from(WORDS), partitions=st.sampled_from([("lab",), ("gpu", "lab")]), account=st.none() | st.sampled_from(WORDS),
    comment=st.none() | st.sampled_from(WORDS), features=st.none() | st.sampled_from(WORDS), qos=st.none() | st.sampled_from(WORDS),
    memory_mib=NUMBERS, memory_per_cpu_mib=NUMBERS, num_nodes=st.integers(1, 3), time_limit_s=st.sampled_from([None, -1, 60, 99999]),
    array_limit=st.none() | st.just(2), kind=st.sampled_from(["script", "salloc"]), nice=st.integers(-5, 5),
    priority=st.none() | st.just(77), gpus_per_node=st.none() | st.just("2"), submit_line=st.sampled_from(WORDS),
)  # fmt: skip


@st.composite
def history(draw: st.DrawFn) -> list[HistoryJob]:
    """Jobs as the store gives them: some with attempts and steps, some that never ran, tasks of an array."""
    found = []
    for job_id in range(1, draw(st.integers(1, 6)) + 1):
        state = draw(st.sampled_from(list(State)))
        array = draw(st.sampled_from([{}, {"array_job_id": 5, "array_task_id": 3}, {"array_job_id": 5, "array_tasks": "1-4"}]))
        nodes = draw(st.sampled_from([(), ("n1",), ("n1", "n2")]))
        job = make_job(
            job_id, spec=draw(SPECS), state=state, nodes=nodes, slots=(0,) * len(nodes), start_at=draw(TIMES), end_at=draw(TIMES),
            eligible_at=draw(TIMES), exit_code=draw(NUMBERS), exit_signal=draw(st.none() | st.just(9)), attempt=draw(st.integers(0, 2)),
            cancel_uid=draw(st.none() | st.just(1001)), cpu_time_s=draw(TIMES), system_s=draw(TIMES), max_rss_kib=draw(NUMBERS),
            held=draw(st.none() | st.just("user")), order=job_id, derived_code=draw(st.integers(0, 3)),
            gpus=draw(st.sampled_from([(), ((GPU, GPU),) * len(nodes)])), **array,
        )  # fmt: skip
        ends = draw(st.lists(st.sampled_from(ENDS), max_size=2))
        rows = [settle_launch(job_id, attempt=n, state=end)[1] for n, end in enumerate(ends, 1)]
        steps = [
            Step(launch_id="1", number=n, job_id=job_id, attempt=job.attempt, state=State.COMPLETED, name="true", start_at=200.0,
                 end_at=300.0, nodes=("n1",), user_s=1.5)
            for n in range(draw(st.integers(0, 2)))
        ]  # fmt: skip
        found.append(HistoryJob(job=job, accounting=tuple(rows), steps=tuple(steps)))
    return found


OPTIONS = [
    ["-a"], ["-X"], ["-D"], ["-n"], ["-P"], ["-p"], ["--delimiter=\n", "-P"], ["-l"], ["-b"], ["-T"], ["-j", "1,5_3,2.0,3.batch"],
    ["-j", "5"], ["-u", "1001"], ["-u", "anna,1001"], ["-s", "CD,F,PD"], ["-N", "n[2-3]"], ["-A", "lab"], ["-r", "lab"], ["--name", "gpu"],
    ["-q", "normal"], ["-g", "anna"], ["-R", "None"], ["-C", "gpu"], ["-i", "2-3"], ["-I", "1"], ["-k", "1"], ["-k", "1", "-K", "2-0"],
    ["-S", "now-30minutes"], ["-E", "now-20minutes"], ["--units=K"], ["--noconvert"], ["-o", "all"], ["-o", "ALL%-0"],
]  # fmt: skip
NAMES = [name for name, _ in FIELDS]
FORMATS = st.lists(
    st.builds(lambda name, width: f"{name}{width}", st.sampled_from(NAMES), st.sampled_from(["", "%0", "%-30", "%3", "%-3", "%5000"])),
    max_size=6,
)  # fmt: skip
CALLS = st.builds(
    lambda options, fields: [word for option in options for word in option] + (["-o", ",".join(fields)] if fields else []),
    st.lists(st.sampled_from(OPTIONS), max_size=4), FORMATS,
)  # fmt: skip


def test_every_column_is_one_of_the_whole_job() -> None:
    view = whole_view(HistoryJob(job=make_job(1), accounting=()))
    assert set(COLUMNS) - set(view) == {"launched"}
    assert set(GETTERS) <= set(NAMES)


@given(found=history())
@settings(max_examples=100, deadline=None)
def test_a_column_holds_what_the_whole_job_does(found: list[HistoryJob]) -> None:
    names = [name for name in COLUMNS if name != "launched"]
    for one, row in zip(found, history_rows(found, names), strict=True):
        view = whole_view(one)
        assert dict(zip(names, row, strict=True)) == {name: view[name] for name in names}
        encode_json({"rows": [row]})  # what crosses the socket without a look at each value is of such as may cross it


class Watched(dict[str, object]):
    """A job that remembers what was read of it."""

    def __init__(self, view: dict[str, object]) -> None:
        super().__init__(view)
        self.read: set[str] = set()

    def get(self, key: str, default: object = None) -> object:
        self.read.add(key)
        return super().get(key, default)


@given(found=history())
@settings(max_examples=100, deadline=None)
def test_a_field_reads_nothing_but_its_columns(found: list[HistoryJob]) -> None:
    for one in found:
        for name, get in GETTERS.items():
            for is_step in (False, True):
                job = Watched(whole_view(one))
                get(AccountRow(job, None, is_step=is_step, now=NOW, time_style="", units=""))
                assert job.read <= {*VALUES.get(name, ()), *ALWAYS}, name


@given(found=history(), argv=CALLS)
@settings(max_examples=400, deadline=None)
def test_sacct_prints_the_same_of_rows_as_of_whole_jobs(found: list[HistoryJob], argv: list[str]) -> None:
    try:
        options = read_sacct_options(argv, {}, now=NOW, me="anna", lookup_uid={"anna": 1000, "ben": 1001}.get)
    except OptionError:  # options that exclude each other: refused before anything is asked
        return
    columns = choose_columns(options)
    check_request("history", {"columns": columns})
    whole = list(render_sacct(map(whole_view, found), options, NOW).lines)
    rows = read_rows([{"rows": history_rows(found, columns)}], columns)
    assert list(render_sacct(rows, options, NOW).lines) == whole


@given(cells=st.lists(st.text(max_size=8), min_size=3, max_size=3), widths=st.lists(st.integers(-9, 9), min_size=3, max_size=3))
@example(cells=["a%s", "", "ü"], widths=[5000, 0, -1])
@pytest.mark.parametrize("argv", [[], ["-P"], ["-p"], ["-P", "--delimiter=%s\n"]])
def test_a_quick_line_is_the_line(argv: list[str], cells: list[str], widths: list[int]) -> None:
    parsed = parse_options("sacct", argv, {})
    columns = tuple((f"F{at}", width) for at, width in enumerate(widths))
    cells = [keep_on_line(cell) for cell in cells]
    line = make_joiner(columns, parsed)(cells)
    assert line in (None, join_cells(cells, columns, parsed))
    if all(len(cell) <= abs(width) < 4096 for cell, width in zip(cells, widths, strict=True)):
        assert line is not None


@pytest.mark.parametrize("columns", [[], ["no_such"], "job_id", [1], ["job_id"] * 100])
def test_columns_that_are_none_are_refused(columns) -> None:
    with pytest.raises(RefusedError, match="columns"):
        check_request("history", {"columns": columns})


def test_a_controller_that_knows_no_columns_says_so() -> None:
    """By that word a client knows that it has to ask an older controller for whole jobs."""
    with pytest.raises(RefusedError, match="columns"):
        check_request("steps", {"columns": ["job_id"]})
