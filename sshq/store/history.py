"""What sacct asks: jobs of the past and present, with one accounting row a launch.

Two steps: the ids that match, found by an index, then the records in portions.  So no statement stays open
between two answers, and neither a write nor the log's recycling waits for a slow reader.

The controller reads with a `HistoryReader`, beside the connection that writes: to find the ids may take seconds where all of
a long history is asked for.
"""

import sqlite3
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from sshq.core.lifecycle import State
from sshq.core.model import Accounting, Job, JobSpec, Step
from sshq.errors import StoreError
from sshq.store.batch import ACCOUNTING, JOBS, SPECS, STEPS
from sshq.store.database import connect_reader, explain_reading
from sshq.store.kept import forget_launches, forget_specs
from sshq.store.records import format_column, format_json

PORTION: Final = 500
STEPS_UNHEARD: Final = 1_000_000  # of SQLite's machine, some 50 ms: how often a reader looks whether it is to end
Select = Callable[..., Iterable[tuple[Any, ...]]]  # a statement and its parameters; the rows

T = TypeVar("T")

# One parameter a condition: a JSON list, which json_each makes a table.
_BY_UID: Final = "uid IN (SELECT value FROM json_each(?))"
_BY_USER: Final = "user IN (SELECT value FROM json_each(?))"
_BY_NAME: Final = "name IN (SELECT value FROM json_each(?))"
_BY_STATE: Final = "state IN (SELECT value FROM json_each(?))"
_BY_ID: Final = """job_id IN (
    SELECT job_id FROM job WHERE job_id IN (SELECT value FROM json_each(?))
    UNION SELECT job_id FROM job WHERE array_job_id IN (SELECT value FROM json_each(?))
    UNION SELECT job_id FROM json_each(?) JOIN job
        ON array_job_id = json_extract(value, '$[0]') AND array_task_id = json_extract(value, '$[1]'))"""
# With a plus sign: by its index all jobs of a partition would be looked at, where the window means those of a day.
_BY_PARTITION: Final = """+spec IN (
    SELECT digest FROM spec WHERE EXISTS (
        SELECT 1 FROM json_each(spec.partitions) WHERE value IN (SELECT value FROM json_each(?))))"""
_BY_NODE: Final = """job_id IN (
    SELECT job_id FROM accounting WHERE node IN (SELECT value FROM json_each(?))
    UNION SELECT job_id FROM launch WHERE open = 1 AND node IN (SELECT value FROM json_each(?)))"""
# The same for a few jobs, each looked at: what a node ever ran is a good part of all there is.
_AND_BY_NODE: Final = """(EXISTS (
    SELECT 1 FROM accounting AS a WHERE a.job_id = job.job_id AND +node IN (SELECT value FROM json_each(?)))
    OR EXISTS (
    SELECT 1 FROM launch AS l WHERE l.job_id = job.job_id AND open = 1 AND +node IN (SELECT value FROM json_each(?))))"""

_ORDER: Final = "coalesce(array_job_id, job_id), array_task_id, job_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryFilter:
    """Which jobs; what is empty does not restrict."""

    job_ids: tuple[int, ...] = ()  # an array's id means its tasks too
    array_tasks: tuple[tuple[int, int], ...] = ()  # array id, index: 12_4
    users: tuple[str, ...] = ()
    uids: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    partitions: tuple[str, ...] = ()  # any the job may use
    states: tuple[State, ...] = ()
    nodes: tuple[str, ...] = ()  # any a launch of it was sent to
    start_at: float | None = None  # not ended before
    end_at: float | None = None  # eligible by then
    limit: int | None = None  # the first so many
    # What is not asked for is not read: its decoding is a third of the work.
    all_attempts: bool = True  # False: only those of jobs without a start, where nothing else says that there was one
    with_steps: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryJob:
    job: Job
    accounting: tuple[Accounting, ...]  # by attempt
    steps: tuple[Step, ...] = ()  # by attempt and number


def read_history(select: Select, wanted: HistoryFilter) -> Iterator[HistoryJob]:
    """Yield the jobs that match, by id; the tasks of an array stand together, by index, where its id is."""
    for ids in split_portions(_find_ids(select, wanted)):
        yield from _read_portion(select, ids, wanted)


def split_portions(ids: "array[int]") -> Iterator["array[int]"]:
    """Yield the ids of as many jobs as are read at once."""
    return (ids[start : start + PORTION] for start in range(0, len(ids), PORTION))


class HistoryReader:
    """Reads a store in use, in any threads, of what was stored when a call began; each call has a connection of its own."""

    def __init__(self, path: Path) -> None:
        """Take the path of the database."""
        self._path = path
        self._stopped = False

    def find(self, wanted: HistoryFilter) -> "array[int]":
        """Return the ids of the jobs that match, in the order of `read_history`.  Raises StoreError."""
        return self.ask(lambda select: _find_ids(select, wanted))

    def read(self, ids: "array[int]", wanted: HistoryFilter) -> list[HistoryJob]:
        """Return those of these jobs that are still there, with what is wanted of them.  Raises StoreError."""
        return self.ask(lambda select: list(_read_portion(select, ids, wanted)))

    def ask(self, read: Callable[[Select], T]) -> T:
        """Return what `read` makes of the rows of some statements, all of one moment.  Raises StoreError."""
        with closing(connect_reader(self._path)) as connection:
            # Not `interrupt`, which a statement that begins a moment later does not notice.
            connection.set_progress_handler(lambda: self._stopped, STEPS_UNHEARD)
            try:
                connection.execute("BEGIN")  # one moment for all of it: else a job runs and has ended in one and the same answer
                return read(lambda statement, *values: connection.execute(statement, values))
            except sqlite3.Error as error:
                raise StoreError("the controller ends") if self._stopped else explain_reading(error, self._path) from error

    def stop(self) -> None:
        """Have all calls end soon, with a StoreError: who ends does not wait for a long answer."""
        self._stopped = True


def _find_ids(select: Select, wanted: HistoryFilter) -> "array[int]":
    conditions, values = _conditions(wanted)
    where = " AND ".join(conditions) or "1"
    limit = -1 if wanted.limit is None else wanted.limit
    # Only the constants above are put together; what users gave is bound.
    statement = f"SELECT job_id FROM job WHERE {where} ORDER BY {_ORDER} LIMIT ?"  # noqa: S608
    return array("q", (job_id for (job_id,) in select(statement, *values, limit)))


def _conditions(wanted: HistoryFilter) -> tuple[list[str], list[str | float]]:
    conditions: list[str] = []
    values: list[str | float] = []
    if wanted.job_ids or wanted.array_tasks:
        ids = format_json(wanted.job_ids)
        conditions.append(_BY_ID)
        values += [ids, ids, format_json(wanted.array_tasks)]
    for text, listed in (
        (_BY_UID, wanted.uids),
        (_BY_USER, [format_column(user) for user in wanted.users]),
        (_BY_NAME, [format_column(name) for name in wanted.names]),
        (_BY_STATE, [state.name for state in wanted.states]),
        (_BY_PARTITION, [format_column(name) for name in wanted.partitions]),
    ):
        if listed:
            conditions.append(text)
            values.append(format_json(listed))
    if wanted.nodes:
        nodes = format_json([format_column(node) for node in wanted.nodes])
        conditions.append(_BY_NODE if wanted.start_at is None and not conditions else _AND_BY_NODE)
        values += [nodes, nodes]
    if wanted.start_at is not None:
        conditions.append("until_at >= ?")
        values.append(wanted.start_at)
    if wanted.end_at is not None:
        conditions.append("since_at <= ?")
        values.append(wanted.end_at)
    return conditions, values


def _read_portion(select: Select, ids: "array[int]", wanted: HistoryFilter) -> Iterator[HistoryJob]:
    specs: dict[bytes, JobSpec] = {}
    jobs: dict[int, Job] = {}
    for job_id, digest, text, spec_text in select(
        "SELECT job_id, spec, job.record, spec.record FROM job JOIN spec ON spec = digest"
        " WHERE job_id IN (SELECT value FROM json_each(?))",
        format_json(ids.tolist()),
    ):
        if digest not in specs:
            specs[digest] = SPECS.decode(spec_text)
        jobs[job_id] = JOBS.decode(text, spec=specs[digest])
    of = ids.tolist() if wanted.all_attempts else [job_id for job_id, job in jobs.items() if job.start_at is None]
    rows: dict[int, list[Accounting]] = {}
    for job_id, text in select(
        "SELECT job_id, record FROM accounting WHERE job_id IN (SELECT value FROM json_each(?))", format_json(of)
    ):
        rows.setdefault(job_id, []).append(ACCOUNTING.decode(text))
    steps: dict[int, list[Step]] = {}
    of = ids.tolist() if wanted.with_steps else []
    for job_id, text in select(
        "SELECT job_id, record FROM step WHERE job_id IN (SELECT value FROM json_each(?))", format_json(of)
    ):
        steps.setdefault(job_id, []).append(STEPS.decode(text))
    for job_id in ids:
        if job_id in jobs:
            accounting = tuple(sorted(rows.get(job_id, ()), key=lambda row: (row.attempt, row.end_at)))
            told = tuple(sorted(steps.get(job_id, ()), key=lambda step: (step.attempt, step.number)))
            yield HistoryJob(job=jobs[job_id], accounting=accounting, steps=told)


def forget_before(connection: sqlite3.Connection, at: float, at_most: int) -> int:
    """Delete at most `at_most` purged jobs that ended before `at`, with all that hangs on them."""
    found = connection.execute(
        "SELECT job_id, spec FROM job WHERE until_at < ? AND live = 0 ORDER BY until_at LIMIT ?",
        (at, at_most),
    ).fetchall()
    ids = [(job_id,) for job_id, _ in found]
    connection.executemany("DELETE FROM accounting WHERE job_id = ?", ids)
    connection.executemany("DELETE FROM step WHERE job_id = ?", ids)
    forget_launches(connection, (job_id for job_id, _ in found))
    connection.executemany("DELETE FROM job WHERE job_id = ?", ids)
    forget_specs(connection, {digest for _, digest in found})
    return len(found)
