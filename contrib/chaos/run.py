"""Does sshq lose, double or invent a job while everything around it fails?  One command that tries hard.

    python contrib/chaos/run.py                    the whole campaign, about half an hour on two cores
    python contrib/chaos/campaign.py               this at size, and all other parts: races, simulation, model, fuzzing, soak
    python contrib/chaos/run.py --short            under a minute of it, as the test-suite runs it
    python contrib/chaos/run.py --seed 7           another storm
    python contrib/chaos/run.py --only storm       one phase: points, storm or figures
    python contrib/chaos/run.py --write FILE       add the table to a file (contrib/bench/RESULTS.md)

Needs root (hosts in network namespaces, tests/bed) and openssh-server.  Phases:

    points    the real controller killed -9 at each named crash point (sshq/controller/crash.py), ten times each
    storm     a stream of jobs (scripts, arrays, dependencies, retries, cancels, requeues, limits, steps) on real sshd
              hosts, while controllers are killed at points and at random, cables cut, connections reset, frozen or made
              silent, hosts rebooted, supervisors, runners and jobs killed, spools wiped, disks filled
    figures   how soon hosts are back after a restart, a dead peer is found, exits are known after a reconnect

Then an oracle that shares no code with sshq (tests/bed/oracle.py) compares the jobs' own ledgers on the nodes, the
spools, the store and sacct.  The status is 1 if anything was lost, doubled, falsely COMPLETED or accounted twice, if a
process was left, or if a planned fault was never injected.
"""

import argparse
import os
import platform
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bed import Instance, why_no_netns  # noqa: E402
from bed.netns import NetnsBed  # noqa: E402
from bed.oracle import KINDS, Violation, tally  # noqa: E402
from contrib.chaos.faults import NETWORK, NODE  # noqa: E402
from contrib.chaos.measure import Figure, measure_all  # noqa: E402
from contrib.chaos.points import kill_at_all  # noqa: E402
from contrib.chaos.storm import Storm, StormPlan  # noqa: E402
from sshq.controller.crash import POINTS  # noqa: E402

PHASES = ("points", "storm", "figures")
WORDS = {
    "lost": "lost", "doubled": "doubled", "false_completed": "false COMPLETED", "double_accounting": "double accounting",
    "alive_after_end": "alive after its end", "left_over": "left over", "no_fault": "planned and not injected",
}  # fmt: skip


@dataclass(slots=True)
class Outcome:
    """All phases together."""

    faults: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    states: Counter[str] = field(default_factory=Counter)
    recovery_s: list[float] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not self.violations and not self.failures


def say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


def run_points(bed: NetnsBed, outcome: Outcome, times: int) -> None:
    report = kill_at_all(bed, POINTS, times)
    outcome.faults["controller killed at a named point"] += sum(report.kills.values())
    outcome.points += report.kills
    outcome.jobs += report.jobs
    outcome.violations += report.violations
    outcome.failures += report.failures


def run_storm(bed: NetnsBed, outcome: Outcome, plan: StormPlan) -> None:
    with Instance() as instance:
        storm = Storm(bed, instance, plan)
        report = storm.run()
        if keep := os.environ.get("SSHQ_KEEP_LOGS"):
            instance.keep(keep, "storm")
        bed.remove(storm.hosts)
    outcome.faults["controller killed in the storm"] += report.faults.pop("controller")
    outcome.faults += report.faults
    for kind, n in report.faults.items():
        outcome.faults[kind] += 0 * n  # a kind with 0 stays in the table
    outcome.jobs += report.jobs
    outcome.states += report.states
    outcome.recovery_s += report.recovery_s
    outcome.violations += report.violations
    outcome.failures += report.failures


def format_outcome(outcome: Outcome, seed: int, took_s: float) -> str:
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
    lines = [
        f"{time.strftime('%Y-%m-%d')}, {machine}, load {os.getloadavg()[0]:.1f}; seed {seed}, {took_s / 60:.1f} min.", "",
        "| faults injected | |", "|---|---|",
    ]  # fmt: skip
    groups = {"network": NETWORK, "node": NODE}
    for kind, n in outcome.faults.items():
        group = next((f"{name}: " for name, kinds in groups.items() if kind in kinds), "")
        lines.append(f"| {group}{kind.replace('_', ' ')} | {n} |")
    for name, kinds in groups.items():
        if total := sum(outcome.faults[kind] for kind in kinds):
            lines.append(f"| {name} faults in all | {total} |")
    lines += ["", "| result | |", "|---|---|", f"| jobs run | {outcome.jobs} |"]
    counts = tally(outcome.violations)
    lines += [f"| {WORDS[kind]} | {counts[kind]} |" for kind in KINDS]
    if outcome.recovery_s:
        times = sorted(outcome.recovery_s)
        lines.append(f"| recovery of a host after a fault: worst, median of {len(times)} | {times[-1]:.1f} s, {times[len(times) // 2]:.1f} s |")
    lines += [f"| {f.what} | {f.seconds:.1f} s (at most {f.most_s:g} s{': MISSED' if not f.holds else ''}) |" for f in outcome.figures]
    if outcome.states:
        lines += ["", "Ends of the storm's jobs: " + ", ".join(f"{state} {n}" for state, n in outcome.states.most_common()) + "."]
    if outcome.points:
        lines += ["", f"{len(outcome.points)} named points, each reached at least {min(outcome.points.values())} times."]
    lines += [f"\n    {violation}" for violation in outcome.violations[:40]]
    lines += [f"\n    failed: {text}" for text in outcome.failures[:10]]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="one storm of half a minute")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of the storm (default: a new one)")
    parser.add_argument("--only", choices=PHASES, action="append", help="run this phase; may be given more than once")
    parser.add_argument("--times", type=int, default=10, help="kills at each named point (default 10)")
    parser.add_argument("--kills", type=int, default=200, help="of controllers, in the storm")
    parser.add_argument("--jobs", type=int, default=2000, help="at least so many, in the storm")
    parser.add_argument("--network", type=int, default=100, help="at least so many faults of the network")
    parser.add_argument("--nodes", type=int, default=50, help="at least so many faults of nodes")
    parser.add_argument("--write", type=Path, help="add the table to this file")
    arguments = parser.parse_args()
    if reason := why_no_netns():
        sys.stderr.write(f"{reason}\n")
        return 2
    phases = arguments.only or (["storm"] if arguments.short else list(PHASES))
    if arguments.short:
        plan = StormPlan(
            seed=arguments.seed, hosts=4, small_disks=1, kills=10, jobs=40, network=8, nodes=8, calm_s=2, pause_s=0.5,
            hold_s=(0.2, 1.0), life_s=(0.6, 1.6), leave_out=("limited",), longest_s=40, array_max=8,
        )  # fmt: skip
    else:
        plan = StormPlan(
            seed=arguments.seed, kills=arguments.kills, jobs=arguments.jobs, network=arguments.network, nodes=arguments.nodes
        )
    start, outcome = time.monotonic(), Outcome()
    say(f"seed {arguments.seed}")
    with NetnsBed() as bed:
        for phase in phases:
            say(f"phase {phase}")
            if phase == "points":
                run_points(bed, outcome, arguments.times)
            elif phase == "storm":
                run_storm(bed, outcome, plan)
            else:
                outcome.figures += measure_all(bed, say)
            counts = tally(outcome.violations)
            say(f"so far: {sum(outcome.faults.values())} faults, {outcome.jobs} jobs, {counts}, {outcome.failures}")
    text = format_outcome(outcome, arguments.seed, time.monotonic() - start)
    sys.stdout.write(text)
    if arguments.write:
        with open(arguments.write, "a") as file:
            file.write(f"\n## Chaos\n\n`python contrib/chaos/run.py`: {text}")
    return 0 if outcome.good else 1


if __name__ == "__main__":
    sys.exit(main())
