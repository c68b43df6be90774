"""squeue -s: the running steps, in the columns that Slurm has for them."""

from sshq.core.hostlist import fold_hostlist
from sshq.core.units import format_elapsed
from sshq.slurm.clock import format_local
from sshq.slurm.layout import Field, Layout, read_format, read_long_format, show_all_format
from sshq.slurm.views import View, elapsed_of, int_of, job_label, job_of, names_of, text_of, time_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT_FORMAT = "%.15i %.8j %.9P %.8u %.9M %N"


class StepRow:
    """A step's view with the time, and how to write it."""

    __slots__ = ("job", "now", "step", "time_style")

    def __init__(self, step: View, now: float, time_style: str) -> None:
        self.step = step
        self.job = job_of(step)
        self.now = now
        self.time_style = time_style


def _start(row: StepRow) -> str:
    at = time_of(row.step, "start_at")
    return "N/A" if at is None else format_local(at, row.time_style, row.now)


FIELDS: tuple[Field[StepRow], ...] = (
    Field("A", "JobID", "JOBID", lambda row: str(int_of(row.job, "job_id"))),
    Field("b", "tres-per-node", "TRES_PER_NODE", lambda _row: "N/A"),
    Field("i", "StepID", "STEPID", lambda row: f"{job_label(row.job)}.{text_of(row.step, 'step_id')}"),
    Field("j", "StepName Name", "NAME", lambda row: text_of(row.step, "name")),
    Field("l", "TimeLimit", "TIME_LIMIT", lambda _row: "UNLIMITED", cut=False),
    Field("M", "TimeUsed", "TIME", lambda row: format_elapsed(elapsed_of(row.step, row.now)), cut=False),
    Field("N", "Nodes NodeList", "NODELIST", lambda row: fold_hostlist(names_of(row.step, "nodes"))),
    Field("P", "Partition", "PARTITION", lambda row: text_of(row.job, "partition")),
    Field("S", "StartTime", "START_TIME", _start),
    Field("t", "StepState", "STATE", lambda row: text_of(row.step, "state")),
    Field("u", "UserName", "USER", lambda row: text_of(row.job, "user")),
    Field("U", "UserID", "USER", lambda row: str(int_of(row.job, "uid"))),
    Field("", "ArrayJobID", "ARRAY_JOB_ID", lambda row: str(int_of(row.job, "array_job_id", int_of(row.job, "job_id")))),
    Field("", "ArrayTaskID", "ARRAY_TASK_ID", lambda row: str(row.job.get("array_task_id") or "N/A")),
    Field("", "BatchHost", "EXEC_HOST", lambda row: text_of(row.job, "batch_host", "n/a")),
    Field("", "NumTasks", "TASKS", lambda row: str(int_of(row.step, "num_tasks", 1))),
    Field("", "NumCPUs", "CPUS", lambda row: str(int_of(row.step, "cpus", 1))),
)  # fmt: skip


def choose_step_layout(short_format: str | None, long_format: str | None) -> Layout[StepRow]:
    """Return the columns asked for by -o or -O, else Slurm's."""
    if long_format is not None:
        return read_long_format(long_format, FIELDS)
    if short_format is not None and short_format.strip().lower() == "%all":
        return read_format(show_all_format(FIELDS), FIELDS)
    return read_format(short_format or DEFAULT_FORMAT, FIELDS)


def list_step_lines(steps: "Iterable[View]", layout: Layout[StepRow], now: float, time_style: str) -> "Iterable[str]":
    """Return a line a step."""
    return (layout.line(StepRow(step, now, time_style)) for step in steps)
