"""A storm: a stream of jobs on real hosts while controllers, cables and nodes fail; then calm, and the oracle."""

import os
import random
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from bed import Instance
from bed.netns import NetnsBed, NetnsHost
from bed.oracle import Violation
from contrib.chaos.faults import NETWORK, NODE, Injector, Mended, give_small_disk
from contrib.chaos.points import ELSEWHERE, drain_and_judge
from contrib.chaos.workload import SLEEPER_NAME, Stream, Submitter
from sshq.controller.crash import POINTS

CONFIG = (
    "keepalive_interval: 1s\nkeepalive_count: 2\nreconcile_interval: 5s\nkill_wait: 1s\nconnect_timeout: 5s\n"
    "finished_keep_count: 300\n"
)
SLOTS = 4
DRAIN_S = 240.0
TENDED_S = 2.0


@dataclass(slots=True, kw_only=True)
class StormPlan:
    """How hard it blows."""

    seed: int
    hosts: int = 8
    small_disks: int = 2
    kills: int = 200  # of the controller
    jobs: int = 2000
    network: int = 100
    nodes: int = 50
    calm_s: float = 60.0  # faults of hosts under a controller that stays: how long until each is whole again
    pause_s: float = 1.0  # of one of three submitters, between two submissions
    life_s: tuple[float, float] = (0.8, 3.0)
    hold_s: tuple[float, float] = (0.5, 3.0)
    longest_s: float = 1800.0
    leave_out: tuple[str, ...] = ()  # kinds of jobs
    array_max: int = 40  # tasks


@dataclass(slots=True)
class StormReport:
    faults: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    launches: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    recovery_s: list[float] = field(default_factory=list)
    took_s: float = 0.0


class Storm:
    """One run.  Everything random comes from the plan's seed; what the machine does with it is its own."""

    def __init__(self, bed: NetnsBed, instance: Instance, plan: StormPlan) -> None:
        self.plan, self.instance = plan, instance
        self.rng = random.Random(plan.seed)
        self.hosts: Sequence[NetnsHost] = bed.add(plan.hosts)
        for host in self.hosts[: plan.small_disks]:
            give_small_disk(host)
        names = [host.name for host in self.hosts]
        instance.use(self.hosts, sshq_slots=SLOTS, groups={"brief": (names, {"sshq_default_time": "0:03"})})
        instance.write_config(CONFIG)
        os.mkdir(f"{instance.work}/out")
        self.submitter = Submitter(instance)
        self.stream = Stream(self.submitter, plan.seed, pause_s=plan.pause_s, leave_out=plan.leave_out, array_max=plan.array_max)
        self.network = Injector(self.hosts, NETWORK, random.Random(plan.seed + 1), hold_s=plan.hold_s)
        self.node = Injector(self.hosts, NODE, random.Random(plan.seed + 2), hold_s=plan.hold_s, pause_s=0.5)
        self.node._busy, self.node._lock = self.network._busy, self.network._lock  # noqa: SLF001  # one fault a host
        self.kills: Counter[str] = Counter()
        self.report = StormReport()
        self.tended_at = 0.0

    def run(self) -> StormReport:
        """Blow, calm down, judge."""
        start = time.monotonic()
        self.instance.up()
        self.instance.ready()
        self.instance.down()
        self.stream.start()
        self.network.start(2)
        self.node.start(1)
        self._kill_controllers(start + self.plan.longest_s)
        self._calm()
        self._end()
        self.report.took_s = time.monotonic() - start
        return self.report

    # -- the controller ------------------------------------------------------------------------------------------------
    def _kill_controllers(self, ends_at: float) -> None:
        """Short lives: each ends at a point if it gets there, else wherever it is."""
        points = [point for point in POINTS if point not in ELSEWHERE]
        self.rng.shuffle(points)
        while not self._is_enough() and time.monotonic() < ends_at:
            point = points[sum(self.kills.values()) % len(points)]
            wanted = f"{point}:{self.rng.randint(1, 5)}" if self.rng.random() < 0.7 else ""
            controller = self.instance.start_controller(wanted)
            try:
                until = time.monotonic() + self.rng.uniform(*self.plan.life_s)
                while controller.poll() is None and time.monotonic() < until:
                    time.sleep(0.02)
                died = controller.poll() is not None
            finally:
                controller.kill()
                controller.wait()
            reached = self.instance.crashed_at()
            if died and not reached:
                self.report.failures.append(f"a controller ended by itself ({controller.returncode}): {self._last_words()}")
                return
            self.kills[reached or "random"] += 1
            if time.monotonic() - self.tended_at > TENDED_S * 10:  # who tends has a controller that stays a while
                self._live_a_while()

    def _last_words(self) -> str:
        return Path(self.instance.sshq_home, "state", "startup.log").read_text(errors="replace")[-1500:]

    def _live_a_while(self) -> None:
        controller = self.instance.start_controller()
        try:
            time.sleep(3.0)
            self._tend()
        finally:
            controller.kill()
            controller.wait()
        self.kills["random"] += 1

    def _is_enough(self) -> bool:
        plan = self.plan
        return (
            sum(self.kills.values()) >= plan.kills
            and sum(self.stream.kinds.values()) >= plan.jobs
            and sum(self.network.counts.values()) >= plan.network * 0.7
            and sum(self.node.counts.values()) >= plan.nodes * 0.7
        )

    def _tend(self) -> None:
        """What an administrator does after such faults: held jobs are released, drained nodes taken back."""
        self.tended_at = time.monotonic()
        listed = self.instance.run("squeue", "-h", "-t", "PD", "-o", "%A %r").stdout.splitlines()
        rows = [line.partition(" ") for line in listed]
        if held := [job for job, _, reason in rows if "held" in reason.lower()]:
            self.instance.run("scontrol", "release", ",".join(held))
        if hopeless := [job for job, _, reason in rows if "NeverSatisfied" in reason]:
            self.instance.run("scancel", *hopeless)
        nodes = self.instance.run("sinfo", "-h", "-N", "-o", "%N %T").stdout.splitlines()
        for name in sorted({line.split()[0] for line in nodes if "drain" in line}):
            self.instance.run("scontrol", "update", f"nodename={name}", "state=resume")

    # -- the calm ------------------------------------------------------------------------------------------------------
    def _calm(self) -> None:
        """Hosts go on failing; the controller stays: now every recovery can be timed."""
        self.instance.up()
        self.instance.ready(timeout_s=60) if not self.plan.calm_s else None
        begin = time.time()
        ends_at = time.monotonic() + self.plan.calm_s
        while time.monotonic() < ends_at or self._lacks():
            time.sleep(0.5)
            if time.monotonic() - self.tended_at > TENDED_S:
                self._tend()
            if time.monotonic() > ends_at + 120:
                break
        self.stream.stop()
        self.network.stop()
        self.node.stop()
        self.instance.ready(timeout_s=180)
        mended = [one for one in (*self.network.mended, *self.node.mended) if one.at > begin + 1]
        self.report.recovery_s = recoveries(mended, self.instance)

    def _lacks(self) -> bool:
        """Whether a planned fault is still to come."""
        few = sum(self.network.counts.values()) < self.plan.network or sum(self.node.counts.values()) < self.plan.nodes
        return bool(self.network.missing() or self.node.missing()) or few

    # -- the end -------------------------------------------------------------------------------------------------------
    def _end(self) -> None:
        report = self.report
        self.submitter.settle()
        self.instance.out("scancel", "-n", SLEEPER_NAME)  # one whose scancel was lost would never end
        planned = dict.fromkeys((*NETWORK, *NODE, "controller"), 0)
        report.faults = Counter({**planned, **self.network.counts, **self.node.counts, "controller": sum(self.kills.values())})
        wiped = [*self.network.wiped, *self.node.wiped]
        ends_at = time.monotonic() + DRAIN_S
        while self.instance.out("squeue", "-h") and time.monotonic() < ends_at:
            self._tend()
            time.sleep(1)
        report.violations = drain_and_judge(self.instance, self.hosts, self.submitter, dict(report.faults), 10, wiped)
        report.failures += [*self.stream.failures, *self.network.failures, *self.node.failures]
        report.kinds = self.stream.kinds
        states = self.instance.out("sacct", "-n", "-P", "-X", "-o", "state").split("\n")
        report.states = Counter(line.split()[0] for line in states if line.strip())
        report.jobs = sum(report.states.values())
        self.submitter.close()


READY = re.compile(r"^(\S+) INFO sshq\.host host=(\S+) ready ")


def recoveries(mended: Sequence[Mended], instance: Instance) -> list[float]:
    """Seconds from a host's being whole again until it was back in use, for each fault that cost its connection.

    A fault that was followed by another one before that is not counted: it is part of the other one's time.
    """
    ready: dict[str, list[float]] = {}
    for path in Path(instance.sshq_home, "state").glob("controller.log*"):
        for line in path.read_text(errors="replace").splitlines():
            if found := READY.match(line):
                ready.setdefault(found[2], []).append(datetime.fromisoformat(found[1]).timestamp())
    times = []
    for one in mended:
        after = min((at for at in ready.get(one.node, ()) if at > one.at), default=None)
        next_at = min((other.at for other in mended if other.node == one.node and other.at > one.at), default=float("inf"))
        if after is not None and after < next_at:
            times.append(max(0.0, after - one.back_at))
    return times
