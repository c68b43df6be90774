"""What time does: begin times and deadlines come due, finished jobs leave the live queue."""

from dataclasses import replace
from typing import TYPE_CHECKING

from sshq.core.events import PurgeAsked, TimePassed
from sshq.core.lifecycle import State, Trigger
from sshq.core.model import Job, Purged
from sshq.core.reservations import expire
from sshq.core.restored import find_unheard

if TYPE_CHECKING:
    from sshq.core.cluster import Cluster


def pass_time(cluster: "Cluster", event: TimePassed) -> None:
    """Look again at the jobs and reservations whose time has come."""
    if cluster.reservations:
        expire(cluster, event.now)
    for job_id in cluster.due_timers(event.now):
        job = cluster.jobs.get(job_id)
        if job is None or job.state is not State.PENDING:
            continue
        deadline = job.spec.deadline_at
        late = deadline is not None and (deadline <= event.now or deadline - (job.spec.time_limit_s or 0) < event.now)
        if late and not find_unheard(cluster, job):
            cluster.finish(replace(job, reason="DeadLine"), Trigger.DEADLINE_PASSED, event.now)
        else:
            cluster.requeue_index(job_id, event.now)


def purge(cluster: "Cluster", event: PurgeAsked) -> int:
    """Finished jobs leave the live queue, oldest first; a job somebody still depends on or whose output is away stays."""
    done = sorted(
        (j for j in map(cluster.jobs.__getitem__, cluster.index.final) if not j.output_pending and j.released),
        key=lambda j: (j.end_at or 0.0, j.job_id),
    )
    wanted = set(event.job_ids)
    going: list[Job] = []
    for i, job in enumerate(done):
        if len(going) == event.at_most:
            break
        old = event.older_than_s is not None and (job.end_at or 0.0) <= event.now - event.older_than_s
        surplus = event.keep is not None and len(done) - i > event.keep
        named = job.job_id in wanted or (job.array_job_id or -1) in wanted or (job.array_job_id, job.array_task_id) in event.tasks
        if (old or surplus or named) and not cluster.dependents.is_needed(job):
            going.append(job)
    for job in going:
        _forget(cluster, job)
    return len(going)


def _forget(cluster: "Cluster", job: Job) -> None:
    cluster.index.change(job, None)
    del cluster.jobs[job.job_id]
    if job.array_job_id is not None:
        members = cluster.array_members.get(job.array_job_id, set())
        members.discard(job.job_id)
        if not members:
            cluster.array_members.pop(job.array_job_id, None)
        cluster.array_sets.pop(job.job_id, None)
    cluster.count_environment(job, -1)
    cluster.store_row(Purged(job_id=job.job_id))
