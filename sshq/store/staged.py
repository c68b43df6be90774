"""Rows of many jobs on their way into the database, so that the one transaction that stores the jobs is short.

Specs and scripts, by far the most of it, are stored ahead: they mean nothing before a job names them.  They and the jobs lie in
a database of the connection too, in memory, where nobody else sees them; what is not committed goes with the process.
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


class Staging:
    """The rows that wait, each under the key of those that go in together; the memory is given back when none are left."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._keys: set[int] = set()

    def begin(self, key: int) -> None:
        """Expect rows under a key; not within a transaction."""
        if not self._keys:
            self._connection.execute("ATTACH ':memory:' AS staged")
            for table, (columns, _) in _TABLES.items():
                self._connection.execute(f"CREATE TABLE staged.staged_{table} (key, {columns})")
        self._keys.add(key)

    def put(self, key: int, batch: Batch) -> None:
        """Put the jobs of `batch` aside, and store specs and scripts; within a transaction of the caller's."""
        rows = {"spec": batch.spec_rows, "script": batch.scripts.items(), "job": batch.jobs.values()}
        for table, (columns, _) in _TABLES.items():
            marks = ", ".join("?" * (columns.count(",") + 1))
            into = f"INSERT INTO staged.staged_{table} VALUES ({key:d}, {marks})"  # noqa: S608 - our own names
            self._connection.executemany(into, rows[table])
            if table != "job":
                self._connection.executemany(f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})", rows[table])  # noqa: S608

    def take(self, key: int) -> None:
        """Take the rows of a key into the database; within a transaction of the caller's."""
        if key in self._keys:
            for table, (columns, insert) in _TABLES.items():
                self._connection.execute(f"{insert.format(columns=columns)} staged.staged_{table} WHERE key = ?", (key,))

    def drop(self, key: int) -> None:
        """Forget the rows of a key; not within a transaction."""
        if key not in self._keys:
            return
        self._keys.discard(key)
        if not self._keys:
            self._connection.execute("DETACH staged")
            return
        for table in _TABLES:
            self._connection.execute(f"DELETE FROM staged.staged_{table} WHERE key = ?", (key,))  # noqa: S608
