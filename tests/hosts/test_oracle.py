"""The oracle sees what it is there for: a clean run is clean, and each kind of violation, planted for real, is named."""

import json
import os
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from bed import Instance
from bed.oracle import KINDS, MARKS, collect, judge, read_marks, tally
from contrib.chaos.workload import Submitter
from sshq.store.records import seal, unseal

FAULTS = {"kill": 1}


@dataclass
class Run:
    """A run that has ended: its instance is up, its jobs are over."""

    instance: Instance
    hosts: list
    accepted: dict[int, int]
    good: int
    cancelled: int
    retried: int

    def judge(self, faults: dict[str, int] = FAULTS) -> dict[str, int]:
        counts = tally(judge(collect(self.instance, self.hosts, self.accepted, faults)))
        return {kind: n for kind, n in counts.items() if n}

    @property
    def store(self) -> str:
        return f"{self.instance.sshq_home}/state/sshq.db"

    def sql(self, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(self.store, timeout=10, isolation_level=None)) as store:
            store.create_function("altered", 2, lambda text, changes: seal(json.dumps(json.loads(unseal(text)) | json.loads(changes))))
            store.execute(statement, values)

    def marks_of(self, job: int) -> list:
        return [mark for host in self.hosts for mark in read_marks(host) if mark.job == job]

    def sign(self, what: str, launch: str, job: int, at: float, code: str = "-") -> None:
        with open(f"{self.hosts[0].home}/{MARKS}", "a") as ledger:
            ledger.write(f"{what} {launch} {job} {at} {code}\n")

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Ledgers and store as they were, whatever was planted in between."""
        ledgers = [Path(f"{host.home}/{MARKS}") for host in self.hosts]
        texts = [path.read_text() if path.exists() else None for path in ledgers]
        with closing(sqlite3.connect(self.store, timeout=10)) as store:
            kept = {table: store.execute(f"SELECT * FROM {table}").fetchall() for table in ("job", "launch", "accounting")}
        try:
            yield
        finally:
            for path, text in zip(ledgers, texts, strict=True):
                path.unlink(missing_ok=True)
                if text is not None:
                    path.write_text(text)
            with closing(sqlite3.connect(self.store, timeout=10)) as store, store:
                for table, rows in kept.items():
                    store.execute(f"DELETE FROM {table}")
                    store.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)


@pytest.fixture(scope="module")
def run(loopback) -> Iterator[Run]:
    hosts = loopback.hosts[:2]
    for host in hosts:
        Path(f"{host.home}/{MARKS}").unlink(missing_ok=True)
    with Instance() as instance:
        instance.use(hosts, sshq_slots=2)
        instance.write_config("kill_wait: 1s\nreconcile_interval: 5s\n")
        instance.up()
        instance.ready()
        os.mkdir(f"{instance.work}/out")
        submitter = Submitter(instance)
        good = submitter.submit("echo good")
        submitter.submit("exit 3")
        submitter.submit("true", "--array=1-3", tasks=3)
        retried = submitter.submit('[ "${SLURM_RESTART_COUNT:-0}" = 1 ]', "--retries", "1")
        cancelled = submitter.submit("beat 9000000000000000000")
        instance.until_state(cancelled, "RUNNING")
        instance.out("scancel", str(cancelled))
        instance.wait_for(lambda: not instance.out("squeue", "-h"), 60, "the queue to drain")
        made = Run(instance, hosts, submitter.accepted, good, cancelled, retried)
        instance.wait_for(lambda: not made.judge(), 60, lambda: f"the last files to go: {made.judge()}")
        yield made
        submitter.close()


def test_a_clean_run_is_clean(run):
    assert run.judge() == {}


def plant_a_lost_job(run):
    run.sql("DELETE FROM job WHERE job_id = ?", run.good)


def plant_a_job_that_never_ended(run):
    run.sql("UPDATE job SET state = 'RUNNING' WHERE job_id = ?", run.good)


def plant_a_run_nobody_knows(run):
    run.sign("start", "f" * 32, 999, time.time())


def plant_a_launch_that_started_twice(run):
    first = run.marks_of(run.good)[0]
    run.sign("start", first.launch, run.good, first.at + 0.001)


def plant_two_launches_at_once(run):
    first, *_, last = sorted(run.marks_of(run.retried), key=lambda mark: mark.at)
    assert first.launch != last.launch
    run.sign("beat", first.launch, run.retried, last.at)


def plant_a_start_of_what_never_started(run):
    run.sql("UPDATE accounting SET record = altered(record, '{\"outcome\": \"NEVER_STARTED\"}') WHERE job_id = ?", run.cancelled)


def plant_a_false_completed(run):
    ledgers = [Path(f"{host.home}/{MARKS}") for host in run.hosts]
    for path in ledgers:
        if path.exists():
            path.write_text("".join(f"{line}\n" for line in path.read_text().splitlines() if f" {run.good} " not in line or "end" not in line))


def plant_another_exit_code(run):
    launch = run.marks_of(run.good)[0].launch
    changes = json.dumps({"state": "FAILED", "exit_code": 5})
    run.sql("UPDATE accounting SET record = altered(record, ?) WHERE launch_id = ?", changes, launch)


def plant_a_second_row(run):
    run.sql("INSERT INTO accounting SELECT 'e' || launch_id, job_id, node, record FROM accounting WHERE job_id = ?", run.good)


def plant_a_launch_without_a_row(run):
    run.sql("DELETE FROM accounting WHERE job_id = ?", run.good)


def plant_life_after_a_cancel(run):
    run.sign("beat", run.marks_of(run.cancelled)[0].launch, run.cancelled, time.time() + 60)


PLANTS: dict[str, list[Callable[[Run], None]]] = {
    "lost": [plant_a_lost_job, plant_a_job_that_never_ended, plant_a_run_nobody_knows],
    "doubled": [plant_a_launch_that_started_twice, plant_two_launches_at_once, plant_a_start_of_what_never_started],
    "false_completed": [plant_a_false_completed, plant_another_exit_code],
    "double_accounting": [plant_a_second_row, plant_a_launch_without_a_row],
    "alive_after_end": [plant_life_after_a_cancel],
}


@pytest.mark.parametrize(("kind", "plant"), [(kind, plant) for kind, plants in PLANTS.items() for plant in plants])
def test_a_planted_violation_is_found(run, kind, plant):
    with run.restored():
        plant(run)
        found = run.judge()
    assert found.get(kind), found


def test_a_process_of_a_job_that_has_ended_is_found(run):
    environ = {"HOME": run.hosts[0].home, "SSHQ_ATTEMPT": run.marks_of(run.good)[0].launch}
    with subprocess.Popen(["sleep", "600"], env=environ | run.instance.env | environ, start_new_session=True) as left:
        try:
            assert run.judge() == {"left_over": 1}
        finally:
            left.kill()


def test_a_file_of_a_job_that_has_ended_is_found(run):
    (spool,) = Path(run.hosts[0].vars["sshq_spool"], "spool").glob(run_store_id(run))
    path = spool / "a" / f"{run.marks_of(run.good)[0].launch}.script"
    path.touch()
    try:
        assert run.judge() == {"left_over": 1}
    finally:
        with suppress(FileNotFoundError):
            path.unlink()


def run_store_id(run) -> str:
    return Path(run.instance.sshq_home, "state", "store_id").read_text().strip()


@pytest.mark.parametrize("faults", [{}, {"kill": 0}, {"kill": 3, "cut": 0}], ids=["nothing planned", "nothing done", "one kind missing"])
def test_a_run_that_did_not_inject_what_it_planned_fails(run, faults):
    assert set(run.judge(faults)) == {"no_fault"}


def test_every_kind_has_its_plant():
    assert {*PLANTS, "left_over", "no_fault"} == set(KINDS)
