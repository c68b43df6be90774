"""The fields of sacct: name, width, and how a job, or its batch step, shows them.

Names and widths are Slurm's, all of them, so that `--format` lists written for Slurm work; a field sshq knows
nothing of is empty, as it is in Slurm for what was not gathered.
"""

from sshq.core.hostlist import fold_hostlist
from sshq.core.units import format_cpu_time, format_elapsed_padded, format_memory, format_time_limit_padded
from sshq.slurm.clock import format_local
from sshq.slurm.views import (
    View,
    describe_tres,
    elapsed_of,
    has_ended,
    int_of,
    int_or_none,
    job_label,
    memory_of,
    names_of,
    text_of,
    time_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# A minus sign: to the left.
WIDTHS = (
    "Account:10 AdminComment:15 AllocCPUS:10 AllocNodes:10 AllocTRES:10 AssocID:7 AveCPU:10 AveCPUFreq:10 "
    "AveDiskRead:14 AveDiskWrite:14 AvePages:10 AveRSS:10 AveVMSize:10 BlockID:16 Cluster:10 Comment:14 Constraints:19 "
    "ConsumedEnergy:14 ConsumedEnergyRaw:17 Container:19 CPUTime:10 CPUTimeRAW:10 DBIndex:-10 DerivedExitCode:15 "
    "Elapsed:10 ElapsedRaw:10 Eligible:19 End:19 ExitCode:8 Flags:19 GID:6 Group:9 JobID:-12 JobIDRaw:-12 JobName:10 "
    "Layout:9 MaxDiskRead:12 MaxDiskReadNode:15 MaxDiskReadTask:15 MaxDiskWrite:12 MaxDiskWriteNode:16 "
    "MaxDiskWriteTask:16 MaxPages:8 MaxPagesNode:12 MaxPagesTask:14 MaxRSS:10 MaxRSSNode:10 MaxRSSTask:10 MaxVMSize:10 "
    "MaxVMSizeNode:14 MaxVMSizeTask:14 McsLabel:12 MinCPU:10 MinCPUNode:10 MinCPUTask:10 NCPUS:10 NNodes:8 NodeList:15 "
    "NTasks:8 Partition:10 Priority:10 QOS:10 QOSRAW:6 Reason:22 ReqCPUFreq:10 ReqCPUFreqGov:13 ReqCPUFreqMax:13 "
    "ReqCPUFreqMin:13 ReqCPUS:8 ReqMem:10 ReqNodes:8 ReqTRES:10 Reservation:20 ReservationId:8 Reserved:10 ResvCPU:10 "
    "ResvCPURAW:10 Start:19 State:10 Submit:19 SubmitLine:20 Suspended:10 SystemComment:15 SystemCPU:10 Timelimit:10 "
    "TimelimitRaw:10 TotalCPU:10 TRESUsageInAve:14 TRESUsageInMax:14 TRESUsageInMaxNode:18 TRESUsageInMaxTask:18 "
    "TRESUsageInMin:14 TRESUsageInMinNode:18 TRESUsageInMinTask:18 TRESUsageInTot:14 TRESUsageOutAve:15 "
    "TRESUsageOutMax:15 TRESUsageOutMaxNode:19 TRESUsageOutMaxTask:19 TRESUsageOutMin:15 TRESUsageOutMinNode:19 "
    "TRESUsageOutMinTask:19 TRESUsageOutTot:15 UID:6 User:9 UserCPU:10 WCKey:10 WCKeyID:10 WorkDir:20"
)
UNKNOWN = "Unknown"
SIGTERM, SIGKILL = 15, 9
OUT_OF_MEMORY_EXIT = 125  # what Slurm shows for a job killed for its memory


class AccountRow:
    """One line: a job at one of its attempts, that attempt's batch step, or one of its steps."""

    __slots__ = ("attempt", "is_step", "job", "now", "step", "time_style", "units")

    def __init__(
        self, job: View, attempt: View | None, *, is_step: bool, now: float, time_style: str, units: str,
        step: View | None = None,
    ) -> None:  # fmt: skip
        self.job = job
        self.attempt = attempt
        self.step = step  # None: the line is the job's, or its batch step's
        self.is_step = is_step
        self.now = now
        self.time_style = time_style
        self.units = units

    @property
    def shown(self) -> View:
        """The step or the attempt if the line is about one, else the job: all have state, times and exit."""
        if self.step is not None:
            return self.step
        return self.attempt if self.attempt is not None else self.job

    def time(self, key: str) -> str:
        at = time_of(self.shown, key)
        if key == "end_at" and not has_ended(self.shown):
            at = None  # of a running job end_at is only when its limit would end it
        if key == "start_at" and at is None and has_ended(self.shown):
            at = time_of(self.shown, "end_at")  # it never ran: Slurm shows when it was given up, twice
        return UNKNOWN if at is None else format_local(at, self.time_style, self.now)

    def elapsed_s(self) -> int:
        return int(elapsed_of(self.shown, self.now))

    def was_started(self) -> bool:
        return bool(names_of(self.job, "nodes")) and time_of(self.shown, "start_at") is not None


def name_account_state(row: AccountRow) -> str:
    """Return a line's state: a job's with who cancelled it, a step's as Slurm derives it from how it ended."""
    state = text_of(row.shown, "state", text_of(row.job, "state", "PENDING"))
    if state == "CONFIGURING":
        state = "RUNNING"
    if row.step is not None:
        return state
    if row.is_step:
        if state in ("TIMEOUT", "PREEMPTED", "DEADLINE") or (state == "FAILED" and int_of(row.shown, "exit_signal")):
            return "CANCELLED"
        return state
    if state == "CANCELLED":
        uid = int_or_none(row.shown, "cancelled_by")
        uid = int_or_none(row.job, "cancelled_by") if uid is None else uid
        return state if uid is None else f"{state} by {uid}"
    return state


def show_exit_code(row: AccountRow) -> str:
    """Return code:signal.  Unlike Slurm's sacct, a code above 128 is shown as it is: 130 is no 2."""
    state = text_of(row.shown, "state")
    code, signal = int_of(row.shown, "exit_code"), int_of(row.shown, "exit_signal")
    if not has_ended(row.shown) or state == "COMPLETED":
        return "0:0"
    if state == "OUT_OF_MEMORY" and not code:
        return f"0:{OUT_OF_MEMORY_EXIT}"
    if state in ("CANCELLED", "TIMEOUT", "PREEMPTED", "DEADLINE"):
        if not row.is_step:
            return "0:0"
        return f"0:{signal or (SIGKILL if state == 'TIMEOUT' else SIGTERM)}"
    return f"{code}:{signal}"


def _read_widths() -> tuple[tuple[str, int], ...]:
    pairs = (item.partition(":") for item in WIDTHS.split())
    return tuple((name, int(width)) for name, _, width in pairs)


FIELDS = _read_widths()


def _job_only(show: "Callable[[AccountRow], str]") -> "Callable[[AccountRow], str]":
    return lambda row: "" if row.is_step else show(row)


def _step_only(show: "Callable[[AccountRow], str]") -> "Callable[[AccountRow], str]":
    return lambda row: show(row) if row.is_step else ""


def _job_text(key: str, missing: str = "") -> "Callable[[AccountRow], str]":
    return _job_only(lambda row: text_of(row.job, key, missing))


def _job_number(key: str) -> "Callable[[AccountRow], str]":
    return _job_only(lambda row: str(int_of(row.job, key)))


def _label(row: AccountRow) -> str:
    return job_label(row.job) + _suffix(row)


def _raw_label(row: AccountRow) -> str:
    return str(int_of(row.job, "job_id")) + _suffix(row)


def _suffix(row: AccountRow) -> str:
    if row.step is not None:
        return f".{text_of(row.step, 'step_id')}"
    return ".batch" if row.is_step else ""


def _cpu_count(row: AccountRow) -> int:
    if row.step is not None:
        return int_of(row.step, "cpus", 1)
    if row.is_step:  # the batch step has its node's part of them
        return int_of(row.job, "batch_cpus") or int_of(row.job, "cpus", 1)
    return int_of(row.job, "cpus", 1)


def _node_count(row: AccountRow) -> int:
    if row.is_step:
        return int_of(row.step, "num_nodes", 1) if row.step is not None else 1
    return int_of(row.job, "num_nodes", 1)


def _cpus(row: AccountRow) -> str:
    return str(_cpu_count(row)) if row.was_started() else "0"


def _tres(row: AccountRow) -> str:
    job = row.job
    if row.is_step:
        job = {**job, "cpus": _cpu_count(row), "num_nodes": _node_count(row)}
    return ",".join(sorted(describe_tres(job, with_billing=not row.is_step).split(",")))


def _nodes(row: AccountRow) -> str:
    if row.is_step and row.attempt is None:
        names = names_of(row.step, "nodes") if row.step is not None else names_of(row.job, "nodes")[:1]
        return fold_hostlist(names) or "None assigned"
    node = text_of(row.attempt, "node") if row.attempt is not None else ""
    return node or fold_hostlist(names_of(row.job, "nodes")) or "None assigned"


def _memory(row: AccountRow) -> str:
    mib = memory_of(row.job)
    return "0" if mib is None else scale_memory(mib * 1024, row.units)


def scale_memory(kib: int, units: str) -> str:
    """Return KiB in the unit asked for ("" for Slurm's choice): 200M, 204800K."""
    if not units:
        return format_memory(kib // 1024) if kib % 1024 == 0 else f"{kib}K"
    amount = kib / 1024 ** "KMGTP".index(units)
    return f"{amount:.0f}{units}" if amount == int(amount) else f"{amount:.2f}{units}"


def _max_rss(row: AccountRow) -> str:
    kib = int_or_none(row.shown, "max_rss_kib")
    if kib is None:
        return ""
    return scale_memory(kib, row.units) if row.units else f"{kib}K"


def _cpu_time(row: AccountRow) -> str:
    used = time_of(row.shown, "cpu_time_s")
    return "00:00:00" if used is None else format_cpu_time(used)


def _cpu_part(key: str) -> "Callable[[AccountRow], str]":
    def show(row: AccountRow) -> str:
        used = time_of(row.shown, key)
        return "00:00:00" if used is None else format_cpu_time(used)

    return show


def _reserved(row: AccountRow) -> str:
    eligible_at = time_of(row.job, "eligible_at")
    if eligible_at is None:
        return "00:00:00"
    start_at = time_of(row.shown, "start_at")
    if start_at is None:
        start_at = row.now if not has_ended(row.shown) else eligible_at
    return format_elapsed_padded(max(0.0, start_at - eligible_at))


def _step_start_or(key: str) -> "Callable[[AccountRow], str]":
    def show(row: AccountRow) -> str:
        if row.is_step:
            return row.time("start_at")
        at = time_of(row.job, key)
        return UNKNOWN if at is None else format_local(at, row.time_style, row.now)

    return show


def _flags(row: AccountRow) -> str:
    """Return how a job was scheduled; "Recieved" is how Slurm writes it."""
    if not row.was_started():
        return ""
    return "SchedMain,StartRecieved"


def _limit_minutes(row: AccountRow) -> str:
    limit_s = int_or_none(row.job, "time_limit_s")
    return "UNLIMITED" if limit_s is None else str(limit_s // 60)


def _elapsed_cpus(row: AccountRow) -> int:
    return row.elapsed_s() * (_cpu_count(row) if row.was_started() else 0)


def _derived_code(row: AccountRow) -> str:
    return f"{int_of(row.job, 'derived_exit_code')}:{int_of(row.job, 'derived_exit_signal')}"


def _step_name(row: AccountRow) -> str:
    if row.step is not None:
        return text_of(row.step, "name")
    return "batch" if row.is_step else text_of(row.job, "name")


def _submit_line(row: AccountRow) -> str:
    if row.step is not None:
        return text_of(row.step, "submit_line")
    return "" if row.is_step else text_of(row.job, "submit_line")


def _task_count(row: AccountRow) -> str:
    return str(int_of(row.step, "num_tasks", 1)) if row.step is not None else "1"


GETTERS: "dict[str, Callable[[AccountRow], str]]" = {
    "Account": lambda row: text_of(row.job, "account"),
    "AllocCPUS": _cpus,
    "AllocNodes": lambda row: str(len(names_of(row.job, "nodes"))) if row.was_started() else "0",
    "AllocTRES": lambda row: _tres(row) if row.was_started() else "",
    "AveRSS": _step_only(_max_rss),
    "Cluster": lambda _row: "sshq",
    "Comment": _job_text("comment"),
    "Constraints": _job_text("features"),
    "ConsumedEnergy": lambda row: "" if row.is_step and not has_ended(row.shown) else "0",
    "CPUTime": lambda row: format_elapsed_padded(_elapsed_cpus(row)),
    "CPUTimeRAW": lambda row: str(_elapsed_cpus(row)),
    "DBIndex": _job_number("job_id"),
    "DerivedExitCode": _job_only(_derived_code),
    "Elapsed": lambda row: format_elapsed_padded(row.elapsed_s()),
    "ElapsedRaw": lambda row: str(row.elapsed_s()),
    "Eligible": _step_start_or("eligible_at"),
    "End": lambda row: row.time("end_at"),
    "ExitCode": show_exit_code,
    "Flags": _job_only(_flags),
    "GID": _job_number("gid"),
    "Group": _job_text("group"),
    "JobID": _label,
    "JobIDRaw": _raw_label,
    "JobName": _step_name,
    "MaxRSS": _step_only(_max_rss),
    "NCPUS": _cpus,
    "NNodes": lambda row: str(_node_count(row)),
    "NodeList": _nodes,
    "NTasks": _step_only(_task_count),
    "Partition": _job_text("partition"),
    "Priority": _job_number("priority"),
    "QOS": _job_text("qos", "normal"),
    "Reason": _job_text("reason", "None"),
    "ReqCPUFreqGov": _job_only(lambda _row: UNKNOWN),
    "ReqCPUFreqMax": _job_only(lambda _row: UNKNOWN),
    "ReqCPUFreqMin": _job_only(lambda _row: UNKNOWN),
    "ReqCPUS": lambda row: str(_cpu_count(row)),
    "ReqMem": _job_only(_memory),
    "ReqNodes": _job_number("num_nodes"),
    "ReqTRES": _job_only(_tres),
    "Reserved": _job_only(_reserved),
    "Start": lambda row: row.time("start_at"),
    "State": name_account_state,
    "Submit": _step_start_or("submit_at"),
    "SubmitLine": _submit_line,
    "Suspended": lambda _row: "00:00:00",
    "SystemCPU": _cpu_part("system_s"),
    "Timelimit": _job_only(lambda row: format_time_limit_padded(int_or_none(row.job, "time_limit_s"))),
    "TimelimitRaw": _job_only(_limit_minutes),
    "TotalCPU": _cpu_time,
    "UID": _job_number("uid"),
    "User": _job_text("user"),
    "UserCPU": _cpu_part("user_s"),
    "WorkDir": _job_text("work_dir"),
}
