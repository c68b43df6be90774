"""A few columns of many jobs, for listings of a hundred thousand: the values that `live_job_view` has, without the rest.

`jobs` with `columns` streams items `{"rows": [[…], …]}`, each row's values in the order of the columns.
"""

from collections.abc import Callable, Iterable

from sshq.controller.views import is_cancelling, live_job_view, pending_reason
from sshq.core.cluster import Cluster
from sshq.core.lifecycle import FINAL, State
from sshq.core.model import Job
from sshq.core.priority import display_priority

Value = object
Getter = Callable[[Cluster, Job], Value]


def _array_tasks(_cluster: Cluster, job: Job) -> Value:
    if job.array_tasks is not None and job.spec.array_limit:
        return f"{job.array_tasks}%{job.spec.array_limit}"
    return job.array_tasks


def _partition(cluster: Cluster, job: Job) -> Value:
    partitions = job.spec.partitions
    if len(partitions) == 1:
        return partitions[0]
    return live_job_view(cluster, job)["partition"]


def _state(_cluster: Cluster, job: Job) -> Value:
    return "CANCELLED" if job.cancel_uid is not None and is_cancelling(job) else job.state.name


def _completing(_cluster: Cluster, job: Job) -> Value:
    if job.cancel_uid is None and job.verdict is None and job.state not in FINAL:
        return False
    return is_cancelling(job) or job.verdict is not None or (job.state in FINAL and (not job.released or job.output_pending))


def _end_at(cluster: Cluster, job: Job) -> Value:
    return job.end_at if job.state is State.PENDING else live_job_view(cluster, job)["end_at"]


def _priority(_cluster: Cluster, job: Job) -> Value:
    spec = job.spec
    return display_priority(priority=spec.priority, nice=spec.nice, order=job.order, held=job.held is not None)


COLUMNS: dict[str, Getter] = {
    "job_id": lambda _, job: job.job_id,
    "array_job_id": lambda _, job: job.array_job_id,
    "array_task_id": lambda _, job: job.array_task_id,
    "array_tasks": _array_tasks,
    "partition": _partition,
    "name": lambda _, job: job.spec.name,
    "user": lambda _, job: job.spec.user,
    "uid": lambda _, job: job.spec.uid,
    "group": lambda _, job: job.spec.group,
    "state": _state,
    "completing": _completing,
    "reason": pending_reason,
    "priority": _priority,
    "nodes": lambda _, job: list(job.nodes) if job.state is not State.PENDING else [],
    "num_nodes": lambda _, job: job.spec.num_nodes,
    "cpus": lambda _, job: job.cpus,
    "submit_at": lambda _, job: job.submit_at,
    "start_at": lambda _, job: job.start_at,
    "end_at": _end_at,
    "begin_at": lambda _, job: job.spec.begin_at,
    "time_limit_s": lambda _, job: job.spec.time_limit_s if job.spec.time_limit_s != -1 else None,
    "nice": lambda _, job: job.spec.nice,
    "account": lambda _, job: job.spec.account,
    "work_dir": lambda _, job: job.spec.work_dir,
    "command": lambda _, job: job.spec.command,
}


def job_rows(cluster: Cluster, jobs: Iterable[Job], columns: Iterable[str]) -> list[list[Value]]:
    """Return the values of these columns, a list a job."""
    getters = [COLUMNS[name] for name in columns]
    return [[get(cluster, job) for get in getters] for job in jobs]
