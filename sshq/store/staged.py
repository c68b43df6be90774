"""Rows of many jobs on their way into the database, so that the one transaction that stores the jobs is short.

Specs and scripts, by far the most of it, are stored ahead: they mean nothing before a job names them.  They and the jobs lie in
tables of the connection too, in memory, where nobody else sees them; what is not committed goes with the process.
"""

import sqlite3
from typing import Final

from sshq.store.batch import Batch

# By table: its columns, and what takes them over.  A spec or script is there already, unless it was swept up meanwhile.
_TABLES: Final = {
    "spec": ("digest, script, partitions, record, kind, environ", "INSERT OR IGNORE INTO spec ({columns}) SELECT {columns} FROM"),
    "script": ("digest, data", "INSERT OR IGNORE INTO script SELECT {columns} FROM"),
    "job": (
        "job_id, spec, array_job_id, array_task_id, uid, user, name, state, since_at, until_at, record",
        "INSERT INTO job ({columns}, live) SELECT {columns}, 1 FROM",
    ),
}


def stage_rows(connection: sqlite3.Connection, key: int, batch: Batch) -> None:
    """Put the jobs of `batch` aside, to those of the same key, and store specs and scripts; in a transaction of the caller's."""
    rows = {"spec": batch.spec_rows, "script": batch.scripts.items(), "job": batch.jobs.values()}
    _make_tables(connection)
    for table, (columns, _) in _TABLES.items():
        marks = ", ".join("?" * (columns.count(",") + 1))
        connection.executemany(f"INSERT INTO staged_{table} VALUES ({key:d}, {marks})", rows[table])  # noqa: S608 - our own names
        if table != "job":
            connection.executemany(f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})", rows[table])  # noqa: S608


def insert_staged(connection: sqlite3.Connection, key: int) -> None:
    """Take the rows of a key into the database.  Within a transaction of the caller's."""
    _make_tables(connection)
    for table, (columns, insert) in _TABLES.items():
        connection.execute(f"{insert.format(columns=columns)} staged_{table} WHERE key = ?", (key,))


def drop_staged(connection: sqlite3.Connection, key: int) -> None:
    """Forget the rows of a key."""
    _make_tables(connection)
    for table in _TABLES:
        connection.execute(f"DELETE FROM staged_{table} WHERE key = ?", (key,))  # noqa: S608


def _make_tables(connection: sqlite3.Connection) -> None:
    for table, (columns, _) in _TABLES.items():
        connection.execute(f"CREATE TEMP TABLE IF NOT EXISTS staged_{table} (key, {columns})")
