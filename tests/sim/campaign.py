"""Many seeds side by side, and what they add up to."""

import multiprocessing
import os
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from .node import Guards
from .plan import make_plan
from .world import World


@dataclass(frozen=True)
class Report:
    """One seed."""

    seed: int
    scale: str
    problems: tuple[tuple[str, str], ...]
    injected: Counter[str]
    states: Counter[str]
    starts: int
    jobs: int
    virtual_s: float
    settled_in_s: float
    wall_s: float
    digest: str


@dataclass
class Sum:
    """All seeds of a campaign."""

    seeds: int = 0
    jobs: int = 0
    starts: int = 0
    virtual_s: float = 0.0
    wall_s: float = 0.0
    slowest_settling_s: float = 0.0
    injected: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    failed: list[Report] = field(default_factory=list)

    def add(self, report: Report) -> None:
        self.seeds += 1
        self.jobs += report.jobs
        self.starts += report.starts
        self.virtual_s += report.virtual_s
        self.wall_s += report.wall_s
        self.slowest_settling_s = max(self.slowest_settling_s, report.settled_in_s)
        self.injected += report.injected
        self.states += report.states
        if report.problems:
            self.failed.append(report)
            self.problems.update({kind for kind, _ in report.problems})

    def lines(self) -> list[str]:
        kinds = ("lost", "double", "two", "false", "accounting", "running", "revived", "output", "stuck", "bug", "no fault", "crash")
        return [
            f"seeds {self.seeds}, jobs {self.jobs}, starts {self.starts}, simulated {self.virtual_s / 86400:.1f} days, "
            f"cpu {self.wall_s:.0f} s, slowest to settle {self.slowest_settling_s:.0f} s after the last fault",
            f"faults {sum(self.injected.values())}: " + ", ".join(f"{k} {n}" for k, n in self.injected.most_common()),
            "ends: " + ", ".join(f"{k} {n}" for k, n in self.states.most_common()),
            "violations: " + ", ".join(f"{k} {self.problems[k]}" for k in kinds),
        ]


def run_seed(seed: int, scale: str, without: tuple[str, ...] = ()) -> Report:
    """Run one seed; whatever goes wrong in here is a problem of that seed."""
    began = time.monotonic()
    try:
        outcome = World(make_plan(seed, scale), guards=Guards(**dict.fromkeys(without, False))).run()
    except Exception:
        text = traceback.format_exc()[-1500:]
        return Report(seed, scale, (("crash", text),), Counter(), Counter(), 0, 0, 0.0, 0.0, time.monotonic() - began, "")
    problems = list(outcome.problems)
    if not sum(outcome.injected.values()):
        problems.append(("no fault", "nothing went wrong in this world, so it proves nothing"))
    return Report(
        seed, scale, tuple(problems), outcome.injected, outcome.states, outcome.starts, outcome.jobs, outcome.virtual_s,
        outcome.settled_in_s, time.monotonic() - began, outcome.digest,
    )  # fmt: skip


def _one(task: tuple[int, str, tuple[str, ...]]) -> Report:
    return run_seed(*task)


def run_seeds(
    seeds: Iterable[int], scale: str, *, without: tuple[str, ...] = (), processes: int | None = None
) -> Iterator[Report]:
    """Yield a report for each seed, in order, from as many processes as there are cores."""
    tasks = [(seed, scale, without) for seed in seeds]
    context = multiprocessing.get_context("spawn")  # a fork would inherit the threads of whoever asks
    pool = ProcessPoolExecutor(processes or os.cpu_count() or 1, mp_context=context)
    try:
        yield from pool.map(_one, tasks, chunksize=max(1, min(8, len(tasks) // 16)))
    finally:
        pool.shutdown(cancel_futures=True)  # whoever asked may have seen enough
