"""Walking the model: every interleaving, breadth first, or one long random walk over many faults.

Run as `PYTHONPATH=tests python -m model.explore ...` with

* nothing: the campaign, all that is too large for each change
* `restore+reboot/2x1`: one scenario, faults/launches x copies of a call[/older]
* `restore+reboot/2x1 heldlive`: the same without that guard
* `walk 0 100000`: random walks with these seeds
"""

import random
import sys
import time
from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

from model.model import GUARDS, Faults, Guards, World, find_violation, first_world, is_done
from model.moves import steps

ALL: Guards = frozenset(GUARDS)


class Scenario(NamedTuple):
    faults: Faults = Faults()
    launches: int = 2  # of the job
    copies: int = 1  # of each launch call
    older: bool = False  # another job's launch stands on the node

    def __str__(self) -> str:
        faults = "+".join(f"{n}{f'*{v}' if v > 1 else ''}" for n, v in self.faults._asdict().items() if v)
        return f"{faults or 'nothing'}/{self.launches}x{self.copies}{'/older' if self.older else ''}"

    @classmethod
    def parse(cls, text: str) -> "Scenario":
        """The inverse of `str`."""
        faults, size, *older = text.split("/")
        pairs = (word.partition("*") for word in faults.split("+") if faults != "nothing")
        launches, copies = map(int, size.split("x"))
        return cls(Faults(**{name: int(count or 1) for name, _, count in pairs}), launches, copies, older == ["older"])


CAMPAIGN = (
    "restore/2x2", "restore/1x1/older", "restore+cancel/2x1", "restore+reboot/2x1", "restore+wipe/2x1", "restore+full/2x1",
    "restore+kill9/2x1", "restore+requeue/2x1", "restore+pkill/2x1", "kill9*2/2x2", "kill9+reboot/2x2", "kill9+cancel/2x2",
    "second+kill9/2x2", "second+cancel/2x2", "wipe+requeue/2x2", "power+kill9/2x2", "reboot+cancel+pkill/2x2", "nothing/3x1",
)  # fmt: skip
EVERYTHING = Scenario(Faults(2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 2), launches=4, copies=2, older=True)


class Found(NamedTuple):
    scenario: Scenario
    states: int
    violation: str | None  # None: there is none
    trace: Sequence[str]  # the shortest
    seconds: float
    complete: bool = True

    def __str__(self) -> str:
        text = f"{self.scenario}: {self.states} states in {self.seconds:.1f} s"
        if self.violation is None:
            return text + (", no violation" if self.complete else ", not finished")
        return f"{text}: {self.violation}, after {len(self.trace)} steps:\n    " + "\n    ".join(self.trace)


def check(scenario: Scenario, guards: Guards = ALL, limit: int = 2_000_000) -> Found:
    """Explore breadth first: the first violation has the shortest trace.  Without one: can every world still come to an end?"""
    began = time.monotonic()
    first = first_world(scenario.faults, scenario.launches + 1, scenario.older)
    seen, order, parent, names = {first: 0}, [first], array("l", [-1]), [""]
    sources, targets = array("l"), array("l")
    shared: dict[Any, Any] = {}
    i = 0
    while i < len(order):
        world = order[i]
        for name, fault, new in steps(world, guards, scenario.copies):
            j = seen.get(new)
            if j is None:
                new = World._make([shared.setdefault(part, part) for part in new])
                j = seen[new] = len(order)
                order.append(new)
                parent.append(i)
                names.append(sys.intern(name))
            if (violation := find_violation(new, name, world, first)) is not None:
                trace = [*trace_to(i, parent, names), name]
                return Found(scenario, len(order), violation, trace, time.monotonic() - began)
            if not fault:
                sources.append(i)
                targets.append(j)
        i += 1
        if len(order) > limit:
            return Found(scenario, len(order), None, [], time.monotonic() - began, complete=False)
    stuck = find_stuck(order, sources, targets)
    if stuck is not None:
        return Found(scenario, len(order), "it can never end", trace_to(stuck, parent, names), time.monotonic() - began)
    return Found(scenario, len(order), None, [], time.monotonic() - began)


def trace_to(i: int, parent: "array[int]", names: list[str]) -> list[str]:
    trace = []
    while i > 0:
        trace.append(names[i])
        i = parent[i]
    return trace[::-1]


def find_stuck(order: list[World], sources: "array[int]", targets: "array[int]") -> int | None:
    """A world from which no path without further faults leads to the end of the job."""
    good = bytearray(map(is_done, order))
    more = True
    while more:
        more = False
        for e in range(len(sources) - 1, -1, -1):
            if good[targets[e]] and not good[sources[e]]:
                good[sources[e]] = more = True
    return good.find(0) if 0 in good else None


def walk(scenario: Scenario, seed: int, length: int, guards: Guards = ALL) -> Found:
    """One random walk; faults are taken more rarely than steps, so that something is there to be broken."""
    began = time.monotonic()
    dice = random.Random(seed)
    first = world = first_world(scenario.faults, scenario.launches + 1, scenario.older)
    trace: list[str] = []
    while len(trace) < length:
        found = steps(world, guards, scenario.copies)
        calm = [step for step in found if not step[1]]
        if calm and (len(calm) == len(found) or dice.random() < 0.85):
            found = calm
        if not found:
            break
        name, _, new = dice.choice(found)
        trace.append(name)
        if (violation := find_violation(new, name, world, first)) is not None:
            return Found(scenario, len(trace), violation, trace, time.monotonic() - began)
        world = new
    return Found(scenario, len(trace), None, [], time.monotonic() - began)


def main(words: list[str]) -> int:
    if words[:1] == ["walk"]:
        found = (walk(EVERYTHING, seed, 250) for seed in range(int(words[1]), int(words[2])))
        bad = [result for result in found if result.violation]
        print(*bad, f"{len(bad)} violations", sep="\n")
        return bool(bad)
    guards = ALL - frozenset(words[1:])
    bad = []
    for text in words[:1] or CAMPAIGN:
        result = check(Scenario.parse(text), guards, limit=5_000_000)
        print(result, flush=True)
        if result.violation or not result.complete:
            bad.append(result)
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
