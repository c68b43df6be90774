"""Users' verbs on jobs: who may, what it does to each state, and what Slurm answers.

A cancel of a pending job ends it here and now.  A cancel of a launched one is noted first, then ordered; the launch's
own evidence ends it: never started, or started and killed, nothing between.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sshq.core.admission import split_task
from sshq.core.amend import COMPLETING, DENIED, amend, move_to_top
from sshq.core.cluster import Cluster
from sshq.core.effects import Audit
from sshq.core.events import JobsControlled, Selected
from sshq.core.gangs import kill_all
from sshq.core.lifecycle import FINAL, State, Trigger
from sshq.core.model import Job
from sshq.core.restored import find_unheard
from sshq.errors import RefusedError

SIGTERM, SIGKILL, SIGCONT, SIGSTOP = 15, 9, 18, 19
INVALID_ID = "Invalid job id specified"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of the request for one job.  `outcome`: done, signalled, cancelled, unknown, ended, denied, refused."""

    job_id: int
    array_task_id: int | None = None
    outcome: str
    message: str = ""


def control(cluster: Cluster, event: JobsControlled) -> list[Answer]:
    """Carry out one verb on each job named; one answer each, in order."""
    answers: list[Answer] = []
    for target in event.targets:
        for job in _jobs_of(cluster, event, target, answers):
            if not (event.admin or event.uid == job.spec.uid):
                outcome, message = "denied", f"{DENIED} for job {job.job_id}"
            else:
                try:
                    outcome, message = _VERBS[event.verb](cluster, event, job)
                except RefusedError as error:
                    outcome, message = "refused", error.message
            answers.append(Answer(job_id=job.job_id, array_task_id=job.array_task_id, outcome=outcome, message=message))
            cluster.emit(Audit(verb=event.verb, uid=event.uid, target=f"job {job.job_id}", result=outcome, detail=message))
    return answers


def _jobs_of(cluster: Cluster, event: JobsControlled, target: Selected, answers: list[Answer]) -> Iterator[Job]:
    """The live records a target means; tasks of an array record are split off only where they must be."""
    members = cluster.array_members.get(target.job_id)
    if target.tasks is None:
        if members:
            found = [cluster.jobs[i] for i in sorted(members, reverse=True) if i in cluster.jobs]
        else:
            found = [cluster.jobs[target.job_id]] if target.job_id in cluster.jobs else []
        if not found:
            answers.append(Answer(job_id=target.job_id, outcome="unknown", message=INVALID_ID))
        yield from found
        return
    if not members:
        answers.append(Answer(job_id=target.job_id, outcome="unknown", message=INVALID_ID))
        return
    wanted = set(target.tasks)
    for job_id in sorted(members):
        job = cluster.jobs.get(job_id)
        if job is None:
            continue
        if job.is_array_record:
            left = cluster.array_sets[job_id]
            meant = sorted(task for task in wanted if task in left)
            wanted.difference_update(meant)
            may = event.admin or event.uid == job.spec.uid
            if meant and (len(meant) == len(left) or not may):
                yield job  # all of it is meant, or nothing will be changed: no need to split
            else:
                for task in meant:
                    yield _split_off(cluster, event, job_id, task)
        elif job.array_task_id in wanted:
            wanted.discard(job.array_task_id)
            yield job
    answers.extend(
        Answer(job_id=target.job_id, array_task_id=task, outcome="unknown", message=INVALID_ID) for task in sorted(wanted)
    )


def _split_off(cluster: Cluster, event: JobsControlled, record_id: int, task: int) -> Job:
    """A task that a verb means gets a job of its own; it waits as the record did, whatever the verb then does or refuses."""
    split = split_task(cluster, cluster.jobs[record_id], task)
    if split.state is State.PENDING:
        cluster.dependents.watch(split)
        cluster.requeue_index(split.job_id, event.now)
    return cluster.jobs[split.job_id]


def _cancel(cluster: Cluster, event: JobsControlled, job: Job) -> tuple[str, str]:
    if job.state in FINAL or job.verdict is not None:
        return "ended", COMPLETING
    if event.signal is not None and event.signal != SIGKILL and job.state is not State.PENDING:
        return _signal(cluster, event, job)
    if job.state is State.PENDING:
        if event.signal is not None and event.signal != SIGKILL:
            return "refused", "Job is pending execution"
        unheard = find_unheard(cluster, job)
        if unheard:
            cluster.put_job(replace(job, cancel_uid=event.uid))
            nodes = cluster.fold(unheard)
            return "cancelled", f"the cancel is kept until {nodes} can be asked: by the restored backup it may run there"
        cluster.finish(replace(job, cancel_uid=event.uid, exit_code=0, reason="None"), Trigger.CANCELLED, event.now)
        return "cancelled", ""
    job = cluster.put_job(replace(job, cancel_uid=event.uid if job.cancel_uid is None else job.cancel_uid, requeue_asked=False))
    signal = SIGKILL if event.signal == SIGKILL else SIGTERM
    kill_all(cluster, job, signal, now=event.now, batch_only=event.batch_only)
    node = cluster.nodes.get(job.nodes[0])
    if node is None or not node.connected:
        return "cancelled", f"{job.nodes[0]} cannot be reached now; the cancel is kept and carried out when it can"
    return "cancelled", ""


def _signal(cluster: Cluster, event: JobsControlled, job: Job) -> tuple[str, str]:
    kill_all(
        cluster, job, event.signal or SIGTERM, now=event.now, cancel=False, batch_only=event.batch_only, whole=event.whole
    )  # fmt: skip
    return "signalled", ""


def _hold(cluster: Cluster, event: JobsControlled, job: Job) -> tuple[str, str]:
    if job.state in FINAL:
        return "ended", COMPLETING
    admin_hold = event.admin and event.uid == 0 and job.spec.uid != 0 and not event.user_hold
    admin_hold = admin_hold or (job.held == "admin" and not event.admin)  # a user's hold does not weaken an administrator's
    cluster.put_job(replace(job, held="admin" if admin_hold else "user"))
    if job.state is State.PENDING:
        cluster.requeue_index(job.job_id, event.now)
    return "done", ""


def _release(cluster: Cluster, event: JobsControlled, job: Job) -> tuple[str, str]:
    if job.state in FINAL:
        return "ended", COMPLETING
    if job.held == "admin" and not event.admin:
        return "denied", f"{DENIED} for job {job.job_id}"
    cluster.put_job(replace(job, held=None, reason="None", refusals=0))
    if job.state is State.PENDING:
        cluster.requeue_index(job.job_id, event.now)
    return "done", ""


def _requeue(cluster: Cluster, event: JobsControlled, job: Job) -> tuple[str, str]:
    if job.state is State.PENDING:
        return "refused", "Job is pending execution"
    if job.spec.requeue == "no" and not event.admin:
        return "refused", "Requested operation is presently disabled"
    if job.state in FINAL:
        if job.output_pending or not job.released:
            return "refused", "Job is still completing"
        job = replace(
            cluster.move(job, Trigger.REQUEUED), restarts=job.restarts + 1, order=cluster.new_order(), start_at=None, end_at=None,
            eligible_at=None if job.eligible_at is None else event.now,  # else it still waits for its dependency
            held="user" if event.hold else None, reason="None", cancel_uid=None, exit_code=None,
            exit_signal=None, failures=0, refusals=0,
        )  # fmt: skip
        cluster.put_job(job)
        cluster.dependents.watch(job)
        cluster.requeue_index(job.job_id, event.now)
        cluster.dependents.wake(cluster, job, event.now)  # who thought it would never come right may hope again
        return "done", ""
    if job.verdict is not None:
        return "refused", "Job is still completing"
    kill_all(cluster, cluster.put_job(replace(job, requeue_asked=True, requeue_held=event.hold)), SIGTERM, now=event.now)
    return "done", ""


def _suspend(cluster: Cluster, event: JobsControlled, job: Job) -> tuple[str, str]:
    if not event.admin or event.uid not in (0, job.spec.uid):
        return "denied", f"{DENIED} for job {job.job_id}"
    if job.state is not State.RUNNING or job.verdict is not None:
        return "refused", "Job is pending execution" if job.state is State.PENDING else COMPLETING
    node = cluster.nodes.get(job.nodes[0])
    if node is None or not node.connected:
        return "refused", f"{job.nodes[0]} cannot be reached now, so nothing can be stopped there"
    kill_all(cluster, job, SIGSTOP, now=event.now, cancel=False, whole=True)
    cluster.put_job(replace(cluster.move(job, Trigger.STOPPED), suspensions=job.suspensions + 1))
    return "done", ""


def _resume(cluster: Cluster, event: JobsControlled, job: Job) -> tuple[str, str]:
    if not event.admin or event.uid not in (0, job.spec.uid):
        return "denied", f"{DENIED} for job {job.job_id}"
    if job.state is not State.SUSPENDED:
        return "refused", "Job is not suspended"
    kill_all(cluster, job, SIGCONT, now=event.now, cancel=False, whole=True)
    cluster.put_job(cluster.move(job, Trigger.CONTINUED))
    return "done", ""


_VERBS = {
    "cancel": _cancel,
    "hold": _hold,
    "release": _release,
    "requeue": _requeue,
    "suspend": _suspend,
    "resume": _resume,
    "update": amend,
    "top": move_to_top,
}
