"""What a starting controller takes in of its store: a hundred thousand jobs, so in bulk wherever that comes to the same.

Most of a long queue simply waits: nothing but its place has to be found.  Whoever is more (held, dependent, to begin later,
running, of an array, …) is looked at one by one, as after an event.
"""

from typing import TYPE_CHECKING

from sshq.core.arrays import parse_indices
from sshq.core.lifecycle import FINAL, State
from sshq.core.model import Job
from sshq.core.placement import request_of

if TYPE_CHECKING:
    from sshq.core.cluster import Cluster


def restore_jobs(cluster: "Cluster", jobs: list[Job], now: float) -> None:
    """Enter jobs into all indexes; nothing was there before, and launches and nodes are."""
    cluster.index.take_in(jobs)
    cluster.environments.update(job.spec.environ for job in jobs)
    cluster.jobs.update((job.job_id, job) for job in jobs)
    for job in jobs:
        if job.array_job_id is not None or job.array_tasks is not None or job.state is not State.PENDING or not job.released:
            _restore_special(cluster, job)
        if job.output_pending:
            cluster.outputs_away.add(job.job_id)
        if job.restored_epoch and job.state not in FINAL:
            cluster.doubted.add(job.job_id)
        if job.spec.dependency:
            cluster.dependents.watch(job)
    waiting = [job for job in jobs if job.state is State.PENDING]
    simple = [job for job in waiting if _only_waits(job, now)]
    cluster.pending.add_many((job.job_id, request_of(job), cluster.queue_place(job)) for job in simple)
    cluster.schedule_wanted = cluster.schedule_wanted or bool(simple)
    taken = {job.job_id for job in simple}
    for job in waiting:
        if job.job_id not in taken and cluster.jobs[job.job_id].state is State.PENDING:  # not ended meanwhile by the one before
            cluster.requeue_index(job.job_id, now)


def _restore_special(cluster: "Cluster", job: Job) -> None:
    if job.is_array_record:
        cluster.array_sets[job.job_id] = parse_indices(job.array_tasks or "")
    if job.array_job_id is not None:
        cluster.array_members.setdefault(job.array_job_id, set()).add(job.job_id)
    if not job.released:
        cluster.take_room(job)


def _only_waits(job: Job, now: float) -> bool:
    """Whether `Cluster.requeue_index` would do no more than put it among those to be considered."""
    spec = job.spec
    return (
        job.reason == "None"
        and job.held is None
        and job.eligible_at is not None
        and job.eligible_at <= now
        and spec.begin_at is None
        and spec.deadline_at is None
        and not spec.dependency
        and not job.restored_epoch
    )

