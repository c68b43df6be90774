"""The jobs of a chaos run: every kind a queue must keep straight, submitted by patient users through the real commands.

Each job signs marks into a ledger on its node (tests/bed/oracle.py); which numbers sbatch gave out is noted here.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from bed import Instance
from bed.oracle import SIGN

LONG = "#" * 70
PADDING = f": '{LONG}'\n" * 800  # a launch above 16 KB travels in parts
SLEEPER = "beat 9000000000000000000"
SLEEPER_NAME = "sleeper"
LOST_ANSWER = "may have been accepted"  # how sbatch says that a job may exist
NOBODY = "Unable to contact"
PAUSE_S = 0.1


@dataclass(slots=True)
class Submitter:
    """Submits as a patient user does: where nobody listens, again a little later."""

    instance: Instance
    accepted: dict[int, int] = field(default_factory=dict)
    unanswered: int = 0
    refused: list[str] = field(default_factory=list)
    stopped: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(6, thread_name_prefix="submit"))
    _pending: list["Future[int | None]"] = field(default_factory=list)

    def submit(self, body: str, *options: str, tasks: int = 1) -> int | None:
        """Return the job's number; None when the run was stopped or sbatch refused."""
        while not self.stopped:
            refusals = len(self.refused)
            job = self.submit_once(body, *options, tasks=tasks)
            if job is not None:
                return job
            if len(self.refused) > refusals:
                return None
            time.sleep(PAUSE_S)
        return None

    def submit_once(self, body: str, *options: str, tasks: int = 1) -> int | None:
        """Ask once: the job's number, or None where nobody answered."""
        done = self.instance.run("sbatch", "--parsable", "-o", "out/%j", *options, input=f"#!/bin/sh\n{SIGN}{body}\n")
        with self._lock:
            if done.returncode == 0:
                job = int(done.stdout.split(";")[0])
                self.accepted[job] = tasks
                return job
            self.unanswered += LOST_ANSWER in done.stderr
            if NOBODY not in done.stderr:
                self.refused.append(done.stderr)
        return None

    def later(self, body: str, *options: str, tasks: int = 1) -> "Future[int | None]":
        """Submit in a thread: an sbatch whose controller died waits for the next one."""
        future = self._pool.submit(self.submit, body, *options, tasks=tasks)
        self._pending.append(future)
        return future

    def run(self, *words: str, patience_s: float = 30) -> bool:
        """Run another verb, again while nobody listens; whether it succeeded."""
        ends_at = time.monotonic() + patience_s
        while time.monotonic() < ends_at:
            done = self.instance.run(*words)
            if done.returncode == 0:
                return True
            if NOBODY not in done.stderr:
                return False
            time.sleep(PAUSE_S)
        return False

    def settle(self) -> None:
        """Wait until every submission has its answer."""
        for future in self._pending:
            future.result()
        self._pending.clear()

    def close(self) -> None:
        self.stopped = True
        self._pool.shutdown(wait=True, cancel_futures=True)


class Stream:
    """A steady stream of mixed jobs in threads of its own, until `stop`; counts what it submitted by kind."""

    def __init__(
        self, submitter: Submitter, seed: int, *, pause_s: float, threads: int = 4, leave_out: Collection[str] = (), array_max: int = 40
    ) -> None:  # fmt: skip
        self.submitter = submitter
        self.kinds: Counter[str] = Counter()
        self.pause_s = pause_s
        self.leave_out, self.array_max = leave_out, array_max
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(seed * 100 + n),), daemon=True) for n in range(threads)
        ]
        self.failures: list[str] = []

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def is_running(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def _run(self, rng: random.Random) -> None:
        kinds: list[tuple[str, Callable[[random.Random], int]]] = [
            (name.removeprefix("_do_"), getattr(self, name))
            for name in sorted(dir(self))
            if name.startswith("_do_") and name.removeprefix("_do_") not in self.leave_out
        ]
        kinds += [("array", self._do_array)] * 2  # many jobs for one command
        while not self._stop.is_set():
            name, kind = rng.choice(kinds)
            try:
                self.kinds[name] += kind(rng)
            except Exception as error:  # a thread that dies unseen would make the run a quiet one
                self.failures.append(f"{name}: {error!r}")
                return
            self._stop.wait(rng.uniform(0.2, 1.8) * self.pause_s)

    # -- the kinds: each submits and returns how many jobs that was ----------------------------------------------------
    def _do_quick(self, rng: random.Random) -> int:
        self.submitter.submit("echo quick")
        return 1

    def _do_array(self, rng: random.Random) -> int:
        tasks = rng.randint(4, self.array_max)
        self.submitter.submit("echo task $SLURM_ARRAY_TASK_ID", f"--array=1-{tasks}%{rng.randint(2, 12)}", tasks=tasks)
        return tasks

    def _do_slow(self, rng: random.Random) -> int:
        self.submitter.submit(f"beat $(($(date +%s%N) + {rng.randint(300, 2500)}000000))")
        return 1

    def _do_fails(self, rng: random.Random) -> int:
        self.submitter.submit(f"exit {rng.randint(1, 100)}")
        return 1

    def _do_killed(self, rng: random.Random) -> int:
        self.submitter.submit("kill -9 $$")
        return 1

    def _do_retried(self, rng: random.Random) -> int:
        self.submitter.submit('[ "${SLURM_RESTART_COUNT:-0}" -ge 2 ] || exit 9', "--retries", "3")
        return 1

    def _do_chain(self, rng: random.Random) -> int:
        job, count = self.submitter.submit("echo first"), 1
        for kind in rng.sample(["afterok", "afterany", "after"], 2):
            if job is None:
                break
            job, count = self.submitter.submit("echo link", "-d", f"{kind}:{job}"), count + 1
        return count

    def _do_cancelled(self, rng: random.Random) -> int:
        deaf = rng.choice(["", "trap '' TERM\n"])
        job = self.submitter.submit(f"{deaf}{SLEEPER}", "-J", SLEEPER_NAME)
        self._stop.wait(rng.choice([0.0, 0.05, 0.3, 1.0]))
        if job is not None and not self.submitter.run("scancel", str(job)):
            self.failures.append(f"scancel {job} never worked")
        return 1

    def _do_requeued(self, rng: random.Random) -> int:
        job = self.submitter.submit(f"beat $(($(date +%s%N) + {rng.randint(500, 1500)}000000))")
        self._stop.wait(rng.choice([0.1, 0.4]))
        if job is not None:
            self.submitter.run("scontrol", "requeue", str(job))  # refused once it has ended
        return 1

    def _do_limited(self, rng: random.Random) -> int:
        self.submitter.submit(SLEEPER, "-p", "brief")
        return 1

    def _do_steps(self, rng: random.Random) -> int:
        self.submitter.submit("srun -n 2 sh -c 'echo step; sleep 0.2'", "-n", "2")
        return 1

    def _do_large(self, rng: random.Random) -> int:
        self.submitter.submit(f"{PADDING}echo large")
        return 1

    def _do_shouting(self, rng: random.Random) -> int:
        self.submitter.submit("head -c 300000 /dev/zero | tr '\\0' x")
        return 1
