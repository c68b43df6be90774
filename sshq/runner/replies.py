"""What a node can answer: one frozen class a reply, nothing else.

How each looks on the wire is in `sshq.runner.protocol`; what each means for a launch is the caller's business.
"""

from dataclasses import dataclass

from sshq.core.replacing import quick


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """A launch is settled, and refused for ever, if its seq is at most `high` and not among `open_seqs`."""

    high: int = 0
    open_seqs: frozenset[int] = frozenset()

    def settled(self, seq: int) -> bool:
        return seq <= self.high and seq not in self.open_seqs


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class ExitRecord:
    """An intact record.

    `how` is exit, signal, cancel, timeout, lease, never (it did not start, `reason` says why) or output (a stream could not be
    opened, so it did not start either).  `sure` is False where sh reported 128+n, which may be a signal or `exit 128+n`.
    `sent` are the signals we sent; `terminated` says that the supervisor itself got a TERM, as at a shutdown.
    """

    id: str
    how: str
    status: int | None = None  # as the shell reported it
    code: int | None = None
    signal: int | None = None
    sure: bool = True
    reason: str = ""
    sent: tuple[str, ...] = ()
    terminated: bool = False
    start_uptime_s: float = 0.0
    end_uptime_s: float = 0.0
    start_at: int = 0
    end_at: int = 0
    user_s: float | None = None
    system_s: float | None = None
    boot: str = ""
    survivors: tuple[str, ...] = ()
    oom: bool = False  # killed by a KILL that was not ours, and the kernel killed for memory meanwhile
    steps: bool = False  # there were steps, which the node tells when asked
    image: str = ""  # of its container, as the engine names its content

    @property
    def cpu_s(self) -> float | None:
        if self.user_s is None or self.system_s is None:
            return None
        return self.user_s + self.system_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One launch as the node sees it.  `damaged`: a record that is neither empty nor intact."""

    id: str
    seq: int = 0
    job_id: int = 0
    attempt: int = 0
    claimed: bool = False
    go: str = "none"  # none, file (the supervisor's) or directory (the fence's)
    supervisor: bool = False
    alive: bool = False  # the job's own process
    pid: int = 0
    start: int = 0
    started_uptime_s: float | None = None
    record: ExitRecord | None = None
    damaged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    nonce: str
    protocol: int
    spool_version: int
    boot: str
    uid: int
    user: str
    home: str
    shell: str
    spool: str
    spool_id: str
    fs: str
    gen: int
    floor: Floor
    pid: int
    start: int
    uptime_s: float
    clock_at: int
    signals: str  # env, perl, python3 or none: how a job gets INT and QUIT unignored
    setsid: str  # setsid, perl or python3
    took_over: bool
    scope: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """The runner cannot work here and has gone.  `why` is a stable word, `text` for people."""

    nonce: str
    why: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FactsReply:
    tag: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    id: str
    pid: int
    start: int
    uptime_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    id: str
    record: ExitRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The launch was not begun.  `never` is True where that proves that it never will be: for every reason but `floor`,
    where the node has settled and forgotten it, so that it may have run long ago.
    """

    id: str
    why: str  # go-lost floor uid boot space parts spawner
    text: str = ""

    @property
    def never(self) -> bool:
        return self.why != "floor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Answer to a repeated launch: its state.  Nothing was started."""

    entry: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceResult:
    id: str
    result: str  # won, lost or lost-forgotten
    entry: Entry | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KillResult:
    """`asked`: its supervisor does it and an Ended follows.  `signalled`: done.  `never`: it had not started and never will.
    `forgotten`: settled on the node.  `killing`, then `killed` (with `survivors`): the supervisor is dead, a killer is at
    work.  `gone`: nothing of it lives; the listing knows the rest.
    """

    id: str
    result: str
    survivors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """All launches the node knows; an incomplete one is never returned."""

    nonce: str
    entries: tuple[Entry, ...]
    complete: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Acked:
    """The floor is raised; `ok` is False if some file could not be removed (ask again)."""

    tag: str
    ok: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """`ok` False: the node is at `gen`, not where the caller thought."""

    tag: str
    ok: bool
    gen: int
    floor_high: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    tag: str
    killed: int
    survivors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEntry:
    """One step as its srun wrote it.  `state`: run, done, or dead where its srun was killed before it was done.

    Times are uptimes of the node; `start_uptime_s` is the job's own.  `code` is the highest of its tasks as a shell has it.
    """

    launch_id: str
    number: int
    state: str
    code: int | None = None
    held_cpus: int = 0  # kept from other steps meanwhile
    tasks: int | None = None
    nodes: int | None = None
    cpus: int | None = None  # given to it
    began_uptime_s: float | None = None
    ended_uptime_s: float | None = None
    user_s: float | None = None
    system_s: float | None = None
    sampled_cpu_s: float | None = None  # so far, of a running one
    sampled_rss_kib: int | None = None  # of its largest task
    start_uptime_s: float | None = None
    uptime_s: float = 0.0
    node_list: str = ""
    name: str = ""
    line: str = ""  # as it was typed


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    tag: str
    entries: tuple[StepEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedResult:
    tag: str
    present: bool
    directory: bool
    writable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    tag: str
    load1: float
    free_mib: int | None
    uptime_s: float
    room: str = ""  # in the spool, for a launch: ok, no-space, no-files, read-only


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong:
    tag: str
    uptime_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaped:
    pid: int
    ok: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    tag: str
    ok: bool
    alive: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFailed:
    """A call could not be done: floor not writable, spool gone, ...  `tag` is the call's tag or ID, or "-"."""

    tag: str
    call: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Upcall:
    """A command inside a job waits for an answer: its token, and what is new of it.  Anybody there can write it."""

    id: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartAnswer:
    """What came of a call about a part: made, known, gone, none, started, ended, signalled, ending, took, closed."""

    tag: str
    word: str
    value: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartNews:
    """A holder's hint about a part: started PID, ended STATUS, took NEXT (of its input), closed."""

    id: str
    token: str
    word: str
    value: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A piece of an answer was written; `waits` False: the command is gone.  `seen` pieces were taken by it.

    `given`: a question was answered.
    """

    tag: str
    waits: bool
    seen: int
    given: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """A line that is none of ours, or not well formed.  `line` is cut at 256 bytes."""

    line: bytes
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadHead:
    """The first line of a reading channel; raw bytes begin at `body_at` of the data given."""

    pid: int = 0
    start: int = 0
    size: int | None = None
    error: str | None = None
    body_at: int = 0


Reply = (
    Hello
    | Unusable
    | FactsReply
    | Started
    | Ended
    | Refused
    | Known
    | FenceResult
    | KillResult
    | Listing
    | Acked
    | Reserved
    | Steps
    | Swept
    | SharedResult
    | Load
    | Pong
    | Reaped
    | Purged
    | CallFailed
    | Upcall
    | PartAnswer
    | PartNews
    | Answered
    | Malformed
)
