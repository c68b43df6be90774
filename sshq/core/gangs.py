"""Jobs over several nodes: one launch on each.  The script's is the first; the others, its parts, run a holder.

A part is a launch like any other, with its own ID, seq, claim, arbiter and record, so all that is true of one launch is true
of each.  Four rules tie them together:

* The script is *held* until every part has said that it started: not sent, so that nothing of the job has run when one
  of them is refused.  Then the script is settled as never started, the others are ended, and the job goes back to its place.
* The job is over when its script is.  What became of it is noted (`Job.verdict`) and the parts are killed; the verdict
  is carried out, and the room given back, when the last launch is settled.
* A part that ends before the script takes the job with it, as a node's failure does in Slurm: the script is killed.
* Whoever cancels, stops or signals the job means all of its launches.
"""

from dataclasses import replace

from sshq.core.cluster import Cluster
from sshq.core.effects import KillLaunch
from sshq.core.events import NodeEntry
from sshq.core.hostfacts import note_facts
from sshq.core.lifecycle import FINAL, State
from sshq.core.model import SEQ_PER_GENERATION, Job, Launch, LaunchState, Outcome

SIGTERM, SIGKILL, SIGCONT, SIGSTOP = 15, 9, 18, 19
PART_LIMIT_S = 600  # longer than the script, its grace included
LIVE = (State.CONFIGURING, State.RUNNING, State.SUSPENDED)


def limit_of(launch: Launch, limit_s: int | None) -> int | None:
    """Return the time limit of one launch of a job: a part's own is only for when nobody can end it after its script."""
    return limit_s if limit_s is None or not launch.rank else limit_s + PART_LIMIT_S


def open_parts(cluster: Cluster, job: Job) -> list[Launch]:
    """Return those of a job's parts that are not settled."""
    return [cluster.launches[i] for i in job.part_launches if i in cluster.launches]


def note_part_start(cluster: Cluster, part: Launch) -> None:
    """One more part is there; the script is sent when all are."""
    job = cluster.jobs.get(part.job_id)
    if job is None or part.id not in job.part_launches:
        return
    if job.verdict is not None:
        cluster.kill(part.id, SIGKILL)
        return
    script = cluster.launches.get(job.launch_id or "")
    if script is not None and script.held and all(one.state is LaunchState.RUNNING for one in open_parts(cluster, job)):
        _send(cluster, script, job)


def _send(cluster: Cluster, script: Launch, job: Job) -> None:
    """The script's node may have been away meanwhile: the launch is one of its present generation and boot."""
    node = cluster.nodes.get(script.node)
    if node is not None:
        record = node.record
        script = replace(
            script, seq=record.generation * SEQ_PER_GENERATION + node.next_n, boot=record.boot, spool_id=record.spool_id
        )
        node.next_n += 1
    script = cluster.put_launch(replace(script, held=False))
    cluster.start_effect(script, job)


def make_parts(cluster: Cluster, job: Job, script: Launch, random: bytes, counter: int) -> Job:
    """Decide a launch on each other node of a job that was just allocated, and hold back its script until they run."""
    parts = []
    for rank, name in enumerate(job.nodes[1:], 1):
        node = cluster.nodes[name]
        part = Launch(
            id=cluster.new_launch_id(random, counter + (rank << 20), script.decided_at), job_id=job.job_id, attempt=job.attempt,
            node=name,
            seq=node.record.generation * SEQ_PER_GENERATION + node.next_n, epoch=cluster.epoch, boot=node.record.boot,
            spool_id=node.record.spool_id, slot=job.other_slots[rank - 1][0], decided_at=script.decided_at,
            private_dir=cluster.directories.is_private(job.spec, name), rank=rank, facts=note_facts(cluster, node),
        )  # fmt: skip
        node.next_n += 1
        parts.append(part)
    job = cluster.put_job(replace(job, part_launches=tuple(part.id for part in parts)))
    for part in parts:
        cluster.put_launch(part)
        cluster.start_effect(part, job)
    return job


def end_parts(cluster: Cluster, job: Job) -> None:
    """The script is over: so is all else of the job."""
    for part in open_parts(cluster, job):
        cluster.kill(part.id, SIGKILL)


def kill_all(
    cluster: Cluster, job: Job, signal: int, *, now: float, cancel: bool = True, batch_only: bool = False, whole: bool = False
) -> None:
    """Order a signal to all launches of a job; one that its script has not begun to run ends here and now if it is cancelled."""
    script = cluster.launches.get(job.launch_id or "")
    if script is not None and script.held:
        if cancel:
            from sshq.core.settle import settle

            settle(cluster, script, Outcome.NEVER_STARTED, now, why="cancelled before its start")
        return
    cluster.kill(job.launch_id, signal, cancel=cancel, batch_only=batch_only, whole=whole)
    for part in () if batch_only else open_parts(cluster, job):
        # A signal that ends nothing is for the tasks: the holder itself is not meant.
        cluster.kill(part.id, signal, cancel=cancel, whole=whole, tasks_only=not cancel and signal not in (SIGCONT, SIGSTOP))


def note_part_end(cluster: Cluster, part: Launch, now: float, *, why: str, by_node: bool) -> None:
    """A part is settled: before its script, that is the end of the job; after it, perhaps the last that was waited for."""
    from sshq.core.settle import carry_out_verdict, settle

    job = cluster.jobs.get(part.job_id)
    if job is None or part.id not in job.part_launches or job.state not in LIVE:
        return
    if job.verdict is None:
        script = cluster.launches.get(job.launch_id or "")
        told = why or f"the part on {part.node} ended"
        if script is None:
            return
        if script.held:
            settle(cluster, script, Outcome.NEVER_STARTED, now, why=told, by_node=by_node, refused_by=part.node)
            return
        if job.cancel_uid is None and not job.requeue_asked and job.lost_node is None:
            cluster.put_job(replace(job, lost_node=part.node, note=told))
            cluster.kill(script.id, SIGTERM)
        return
    if not open_parts(cluster, job):
        carry_out_verdict(cluster, job, now)


def _has_no_script(cluster: Cluster, job_id: int) -> bool:
    """Whether no node, and all of them have been heard, runs a script of a job that this store does not know to run."""
    heard = all(node.connected or node.record.down_asserted for node in cluster.nodes.values() if not node.removed)
    return heard and job_id not in cluster.living_scripts.values()


def adopt_part(cluster: Cluster, name: str, entry: NodeEntry, now: float) -> None:
    """A part that a restored store has not heard of.  With its script, once that is known; after it, it ends."""
    job = cluster.jobs.get(entry.job_id)
    if entry.go != "file" or (job is not None and entry.launch_id in job.part_launches):
        return  # the latter is one of ours, and settled
    if job is None or job.is_array_record or entry.attempt > job.attempt:
        over = _has_no_script(cluster, entry.job_id)  # else it may yet be found: looked at again with the next listing
    else:
        over = job.state in FINAL or entry.attempt < job.attempt or job.verdict is not None
    if over and (entry.supervisor_alive or entry.job_alive):
        cluster.emit(KillLaunch(node=name, launch_id=entry.launch_id, seq=entry.seq, signal=SIGKILL))
    if over or job is None or entry.attempt != job.attempt or job.state not in LIVE or not job.restored_epoch:
        return
    node = cluster.nodes[name]
    part = Launch(
        id=entry.launch_id, job_id=job.job_id, attempt=entry.attempt, node=name, seq=entry.seq, epoch=cluster.epoch,
        boot=node.record.boot, spool_id=node.record.spool_id, rank=entry.rank, decided_at=now,
    )  # fmt: skip
    if name not in job.nodes:
        job = cluster.release_room(job, now)
        slots = tuple(node.lowest_free_slots(1))
        job = replace(
            job, nodes=(*job.nodes, name), other_slots=(*job.other_slots, slots), gpus=(*job.gpus, ()) if job.gpus else (),
            released=False,
        )  # fmt: skip
        cluster.take_room(job)
    cluster.put_job(replace(job, part_launches=(*job.part_launches, part.id)))
    cluster.put_launch(part)
    cluster.orphans.pop(part.id, None)
