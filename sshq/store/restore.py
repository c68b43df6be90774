"""Putting a backup in the place of a store that is lost.

Nothing is deleted: what stood there goes to `replaced-N`.  The store is marked as restored, because nodes may
hold launches that the backup never heard of: they are adopted before anything is decided.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from sshq.errors import StoreError
from sshq.store.backups import RESTORE
from sshq.store.database import NAME, SCHEMA, check_header, inspect_database
from sshq.store.files import make_private, refuse_shared, sync_directory, write_durably


def restore_backup(
    directory: str | Path, backup: str | Path, crash: Callable[[str], None] = lambda _point: None, *, on_network: bool = False
) -> Path:
    """Make `backup` the store of `directory`; returns where the old files went.  The caller has the lock."""
    target, source = Path(directory).absolute(), Path(backup).absolute()
    try:
        make_private(target)
        refuse_shared(target, forced=on_network)
        aside = target / f"{NAME}.new"
        for leftover in target.glob(f"{NAME}.new*"):
            leftover.unlink()
        os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        shutil.copyfile(source, aside)
        if (log := source.with_name(f"{source.name}-wal")).exists():  # no backup has one; a store set aside does
            shutil.copyfile(log, aside.with_name(f"{aside.name}-wal"))
        try:
            check_header(aside)
            store_id = inspect_database(aside, SCHEMA)
        except StoreError as error:
            aside.unlink(missing_ok=True)
            hint = RESTORE
            raise StoreError(f"{source} is not a backup that can be used", detail=error.detail, hint=hint) from error
        _mark_restored(aside)
        return _replace(target, aside, store_id, crash)
    except OSError as error:
        raise StoreError(f"{source} cannot be restored: {error.strerror}") from error


def _mark_restored(file: Path) -> None:
    try:
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("UPDATE store SET restored = 1")
            connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.Error as error:
        raise StoreError(f"{file} cannot be restored: {error}") from error


def _replace(target: Path, aside: Path, store_id: str, crash: Callable[[str], None]) -> Path:
    """Move the old files out and the new one in.  A crash between leaves `store_id`: missing, not new."""
    number = 1
    while (old := target / f"replaced-{number}").exists():
        number += 1
    old.mkdir(mode=0o700)
    for name in (NAME, f"{NAME}-wal", f"{NAME}-shm"):
        if (target / name).exists():
            os.rename(target / name, old / name)
    sync_directory(old)
    write_durably(target / "store_id", store_id.encode() + b"\n")
    crash("restore.moved")
    os.rename(aside, target / NAME)
    crash("restore.placed")
    sync_directory(target)
    return old
