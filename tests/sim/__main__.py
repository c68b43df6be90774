"""The command line; see the package's own words."""

import argparse
import sys

from .campaign import Sum, run_seeds
from .node import Guards
from .plan import SCALES, make_plan
from .shrink import explain
from .world import World


def run_one(arguments: argparse.Namespace) -> int:
    plan = make_plan(int(arguments.what), arguments.scale)
    guards = Guards(**dict.fromkeys(arguments.without, False))
    dropped = frozenset(int(n) for n in arguments.drop.split(",") if n)
    outcome = World(plan, guards=guards, dropped=dropped, verbose=arguments.trace).run()
    total = Sum()
    total.injected, total.states = outcome.injected, outcome.states
    print(
        f"seed {plan.seed} ({plan.scale}): {outcome.jobs} jobs, {outcome.starts} starts, {sum(outcome.injected.values())} faults, "
        f"{outcome.virtual_s:.0f} simulated seconds, digest {outcome.digest}"
    )
    if not outcome.problems:
        print("no violation")
        return 0
    if arguments.trace or not arguments.shrink:
        for kind, text in outcome.problems:
            print(f"{kind}: {text}")
    else:
        print(explain(plan, guards=guards, dropped=dropped, budget_s=arguments.shrink))
    return 1


def run_campaign(arguments: argparse.Namespace) -> int:
    total = Sum()
    for scale, count in (("long", arguments.long), ("short", arguments.short)):
        seeds = range(arguments.first, arguments.first + count)
        for report in run_seeds(seeds, scale, processes=arguments.processes, without=tuple(arguments.without)):
            total.add(report)
            if report.problems:
                kind, text = report.problems[0]
                print(f"seed {report.seed} ({scale}) {kind}: {text}", flush=True)
            if total.seeds % 1000 == 0:
                print(f"… {total.seeds} seeds, {len(total.failed)} failed", flush=True)
    print("\n".join(total.lines()))
    return 1 if total.failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="Deterministic simulation of the controller.")
    parser.add_argument("what", help="a seed, or the word campaign")
    parser.add_argument("--scale", choices=sorted(SCALES), default="short")
    parser.add_argument("--drop", default="", help="numbers of faults and words to leave out; jobs as negative numbers")
    parser.add_argument("--without", action="append", default=[], help="a guard that the nodes lack")
    parser.add_argument("--trace", action="store_true", help="print everything that happens")
    parser.add_argument("--shrink", type=float, default=60.0, metavar="SECONDS", help="how long to look for a shorter failure")
    parser.add_argument("--short", type=int, default=0, help="campaign: short seeds")
    parser.add_argument("--long", type=int, default=0, help="campaign: seeds of a day")
    parser.add_argument("--first", type=int, default=1, help="campaign: the first seed")
    parser.add_argument("--processes", type=int, help="campaign: side by side (default: one a core)")
    arguments = parser.parse_args()
    if arguments.what == "campaign":
        return run_campaign(arguments)
    return run_one(arguments)


if __name__ == "__main__":
    sys.exit(main())
