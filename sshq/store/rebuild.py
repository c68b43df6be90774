"""A store made anew from what the hosts still hold, under the id of the one that is lost.

It is made aside, whole, and gets its name last: a crash leaves either nothing or all of it.  It is marked as restored, so
that the next start holds what waits and leaves a gap in the numbers: the lost store may have given out more.
"""

import os
import shutil
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from sshq.core.model import Row
from sshq.errors import StoreError
from sshq.store.database import NAME, Database, open_database
from sshq.store.environ import Environments
from sshq.store.files import make_private, refuse_shared, sync_directory, write_durably
from sshq.store.jobs import Store

_ASIDE: Final = "rebuilding"


def find_store(directory: Path) -> str | None:
    """Return the id of a store that was here and is lost, None where there never was one.  StoreError: it is there."""
    if (directory / NAME).exists():
        raise StoreError(
            f"there is a store in {directory}; nothing has to be rebuilt",
            detail=("If it is damaged: sshq restore FILE, or move it away, if no backup is left.",),
            hint="sshq up",
        )
    return read_marker(directory)


def read_marker(directory: Path) -> str | None:
    """Return the id of the store that is or was here."""
    try:
        return (directory / "store_id").read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def build_store(
    directory: Path, store_id: str, rows: Sequence[Row], *, next_job_id: int, epoch: int, environs: Iterable[bytes],
    on_network: bool = False,
) -> None:  # fmt: skip
    """Make the store of `directory`.  The caller has the lock.  Raises StoreError."""
    try:
        make_private(directory)
        refuse_shared(directory, forced=on_network)
        environments = Environments(directory / "environments")
        for data in environs:
            environments.put(data)
        aside = directory / _ASIDE
        shutil.rmtree(aside, ignore_errors=True)
        _fill(open_database(aside, create=True, on_network=on_network), store_id, rows, next_job_id, epoch)
        write_durably(directory / "store_id", store_id.encode() + b"\n")
        for leftover in (f"{NAME}-wal", f"{NAME}-shm"):  # of the lost one: SQLite would replay it into ours
            if (directory / leftover).exists():
                os.rename(directory / leftover, directory / f"{leftover}.old")
        os.rename(aside / NAME, directory / NAME)
        sync_directory(directory)
        shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise StoreError(f"no store could be made in {directory}: {error.strerror}", hint=f"df -h {directory}") from error


def _fill(database: Database, store_id: str, rows: Sequence[Row], next_job_id: int, epoch: int) -> None:
    file = database.path
    store = Store(database, lambda _point: None)
    try:
        store.begin_epoch()
        store.commit(rows, next_job_id)
    finally:
        store.close()
    try:
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")  # one file, that can be renamed
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("UPDATE store SET store_id = ?, epoch = ?, restored = 1", (store_id, epoch))
    except sqlite3.Error as error:
        raise StoreError(f"no store could be made as {file}: {error}") from error
    with open(file, "rb") as whole:
        os.fsync(whole.fileno())


def add_to_store(
    directory: Path, rows: Sequence[Row], *, next_job_id: int, environs: Iterable[bytes], on_network: bool = False
) -> None:
    """Put jobs of hosts that were away into a store that was rebuilt without them.  The caller has the lock."""
    environments = Environments(directory / "environments")
    for data in environs:
        environments.put(data)
    store = Store.open(directory, create=False, on_network=on_network)
    try:
        store.begin_epoch()
        store.commit(rows, next_job_id)
    finally:
        store.close()
