"""A restored backup: what may have happened since it was made, until every node has been asked.

Whatever was not over in the backup may have been launched since.  Such a job is held; a cancel of it is noted, and a
release takes effect, only when each node has been listed since the restore: until then the job may run there.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from sshq.core.lifecycle import FINAL, State, Trigger
from sshq.core.model import Job, Row

if TYPE_CHECKING:
    from sshq.core.cluster import Cluster

RESTORE_GAP = 10_000  # job numbers given out after the backup was made, perhaps


def hold_after_restore(cluster: "Cluster", now: float) -> list[Row]:
    """Hold what the backup says is not over, for it may have run since; returns the changed rows."""
    cluster.next_job_id += RESTORE_GAP
    for launch in list(cluster.launches.values()):
        if launch.held:  # it may have been sent since the backup was made
            cluster.put_launch(replace(launch, held=False))
    for job in list(cluster.jobs.values()):
        if job.state in FINAL:
            continue
        note = job.note if job.held else "held: the store was restored from a backup"
        cluster.put_job(replace(job, restored_epoch=cluster.epoch, held=job.held or "user", note=note))
        cluster.doubted.add(job.job_id)
        cluster.requeue_index(job.job_id, now)
    return cluster.take_rows()


def find_unheard(cluster: "Cluster", job: Job) -> list[str]:
    """Names of the nodes on which a restored job may run for all we know: not listed since, nor declared dead."""
    if not job.restored_epoch:
        return []
    return sorted(
        n.name for n in cluster.nodes.values() if n.record.heard_epoch < job.restored_epoch and not n.record.down_asserted
    )


def end_doubts(cluster: "Cluster", now: float) -> None:
    """A node was heard, left or was declared dead: carry out what waited for it."""
    for job_id in sorted(cluster.doubted):
        job = cluster.jobs.get(job_id)
        if job is None or job.state in FINAL:
            cluster.doubted.discard(job_id)
            continue
        if find_unheard(cluster, job):
            continue
        cluster.doubted.discard(job_id)
        if job.state is not State.PENDING:
            continue
        if job.cancel_uid is not None:
            cluster.finish(replace(job, exit_code=0, reason="None"), Trigger.CANCELLED, now)
        else:
            cluster.requeue_index(job_id, now)
