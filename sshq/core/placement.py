"""One request against the nodes: where it goes, or for each node why not.

A node is considered in three steps, and the first that fails is its rejection: it may be used (partition, state,
features, shared directory), it is large enough when empty, and enough of it is free now.  Of the nodes left, the
lightest weight is taken first, then the fullest, ties by name, so that large holes stay large and the answer never
depends on input order.
"""

from dataclasses import dataclass
from enum import IntEnum

from sshq.core.features import parse_constraint
from sshq.core.model import Job
from sshq.core.nodes import Node


class Step(IntEnum):
    """How far a node came before it was rejected; the furthest of all nodes is the job's reason."""

    NOT_ASKED = 0  # not in the partition, not in -w, in -x
    CONSTRAINT = 1
    TOO_SMALL = 2
    DIRECTORY = 3
    UNAVAILABLE = 4
    BUSY = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why one node does not take one request now."""

    node: str
    step: Step
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What one job takes on one node; equal requests are scheduled as one group."""

    partitions: tuple[str, ...]
    slots: int
    cpus: int
    memory_mib: int
    req_nodes: tuple[str, ...]
    exc_nodes: tuple[str, ...]
    features: str | None
    exclusive: bool
    directory: str | None  # None: any host will do (--anywhere, or nothing to share)
    num_nodes: int
    time_limit_s: int | None


def request_of(job: Job) -> Request:
    """Return what `job` asks of a node."""
    spec = job.spec
    return Request(
        partitions=spec.partitions,
        slots=spec.num_tasks,
        cpus=job.cpus,
        memory_mib=job.memory_on_node_mib(),
        req_nodes=spec.req_nodes,
        exc_nodes=spec.exc_nodes,
        features=spec.features,
        exclusive=spec.exclusive,
        directory=spec.work_dir if spec.provable and not spec.anywhere else None,
        num_nodes=spec.num_nodes,
        time_limit_s=spec.time_limit_s,
    )


class Directories:
    """Which hosts provably share which directory.  Proofs die with the connection they were made over."""

    def __init__(self) -> None:
        self._proofs: dict[str, dict[str, tuple[bool, float]]] = {}

    def record(self, path: str, node: str, *, shared: bool, now: float) -> None:
        self._proofs.setdefault(path, {})[node] = (shared, now)

    def forget_node(self, node: str) -> None:
        for answers in self._proofs.values():
            answers.pop(node, None)

    def forget_path(self, path: str) -> None:
        self._proofs.pop(path, None)

    def answer(self, path: str, node: str) -> bool | None:
        """True or False as proved, None where this connection has not answered yet."""
        found = self._proofs.get(path, {}).get(node)
        return None if found is None else found[0]

    def age_s(self, path: str, node: str, now: float) -> float | None:
        """Seconds since the proof; None where there is none."""
        found = self._proofs.get(path, {}).get(node)
        return None if found is None else now - found[1]

    def is_shared_by_any(self, path: str) -> bool:
        return any(shared for shared, _ in self._proofs.get(path, {}).values())


def judge(request: Request, node: Node, directories: Directories) -> Rejection | None:
    """Return None if `node` takes `request` now, else why not."""

    def no(step: Step, detail: str) -> Rejection:
        return Rejection(node=node.name, step=step, detail=detail)

    if not set(request.partitions) & set(node.config.partitions):
        return no(Step.NOT_ASKED, f"not in partition {','.join(request.partitions)}")
    if request.req_nodes and node.name not in request.req_nodes:
        return no(Step.NOT_ASKED, f"not among --nodelist={','.join(request.req_nodes)}")
    if node.name in request.exc_nodes:
        return no(Step.NOT_ASKED, "excluded by --exclude")
    if request.features and not parse_constraint(request.features).holds(node.features):
        return no(Step.CONSTRAINT, f"lacks {request.features} (has {','.join(sorted(node.features)) or 'no features'})")
    if node.known:
        if request.slots > node.slots:
            return no(Step.TOO_SMALL, f"{request.slots} slots asked, {node.slots} present")
        if request.cpus > node.cpus:
            return no(Step.TOO_SMALL, f"{request.cpus} CPUs asked, {node.cpus} present")
        if request.memory_mib > node.memory_mib:
            return no(Step.TOO_SMALL, f"{request.memory_mib} MiB asked, {node.memory_mib} present")
    if node.removed:
        return no(Step.UNAVAILABLE, "removed from the inventory, ending its jobs")
    if node.record.down_asserted:
        return no(Step.UNAVAILABLE, f"down: {node.record.drain_reason or 'no reason given'}")
    if node.record.drain_reason:
        return no(Step.UNAVAILABLE, f"drained: {node.record.drain_reason}")
    if not node.connected:
        return no(Step.UNAVAILABLE, f"unreachable: {node.note}")
    if request.directory is not None:
        answer = directories.answer(request.directory, node.name)
        if answer is None:
            return no(Step.DIRECTORY, f"not yet known whether it shares {request.directory}")
        if not answer and directories.is_shared_by_any(request.directory):
            return no(Step.DIRECTORY, f"does not share {request.directory}, other hosts do (--anywhere lifts this)")
    if node.exclusive or (request.exclusive and node.jobs):
        return no(Step.BUSY, "taken exclusively" if node.exclusive else "not empty, --exclusive asked")
    if request.slots > node.free_slots:
        return no(Step.BUSY, f"{request.slots} slots asked, {node.free_slots} of {node.slots} free")
    if request.cpus > node.cpus - node.cpus_taken:
        return no(Step.BUSY, f"{request.cpus} CPUs asked, {node.cpus - node.cpus_taken} of {node.cpus} free")
    if request.memory_mib > node.memory_mib - node.memory_taken_mib:
        free = node.memory_mib - node.memory_taken_mib
        return no(Step.BUSY, f"{request.memory_mib} MiB asked, {free} of {node.memory_mib} free")
    return None
