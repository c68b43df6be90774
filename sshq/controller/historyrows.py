"""A few columns of many jobs of history: the values that `history_view` has, without the rest.

`history` with `columns` streams items `{"rows": [[…], …]}`, each row's values in the order of the columns.  One that a whole job
has not is `launched`: whether anything of the job was ever settled on a host, for those who need no more of its attempts.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Final

from sshq.controller.stepviews import attempt_view, step_view
from sshq.controller.views import BATCH_KINDS, View, history_view, is_cancelling, user_part
from sshq.core.gpuspec import gpus_of
from sshq.core.lifecycle import State
from sshq.core.model import Job
from sshq.core.priority import display_priority
from sshq.store.history import HistoryJob

Value = object


def whole_view(found: HistoryJob) -> View:
    """Return all there is to tell of a job."""
    return history_view(found.job, _attempts(found), _steps(found))


def history_rows(found: Sequence[HistoryJob], columns: Sequence[str]) -> list[list[Value]]:
    """Return the values of these columns, a list a job."""
    getters = [COLUMNS[name] for name in columns]
    return [[get(one) for get in getters] for one in found]


def shown_state(job: Job) -> str:
    """Return the word for a job's state that its view has."""
    return "CANCELLED" if job.cancel_uid is not None and is_cancelling(job) else job.state.name


def _attempts(found: HistoryJob) -> list[View]:
    return [attempt_view(row) for row in found.accounting if not row.rank]


def _steps(found: HistoryJob) -> list[View]:
    return [step_view(step) for step in found.steps]


def _launched(found: HistoryJob) -> Value:
    return found.job.start_at is not None or any(not row.rank for row in found.accounting)


def _array_tasks(job: Job) -> Value:
    return f"{job.array_tasks}%{job.spec.array_limit}" if job.is_array_record and job.spec.array_limit else job.array_tasks


def _cancelled_by(job: Job) -> Value:
    return job.cancel_uid if is_cancelling(job) or job.state is State.CANCELLED else None


def _gpus(job: Job) -> Value:
    return sum(map(len, job.gpus)) or gpus_of(job.spec)[1]


def _priority(job: Job) -> Value:
    spec = job.spec
    return display_priority(priority=spec.priority, nice=spec.nice, order=job.order, held=job.held is not None)


_COMPUTED: Final[dict[str, Callable[[Job], Value]]] = {
    "array_tasks": _array_tasks,
    "batch_cpus": lambda job: job.shares()[0].cpus if job.other_slots else job.cpus,
    "batch_flag": lambda job: job.spec.kind in BATCH_KINDS,
    "cancelled_by": _cancelled_by,
    "gpus": _gpus,
    "nodes": lambda job: list(job.nodes) if job.state is not State.PENDING else [],
    "partition": lambda job: ",".join(job.spec.partitions),
    "priority": _priority,
    "state": shown_state,
    "time_limit_s": lambda job: job.spec.time_limit_s if job.spec.time_limit_s != -1 else None,
    "user_s": lambda job: user_part(job.cpu_time_s, job.system_s),
}
_OF_JOB: Final = (
    "array_job_id array_task_id attempt cpu_time_s cpus eligible_at end_at exit_code exit_signal job_id max_rss_kib reason"
    " start_at submit_at system_s"
)
_OF_SPEC: Final = (
    "account comment features gid group memory_mib memory_per_cpu_mib name num_nodes qos submit_line uid user work_dir"
)


def _of_job(get: Callable[[Job], Value]) -> Callable[[HistoryJob], Value]:
    return lambda found: get(found.job)


COLUMNS: Final[dict[str, Callable[[HistoryJob], Value]]] = {
    **{name: attrgetter(f"job.{name}") for name in _OF_JOB.split()},
    **{name: attrgetter(f"job.spec.{name}") for name in _OF_SPEC.split()},
    "derived_exit_code": attrgetter("job.derived_code"),
    "derived_exit_signal": attrgetter("job.derived_signal"),
    **{name: _of_job(get) for name, get in _COMPUTED.items()},
    "launched": _launched,
    "attempts": _attempts,
    "steps": _steps,
}
