"""The store as the controller uses it: one batch, one transaction, one fsync; then it is true for ever.

Every write first compares the epoch and the file under our feet, in the same transaction, so that a
controller that lost its lock can no longer write.  What a failed commit means is decided in
`database.explain`.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from sshq.core.arrangements import PartitionRecord, Reservation
from sshq.core.model import Job, JobSpec, Launch, NodeRecord, Row
from sshq.errors import CheckFailedError, StoreError
from sshq.store.batch import JOBS, LAUNCHES, NEVER, NODES, PARTITIONS, RESERVATIONS, SPECS, Batch, Value, prepare_batch
from sshq.store.database import (
    CheckInUse,
    Database,
    DiskFullError,
    FatalStoreError,
    Looked,
    connect_reader,
    copy_database,
    damaged,
    explain,
    finish_backup,
    open_database,
    shorten_log,
)
from sshq.store.files import sync_file
from sshq.store.history import HistoryFilter, HistoryJob, forget_before, read_history
from sshq.store.kept import drop_scripts, find_spare_scripts
from sshq.store.records import format_column, format_json
from sshq.store.reserve import Reserve
from sshq.store.staged import Staging

T = TypeVar("T")
WRITTEN_MAX: Final = 10_000
TOKEN_KEPT_S: Final = 24 * 3600
ROWS_AT_ONCE: Final = 500

_PUT_JOB: Final = """
    INSERT INTO job (job_id, spec, array_job_id, array_task_id, uid, user, name, state, since_at, until_at,
        live, record)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?)
    ON CONFLICT (job_id) DO UPDATE SET spec = excluded.spec, array_job_id = excluded.array_job_id,
        array_task_id = excluded.array_task_id,
        uid = excluded.uid, user = excluded.user, name = excluded.name,
        state = excluded.state, since_at = excluded.since_at, until_at = excluded.until_at, live = 1,
        record = excluded.record"""
_CHANGE_JOB: Final = "UPDATE job SET state = ?, since_at = ?, record = ? WHERE job_id = ? AND live = 1"
_PUT_SPEC: Final = "INSERT OR IGNORE INTO spec (digest, script, partitions, record, kind, environ) VALUES (?, ?, ?, ?, ?, ?)"
_PUT_OPEN_LAUNCH: Final = """
    INSERT INTO launch (id, job_id, node, open, record, facts) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET record = excluded.record WHERE open = 1"""
# Closes an open row, or takes in one that a restored store never knew; a closed row is left as it is.
_SETTLE_LAUNCH: Final = """
    INSERT INTO launch (id, job_id, node, open, record, facts) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET open = 0, record = excluded.record WHERE open = 1"""
_PUT_NODE: Final = "INSERT INTO node VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET record = excluded.record"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What a starting controller finds."""

    store_id: str
    epoch: int
    jobs: list[Job]  # by id; those not purged
    launches: list[Launch]  # the open ones
    nodes: list[NodeRecord]
    partitions: list[PartitionRecord]
    reservations: list[Reservation]
    next_job_id: int
    max_order: int
    restored: bool  # from a backup, and `end_restore` has not been called since


class Store:
    """Use it in the thread that opened it.  The caller holds the lock on the directory."""

    def __init__(self, database: Database, crash: Callable[[str], None]) -> None:
        self._database = database
        self._connection = database.connection
        self._crash = crash
        self._reserve = Reserve(database.directory)
        self._epoch: int | None = None
        self._staging = Staging(database.connection)
        self._specs: dict[JobSpec, bytes] = {}  # known to be stored, with their digests
        self._written: dict[int, tuple[Value, ...]] = {}  # job -> what is indexed of a row that is stored, and not over

    @classmethod
    def open(
        cls, directory: str | Path, *, create: bool, crash: Callable[[str], None] = lambda _point: None, on_network: bool = False,
        looked: Callable[[], Looked] | None = None,
    ) -> Self:  # fmt: skip
        """Open the store in `directory`.  Raises StoreError, with the way out."""
        path = Path(directory).absolute()
        store = cls(open_database(path, create=create, crash=crash, on_network=on_network, looked=looked), crash)
        store._settle_log()
        store._reserve.fill()
        return store

    def _settle_log(self) -> None:
        """Write what the log holds into the database, and sync that.

        Where the last controller died of a sync that failed, the log is read from memory, and the disk may never have got
        it.  Nobody may be told of a job in there before it has been written once more, and the log is empty on the disk
        too: half of it, read again, would undo what was written.
        """
        try:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            sync_file(self.path.with_name(f"{self.path.name}-wal"))
        except OSError as error:
            self._connection.close()
            raise FatalStoreError(f"the store {self.path} failed: {error.strerror}") from error
        except sqlite3.Error as error:
            found = explain(error, self.path)
            if not isinstance(found, DiskFullError):  # which waits for room: the log is as good as it was
                self._connection.close()
                raise found from error

    @property
    def path(self) -> Path:
        return self._database.path

    @property
    def store_id(self) -> str:
        return self._database.store_id

    # ---- writing ---------------------------------------------------------------------------------

    def begin_epoch(self) -> int:
        """Take the store over: from now on no earlier controller can write to it."""

        def take() -> int:
            (epoch,) = self._connection.execute("UPDATE store SET epoch = epoch + 1 RETURNING epoch").fetchone()
            return int(epoch)

        self._epoch = None
        self._epoch = self._write(take, check_epoch=False)
        return self._epoch

    def commit(self, rows: Sequence[Row], next_job_id: int) -> None:
        """Store `rows` in one transaction; on the disk when this returns.

        Raises FatalStoreError where the controller must exit, CheckFailedError for rows it cannot take.
        """
        batch = prepare_batch(rows, self._specs)
        self._write(lambda: self._put(batch, next_job_id))
        self._specs.update(batch.specs)
        self._note_written(batch)

    def _note_written(self, batch: Batch) -> None:
        """Remember of jobs that go on what of their rows is indexed: as long as that stays, no index is touched again."""
        if len(self._written) > WRITTEN_MAX:
            self._written.clear()
        for job_id, row in batch.jobs.items():
            if row[9] == NEVER:
                self._written[job_id] = row[1:7]
            else:
                self._written.pop(job_id, None)
        for job_id in batch.purged:
            self._written.pop(job_id, None)

    def stage(self, key: int, rows: Sequence[Row]) -> None:
        """Make jobs and their scripts ready to be stored by `commit_staged`; some at a time, in as many calls as they need."""
        batch = prepare_batch(rows, {})  # all specs, also those that are stored: they may be forgotten before these jobs are
        try:
            self._staging.begin(key)
        except sqlite3.Error as error:
            raise explain(error, self.path) from error
        self._write(lambda: self._staging.put(key, batch))

    def commit_staged(self, key: int, rows: Sequence[Row], next_job_id: int) -> None:
        """As `commit`, of what was staged under `key` and of `rows`."""
        batch = prepare_batch(rows, {})

        def put() -> None:
            self._staging.take(key)
            self._put(batch, next_job_id)

        self._write(put)
        self._note_written(batch)

    def drop_staged(self, key: int) -> None:
        """Forget what was staged under `key`, stored or not."""
        try:
            self._staging.drop(key)
        except sqlite3.Error as error:
            raise explain(error, self.path) from error

    def forget_before(self, at: float, *, at_most: int = 1000) -> int:
        """Delete purged jobs that ended before `at`; returns how many.  Call again while it is `at_most`."""
        try:
            return self._write(lambda: forget_before(self._connection, at, at_most))
        finally:
            self._specs.clear()  # some may be gone

    def sweep(self, now: float, *, scripts_bytes_max: int) -> int:
        """Find and drop at once what is spare: where nobody waits for the store."""
        return self.drop_spare(now, find_spare_scripts(self._select, scripts_bytes_max))

    def drop_spare(self, now: float, scripts: Sequence[str]) -> int:
        """Delete those of `scripts` that nobody needs, and submit tokens of yesterday; returns how many rows went.

        A script stays with the history, so that its job can be submitted again, except for calls of functions, which cannot;
        what all these take has a bound, and the first that came go first (`find_spare_scripts`).  Scripts of live jobs stay in
        any case.
        """

        def delete() -> int:
            dropped = drop_scripts(self._connection, scripts)
            tokens = self._connection.execute("DELETE FROM token WHERE at < ?", (now - TOKEN_KEPT_S,))
            return dropped + tokens.rowcount

        self._specs.clear()  # else every spec there ever was would stay in memory
        return self._write(delete)

    def confirm_epoch(self) -> None:
        """Raise FatalStoreError if another controller has taken the store over since."""
        try:
            self._check_epoch()
        except sqlite3.Error as error:
            raise explain(error, self.path) from error

    def end_restore(self) -> None:
        """Note that the nodes have told what the backup did not know."""
        self._write(lambda: self._connection.execute("UPDATE store SET restored = 0"))

    def space_short(self) -> bool:
        """Whether new submissions must be refused."""
        return self._reserve.short()

    def _put(self, batch: Batch, next_job_id: int) -> None:
        run, run_many = self._connection.execute, self._connection.executemany
        run_many(_PUT_SPEC, batch.spec_rows)
        run_many("INSERT OR IGNORE INTO script VALUES (?, ?)", batch.scripts.items())
        run_many("INSERT OR IGNORE INTO variables VALUES (?, ?)", batch.variables.items())
        run_many("INSERT OR IGNORE INTO facts VALUES (?, ?)", batch.facts.items())
        changed, others = [], []
        for job_id, row in batch.jobs.items():
            if row[9] == NEVER and self._written.get(job_id) == row[1:7]:
                changed.append((row[7], row[8], row[10], job_id))
            else:
                others.append(row)
        run_many(_PUT_JOB, others)
        if changed and run_many(_CHANGE_JOB, changed).rowcount != len(changed):
            raise CheckFailedError("a job that was stored is no longer in the store")
        run_many("UPDATE job SET live = 0 WHERE job_id = ?", [(job_id,) for job_id in batch.purged])
        run_many(_PUT_OPEN_LAUNCH, batch.opened.values())
        for launch_id, row in batch.settled.items():
            if run(_SETTLE_LAUNCH, row).rowcount == 1 and launch_id in batch.accounting:
                run("INSERT INTO accounting VALUES (?, ?, ?, ?)", batch.accounting[launch_id])
                run_many("INSERT OR IGNORE INTO step VALUES (?, ?, ?, ?)", batch.steps.get(launch_id, ()))
        run_many(_PUT_NODE, batch.nodes.values())
        for (kind, name), text in batch.arrangements.items():
            run("DELETE FROM arrangement WHERE kind = ? AND name = ?", (kind, name))
            if text is not None:
                run("INSERT INTO arrangement VALUES (?, ?, ?)", (kind, name, text))
        # A token that is there already was called new by who had sent it before: it stays with its first job.
        run_many("INSERT OR IGNORE INTO token VALUES (?, ?, ?, ?)", batch.tokens)
        run("UPDATE store SET next_job_id = ? WHERE next_job_id < ?", (next_job_id, next_job_id))

    def _write(self, change: Callable[[], T], *, check_epoch: bool = True) -> T:
        """Run `change` in a transaction of our epoch; on a full disk once more, with the room of reserve and log."""
        try:
            return self._transact(change, check_epoch=check_epoch)
        except DiskFullError:
            self._reserve.release()
            with suppress(sqlite3.Error):  # the room of what the database holds already
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return self._transact(change, check_epoch=check_epoch)

    def _transact(self, change: Callable[[], T], *, check_epoch: bool) -> T:
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            if check_epoch:
                self._check_epoch()
            result = change()
            self._crash("store.before_commit")
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise explain(error, self.path) from error
            if isinstance(error, OverflowError):
                raise CheckFailedError("the store refused a row: a number of more than 64 bits") from error
            raise
        self._crash("store.after_commit")
        return result

    def _check_epoch(self) -> None:
        if self._epoch is None:
            raise CheckFailedError("the store was written to before begin_epoch")
        if self._database.moved():
            raise FatalStoreError(f"the store {self.path} was moved or removed while in use")
        (epoch,) = self._connection.execute("SELECT epoch FROM store").fetchone()
        if epoch != self._epoch:
            raise FatalStoreError(
                "another controller took over",
                detail=(f"The store's epoch is {epoch}, ours was {self._epoch}.",),
            )

    # ---- reading ---------------------------------------------------------------------------------

    def load(self) -> Loaded:
        """Return all that is live.  Raises StoreError where a record cannot be read."""
        try:
            return self._load()
        except StoreError as error:
            raise damaged(self.path, error.message) from error

    def _load(self) -> Loaded:
        epoch, next_job_id, restored = self._select("SELECT epoch, next_job_id, restored FROM store")[0]
        jobs = self._read_jobs()
        # Which specs are stored is found out again as jobs change: to enter them all would make each start longer.
        self._specs = {}
        return Loaded(
            store_id=self.store_id,
            epoch=epoch,
            jobs=jobs,
            launches=[LAUNCHES.decode(text) for (text,) in self._select("SELECT record FROM launch WHERE open = 1")],
            nodes=[NODES.decode(text) for (text,) in self._select("SELECT record FROM node ORDER BY name")],
            partitions=[PARTITIONS.decode(text) for text in self._arrangements("partition")],
            reservations=[RESERVATIONS.decode(text) for text in self._arrangements("reservation")],
            next_job_id=max(next_job_id, 1 + (self._select("SELECT max(job_id) FROM job")[0][0] or 0)),
            max_order=max((job.order for job in jobs), default=0),
            restored=bool(restored),
        )

    def _read_jobs(self) -> list[Job]:
        """Return the live jobs by id, decoded some hundred at a time."""
        jobs: list[Job] = []
        specs: dict[bytes, JobSpec] = {}
        rows: list[tuple[int, str, bytes]] = []
        new: dict[bytes, str] = {}
        for job_id, text, digest, asked in self._read(
            "SELECT job.job_id, job.record, job.spec, spec.record FROM job LEFT JOIN spec ON spec.digest = job.spec"
            " WHERE job.live = 1 ORDER BY job.job_id"
        ):
            if asked is None:
                raise StoreError(f"what job {job_id} was asked to be is lost")
            rows.append((job_id, text, digest))
            if digest not in specs:
                new[digest] = asked
            if len(rows) == ROWS_AT_ONCE:
                jobs += _decode_jobs(rows, new, specs)
                rows, new = [], {}
        return jobs + _decode_jobs(rows, new, specs)

    def _arrangements(self, kind: str) -> list[str]:
        return [text for (text,) in self._select("SELECT record FROM arrangement WHERE kind = ? ORDER BY name", kind)]

    def find_launches(self, ids: Iterable[str]) -> tuple[Launch, ...]:
        """Return those of `ids` that were ever stored, settled ones too: the others are not of this store."""
        wanted = format_json(list(ids))
        found = self._select("SELECT record FROM launch WHERE id IN (SELECT value FROM json_each(?))", wanted)
        return tuple(LAUNCHES.decode(text) for (text,) in found)

    def script(self, digest: str) -> bytes:
        found = self._select("SELECT data FROM script WHERE digest = ?", digest)
        if not found:
            raise StoreError(f"the store {self.path} has no script {digest}")
        return bytes(found[0][0])

    def script_size(self, digest: str) -> int | None:
        """Return the bytes of a script, None where it is kept no longer."""
        found = self._select("SELECT length(data) FROM script WHERE digest = ?", digest)
        return int(found[0][0]) if found else None

    def variables(self, environ: str) -> str | None:
        """Return what was noted of an environment."""
        found = self._select("SELECT record FROM variables WHERE environ = ?", environ)
        return str(found[0][0]) if found else None

    def launches_of(self, job_id: int, at_most: int) -> tuple[Launch, ...]:
        """Return the launches of a job, the newest first."""
        statement = "SELECT record FROM launch WHERE job_id = ? ORDER BY rowid DESC LIMIT ?"
        return tuple(LAUNCHES.decode(text) for (text,) in self._select(statement, job_id, at_most))

    def facts(self, digest: str) -> str | None:
        """Return what a host was."""
        found = self._select("SELECT record FROM facts WHERE digest = ?", digest)
        return str(found[0][0]) if found else None

    def token(self, token: str, uid: int) -> int | None:
        """Return the job that a submit with this token has already become."""
        found = self._select("SELECT job_id FROM token WHERE uid = ? AND token = ?", uid, format_column(token))
        return int(found[0][0]) if found else None

    def history(self, wanted: HistoryFilter) -> Iterator[HistoryJob]:
        """Yield jobs by id, live ones too.  Between two of them the store may be written to."""
        return read_history(self._select, wanted)

    def _select(self, statement: str, *values: str | float) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise explain(error, self.path) from error

    def _read(self, statement: str) -> Iterator[tuple[Any, ...]]:
        """Yield rows as they are read: all at once a hundred thousand tasks of one array would hold its spec as many times."""
        try:
            yield from self._connection.execute(statement)
        except sqlite3.Error as error:
            raise explain(error, self.path) from error

    # ---- keeping ---------------------------------------------------------------------------------

    def backup(self, path: str | Path) -> None:
        """Write a checked copy, without environments, to `path`.  Raises StoreError; the store goes on."""
        target = Path(path)
        finish_backup(copy_database(self._connection, target), target, self._crash)

    def begin_check(self) -> CheckInUse | None:
        """Return what reads every page, if opening has not.

        Where a page is damaged it raises FatalStoreError, and whoever meets it must end as if the store had not opened.
        """
        return CheckInUse(self.path) if self._database.unchecked else None

    def begin_backup(self, path: str | Path) -> Callable[[], None]:
        """Return what makes a backup in any thread, over a connection of its own: batches are stored meanwhile."""
        source, target, crash = self.path, Path(path), self._crash

        def make() -> None:
            with closing(connect_reader(source)) as connection:
                aside = copy_database(connection, target)
            shorten_log(source)
            finish_backup(aside, target, crash)

        return make

    def close(self) -> None:
        """Bring everything into the one file.  Nothing is lost without it: the next start reads the log."""
        with suppress(sqlite3.Error):
            self._connection.close()


def _decode_jobs(rows: list[tuple[int, str, bytes]], new: dict[bytes, str], specs: dict[bytes, JobSpec]) -> list[Job]:
    """Return the jobs of (id, record, digest of the spec); the specs that come for the first time are entered into `specs`."""
    specs.update(zip(new, SPECS.decode_many(list(new.values())), strict=True))
    jobs = JOBS.decode_many([text for _, text, _ in rows], spec=[specs[digest] for _, _, digest in rows])
    for (job_id, _, _), job in zip(rows, jobs, strict=True):
        if job.job_id != job_id:
            raise StoreError(f"the record of job {job_id} is that of another")
    return jobs
