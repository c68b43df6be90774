"""Which nodes a request fits on now, kept from pass to pass: only nodes that changed since are judged again.

What is kept is what `placement.judge` would say of each node (a test compares the two), without the words.  Nothing has to
tell this module of a change: it compares the stamps of nodes, the numbers of directories and the open partitions.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sshq.core.features import parse_constraint
from sshq.core.nodes import Node
from sshq.core.placement import Request, Step, judge, judge_directory, judge_size, judge_state

if TYPE_CHECKING:
    from sshq.core.cluster import Cluster
    from sshq.core.placement import Directories

FITS = len(Step)  # one more than the furthest Step
ELSEWHERE = -1  # in none of the partitions that are open to the request: it is not even a reason
VERDICTS_MAX = 300_000  # nodes x requests to remember; beyond it the oldest requests are judged whole when they come up

Rank = tuple[bool, int, bool, int, str]
RankKind = tuple[str | None, bool]


@dataclass(slots=True)
class Mark:
    """What judging needs of a node, read once a change."""

    node: Node
    stamp: int
    size: tuple[object, ...]  # equal for nodes that differ in nothing that `judge_size` reads, names and GPUs aside
    available: bool
    has_jobs: bool
    exclusive: bool
    free_slots: int
    free_cpus: int
    free_mib: int
    weight: int
    ranks: dict[RankKind, Rank]


class Fit:
    """What one request has met."""

    __slots__ = ("allowed", "by_name", "by_size", "counts", "cursor", "directory_at", "fitting", "steps")

    def __init__(self, request: Request) -> None:
        self.cursor = -1
        self.by_name = not request.by_size
        self.allowed: frozenset[str] = frozenset()
        self.directory_at = 0
        self.by_size: dict[tuple[object, ...], int] = {}
        self.steps: dict[str, int] = {}  # node -> Step, FITS or ELSEWHERE
        self.counts = [0] * (FITS + 2)  # by step; the last one is ELSEWHERE
        self.fitting: set[str] = set()

    def names(self, *steps: int) -> list[str]:
        return [name for name, step in self.steps.items() if step in steps]

    def put(self, name: str, step: int) -> None:
        old = self.steps.get(name)
        if old is not None:
            self.counts[old] -= 1
        self.steps[name] = step
        self.counts[step] += 1
        if step == FITS:
            self.fitting.add(name)
        elif old == FITS:
            self.fitting.discard(name)

    def drop(self, name: str) -> None:
        old = self.steps.pop(name, None)
        if old is not None:
            self.counts[old] -= 1
            self.fitting.discard(name)


class Candidates:
    """The marks of all nodes, and the fits of the requests that were asked about."""

    def __init__(self) -> None:
        self.marks: dict[str, Mark] = {}
        self.open: set[str] = set()  # usable, with a free slot
        self._fits: dict[Request, Fit] = {}
        self._changes: list[str] = []  # names, oldest first
        self._alike: list[list[Mark]] = []  # what differs in nothing but names, GPUs and interpreters; empty: not known
        self._base = 0  # how many changes have been forgotten before those

    def refresh(self, cluster: "Cluster") -> None:
        """Take in which nodes have changed, came or went."""
        marks, before = self.marks, self._base + len(self._changes)
        for name, node in cluster.nodes.items():
            mark = marks.get(name)
            if mark is None or mark.stamp != node.stamp:
                marks[name] = _mark(node)
                self._changes.append(name)
                if node.usable and node.free_slots > 0:
                    self.open.add(name)
                else:
                    self.open.discard(name)
        if len(marks) != len(cluster.nodes):
            for name in [name for name in marks if name not in cluster.nodes]:
                del marks[name]
                self.open.discard(name)
                self._changes.append(name)
        if self._base + len(self._changes) != before:
            self._alike.clear()
        if len(self._changes) > 1000 + 4 * len(marks):
            self._base += len(self._changes)
            self._changes.clear()

    def fit(self, cluster: "Cluster", request: Request, allowed: frozenset[str]) -> Fit:
        """Return what the nodes are to a request, as of the last `refresh`."""
        fit = self._fits.get(request)
        if fit is None:
            while self._fits and (len(self._fits) + 1) * len(self.marks) > VERDICTS_MAX:
                del self._fits[next(iter(self._fits))]
            fit = self._fits[request] = Fit(request)
        directory_at = cluster.directories.changed_at(request.directory)
        now = self._base + len(self._changes)
        if fit.cursor < self._base or fit.allowed != allowed or fit.directory_at != directory_at:
            fit.steps.clear()
            fit.fitting.clear()
            fit.by_size.clear()
            fit.counts = [0] * (FITS + 2)
            fit.allowed, fit.directory_at = allowed, directory_at
            self._judge_all(cluster, request, fit)
        elif fit.cursor < now:
            self._judge(cluster, request, fit, set(self._changes[fit.cursor - self._base :]))
        fit.cursor = now
        return fit

    def _judge(self, cluster: "Cluster", request: Request, fit: Fit, names: Iterable[str]) -> None:
        for name in names:
            mark = self.marks.get(name)
            if mark is None:
                fit.drop(name)
            else:
                fit.put(name, _step_of(request, fit, mark, cluster.directories))


    def _judge_all(self, cluster: "Cluster", request: Request, fit: Fit) -> None:
        """Judge every node, and those that are alike only once."""
        if fit.by_name:
            self._judge(cluster, request, fit, self.marks)
            return
        for marks in self.alike():
            step = _step_alike(request, fit, marks[0])
            names = [mark.node.name for mark in marks]
            if request.directory is not None and step in (Step.BUSY, FITS):
                far = [mark.node.name for mark in marks if judge_directory(request, mark.node, cluster.directories) is not None]
                fit.steps.update(dict.fromkeys(far, Step.DIRECTORY))
                fit.counts[Step.DIRECTORY] += len(far)
                names = [name for name in names if name not in fit.steps]
            fit.steps.update(dict.fromkeys(names, step))
            fit.counts[step] += len(names)
            if step == FITS:
                fit.fitting.update(names)

    def alike(self) -> list[list[Mark]]:
        if not self._alike:
            found: dict[tuple[object, ...], list[Mark]] = {}
            for mark in self.marks.values():
                key = (mark.size, mark.available, mark.has_jobs, mark.exclusive, mark.free_slots, mark.free_cpus, mark.free_mib)
                found.setdefault(key, []).append(mark)
            self._alike = list(found.values())
        return self._alike


def rank_of(kind: RankKind, mark: Mark) -> Rank:
    """Return the sort key of a node for requests that prefer these features, and that want GPUs or not."""
    node = mark.node
    prefer, wants_gpus = kind
    liked = prefer is None or parse_constraint(prefer).holds(node.features)
    # Hosts with GPUs last for who wants none.
    return not liked, mark.weight, not wants_gpus and bool(node.gpus), mark.free_slots, node.name


def _mark(node: Node) -> Mark:
    slots, cpus, memory_mib = node.slots, node.cpus, node.memory_mib
    size = (
        node.config.partitions, node.facts is not None, slots, cpus, memory_mib, node.features,
        node.facts.tmp_disk_mib if node.facts is not None else 0,
    )  # fmt: skip
    return Mark(
        node=node, stamp=node.stamp, size=size, available=judge_state(node) is None, has_jobs=bool(node.jobs),
        exclusive=node.exclusive, free_slots=slots - len(node.slots_taken), free_cpus=cpus - node.cpus_taken,
        free_mib=memory_mib - node.memory_taken_mib, weight=node.weight, ranks={},
    )  # fmt: skip


def _step_of(request: Request, fit: Fit, mark: Mark, directories: "Directories") -> int:
    """Return how far a node comes, as `judge` would say."""
    node = mark.node
    if fit.by_name:
        if fit.allowed.isdisjoint(node.config.partitions):
            return ELSEWHERE
        rejection = judge(request, node, directories)
        return FITS if rejection is None else rejection.step
    step = _step_alike(request, fit, mark)
    far = request.directory is not None and step in (Step.BUSY, FITS) and judge_directory(request, node, directories) is not None
    return Step.DIRECTORY if far else step


def _step_alike(request: Request, fit: Fit, mark: Mark) -> int:
    """Return how far a node comes where nothing but sizes and what is free tells it from others: its directories aside."""
    node = mark.node
    step = fit.by_size.get(mark.size)
    if step is None:
        if fit.allowed.isdisjoint(node.config.partitions):
            step = ELSEWHERE
        else:
            rejection = judge_size(request, node)
            step = FITS if rejection is None else int(rejection.step)
        fit.by_size[mark.size] = step
    if step != FITS:
        return step
    if not mark.available:
        return Step.UNAVAILABLE
    if (
        mark.exclusive
        or (request.exclusive and mark.has_jobs)
        or request.slots > mark.free_slots
        or request.min_cpus > mark.free_cpus
        or request.memory_mib > mark.free_mib
    ):
        return Step.BUSY
    return FITS
