"""One request against the nodes: where it goes, or for each node why not.

A node is considered in three steps, and the first that fails is its rejection: it may be used (partition, state,
features, shared directory), it is large enough when empty, and enough of it is free now.  Of the nodes left, the
lightest weight is taken first, then the fullest, ties by name, so that large holes stay large and the answer never
depends on input order.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from operator import attrgetter
from typing import Final

from sshq.core.engines import ImageForm, form_of
from sshq.core.features import parse_constraint
from sshq.core.gpus import Gpu, Wanted, count_of, is_of_type, parse_gpus, pick_gpus, share_of, times
from sshq.core.licenses import Licenses, parse_licenses
from sshq.core.model import Job, JobSpec
from sshq.core.nodes import Node


class Step(IntEnum):
    """How far a node came before it was rejected; the furthest of all nodes is the job's reason."""

    NOT_ASKED = 0  # not in the partition, not in -w, in -x
    CONSTRAINT = 1
    TOO_SMALL = 2
    PYTHON = 3  # no interpreter that the call needs
    DIRECTORY = 4
    UNAVAILABLE = 5
    OUTSIDE = 6  # its GPUs are in use outside the queue: no end of a job will free them
    BUSY = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why one node does not take one request now."""

    node: str
    step: Step
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What one job takes; equal requests are scheduled as one group.

    `slots`, `cpus` and `memory_mib` are what one node must have free: all of it for a job on one node, the least that
    a node of a job on several must take.
    """

    partitions: tuple[str, ...]
    slots: int
    cpus: int
    memory_mib: int
    tasks: int
    cpus_per_task: int
    memory_per_cpu_mib: int
    tasks_per_node: int  # the most of one node
    req_nodes: tuple[str, ...]
    exc_nodes: tuple[str, ...]
    features: str | None
    exclusive: bool
    directory: str | None  # None: any host will do (--anywhere, or nothing to share)
    num_nodes: int
    time_limit_s: int | None
    min_cpus: int = 0
    tmp_disk_mib: int = 0
    prefer: str | None = None
    licenses: Licenses = ()
    reservations: tuple[str, ...] = ()
    python: str | None = None
    gpus: Wanted = ()  # on each node
    gpus_per_task: Wanted = ()
    gpus_total: Wanted = ()  # over all its nodes
    near: str | None = None  # hosts that share this directory come first: nothing has to go there
    avoid: str | None = None  # the host that could not take its files; it gets another try if no other can
    image: ImageForm = ""  # of the container it runs in

    def __hash__(self) -> int:
        """As equality has it, of the few fields in which most differ: it is asked for with each look at a group."""
        return hash((self.partitions, self.cpus, self.memory_mib, self.time_limit_s, self.directory, self.features))

    def gpus_on(self, tasks: int, place: int = 0) -> Wanted:
        """Return the GPUs that go with so many tasks on its node number `place`; 0 gets the most."""
        if self.gpus:
            return self.gpus
        return times(self.gpus_per_task, tasks) if self.gpus_per_task else share_of(self.gpus_total, self.num_nodes, place)

    @property
    def wants_gpus(self) -> bool:
        return bool(self.gpus or self.gpus_per_task or self.gpus_total)

    @property
    def by_size(self) -> bool:
        """Whether nodes are told apart by their sizes, directories and what is free on them only, not by what else they are."""
        return not (self.req_nodes or self.exc_nodes or self.wants_gpus or self.image or self.python is not None)

    def memory_mib_for(self, cpus: int) -> int:
        """Return the memory in MiB that so many CPUs on one node come with."""
        return self.memory_per_cpu_mib * cpus if self.memory_per_cpu_mib else self.memory_mib


def request_of(job: Job) -> Request:
    """Return what `job` asks of a node: one and the same `Request` for jobs that ask for the same, as most do."""
    spec = job.spec
    asked = (*_ASKED(spec), job.last_refused_by if spec.tree else None)
    request = _REQUESTS.get(asked)
    if request is None:
        if len(_REQUESTS) >= REQUESTS_KEPT:
            _REQUESTS.clear()
        request = _REQUESTS[asked] = read_request(job)
    return request


# All of a spec that `read_request` reads; a test changes every field of one.
_ASKED: Final = attrgetter(
    "partitions", "num_tasks", "num_nodes", "overcommit", "cpus_per_task", "memory_mib", "memory_per_cpu_mib",
    "ntasks_per_node", "req_nodes", "exc_nodes", "features", "exclusive", "work_dir", "seen_from", "provable", "anywhere",
    "tree", "frozen", "time_limit_s", "gpus_per_node", "gpus_per_task", "gpus_total", "min_cpus", "tmp_disk_mib", "prefer",
    "reservations", "python", "licenses", "container",
)  # fmt: skip
REQUESTS_KEPT: Final = 4096
_REQUESTS: Final[dict[tuple[object, ...], Request]] = {}


def read_request(job: Job) -> Request:
    """Return what `job` asks of a node, made anew."""
    spec = job.spec
    several = spec.num_nodes > 1
    slots = 1 if several else spec.placed_tasks
    cpus = slots * spec.cpus_per_task
    tasks = max(spec.placed_tasks, spec.num_nodes)
    gpus, per_task = parse_gpus(spec.gpus_per_node or "0"), parse_gpus(spec.gpus_per_task or "0")
    return Request(
        partitions=spec.partitions,
        slots=slots,
        cpus=cpus,
        memory_mib=spec.memory_for_mib(cpus),
        tasks=tasks,
        cpus_per_task=spec.cpus_per_task,
        memory_per_cpu_mib=0 if spec.memory_mib is not None else spec.memory_per_cpu_mib or 0,
        # Slurm: beside --ntasks, --ntasks-per-node is the most a node gets.
        tasks_per_node=max(spec.ntasks_per_node, -(-tasks // spec.num_nodes)) if several and spec.ntasks_per_node else tasks,
        req_nodes=spec.req_nodes,
        exc_nodes=spec.exc_nodes,
        features=spec.features,
        exclusive=spec.exclusive,
        directory=spec.directory if spec.provable and not spec.anywhere and not spec.tree else None,
        num_nodes=spec.num_nodes,
        time_limit_s=spec.time_limit_s,
        gpus=gpus,
        gpus_per_task=per_task if not gpus else (),
        gpus_total=parse_gpus(spec.gpus_total or "0") if not gpus and not per_task else (),
        min_cpus=max(spec.min_cpus, cpus),
        tmp_disk_mib=spec.tmp_disk_mib,
        prefer=spec.prefer,
        reservations=spec.reservations,
        python=spec.python,
        licenses=parse_licenses(spec.licenses) if spec.licenses else (),
        near=spec.directory if spec.tree and spec.provable and not spec.frozen else None,
        avoid=job.last_refused_by if spec.tree else None,
        image=form_of(spec.container),
    )


def is_preferred(request: Request, node: Node) -> bool:
    """Whether a node has the features of --prefer; with nothing preferred, every node has."""
    return request.prefer is None or parse_constraint(request.prefer).holds(node.features)


def spread(request: Request, rooms: Sequence[tuple[Node, int]]) -> list[tuple[Node, int]]:
    """Return the nodes of a job on several, with its tasks on each; nothing if the rooms do not do.

    Nodes asked for by name are all taken; of the others the lightest, then by name, unless only larger ones hold the
    tasks.  As Slurm: the nodes stand in the order of their names, the first is filled as far as the others still get one
    task each, then the next.

    Args:
        request: of a job on several nodes.
        rooms: nodes that fit, each with how many tasks it has room for.
    """
    rooms = [(node, min(room, request.tasks_per_node)) for node, room in rooms]
    named = [one for one in rooms if one[0].name in request.req_nodes]
    if len(named) < len(request.req_nodes) or len(rooms) < request.num_nodes:
        return []
    others = [one for one in rooms if one[0].name not in request.req_nodes]
    wanted = request.num_nodes - len(named)
    others.sort(key=lambda one: (not is_preferred(request, one[0]), one[0].weight, split_name(one[0].name)))
    chosen = [*named, *others[:wanted]]
    if sum(room for _, room in chosen) < request.tasks:
        others.sort(key=lambda one: -one[1])  # stable: lightest and by name among equals
        chosen = [*named, *others[:wanted]]
    if sum(room for _, room in chosen) < request.tasks:
        return []
    chosen.sort(key=lambda one: split_name(one[0].name))
    left, parts = request.tasks, []
    for i, (node, room) in enumerate(chosen):
        tasks = min(room, left - (len(chosen) - i - 1))
        parts.append((node, tasks))
        left -= tasks
    return parts


@lru_cache(maxsize=8192)
def split_name(name: str) -> tuple[str | int, ...]:
    """Return a key that sorts node10 behind node9."""
    return tuple(int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name))


PATHS_KEPT = 4096


class Directories:
    """Which hosts provably share which directory.  Proofs die with the connection they were made over."""

    def __init__(self) -> None:
        self._proofs: dict[str, dict[str, tuple[bool, float]]] = {}
        self._asked: dict[str, set[str]] = {}  # node -> paths it was asked for on its present connection
        self.changes = 0  # so that who keeps verdicts can see that they are old
        self._changed_at: dict[str, int] = {}  # path -> number of its last change
        self._connections = 0  # of all nodes, begun or ended
        self._all_asked: dict[str, tuple[int, int]] = {}  # path -> connections and nodes when all of them were asked for it

    def take_question(self, path: str, node: str) -> bool:
        """Whether `node` is still to be asked for `path` on this connection; says so once."""
        asked = self._asked.setdefault(node, set())
        if path in asked or self.answer(path, node) is not None:
            return False
        asked.add(path)
        return True

    def may_be_unasked(self, path: str, nodes: int) -> bool:
        """Whether some of so many nodes may not have been asked for `path`; who asks will do it now."""
        now = (self._connections, nodes)
        if self._all_asked.get(path) == now:
            return False
        if len(self._all_asked) >= PATHS_KEPT:
            self._all_asked.clear()
        self._all_asked[path] = now
        return True

    def record(self, path: str, node: str, *, shared: bool, now: float) -> None:
        self._proofs.setdefault(path, {})[node] = (shared, now)
        self._note_change(path)

    def forget_node(self, node: str) -> None:
        self._asked.pop(node, None)
        self._connections += 1
        for path, answers in self._proofs.items():
            if answers.pop(node, None) is not None:
                self._note_change(path)

    def forget_path(self, path: str) -> None:
        if self._proofs.pop(path, None) is not None:
            self._note_change(path)

    def _note_change(self, path: str) -> None:
        self.changes += 1
        self._changed_at[path] = self.changes

    def changed_at(self, path: str | None) -> int:
        """Return a number that grows with each change of what is known of a path."""
        return 0 if path is None else self._changed_at.get(path, 0)

    def answer(self, path: str, node: str) -> bool | None:
        """True or False as proved, None where this connection has not answered yet.  A node has its own directories."""
        if path.startswith(f"{node}:"):
            return True
        found = self._proofs.get(path, {}).get(node)
        return None if found is None else found[0]

    def is_private(self, spec: JobSpec, node: str) -> bool:
        """Whether a job runs in a directory of its own on a node."""
        return (spec.provable or spec.tree is not None) and (spec.frozen or not self.answer(spec.directory, node))

    def age_s(self, path: str, node: str, now: float) -> float | None:
        """Seconds since the proof; None where there is none."""
        found = self._proofs.get(path, {}).get(node)
        return None if found is None else now - found[1]

    def is_shared_by_any(self, path: str) -> bool:
        return any(shared for shared, _ in self._proofs.get(path, {}).values())


def judge(request: Request, node: Node, directories: Directories) -> Rejection | None:
    """Return None if `node` takes `request` now, else why not."""
    python = node.pythons.get(request.python) if request.python is not None else None
    found = judge_size(request, node)
    if found is None and python is not None and python.path is None:
        found = Rejection(node=node.name, step=Step.PYTHON, detail=python.detail)
    found = found or judge_state(node)
    if found is None and request.python is not None and python is None:
        found = Rejection(node=node.name, step=Step.PYTHON, detail="not yet known which Python it has")
    found = found or judge_directory(request, node, directories)
    if found is not None:
        return found
    if request.wants_gpus and (obstacle := _gpus_in_the_way(request, node)):
        step, detail = obstacle
        return Rejection(node=node.name, step=step, detail=detail)
    detail = _judge_room(request, node)
    return Rejection(node=node.name, step=Step.BUSY, detail=detail) if detail else None


def judge_size(request: Request, node: Node) -> Rejection | None:
    """Whether it is one of those asked for, and large enough when empty."""

    def no(step: Step, detail: str) -> Rejection:
        return Rejection(node=node.name, step=step, detail=detail)

    if not set(request.partitions) & set(node.config.partitions):
        return no(Step.NOT_ASKED, f"not in partition {','.join(request.partitions)}")
    if request.req_nodes and node.name not in request.req_nodes and request.num_nodes <= len(request.req_nodes):
        return no(Step.NOT_ASKED, f"not among --nodelist={','.join(request.req_nodes)}")
    if node.name in request.exc_nodes:
        return no(Step.NOT_ASKED, "excluded by --exclude")
    if request.features and not parse_constraint(request.features).holds(node.features):
        return no(Step.CONSTRAINT, f"lacks {request.features} (has {','.join(sorted(node.features)) or 'no features'})")
    if node.known:
        if request.image and (lack := node.choose_engine(request.image)[1]):
            return no(Step.CONSTRAINT, lack)
        if request.slots > node.slots:
            return no(Step.TOO_SMALL, f"{request.slots} slots asked, {node.slots} present")
        if request.min_cpus > node.cpus:
            return no(Step.TOO_SMALL, f"{request.min_cpus} CPUs asked, {node.cpus} present")
        if request.memory_mib > node.memory_mib:
            return no(Step.TOO_SMALL, f"{request.memory_mib} MiB asked, {node.memory_mib} present")
        if request.wants_gpus and (lack := _lacks_gpus(request, node)):
            return no(Step.TOO_SMALL, lack)
        if node.facts is not None and request.tmp_disk_mib > node.facts.tmp_disk_mib:
            return no(Step.TOO_SMALL, f"{request.tmp_disk_mib} MiB of /tmp asked, {node.facts.tmp_disk_mib} present")
    return None


def judge_state(node: Node) -> Rejection | None:
    """Whether it takes anything at all."""
    detail = ""
    if node.removed:
        detail = "removed from the inventory, ending its jobs"
    elif node.record.down_asserted:
        detail = f"down: {node.record.drain_reason or 'no reason given'}"
    elif node.record.drain_reason:
        detail = f"drained: {node.record.drain_reason}"
    elif node.trouble and node.connected:
        detail = f"drained: {node.trouble}"
    elif not node.connected:
        detail = f"unreachable: {node.note}"
    elif node.reclaiming:
        detail = node.reclaiming
    return Rejection(node=node.name, step=Step.UNAVAILABLE, detail=detail) if detail else None


def judge_directory(request: Request, node: Node, directories: Directories) -> Rejection | None:
    """Whether it shares the directory, where that matters."""
    if request.directory is None:
        return None
    answer = directories.answer(request.directory, node.name)
    detail = ""
    if answer is None:
        detail = f"not yet known whether it shares {request.directory}"
    elif not answer and (not request.directory.startswith("/") or directories.is_shared_by_any(request.directory)):
        detail = f"does not share {request.directory}, other hosts do (--anywhere lifts this)"
    return Rejection(node=node.name, step=Step.DIRECTORY, detail=detail) if detail else None


def _judge_room(request: Request, node: Node) -> str:
    """Say what is not free now; "" if all of it is.  `candidates` does the same with numbers alone."""
    if node.exclusive or (request.exclusive and node.jobs):
        return "taken exclusively" if node.exclusive else "not empty, --exclusive asked"
    if request.slots > node.free_slots:
        return f"{request.slots} slots asked, {node.free_slots} of {node.slots} free"
    if request.min_cpus > node.cpus - node.cpus_taken:
        return f"{request.min_cpus} CPUs asked, {node.cpus - node.cpus_taken} of {node.cpus} free"
    if request.memory_mib > node.memory_mib - node.memory_taken_mib:
        free = node.memory_mib - node.memory_taken_mib
        return f"{request.memory_mib} MiB asked, {free} of {node.memory_mib} free"
    return ""


def take_gpus(request: Request, node: Node, tasks: int, *, place: int = 0, given: Collection[str] = ()) -> tuple[Gpu, ...] | None:
    """Return the GPUs that a job with so many tasks on a node gets there; None if there are too few now.

    A job that has the node to itself (--exclusive) gets all of them, as in Slurm.  `place` is the number of the node among
    the job's, `given` are ids that others of the same pass get.
    """
    if not request.wants_gpus and not request.exclusive:
        return ()
    free = [gpu for gpu in node.free_gpus() if gpu.id not in given]
    chosen = pick_gpus(free, request.gpus_on(tasks, place))
    return tuple(free) if request.exclusive and chosen is not None else chosen


def _lacks_gpus(request: Request, node: Node) -> str:
    """Say what GPUs a node would lack even when idle; "" if it has what is asked."""
    wanted = request.gpus_on(request.slots)
    if pick_gpus(node.gpus, wanted) is not None:
        return ""
    for kind, count in wanted:
        there = len([gpu for gpu in node.gpus if is_of_type(gpu, kind)]) if kind else len(node.gpus)
        if there < count:
            return f"{_name_gpus(count, kind)} asked, {there} present"
    return f"{count_of(wanted)} GPUs asked, {len(node.gpus)} present"


def _gpus_in_the_way(request: Request, node: Node) -> tuple[Step, str] | None:
    """Why a node that has the GPUs does not give them now."""
    wanted = request.gpus_on(request.slots)
    if node.gpu_problem:
        return Step.UNAVAILABLE, f"its GPUs cannot be used: {node.gpu_problem}"
    if pick_gpus([gpu for gpu in node.gpus if gpu.id not in node.gpu_uses], wanted) is None:
        held = "; ".join(f"GPU {gpu.index}: {node.gpu_uses[gpu.id]}" for gpu in node.gpus if gpu.id in node.gpu_uses)
        return Step.OUTSIDE, f"too few GPUs: in use outside sshq: {held}"
    free = node.free_gpus()
    if pick_gpus(free, wanted) is not None:
        return None
    for kind, count in wanted:
        left = len([gpu for gpu in free if is_of_type(gpu, kind)]) if kind else len(free)
        if left < count:
            there = len([gpu for gpu in node.gpus if is_of_type(gpu, kind)]) if kind else len(node.gpus)
            return Step.BUSY, f"{_name_gpus(count, kind)} asked, {left} of {there} free"
    return Step.BUSY, f"{count_of(wanted)} GPUs asked, {len(free)} of {len(node.gpus)} free"


def _name_gpus(count: int, kind: str) -> str:
    return f"{count} {'GPU' if count == 1 else 'GPUs'}{f' of type {kind}' if kind else ''}"
