"""A scheduling pass: which pending jobs start where, now.

Groups of equal requests are walked by the priority of their heads.  A head that does not fit closes its group for this
pass.  The first group that is blocked for want of room in a partition reserves one node there: until its head fits,
lower jobs may not fill that node, so that a large job is not passed over for ever by small ones (waiting never lowers a
job's chance).  All other nodes stay open to whoever fits.

The pass reads the live indexes and changes nothing but the reasons it finds; the plan is applied as an event.
"""

import heapq
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from sshq.core.candidates import FITS, Fit, Mark, Rank, RankKind, rank_of
from sshq.core.cluster import Cluster
from sshq.core.events import Start
from sshq.core.licenses import free_licenses
from sshq.core.model import Job
from sshq.core.nodes import Node
from sshq.core.placement import Request, Step, judge, spread, take_gpus
from sshq.core.reservations import reason_of, reject

OWN_ORDER = 16  # a request that fits on fewer than one open node in so many gets a list of its own
STARTS_MAX = 200  # a pass; the rest comes in the next, so that no single transaction grows without bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    starts: tuple[Start, ...]
    more: bool = False  # stopped at STARTS_MAX


@dataclass(slots=True)
class _Room:
    """What this pass has already given away on a node, on top of what the node itself knows."""

    slots: int = 0
    cpus: int = 0
    memory_mib: int = 0
    exclusive: bool = False
    gpus: set[str] = field(default_factory=set)


class _Turn:
    """What a pass knows of one request, made when its first job is looked at."""

    __slots__ = ("at", "fit", "gifted", "kind", "limit", "order", "request", "seen")

    def __init__(self, request: Request, limit: str, fit: Fit) -> None:
        self.request = request
        self.kind: RankKind = (request.prefer, request.wants_gpus)
        self.limit = limit  # the partitions' own reason against it
        self.fit = fit
        self.order: list[Rank] | None = None  # nodes as they stood before the pass, best first; made when it is first placed
        self.at = 0  # those before are taken, full or do not fit
        self.gifted: list[Rank] = []  # a heap of the nodes the pass has given something of
        self.seen = 0  # how many of the pass's gifts are in there


class _Pass:
    def __init__(self, cluster: Cluster, now: float) -> None:
        self.cluster = cluster
        self.now = now
        self.given: dict[str, _Room] = {}
        self.gifts: list[str] = []  # names of nodes that something was given of, in order
        self.full: set[str] = set()  # by what was given
        self.reserved: dict[str, Request] = {}  # node -> the only request it is open to
        self.reserved_partitions: set[tuple[str, ...]] = set()
        self.full_partitions: set[str] = set()  # where somebody of higher priority waits for room already
        self.array_started: Counter[int] = Counter()  # array id -> tasks started in this pass
        self.orders: dict[RankKind, list[Rank]] = {}  # all open nodes, best first, as they stood before the pass
        self.licenses = free_licenses(cluster)
        self.candidates = cluster.candidates
        self.candidates.refresh(cluster)
        self.marks = self.candidates.marks

    @property
    def nothing_free(self) -> bool:
        return len(self.full) >= len(self.candidates.open)

    def turn(self, request: Request) -> _Turn:
        allowed = self.cluster.open_partitions(request)
        return _Turn(request, self.cluster.limit_reason(request), self.candidates.fit(self.cluster, request, allowed))

    def fits(self, request: Request, mark: Mark) -> bool:
        """Whether a node that fits by itself still does after what this pass has given away and reserved."""
        node = mark.node
        holder = self.reserved.get(node.name)
        if holder is not None and holder is not request and not self.leaves_room(request, holder, node):
            return False
        if node.name == request.avoid and self.has_other(request):
            return False
        if (self.cluster.reservations or request.reservations) and reject(self.cluster, request, node, self.now):
            return False
        room = self.given.get(node.name)
        if room is None:
            return True
        return (
            not room.exclusive
            and not (request.exclusive and room.slots)
            and request.slots <= mark.free_slots - room.slots
            and request.min_cpus <= mark.free_cpus - room.cpus
            and request.memory_mib <= mark.free_mib - room.memory_mib
            and take_gpus(request, node, request.slots, given=room.gpus) is not None
        )

    def has_other(self, request: Request) -> bool:
        """Whether another host than the one to be avoided takes a request, now or once it is free."""
        allowed = self.cluster.open_partitions(request)
        for node in self.cluster.nodes.values():
            if node.name != request.avoid and not allowed.isdisjoint(node.config.partitions):
                rejection = judge(request, node, self.cluster.directories)
                if rejection is None or rejection.step is Step.BUSY:
                    return True
        return False

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
            room = self.given.get(node.name)
            if room is None:
                room = self.given[node.name] = _Room()
            cpus = tasks * request.cpus_per_task
            room.slots += tasks
            room.cpus += cpus
            room.memory_mib += request.memory_mib_for(cpus)
            room.gpus.update(gpu.id for gpu in take_gpus(request, node, tasks, place=place, given=room.gpus) or ())
            room.exclusive = room.exclusive or request.exclusive
            self.gifts.append(node.name)
            if self.marks[node.name].free_slots - room.slots <= 0:
                self.full.add(node.name)

    def lacks_licenses(self, request: Request) -> bool:
        return any(count > self.licenses.get(name, 0) for name, count in request.licenses)

    def place(self, turn: _Turn, tree: str | None = None) -> list[tuple[Node, int]]:
        """Return where a request goes now, nodes with tasks, or nothing; one that has the files of `tree`, if it is as good."""
        request, fitting = turn.request, turn.fit.fitting
        if request.num_nodes == 1:
            node = self.node_for(turn)
            if node is not None and (hosts := self.cluster.trees.hosts(tree)) and node.name not in hosts:
                node = self.one_of(turn, hosts, node)
            return [] if node is None else [(node, request.tasks)]
        if len(fitting) < request.num_nodes:
            return []
        nodes = self.cluster.nodes.values()  # in this order, which decides between equals
        open_nodes = self.candidates.open - self.full
        chosen = [n for n in nodes if n.name in fitting and n.name in open_nodes and self.fits(request, self.marks[n.name])]
        return spread(request, [(n, self.capacity(request, n)) for n in chosen])

    def capacity(self, request: Request, node: Node) -> int:
        """Return how many tasks of a request a node has room for."""
        room, mark = self.given.get(node.name) or _Room(), self.marks[node.name]
        most = min(mark.free_slots - room.slots, (mark.free_cpus - room.cpus) // request.cpus_per_task)
        if request.memory_per_cpu_mib:
            free_mib = mark.free_mib - room.memory_mib
            most = min(most, free_mib // (request.memory_per_cpu_mib * request.cpus_per_task))
        while most > 0 and request.gpus_per_task and take_gpus(request, node, most, given=room.gpus) is None:
            most -= 1
        return most

    def node_for(self, turn: _Turn) -> Node | None:
        """Return the node that is to be taken first of those a request fits on.

        What fits no longer in a pass never does again in it, so a node that is found wanting is not looked at again.  A
        node that something was given of ranks anew: it is in the heap, once for each gift, and old entries are skipped.
        """
        request, fitting, gifted = turn.request, turn.fit.fitting, turn.gifted
        if not fitting:
            return None
        for rank in self.ranks(request, turn.kind, fitting.intersection(self.gifts[turn.seen :]) - self.full):
            heapq.heappush(gifted, rank)
        turn.seen = len(self.gifts)
        untouched = self.untouched(turn)
        while gifted:
            rank = gifted[0]
            if untouched is not None and untouched < rank:
                break
            name = rank[4]
            mark = self.marks[name]
            is_new = name not in self.full and rank[3] == mark.free_slots - self.given[name].slots
            if is_new and self.fits(request, mark):
                return mark.node
            heapq.heappop(gifted)
        return None if untouched is None else self.marks[untouched[4]].node

    def one_of(self, turn: _Turn, names: Collection[str], chosen: Node) -> Node:
        """Return one of some nodes that is liked as well as the one that was chosen and weighs the same, else that one."""
        request, fitting, opened = turn.request, turn.fit.fitting, self.candidates.open
        free = [n for n in names if n in fitting and n in opened and n not in self.full and self.fits(request, self.marks[n])]
        *ranks, rank = self.ranks(request, turn.kind, [*free, chosen.name])
        as_good = [one for one in ranks if one[:3] == rank[:3]]
        return self.marks[min(as_good)[4]].node if as_good else chosen

    def untouched(self, turn: _Turn) -> Rank | None:
        """Return the best node a request fits on of those the pass has given nothing of."""
        request, fitting, order = turn.request, turn.fit.fitting, turn.order
        if order is None:
            order = turn.order = self.order_for(turn)
        for at in range(turn.at, len(order)):
            name = order[at][4]
            if name in fitting and name not in self.given and self.fits(request, self.marks[name]):
                turn.at = at
                return order[at]
        turn.at = len(order)
        return None

    def order_for(self, turn: _Turn) -> list[Rank]:
        """Return the open nodes as they stood before the pass, best first; one list does for many requests."""
        fitting, opened = turn.fit.fitting, self.candidates.open
        if turn.request.near is not None or len(fitting) * OWN_ORDER < len(opened):
            return sorted(self.ranks_before(turn.request, turn.kind, fitting & opened))
        order = self.orders.get(turn.kind)
        if order is None:
            order = self.orders[turn.kind] = sorted(self.ranks_before(turn.request, turn.kind, opened))
        return order

    def ranks_before(self, request: Request, kind: RankKind, names: Iterable[str]) -> list[Rank]:
        """Return the sort keys of nodes as they stood before the pass: the smallest is taken first."""
        found, marks = [], self.marks
        for name in names:
            mark = marks[name]
            rank = mark.ranks.get(kind)
            if rank is None:
                rank = mark.ranks[kind] = rank_of(kind, mark)
            if request.near is not None and not self.cluster.directories.answer(request.near, name):
                rank = (True, *rank[1:])
            found.append(rank)
        return found

    def ranks(self, request: Request, kind: RankKind, names: Iterable[str]) -> list[Rank]:
        """Return the sort keys of nodes as they stand now."""
        given, before = self.given, self.ranks_before(request, kind, names)
        return [(*rank[:3], rank[3] - given[rank[4]].slots, rank[4]) if rank[4] in given else rank for rank in before]

    def block(self, turn: _Turn) -> None:
        """Note why the group's head waits; the first in its partitions reserves the emptiest node that could hold it."""
        request = turn.request
        reason, shown = self.reason_of(turn)
        if reason == "Resources" and request.partitions not in self.reserved_partitions:
            names = self.could_hold(turn)
            open_names = [(self.marks[name].free_slots, name) for name in names if name not in self.reserved]
            for _, name in heapq.nlargest(request.num_nodes, open_names):
                self.reserved[name] = request
                self.reserved_partitions.add(request.partitions)
        self.cluster.pending.groups[request].blocked = shown

    def note(self, turn: _Turn) -> None:
        """Note why a head waits, without keeping anything for it."""
        _, self.cluster.pending.groups[turn.request].blocked = self.reason_of(turn)

    def reason_of(self, turn: _Turn) -> tuple[str, str]:
        """Return why a head waits, and what is shown: for room, or, as Slurm has it, behind one that does in its partition."""
        request, counts = turn.request, turn.fit.counts
        if self.cluster.reservations or request.reservations:
            reason, _ = why_blocked(self.cluster, request, self.now)
        elif not turn.limit and counts[Step.BUSY] + counts[FITS] + counts[Step.OUTSIDE] >= request.num_nodes and (
            counts[Step.OUTSIDE] or counts[Step.BUSY] + counts[FITS] >= request.num_nodes
        ):
            reason = "Resources"
        else:
            reason, _ = why_blocked(self.cluster, request, self.now)
        shown = reason
        if reason == "Resources":
            shown = "Resources" if self.full_partitions.isdisjoint(request.partitions) else "Priority"
            self.full_partitions.update(request.partitions)
        return reason, shown

    def could_hold(self, turn: _Turn) -> list[str]:
        """Return the nodes that are only busy: none where it is not the queue that has them."""
        if self.cluster.reservations or turn.request.reservations:
            return [node.name for node in why_blocked(self.cluster, turn.request, self.now)[1]]
        names = turn.fit.names(Step.BUSY, FITS)
        return names if len(names) >= turn.request.num_nodes else []

    def array_may_start(self, job: Job) -> bool:
        """Whether %N allows one more task; a task with a job of its own (held before, or retried) counts as any other."""
        if job.array_job_id is None or not job.spec.array_limit:
            return True
        started = self.array_started.get(job.array_job_id, 0) + self.cluster.array_running(job.array_job_id)
        return started < job.spec.array_limit


def place_now(cluster: Cluster, request: Request, now: float) -> list[tuple[Node, int]]:
    """Return where a request would go if it stood alone before a pass, nodes with tasks; nothing if it does not fit now."""
    run = _Pass(cluster, now)
    return [] if run.lacks_licenses(request) else run.place(run.turn(request))


def why_blocked(cluster: Cluster, request: Request, now: float) -> tuple[str, list[Node]]:
    """Return Slurm's reason for a request no node takes now, and the nodes that are only busy."""
    limit = cluster.limit_reason(request)
    if limit:
        return limit, []
    step, busy, down, outside, kept = Step.NOT_ASKED, [], [], 0, 0
    allowed = cluster.open_partitions(request)
    for node in cluster.nodes.values():
        if allowed.isdisjoint(node.config.partitions):
            continue
        rejection = judge(request, node, cluster.directories)
        if rejection is None or rejection.step is Step.BUSY:
            if (cluster.reservations or request.reservations) and reject(cluster, request, node, now):
                kept += 1
                continue
            busy.append(node)
            step = Step.BUSY
            continue
        step = max(step, rejection.step)
        outside += rejection.step is Step.OUTSIDE
        if rejection.step is Step.UNAVAILABLE:
            down.append(node.name)
    if len(busy) >= request.num_nodes:
        return "Resources", busy
    if kept and len(busy) + kept >= request.num_nodes and (reason := reason_of(cluster, request, now)):
        return reason, []
    if outside and len(busy) + outside >= request.num_nodes:
        return "Resources", []  # nothing to reserve: it is not the queue that has it
    if down:
        return f"ReqNodeNotAvail, UnavailableNodes:{cluster.fold(down)}", []
    if step is Step.DIRECTORY:
        return "Resources", []
    return ("PartitionConfig" if step is Step.TOO_SMALL else "BadConstraints"), []


def schedule(cluster: Cluster, now: float) -> Plan:
    """Return what may start now.  Cost: groups × nodes changed since the last pass, plus one look for each start."""
    run = _Pass(cluster, now)
    starts: list[Start] = []
    pending = cluster.pending
    groups = list(pending.groups.values())
    turns: dict[int, _Turn] = {}
    heads = [(group.keys.first(), i) for i, group in enumerate(groups)]
    heapq.heapify(heads)
    while heads and len(starts) < STARTS_MAX:
        key, i = heapq.heappop(heads)
        group = groups[i]
        turn = turns.get(i)
        if turn is None:
            turn = turns[i] = run.turn(group.request)
        if turn.limit:
            group.blocked = turn.limit
            continue
        if run.nothing_free:
            run.note(turn)
            continue
        reason, blocked = _start_one(run, turn, cluster.jobs[key[2]], starts)
        if blocked:
            run.block(turn)
            continue
        if reason:  # nodes are left to others: when the licenses come back is not known
            group.blocked = reason
            continue
        group.blocked = None
        following = group.keys.after(key)
        if following is not None:
            heapq.heappush(heads, (following, i))
    pending.planned = run.reserved
    return Plan(starts=tuple(starts), more=len(starts) >= STARTS_MAX)


def _start_one(run: _Pass, turn: _Turn, job: Job, starts: list[Start]) -> tuple[str, bool]:
    """Start a job, or as many tasks of an array as may; returns another reason to stop, and whether room was lacking."""
    request = turn.request
    tasks_left = run.cluster.array_left(job) if job.is_array_record else 1
    while tasks_left and len(starts) < STARTS_MAX:
        if not run.array_may_start(job):
            break
        if request.licenses and run.lacks_licenses(request):
            return "Licenses", False
        parts = run.place(turn, job.spec.tree)
        if not parts:
            return "", True
        run.take(job, request, parts)
        gang = tuple((node.name, tasks) for node, tasks in parts) if len(parts) > 1 else ()
        starts.append(Start(job_id=job.job_id, node=parts[0][0].name, gang=gang))
        tasks_left -= 1
    return "", False
