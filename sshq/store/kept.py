"""What the history keeps beside its rows, each thing once under its digest: scripts, notes of environments, facts of hosts."""

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

# From the live jobs, which are few: from a script to its jobs is a way past all of the history.
_LIVE: Final = "digest IN (SELECT script FROM spec WHERE digest IN (SELECT spec FROM job WHERE live = 1))"
_REPEATABLE: Final = "EXISTS (SELECT 1 FROM spec WHERE spec.script = script.digest AND kind <> 'callable')"


def find_spare_scripts(select: Callable[..., Iterable[tuple[Any, ...]]], bytes_max: int) -> list[str]:
    """Return scripts that no live job needs and no job of the past can use, or that are too much: all are looked at."""
    # Only the constants above are put together.
    useless = select(f"SELECT digest FROM script WHERE NOT {_LIVE} AND NOT {_REPEATABLE}")  # noqa: S608
    spare = {digest: None for (digest,) in useless}
    total = 0
    for digest, size in select(f"SELECT digest, length(data) FROM script WHERE NOT {_LIVE} ORDER BY rowid DESC"):  # noqa: S608
        if digest not in spare:
            total += size
            if total > bytes_max:
                spare[digest] = None
    return list(spare)


def drop_scripts(connection: sqlite3.Connection, digests: Sequence[str]) -> int:
    """Delete those of these scripts that no live job needs, which may have changed since they were found; returns how many."""
    if not digests:
        return 0
    statement = f"DELETE FROM script WHERE digest IN (SELECT value FROM json_each(?)) AND NOT {_LIVE}"  # noqa: S608 - as above
    return connection.execute(statement, (json.dumps(digests),)).rowcount


def forget_specs(connection: sqlite3.Connection, digests: Iterable[bytes]) -> None:
    """Delete those of the specs that no job has any more, with what only they needed."""
    for digest in digests:
        found = connection.execute(
            "DELETE FROM spec WHERE digest = ? AND NOT EXISTS (SELECT 1 FROM job WHERE spec = digest) RETURNING script, environ",
            (digest,),
        ).fetchall()
        for script, environ in found:
            connection.execute(
                "DELETE FROM script WHERE digest = ? AND NOT EXISTS (SELECT 1 FROM spec WHERE spec.script = script.digest)",
                (script,),
            )
            connection.execute(
                "DELETE FROM variables WHERE environ = ?"
                " AND NOT EXISTS (SELECT 1 FROM spec WHERE spec.environ = variables.environ)",
                (environ,),
            )


def forget_launches(connection: sqlite3.Connection, job_ids: Iterable[int]) -> None:
    """Delete the closed launches of jobs, with facts of hosts that no other launch names."""
    facts: set[str] = set()
    for job_id in job_ids:
        found = connection.execute("DELETE FROM launch WHERE job_id = ? AND open = 0 RETURNING facts", (job_id,)).fetchall()
        facts.update(digest for (digest,) in found if digest is not None)
    connection.executemany(
        "DELETE FROM facts WHERE digest = ? AND NOT EXISTS (SELECT 1 FROM launch WHERE launch.facts = facts.digest)",
        [(digest,) for digest in facts],
    )
