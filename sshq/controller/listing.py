"""A long queue as squeue prints it, made here: chosen, sorted and laid out job by job, to be sent piece by piece.

`jobs` with `listing` streams items `{"text": "…"}`, whole lines in squeue's order.  A hundred thousand lines so cost a fifth of
what rows of values do, which both sides make, check, copy and look at once more.

Nothing here is another squeue.  Fields, layout, sort keys and states are those of `slurm.squeue`.  What is done in a quicker way
is the many: jobs that wait and are no part of an array.  All cells of such a job that depend on little (its partition, user,
reason, …) are laid out once for all that have the same, by the layout itself, into a template that takes the rest.  Any other
job, and any line with an oddity, goes the way that squeue itself goes.
"""

import heapq
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, pairwise
from operator import attrgetter
from typing import Any, Final

from sshq.controller.filters import JobFilter
from sshq.controller.rowviews import COLUMNS
from sshq.controller.views import pending_reason
from sshq.core.cluster import Cluster
from sshq.core.lifecycle import FINAL, State
from sshq.core.model import Job
from sshq.core.priority import display_priority
from sshq.slurm.fields_squeue import JOB_FIELDS, JobRow, state_of
from sshq.slurm.layout import Column, Layout, read_format, read_long_format
from sshq.slurm.squeue import SORT_KEYS, by_id, read_sort
from sshq.slurm.squeue_columns import COLUMNS_MAX, LISTED, VALUES
from sshq.slurm.states import ORDER
from sshq.slurm.views import text_of

KEYS_AT_ONCE: Final = 2000  # jobs looked at between two turns of the loop: some milliseconds
ROWS_AT_ONCE: Final = 1000
TEXT_MAX: Final = 256 << 10  # characters of one piece, give or take a line
SHAPES_MAX: Final = 4096

_INFINITE: Final = float("inf")

Key = tuple[Any, ...]
Getter = Callable[[Job], object]

# Of a field, what its cell depends on in a waiting job: little that many jobs share,
_SHARED: Final[Mapping[str, tuple[str, ...]]] = {
    "P": ("spec.partitions",), "u": ("spec.user",), "U": ("spec.uid",), "g": ("spec.group",), "a": ("spec.account",),
    "l": ("spec.time_limit_s",), "L": ("spec.time_limit_s",), "D": ("spec.num_nodes",), "y": ("spec.nice",),
    "C": ("spec.placed_tasks", "spec.cpus_per_task"), "t": (), "T": (), "M": (), "N": (), "K": (), "Y": (), "r": (), "R": (),
}  # fmt: skip
_REASONED: Final = frozenset("rR")  # … and the reason, which is not the job's own
# or what each has for itself, as the text itself.
_OWN: Final[Mapping[str, str]] = {
    "i": "job_id", "A": "job_id", "F": "job_id", "j": "spec.name", "Z": "spec.work_dir", "o": "spec.command",
}  # fmt: skip


def _priority(job: Job) -> int:
    spec = job.spec
    return display_priority(priority=spec.priority, nice=spec.nice, order=job.order, held=job.held is not None)


def _limit(job: Job) -> float:
    limit_s = job.spec.time_limit_s
    return _INFINITE if limit_s is None or limit_s == -1 else limit_s


# The keys of SORT_KEYS for a waiting job that is no part of an array; a test compares them.
WAITING_KEYS: Final[Mapping[str, Getter]] = {
    "a": lambda job: job.spec.account or "", "A": attrgetter("job_id"), "C": attrgetter("cpus"),
    "D": attrgetter("spec.num_nodes"), "g": attrgetter("spec.group"), "i": lambda job: (job.job_id, _INFINITE),
    "F": lambda job: (job.job_id, _INFINITE), "j": attrgetter("spec.name"), "K": lambda _: _INFINITE,
    "l": _limit, "L": _limit, "M": lambda _: 0, "N": lambda _: "",
    "o": attrgetter("spec.command"), "p": _priority, "P": lambda job: ",".join(job.spec.partitions), "Q": _priority,
    "t": lambda _: ORDER["PENDING"], "T": lambda _: ORDER["PENDING"], "u": attrgetter("spec.user"),
    "U": attrgetter("spec.uid"), "V": attrgetter("submit_at"), "y": attrgetter("spec.nice"), "Z": attrgetter("spec.work_dir"),
}  # fmt: skip


def _turn(value: Any) -> object:
    """Return a key that sorts the other way round."""
    if isinstance(value, int | float):
        return -value
    return tuple([_turn(one) for one in value]) if isinstance(value, tuple) else _Downwards(value)


class _Downwards:
    """A text that sorts in the other direction."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: "_Downwards") -> bool:
        return bool(other.value < self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Downwards) and other.value == self.value

    def __hash__(self) -> int:
        return hash(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What of a listing the filter does not say; `nodes` and `states` are any where they are None."""

    format: str
    long: bool  # the format is one of -O
    sort: str
    states: frozenset[str] | None
    nodes: frozenset[str] | None


def read_asked(given: Mapping[str, Any]) -> Asked:
    """Return what the parameter `listing` of a request, already checked, asks for."""
    states, nodes = given.get("states"), given.get("nodes")
    return Asked(
        format=given.get("format") or "", long=given.get("long") is True, sort=given.get("sort") or "",
        states=None if states is None else frozenset(states), nodes=None if nodes is None else frozenset(nodes),
    )  # fmt: skip


def describe_fault(asked: Asked) -> str | None:
    """Return what of a request cannot be listed here, None if nothing: a client of ours asks for nothing such."""
    layout = _layout_of(asked)
    if not layout.letters() <= LISTED:
        return "a field that cannot be shown"
    if len(layout.columns) > COLUMNS_MAX:
        return f"more than {COLUMNS_MAX} columns"
    try:
        keys = {letter for letter, _ in read_sort(asked.sort)}
    except ValueError as error:
        return f"the sort key {error}"
    return None if keys <= VALUES.keys() else "a sort key that cannot be used"


def _layout_of(asked: Asked) -> Layout[JobRow]:
    return (read_long_format if asked.long else read_format)(asked.format, JOB_FIELDS)


class Listing:
    """One listing on its way: `sort_in` all jobs, part by part, then `order`, then `render` piece by piece."""

    def __init__(self, asked: Asked, wanted: JobFilter, *, finished: bool, now: float) -> None:
        self._asked, self._wanted, self._finished, self._now = asked, wanted, finished, now
        self._layout = _layout_of(asked)
        self._sort = read_sort(asked.sort)
        letters = [column.field.letter for column in self._layout.columns if column.field is not None]
        letters += [letter for letter, _ in self._sort]
        names = dict.fromkeys(name for letter in ("i", "t", "N", "P", *letters) for name in VALUES[letter])
        self._values = [(name, COLUMNS[name]) for name in names]
        quick = [WAITING_KEYS.get(letter) for letter, _ in self._sort]
        self._quick_keys = [key for key in quick if key is not None] if None not in quick else None
        self._waiting_listed = asked.nodes is None and (asked.states is None or "PENDING" in asked.states)
        self._downwards = [at for at, (_, downwards) in enumerate(self._sort) if downwards]
        self._nested = any(letter in "iF" for letter, _ in self._sort)
        self._runs: list[list[Key]] = []
        self._lines = _WaitingLines(self._layout, self._row)

    # ---- order -----------------------------------------------------------------------------------------------

    def sort_in(self, cluster: Cluster, ids: Iterable[int]) -> None:
        """Take in where some of the jobs stand."""
        run = [self._key(cluster, job, plain) for job, plain in self._chosen(cluster, ids)]
        run.sort()
        if run:
            self._runs.append(run)

    def order(self) -> "Iterator[array[int]]":
        """Yield the ids in order, some thousand at a time; what was taken in is forgotten with it."""
        runs, self._runs = self._runs, []
        in_order = all(one[-1] < other[0] for one, other in pairwise(runs))
        keys = (key for run in runs for key in run) if in_order else heapq.merge(*runs)
        while part := array("q", [key[-1] for key in islice(keys, KEYS_AT_ONCE)]):
            yield part

    def _chosen(self, cluster: Cluster, ids: Iterable[int]) -> Iterator[tuple[Job, bool]]:
        """Yield the jobs that are asked for, each with whether it waits, alone, and nothing more is to be said of it."""
        jobs, wanted, narrows, waiting = cluster.jobs, self._wanted, self._wanted.narrows, State.PENDING
        for job_id in ids:
            job = jobs.get(job_id)
            if job is None or ((narrows or job.state in FINAL) and not wanted.matches(job, finished=self._finished)):
                continue
            plain = job.state is waiting and job.array_job_id is None and job.array_tasks is None and job.verdict is None
            if self._waiting_listed if plain else self._is_listed(self._view(cluster, job)):
                yield job, plain

    def _is_listed(self, view: Mapping[str, object]) -> bool:
        asked, partitions = self._asked, self._wanted.partitions
        if partitions and set(partitions).isdisjoint(text_of(view, "partition").split(",")):  # of those asked for, it runs in one
            return False
        if asked.states is not None and text_of(view, "state") not in asked.states and state_of(view) not in asked.states:
            return False
        nodes = view["nodes"]
        return asked.nodes is None or (isinstance(nodes, list) and not asked.nodes.isdisjoint(nodes))

    def _key(self, cluster: Cluster, job: Job, plain: bool) -> Key:
        """Return a key that ends in the id.  It is flat: tuples of plain values are soon no concern of the garbage collector."""
        if plain and self._quick_keys is not None:
            values = [get(job) for get in self._quick_keys]
            values += (job.job_id, _INFINITE)
        else:
            row = self._row(cluster, job)
            values = [SORT_KEYS[letter](row) for letter, _ in self._sort]
            values += by_id(row)  # type: ignore[arg-type]  # a pair
        for at in self._downwards:
            values[at] = _turn(values[at])
        if self._nested:
            values = [one for value in values for one in (value if isinstance(value, tuple) else (value,))]
        return (*values, job.job_id)

    # ---- lines -----------------------------------------------------------------------------------------------

    def render(self, cluster: Cluster, ids: "array[int]", start: int) -> tuple[str, int]:
        """Return lines of the jobs from ids[start] on, as many as make a piece, and where to go on."""
        lines: list[str] = []
        size = 0
        end = min(len(ids), start + ROWS_AT_ONCE)
        for at in range(start, end, 50):
            for job, plain in self._chosen(cluster, ids[at : min(end, at + 50)]):
                line = self._lines.make(cluster, job) if plain else self._layout.line(self._row(cluster, job))
                lines.append(line)
                size += len(line)
            if size > TEXT_MAX:
                end = min(end, at + 50)
                break
        return "\n".join([*lines, ""]), end

    def _view(self, cluster: Cluster, job: Job) -> dict[str, object]:
        return {name: get(cluster, job) for name, get in self._values}

    def _row(self, cluster: Cluster, job: Job) -> JobRow:
        return JobRow(self._view(cluster, job), self._now)


class _WaitingLines:
    """Makes lines of plain jobs: a template for each kind of them, and in it what each has for itself."""

    def __init__(self, layout: Layout[JobRow], row: Callable[[Cluster, Job], JobRow]) -> None:
        self._layout, self._row = layout, row
        letters = [column.field.letter for column in layout.columns if column.field is not None]
        shared = dict.fromkeys(name for letter in letters for name in _SHARED.get(letter, ()))
        self._shape_of = _getter(tuple(shared))
        self._reasoned = any(letter in _REASONED for letter in letters)
        own = [letter for letter in letters if letter not in _SHARED]
        if all(letter in _OWN for letter in own):
            self._values_of = _getter(tuple(_OWN[letter] for letter in own))
        else:
            getters = [_own_getter(letter) for letter in own]
            self._values_of = lambda job: tuple([get(job) for get in getters])
        self._templates: dict[object, str] = {}

    def make(self, cluster: Cluster, job: Job) -> str:
        """Return the line of a job that is plain."""
        shape: object = self._shape_of(job)
        if self._reasoned:
            shape = (pending_reason(cluster, job), shape)
        template = self._templates.get(shape)
        if template is None:
            template = self._templates[shape] = self._make_template(self._row(cluster, job))
        values = self._values_of(job)
        if template and "" not in values:  # an empty text is shown as Slurm shows it
            line = template % values
            if "\n" not in line:
                return line
        return self._layout.line(self._row(cluster, job))

    def _make_template(self, row: JobRow) -> str:
        if len(self._templates) > SHAPES_MAX:
            self._templates.clear()
        parts = [self._layout.prefix.replace("%", "%%")]
        for column in self._layout.columns:
            is_own = column.field is not None and column.field.letter not in _SHARED
            parts.append(column.template() if is_own else _fix(column, row))
        text = "".join(parts)
        return "" if "\n" in text else text


def _fix(column: Column[JobRow], row: JobRow) -> str:
    return column.show(row).replace("%", "%%")


def _getter(names: tuple[str, ...]) -> Callable[[Job], tuple[object, ...]]:
    if not names:
        return lambda _: ()
    get = attrgetter(*names)
    return get if len(names) > 1 else lambda job: (get(job),)


def _own_getter(letter: str) -> Getter:
    if letter in _OWN:
        return attrgetter(_OWN[letter])
    if letter == "p":
        return lambda job: f"{_priority(job) / 0xFFFFFFFF:.14f}"
    return _priority
