"""Cancel against launch, and cancel against exit, again and again over real sshd hosts: one of two things happened, never both.

The jobs' own ledgers decide, and a look at all processes of this machine; sshq's word is what is judged.  Delays are
moved until both sides of each race have occurred: a run in which one side won every time has tested nothing, and fails.

A campaign: SSHQ_RACES=1000 pytest tests/hosts/test_cancel_races.py
"""

import contextlib
import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from sshq.wire.client import Client

from .ledger import SIGN, attempts_of, find_wrong, read_accounts, read_ledgers

RACES = int(os.environ.get("SSHQ_RACES", "100"))
SEED = int(os.environ.get("SSHQ_RACE_SEED", "1"))
BATCH = 25
LEAST = 5  # of each side, in all
BATCHES_MAX = 4 + 4 * -(-RACES // BATCH)  # until both sides have occurred

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + RACES)]


class Course:
    """An instance with four hosts, a connection to its controller, and the mark of its jobs."""

    def __init__(self, instance, hosts) -> None:
        self.instance, self.hosts = instance, hosts
        self.mark = f"{os.getpid()}.{time.monotonic_ns()}"
        self.client = Client(f"{instance.sshq_home}/sock")
        self.random = random.Random(SEED)

    def submit(self, script: str, **fields: object) -> int:
        description = {"name": "race", "script": f"#!/bin/sh\n{script}\n", "work_dir": self.instance.work, "std_out": "/dev/null", "anywhere": True}
        environ = {"PATH": "/usr/bin:/bin", "RACE": self.mark}
        return self.client.call("submit", {"description": description | fields, "environ": environ})["job_id"]

    def cancel(self, job: int) -> dict[str, object]:
        (result,) = self.client.call("cancel", {"filter": {"refs": [[job, None]]}})["results"]
        return result

    def views(self, jobs: list[int]) -> dict[int, dict[str, object]]:
        wanted = {"filter": {"refs": [[job, None] for job in jobs]}, "finished": True}
        return {view["job_id"]: view for view in self.client.stream("jobs", wanted)}

    def alive(self) -> set[int]:
        """The jobs of which something lives on this machine, which is all four hosts."""
        found = set()
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError):
                    variables = Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
                    if f"RACE={self.mark}".encode() in variables:
                        found |= {int(v[13:]) for v in variables if v.startswith(b"SLURM_JOB_ID=") and v[13:].isdigit()}
        return found

    def await_ends(self, jobs: list[int]) -> dict[int, dict[str, object]]:
        """Each job's last view.  Of whoever is shown as ended and released, nothing may live from that moment on."""
        over: dict[int, dict[str, object]] = {}

        def all_over() -> bool:
            views = self.views([job for job in jobs if job not in over])
            over.update({j: v for j, v in views.items() if v["state"] in ("CANCELLED", "COMPLETED", "FAILED") and not v["completing"]})
            undead = self.alive() & over.keys()
            assert not undead, [over[job] for job in undead]
            return len(over) == len(jobs)

        self.instance.wait_for(all_over, 90, lambda: f"all over but {sorted(set(jobs) - over.keys())}")
        return over

    def started(self) -> set[int]:
        return {start.job for start in read_ledgers(self.hosts)}


@pytest.fixture
def course(instance, loopback):
    hosts = loopback.hosts[:4]
    for host in hosts:
        Path(host.home, "ledger").unlink(missing_ok=True)
    instance.use(hosts, sshq_slots=64, sshq_cpus=64, sshq_memory="64G")
    instance.write_config("kill_wait: 5s\nreconcile_interval: 5s\n")
    instance.up()
    instance.ready()
    made = Course(instance, hosts)
    yield made
    made.client.close()


def race(course, run_one, judge, centre_s: float, step_s: float) -> Counter:
    """Run races in batches around a delay, and move the delay towards the side that wins too seldom."""
    outcomes: Counter = Counter()
    batches = 0
    while sum(outcomes.values()) < RACES or min(outcomes["early"], outcomes["late"]) < LEAST:
        assert batches < BATCHES_MAX, f"seed {SEED}: one side never wins: {outcomes}, delay {centre_s:.3f} s"
        jobs = {}
        for _ in range(BATCH):
            job, note = run_one(centre_s + course.random.uniform(-1, 1) * step_s)
            jobs[job] = note
        ends = course.await_ends(list(jobs))
        accounts = read_accounts(course.instance)
        sides = Counter(judge(job, jobs[job], ends[job], accounts[job]) for job in jobs)
        outcomes += sides
        batches += 1
        # "early": the cancel won.  The next batch's delay goes where the other side is.
        centre_s += step_s * (sides["early"] - sides["late"]) / BATCH
    print(f"seed {SEED}: {dict(outcomes)} in {batches} batches; the delay went to {centre_s * 1000:.0f} ms")
    return outcomes


def test_cancel_against_launch(course):
    """Never started, or started and killed; nothing starts once a job is shown as cancelled."""

    def run_one(delay_s: float) -> tuple[int, None]:
        job = course.submit(f"{SIGN}\nsleep 600")
        time.sleep(max(0.0, delay_s))
        assert course.cancel(job)["outcome"] == "cancelled"
        return job, None

    def judge(job, _note, view, account) -> str:
        assert view["state"] == "CANCELLED", view
        assert view["survivors"] == []
        ran = [a for a in attempts_of(account) if a["outcome"] != "never_started"]
        # Killed before its first line, it has run and is in no ledger; what never started is in none for certain.
        assert (job in course.started()) <= len(ran) <= 1, (job, attempts_of(account))
        return "late" if ran else "early"

    race(course, run_one, judge, centre_s=0.02, step_s=0.03)
    course.instance.restart()  # all links list again: whatever had been on its way would start now
    course.instance.ready()
    assert not course.alive()
    assert find_wrong(read_ledgers(course.hosts), read_accounts(course.instance)) == []


def test_cancel_against_exit(course):
    """Ended by itself with its record, or cancelled; a job that did not come to its end is never COMPLETED."""
    gates, done = Path(course.instance.dir, "gates"), Path(course.instance.dir, "done")
    gates.mkdir()
    made = iter(range(10**9))
    ready: list[tuple[int, str]] = []
    script = f'{SIGN}\nread -r _ <"{gates}/$1"\necho "$SLURM_JOB_ID" >>{done}\nexit 0'

    def make_ready() -> None:
        names = [str(next(made)) for _ in range(BATCH)]
        for name in names:
            os.mkfifo(gates / name)
        jobs = [(course.submit(script, args=[name]), name) for name in names]
        numbers = {job for job, _ in jobs}
        course.instance.wait_for(lambda: numbers <= course.started(), 60, "a batch waits at its gates")
        ready.extend(jobs)

    def run_one(delay_s: float) -> tuple[int, str]:
        """Open the gate and cancel, the one or the other first."""
        if not ready:
            make_ready()
        job, name = ready.pop()
        gate = os.open(gates / name, os.O_RDWR | os.O_NONBLOCK)  # read-write: the job may be gone
        answer = None
        if delay_s < 0:
            answer = course.cancel(job)["outcome"]
            time.sleep(-delay_s)
        os.write(gate, b"\n")
        if delay_s >= 0:
            time.sleep(delay_s)
            answer = course.cancel(job)["outcome"]
        kept.append(gate)
        return job, answer

    def judge(job, answer, view, account) -> str:
        (attempt,) = attempts_of(account)
        assert answer in ("cancelled", "ended")
        came_to_its_end = str(job) in done.read_text().split()
        if view["state"] == "COMPLETED":
            assert came_to_its_end, (job, answer, attempt)
            assert (attempt["state"], attempt["exit_code"], attempt["exit_signal"]) == ("COMPLETED", 0, None)
            return "late"
        assert view["state"] == "CANCELLED", view
        assert answer == "cancelled", (job, attempt)  # who was told that it had ended may rely on it
        assert attempt["state"] == "CANCELLED"
        return "early"

    kept: list[int] = []
    done.touch()
    try:
        race(course, run_one, judge, centre_s=0.0, step_s=0.03)
    finally:
        for gate in kept:
            os.close(gate)
    assert find_wrong(read_ledgers(course.hosts), read_accounts(course.instance)) == []


def test_a_whole_array_is_cancelled_while_it_starts(course):
    """Some of its tasks run, some are on their way, some wait: afterwards nothing of any of them lives, or ever starts."""
    count = RACES
    array = course.submit(f"{SIGN}\nsleep 600", array=f"0-{count - 1}")
    course.instance.wait_for(lambda: len(course.started()) >= count // 5, 60, "some tasks run")
    course.client.call("cancel", {"filter": {"refs": [[array, None]]}})
    course.instance.wait_for(
        lambda: not course.instance.out("squeue", "-h"), 120, lambda: f"the queue is empty: {course.instance.out('squeue')}"
    )
    assert not course.alive()
    started = read_ledgers(course.hosts)
    accounts = read_accounts(course.instance)
    assert find_wrong(started, accounts) == []
    assert {row["state"]["current"] for row in accounts.values()} == {"CANCELLED"}
    assert len({start.job for start in started}) < count
    course.instance.restart()
    course.instance.ready()
    assert read_ledgers(course.hosts) == started
