"""sstat: what running steps have used so far, a line a step."""

from sshq.core.hostlist import fold_hostlist
from sshq.core.units import format_elapsed_padded
from sshq.slurm.fields_sacct import FIELDS as ACCOUNT_FIELDS
from sshq.slurm.getopt import Parsed, parse_options
from sshq.slurm.layout import Output, keep_on_line
from sshq.slurm.messages import ExactError
from sshq.slurm.table import Columns, join_cells, list_header, read_columns, render_fields
from sshq.slurm.views import View, int_of, int_or_none, job_label, job_of, names_of, text_of, time_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

_NAMES = (
    "AveCPU AveCPUFreq AveDiskRead AveDiskWrite AvePages AveRSS AveVMSize ConsumedEnergy ConsumedEnergyRaw JobID MaxDiskRead "
    "MaxDiskReadNode MaxDiskReadTask MaxDiskWrite MaxDiskWriteNode MaxDiskWriteTask MaxPages MaxPagesNode MaxPagesTask MaxRSS "
    "MaxRSSNode MaxRSSTask MaxVMSize MaxVMSizeNode MaxVMSizeTask MinCPU MinCPUNode MinCPUTask Nodelist NTasks Pids ReqCPUFreq "
    "ReqCPUFreqMin ReqCPUFreqMax ReqCPUFreqGov TRESUsageInAve TRESUsageInMax TRESUsageInMaxNode TRESUsageInMaxTask "
    "TRESUsageInMin TRESUsageInMinNode TRESUsageInMinTask TRESUsageInTot TRESUsageOutAve TRESUsageOutMax TRESUsageOutMaxNode "
    "TRESUsageOutMaxTask TRESUsageOutMin TRESUsageOutMinNode TRESUsageOutMinTask TRESUsageOutTot"
)
_OWN_WIDTHS = {"Nodelist": 20, "Pids": 20}
_WIDTHS = dict(ACCOUNT_FIELDS) | _OWN_WIDTHS
FIELDS: Columns = tuple((name, _WIDTHS[name]) for name in _NAMES.split())
DEFAULT_FIELDS = (
    "JobID,MaxVMSize,MaxVMSizeNode,MaxVMSizeTask,AveVMSize,MaxRSS,MaxRSSNode,MaxRSSTask,AveRSS,MaxPages,MaxPagesNode,"
    "MaxPagesTask,AvePages,MinCPU,MinCPUNode,MinCPUTask,AveCPU,NTasks,AveCPUFreq,ReqCPUFreqMin,ReqCPUFreqMax,ReqCPUFreqGov,"
    "ConsumedEnergy,MaxDiskRead,MaxDiskReadNode,MaxDiskReadTask,AveDiskRead,MaxDiskWrite,MaxDiskWriteNode,MaxDiskWriteTask,"
    "AveDiskWrite,TRESUsageInAve,TRESUsageInMax,TRESUsageInMaxNode,TRESUsageInMaxTask,TRESUsageInMin,TRESUsageInMinNode,"
    "TRESUsageInMinTask,TRESUsageInTot,TRESUsageOutAve,TRESUsageOutMax,TRESUsageOutMaxNode,TRESUsageOutMaxTask,"
    "TRESUsageOutMin,TRESUsageOutMinNode,TRESUsageOutMinTask,TRESUsageOutTot"
)
PID_FIELDS = "JobID,Nodelist,Pids"


class SstatOptions:
    """What a call of sstat asked for."""

    def __init__(self, parsed: Parsed) -> None:
        self.parsed = parsed
        self.wants = parsed.wants
        self.warnings = parsed.warnings
        self.helpformat = parsed.has("helpformat")
        self.columns: Columns = ()
        self.refs: list[tuple[int, tuple[int, ...] | None, str | None]] = []

    @property
    def filter(self) -> dict[str, object]:
        """What of the choice the controller can make."""
        return {"refs": [[job, list(tasks) if tasks is not None else None] for job, tasks, _ in self.refs]}


def read_sstat_options(argv: "Sequence[str]", environ: "Mapping[str, str]") -> SstatOptions:
    """Return what a call of sstat asks for; raises OptionError with Slurm's text and status."""
    parsed = parse_options("sstat", argv, environ)
    options = SstatOptions(parsed)
    if options.wants or options.helpformat:
        return options
    chosen = PID_FIELDS if parsed.has("pids") else parsed.value("format") or DEFAULT_FIELDS
    options.columns = read_columns(chosen, FIELDS, "sstat")
    words = [one.value or "" for one in parsed.given if one.option.field == "jobs"] + parsed.arguments
    options.refs = _read_refs(",".join(words))
    if not options.refs:
        raise ExactError(("sstat: error: You didn't give me any jobs to stat.",), hint="sstat -j JOB[.STEP]")
    return options


def _read_refs(text: str) -> list[tuple[int, tuple[int, ...] | None, str | None]]:
    from sshq.core.ids import parse_job_id, split_job_list

    refs = []
    for item in split_job_list(text):
        if not item.strip():
            continue
        try:
            ref = parse_job_id(item)
        except ValueError:
            raise ExactError((f"sstat: fatal: Bad job/step specified: {item}",), source="--jobs") from None
        refs.append((ref.job_id, ref.tasks, ref.step))
    return refs


def render_helpformat() -> str:
    """Return what --helpformat prints."""
    return render_fields(name for name, _ in FIELDS)


def render_sstat(steps: "Iterable[View]", options: SstatOptions) -> Output:
    """Return what sstat prints for the views of running steps; what does not run is a message, and no failure."""
    known = list(steps)
    chosen: list[View] = []
    messages: list[str] = []
    for job_id, tasks, step in options.refs:
        of_job = [one for one in known if _is_of(one, job_id, tasks)]
        found = _choose(of_job, step, every=options.parsed.has("all_steps"))
        if not found:
            name = f"{job_id}" + (f"_{tasks[0]}" if tasks else "") + (f".{step}" if step else "")
            messages.append(f"sstat: error: no steps running for job {name}")
        chosen += found
    return Output(_list_lines(chosen, options), messages)


def _is_of(step: View, job_id: int, tasks: tuple[int, ...] | None) -> bool:
    job = job_of(step)
    raw, array_id = int_of(job, "job_id"), int_or_none(job, "array_job_id")
    if tasks is not None:
        return array_id == job_id and int_or_none(job, "array_task_id") in tasks
    return job_id in (raw, array_id)


def _choose(steps: list[View], step: str | None, *, every: bool) -> list[View]:
    """Return the steps a reference means: the one it names, all, or the lowest that runs."""
    if step is not None:
        return [one for one in steps if text_of(one, "step_id") == step]
    if every or not steps:
        return steps
    numbered = [one for one in steps if text_of(one, "step_id").isdigit()]
    return [min(numbered, key=lambda one: int(text_of(one, "step_id")))] if numbered else steps[:1]


def _list_lines(steps: list[View], options: SstatOptions) -> "Iterator[str]":
    columns, parsed = options.columns, options.parsed
    yield from list_header(columns, parsed)
    for step in steps:
        cells = [keep_on_line(_GETTERS[name](step)) if name in _GETTERS else "" for name, _ in columns]
        yield join_cells(cells, columns, parsed)


def _rss(step: View) -> str:
    kib = int_or_none(step, "max_rss_kib")
    return "" if kib is None else f"{kib}K"


def _cpu(step: View) -> str:
    used = time_of(step, "cpu_time_s")
    return "" if used is None else format_elapsed_padded(used / max(1, int_of(step, "num_tasks", 1)))


def _if_known(key: str, text: "Callable[[View], str]") -> "Callable[[View], str]":
    return lambda step: "" if step.get(key) is None else text(step)


def _first_node(step: View) -> str:
    return next(iter(names_of(step, "nodes")), "")


_GETTERS: "dict[str, Callable[[View], str]]" = {
    "AveCPU": _cpu,
    "AveRSS": _rss,
    "ConsumedEnergy": lambda _step: "0",
    "ConsumedEnergyRaw": lambda _step: "0",
    "JobID": lambda step: f"{job_label(job_of(step))}.{text_of(step, 'step_id')}",
    "MaxRSS": _rss,
    "MaxRSSNode": _if_known("max_rss_kib", _first_node),
    "MaxRSSTask": _if_known("max_rss_kib", lambda _step: "0"),
    "MinCPU": _cpu,
    "MinCPUNode": _if_known("cpu_time_s", _first_node),
    "MinCPUTask": _if_known("cpu_time_s", lambda _step: "0"),
    "Nodelist": lambda step: fold_hostlist(names_of(step, "nodes")),
    "NTasks": lambda step: str(int_of(step, "num_tasks", 1)),
    "ReqCPUFreq": lambda _step: "0",
    "ReqCPUFreqGov": lambda _step: "0",
    "ReqCPUFreqMax": lambda _step: "0",
    "ReqCPUFreqMin": lambda _step: "0",
}
