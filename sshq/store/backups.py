"""Backups: their names, which there are, which of them are good, and how old.

A refusal to open a store ends in the command that puts the newest good one in its place; so whoever reads it need not look
for anything.
"""

import os
import shlex
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

APPLICATION_ID: Final = 0x73736871  # "sshq", at byte 68 of the file
MAGIC: Final = b"SQLite format 3\0"
HEADER_BYTES: Final = 100
BACKUPS: Final = "backups"
RESTORE: Final = "sshq restore"  # the command every refusal points to
REBUILD: Final = "sshq rebuild"  # where there is no backup: from what the hosts hold
_TIMED: Final = "sshq-*.db"  # those made by the hour; others (before an upgrade, or somebody's own) are never removed


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """One file, and what is wrong with it."""

    path: Path
    made_at: float
    size: int
    schema: int = 0
    jobs: int = 0
    problem: str | None = None


def name_backup(directory: Path, now: float) -> Path:
    """Return where the backup of this moment goes (UTC, so that an hour in autumn is not written over)."""
    return directory / BACKUPS / time.strftime("sshq-%Y%m%dT%H%M%SZ.db", time.gmtime(now))


def is_due(directory: Path, now: float, interval_s: float) -> bool:
    """Whether the last one is older than that; a controller that is started again often has backups nevertheless."""
    last = max((_time_of(path) for path in (directory / BACKUPS).glob(_TIMED)), default=0.0)
    return not 0 <= now - last < interval_s


def prune_backups(directory: Path, keep: int) -> None:
    """Remove the oldest of those made by the hour."""
    for path in sorted((directory / BACKUPS).glob(_TIMED), key=_time_of)[:-keep]:
        path.unlink(missing_ok=True)


def find_backups(directory: Path, newest_schema: int, pattern: str = "*.db") -> Iterator[Backup]:
    """Yield the backups of a state directory, the newest first, each looked at."""
    for path in sorted((directory / BACKUPS).glob(pattern), key=_time_of, reverse=True):
        yield inspect_backup(path, newest_schema)


def inspect_backup(path: Path, newest_schema: int) -> Backup:
    """Look at one file; nothing is changed, nothing made beside it."""
    found = Backup(path=path, made_at=_time_of(path), size=0)
    try:
        found = Backup(path=path, made_at=found.made_at, size=path.stat().st_size)
        with open(path, "rb") as file:
            header = file.read(HEADER_BYTES)
        if len(header) < HEADER_BYTES or not header.startswith(MAGIC) or header[68:72] != APPLICATION_ID.to_bytes(4, "big"):
            return _with(found, problem="not a store of sshq")
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            (schema,) = connection.execute("PRAGMA user_version").fetchone()
            if schema > newest_schema:
                return _with(found, schema=schema, problem=f"of a newer sshq (schema {schema})")
            if connection.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]:
                return _with(found, schema=schema, problem="damaged")
            (jobs,) = connection.execute("SELECT count(*) FROM job").fetchone()
            return _with(found, schema=schema, jobs=jobs)
    except (OSError, sqlite3.Error) as error:
        return _with(found, problem=f"damaged: {error}")


def _with(backup: Backup, *, schema: int = 0, jobs: int = 0, problem: str | None = None) -> Backup:
    return Backup(path=backup.path, made_at=backup.made_at, size=backup.size, schema=schema, jobs=jobs, problem=problem)


def way_out(directory: Path, newest_schema: int, *, before: int = 0) -> tuple[tuple[str, ...], str]:
    """Return lines about the backup to use, and the command; with `before`, the one made before that schema came."""
    said: list[str] = []
    patterns = [f"before-schema-{before}.db", "*.db"] if before else ["*.db"]
    for backup in (backup for pattern in patterns for backup in find_backups(directory, newest_schema, pattern)):
        if backup.problem is None:
            age = format_age(time.time() - backup.made_at)
            which = "backup made before that upgrade" if before and backup.path.name == patterns[0] else "newest good backup"
            return (*said, f"The {which} is {age} old; `{RESTORE}` lists all."), f"{RESTORE} {shlex.quote(str(backup.path))}"
        line = f"{backup.path} is no help: {backup.problem}."
        if line not in said:
            said.append(line)
    said = [*said[:3], f"There is no good backup in {directory / BACKUPS}."]
    for kept in sorted(directory.glob("replaced-*/sshq.db"), key=_time_of, reverse=True):  # by a restore, perhaps one cut short
        if inspect_backup(kept, newest_schema).problem is None:
            return (*said, f"{kept} stood here before a restore began."), f"{RESTORE} {shlex.quote(str(kept))}"
    return tuple(said), f"{RESTORE} FILE"


def format_age(seconds: float) -> str:
    """Return the age in the largest unit that is not less than two of it: "90 minutes", "3 days"."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(0, seconds) // 1:.0f} seconds"


def format_backups(found: list[Backup], directory: Path, now: float) -> str:
    """Return the table that `sshq restore` without a file prints."""
    if not found:
        return f"no backups in {directory / BACKUPS}\n"
    rows = [("BACKUP", "AGE", "SIZE", "JOBS", "STATE")]
    for b in found:
        jobs = "?" if b.problem else str(b.jobs)
        rows.append((str(b.path), format_age(now - b.made_at), f"{-(-b.size // 1024)}K", jobs, b.problem or "good"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]) for row in rows]
    return "\n".join(lines) + "\n"


def _time_of(path: Path) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0
