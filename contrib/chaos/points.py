"""The controller killed with -9 at every named point, over real sshd hosts: what must happen so that it gets there.

A controller is started with `SSHQ_CRASH=point:N`, then given the work that leads to the point until it is gone.  Nothing
is waited for between two kills: the next controller finds what the last one left.  Only at the very end a healthy one
brings all to its end, and the oracle looks.  Several lanes, each an instance with hosts of its own, run side by side.
"""

import itertools
import os
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bed import Instance
from bed.host import Host
from bed.netns import NetnsBed
from bed.oracle import Violation, collect, judge
from contrib.chaos.workload import PADDING, SLEEPER, SLEEPER_NAME, Submitter

DEATH_S = 180.0
LIFE_S = 6.0  # of a controller that passes its point once a life; then another one has to, and twice as long
# Reached once a life at most: hit by starting again instead of waiting for the Nth time.
ONCE = frozenset(
    {"epoch.taken", "hosts.reserved", "hosts.listed", "backup.before_rename", "backup.after_rename", "purge.before_commit",
     "purge.after_commit", "hosts.before_fence", "hosts.after_fence"}
)  # fmt: skip
# In a process of its own (restore), or when a store is made (migration): tests/hosts/test_crash_points.py.  Commands inside jobs:
# tests/hosts/test_upcalls.py.  Files that come back: tests/hosts/test_stage_out.py.
ELSEWHERE = frozenset(
    {"migration.before_commit", "migration.after_commit", "restore.moved", "restore.placed",
     "upcall.before_command", "upcall.command_ended", "upcall.answered",
     "staged.listed", "staged.fetched", "staged.published", "staged.synced"}
)  # fmt: skip
# What it leaves behind is what a fence is for.
UNSENT = "decide.after_commit"
CONFIG = "keepalive_interval: 1s\nkeepalive_count: 2\nreconcile_interval: 5s\nkill_wait: 1s\nfinished_keep_count: 0\n"
IDLE = ("hosts.reserved", "hosts.listed", "hosts.before_fence", "hosts.after_fence", "backup.", "epoch.")


class PointDriver:
    """Kills one instance's controller at points."""

    def __init__(self, instance: Instance, hosts: Sequence[Host]) -> None:
        self.instance, self.hosts, self.submitter = instance, hosts, Submitter(instance)
        self.kills: Counter[str] = Counter()
        self.turn = 0
        os.makedirs(f"{instance.work}/out", exist_ok=True)
        instance.use(hosts, sshq_slots=4)
        instance.write_config(CONFIG)

    def kill_at(self, point: str, hit: int = 1) -> None:
        """Start a controller that dies at this point, the Nth time, and make it."""
        if "_fence" in point:  # launches that were stored and never sent
            self._kill(UNSENT, 1)
        if point.startswith("backup."):
            for old in Path(self.instance.sshq_home, "state", "backups").glob("sshq-*.db"):
                os.utime(old, (0, 0))
        self._kill(point, 1 if point in ONCE else hit)

    def _kill(self, point: str, hit: int) -> None:
        ends_at, life_s = time.monotonic() + DEATH_S, LIFE_S if point in ONCE else DEATH_S
        while not self._live(point, hit, life_s):
            life_s *= 2
            assert time.monotonic() < ends_at, f"{point}:{hit} was not reached in {DEATH_S:.0f} s\n{self.instance.logs()}"
        self.kills[point] += 1

    def _live(self, point: str, hit: int, life_s: float) -> bool:
        """One controller's life: whether it ended at its point."""
        controller = self.instance.start_controller(f"{point}:{hit}")
        try:
            self._work_until_dead(controller, point, time.monotonic() + life_s)
            alive = controller.poll() is None
        finally:
            with suppress(ProcessLookupError):
                os.kill(controller.pid, signal.SIGKILL)
            controller.wait()
        reached = self.instance.crashed_at()
        assert alive or reached == point, f"{point}:{hit}: it ended at {reached or 'no point'}\n{self.instance.logs()}"
        return reached == point

    def _work_until_dead(self, controller: "subprocess.Popen[bytes]", point: str, until: float) -> None:
        """Give it work of the right kind, again and again: only what comes after the start passes a point."""
        up = False
        while controller.poll() is None and time.monotonic() < until:
            if not up:
                up = self._answers()
                time.sleep(0.02)
                continue
            self._one_piece(point)
            patience = time.monotonic() + 0.5
            while controller.poll() is None and time.monotonic() < patience:
                time.sleep(0.01)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(f"{self.instance.sshq_home}/sock")
            except OSError:
                return False
            return True

    def _one_piece(self, point: str) -> None:
        if point.startswith("fleet."):
            self.turn += 1
            self.instance.use(self.hosts, sshq_slots=4, sshq_weight=1 + self.turn % 7)
        elif point.startswith(("cancel.", "hosts.before_kill", "hosts.after_kill")):
            self.submitter.submit_once(SLEEPER, "-J", SLEEPER_NAME)
            self.instance.run("scancel", "-n", SLEEPER_NAME)  # those of earlier lives too, or they would fill the host
        elif point.startswith("staging."):
            self.turn += 1
            path = Path(self.instance.work, "brought", f"{self.turn}")
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(os.urandom(100_000))
            self.submitter.later(f"[ $(wc -c <brought/{self.turn}) -eq 100000 ]", "--stage-in", str(path))
        elif point == "hosts.mid_send":
            self.submitter.later(f"{PADDING}echo large")
        elif not point.startswith(IDLE):
            self.submitter.later("echo small")

    def finish(self, timeout_s: float = 120) -> list[Violation]:
        """A healthy controller brings everything to its end; then the oracle."""
        self.instance.up()
        self.submitter.settle()
        self.instance.ready(timeout_s=timeout_s)
        self.instance.out("scancel", "-n", SLEEPER_NAME)  # one whose controller died may never have been heard
        return drain_and_judge(self.instance, self.hosts, self.submitter, dict(self.kills), timeout_s)


def drain_and_judge(
    instance: Instance, hosts: Sequence[Host], submitter: Submitter, faults: dict[str, int], timeout_s: float,
    wiped: Sequence[tuple[str, float]] = (),
) -> list[Violation]:  # fmt: skip
    """Wait until the queue is empty and nodes are clean, but no longer; what is wrong then is wrong."""
    instance.wait_for(lambda: not instance.out("squeue", "-h"), timeout_s, lambda: f"the queue to drain:\n{instance.out('squeue')}")
    ends_at = time.monotonic() + 30
    while True:  # acknowledgements and sweeps come a little later
        found = judge(collect(instance, hosts, submitter.accepted, faults, wiped, submitter.unanswered))
        if {violation.kind for violation in found} - {"no_fault"} <= set() or time.monotonic() > ends_at:
            found += [Violation(kind="lost", text=f"sbatch refused: {text}") for text in submitter.refused]
            aside = [name for name in os.listdir(f"{instance.work}/out") if name.startswith(".")]
            return found + [Violation(kind="left_over", text=f"file {name} where output goes") for name in aside]
        time.sleep(0.5)


# ---- all points ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class PointsReport:
    kills: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    violations: list[Violation] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def plan_kills(points: Sequence[str], times: int) -> list[tuple[str, int]]:
    """Each point so many times, at its first, second, third … passing; slow and quick ones mixed."""
    wanted = [point for point in points if point not in ELSEWHERE]
    if any("_fence" in point for point in wanted):
        # each fence needs a kill at UNSENT before it: those count
        wanted = [point for point in wanted if point != UNSENT]
    return [(point, 1 + n % 4) for n, point in itertools.product(range(times), wanted)]


def kill_at_all(bed: NetnsBed, points: Sequence[str], times: int, *, lanes: int = 3, hosts: int = 1) -> PointsReport:
    """Every point `times` times, in lanes side by side."""
    report, lock = PointsReport(), threading.Lock()
    waiting = iter(plan_kills(points, times))

    def run_lane(driver: PointDriver) -> None:
        try:
            while True:
                with lock:
                    point, hit = next(waiting, ("", 0))
                if not point:
                    break
                driver.kill_at(point, hit)
            violations = driver.finish()
        except Exception as error:  # of a lane: it fails the run, and the other lanes' findings are shown as well
            with lock:
                report.failures.append(str(error))
            return
        finally:
            driver.submitter.close()
        with lock:
            report.violations += [v for v in violations if v.kind != "no_fault"]
            report.kills += driver.kills
            report.jobs += len(driver.submitter.accepted)

    instances = [Instance() for _ in range(lanes)]
    try:
        drivers = [PointDriver(instance, bed.add(hosts)) for instance in instances]
        threads = [threading.Thread(target=run_lane, args=(driver,)) for driver in drivers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for instance in instances:
            instance.close()
    report.violations += [
        Violation(kind="no_fault", text=f"{point} was reached {report.kills[point]} times")
        for point in points
        if point not in ELSEWHERE and report.kills[point] < times
    ]
    return report
