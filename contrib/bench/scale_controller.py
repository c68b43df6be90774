"""A real controller with a long queue, and with a long history: its socket, its store, and the commands as users run them."""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from sshq.errors import SshqError
from sshq.wire.client import Client

ROOT = Path(__file__).resolve().parents[2]
INVENTORY = """all:
  vars: {sshq_slots: 4}
  hosts:
    away: {ansible_host: 127.0.0.1, ansible_port: 9}
"""


class Instance:
    """One controller in a directory of its own; its only host cannot be reached, so all jobs stay pending."""

    def __init__(self) -> None:
        self.dir = Path(tempfile.mkdtemp(prefix="sshq-scale-"))
        self.home = self.dir / "sshq"
        self.home.mkdir(mode=0o700)
        (self.dir / "work").mkdir()
        (self.home / "inventory.yaml").write_text(INVENTORY)
        (self.home / "config.yaml").write_text("jobs_max: 2000000\nbackup_interval: never\n")
        self.env = {**os.environ, "SSHQ_HOME": str(self.home), "HOME": str(self.dir), "PYTHONPATH": str(ROOT)}

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "sshq.cli.main", *words]

    def run(self, *words: str) -> str:
        done = subprocess.run(self.command(*words), cwd=self.dir / "work", env=self.env, check=False, capture_output=True, text=True)
        return done.stdout + done.stderr

    def up(self) -> float:
        """Start the controller; seconds until its socket answers."""
        before = time.monotonic()
        starting = subprocess.Popen(self.command("up"), cwd=self.dir / "work", env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:  # `sshq up` itself may have lost its patience on a machine that does much else
            with contextlib.suppress(SshqError):
                self.ask("ping")
                break
            if time.monotonic() - before > 120:
                raise SystemExit(f"sshq up failed: {self.run('up')}")
            time.sleep(0.01)
        spent = time.monotonic() - before
        starting.wait(timeout=120)
        return spent

    def ask(self, method: str, **params: object) -> dict[str, object]:
        with Client(str(self.home / "sock")) as client:
            return client.call(method, params)

    def pid(self) -> int:
        return int(str(self.ask("status")["pid"]))

    def memory_mib(self, key: str = "VmRSS") -> float:
        text = Path(f"/proc/{self.pid()}/status").read_text()
        return int(next(line for line in text.splitlines() if line.startswith(key)).split()[1]) / 1024

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid()}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        with contextlib.suppress(Exception):
            os.kill(int((self.home / "state" / "lock").read_text().split()[0]), signal.SIGTERM)
        time.sleep(0.5)
        shutil.rmtree(self.dir, ignore_errors=True)


@contextlib.contextmanager
def others_waiting(instance: Instance) -> Iterator[list[float]]:
    """Somebody else asks for one job again and again; the list gets how long each answer took, in ms."""
    waits: list[float] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            before = time.monotonic()
            instance.ask("jobs", filter={"refs": [[1, None]]})
            waits.append((time.monotonic() - before) * 1e3)
            stop.wait(0.02)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield waits
    finally:
        stop.set()
        asking.join()


def time_listing(instance: Instance, *words: str) -> dict[str, float]:
    """Run a listing; seconds to its first and last line, its lines, its memory."""
    before = time.monotonic()
    with subprocess.Popen(instance.command(*words), cwd=instance.dir / "work", env=instance.env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        first = time.monotonic() - before
        lines = 1 + sum(1 for _ in process.stdout)
    last = time.monotonic() - before
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"first_s": first, "last_s": last, "lines": lines, "client_mib": used.ru_maxrss / 1024}


def submit_jobs(instance: Instance, jobs: int) -> float:
    """Submit through `submit_many`, a thousand at a time; jobs a second."""
    before, environ = time.monotonic(), {"PATH": "/usr/bin:/bin"}
    with Client(str(instance.home / "sock")) as client:
        for start in range(0, jobs, 1000):
            descriptions = [
                {"name": f"job{n}", "work_dir": "/tmp", "script": "#!/bin/sh\ntrue\n", "cpus_per_task": 1 + n % 4, "time_limit_s": 600 * (1 + n % 12)}
                for n in range(start, min(jobs, start + 1000))
            ]
            answer = client.call("submit_many", {"descriptions": descriptions, "environ": environ, "token": os.urandom(16).hex()})
            if "first_job_id" not in answer:
                raise SystemExit(f"the submission was not taken: {json.dumps(answer)[:500]}")
    return jobs / (time.monotonic() - before)


def measure_controller(jobs: int) -> dict[str, object]:
    instance = Instance()
    found: dict[str, object] = {}
    try:
        found["up, empty, s"] = round(instance.up(), 2)
        empty = instance.memory_mib()
        found["submit_many, jobs/s"] = round(submit_jobs(instance, jobs))
        found["memory a pending job, bytes"] = round((instance.memory_mib() - empty) * 1048576 / jobs)
        before, memory = instance.cpu_s(), instance.memory_mib()
        with others_waiting(instance) as waits:
            time.sleep(0.3)
            listing = time_listing(instance, "squeue")
        found["squeue"] = {key: round(value, 2) for key, value in listing.items()}
        found["squeue, controller"] = {
            "CPU s": round(instance.cpu_s() - before, 2), "grew MiB": round(instance.memory_mib("VmHWM") - memory, 1),
            "others waited ms": round(max(waits), 1), "others' median ms": round(sorted(waits)[len(waits) // 2], 1),
        }  # fmt: skip
        one = [time_listing(instance, "squeue", "-j", str(jobs // 2))["last_s"] * 1e3 for _ in range(5)]
        found["squeue -j one, ms"] = round(sorted(one)[2], 1)
        asked = []
        for _ in range(20):
            at = time.monotonic()
            instance.ask("jobs", filter={"refs": [[jobs // 2, None]]})
            asked.append((time.monotonic() - at) * 1e3)
        found["one job asked over the socket, ms"] = round(sorted(asked)[10], 2)
        instance.run("down")
        found["restart to answering, s"] = round(instance.up(), 2)
        found["memory after restart, MiB"] = round(instance.memory_mib(), 1)
        print(json.dumps(found, indent=1), flush=True)
    finally:
        instance.end()
    return found


def fill_history(instance: Instance, jobs: int) -> None:
    """Put finished jobs of the last 400 days into a store, as the controller would have left them."""
    import sqlite3

    from sshq.core.lifecycle import State
    from sshq.core.model import Accounting, Job, JobSpec, Launch, LaunchState, Outcome
    from sshq.store.batch import prepare_batch
    from sshq.store.records import seal, unseal

    now, day = time.time(), 86400.0
    spec = JobSpec(name="old", uid=os.getuid(), user="root", gid=0, group="root", script="0" * 32, environ="0" * 32, partitions=("lab",))
    job = Job(
        job_id=10_000_000, spec=spec, spec_id=1, state=State.COMPLETED, submit_at=1.0, eligible_at=1.0, start_at=1.0, end_at=2.0, order=1,
        attempt=1, launch_id="L" * 32, nodes=("away",), slots=(0,), exit_code=0,
    )  # fmt: skip
    launch = Launch(
        id="L" * 32, job_id=job.job_id, attempt=1, node="away", seq=1, epoch=1, boot="b", spool_id="s", state=LaunchState.SETTLED,
        outcome=Outcome.EXITED, decided_at=1.0, started_at=1.0, ended_at=2.0,
    )  # fmt: skip
    row = Accounting(
        launch_id=launch.id, job_id=job.job_id, attempt=1, node="away", state=State.COMPLETED, outcome=Outcome.EXITED, start_at=1.0,
        end_at=2.0, exit_code=0,
    )  # fmt: skip
    batch = prepare_batch([job, launch, row], {})
    job_row, launch_row, account = batch.jobs[job.job_id], batch.settled[launch.id], batch.accounting[launch.id]
    connection = sqlite3.connect(instance.home / "state" / "sshq.db", isolation_level=None)
    connection.execute("PRAGMA synchronous=OFF")
    connection.executemany("INSERT OR IGNORE INTO spec VALUES (?, ?, ?, ?)", batch.spec_rows)
    texts = [unseal(str(text)) for text in (job_row[-1], launch_row[-1], account[-1])]

    def fit(text: str, number: int, ended: float) -> str:
        text = text.replace("L" * 32, f"{number:032x}").replace("10000000", str(number)).replace("1.0", repr(ended - 1))
        return seal(text.replace("2.0", repr(ended)))

    for start in range(0, jobs, 50_000):
        rows, launches, accounts = [], [], []
        for number in range(start, min(jobs, start + 50_000)):
            ended = round(now - 400 * day + (number + 1) / jobs * 400 * day, 1) - 5
            name = f"{number + 1:032x}"
            columns = (number + 1, job_row[1], None, None, os.getuid(), "root", "old", "COMPLETED", ended - 1, ended, 0)
            rows.append((*columns, fit(texts[0], number + 1, ended)))
            launches.append((name, number + 1, "away", 0, fit(texts[1], number + 1, ended)))
            accounts.append((name, number + 1, "away", fit(texts[2], number + 1, ended)))
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO job VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        connection.executemany("INSERT INTO launch VALUES (?, ?, ?, ?, ?)", launches)
        connection.executemany("INSERT INTO accounting VALUES (?, ?, ?, ?)", accounts)
        connection.execute("COMMIT")
    connection.execute("UPDATE store SET next_job_id = ?", (jobs + 1,))
    connection.close()


def measure_history(jobs: int) -> dict[str, object]:
    instance = Instance()
    found: dict[str, object] = {"finished jobs": jobs}
    try:
        instance.up()
        instance.run("down")
        before = time.monotonic()
        fill_history(instance, jobs)
        found["filled in, s"] = round(time.monotonic() - before, 1)
        found["database, MiB"] = round((instance.home / "state" / "sshq.db").stat().st_size / 1048576)
        with others_waiting_after(instance) as waits:
            found["start to answering, s"] = round(instance.up(), 2)
            waits.clear()
            one = [time_listing(instance, "sacct", "-n", "-j", str(jobs // 2)) for _ in range(5)]
            found["sacct -j, ms"] = round(sorted(listing["last_s"] for listing in one)[2] * 1e3, 1)
            day = time_listing(instance, "sacct", "-n", "-X", "-S", "today")
            found["sacct -S today"] = {key: round(value, 2) for key, value in day.items()}
            week = time_listing(instance, "sacct", "-n", "-X", "-S", "now-7days")
            found["sacct -S now-7days"] = {key: round(value, 2) for key, value in week.items()}
            time.sleep(5)
        found["others waited at most, ms"] = round(max(waits), 1)
        print(json.dumps(found, indent=1), flush=True)
    finally:
        instance.end()
    return found


@contextlib.contextmanager
def others_waiting_after(instance: Instance) -> Iterator[list[float]]:
    """As `others_waiting`, of a controller that is not there yet."""
    waits: list[float] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            before = time.monotonic()
            with contextlib.suppress(SshqError):
                instance.ask("status")
                waits.append((time.monotonic() - before) * 1e3)
            stop.wait(0.02)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield waits
    finally:
        stop.set()
        asking.join()
