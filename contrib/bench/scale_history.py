"""A history of millions of finished jobs: made in the store's own tables, then asked for as users ask."""

import contextlib
import json
import pwd
import shutil
import sqlite3
import time
from pathlib import Path

from scale_controller import Instance, others_waiting, submit_jobs, time_listing

from sshq.core.lifecycle import State
from sshq.core.model import Accounting, Job, JobSpec, Launch, LaunchState, Outcome
from sshq.store.batch import Batch, prepare_batch
from sshq.store.records import seal, unseal

DAYS, DAY_S = 400, 86400.0
USERS = [(found.pw_name, found.pw_uid) for found in pwd.getpwall()[:20]]
PORTION = 50_000
NUMBER, NAME, BEGAN, ENDED = 10_000_000, "L" * 32, 1.0, 2.0  # what stands in the pattern of a job's rows, and nowhere else


def make_pattern(user: str, uid: int) -> Batch:
    """Return the rows of one finished job, as the store itself makes them."""
    spec = JobSpec(
        name="old", uid=uid, user=user, gid=0, group="root", script="0" * 32,
        environ="0" * 32, partitions=("lab",),
    )  # fmt: skip
    job = Job(
        job_id=NUMBER, spec=spec, spec_id=1, state=State.COMPLETED, submit_at=BEGAN, eligible_at=BEGAN, start_at=BEGAN, end_at=ENDED,
        order=1, attempt=1, launch_id=NAME, nodes=("away",), slots=(0,), exit_code=0,
    )  # fmt: skip
    launch = Launch(
        id=NAME, job_id=NUMBER, attempt=1, node="away", seq=1, epoch=1, boot="b", spool_id="s", state=LaunchState.SETTLED,
        outcome=Outcome.EXITED, decided_at=BEGAN, started_at=BEGAN, ended_at=ENDED,
    )  # fmt: skip
    row = Accounting(
        launch_id=NAME, job_id=NUMBER, attempt=1, node="away", state=State.COMPLETED, outcome=Outcome.EXITED, start_at=BEGAN,
        end_at=ENDED, exit_code=0,
    )  # fmt: skip
    return prepare_batch([job, launch, row], {})


class Pattern:
    """The rows of one job, launch and accounting, with places for the number and the times."""

    def __init__(self, batch: Batch) -> None:
        self.spec_rows = batch.spec_rows
        self._rows = [[_blank(value) for value in row] for row in (batch.jobs[NUMBER], batch.settled[NAME], batch.accounting[NAME])]

    def fill(self, number: int, ended: float) -> list[tuple[object, ...]]:
        """Return the three rows for one job."""
        given = {"number": number, "name": f"{number:032x}", "began": ended - 1, "ended": ended}
        return [tuple([value(given) if callable(value) else value for value in row]) for row in self._rows]


def _blank(value: object) -> object:
    """Return a value of the pattern, or what makes it of the number and the times."""
    for key, mark in (("number", NUMBER), ("name", NAME), ("began", BEGAN), ("ended", ENDED)):
        if value == mark and type(value) is type(mark):
            return lambda given: given[key]
    if not isinstance(value, str) or not value.startswith("{"):
        return value
    text = unseal(value).replace("%", "%%").replace(NAME, "%(name)s").replace(str(NUMBER), "%(number)d")
    text = text.replace(repr(BEGAN), "%(began)r").replace(repr(ENDED), "%(ended)r")
    return lambda given: seal(text % given)


def fill_history(database: Path, jobs: int) -> None:
    """Put jobs that ended in the last 400 days into a store that nobody has open, as the controller would have left them."""
    now = time.time()
    patterns = [Pattern(make_pattern(*user)) for user in USERS]
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=-262144")
        columns = {table: len(connection.execute(f"PRAGMA table_info({table})").fetchall()) for table in ("spec", "job", "launch", "accounting")}
        put = {table: f"INSERT INTO {table} VALUES ({', '.join('?' * count)})" for table, count in columns.items()}
        for pattern in patterns:
            connection.executemany(put["spec"], pattern.spec_rows)
        put["job"] = (
            "INSERT INTO job (job_id, spec, array_job_id, array_task_id, uid, user, name, state, since_at, until_at, live, record)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?)"
        )
        for start in range(0, jobs, PORTION):
            numbers = range(start, min(jobs, start + PORTION))
            ends = (round(now - 5 - DAYS * DAY_S * (1 - (n + 1) / jobs), 1) for n in numbers)
            rows = [patterns[n % len(USERS)].fill(n + 1, ended) for n, ended in zip(numbers, ends, strict=True)]
            connection.execute("BEGIN")
            for table, found in zip(("job", "launch", "accounting"), zip(*rows, strict=True), strict=True):
                connection.executemany(put[table], found)
            connection.execute("COMMIT")
        connection.execute("UPDATE store SET next_job_id = ?", (jobs + 1,))


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
        with others_waiting(instance, "submit", description=DESCRIPTION, environ={}) as commits, others_waiting(instance, "status") as asked:
            measure_asking(instance, jobs, found)
            until = time.monotonic() + 300
            while time.monotonic() < until and not list((state / "backups").glob("[!.]*.db")):
                time.sleep(1)
        found["backup made"] = bool(list((state / "backups").glob("[!.]*.db")))
        for name, waits in (("a submission meanwhile, ms", commits), ("a question meanwhile, ms", asked)):
            ordered = sorted(waits)
            found[name] = {"median": round(ordered[len(ordered) // 2], 1), "worst": round(ordered[-1], 1), "count": len(ordered)}
        measure_asking(instance, jobs, found, "quiet: ")
        found["submit_many, jobs/s"] = round(submit_jobs(instance, 5000))
        found["memory, MiB"] = round(instance.memory_mib(), 1)
        print(json.dumps(found, indent=1), flush=True)
    finally:
        instance.end()
    return found


DESCRIPTION = {"name": "job", "work_dir": "/tmp", "script": "#!/bin/sh\ntrue\n"}


def measure_asking(instance: Instance, jobs: int, found: dict[str, object], label: str = "") -> None:
    """Time what users ask: five times what is small, once what is large."""
    for words in (("sacct", "-n", "-j", str(jobs // 2)), ("squeue",)):
        times = sorted(time_listing(instance, *words)["last_s"] * 1e3 for _ in range(5))
        found[f"{label}{words[0]} of one, ms"] = round(times[2], 1)
    user = USERS[-1][0]
    for asked in ("-a -S today", "-a -S now-7days", f"-u {user} -S now-7days", f"-u {user} -S now-1day"):
        told = time_listing(instance, "sacct", "-n", "-X", *asked.split())
        found[f"{label}sacct {asked}"] = {key: round(value, 2) for key, value in told.items()}
