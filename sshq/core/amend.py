"""scontrol update JobId=… and scontrol top: what of a job may still be changed, and by whom.

A pending job is judged anew as if it were submitted so.  Of a job that is launched only what its node need not know, and its
time limit: the supervisor is told that, at once and again at each connect.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from sshq.core.admission import ask_newcomers, resolve
from sshq.core.effects import SetLimit
from sshq.core.gangs import limit_of
from sshq.core.lifecycle import FINAL, State
from sshq.core.model import Job, JobSpec, Launch
from sshq.core.priority import display_priority, queue_key

if TYPE_CHECKING:
    from sshq.core.cluster import Cluster
    from sshq.core.events import JobsControlled

DENIED: Final = "Access/permission denied"
COMPLETING: Final = "Job/step already completing or completed"
PENDING: Final = "Job is pending execution"
MINUTE_S: Final = 60

_SPEC_FIELDS: Final = frozenset({
    "account", "array_limit", "begin_at", "comment", "cpus_per_task", "deadline_at", "dependency", "end_at", "exc_nodes",
    "exclusive", "features", "licenses", "memory_mib", "memory_per_cpu_mib", "min_cpus", "name", "nice", "ntasks_per_node",
    "num_cpus", "num_nodes", "num_tasks", "partitions", "prefer", "priority", "qos", "req_nodes", "requeue",
    "reservations", "std_out", "time_limit_s", "tmp_disk_mib", "work_dir",
})  # fmt: skip
_WHILE_RUNNING: Final = frozenset({
    "account", "array_limit", "comment", "end_at", "name", "nice", "priority", "qos", "requeue", "time_limit_s",
})  # fmt: skip


def amend(cluster: "Cluster", event: "JobsControlled", job: Job) -> tuple[str, str]:
    """Carry out `scontrol update` on one job; returns outcome and message."""
    changes: dict[str, Any] = dict(event.changes or {})
    if job.state in FINAL:
        return "ended", COMPLETING
    unknown = sorted(set(changes) - _SPEC_FIELDS)
    if unknown:
        return "refused", f"Update of this parameter is not supported: {unknown[0]}"
    pending = job.state is State.PENDING
    if not pending and set(changes) - _WHILE_RUNNING:
        return "refused", "Job is no longer pending execution"
    if "end_at" in changes:
        if pending or job.start_at is None:
            return "refused", PENDING
        # As limits, in whole minutes.
        changes["time_limit_s"] = max(1, -int(-(changes.pop("end_at") - job.start_at) // MINUTE_S)) * MINUTE_S
    if event.uid != 0 and _denied_to_users(job, changes):
        return "denied", f"{DENIED} for job {job.job_id}"
    spec = _change_spec(job.spec, changes)
    if pending:
        spec = resolve(cluster, spec, held=job.held is not None)
    elif spec.time_limit_s == -1:
        spec = replace(spec, time_limit_s=None)
    before = job
    message = ""
    cluster.dependents.unwatch(before)
    eligible_at = None if spec.dependency != job.spec.dependency else job.eligible_at
    job = replace(job, spec=spec, spec_id=job.job_id, eligible_at=eligible_at)
    if not pending and spec.time_limit_s != before.spec.time_limit_s:
        job = replace(job, limit_changes=job.limit_changes + 1)
        message = _tell_limit(cluster, job)
    cluster.put_job(job)
    if pending:
        cluster.dependents.watch(job)
        cluster.requeue_index(job.job_id, event.now)
        if spec.work_dir != before.spec.work_dir:
            ask_newcomers(cluster, spec)
    if spec.array_limit != before.spec.array_limit:
        cluster.schedule_wanted = True
    if spec.name != before.spec.name:
        cluster.dependents.wake(cluster, before, event.now)  # singletons of the old name
    return "done", message


def _change_spec(spec: JobSpec, changes: dict[str, Any]) -> JobSpec:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in changes.items()}
    if spec.time_limit_s is None:
        values.setdefault("time_limit_s", -1)  # unlimited stays so; None would mean "not given" to `resolve`
    for key in ("features", "prefer", "licenses", "dependency", "std_out"):
        if values.get(key) == "":
            values[key] = None
    if "array_limit" in values:
        values["array_limit"] = values["array_limit"] or None  # 0 lifts it
    if "num_nodes" in values:
        values["nodes_given"] = True
        values.setdefault("num_tasks", max(spec.num_tasks, values["num_nodes"]))
    elif "req_nodes" in values and not spec.nodes_given:
        values["num_nodes"] = max(1, len(values["req_nodes"]))
    if "num_tasks" in changes:
        values["ntasks_given"] = True
    if "cpus_per_task" in changes:
        values["cpus_per_task_given"] = True
    cpus = values.pop("num_cpus", None)
    if cpus is not None:
        tasks = values.get("num_tasks", spec.num_tasks)
        each, rest = divmod(cpus, tasks)
        values |= {"cpus_per_task": each} if each and not rest else {"num_tasks": cpus, "cpus_per_task": 1}
    if "memory_mib" in values:
        values["memory_per_cpu_mib"] = None
    elif "memory_per_cpu_mib" in values:
        values["memory_mib"] = None
    return replace(spec, **values)


def _denied_to_users(job: Job, changes: dict[str, Any]) -> bool:
    """Users may lower, not raise: time limit and priority (nice below zero)."""
    spec = job.spec
    limit = changes.get("time_limit_s", spec.time_limit_s)
    old = spec.time_limit_s
    raised = "time_limit_s" in changes and old is not None and (limit is None or limit == -1 or limit > old)
    shown = display_priority(priority=spec.priority, nice=spec.nice, order=job.order, held=False)
    return bool(raised or changes.get("nice", 0) < min(0, spec.nice) or (changes.get("priority") or 0) > shown)


def _tell_limit(cluster: "Cluster", job: Job) -> str:
    """Order the new limit on each of the job's nodes; returns what is to be said of those that are away."""
    away = []
    for launch in open_launches(cluster, job):
        limit_s = limit_of(launch, job.spec.time_limit_s)
        cluster.emit(SetLimit(node=launch.node, launch_id=launch.id, seq=launch.seq, limit_s=limit_s))
        node = cluster.nodes.get(launch.node)
        if node is None or not node.connected:
            away.append(launch.node)
    return f"{cluster.fold(away)} cannot be reached now; the new limit is kept and told when it can" if away else ""


def open_launches(cluster: "Cluster", job: Job) -> list[Launch]:
    """Return what runs of a job, on each of its nodes."""
    ids = sorted(launch_id for name in job.nodes for launch_id in cluster.node_launches.get(name, ()))
    return [launch for launch in map(cluster.launches.__getitem__, ids) if launch.job_id == job.job_id]


def move_to_top(cluster: "Cluster", event: "JobsControlled", job: Job) -> tuple[str, str]:
    """Put a pending job before all others of its user; they keep their places among everybody's."""
    if not event.admin:
        return "denied", f"{DENIED} for job {job.job_id}"
    if job.state is not State.PENDING:
        return "refused", "Job is no longer pending execution"
    others = [j for j in cluster.jobs.values() if j.state is State.PENDING and j.spec.uid == job.spec.uid and j is not job]
    ahead = sorted((j for j in others if _rank(j) < _rank(job)), key=_rank)
    if not ahead:
        return "done", ""
    best = ahead[0].spec
    spec = replace(job.spec, priority=best.priority, nice=best.nice)
    moved = [replace(job, spec=spec, spec_id=job.job_id), *ahead]
    for one, order in zip(moved, sorted(j.order for j in moved), strict=True):
        cluster.put_job(replace(one, order=order))
        cluster.requeue_index(one.job_id, event.now)
    return "done", ""


def _rank(job: Job) -> tuple[int, int]:
    return queue_key(priority=job.spec.priority, nice=job.spec.nice, order=job.order)
