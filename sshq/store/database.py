"""One SQLite file, opened safely or not at all.

The rule of this file: where a store has been, none is ever begun anew, and nothing that is not certainly ours
is written to.  Beside `sshq.db` lies `store_id`, which without a database means loss.  SQLite keeps two more
files while it works and removes both at its end: the index (-shm) without the log (-wal) means a deleted log.
"""

import errno
import os
import sqlite3
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Final

from sshq.errors import CheckFailedError, SshqError, StoreError
from sshq.store.backups import APPLICATION_ID, BACKUPS, HEADER_BYTES, MAGIC, REBUILD, way_out
from sshq.store.files import make_directory, make_private, refuse_shared, sync_directory, sync_file, write_durably
from sshq.store.records import seal

NAME: Final = "sshq.db"

LONG_CHECK_BYTES_MAX: Final = 256 << 20
WHOLE_CHECK_BYTES_MAX: Final = 1 << 30  # of a larger one a start reads what it needs; all of it is read while it is in use
# Who begins to read while a commit is noted takes the writer's lock for a moment to look again: one in some ten thousand does.
BUSY_S: Final = 5.0
_NEEDED: Final = ("store", "node", "arrangement")  # beside the jobs in the queue, whose records have checksums
RESERVED: Final = 48 << 20  # what a backup leaves free: three times the reserve, more than submissions need to be taken

# SQLite's primary result codes, by what they mean to us.
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_OUR_BUG: Final = frozenset({sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_ERROR})
_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# A quota or a file size limit looks like this.  Never a failed fsync: what it lost cannot be told.
_NO_ROOM: Final = frozenset({sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE})


class FatalStoreError(StoreError):
    """The store may no longer keep what it is told: exit at once, never retry, answer nobody."""


class DiskFullError(FatalStoreError):
    """No room left, even with what was put aside."""


def read_schema() -> Mapping[int, str]:
    """Return the numbered scripts that make a database of each version out of the one before."""
    folder = Path(__file__).parent / "schema"
    return {int(file.name.split("_")[0]): file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.sql"))}


SCHEMA: Final = read_schema()  # at import: a package upgraded under a running controller changes nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """An open store file that has passed every check."""

    connection: sqlite3.Connection
    path: Path
    store_id: str
    inode: tuple[int, int]  # device and number at opening
    unchecked: bool  # too large to be read in whole before anybody is served: `CheckInUse` is owed

    @property
    def directory(self) -> Path:
        return self.path.parent

    def moved(self) -> bool:
        """Whether the file we write to is no longer the one under its name."""
        try:
            found = os.stat(self.path)
        except OSError:
            return True
        return (found.st_dev, found.st_ino) != self.inode


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What a look at a store's file has found, where it is in order."""

    store_id: str
    whole: bool  # every page was read


Crash = Callable[[str], None]  # called at named points, for tests of what survives


def _go_on(_point: str) -> None:
    """Nothing is to crash."""


def open_database(
    directory: Path, *, create: bool, schema: Mapping[int, str] = SCHEMA, crash: Crash = _go_on, on_network: bool = False,
    looked: Callable[[], Looked] | None = None,
) -> Database:  # fmt: skip
    """Open the store in `directory`, or make it where none has been.  Raises StoreError.

    `looked` returns, or raises, what a look at it has found that was begun before (`Inspection`).
    """
    path, marker = directory / NAME, directory / "store_id"
    try:
        if not create and not directory.is_dir():
            raise StoreError(f"there is no store in {directory}", hint="sshq up")
        make_private(directory)
        refuse_shared(directory, forced=on_network)
        if not path.exists():
            _refuse_loss(path, marker)
            if not create:
                raise StoreError(f"there is no store in {directory}", hint="sshq up")
            _make(path, schema, crash)
            looked = None
        found = looked() if looked is not None else look_at(path, schema)
        _check_identity(path, found.store_id, marker)
        return _open(path, found.store_id, schema, crash, unchecked=not found.whole)
    except OSError as error:
        raise StoreError(f"the store in {directory} cannot be opened: {error.strerror}") from error


def explain(error: sqlite3.Error, path: Path) -> SshqError:
    """Return our error for SQLite's: whose fault it is decides whether the controller may go on."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    primary = code & 0xFF
    name = getattr(error, "sqlite_errorname", "SQLITE_ERROR")
    if primary == sqlite3.SQLITE_FULL or (code in _NO_ROOM and not _has_room(path.parent)):
        return DiskFullError(f"no space left for the store {path}", hint=f"df -h {path.parent}")
    if _is_damage(error):
        return damaged(path, f"{error} ({name})", kind=FatalStoreError)
    if primary in _BUSY:
        return StoreError(f"another process is writing to the store {path}", hint=f"fuser -v {path}")
    if primary in _OUR_BUG:
        return CheckFailedError(f"the store refused a row: {error} ({name})")
    return FatalStoreError(f"the store {path} failed: {error} ({name})", detail=("Nothing that was promised is lost.",))


def _is_damage(error: sqlite3.Error) -> bool:
    # Text that is no text any more is the module's own error.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE or "Could not decode" in str(error)


def explain_reading(error: sqlite3.Error, path: Path) -> SshqError:
    """Return our error for one of a connection that only reads.

    Damage is fatal whoever finds it.  All else is the matter of who asked: room for a long answer, say, is not the store's.
    """
    found = explain(error, path)
    if isinstance(found, FatalStoreError) and not _is_damage(error):
        return StoreError(f"the store {path} could not be read: {error}")
    return found


def _has_room(directory: Path) -> bool:
    """Tell a quota or a file size limit, which SQLite calls an I/O error, from a failing disk."""
    probe = directory / ".room"
    try:
        handle = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            return os.write(handle, bytes(1 << 16)) == 1 << 16
        finally:
            os.close(handle)
    except OSError:
        return False
    finally:
        with suppress(OSError):
            probe.unlink()


# ---- making --------------------------------------------------------------------------------------


def _make(path: Path, schema: Mapping[int, str], crash: Crash) -> None:
    """Make a database aside, whole, then give it its name: no crash leaves half of one under it."""
    aside = path.with_name(NAME + ".new")
    for leftover in path.parent.glob(NAME + ".new*"):
        leftover.unlink()
    os.close(os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(sqlite3.connect(aside, isolation_level=None)) as connection:
        try:
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            migrate(connection, schema, crash)
            connection.execute("INSERT INTO store VALUES (1, ?, 0, 1, 0)", (uuid.uuid4().hex,))
            connection.execute("PRAGMA journal_mode=WAL")  # now: under its final name it never has a journal to roll back
        except sqlite3.Error as error:
            raise explain(error, path) from error
    for side in (f"{NAME}-wal", f"{NAME}-shm"):  # a lost database's: SQLite would replay it into ours
        if (stale := path.with_name(side)).exists():
            os.rename(stale, path.with_name(side + ".old"))
    os.rename(aside, path)
    sync_directory(path.parent)
    for folder in path.parent.parents:  # whoever made the directory did not sync its name
        with suppress(OSError):
            sync_directory(folder)


def migrate(connection: sqlite3.Connection, schema: Mapping[int, str], crash: Crash = _go_on) -> None:
    """Bring the tables to the newest version, in one transaction.

    Else a crash between two steps would leave what the release before cannot read, and the next start would put a backup of
    that in the place of the one that it can.
    """
    connection.create_function("seal", 1, seal, deterministic=True)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute("BEGIN IMMEDIATE")
    try:
        for number in sorted(n for n in schema if n > version):
            for statement in split_statements(schema[number]):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={number}")
            crash("migration.before_commit")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    crash("migration.after_commit")


def split_statements(script: str) -> list[str]:
    """Split a script at the ends of its statements (executescript would commit between them)."""
    statements, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if ";" in line and sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    return statements


# ---- checking ------------------------------------------------------------------------------------


def _refuse_loss(path: Path, marker: Path) -> None:
    if marker.exists():
        said, hint = way_out(path.parent, max(SCHEMA))
        raise StoreError(
            f"the store {path} is missing, but there was one",
            detail=(
                f"{marker} says: {marker.read_text(errors='replace').strip()[:64]}.",
                *said,
                f"To begin with an empty store on purpose, remove {marker}.",
            ),
            hint=REBUILD if hint.endswith(" FILE") else hint,
        )


def check_header(path: Path) -> None:
    """Look at the first bytes ourselves: by opening a foreign file SQLite might already change it."""
    with open(path, "rb") as file:
        header = file.read(HEADER_BYTES)
    if len(header) < HEADER_BYTES or not header.startswith(MAGIC):
        raise damaged(path, f"it does not begin as an SQLite file ({path.stat().st_size} bytes)")
    found = int.from_bytes(header[68:72], "big")
    if found != APPLICATION_ID:
        raise StoreError(
            f"{path} is not a store of sshq",
            detail=(f"It is an SQLite file of another program (application id {found}).",),
            hint="sshq up --state DIR",
        )


def _check_log(path: Path) -> None:
    log, index = path.with_name(f"{NAME}-wal"), path.with_name(f"{NAME}-shm")
    if index.exists() and not log.exists():
        said, hint = way_out(path.parent, max(SCHEMA))
        raise StoreError(
            f"the write-ahead log {log} is missing",
            detail=(
                "The controller did not end in order; what it accepted last was only in there.",
                *said,
                f"To go on without that, remove {index}.",
            ),
            hint=hint,
        )


def look_at(path: Path, schema: Mapping[int, str]) -> Looked:
    """Check a store's file, and change nothing.  Raises StoreError."""
    check_header(path)
    _check_log(path)
    whole = path.stat().st_size < WHOLE_CHECK_BYTES_MAX
    return Looked(store_id=inspect_database(path, schema, whole=whole), whole=whole)


def inspect_database(path: Path, schema: Mapping[int, str], *, whole: bool = True) -> str:
    """Check all, or what a start needs, and change nothing (read-only leaves the log alone).  Returns store_id."""
    # Only an older release, or somebody's shell, leaves a journal: it has to be rolled back before anything can be read.
    mode = "rw" if path.with_name(f"{path.name}-journal").exists() else "ro"
    with closing(sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=0)) as connection:
        try:
            connection.execute("PRAGMA trusted_schema=OFF")
            connection.execute("PRAGMA cell_size_check=ON")
            _check_pages(connection, path, whole=whole)
            _check_version(connection, path, schema)
            row = connection.execute("SELECT store_id FROM store").fetchone()
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_ERROR:  # no such table
                raise damaged(path, str(error)) from error
            raise explain(error, path) from error
    if row is None:
        raise damaged(path, "it has lost its store_id")
    return str(row[0])


def _check_copy(connection: sqlite3.Connection) -> None:
    found = connection.execute("PRAGMA quick_check(1)").fetchall()
    if found != [("ok",)]:
        raise sqlite3.DatabaseError(f"the copy is damaged: {found[0][0]}")


class CheckInUse:
    """Reads every page of a store that is in use, by a connection of its own; of a long history that takes a minute."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._stopped = Event()

    def __call__(self) -> None:
        """Do it, in any thread.  Raises FatalStoreError where a page is damaged."""
        with closing(connect_reader(self._path)) as connection:
            self._connection = connection
            if self._stopped.is_set():
                return
            try:
                _check_pages(connection, self._path, whole=True, kind=FatalStoreError)
            except (sqlite3.Error, StoreError) as error:
                if self._stopped.is_set():
                    return  # it is how it was told
                raise explain(error, self._path) if isinstance(error, sqlite3.Error) else error from None

    def stop(self) -> None:
        """Have it end soon, from another thread: a controller that ends does not wait for it."""
        self._stopped.set()
        if self._connection is not None:
            with suppress(sqlite3.Error):  # it is over
                self._connection.interrupt()


def _open(path: Path, store_id: str, schema: Mapping[int, str], crash: Crash, *, unchecked: bool) -> Database:
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_S)
    try:
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA cache_size=-16384")
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute(f"PRAGMA journal_size_limit={64 << 20}")
        _upgrade(connection, path, schema, crash)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error):
            raise explain(error, path) from error
        raise
    found = os.stat(path)
    return Database(connection=connection, path=path, store_id=store_id, inode=(found.st_dev, found.st_ino), unchecked=unchecked)


def _check_pages(connection: sqlite3.Connection, path: Path, *, whole: bool, kind: type[StoreError] = StoreError) -> None:
    # The long check compares indexes with tables, too; 0.4 s for 100 000 jobs, so not for ever.
    check = "integrity_check" if path.stat().st_size < LONG_CHECK_BYTES_MAX else "quick_check"
    try:
        if whole:
            found = [str(row[0]) for row in connection.execute(f"PRAGMA {check}(3)")]
        else:
            rows = [row for table in _NEEDED for row in connection.execute(f"PRAGMA quick_check({table})")]
            found = list(dict.fromkeys(str(row[0]) for row in rows))
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGE:
            raise
        found = [str(error)]
    if found != ["ok"]:
        raise damaged(path, *(line for text in found for line in text.splitlines()), kind=kind)


def _check_version(connection: sqlite3.Connection, path: Path, schema: Mapping[int, str]) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > max(schema):
        said, hint = way_out(path.parent, max(schema), before=version)
        raise StoreError(
            f"the store {path} was written by a newer sshq (schema {version}, this one knows {max(schema)})",
            detail=("Start the newer sshq again, or go back to the backup that was made before the upgrade.", *said),
            hint=hint,
        )


def _upgrade(connection: sqlite3.Connection, path: Path, schema: Mapping[int, str], crash: Crash) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version < max(schema):
        backup_database(connection, path.parent / BACKUPS / f"before-schema-{max(schema)}.db")
        migrate(connection, schema, crash)


def _check_identity(path: Path, store_id: str, marker: Path) -> None:
    if not marker.exists():  # a crash between the two; the database was renamed in whole
        write_durably(marker, store_id.encode() + b"\n")
    elif (noted := marker.read_text(errors="replace").strip()) != store_id:
        said, hint = way_out(path.parent, max(SCHEMA))
        raise StoreError(
            f"{path} belongs to another store",
            detail=(f"It is {store_id}, {marker} says {noted[:64]}.", *said),
            hint=hint,
        )


def damaged(path: Path, *found: str, kind: type[StoreError] = StoreError) -> StoreError:
    """Return the refusal of a store that is ours and not whole."""
    said, hint = way_out(path.parent, max(SCHEMA))
    return kind(
        f"the store {path} is damaged",
        detail=(*found, "Jobs on the nodes run on; after a restore they are found again.", *said),
        hint=hint,
    )


# ---- copying -------------------------------------------------------------------------------------


def backup_database(connection: sqlite3.Connection, target: Path, crash: Crash = _go_on) -> None:
    """Write a checked copy to `target`, all of it or nothing.  Raises StoreError; the store goes on."""
    finish_backup(copy_database(connection, target), target, crash)


def connect_reader(path: Path) -> sqlite3.Connection:
    """Return a connection that only reads a store in use; it sees what was stored when its statement began."""
    try:
        return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=10)
    except sqlite3.Error as error:
        raise explain_reading(error, path) from error


def copy_database(connection: sqlite3.Connection, target: Path) -> Path:
    """Write a copy beside `target`, for `finish_backup`, which needs no connection and may run elsewhere."""
    aside = target.with_name(f".new.{os.getpid()}.{target.name}")
    try:
        make_directory(target.parent)
        for leftover in target.parent.glob(".new.*"):  # of a crash
            leftover.unlink()
        _refuse_crowding(connection, target)
        os.close(os.open(aside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600))
        connection.execute("VACUUM INTO ?", (str(aside),))
        return aside
    except BaseException as error:
        with suppress(OSError):
            aside.unlink()
        if isinstance(error, (OSError, sqlite3.Error)):
            raise StoreError(f"the backup {target} was not made: {error}") from error
        raise


def shorten_log(path: Path) -> None:
    """Write into the database what the log holds, beside commits.

    While a copy is read the log only grows; the first commit after that would write all of it, and who waits for that
    commit with it.
    """
    place = f"{path.as_uri()}?mode=rw"
    with suppress(sqlite3.Error), closing(sqlite3.connect(place, uri=True, isolation_level=None, timeout=0)) as connection:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()


def _refuse_crowding(connection: sqlite3.Connection, target: Path) -> None:
    """A backup must not take the room that jobs need to end in."""
    pages, size = (connection.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "page_size"))
    found = os.statvfs(target.parent)
    if found.f_bavail * found.f_frsize < pages * size + RESERVED:
        raise OSError(errno.ENOSPC, "too little room is left for one")


def finish_backup(aside: Path, target: Path, crash: Crash = _go_on) -> None:
    """Check the copy, make it durable, and give it its name."""
    try:
        with closing(sqlite3.connect(aside, isolation_level=None)) as copy:
            _check_copy(copy)
        sync_file(aside)
        crash("backup.before_rename")
        os.rename(aside, target)
        crash("backup.after_rename")
        sync_directory(target.parent)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"the backup {target} was not made: {error}") from error
    finally:
        with suppress(OSError):
            aside.unlink()
