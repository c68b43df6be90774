"""The scheduling pass as it was before it kept anything from pass to pass: every node is judged for every head, each time.

The oracle of test_schedule_kept.  It changes nothing; the product's pass must plan the same and give the same reasons.
"""

import heapq
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from sshq.core.cluster import Cluster
from sshq.core.events import Start
from sshq.core.licenses import free_licenses
from sshq.core.model import Job
from sshq.core.nodes import Node
from sshq.core.placement import Request, is_preferred, judge, spread, take_gpus
from sshq.core.reservations import reject
from sshq.core.schedule import STARTS_MAX, why_blocked


@dataclass(frozen=True)
class PlainPlan:
    starts: tuple[Start, ...]
    blocked: dict[Request, str | None]
    planned: dict[str, Request]
    more: bool


@dataclass(slots=True)
class _Room:
    """What this pass has already given away on a node, on top of what the node itself knows."""

    slots: int = 0
    cpus: int = 0
    memory_mib: int = 0
    exclusive: bool = False
    gpus: set[str] = field(default_factory=set)


class _Pass:
    def __init__(self, cluster: Cluster, now: float) -> None:
        self.cluster = cluster
        self.now = now
        self.given: dict[str, _Room] = {}
        self.reserved: dict[str, Request] = {}  # node -> the only request it is open to
        self.partitions: dict[Request, frozenset[str]] = {}  # of those it asks for, the open ones
        self.blocked = {request: group.blocked for request, group in cluster.pending.groups.items()}
        self.reserved_partitions: set[tuple[str, ...]] = set()
        self.full_partitions: set[str] = set()  # where somebody of higher priority waits for room already
        self.array_started: Counter[int] = Counter()  # array id -> tasks started in this pass
        self.licenses = free_licenses(cluster)
        self.free = [n for n in cluster.nodes.values() if n.usable and n.free_slots > 0]

    def fits(self, request: Request, node: Node) -> bool:
        holder = self.reserved.get(node.name)
        if holder is not None and holder is not request and not self.leaves_room(request, holder, node):
            return False
        allowed = self.partitions.get(request)
        if allowed is None:
            allowed = self.partitions[request] = self.cluster.open_partitions(request)
        if allowed.isdisjoint(node.config.partitions):
            return False
        if judge(request, node, self.cluster.directories) is not None:
            return False
        if (self.cluster.reservations or request.reservations) and reject(self.cluster, request, node, self.now):
            return False
        room = self.given.get(node.name)
        if room is None:
            return True
        return (
            not room.exclusive
            and not (request.exclusive and room.slots)
            and request.slots <= node.free_slots - room.slots
            and request.min_cpus <= node.cpus - node.cpus_taken - room.cpus
            and request.memory_mib <= node.memory_mib - node.memory_taken_mib - room.memory_mib
            and take_gpus(request, node, request.slots, given=room.gpus) is not None
        )

    def leaves_room(self, request: Request, holder: Request, node: Node) -> bool:
        """Whether a lower job may use a node that is reserved: it takes nothing that the one it is reserved for waits for.

        So a host whose GPUs are all taken still serves jobs without GPUs, as far as CPUs and memory for the next GPU job stay.
        """
        if request.wants_gpus or request.exclusive or request.num_nodes > 1:
            return False
        if not holder.wants_gpus or holder.exclusive or holder.num_nodes > 1:
            return False
        room = self.given.get(node.name) or _Room()
        return (
            holder.slots <= node.free_slots - room.slots - request.slots
            and holder.min_cpus <= node.cpus - node.cpus_taken - room.cpus - request.cpus
            and holder.memory_mib <= node.memory_mib - node.memory_taken_mib - room.memory_mib - request.memory_mib
        )

    def take(self, job: Job, request: Request, parts: list[tuple[Node, int]]) -> None:
        """Give a job its nodes, each with the number of its tasks there, and its licenses."""
        for name, count in request.licenses:
            self.licenses[name] -= count
        if job.array_job_id is not None:
            self.array_started[job.array_job_id] += 1
        for place, (node, tasks) in enumerate(parts):
            room = self.given.setdefault(node.name, _Room())
            cpus = tasks * request.cpus_per_task
            room.slots += tasks
            room.cpus += cpus
            room.memory_mib += request.memory_mib_for(cpus)
            room.gpus.update(gpu.id for gpu in take_gpus(request, node, tasks, place=place, given=room.gpus) or ())
            room.exclusive = room.exclusive or request.exclusive
            if node.free_slots - room.slots <= 0:
                self.free.remove(node)

    def lacks_licenses(self, request: Request) -> bool:
        return any(count > self.licenses.get(name, 0) for name, count in request.licenses)

    def place(self, request: Request, tree: str | None) -> list[tuple[Node, int]]:
        """Return where a request goes now, nodes with tasks, or nothing."""
        if request.num_nodes == 1:
            node = self.node_for(request, self.cluster.trees.hosts(tree))
            return [] if node is None else [(node, request.tasks)]
        return spread(request, [(n, self.capacity(request, n)) for n in self.free if self.fits(request, n)])

    def capacity(self, request: Request, node: Node) -> int:
        """Return how many tasks of a request a node has room for."""
        room = self.given.get(node.name) or _Room()
        free_cpus = node.cpus - node.cpus_taken - room.cpus
        most = min(node.free_slots - room.slots, free_cpus // request.cpus_per_task)
        if request.memory_per_cpu_mib:
            free_mib = node.memory_mib - node.memory_taken_mib - room.memory_mib
            most = min(most, free_mib // (request.memory_per_cpu_mib * request.cpus_per_task))
        while most > 0 and request.gpus_per_task and take_gpus(request, node, most, given=room.gpus) is None:
            most -= 1
        return most

    def node_for(self, request: Request, with_tree: Collection[str]) -> Node | None:
        fitting = [n for n in self.free if self.fits(request, n)]
        return min(
            fitting,
            # Hosts with GPUs last for who wants none; of those that are as good so far, one that has the files.
            key=lambda n: (
                not is_preferred(request, n)
                or (request.near is not None and not self.cluster.directories.answer(request.near, n.name)),
                n.weight,
                not request.wants_gpus and bool(n.gpus),
                n.name not in with_tree,
                n.free_slots - (self.given[n.name].slots if n.name in self.given else 0),
                n.name,
            ),
            default=None,
        )

    def block(self, request: Request) -> None:
        """Note why the group's head waits; the first in its partitions reserves the emptiest node that could hold it."""
        reason, candidates = self.note(request)
        if reason == "Resources" and request.partitions not in self.reserved_partitions:
            open_nodes = [n for n in candidates if n.name not in self.reserved]
            open_nodes.sort(key=lambda n: (n.free_slots, n.name), reverse=True)
            for node in open_nodes[: request.num_nodes]:
                self.reserved[node.name] = request
                self.reserved_partitions.add(request.partitions)

    def note(self, request: Request) -> tuple[str, list[Node]]:
        """Note why a head waits: for room, or, as Slurm has it, behind one that waits for room in the same partition."""
        reason, candidates = why_blocked(self.cluster, request, self.now)
        shown = reason
        if reason == "Resources":
            shown = "Resources" if self.full_partitions.isdisjoint(request.partitions) else "Priority"
            self.full_partitions.update(request.partitions)
        self.blocked[request] = shown
        return reason, candidates

    def array_may_start(self, job: Job) -> bool:
        """Whether %N allows one more task; a task with a job of its own (held before, or retried) counts as any other."""
        if job.array_job_id is None or not job.spec.array_limit:
            return True
        started = self.array_started.get(job.array_job_id, 0) + self.cluster.array_running(job.array_job_id)
        return started < job.spec.array_limit


def schedule_plainly(cluster: Cluster, now: float) -> PlainPlan:
    run = _Pass(cluster, now)
    starts: list[Start] = []
    pending = cluster.pending
    groups = [list(group.keys) for group in pending.groups.values()]
    heads = [(group[0], i, 0) for i, group in enumerate(groups)]
    requests = list(pending.groups)
    heapq.heapify(heads)
    while heads and len(starts) < STARTS_MAX:
        key, i, at = heapq.heappop(heads)
        request = requests[i]
        group = groups[i]
        job = cluster.jobs[key[2]]
        reason = cluster.limit_reason(request)
        if reason:
            run.blocked[request] = reason
            continue
        if not run.free:
            run.note(request)
            continue
        tasks_left = cluster.array_left(job) if job.is_array_record else 1
        blocked = False
        while tasks_left and len(starts) < STARTS_MAX:
            if not run.array_may_start(job):
                break
            if request.licenses and run.lacks_licenses(request):
                reason = "Licenses"
                break
            parts = run.place(request, job.spec.tree)
            if not parts:
                blocked = True
                break
            run.take(job, request, parts)
            gang = tuple((node.name, tasks) for node, tasks in parts) if len(parts) > 1 else ()
            starts.append(Start(job_id=job.job_id, node=parts[0][0].name, gang=gang))
            tasks_left -= 1
        if blocked:
            run.block(request)
            continue
        if reason:  # nodes are left to others: when the licenses come back is not known
            run.blocked[request] = reason
            continue
        run.blocked[request] = None
        if at + 1 < len(group):
            heapq.heappush(heads, (group[at + 1], i, at + 1))
    return PlainPlan(starts=tuple(starts), blocked=run.blocked, planned=run.reserved, more=len(starts) >= STARTS_MAX)
