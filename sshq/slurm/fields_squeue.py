"""The columns of squeue: letter, names, header, and how a job's view shows them.

Texts of absent values ("(null)", "N/A", "n/a", "") are Slurm's, each field its own; programs compare them.
"""

from sshq.core.hostlist import fold_hostlist
from sshq.core.units import format_elapsed, format_memory, format_time_limit
from sshq.slurm.clock import format_local
from sshq.slurm.layout import Field
from sshq.slurm.states import COMPACT
from sshq.slurm.views import (
    View,
    describe_tres,
    elapsed_of,
    has_ended,
    int_of,
    int_or_none,
    job_label,
    names_of,
    text_of,
    time_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NULL = "(null)"
NOT_AVAILABLE = "N/A"
BITSTR_LENGTH = 64  # SLURM_BITSTR_LEN's default
# States whose reason stands where the nodes of others do (squeue %R).
_REASON_SHOWN = frozenset(("PENDING", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "DEADLINE"))


class JobRow:
    """A job's view with what the columns need besides: the time, and how to write it."""

    __slots__ = ("convert", "now", "time_style", "view")

    def __init__(self, view: View, now: float, time_style: str = "", *, convert: bool = True) -> None:
        self.view = view
        self.now = now
        self.time_style = time_style
        self.convert = convert

    def time(self, at: float | None, missing: str = NOT_AVAILABLE) -> str:
        return missing if at is None else format_local(at, self.time_style, self.now)


def state_of(view: View) -> str:
    """Return the state squeue shows: COMPLETING while something of an ended job is left on its node."""
    return "COMPLETING" if view.get("completing") else text_of(view, "state", "PENDING")


def start_of(row: JobRow) -> float | None:
    """Return when a job started, or is known to start: at its --begin."""
    start_at = time_of(row.view, "start_at")
    if start_at is None and row.view.get("state") == "PENDING":
        begin_at = time_of(row.view, "begin_at")
        return begin_at if begin_at is not None and begin_at > row.now else None
    return start_at


def shorten_tasks(tasks: str, length: int = BITSTR_LENGTH) -> str:
    """Return an array's indices cut to a length (0: not at all), with dots where something is missing."""
    body, percent, limit = tasks.partition("%")
    if length and len(body) >= length:
        body = body[: body.rfind(",", 0, length - 4) + 1] + "..."
    return body + percent + limit


def _job_id(row: JobRow) -> str:
    tasks = text_of(row.view, "array_tasks")
    if tasks:
        return f"{int_of(row.view, 'array_job_id')}_[{shorten_tasks(tasks)}]"
    return job_label(row.view)


def _array_task(row: JobRow) -> str:
    tasks = text_of(row.view, "array_tasks")
    if tasks:
        return shorten_tasks(tasks)
    task = int_or_none(row.view, "array_task_id")
    return NOT_AVAILABLE if task is None else str(task)


def _end_time(row: JobRow) -> str:
    start_at, limit_s = start_of(row), int_or_none(row.view, "time_limit_s")
    end_at = time_of(row.view, "end_at")
    if end_at is None and start_at is not None:
        if limit_s is None:
            return "NONE"
        end_at = start_at + limit_s
    return row.time(end_at)


def _time_left(row: JobRow) -> str:
    limit_s = int_or_none(row.view, "time_limit_s")
    if limit_s is None:
        return "UNLIMITED"
    return format_elapsed(max(0.0, limit_s - elapsed_of(row.view, row.now)))


def _memory(row: JobRow) -> str:
    mib = int_or_none(row.view, "memory_per_cpu_mib")
    if mib is None:
        mib = int_of(row.view, "memory_mib")
    return format_memory(mib) if row.convert else f"{mib}M"


def _reason_or_nodes(row: JobRow) -> str:
    if state_of(row.view) in _REASON_SHOWN:
        return f"({text_of(row.view, 'reason', 'None')})"
    staging = "(StageIn)" if row.view.get("reason") == "StageIn" else ""
    return fold_hostlist(names_of(row.view, "nodes")) + staging


def _nodes(row: JobRow) -> str:
    return "" if row.view.get("state") == "PENDING" else fold_hostlist(names_of(row.view, "nodes"))


def _batch_host(row: JobRow) -> str:
    if row.view.get("state") == "PENDING":
        return "n/a"
    nodes = names_of(row.view, "nodes")
    return text_of(row.view, "batch_host") or (nodes[0] if nodes else "n/a")


def _wait_status(row: JobRow) -> str:
    return str(int_of(row.view, "exit_code") << 8 | int_of(row.view, "exit_signal"))


def _min_disk(row: JobRow) -> str:
    return format_memory(int_of(row.view, "tmp_disk_mib"))


def _text(key: str, missing: str = NULL) -> "Callable[[JobRow], str]":
    return lambda row: text_of(row.view, key, missing)


def _number(key: str, default: int = 0) -> "Callable[[JobRow], str]":
    return lambda row: str(int_of(row.view, key, default))


def _time(key: str) -> "Callable[[JobRow], str]":
    return lambda row: row.time(time_of(row.view, key))


def _always(text: str) -> "Callable[[JobRow], str]":
    return lambda _row: text


def _hosts(key: str) -> "Callable[[JobRow], str]":
    return lambda row: fold_hostlist(names_of(row.view, key))


JOB_FIELDS: tuple[Field[JobRow], ...] = (
    Field("a", "Account", "ACCOUNT", _text("account")),
    Field("A", "JobID", "JOBID", _number("job_id")),
    Field("B", "BatchHost", "EXEC_HOST", _batch_host),
    Field("c", "MinCpus", "MIN_CPUS", _number("cpus_per_task", 1)),
    Field("C", "NumCPUs", "CPUS", _number("cpus", 1)),
    Field("d", "MinTmpDisk", "MIN_TMP_DISK", _min_disk),
    Field("D", "NumNodes", "NODES", _number("num_nodes", 1)),
    Field("e", "EndTime", "END_TIME", _end_time),
    Field("E", "Dependency", "DEPENDENCY", _text("dependency")),
    Field("f", "Feature", "FEATURES", _text("features")),
    Field("F", "ArrayJobID", "ARRAY_JOB_ID",
          lambda row: str(int_of(row.view, "array_job_id", int_of(row.view, "job_id")))),
    Field("g", "GroupName", "GROUP", _text("group")),
    Field("G", "GroupID", "GROUP", _number("gid")),
    Field("h", "OverSubscribe", "OVER_SUBSCRIBE", lambda row: "NO" if row.view.get("exclusive") else "OK"),
    Field("H", "Sockets", "SOCKETS_PER_NODE", _always("*")),
    Field("I", "Cores", "CORES_PER_SOCKET", _always("*")),
    Field("J", "Threads", "THREADS_PER_CORE", _always("*")),
    Field("i", "JobArrayID", "JOBID", _job_id),
    Field("j", "Name", "NAME", _text("name")),
    Field("k", "Comment", "COMMENT", _text("comment")),
    Field("K", "ArrayTaskID", "ARRAY_TASK_ID", _array_task),
    Field("l", "TimeLimit", "TIME_LIMIT",
          lambda row: format_time_limit(int_or_none(row.view, "time_limit_s")), cut=False),
    Field("L", "TimeLeft", "TIME_LEFT", _time_left, cut=False),
    Field("m", "MinMemory", "MIN_MEMORY", _memory),
    Field("M", "TimeUsed", "TIME", lambda row: format_elapsed(elapsed_of(row.view, row.now)), cut=False),
    Field("n", "ReqNodes", "REQ_NODES", _hosts("req_nodes")),
    Field("N", "NodeList", "NODELIST", _nodes),
    Field("o", "Command", "COMMAND", _text("command")),
    Field("O", "Contiguous", "CONTIGUOUS", _always("0")),
    Field("p", "Priority", "PRIORITY", lambda row: f"{int_of(row.view, 'priority') / 0xFFFFFFFF:.14f}"),
    Field("P", "Partition", "PARTITION", _text("partition")),
    Field("q", "QOS", "QOS", _text("qos", "normal")),
    Field("Q", "PriorityLong", "PRIORITY", _number("priority")),
    Field("r", "Reason", "REASON", _text("reason", "None")),
    Field("R", "ReasonList", "NODELIST(REASON)", _reason_or_nodes),
    Field("s", "SelectJobInfo", "", _always("")),
    Field("S", "StartTime", "START_TIME", lambda row: row.time(start_of(row))),
    Field("t", "StateCompact", "ST", lambda row: COMPACT.get(state_of(row.view), "??")),
    Field("T", "State", "STATE", lambda row: state_of(row.view)),
    Field("u", "UserName", "USER", _text("user")),
    Field("U", "UserID", "UID", _number("uid")),
    Field("v", "Reservation", "RESERVATION", _text("reservation")),
    Field("V", "SubmitTime", "SUBMIT_TIME", _time("submit_at")),
    Field("w", "WCKey", "WCKEY", _always(NULL)),
    Field("W", "Licenses", "LICENSES", _text("licenses")),
    Field("x", "ExcNodes", "EXC_NODES", _hosts("exc_nodes")),
    Field("X", "CoreSpec", "CORE_SPEC", _always(NOT_AVAILABLE)),
    Field("y", "Nice", "NICE", _number("nice")),
    Field("Y", "SchedNodes", "SCHEDNODES", _always(NULL)),
    Field("z", "SCT", "S:C:T", _always("*:*:*")),
    Field("Z", "WorkDir", "WORK_DIR", _text("work_dir")),
    Field("b", "Gres tres-per-node tres_per_node", "TRES_PER_NODE", _text("tres_per_node", NOT_AVAILABLE)),
    # Names without a letter.
    Field("", "AccrueTime", "ACCRUE_TIME", _time("eligible_at")),
    Field("", "AllocNodes", "ALLOC_NODES", _text("submit_host", "localhost")),
    Field("", "AllocSID", "ALLOC_SID", _always("0")),
    Field("", "BatchFlag", "BATCH_FLAG", lambda row: "0" if row.view.get("batch_flag") is False else "1"),
    Field("", "Cluster", "CLUSTER", _always("sshq")),
    Field("", "Container", "CONTAINER", _always("")),
    Field("", "cpus-per-task", "CPUS_PER_TASK",
          lambda row: str(int_of(row.view, "cpus_per_task", 1)) if row.view.get("cpus_per_task_given") else NOT_AVAILABLE),
    Field("", "Deadline", "DEADLINE", _time("deadline_at")),
    Field("", "DerivedEC", "DERIVED_EC", _always("0")),
    Field("", "EligibleTime", "ELIGIBLE_TIME", _time("eligible_at")),
    Field("", "exit_code", "EXIT_CODE", _wait_status),
    Field("", "Kind", "KIND", _text("kind")),
    Field("", "MaxCPUs", "MAX_CPUS", _always("0")),
    Field("", "MaxNodes", "MAX_NODES", _number("max_nodes")),
    Field("", "MinTime", "TIME_MIN", _always("0:00")),
    Field("", "Nodes", "NODES", _reason_or_nodes),
    Field("", "NTPerNode", "NTASKS_PER_NODE", _number("ntasks_per_node")),
    Field("", "NumTasks", "TASKS", _number("num_tasks", 1)),
    Field("", "PendingTime", "PENDING_TIME", lambda row: str(int(_pending_s(row)))),
    Field("", "Profile", "PROFILE", _always("")),
    Field("", "Reboot", "REBOOT", _always("0")),
    Field("", "Requeue", "REQUEUE", lambda row: "1" if row.view.get("requeue") else "0"),
    Field("", "RestartCnt", "RESTART_COUNT", _number("restarts")),
    Field("", "STDERR", "STDERR", lambda row: text_of(row.view, "std_err") or text_of(row.view, "std_out", NULL)),
    Field("", "STDIN", "STDIN", _text("std_in", "/dev/null")),
    Field("", "STDOUT", "STDOUT", _text("std_out")),
    # Names of what sshq has no counterpart of, as Slurm shows them where nothing is configured.
    Field("", "admin_comment", "ADMIN_COMMENT", _always(NULL)),
    Field("", "AssocID", "ASSOC_ID", _always("0")),
    Field("", "BoardsPerNode", "BOARDS_PER_NODE", _always("N/A")),
    Field("", "BurstBuffer", "BURST_BUFFER", _always(NULL)),
    Field("", "BurstBufferState", "BURST_BUFFER_STATE", _always(NULL)),
    Field("", "ClusterFeature", "CLUSTER_FEATURES", _always(NULL)),
    Field("", "CPUFreq", "CPU_FREQ", _always(NOT_AVAILABLE)),
    Field("", "cpus-per-tres cpus_per_tres", "CPUS_PER_TRES", _always(NOT_AVAILABLE)),
    Field("", "DelayBoot", "DELAY_BOOT", _always("0:00")),
    Field("", "HetJobID", "HET_JOB_ID", _always(NOT_AVAILABLE)),
    Field("", "HetJobIDSet", "HET_JOB_ID_SET", _always(NOT_AVAILABLE)),
    Field("", "HetJobOffset", "HET_JOB_OFFSET", _always(NOT_AVAILABLE)),
    Field("", "LastSchedEval", "LAST_SCHED_EVAL", _time("submit_at")),
    Field("", "MCSLabel", "MCSLABEL", _always(NULL)),
    Field("", "mem-per-tres mem_per_tres", "MEM_PER_TRES", _always(NOT_AVAILABLE)),
    Field("", "Network", "NETWORK", _always(NULL)),
    Field("", "NTPerBoard", "NTASKS_PER_BOARD", _always(NOT_AVAILABLE)),
    Field("", "NTPerCore", "NTASKS_PER_CORE", _always(NOT_AVAILABLE)),
    Field("", "NTPerSocket", "NTASKS_PER_SOCKET", _always(NOT_AVAILABLE)),
    Field("", "Origin", "ORIGIN", _always("NA")),
    Field("", "OriginRaw", "ORIGIN_RAW", _always("NA")),
    Field("", "PreemptTime", "PREEMPT_TIME", _always(NOT_AVAILABLE)),
    Field("", "Prefer", "PREFER", _text("prefer")),
    Field("", "ReqSwitch", "REQ_SWITCH", _always("0")),
    Field("", "ResizeTime", "RESIZE_TIME", _always(NOT_AVAILABLE)),
    Field("", "ResvPort", "RESV_PORTS", _always("")),
    Field("", "SiblingsActive", "ACTIVE_SIBLINGS", _always("NA")),
    Field("", "SiblingsActiveRaw", "ACTIVE_SIBLINGS_RAW", _always("NA")),
    Field("", "SiblingsViable", "VIABLE_SIBLINGS", _always("NA")),
    Field("", "SiblingsViableRaw", "VIALBLE_SIBLINGS_RAW", _always("NA")),
    Field("", "SPerBoard", "SOCKETS_PER_BOARD", _always("0")),
    Field("", "system_comment", "SYSTEM_COMMENT", _always(NULL)),
    Field("", "ThreadSpec", "THREAD_SPEC", _always(NOT_AVAILABLE)),
    Field("", "tres-bind tres_bind", "TRES_BIND", _always(NOT_AVAILABLE)),
    Field("", "tres-freq tres_freq", "TRES_FREQ", _always(NOT_AVAILABLE)),
    Field("", "tres-per-job tres_per_job", "TRES_PER_JOB", _text("tres_per_job", NOT_AVAILABLE)),
    Field("", "tres-per-socket tres_per_socket", "TRES_PER_SOCKET", _always(NOT_AVAILABLE)),
    Field("", "tres-per-step tres_per_step", "TRES_PER_STEP", _always(NOT_AVAILABLE)),
    Field("", "tres-per-task tres_per_task", "TRES_PER_TASK", _text("tres_per_task", NOT_AVAILABLE)),
    Field("", "Wait4Switch", "TIME", _always("0:00")),
    Field("", "tres tres-alloc tres_alloc", "TRES_ALLOC", lambda row: describe_tres(row.view)),
)  # fmt: skip


def _pending_s(row: JobRow) -> float:
    submit_at = time_of(row.view, "submit_at")
    if submit_at is None:
        return 0
    until = time_of(row.view, "start_at")
    if until is None:
        until = time_of(row.view, "end_at") if has_ended(row.view) else row.now
    return max(0.0, (until if until is not None else row.now) - submit_at)
