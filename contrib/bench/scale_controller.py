"""A real controller with a long queue: its socket, its store, and the commands as users run them."""

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

    def __init__(self, settings: str = "") -> None:
        self.dir = Path(tempfile.mkdtemp(prefix="sshq-scale-"))
        self.home = self.dir / "sshq"
        self.home.mkdir(mode=0o700)
        (self.dir / "work").mkdir()
        (self.home / "inventory.yaml").write_text(INVENTORY)
        (self.home / "config.yaml").write_text(f"jobs_max: 2000000\n{settings or 'backup_interval: never'}\n")
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
def others_waiting(instance: Instance, method: str = "jobs", **params: object) -> Iterator[list[float]]:
    """Somebody else asks again and again, also while no controller is up; the list gets how long each answer took, in ms."""
    waits: list[float] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            before = time.monotonic()
            with contextlib.suppress(SshqError):
                instance.ask(method, **params)
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
    before, cpu = time.monotonic(), _child_cpu_s()
    with subprocess.Popen(instance.command(*words), cwd=instance.dir / "work", env=instance.env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        first = time.monotonic() - before
        lines = 1 + sum(1 for _ in process.stdout)
    last = time.monotonic() - before
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak_mib = used.ru_maxrss / 1024  # of the largest child so far
    return {"first_s": first, "last_s": last, "lines": lines, "client_cpu_s": _child_cpu_s() - cpu, "client_mib": peak_mib}


def _child_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure_listing(instance: Instance, *words: str) -> dict[str, float]:
    """Run a long listing, three times alone and once while somebody else asks for one job."""
    before, memory = instance.cpu_s(), instance.memory_mib()
    runs = sorted((time_listing(instance, *words) for _ in range(3)), key=lambda run: run["last_s"])
    found = {**runs[1], "controller_cpu_s": (instance.cpu_s() - before) / 3, "controller_grew_mib": instance.memory_mib("VmHWM") - memory}
    with others_waiting(instance, filter={"refs": [[1, None]]}) as waits:
        time.sleep(0.3)
        time_listing(instance, *words)
    found |= {"others_median_ms": sorted(waits)[len(waits) // 2], "others_worst_ms": max(waits)}
    return {key: round(value, 2) for key, value in found.items()}


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
        for words in (("squeue",), ("squeue", "-S", "-i"), ("squeue", "-o", "%i %V")):  # times of day are laid out by the command
            found[" ".join(words)] = measure_listing(instance, *words)
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
        found["restart, CPU s"] = round(instance.cpu_s(), 2)
        found["memory after restart, MiB"] = round(instance.memory_mib(), 1)
        print(json.dumps(found, indent=1), flush=True)
    finally:
        instance.end()
    return found
