"""Leaves out faults, users' words and jobs, greedily, as long as the seed still fails in the same way."""

import time
from collections.abc import Callable

from .node import Guards
from .plan import Plan
from .world import Outcome, World


def run_plan(plan: Plan, *, guards: Guards | None = None, dropped: frozenset[int] = frozenset(), logged: bool = False) -> Outcome:
    return World(plan, guards=guards, dropped=dropped, logged=logged).run()


def shrink(plan: Plan, *, guards: Guards | None = None, dropped: frozenset[int] = frozenset(), budget_s: float = 60.0) -> frozenset[int]:
    """Return the largest set of things to leave out (faults and words by number, jobs as negative numbers) found in the time."""
    kinds = {kind for kind, _ in run_plan(plan, guards=guards, dropped=dropped).problems}
    deadline = time.monotonic() + budget_s

    def fails(without: frozenset[int]) -> bool:
        return time.monotonic() < deadline and bool(kinds & {k for k, _ in run_plan(plan, guards=guards, dropped=without).problems})

    left = [s.number for s in plan.steps if s.number not in dropped] + [-j.number for j in plan.jobs if -j.number not in dropped]
    size = max(1, len(left) // 2)
    while size:
        dropped, left = _drop_chunks(left, size, dropped, fails)
        size //= 2
    again = [n for n in left if n not in dropped]
    dropped, _ = _drop_chunks(again, 1, dropped, fails)
    return dropped


def _drop_chunks(
    left: list[int], size: int, dropped: frozenset[int], fails: Callable[[frozenset[int]], bool]
) -> tuple[frozenset[int], list[int]]:
    kept: list[int] = []
    for start in range(0, len(left), size):
        chunk = left[start : start + size]
        if fails(dropped | set(chunk)):
            dropped = dropped | set(chunk)
        else:
            kept += chunk
    return dropped, kept


def explain(plan: Plan, *, guards: Guards | None = None, dropped: frozenset[int] = frozenset(), budget_s: float = 60.0) -> str:
    """Return the story of a failing seed: what is wrong, what led to it, and how to see it again."""
    small = shrink(plan, guards=guards, dropped=dropped, budget_s=budget_s)
    outcome = run_plan(plan, guards=guards, dropped=small, logged=True)
    words = ["python -m tests.sim", str(plan.seed)]
    if plan.scale != "short":
        words.append(f"--scale {plan.scale}")
    if small:
        words.append(f"--drop={','.join(map(str, sorted(small)))}")
    lacking = [name for name, value in vars(guards).items() if not value] if guards is not None else []
    words += [f"--without {name}" for name in lacking]
    trace = outcome.trace if len(outcome.trace) <= 160 else [*outcome.trace[:40], "   …", *outcome.trace[-120:]]
    return "\n".join(
        [
            f"seed {plan.seed} ({plan.scale}) fails:",
            *(f"  {kind}: {text}" for kind, text in outcome.problems[:10]),
            f"{len(plan.steps) + len(plan.jobs) - len(small)} of {len(plan.steps) + len(plan.jobs)} faults, words and jobs are needed; the trace:",
            *trace,
            "again: " + " ".join(words),
        ]
    )
