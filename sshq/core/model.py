"""What the controller knows: jobs, launches, nodes, partitions, and what a job was asked to be.

Every record is frozen; a change makes a new one, and the new one is also the row to be stored (`Changes.rows`).
Units stand last in names: `_s` seconds, `_mib` mebibytes, `_at` seconds since the epoch, UTC.
"""

import json
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from sshq.core.arrangements import PartitionRecord, Reservation, Withdrawn
from sshq.core.gpus import Gpu, GpuLimit, GpuShare
from sshq.core.lifecycle import State
from sshq.core.replacing import quick

Held = Literal["user", "admin"]
Requeue = Literal["no", "yes", "always"]


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What was asked, as it was asked; it never changes with the job's fate (`scontrol update` makes a new one)."""

    name: str
    uid: int
    user: str
    gid: int
    group: str
    script: str  # digest of the script's bytes; the bytes are a blob of the store
    environ: str  # digest of the environment; a 0600 file of the state directory, never in the database
    kind: str = "script"
    args: tuple[str, ...] = ()
    command: str = ""  # what squeue and scontrol show
    work_dir: str = "/"
    submit_dir: str = "/"
    submit_host: str = ""
    submit_line: str = ""  # the command that submitted it, as sacct shows it
    std_out: str | None = None  # patterns, expanded at each launch
    std_err: str | None = None
    std_in: str | None = None
    result: str | None = None  # pattern of a file the job may leave, which comes home with its output (kind "callable")
    open_mode: Literal["append", "truncate"] | None = None
    umask: int = 0o022
    export: str | None = None  # the value of --export as given, for SLURM_EXPORT_ENV
    partitions: tuple[str, ...] = ()
    time_limit_s: int | None = None  # None: no limit
    num_nodes: int = 1
    nodes_given: bool = False  # else tasks that no node holds alone are spread over as few as do
    num_tasks: int = 1
    ntasks_given: bool = False
    ntasks_per_node: int | None = None
    cpus_per_task: int = 1
    cpus_per_task_given: bool = False
    memory_mib: int | None = None  # per node
    memory_per_cpu_mib: int | None = None
    req_nodes: tuple[str, ...] = ()
    exc_nodes: tuple[str, ...] = ()
    features: str | None = None
    exclusive: bool = False
    nice: int = 0
    priority: int | None = None  # --priority as given
    begin_at: float | None = None
    deadline_at: float | None = None
    dependency: str | None = None
    kill_on_invalid_dep: bool = False
    requeue: Requeue = "yes"  # Slurm's JobRequeue=1
    retries: int = 0
    lease_s: int | None = None  # --lease: ends on its node when we were not heard from for so long, and runs again
    signal: tuple[int, int, bool] | None = None  # number, seconds before the limit, batch shell only
    comment: str | None = None
    account: str | None = None
    qos: str | None = None
    container: str | None = None  # --container: the image it runs in
    container_mounts: tuple[tuple[str, str, bool], ...] = ()  # directory or file of the node, place in the container, read-only
    container_workdir: str | None = None
    container_pull: Literal["never", "missing", "always"] = "never"
    container_env: tuple[str, ...] = ()  # variables that are the submitter's even where the image sets them
    anywhere: bool = False  # --anywhere: a host that does not share the directory is as good
    provable: bool = False  # the directory existed at submission, so hosts can be asked whether they share it
    min_cpus: int = 0  # --mincpus: a node must have so many free, whatever the job takes of them
    tmp_disk_mib: int = 0  # --tmp: a node's /tmp must be that large
    prefer: str | None = None  # --prefer: among the nodes that fit, those with these features come first
    overcommit: bool = False  # CPUs and slots are taken as for one task a node
    limits: tuple[tuple[str, int], ...] = ()  # --propagate: soft limits by name (NOFILE), in bytes, -1 for none
    reservations: tuple[str, ...] = ()  # it runs in one of them, and nowhere else
    licenses: str | None = None  # as given; `core.licenses` reads it
    seen_from: str | None = None  # submitted inside a job: the work_dir is what this node has under its name, not the head
    tree: str | None = None  # digest of the snapshot of files that goes along, in the store of chunks
    tree_bytes: int = 0
    tree_below: str = ""  # the directory in it that stands for work_dir, and where the job starts
    frozen: bool = False  # --sync: it runs in a copy of that tree, also where the directory is shared
    stage_out: tuple[str, ...] = ()  # patterns of what comes home from a private directory, relative to it
    array_limit: int | None = None  # %N
    array_text: str | None = None  # as given
    array_min: int = 0
    array_max: int = 0
    array_step: int = 1
    array_count: int = 0
    python: str | None = None  # what its calls need of an interpreter, as `core.pythons.read_need` reads it
    gpus_per_node: str | None = None  # --gres=gpu:a100:2 or --gpus-per-node, as `core.gpus.parse_gpus` reads it
    gpus_by_gres: bool = False  # it was --gres
    gpus_total: str | None = None  # --gpus
    gpus_per_task: str | None = None
    ntasks_per_gpu: int | None = None
    cpus_per_gpu: int | None = None
    memory_per_gpu_mib: int | None = None
    origin: str | None = None  # what the client said of where it came from, as `core.origin` writes it

    @property
    def placed_tasks(self) -> int:
        """Tasks that room is taken for: all of them, unless --overcommit lets those of a node share the room of one."""
        return self.num_nodes if self.overcommit else self.num_tasks

    def __hash__(self) -> int:
        """As equality has it, of the few fields in which specs differ: each row of a job looks its spec up."""
        return hash((self.name, self.script, self.environ, self.submit_line, self.args, self.dependency, self.begin_at))

    @property
    def directory(self) -> str:
        """The key under which hosts are asked about the work_dir: its path, or NODE:path where it is the one of a node."""
        return f"{self.seen_from}:{self.work_dir}" if self.seen_from else self.work_dir

    def memory_for_mib(self, cpus: int) -> int:
        """Return the memory in MiB that so many CPUs on one node come with; 0 where none was asked."""
        return self.memory_mib if self.memory_mib is not None else (self.memory_per_cpu_mib or 0) * cpus


class Outcome(Enum):
    """How one launch ended, as evidence told it."""

    EXITED = "exited"  # an intact exit record of this very launch
    NEVER_STARTED = "never_started"  # the node refused it, or our fence won `go`
    REBOOTED = "rebooted"  # the boot tag changed and no record was left
    LOST = "lost"  # supervisor and job are gone without a record: it may have run
    SPOOL_LOST = "spool_lost"  # the spool is not the one it was launched into
    LEASE_ENDED = "lease_ended"  # its lease was over: the node ended it, or has had more than the time to (`--lease`)
    ASSERTED = "asserted"  # an administrator said the node is dead (audited)


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What a job holds on one of its nodes."""

    node: str
    slots: tuple[int, ...]  # as many as it has tasks there
    cpus: int
    memory_mib: int  # 0 where none was asked
    gpus: GpuShare = ()


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job, or an array's record of tasks not yet started (`array_tasks` is then their index text)."""

    job_id: int
    spec: JobSpec
    spec_id: int  # the job whose row holds the spec: array tasks share their array's
    state: State = State.PENDING
    reason: str = "None"  # Slurm's word; only while pending or final
    held: Held | None = None
    array_job_id: int | None = None
    array_task_id: int | None = None
    array_tasks: str | None = None
    submit_at: float
    eligible_at: float | None = None
    start_at: float | None = None
    end_at: float | None = None
    order: int = 0  # place in the FIFO of its priority; a retried job goes to the end
    attempt: int = 0  # number of the newest launch; 0 before the first
    launch_id: str | None = None  # the newest launch
    nodes: tuple[str, ...] = ()
    slots: tuple[int, ...] = ()  # of its first node, where the script runs; the first is SSHQ_SLOT
    other_slots: tuple[tuple[int, ...], ...] = ()  # of its other nodes, one entry a node
    part_launches: tuple[str, ...] = ()  # on its other nodes, of the newest attempt
    # Of its script, while its other launches are not settled: trigger, outcome, node, why, whether its node refused it.
    verdict: tuple[str, str, str, str, bool] | None = None
    lost_node: str | None = None  # one of its other nodes is gone: it is being ended, as NODE_FAIL
    released: bool = True  # False while it holds an allocation
    restarts: int = 0  # requeues and retries that have happened
    failures: int = 0  # attempts that ended FAILED and were retried
    refusals: int = 0  # node refusals in a row: after three it is held
    last_refused_by: str | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    cancel_uid: int | None = None  # a cancel was asked for and is not yet settled, or has been
    requeue_asked: bool = False
    requeue_held: bool = False
    invalid_dependency: bool = False
    output_pending: bool = False  # its private output is not home yet
    cpu_time_s: float | None = None
    system_s: float | None = None  # of cpu_time_s, what the kernel spent
    max_rss_kib: int | None = None
    derived_code: int | None = None  # the worst exit of its steps
    derived_signal: int | None = None
    private_dir: bool = False
    note: str | None = None
    survivors: tuple[str, ...] = ()
    suspensions: int = 0  # by request: only jobs with any are told again, at a reconnect, to stop or to go on
    gpus: tuple[GpuShare, ...] = ()  # on each of its nodes; () where it has none anywhere
    limit_changes: int = 0  # of its time limit since its launch was decided: only jobs with any are told it again
    restored_epoch: int = 0  # of the controller that found it in a restored backup: it may have been launched since that was made

    @property
    def is_array_record(self) -> bool:
        return self.array_tasks is not None

    @property
    def cpus(self) -> int:
        return self.spec.placed_tasks * self.spec.cpus_per_task

    def shares(self) -> tuple[Share, ...]:
        """Return what it holds, or last held, on each of its nodes; the script's node is the first."""
        if not self.other_slots:
            memory_mib = self.spec.memory_for_mib(self.cpus)
            gpus = self.gpus[0] if self.gpus else ()
            return tuple(
                Share(node=node, slots=self.slots, cpus=self.cpus, memory_mib=memory_mib, gpus=gpus) for node in self.nodes
            )
        shares = []
        held = self.gpus or ((),) * len(self.nodes)
        for node, slots, gpus in zip(self.nodes, (self.slots, *self.other_slots), held, strict=True):
            cpus = len(slots) * self.spec.cpus_per_task
            shares.append(Share(node=node, slots=slots, cpus=cpus, memory_mib=self.spec.memory_for_mib(cpus), gpus=gpus))
        return tuple(shares)


class LaunchState(Enum):
    INTENT = "intent"  # decided and stored; whether it reached the node is not known
    RUNNING = "running"  # the node said it started
    SETTLED = "settled"


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One execution of one attempt on one node: the key of everything that happens there."""

    id: str  # 32 hex digits
    job_id: int
    attempt: int
    node: str
    seq: int  # generation * SEQ_PER_GENERATION + n
    epoch: int
    boot: str  # the boot tag it was decided for
    spool_id: str
    slot: int = 0
    state: LaunchState = LaunchState.INTENT
    outcome: Outcome | None = None
    decided_at: float
    started_at: float | None = None
    ended_at: float | None = None
    pid: int | None = None
    private_dir: bool = False
    fencing: bool = False  # our own fence is on its way: its win is not the node's refusal
    rank: int = 0  # 0: the script's, else a part of its job on another node
    held: bool = False  # not to be sent before the parts of its job have started: nobody has ever been told of it
    facts: str | None = None  # digest of what its node was when it was decided (HostFacts)
    image: str | None = None  # of its container, as the engine named its content


SEQ_PER_GENERATION = 1_000_000
RANK_STEP = 1_000_000  # a node knows rank and attempt as one number: rank * RANK_STEP + attempt


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Accounting:
    """One row a launch, written in the transaction that settles it and never again."""

    launch_id: str
    job_id: int
    attempt: int
    node: str
    state: State  # what this attempt came to, even if the job was then retried
    outcome: Outcome
    start_at: float | None
    end_at: float
    exit_code: int | None = None
    exit_signal: int | None = None
    cpu_time_s: float | None = None
    system_s: float | None = None  # of cpu_time_s, what the kernel spent
    max_rss_kib: int | None = None
    cancelled_by: int | None = None
    detail: str = ""
    survivors: tuple[str, ...] = ()
    rank: int = 0  # of its launch


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step of a launch (`12.0`), written in the transaction that settles the launch and never again."""

    launch_id: str
    number: int
    job_id: int
    attempt: int
    state: State
    name: str = ""
    start_at: float | None = None
    end_at: float | None = None
    exit_code: int = 0
    exit_signal: int | None = None
    tasks: int = 1
    nodes: tuple[str, ...] = ()
    cpus: int = 1
    user_s: float | None = None
    system_s: float | None = None
    line: str = ""  # as it was typed


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRecord:
    """What must outlive the controller about a node."""

    name: str
    generation: int = 0
    boot: str = ""
    spool_id: str = ""
    machine_id: str = ""
    account_uid: int = -1
    drain_reason: str | None = None
    drain_by: str = ""
    drain_uid: int = 0
    drain_at: float | None = None
    down_asserted: bool = False
    facts: str = ""  # JSON of the last probe, so that an unreachable node still has a size
    heard_epoch: int = 0  # of the controller that listed it last
    condemned: tuple[str, ...] = ()  # launches declared dead whose processes have not been proved gone; slots wait for it
    accepted_spool: str = ""  # an administrator's word that the machine with this spool now is this node
    weight: int | None = None  # an administrator's, over the inventory's
    features: tuple[str, ...] | None = None  # likewise, in the place of the inventory's and the probe's
    comment: str = ""
    place: str = ""  # how its open launches are reached (the controller's JSON), should the inventory change meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """What the inventory says of a node, plus what it leaves to the probe (None)."""

    name: str
    address: str = ""
    port: int = 22
    account: str = ""
    transport: str = "ssh"
    slots: int | None = None
    cpus: int | None = None
    memory_mib: int | None = None
    features: tuple[str, ...] = ()
    weight: int = 1
    partitions: tuple[str, ...] = ()
    nice: int = 10
    gpus: GpuLimit | None = None  # what of its GPUs may be handed out; None: all that the probe finds
    container: str | None = None  # what runs containers; None: what the probe finds


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionConfig:
    name: str
    nodes: tuple[str, ...] = ()
    default: bool = False
    max_time_s: int | None = None
    default_time_s: int | None = None
    up: bool = True  # jobs start in it
    accepts: bool = True  # jobs may be submitted to it
    hidden: bool = False
    priority_tier: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What the probe found; the scheduler needs only the first four."""

    cpus: int = 1
    memory_mib: int = 0
    arch: str = ""
    os: str = ""
    kernel: str = ""
    sockets: int = 1
    cores: int = 1
    threads: int = 1
    tmp_disk_mib: int = 0
    boot_at: float | None = None
    features: tuple[str, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    gpu_tool: str = ""  # nvidia-smi, rocm-smi, amd-smi; "" where there is none
    gpu_devices: tuple[int, ...] = ()  # /dev/nvidiaN
    gpu_problem: str = ""  # why the tool could not tell
    engines: tuple[str, ...] = ()  # of containers, as the probe names them (core/engines.py)
    own_account: bool = False  # jobs run there as the controller's own account
    cpu_model: str = ""
    gpu_driver: str = ""  # nvidia 535.54.03
    python: str = ""  # path and version of the one that PATH finds

    @classmethod
    def parse(cls, text: str) -> "NodeFacts | None":
        """Return stored facts; None where there are none, or none that this release can read."""
        try:
            known = json.loads(text)
            known["features"] = tuple(known.get("features", ()))
            known["gpu_devices"] = tuple(known.get("gpu_devices", ()))
            known["engines"] = tuple(known.get("engines", ()))
            known["gpus"] = tuple(Gpu(**(gpu | {"instances": tuple(gpu["instances"])})) for gpu in known.get("gpus", ()))
            return cls(**known)
        except (ValueError, TypeError, KeyError):
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptBlob:
    """A script's bytes, stored once under their digest."""

    digest: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableDigests:
    """What an environment held, without the values: stored once, under the digest of the environment."""

    environ: str
    text: str  # as `store.variables` writes it


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What a host was, stored once under its digest: `Launch.facts` names it."""

    digest: str
    text: str  # JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitToken:
    """Makes a repeated submit one job."""

    token: str
    uid: int
    job_id: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """The job leaves the live queue; its history stays."""

    job_id: int


Row = (
    Job | Launch | Accounting | Step | NodeRecord | ScriptBlob | VariableDigests | HostFacts | SubmitToken | Purged
    | PartitionRecord | Reservation | Withdrawn
)
