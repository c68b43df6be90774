"""The controller's whole knowledge and the one way to change it: `apply(event) -> Changes`.

Nothing here reads a clock, a file or a socket.  Only the mailbox calls `apply`; whoever else wants something posts an
event.  Every changed record is also a row of the batch; an effect names what shall be done once the batch is stored.
A request that cannot be granted raises `RefusedError` before anything has changed.

The rules live beside this file: `admission` (submit, arrays), `settle` (ends of launches), `reconcile` (listings),
`control` (users' verbs), `hostlife` (nodes and inventory).  This one holds the indexes and the small moves they share.
"""

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from sshq.core import dependency as dep
from sshq.core import events as ev
from sshq.core.arrays import IndexSet, parse_indices
from sshq.core.effects import AckLaunches, Changes, DropEnvironment, Effect, KillLaunch, StartLaunch
from sshq.core.hostlist import fold_hostlist
from sshq.core.lifecycle import FINAL, State, Trigger, next_state
from sshq.core.model import (
    SEQ_PER_GENERATION,
    Job,
    Launch,
    NodeConfig,
    NodeRecord,
    PartitionConfig,
    Purged,
    Row,
)
from sshq.core.nodes import Node
from sshq.core.pending import PendingQueue
from sshq.core.placement import Directories, Request, request_of
from sshq.core.priority import queue_key

SETTLED_KEPT_MAX = 4096  # ids of settled launches remembered per node, so that a late listing acks them again


class Cluster:
    """All jobs, open launches, nodes and partitions, with the indexes that wake what waits."""

    def __init__(self, *, store_id: str, epoch: int, next_job_id: int = 1, next_order: int = 1) -> None:
        self.store_id = store_id
        self.epoch = epoch
        self.next_job_id = next_job_id
        self.next_order = next_order
        self.jobs: dict[int, Job] = {}
        self.launches: dict[str, Launch] = {}  # open ones
        self.nodes: dict[str, Node] = {}
        self.partitions: dict[str, PartitionConfig] = {}
        self.default_partition: str | None = None
        self.pending = PendingQueue()
        self.directories = Directories()
        self.array_sets: dict[int, IndexSet] = {}
        self.array_members: dict[int, set[int]] = {}  # array id -> jobs split off or converted
        self.array_active: Counter[int] = Counter()  # array id -> tasks that hold an allocation
        self.dependents: dict[int, set[int]] = {}  # job or array id -> who waits for it
        self.node_launches: dict[str, set[str]] = {}
        self.orphans: dict[str, tuple[str, int]] = {}  # launch id -> node, job id: found on a node, unknown here
        self.environments: Counter[str] = Counter()
        self.schedule_wanted = True
        self.array_size_max = 1_000_001
        self._timers: list[tuple[float, int]] = []
        self._rows: list[Row] = []
        self._effects: list[Effect] = []
        self._appliers: dict[type, Callable[..., object]] = {}
        self._register()

    def _register(self) -> None:
        from sshq.core import admission, control, hostlife, reconcile, settle

        self._appliers = {
            ev.Submitted: admission.submit,
            ev.Planned: admission.launch_planned,
            ev.NodeConnected: hostlife.connect,
            ev.NodeListed: reconcile.take_listing,
            ev.NodeLost: hostlife.lose,
            ev.LoadReported: hostlife.report_load,
            ev.LaunchStarted: settle.note_start,
            ev.LaunchEnded: settle.note_end,
            ev.LaunchRefused: settle.note_refusal,
            ev.FenceAnswered: settle.note_fence,
            ev.OutputReturned: settle.note_output,
            ev.DirectoryProved: hostlife.note_directory,
            ev.JobsControlled: control.control,
            ev.NodeUpdated: hostlife.update,
            ev.InventoryLoaded: hostlife.load_inventory,
            ev.TimePassed: _pass_time,
            ev.PurgeAsked: _purge,
        }

    def apply(self, event: ev.Event) -> Changes:
        """Take in one event.  Raises RefusedError with nothing changed where the request cannot be granted."""
        self._rows, self._effects = [], []
        result = self._appliers[type(event)](self, event)
        changes = Changes(rows=self._rows, effects=self._effects, result=result)
        self._rows, self._effects = [], []
        return changes

    # ---- rows and effects ------------------------------------------------------------------------------------

    def emit(self, effect: Effect) -> None:
        self._effects.append(effect)

    def store_row(self, row: Row) -> None:
        self._rows.append(row)

    def put_job(self, job: Job) -> Job:
        """Take `job` as the newest truth of its id."""
        self.jobs[job.job_id] = job
        self._rows.append(job)
        return job

    def put_launch(self, launch: Launch) -> Launch:
        if launch.outcome is None:
            self.launches[launch.id] = launch
            self.node_launches.setdefault(launch.node, set()).add(launch.id)
        else:
            self.launches.pop(launch.id, None)
            self.node_launches.get(launch.node, set()).discard(launch.id)
        self._rows.append(launch)
        return launch

    def put_node_record(self, node: Node, record: NodeRecord) -> None:
        node.record = record
        self._rows.append(record)

    # ---- loading ---------------------------------------------------------------------------------------------

    def restore(self, jobs: list[Job], launches: list[Launch], records: list[NodeRecord], now: float) -> None:
        """Take in what the store holds, before the first event."""
        for record in records:
            self.nodes[record.name] = Node(
                config=NodeConfig(name=record.name), record=record, removed=True, since_at=now, note="not in the inventory"
            )
        for launch in launches:
            self.launches[launch.id] = launch
            self.node_launches.setdefault(launch.node, set()).add(launch.id)
        for job in jobs:
            self.jobs[job.job_id] = job
            self.count_environment(job, 1)
            if job.is_array_record:
                self.array_sets[job.job_id] = parse_indices(job.array_tasks or "")
            if job.array_job_id is not None:
                self.array_members.setdefault(job.array_job_id, set()).add(job.job_id)
            if not job.released:
                self.take_room(job)
        for job in jobs:
            self.watch_dependency(job)
        for job in list(self.jobs.values()):
            if job.state is State.PENDING:
                self.requeue_index(job.job_id, now)
        self._rows, self._effects = [], []

    def count_environment(self, job: Job, delta: int) -> None:
        """Keep count of who still needs an environment file; the last one drops it."""
        if job.state in FINAL and delta > 0:
            return
        digest = job.spec.environ
        self.environments[digest] += delta
        if self.environments[digest] <= 0:
            del self.environments[digest]
            self.emit(DropEnvironment(digest=digest))

    # ---- room on nodes ---------------------------------------------------------------------------------------

    def take_room(self, job: Job) -> None:
        """Enter the job's allocation into its node's account."""
        node = self.nodes.get(job.nodes[0]) if job.nodes else None
        if node is None:
            return
        node.jobs.add(job.job_id)
        node.slots_taken.update(job.slots)
        node.cpus_taken += job.cpus
        node.memory_taken_mib += job.memory_on_node_mib()
        node.exclusive = node.exclusive or job.spec.exclusive
        if job.array_job_id is not None:
            self.array_active[job.array_job_id] += 1

    def release_room(self, job: Job, now: float) -> Job:
        """Give the allocation back; returns the job marked released."""
        node = self.nodes.get(job.nodes[0]) if job.nodes else None
        if node is not None and job.job_id in node.jobs:
            node.jobs.discard(job.job_id)
            node.slots_taken.difference_update(job.slots)
            node.cpus_taken -= job.cpus
            node.memory_taken_mib -= job.memory_on_node_mib()
            node.exclusive = node.exclusive and not job.spec.exclusive
            node.last_busy_at = now
            if job.array_job_id is not None:
                self.array_active[job.array_job_id] -= 1
                if self.array_active[job.array_job_id] <= 0:
                    del self.array_active[job.array_job_id]
            if node.removed and not node.jobs and not node.connected:
                self.nodes.pop(node.name, None)
        self.schedule_wanted = True
        return replace(job, released=True)

    # ---- pending ---------------------------------------------------------------------------------------------

    def requeue_index(self, job_id: int, now: float) -> None:
        """Put a pending job where it belongs: among those to be considered, or waiting with its reason."""
        job = self.jobs[job_id]
        if job.state is not State.PENDING:
            self.pending.remove(job_id)
            return
        reason = self.waiting_reason(job, now)
        if reason == "DependencyNeverSatisfied" and job.spec.kill_on_invalid_dep:
            self.finish(replace(job, reason="DependencyNeverSatisfied"), Trigger.CANCELLED, now)
            return
        if reason:
            self.pending.remove(job_id)
        else:
            if job.eligible_at is None:
                job = replace(job, eligible_at=now)
                self.put_job(job)
            key = queue_key(priority=job.spec.priority, nice=job.spec.nice, order=job.order)
            self.pending.add(job_id, request_of(job), key)
            self.schedule_wanted = True
        wanted = reason or ("None" if job.reason in _WAITING_REASONS else job.reason)
        if wanted != job.reason:
            self.put_job(replace(self.jobs[job_id], reason=wanted))
        if job.spec.deadline_at is not None:
            heapq.heappush(self._timers, (job.spec.deadline_at, job_id))

    def waiting_reason(self, job: Job, now: float) -> str:
        """Return why a pending job may not be considered at all, or an empty string."""
        if job.held:
            if job.reason == "launch failed requeued held":
                return job.reason
            return "JobHeldAdmin" if job.held == "admin" else "JobHeldUser"
        if job.spec.dependency and job.attempt == 0:
            verdict = self.dependency_verdict(job, now)
            if verdict is dep.Verdict.NEVER:
                return "DependencyNeverSatisfied"
            if verdict is dep.Verdict.WAITING:
                return "Dependency"
        if job.spec.begin_at is not None and job.spec.begin_at > now:
            heapq.heappush(self._timers, (job.spec.begin_at, job.job_id))
            return "BeginTime"
        return ""

    def dependency_verdict(self, job: Job, now: float) -> dep.Verdict:
        """Judge a job's dependency; one that waits for minutes to pass gets its timer."""
        parsed = dep.parse_dependency(job.spec.dependency or "")

        def lookup(term: dep.Term) -> dep.JobFacts:
            return self.dependency_facts(term, job)

        check_at = dep.find_next_check(parsed, lookup, now)
        if check_at is not None:
            heapq.heappush(self._timers, (check_at, job.job_id))
        return dep.evaluate(parsed, lookup, now)

    def dependency_facts(self, term: dep.Term, job: Job) -> dep.JobFacts:
        """What a dependency term may know of its job: an array is the sum of its tasks."""
        if term.kind == dep.SINGLETON:
            earlier = [
                j for j in self.jobs.values()
                if j.spec.name == job.spec.name and j.spec.uid == job.spec.uid and j.state not in FINAL
                and (j.array_job_id or j.job_id) < (job.array_job_id or job.job_id)
            ]  # fmt: skip
            return dep.JobFacts(known=True, final=not earlier, ok=True, started_at=0.0)
        target = term.job_id
        members = [self.jobs[i] for i in self.array_members.get(target, ()) if i in self.jobs]
        if not members and target in self.jobs:
            members = [self.jobs[target]]
        if isinstance(term.task, int):
            members = [m for m in members if m.array_task_id == term.task or self._record_holds(m, term.task)]
        if not members:
            return dep.JobFacts(known=False)
        started = [m.start_at for m in members if m.start_at is not None]
        all_started = len(started) == len(members) and not any(m.is_array_record for m in members)
        final = all(m.state in FINAL for m in members)
        return dep.JobFacts(
            known=True,
            started_at=max(started) if started and all_started else None,
            final=final,
            ok=final and all(m.state is State.COMPLETED for m in members),
            array=members[0].array_job_id is not None,
        )

    def _record_holds(self, job: Job, task: int) -> bool:
        return job.is_array_record and task in self.array_sets[job.job_id]

    def watch_dependency(self, job: Job) -> None:
        """Index who waits for whom, so that an end wakes its dependents and nobody else."""
        if not job.spec.dependency or job.state is not State.PENDING:
            return
        for term in dep.parse_dependency(job.spec.dependency).terms:
            if term.kind == dep.SINGLETON:
                for other in self.jobs.values():
                    if other.spec.name == job.spec.name and other.spec.uid == job.spec.uid and other.job_id != job.job_id:
                        self.dependents.setdefault(other.job_id, set()).add(job.job_id)
            else:
                self.dependents.setdefault(term.job_id, set()).add(job.job_id)

    def wake_dependents(self, job: Job, now: float) -> None:
        for target in {job.job_id, job.array_job_id or job.job_id}:
            for waiting in sorted(self.dependents.get(target, ())):
                if waiting in self.jobs and self.jobs[waiting].state is State.PENDING:
                    self.requeue_index(waiting, now)

    # ---- moves -----------------------------------------------------------------------------------------------

    def move(self, job: Job, trigger: Trigger) -> Job:
        """Return `job` in the state the lifecycle table says."""
        return replace(job, state=next_state(job.state, trigger))

    def finish(self, job: Job, trigger: Trigger, now: float) -> Job:
        """End a job for good (its launch, if any, is settled): index, environment, dependents."""
        job = self.move(job, trigger)
        if job.end_at is None:
            job = replace(job, end_at=now)
        if not job.released:
            job = self.release_room(job, now)
        self.pending.remove(job.job_id)
        self.put_job(job)
        self.count_environment(job, -1)
        if job.is_array_record:
            self.array_sets.pop(job.job_id, None)
        self.wake_dependents(job, now)
        self.dependents.pop(job.job_id, None)
        self.schedule_wanted = True
        return job

    def new_job_id(self) -> int:
        self.next_job_id += 1
        return self.next_job_id - 1

    def new_order(self) -> int:
        self.next_order += 1
        return self.next_order - 1

    def new_launch_id(self, random: bytes, counter: int) -> str:
        """128 bits from the event's random bytes: a restored store can never give one out again."""
        text = f"{self.store_id}/{self.epoch}/{counter}/".encode()
        return hashlib.sha256(text + random).hexdigest()[:32]

    def start_effect(self, launch: Launch, job: Job) -> None:
        self.emit(StartLaunch(node=launch.node, launch=launch, job=job))

    def kill(
        self, launch_id: str | None, signal: int, *, cancel: bool = True, batch_only: bool = False, whole: bool = False
    ) -> None:
        """Order a signal to an open launch; one that is settled is past signals."""
        launch = self.launches.get(launch_id or "")
        if launch is not None:
            order = KillLaunch(
                node=launch.node,
                launch_id=launch.id,
                seq=launch.seq,
                signal=signal,
                cancel=cancel,
                batch_only=batch_only,
                whole=whole,
            )
            self.emit(order)

    def acknowledge(self, node_name: str, launch_ids: tuple[str, ...]) -> None:
        """Order the node to forget settled launches."""
        high, open_seqs = self.floor_of(node_name)
        self.emit(AckLaunches(node=node_name, high=high, open_seqs=open_seqs, launch_ids=launch_ids))

    def floor_of(self, node_name: str) -> tuple[int, tuple[int, ...]]:
        """Return the node's floor: the highest seq given out and the seqs below it that are still open."""
        node = self.nodes.get(node_name)
        open_seqs = sorted(self.launches[i].seq for i in self.node_launches.get(node_name, ()))
        high = node.record.generation * SEQ_PER_GENERATION + node.next_n - 1 if node else 0
        return max([high, *open_seqs]), tuple(open_seqs)

    # ---- arrays ----------------------------------------------------------------------------------------------

    def array_left(self, job: Job) -> int:
        return len(self.array_sets[job.job_id])

    def array_running(self, array_job_id: int) -> int:
        return self.array_active.get(array_job_id, 0)

    # ---- small questions -------------------------------------------------------------------------------------

    def limit_reason(self, request: Request) -> str:
        """Return the partition's own reason not to start `request`, or an empty string."""
        known = [self.partitions[p] for p in request.partitions if p in self.partitions]
        if not known:
            return "PartitionDown"
        if not any(p.up for p in known):
            return "PartitionDown"
        limits = [p.max_time_s for p in known if p.up]
        if all(m is not None and (request.time_limit_s is None or request.time_limit_s > m) for m in limits):
            return "PartitionTimeLimit"
        return "PartitionConfig" if request.num_nodes > 1 else ""

    def fold(self, names: list[str]) -> str:
        return fold_hostlist(sorted(names))

    def next_timer(self) -> float | None:
        """When the next begin time or deadline is due, or None."""
        return self._timers[0][0] if self._timers else None

    def due_timers(self, now: float) -> list[int]:
        due = []
        while self._timers and self._timers[0][0] <= now:
            due.append(heapq.heappop(self._timers)[1])
        return due


_WAITING_REASONS = frozenset(
    {"JobHeldUser", "JobHeldAdmin", "Dependency", "DependencyNeverSatisfied", "BeginTime", "launch failed requeued held"}
)


def _pass_time(cluster: Cluster, event: ev.TimePassed) -> None:
    for job_id in cluster.due_timers(event.now):
        job = cluster.jobs.get(job_id)
        if job is None or job.state is not State.PENDING:
            continue
        deadline = job.spec.deadline_at
        if deadline is not None and deadline <= event.now:
            cluster.finish(replace(job, reason="DeadLine"), Trigger.DEADLINE_PASSED, event.now)
        else:
            cluster.requeue_index(job_id, event.now)


def _purge(cluster: Cluster, event: ev.PurgeAsked) -> int:
    """Finished jobs leave the live queue, oldest first; a job somebody still depends on or whose output is away stays."""
    done = sorted(
        (j for j in cluster.jobs.values() if j.state in FINAL and not j.output_pending and j.released),
        key=lambda j: j.end_at or 0.0,
    )
    wanted = set(event.job_ids)
    going = []
    for i, job in enumerate(done):
        old = event.older_than_s is not None and (job.end_at or 0.0) <= event.now - event.older_than_s
        surplus = event.keep is not None and len(done) - i > event.keep
        if (old or surplus or job.job_id in wanted or (job.array_job_id or -1) in wanted) and not cluster.dependents.get(
            job.job_id
        ):
            going.append(job)
    for job in going:
        del cluster.jobs[job.job_id]
        if job.array_job_id is not None:
            members = cluster.array_members.get(job.array_job_id, set())
            members.discard(job.job_id)
            if not members:
                cluster.array_members.pop(job.array_job_id, None)
        cluster.store_row(Purged(job_id=job.job_id))
    return len(going)
