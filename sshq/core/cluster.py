"""The controller's whole knowledge and the one way to change it: `apply(event) -> Changes`.

Nothing here reads a clock, a file or a socket.  Only the mailbox calls `apply`; whoever else wants something posts an
event.  Every changed record is also a row of the batch; an effect names what shall be done once the batch is stored.
A request that cannot be granted raises `RefusedError` before anything has changed.

The rules live beside this file: `admission` (submit, arrays), `settle` (ends of launches), `reconcile` (listings),
`control` (users' verbs), `hostlife` (nodes and inventory).  This one holds the indexes and the small moves they share.
"""

import hashlib
from collections import Counter
from collections.abc import Callable

from sshq.core import dependency as dep
from sshq.core import events as ev
from sshq.core.arrangements import PartitionRecord, Reservation
from sshq.core.arrays import IndexSet
from sshq.core.candidates import Candidates
from sshq.core.dependents import Dependents, facts_for, judge_dependency
from sshq.core.effects import AckLaunches, Changes, DropEnvironment, Effect, KillLaunch, StartLaunch
from sshq.core.engines import form_of
from sshq.core.hostlist import fold_hostlist
from sshq.core.jobindex import JobIndex
from sshq.core.lifecycle import State, Trigger, next_state
from sshq.core.model import (
    SEQ_PER_GENERATION,
    Job,
    Launch,
    NodeConfig,
    NodeFacts,
    NodeRecord,
    PartitionConfig,
    Row,
)
from sshq.core.nodes import Node
from sshq.core.pending import PendingQueue
from sshq.core.placement import Directories, Request, request_of
from sshq.core.priority import queue_key
from sshq.core.replacing import replace
from sshq.core.restored import find_unheard, hold_after_restore
from sshq.core.restoring import restore_jobs
from sshq.core.timers import Timers
from sshq.core.trees import Trees

TIER_STEP = 1 << 40  # above every priority: a partition of a higher tier goes first


class Cluster:
    """All jobs, open launches, nodes and partitions, with the indexes that wake what waits."""

    def __init__(self, *, store_id: str, epoch: int, next_job_id: int = 1, next_order: int = 1) -> None:
        self.store_id = store_id
        self.epoch = epoch
        self.next_job_id = next_job_id
        self.next_order = next_order
        self.jobs: dict[int, Job] = {}
        self.index = JobIndex()
        self.launches: dict[str, Launch] = {}  # open ones
        self.nodes: dict[str, Node] = {}
        self.partitions: dict[str, PartitionConfig] = {}
        self.default_partition: str | None = None
        self.inventory_partitions: dict[str, PartitionConfig] = {}
        self.partition_records: dict[str, PartitionRecord] = {}
        self.reservations: dict[str, Reservation] = {}
        self.pending = PendingQueue()
        self.directories = Directories()
        self.trees = Trees()
        self.candidates = Candidates()
        self.array_sets: dict[int, IndexSet] = {}  # record -> tasks that never became jobs; kept with it when it is over
        self.array_members: dict[int, set[int]] = {}  # array id -> jobs split off or converted
        self.array_active: Counter[int] = Counter()  # array id -> tasks that hold an allocation
        self.dependents = Dependents()
        self.node_launches: dict[str, set[str]] = {}
        self.orphans: dict[str, tuple[str, int]] = {}  # launch id -> node, job id: found on a node, unknown here
        self.living_scripts: dict[str, int] = {}  # launch id -> job id, of those orphans that run and are no parts
        self.doubted: set[int] = set()  # restored jobs that may run on a node not heard of since (see `restored`)
        self.forgotten: dict[str, NodeRecord] = {}  # of nodes that left: they may come back
        self.outputs_away: set[int] = set()  # jobs whose output was still on its way when an earlier controller ended
        self.environments: Counter[str] = Counter()
        self.schedule_wanted = True
        self.licenses: dict[str, int] = {}  # what the controller's configuration counts, by name
        self.license_holders: set[int] = set()
        self.jobs_max = 1_000_000  # live jobs and array records; beyond it submissions are refused, never lost
        self._timers = Timers()
        self._rows: list[Row] = []
        self._effects: list[Effect] = []
        self._arrived: list[Job] = []
        self._appliers: dict[type, Callable[..., object]] = {}
        self._register()

    def _register(self) -> None:
        from sshq.core import (
            admission,
            control,
            hostlife,
            interpreters,
            lease,
            leftovers,
            partitions,
            passing,
            reconcile,
            reservations,
            settle,
            together,
        )

        self._appliers = {
            ev.Submitted: admission.submit,
            ev.SubmittedTogether: together.judge_together,
            ev.StoredTogether: together.enter_together,
            ev.Planned: admission.launch_planned,
            ev.NodeConnected: hostlife.connect,
            ev.NodeListed: reconcile.take_listing,
            ev.NodeLost: hostlife.lose,
            ev.LoadReported: hostlife.report_load,
            ev.GpusReported: hostlife.report_gpus,
            ev.LaunchStarted: settle.note_start,
            ev.LaunchEnded: settle.note_end,
            ev.LaunchRefused: settle.note_refusal,
            ev.FenceAnswered: settle.note_fence,
            ev.LaunchesSwept: leftovers.note_swept,
            ev.LeasesEnded: lease.end_leases,
            ev.OutputReturned: settle.note_output,
            ev.DirectoryProved: hostlife.note_directory,
            ev.PythonFound: interpreters.note_python,
            ev.JobsControlled: control.control,
            ev.NodeUpdated: hostlife.update,
            ev.PartitionUpdated: partitions.update,
            ev.ReservationChanged: reservations.change,
            ev.NodeAccepted: hostlife.accept,
            ev.InventoryLoaded: hostlife.load_inventory,
            ev.TimePassed: passing.pass_time,
            ev.PurgeAsked: passing.purge,
        }

    def apply(self, event: ev.Event) -> Changes:
        """Take in one event.  Raises RefusedError with nothing changed where the request cannot be granted."""
        rows, effects = len(self._rows), len(self._effects)  # what `restore` found out goes out with the first event
        try:
            result = self._appliers[type(event)](self, event)
        except BaseException:
            del self._rows[rows:], self._effects[effects:]
            raise
        changes = Changes(rows=self._rows, effects=self._effects, result=result, arrived=self._arrived)
        self._rows, self._effects, self._arrived = [], [], []
        return changes

    # ---- rows and effects ------------------------------------------------------------------------------------

    def emit(self, effect: Effect) -> None:
        self._effects.append(effect)

    def store_row(self, row: Row) -> None:
        self._rows.append(row)

    def put_job(self, job: Job) -> Job:
        """Take `job` as the newest truth of its id."""
        self.index.change(self.jobs.get(job.job_id), job)
        self.jobs[job.job_id] = job
        self._rows.append(job)
        return job

    def put_stored_job(self, job: Job) -> None:
        """Take in a new job that is stored already."""
        self.index.change(None, job)
        self.jobs[job.job_id] = job
        self._arrived.append(job)

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

    def put_partition_record(self, record: PartitionRecord) -> None:
        self.partition_records[record.name] = record
        self._rows.append(record)

    def arrange(self, partitions: list[PartitionRecord], reservations: list[Reservation]) -> None:
        """Take in what administrators had arranged, before the first event."""
        self.partition_records = {record.name: record for record in partitions}
        for one in reservations:
            self.reservations[one.name] = one
            for at in (one.start_at, one.end_at):
                self.wake_at(at, 0)

    def forget_node(self, name: str) -> None:
        """A node that left the inventory and holds nothing more; what is known of it is kept, should it come back."""
        node = self.nodes.pop(name, None)
        if node is not None:
            self.forgotten[name] = node.record

    def take_rows(self) -> list[Row]:
        """Return what changed before the first event, to be stored at once; nothing of it is an order."""
        rows, self._rows, self._effects = self._rows, [], []
        return rows

    # ---- loading ---------------------------------------------------------------------------------------------

    def restore(self, jobs: list[Job], launches: list[Launch], records: list[NodeRecord], now: float) -> None:
        """Take in what the store holds, before the first event."""
        for record in records:
            self.nodes[record.name] = Node(
                config=NodeConfig(name=record.name),
                record=record,
                facts=NodeFacts.parse(record.facts),
                removed=True,
                since_at=now,
                note="not in the inventory",
            )
        for launch in launches:
            self.launches[launch.id] = launch
            self.node_launches.setdefault(launch.node, set()).add(launch.id)
        restore_jobs(self, jobs, now)

    def hold_after_restore(self, now: float) -> list[Row]:
        """What `restored` does, at the start."""
        return hold_after_restore(self, now)

    def count_environment(self, job: Job, delta: int) -> None:
        """Keep count of who may still need an environment file: jobs until they are purged, for a final one may be requeued."""
        digest = job.spec.environ
        self.environments[digest] += delta
        if self.environments[digest] <= 0:
            del self.environments[digest]
            self.emit(DropEnvironment(digest=digest))

    # ---- room on nodes ---------------------------------------------------------------------------------------

    def take_room(self, job: Job) -> None:
        """Enter the job's allocation into its nodes' accounts."""
        if job.spec.licenses:
            self.license_holders.add(job.job_id)
        for share in job.shares():
            node = self.nodes.get(share.node)
            if node is None:
                continue
            node.hold(job.job_id, share, exclusive=job.spec.exclusive)
            if job.array_job_id is not None and share.node == job.nodes[0]:
                self.array_active[job.array_job_id] += 1

    def release_room(self, job: Job, now: float) -> Job:
        """Give the allocation back; returns the job marked released."""
        self._free_room(job, now)
        return replace(job, released=True)

    def _free_room(self, job: Job, now: float) -> None:
        self.license_holders.discard(job.job_id)
        for share in job.shares():
            node = self.nodes.get(share.node)
            if node is None or job.job_id not in node.jobs:
                continue
            node.give_back(job.job_id, share, exclusive=job.spec.exclusive, now=now)
            if job.array_job_id is not None and share.node == job.nodes[0]:
                self.array_active[job.array_job_id] -= 1
                if self.array_active[job.array_job_id] <= 0:
                    del self.array_active[job.array_job_id]
            if node.removed and not node.jobs and not node.connected and not self.node_launches.get(node.name):
                self.forget_node(node.name)
        self.schedule_wanted = True

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
        if not reason or reason == "BeginTime":  # as in Slurm, a begin time that alone is waited for is the eligible time
            job = self._note_eligible(job, now)
        if reason:
            self.pending.remove(job_id)
        else:
            self.pending.add(job_id, request_of(job), self.queue_place(job))
            self.schedule_wanted = True
        wanted = reason or ("None" if job.reason in _WAITING_REASONS else job.reason)
        if wanted != job.reason:
            self.put_job(replace(self.jobs[job_id], reason=wanted))
        if job.spec.deadline_at is not None:
            self.wake_at(job.spec.deadline_at, job_id)
            if job.spec.time_limit_s:  # from then on it could not end in time
                self.wake_at(job.spec.deadline_at - job.spec.time_limit_s + 1, job_id)

    def queue_place(self, job: Job) -> tuple[int, int]:
        """Return where a pending job stands: the smallest is the one to start first."""
        spec, known = job.spec, self.partitions
        first, second = queue_key(priority=spec.priority, nice=spec.nice, order=job.order)
        tier = max([known[p].priority_tier for p in spec.partitions if p in known], default=1) if known else 1
        return first - tier * TIER_STEP, second

    def _note_eligible(self, job: Job, now: float) -> Job:
        """Its dependency, if any, is met, and stays so whatever becomes of the jobs it names."""
        eligible_at = max(now, job.spec.begin_at or now)
        if job.eligible_at is None:
            self.dependents.unwatch(job)
        elif now >= job.eligible_at or eligible_at == job.eligible_at:
            return job
        return self.put_job(replace(job, eligible_at=eligible_at))

    def waiting_reason(self, job: Job, now: float) -> str:
        """Return why a pending job may not be considered at all, or an empty string."""
        if job.held:
            if job.reason == "launch failed requeued held":
                return job.reason
            return "JobHeldAdmin" if job.held == "admin" else "JobHeldUser"
        if job.spec.dependency and job.eligible_at is None:  # once eligible, a dependency has been met for good
            verdict, check_at = judge_dependency(self, job, now)
            if check_at is not None:
                self.wake_at(check_at, job.job_id)
            if verdict is dep.Verdict.NEVER:
                return "DependencyNeverSatisfied"
            if verdict is dep.Verdict.WAITING:
                return "Dependency"
        if job.spec.begin_at is not None and job.spec.begin_at > now:
            self.wake_at(job.spec.begin_at, job.job_id)
            return "BeginTime"
        if job.job_id in self.doubted and find_unheard(self, job):
            return "ReqNodeNotAvail"
        return ""

    def dependency_facts(self, term: dep.Term, job: Job) -> dep.JobFacts:
        return facts_for(self, term, job)

    def wake_at(self, at: float, job_id: int) -> None:
        self._timers.add(at, job_id)

    # ---- moves -----------------------------------------------------------------------------------------------

    def move(self, job: Job, trigger: Trigger) -> Job:
        """Return `job` in the state the lifecycle table says."""
        return replace(job, state=next_state(job.state, trigger))

    def finish(self, job: Job, trigger: Trigger, now: float) -> Job:
        """End a job for good (its launch, if any, is settled): index, environment, dependents."""
        if not job.released:
            self._free_room(job, now)
        state = next_state(job.state, trigger)
        job = replace(job, state=state, end_at=now if job.end_at is None else job.end_at, released=True)
        self.pending.remove(job.job_id)
        self.put_job(job)
        self.dependents.unwatch(job)
        self.dependents.wake(self, job, now)
        self.schedule_wanted = True
        return job

    def new_job_id(self) -> int:
        self.next_job_id += 1
        return self.next_job_id - 1

    def new_order(self) -> int:
        self.next_order += 1
        return self.next_order - 1

    def new_launch_id(self, random: bytes, counter: int, now: float) -> str:
        """The second, and 96 bits from the event's random bytes: a restored store can never give one out again.

        The second, so that the newest stand together in the store's indexes: of ids all at random each is written to a page of
        its own, and among millions that is a third more to write for each job.
        """
        text = f"{self.store_id}/{self.epoch}/{counter}/".encode()
        return f"{int(now) & 0xFFFFFFFF:08x}{hashlib.sha256(text + random).hexdigest()[:24]}"

    def start_effect(self, launch: Launch, job: Job) -> None:
        form = form_of(job.spec.container)
        engine = self.nodes[launch.node].choose_engine(form)[0] if form else ""
        self.emit(StartLaunch(node=launch.node, launch=launch, job=job, engine=engine))

    def kill(
        self, launch_id: str | None, signal: int, *, cancel: bool = True, batch_only: bool = False, whole: bool = False,
        tasks_only: bool = False,
    ) -> None:  # fmt: skip
        """Order a signal to an open launch; one that is settled is past signals."""
        launch = self.launches.get(launch_id or "")
        if launch is not None:
            job = self.jobs.get(launch.job_id)
            order = KillLaunch(
                node=launch.node,
                launch_id=launch.id,
                seq=launch.seq,
                signal=signal,
                cancel=cancel,
                requeue=cancel and job is not None and job.requeue_asked,
                batch_only=batch_only,
                whole=whole,
                tasks_only=tasks_only,
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
        """Return the partitions' own reason not to start `request`, or an empty string."""
        known = [self.partitions[p] for p in request.partitions if p in self.partitions]
        if not known:
            return "PartitionDown"
        if not any(p.up for p in known):
            return "PartitionDown" if any(p.accepts for p in known) else "PartitionInactive"
        if not self.open_partitions(request):
            return "PartitionTimeLimit"
        if request.num_nodes > 1:
            allowed = self.open_partitions(request)
            if request.num_nodes > sum(not allowed.isdisjoint(n.config.partitions) for n in self.nodes.values()):
                return "PartitionConfig"
        return ""

    def open_partitions(self, request: Request) -> frozenset[str]:
        """Of the partitions asked for, those that are up and allow so long a job."""
        known = [self.partitions[p] for p in request.partitions if p in self.partitions]
        wanted_s = float("inf") if request.time_limit_s is None else request.time_limit_s
        return frozenset(p.name for p in known if p.up and (p.max_time_s is None or wanted_s <= p.max_time_s))

    def fold(self, names: list[str]) -> str:
        return fold_hostlist(sorted(names))

    def next_timer(self) -> float | None:
        """When the next begin time or deadline is due, or None."""
        return self._timers.next()

    def due_timers(self, now: float) -> list[int]:
        return self._timers.take_due(now)


_WAITING_REASONS = frozenset(
    {"JobHeldUser", "JobHeldAdmin", "Dependency", "DependencyNeverSatisfied", "BeginTime", "launch failed requeued held",
     "ReqNodeNotAvail"}
)  # fmt: skip
