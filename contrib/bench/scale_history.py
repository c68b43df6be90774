"""A history of millions of finished jobs: made in the store's own tables, then asked for as users ask."""

import contextlib
import json
import pwd
import re
import shutil
import sqlite3
import time
from pathlib import Path

from scale_controller import Instance, others_waiting, submit_jobs, time_listing

from sshq.core.lifecycle import State
from sshq.core.model import Accounting, Job, JobSpec, Launch, LaunchState, Outcome
from sshq.store.batch import Batch, prepare_batch
from sshq.store.records import format_json, seal, unseal

DAYS, DAY_S = 400, 86400.0
USERS = [(found.pw_name, found.pw_uid) for found in pwd.getpwall()[:20]]
FAILED = 50  # one job of so many
PORTION = 50_000
# What stands in the pattern of a job's rows and nowhere else, and the column of `portion` that has a job's own.
NUMBER, NAME, BEGAN, ENDED = 10_000_000, "L" * 32, 1.0, 2.0
MARKS = {NUMBER: "number", NAME: "launch", BEGAN: "began", ENDED: "ended"}
COLUMNS = {
    "job": "job_id, spec, array_job_id, array_task_id, uid, user, name, state, since_at, until_at, record",
    "launch": "id, job_id, node, open, record, facts",
    "accounting": "launch_id, job_id, node, record",
}


def make_spec(user: str, uid: int, day: int) -> JobSpec:
    """Return what a user submits on one day."""
    return JobSpec(
        name=f"run{day}", uid=uid, user=user, gid=0, group="root", script="0" * 32, environ="0" * 32, partitions=("lab",)
    )


def make_pattern(spec: JobSpec, *, failed: bool) -> Batch:
    """Return the rows of one finished job, as the store itself makes them."""
    state, code = (State.FAILED, 1) if failed else (State.COMPLETED, 0)
    job = Job(
        job_id=NUMBER, spec=spec, spec_id=1, state=state, submit_at=BEGAN, eligible_at=BEGAN, start_at=BEGAN, end_at=ENDED,
        order=1, attempt=1, launch_id=NAME, nodes=("away",), slots=(0,), exit_code=code,
    )  # fmt: skip
    launch = Launch(
        id=NAME, job_id=NUMBER, attempt=1, node="away", seq=1, epoch=1, boot="b", spool_id="s", state=LaunchState.SETTLED,
        outcome=Outcome.EXITED, decided_at=BEGAN, started_at=BEGAN, ended_at=ENDED,
    )  # fmt: skip
    row = Accounting(
        launch_id=NAME, job_id=NUMBER, attempt=1, node="away", state=state, outcome=Outcome.EXITED, start_at=BEGAN,
        end_at=ENDED, exit_code=code,
    )  # fmt: skip
    return prepare_batch([job, launch, row], {})


def _put_rows(table: str, usual: tuple[object, ...], failed: tuple[object, ...]) -> str:
    """Return the statement that puts the rows of one portion into a table: one in SQL for all is four times as fast as Python."""
    values = []
    for column, one, other in zip(COLUMNS[table].split(", "), usual, failed, strict=True):
        if column in ("spec", "uid", "user", "name"):
            values.append("digest" if column == "spec" else column)
        elif one == other:
            values.append(_expression(one))
        else:
            values.append(f"CASE WHEN number % {FAILED} THEN {_expression(one)} ELSE {_expression(other)} END")
    live = (", live", ", 0") if table == "job" else ("", "")
    return f"INSERT INTO {table} ({COLUMNS[table]}{live[0]}) SELECT {', '.join(values)}{live[1]} FROM portion ORDER BY number"


def _expression(value: object) -> str:
    """Return a value of the pattern in SQL: a job's own, or what all have."""
    if value in MARKS and type(value) in (int, float, str):
        return next(column for mark, column in MARKS.items() if mark == value and type(mark) is type(value))
    if value is None or isinstance(value, int | float):
        return "NULL" if value is None else repr(value)
    text = str(value)
    if not text.startswith("{"):
        return _quote(text)
    pieces = re.split("|".join(re.escape(format_json(mark).strip('"')) for mark in MARKS), unseal(text))
    marks = re.findall("|".join(re.escape(format_json(mark).strip('"')) for mark in MARKS), unseal(text))
    columns = [next(column for mark, column in MARKS.items() if format_json(mark).strip('"') == found) for found in marks]
    return (
        "seal("
        + " || ".join(
            [_quote(pieces[0])] + [f"{column} || {_quote(piece)}" for column, piece in zip(columns, pieces[1:], strict=True)]
        )
        + ")"
    )


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def fill_history(database: Path, jobs: int) -> None:
    """Put jobs that ended in the last 400 days into a store that nobody has open, about as the controller would have left them.

    By SQL, and the indexes at the end: 30 us a job.  Rows written at once and indexes made at once are packed closer than those
    of jobs that were stored, changed and ended one by one (1 230 bytes a job for 1 420).
    """
    now = time.time()
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=-262144")
        connection.create_function("seal", 1, seal, deterministic=True)
        indexes = connection.execute(
            "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL AND"
            " tbl_name IN ('job', 'launch', 'accounting')"
        ).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        connection.execute("BEGIN")
        connection.execute(
            "CREATE TEMP TABLE submitted (who, day, digest, uid, user, name, PRIMARY KEY (who, day)) WITHOUT ROWID"
        )
        for who, (user, uid) in enumerate(USERS):
            for day in range(DAYS):
                spec = make_spec(user, uid, day)
                batch = prepare_batch([Job(job_id=1, spec=spec, spec_id=1, state=State.PENDING, submit_at=BEGAN)], {})
                connection.executemany(
                    "INSERT INTO spec (digest, script, partitions, record, kind, environ) VALUES (?, ?, ?, ?, ?, ?)",
                    batch.spec_rows,
                )
                connection.execute(
                    "INSERT INTO submitted VALUES (?, ?, ?, ?, ?, ?)", (who, day, batch.spec_rows[0][0], uid, user, spec.name)
                )
        usual, failed = make_pattern(spec, failed=False), make_pattern(spec, failed=True)
        statements = [
            _put_rows("job", usual.jobs[NUMBER], failed.jobs[NUMBER]),
            _put_rows("launch", usual.settled[NAME], failed.settled[NAME]),
            _put_rows("accounting", usual.accounting[NAME], failed.accounting[NAME]),
        ]
        connection.execute(
            "CREATE TEMP TABLE portion (number INTEGER PRIMARY KEY, began, ended, launch, digest, uid, user, name)"
        )
        for start in range(0, jobs, PORTION):
            connection.execute("DELETE FROM portion")
            connection.execute(
                "WITH RECURSIVE n (number) AS (SELECT ? UNION ALL SELECT number + 1 FROM n WHERE number < ?),"
                " ends AS (SELECT number, round(? - ? * (1 - 1.0 * number / ?), 5) AS ended FROM n)"
                " INSERT INTO portion SELECT number, round(ended - 1, 5), ended,"
                " printf('%08x', ended - 1) || lower(hex(randomblob(12))), digest, uid, user, name"
                " FROM ends CROSS JOIN submitted ON who = number % ? AND day = (number - 1) * ? / ?",
                (start + 1, min(jobs, start + PORTION), now - 5, DAYS * DAY_S, jobs, len(USERS), DAYS, jobs),
            )
            for statement in statements:
                connection.execute(statement)
        for _, sql in indexes:
            connection.execute(sql)
        connection.execute("UPDATE store SET next_job_id = ?", (jobs + 1,))
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode=WAL")


def measure_queries(jobs: int, kept: str) -> dict[str, object]:
    """Ask a kept store where it lies; nothing of it is copied, backed up or added to."""
    instance = Instance(f"state_dir: {Path(kept).resolve()}\nbackup_interval: never")
    found: dict[str, object] = {"finished jobs": jobs}
    try:
        found["database, MiB"] = round((Path(kept) / "sshq.db").stat().st_size / 1048576)
        found["start to answering, s"] = round(instance.up(), 2)
        measure_asking(instance, jobs, found, Path(kept))
        found["memory, MiB"] = round(instance.memory_mib(), 1)
        print(json.dumps(found, indent=1), flush=True)
    finally:
        instance.run("down")
        instance.end()
    return found


def measure_history(jobs: int, keep: str | None = None) -> dict[str, object]:
    """Make a history, or take the one kept in a directory; print and return what asking it costs."""
    instance = Instance("backup_interval: 24h")
    state = instance.home / "state"
    found: dict[str, object] = {"finished jobs": jobs}
    try:
        if keep is not None and (Path(keep) / "sshq.db").exists():
            shutil.copytree(keep, state)
        else:
            instance.up()
            instance.run("down")
            before = time.monotonic()
            fill_history(state / "sshq.db", jobs)
            found["filled in, s"] = round(time.monotonic() - before, 1)
            if keep is not None:
                shutil.copytree(state, keep)
        found["database, MiB"] = round((state / "sshq.db").stat().st_size / 1048576)
        found["start to answering, s"] = round(instance.up(), 2)
        # Half a minute after its start, an hour's chores and the first backup begin; so does the look at all pages, at once.
        with (
            others_waiting(instance, "submit", description=DESCRIPTION, environ={}) as commits,
            others_waiting(instance, "status") as asked,
        ):
            measure_asking(instance, jobs, found, state)
            until = time.monotonic() + 300
            while time.monotonic() < until and not list((state / "backups").glob("[!.]*.db")):
                time.sleep(1)
        found["backup made"] = bool(list((state / "backups").glob("[!.]*.db")))
        for name, waits in (("a submission meanwhile, ms", commits), ("a question meanwhile, ms", asked)):
            ordered = sorted(waits)
            found[name] = {"median": round(ordered[len(ordered) // 2], 1), "worst": round(ordered[-1], 1), "count": len(ordered)}
        measure_asking(instance, jobs, found, state, "quiet: ")
        found["submit_many, jobs/s"] = round(submit_jobs(instance, 5000))
        found["memory, MiB"] = round(instance.memory_mib(), 1)
        print(json.dumps(found, indent=1), flush=True)
    finally:
        instance.end()
    return found


DESCRIPTION = {"name": "job", "work_dir": "/tmp", "script": "#!/bin/sh\ntrue\n"}


def newest_day(path: Path) -> str:
    """Return the day of the job that ended last."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        ended = database.execute("SELECT max(until_at) FROM job WHERE until_at < 1e18").fetchone()[0]
    return time.strftime("%Y-%m-%d", time.localtime(ended))


def measure_asking(instance: Instance, jobs: int, found: dict[str, object], state: Path, label: str = "") -> None:
    """Time what users ask: five times what is small, once what is large."""
    for words in (("sacct", "-n", "-j", str(jobs // 2)), ("squeue",)):
        times = sorted(time_listing(instance, *words)["last_s"] * 1e3 for _ in range(5))
        found[f"{label}{words[0]} of one, ms"] = round(times[2], 1)
    user = USERS[-1][0]
    day = newest_day(state / "sshq.db")  # today, but for a store that was kept
    for asked in (
        f"-a -S {day}", "-a -S now-7days", f"-u {user} -S now-1day", f"-u {user} -S now-7days", f"-u {user} -S now-30days",
        "-a -s F -S now-30days -E now", f"-a --name run{DAYS - 10} -S now-30days",
    ):  # fmt: skip
        told = time_listing(instance, "sacct", "-n", "-X", *asked.split())
        found[f"{label}sacct {asked}"] = {key: round(value, 2) for key, value in told.items()}
