"""What has happened, in the past tense.  Time, identity and randomness come in here and nowhere else."""

from collections.abc import Mapping
from dataclasses import dataclass

from sshq.core.gpus import Gpu, GpuUse
from sshq.core.model import Job, JobSpec, NodeConfig, NodeFacts, PartitionConfig
from sshq.core.pythons import PythonAnswer
from sshq.core.replacing import quick


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    now: float
    spec: JobSpec
    script: bytes
    token: str | None = None
    held: bool = False
    array: str | None = None  # the tasks as an index text, without %N
    variables: str = ""  # of its environment, as `store.variables` writes it


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One of several submissions: what many share, judged once for all of them, and what is this one's alone."""

    shared: JobSpec
    own: Mapping[str, object]  # fields in place of the shared ones: only such as matter neither to admission nor placement
    script: bytes
    held: bool = False
    array: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmittedTogether:
    """Submissions that will be taken together, with numbers in a row, or not at all: they are judged and numbered."""

    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTogether:
    """Some of them, stored by now with all the others, come into the queue."""

    now: float
    jobs: tuple[Job, ...]


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One decision of a scheduling pass: this job (or the next task of this array record) on this node."""

    job_id: int
    node: str  # where the script runs
    gang: tuple[tuple[str, int], ...] = ()  # of a job on several nodes: each with its tasks, the script's first


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    now: float
    starts: tuple[Start, ...]
    random: bytes  # at least 16; launch ids are hashed from it


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEntry:
    """One launch directory as a listing shows it."""

    launch_id: str
    seq: int = 0
    job_id: int = 0
    attempt: int = 0
    rank: int = 0
    go: str = ""  # "" none, "file" the supervisor's, "dir" the fence's
    supervisor_alive: bool = False
    job_alive: bool = False
    pid: int | None = None
    record: "EndRecord | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepNews:
    """One step of a launch, as its node tells it with the exit record.  Times in seconds since the launch began."""

    number: int
    name: str = ""
    done: bool = True  # else its srun was killed before it could say how it ended
    code: int = 0  # as a shell has it: 128+n for a signal
    tasks: int = 1
    nodes: tuple[str, ...] = ()
    cpus: int | None = None
    start_s: float | None = None
    end_s: float | None = None
    user_s: float | None = None
    system_s: float | None = None
    line: str = ""


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class EndRecord:
    """An intact exit record.  `how`: exit, signal, never, timeout, cancel, output, …  (the runner's words)."""

    how: str
    code: int = 0
    signal: int | None = None
    why: str = ""
    cancelled: bool = False
    timed_out: bool = False
    duration_s: float | None = None
    start_wall_at: float | None = None
    end_wall_at: float | None = None
    cpu_time_s: float | None = None
    system_s: float | None = None  # of cpu_time_s, what the kernel spent
    survivors: tuple[str, ...] = ()
    oom: bool = False  # the kernel killed it for want of memory
    steps: tuple[StepNews, ...] = ()
    image: str = ""  # of its container


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConnected:
    """The node took generation `generation`, listed its launches, and is ready."""

    now: float
    name: str
    generation: int
    boot: str
    spool_id: str
    machine_id: str
    uid: int
    facts: NodeFacts
    facts_json: str
    entries: tuple[NodeEntry, ...] = ()
    settled: frozenset[str] | None = None  # of `entries` those that the store has as settled; None: it was not asked
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeListed:
    """A sweep's listing; launches not in `sent` had not been written to this channel before it was asked for."""

    now: float
    name: str
    generation: int
    entries: tuple[NodeEntry, ...]
    sent: frozenset[str]
    settled: frozenset[str] | None = None  # as in NodeConnected


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasesEnded:
    """Nothing of these launches can live any more, if the node's clock and its supervisors do what they should."""

    now: float
    name: str
    launch_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLost:
    """The connection is gone or could not be made; says nothing about any job."""

    now: float
    name: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReported:
    name: str
    load: float | None
    memory_free_mib: int | None
    room: str = ""  # in the spool: ok, no-space, no-files, read-only; "" if that was not asked


@dataclass(frozen=True, slots=True, kw_only=True)
class GpusReported:
    """A look at a node's GPUs: those there are, and those that somebody outside the queue has in use."""

    name: str
    gpus: tuple[Gpu, ...]
    uses: tuple[GpuUse, ...]
    problem: str = ""  # the tool did not tell; then `gpus` and `uses` say nothing


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchStarted:
    now: float
    launch_id: str
    pid: int | None = None


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchEnded:
    now: float
    launch_id: str
    record: EndRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRefused:
    """The node refused the call before its arbiter was taken: nothing of it runs or ever will."""

    now: float
    launch_id: str
    why: str
    passing: bool = False  # for a reason that is neither the job's nor the node's fault: no mark against it


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceAnswered:
    now: float
    launch_id: str
    won: bool
    forgotten: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchesSwept:
    """A node was searched for processes of these launches; what could not be killed is named."""

    now: float
    name: str
    launch_ids: tuple[str, ...]
    survivors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputReturned:
    now: float
    job_id: int
    launch_id: str
    problem: str | None = None  # why it stays on the node
    hint: str = ""  # what to do then
    note: str = ""  # what the user should know although it is home


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryProved:
    now: float
    path: str
    node: str
    shared: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonFound:
    """What a node answered about its interpreters, for one need."""

    now: float
    node: str
    need: str
    answer: PythonAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """Jobs meant by a request: raw or array ids with their tasks (None: all of it)."""

    job_id: int
    tasks: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsControlled:
    """A user's word on jobs: cancel, signal, hold, release, requeue, suspend, resume, update."""

    now: float
    verb: str
    uid: int
    admin: bool
    targets: tuple[Selected, ...]
    signal: int | None = None
    batch_only: bool = False
    whole: bool = False
    hold: bool = False
    user_hold: bool = False
    changes: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeUpdated:
    now: float
    name: str
    state: str  # drain, resume, down, …; "" for no change of it
    reason: str | None
    uid: int
    user: str
    weight: int | None = None
    features: tuple[str, ...] | None = None
    comment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionUpdated:
    """What an administrator changed of a partition: fields of its PartitionRecord."""

    now: float
    name: str
    uid: int
    changes: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationChanged:
    """An administrator's word on a reservation: create (without a name, one is made), update or delete."""

    now: float
    verb: str
    name: str | None
    uid: int
    changes: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAccepted:
    """An administrator says that the machine with this spool, a stranger so far, is the node from now on."""

    now: float
    name: str
    spool_id: str
    uid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryLoaded:
    now: float
    nodes: tuple[NodeConfig, ...]
    partitions: tuple[PartitionConfig, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePassed:
    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeAsked:
    """Finished jobs leave the live queue: those older than `older_than_s`, beyond `keep`, or those named; so many at once."""

    now: float
    older_than_s: float | None = None
    keep: int | None = None
    job_ids: tuple[int, ...] = ()  # jobs, and arrays with all their tasks
    tasks: frozenset[tuple[int, int]] = frozenset()  # single tasks: array id and index
    at_most: int | None = None


Event = (
    SubmittedTogether | StoredTogether
    | Submitted | Planned | NodeConnected | NodeListed | NodeLost | LoadReported | GpusReported | LaunchStarted | LaunchEnded
    | LaunchRefused | FenceAnswered | LaunchesSwept | OutputReturned | DirectoryProved | PythonFound | JobsControlled
    | NodeUpdated | NodeAccepted | PartitionUpdated | ReservationChanged | InventoryLoaded | TimePassed | PurgeAsked | LeasesEnded
)  # fmt: skip
