"""Ten jobs a second, and the controller killed every fifteen seconds, for as long as you like: does anything grow?

    python contrib/chaos/soak.py --minutes 2       as the test-suite runs it
    python contrib/chaos/soak.py --hours 2         overnight, or over lunch
    python contrib/chaos/soak.py --hours 2 --write contrib/bench/RESULTS.md

Before each kill it looks: memory and file descriptors of the controller, the store's log, what lies in the spools.  At
the end the oracle (tests/bed/oracle.py) compares ledgers, spools, store and sacct.  The status is 1 if anything was
lost or doubled, or if one of them grew.  Needs root and openssh-server.
"""

import argparse
import os
import platform
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bed import Instance, why_no_netns  # noqa: E402
from bed.netns import NetnsBed, NetnsHost  # noqa: E402
from bed.oracle import KINDS, Violation, spool_files, tally  # noqa: E402
from contrib.chaos.points import drain_and_judge  # noqa: E402
from contrib.chaos.workload import Submitter  # noqa: E402

CONFIG = "keepalive_interval: 1s\nkeepalive_count: 2\nreconcile_interval: 5s\nkill_wait: 1s\nfinished_keep_count: 200\n"
HOSTS, SLOTS = 4, 4
MIB = 1 << 20
# What may be: a kill every 15 s makes each life begin anew, so all of these are flat but for noise.
RSS_GROWTH_MIB = 15.0  # from the first third to the last
SLOPE_MIB_H = 5.0  # asked of runs of a quarter of an hour and more only
FDS_GROWTH = 15
WAL_MAX_MIB = 64.0
SPOOL_FILES_MAX = 600  # sixteen running jobs, and the acknowledgements of a reconnect


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look at the controller, just before it is killed."""

    at_s: float
    rss_mib: float
    fds: int
    wal_mib: float
    store_mib: float
    spool_files: int
    waiting: int


@dataclass(slots=True)
class SoakReport:
    asked_s: float
    took_s: float = 0.0
    jobs: int = 0
    kills: int = 0
    samples: list[Sample] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class Soak:
    """One soak on fresh hosts."""

    def __init__(self, bed: NetnsBed, instance: Instance, *, rate: int, kill_every_s: float) -> None:
        self.hosts: list[NetnsHost] = bed.add(HOSTS)
        self.instance, self.rate, self.kill_every_s = instance, rate, kill_every_s
        instance.use(self.hosts, sshq_slots=SLOTS)
        instance.write_config(CONFIG)
        os.mkdir(f"{instance.work}/out")
        self.submitter = Submitter(instance)
        self.stop = threading.Event()

    def run(self, seconds: float) -> SoakReport:
        report = SoakReport(seconds)
        start = time.monotonic()
        feeding = threading.Thread(target=self._feed, daemon=True)
        feeding.start()
        while time.monotonic() - start < seconds:
            self._one_life(report, start, seconds)
        self.stop.set()
        feeding.join(60)
        self.instance.up()
        self.submitter.settle()
        faults = {"controller": report.kills}
        report.violations = drain_and_judge(self.instance, self.hosts, self.submitter, faults, max(120.0, seconds / 4))
        report.took_s = time.monotonic() - start
        report.jobs = sum(self.submitter.accepted.values())
        report.failures += judge_growth(report.samples, seconds)
        self.submitter.close()
        return report

    def _feed(self) -> None:
        """Every second an array and two jobs of their own, whose output comes home; never more than is asked."""
        turn = 0
        start = time.monotonic()
        while not self.stop.is_set():
            self.submitter.submit("true", "-o", "/dev/null", f"--array=1-{self.rate - 2}", tasks=self.rate - 2)
            for _ in range(2):
                self.submitter.submit("echo soaked")
            turn += 1
            self.stop.wait(max(0.0, start + turn - time.monotonic()))

    def _one_life(self, report: SoakReport, start: float, seconds: float) -> None:
        controller = self.instance.start_controller()
        try:
            controller.wait(max(1.0, min(self.kill_every_s, seconds - (time.monotonic() - start))))
            text = Path(self.instance.sshq_home, "state", "startup.log").read_text(errors="replace")[-1000:]
            report.failures.append(f"a controller ended by itself ({controller.returncode}): {text}")
        except subprocess.TimeoutExpired:  # it lives, as it should
            report.samples.append(self._look(controller.pid, time.monotonic() - start))
        finally:
            controller.kill()
            controller.wait()
            report.kills += 1

    def _look(self, pid: int, at_s: float) -> Sample:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        state = Path(self.instance.sshq_home, "state")
        store_id = (state / "store_id").read_text().strip()
        size = lambda name: (state / name).stat().st_size / MIB if (state / name).exists() else 0.0
        return Sample(
            at_s=at_s, rss_mib=pages * os.sysconf("SC_PAGE_SIZE") / MIB, fds=len(os.listdir(f"/proc/{pid}/fd")),
            wal_mib=size("sshq.db-wal"), store_mib=size("sshq.db"),
            spool_files=sum(len(spool_files(host, store_id)) for host in self.hosts),
            waiting=len(self.instance.run("squeue", "-h", "-r", "-t", "PD", "-o", "%A").stdout.split()),
        )  # fmt: skip


def slope_per_hour(samples: list[Sample]) -> float:
    """Least squares of the memory, in MiB an hour; the first quarter warms up."""
    late = samples[len(samples) // 4 :]
    if len(late) < 3:
        return 0.0
    mean_t, mean_v = sum(s.at_s for s in late) / len(late), sum(s.rss_mib for s in late) / len(late)
    spread = sum((s.at_s - mean_t) ** 2 for s in late)
    return 3600 * sum((s.at_s - mean_t) * (s.rss_mib - mean_v) for s in late) / spread if spread else 0.0


def judge_growth(samples: list[Sample], seconds: float) -> list[str]:
    """What grew that should be flat."""
    if len(samples) < 3:
        return [f"only {len(samples)} samples"]
    third = max(1, len(samples) // 3)
    first, last = samples[:third], samples[-third:]
    grown = max(s.rss_mib for s in last) - max(s.rss_mib for s in first)
    wrong = []
    if grown > RSS_GROWTH_MIB:
        wrong.append(f"memory grew by {grown:.1f} MiB")
    if seconds >= 900 and slope_per_hour(samples) > SLOPE_MIB_H:
        wrong.append(f"memory grows by {slope_per_hour(samples):.1f} MiB an hour")
    if max(s.fds for s in last) > max(s.fds for s in first) + FDS_GROWTH:
        wrong.append(f"file descriptors grew from {max(s.fds for s in first)} to {max(s.fds for s in last)}")
    if max(s.wal_mib for s in samples) > WAL_MAX_MIB:
        wrong.append(f"the store's log grew to {max(s.wal_mib for s in samples):.0f} MiB")
    if max(s.spool_files for s in last) > SPOOL_FILES_MAX:
        wrong.append(f"spools hold {max(s.spool_files for s in last)} files")
    return wrong


def format_report(report: SoakReport) -> str:
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
    rows = [
        ("jobs, all by their own word and the store's the same", f"{report.jobs} ({report.jobs / max(1.0, report.asked_s):.1f} a second)"),
        ("controller killed", str(report.kills)),
    ]
    if samples := report.samples:
        first, last = samples[min(1, len(samples) - 1)], samples[-1]
        rows += [
            ("memory of the controller, early and late", f"{first.rss_mib:.1f} MiB, {last.rss_mib:.1f} MiB"),
            ("slope of it", f"{slope_per_hour(samples):+.1f} MiB an hour"),
            ("file descriptors, early, late, most", f"{first.fds}, {last.fds}, {max(s.fds for s in samples)}"),
            ("the store's log (WAL), most", f"{max(s.wal_mib for s in samples):.1f} MiB"),
            ("the store, early and late", f"{first.store_mib:.1f} MiB, {last.store_mib:.1f} MiB (all history is kept)"),
            ("files in all spools, early, late, most", f"{first.spool_files}, {last.spool_files}, {max(s.spool_files for s in samples)}"),
            ("jobs waiting, late and most", f"{last.waiting}, {max(s.waiting for s in samples)}"),
        ]
    counts = tally(report.violations)
    rows += [({"no_fault": "planned and not injected"}.get(kind, kind.replace("_", " ")), str(counts[kind])) for kind in KINDS]
    lines = [
        f"{time.strftime('%Y-%m-%d')}, {machine}, load {os.getloadavg()[0]:.1f}; {report.asked_s / 60:.1f} min, {HOSTS} hosts x {SLOTS} slots.",
        "", "| soak | |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows),
    ]  # fmt: skip
    lines += [f"\n    {violation}" for violation in report.violations[:40]] + [f"\n    failed: {text}" for text in report.failures]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=0.0)
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--rate", type=int, default=10, help="jobs a second (default 10)")
    parser.add_argument("--kill-every", type=float, default=15.0, metavar="SECONDS")
    parser.add_argument("--write", type=Path, help="add the table to this file")
    arguments = parser.parse_args()
    if reason := why_no_netns():
        sys.stderr.write(f"{reason}\n")
        return 2
    seconds = arguments.hours * 3600 + arguments.minutes * 60 or 120.0
    with NetnsBed() as bed, Instance() as instance:
        report = Soak(bed, instance, rate=arguments.rate, kill_every_s=arguments.kill_every).run(seconds)
        if keep := os.environ.get("SSHQ_KEEP_LOGS"):
            instance.keep(keep, "soak")
    text = format_report(report)
    sys.stdout.write(text)
    if arguments.write:
        with open(arguments.write, "a") as file:
            file.write(f"\n## Soak\n\n`python contrib/chaos/soak.py`: {text}")
    return 1 if report.violations or report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
