"""The end of a launch, and what it makes of its job.

One transaction: the launch is closed, its accounting row written, the room freed, dependents woken, and it is decided
whether the job is over, retried (`--retries`) or requeued.  So a FAILED that will be retried is never visible, and
`--wait` and `afternotok` cannot fire early.  A second reading of the same evidence finds the launch closed and changes
nothing.  Only the newest launch of a job moves the job.
"""

from sshq.core.cluster import Cluster
from sshq.core.effects import BringOutput, SetLimit
from sshq.core.events import EndRecord, FenceAnswered, LaunchEnded, LaunchRefused, LaunchStarted, OutputReturned
from sshq.core.gangs import end_parts, limit_of, note_part_end, note_part_start, open_parts
from sshq.core.leftovers import drain_unkillable, note_condemned_end
from sshq.core.lifecycle import FINAL, State, Trigger, next_state
from sshq.core.model import Accounting, Job, Launch, LaunchState, Outcome
from sshq.core.nodes import Node
from sshq.core.replacing import replace
from sshq.core.restored import find_unheard
from sshq.core.steps import make_steps, worst_exit

REFUSALS_MAX = 3  # node refusals in a row until the job is held, as Slurm holds after launch failures
HELD_AFTER_REFUSALS = "launch failed requeued held"
SIGKILL = 9
WHY_OF_NODE = "not heard from the controller for as long as its lease, and ended it"
# What a node says when it cannot take a launch though it answers: words of its runner, and what people are told.
TROUBLES = {
    "no-space": "no space left for launches in the spool",
    "no-files": "no file can be made in the spool: out of inodes, or a quota",
    "read-only": "the spool is on a file system that is read-only now", "space": "no space left for launches in the spool",
    "spawner": "cannot start processes", "fork": "cannot start processes", "spool": "the spool was removed",
}  # fmt: skip


def note_room(cluster: Cluster, node: Node | None, word: str) -> None:
    """Take a node out of use while it cannot take launches, and back when it says that it can."""
    if node is None or (word not in TROUBLES and word != "ok"):
        return
    trouble = TROUBLES.get(word, "")
    if trouble != node.trouble:
        node.trouble = trouble
        cluster.schedule_wanted = True


def note_start(cluster: Cluster, event: LaunchStarted) -> None:
    launch = cluster.launches.get(event.launch_id)
    if launch is None or launch.state is LaunchState.RUNNING:
        return
    launch = cluster.put_launch(
        replace(launch, state=LaunchState.RUNNING, started_at=event.now, pid=event.pid, fencing=False, held=False)
    )
    tell_limit(cluster, launch)
    if launch.rank:
        note_part_start(cluster, launch)
        return
    job = cluster.jobs.get(launch.job_id)
    if job is not None and job.spec.tree is not None and launch.private_dir:
        cluster.trees.note(job.spec.tree, launch.node)
    if job is not None and job.launch_id == launch.id and job.state is State.CONFIGURING:
        state = next_state(job.state, Trigger.LAUNCHED)
        cluster.put_job(replace(job, state=state, start_at=event.now, refusals=0, last_refused_by=None))
        cluster.dependents.wake(cluster, job, event.now)


def tell_limit(cluster: Cluster, launch: Launch | None) -> None:
    """Say a time limit again that was changed after the launch was decided: at its start and at each connect."""
    job = cluster.jobs.get(launch.job_id) if launch is not None and launch.state is LaunchState.RUNNING else None
    if launch is not None and job is not None and job.limit_changes and job.attempt == launch.attempt:
        limit_s = limit_of(launch, job.spec.time_limit_s)
        cluster.emit(SetLimit(node=launch.node, launch_id=launch.id, seq=launch.seq, limit_s=limit_s))


def note_end(cluster: Cluster, event: LaunchEnded) -> bool:
    """An intact record: returns whether it was news."""
    launch = cluster.launches.get(event.launch_id)
    if launch is None:
        note_condemned_end(cluster, event.launch_id, event.record.survivors, event.now)
        return False
    if event.record.how == "never":
        why = event.record.why or "stopped before the start"
        note_room(cluster, cluster.nodes.get(launch.node), why)
        settle(cluster, launch, Outcome.NEVER_STARTED, event.now, why=why, by_node=why in TROUBLES)
        return True
    if event.record.how == "lease":
        settle(cluster, launch, Outcome.LEASE_ENDED, event.now, record=event.record, why=f"{launch.node} had {WHY_OF_NODE}")
        return True
    settle(cluster, launch, Outcome.EXITED, event.now, record=event.record)
    return True


def note_refusal(cluster: Cluster, event: LaunchRefused) -> None:
    """Nothing of this call runs; of a launch that has started by another call, it says nothing."""
    launch = cluster.launches.get(event.launch_id)
    if launch is not None and launch.state is LaunchState.INTENT:
        if event.why in TROUBLES:
            note_room(cluster, cluster.nodes.get(launch.node), event.why)
        settle(cluster, launch, Outcome.NEVER_STARTED, event.now, why=event.why, by_node=not (launch.fencing or event.passing))


def note_fence(cluster: Cluster, event: FenceAnswered) -> None:
    """Won: it never starts.  Lost: a listing will tell what became of it.  Forgotten: the node had settled it."""
    launch = cluster.launches.get(event.launch_id)
    if launch is None:
        note_condemned_end(cluster, event.launch_id, (), event.now)
        return
    if event.forgotten:
        settle(cluster, launch, Outcome.LOST, event.now, why="the node had already settled and forgotten it")
    elif event.won:
        settle(cluster, launch, Outcome.NEVER_STARTED, event.now, why="fenced", by_node=False)


def note_output(cluster: Cluster, event: OutputReturned) -> None:
    job = cluster.jobs.get(event.job_id)
    if job is None or not job.output_pending or job.launch_id != event.launch_id:
        return
    problem = f"output not brought home: {event.problem}" if event.problem else ""
    note = "; ".join(filter(None, (problem, event.hint, event.note, job.note)))
    cluster.put_job(replace(job, output_pending=False, note=note or None))
    if not event.problem and job.nodes:
        cluster.acknowledge(job.nodes[0], (event.launch_id,))


def settle(
    cluster: Cluster, launch: Launch, outcome: Outcome, now: float, *,
    record: EndRecord | None = None, why: str = "", by_node: bool = False, refused_by: str = "",
) -> None:  # fmt: skip
    """Close `launch` with its evidence and move its job, if it is the job's script and nothing else of it is open."""
    if outcome is Outcome.NEVER_STARTED and launch.state is LaunchState.RUNNING:
        # It did start; what is gone is its directory.  Whether it still runs cannot be told from there any more.
        outcome, why = Outcome.LOST, f"it had started, but its directory on {launch.node} is gone"
    job = cluster.jobs.get(launch.job_id)
    started = launch.started_at
    ended = now
    if record is not None and record.duration_s is not None:
        if started is None:
            started = max(launch.decided_at, now - record.duration_s)
        ended = min(now, max(started, started + record.duration_s))
    image = (record.image or None) if record is not None else None
    closed = replace(launch, state=LaunchState.SETTLED, outcome=outcome, started_at=started, ended_at=ended, image=image)
    cluster.put_launch(closed)
    trigger, code, signal = _read(record, outcome, job)
    state = _STATE_OF.get(trigger, State.PENDING)
    cluster.store_row(
        Accounting(
            launch_id=launch.id, job_id=launch.job_id, attempt=launch.attempt, node=launch.node, state=state, outcome=outcome,
            start_at=started, end_at=ended, exit_code=code, exit_signal=signal,
            cpu_time_s=record.cpu_time_s if record else None, system_s=record.system_s if record else None,
            cancelled_by=job.cancel_uid if job and trigger is Trigger.CANCELLED else None,
            detail=why, survivors=record.survivors if record else (), rank=launch.rank,
        )
    )  # fmt: skip
    steps = make_steps(closed, job, record.steps, ended_at=ended) if record is not None and not launch.rank else []
    for step in steps:
        cluster.store_row(step)
    newest = job is not None and job.launch_id == launch.id and job.state not in FINAL and job.state is not State.PENDING
    if record is not None:
        drain_unkillable(cluster, launch.node, record.survivors, now)
    if launch.rank:
        cluster.acknowledge(launch.node, (launch.id,))
        note_part_end(cluster, closed, now, why=why, by_node=by_node)
        return
    if job is not None and newest:
        derived_code, derived_signal = worst_exit(steps) if record is not None else (job.derived_code, job.derived_signal)
        job = replace(
            job, exit_code=code, exit_signal=signal, end_at=ended, start_at=started or job.start_at,
            cpu_time_s=record.cpu_time_s if record is not None else job.cpu_time_s,
            system_s=record.system_s if record is not None else job.system_s,
            survivors=record.survivors if record is not None else job.survivors,
            derived_code=derived_code, derived_signal=derived_signal, verdict=None,
        )  # fmt: skip
        node = refused_by or launch.node
        if open_parts(cluster, job):
            end_parts(cluster, cluster.put_job(replace(job, verdict=(trigger.name, outcome.name, node, why, by_node))))
        else:
            _move_and_tell(cluster, job, outcome, trigger, now, node=node, why=why, by_node=by_node)
    else:
        cluster.acknowledge(launch.node, (launch.id,))


def carry_out_verdict(cluster: Cluster, job: Job, now: float) -> None:
    """All launches of the job are settled: what became of its script is what becomes of it."""
    if job.verdict is None or job.launch_id is None:
        return
    trigger, outcome, node, why, by_node = job.verdict
    job = replace(job, verdict=None)
    _move_and_tell(cluster, job, Outcome[outcome], Trigger[trigger], now, node=node, why=why, by_node=by_node)


def _move_and_tell(
    cluster: Cluster, job: Job, outcome: Outcome, trigger: Trigger, now: float, *, node: str, why: str, by_node: bool
) -> None:  # fmt: skip
    """As `_move`, and have the node of its script bring the output, or forget the launch."""
    script_node, launch_id = job.nodes[0], job.launch_id
    _move(cluster, job, outcome, trigger, now, node=node, why=why, by_node=by_node)
    after = cluster.jobs[job.job_id]
    if launch_id is None:
        return
    if after.output_pending and after.launch_id == launch_id:
        cluster.emit(BringOutput(node=script_node, job=after, launch_id=launch_id))
    else:
        cluster.acknowledge(script_node, (launch_id,))


NO_OUTPUT_SIGNAL = 53  # Slurm: FAILED 0:53, the output file could not be opened
_STATE_OF = {
    Trigger.EXITED_ZERO: State.COMPLETED,
    Trigger.EXITED_NONZERO: State.FAILED,
    Trigger.MEMORY_EXCEEDED: State.OUT_OF_MEMORY,
    Trigger.CANCELLED: State.CANCELLED,
    Trigger.TIME_LIMIT: State.TIMEOUT,
    Trigger.NODE_LOST: State.NODE_FAIL,
}


def _read(record: EndRecord | None, outcome: Outcome, job: Job | None) -> tuple[Trigger, int | None, int | None]:
    """What the evidence says: trigger, exit code, signal."""
    if outcome is Outcome.NEVER_STARTED:
        cancelled = job is not None and job.cancel_uid is not None
        return (Trigger.CANCELLED if cancelled else Trigger.LAUNCH_FAILED), (0 if cancelled else None), None
    if record is None or outcome is Outcome.LEASE_ENDED:
        return Trigger.NODE_LOST, None, None
    if record.how == "output":
        return Trigger.EXITED_NONZERO, 0, NO_OUTPUT_SIGNAL
    if record.timed_out:
        return Trigger.TIME_LIMIT, 0, None if record.code == 0 and not record.signal else record.signal or 0
    clean = record.code == 0 and not record.signal
    if record.cancelled:
        if job is not None and job.lost_node is not None and job.cancel_uid is None:
            return Trigger.NODE_LOST, None, None
        return Trigger.CANCELLED, 0, record.signal or 15
    if clean:
        return Trigger.EXITED_ZERO, 0, None
    if record.oom:
        return Trigger.MEMORY_EXCEEDED, 0, record.signal
    return Trigger.EXITED_NONZERO, record.code if not record.signal else 0, record.signal


_REQUEUABLE = frozenset({Trigger.CANCELLED, Trigger.EXITED_NONZERO, Trigger.NODE_LOST})


def _move(
    cluster: Cluster, job: Job, outcome: Outcome, trigger: Trigger, now: float, *, node: str, why: str, by_node: bool
) -> None:  # fmt: skip
    """Retry, requeue, hold or end: decided here and nowhere else."""
    wanted = job.cancel_uid is None
    node_gone = outcome in (Outcome.REBOOTED, Outcome.LEASE_ENDED) or job.lost_node is not None
    again_after_loss = job.spec.requeue == "always" or (node_gone and job.spec.requeue == "yes")
    # Of a restored job an earlier launch may be found that way; a later one may still run elsewhere.
    if outcome is Outcome.NEVER_STARTED and (wanted or find_unheard(cluster, job)):
        _again_unstarted(cluster, job, node, now, why=why, by_node=by_node)
    elif job.requeue_asked and outcome is not Outcome.SPOOL_LOST and trigger in _REQUEUABLE:
        _again(cluster, replace(job, cancel_uid=None), trigger, now, held=job.requeue_held)
    elif trigger is Trigger.NODE_LOST and wanted and again_after_loss:
        _again(cluster, job, trigger, now)
    elif trigger is Trigger.EXITED_NONZERO and wanted and job.failures < job.spec.retries:
        _again(cluster, replace(job, failures=job.failures + 1), trigger, now)
    else:
        if trigger is Trigger.NODE_LOST and job.cancel_uid is not None:
            trigger = Trigger.CANCELLED
        reason = _final_reason(trigger, job)
        # A private directory's output comes home before anybody is told that the job is over.
        home = job.private_dir and outcome is Outcome.EXITED
        if (reason, home) != (job.reason, job.output_pending) or why:
            job = replace(job, reason=reason, output_pending=home, note=why or job.note)
        cluster.finish(job, trigger, now)


def _final_reason(trigger: Trigger, job: Job) -> str:
    if trigger is Trigger.EXITED_NONZERO:
        if job.exit_signal == SIGKILL:
            return "JobLaunchFailure"  # Slurm's word for a batch script that was killed
        return f"RaisedSignal:{job.exit_signal}" if job.exit_signal else "NonZeroExitCode"
    if trigger is Trigger.TIME_LIMIT:
        return "TimeLimit"
    if trigger is Trigger.MEMORY_EXCEEDED:
        return "OutOfMemory"
    return "NodeDown" if trigger is Trigger.NODE_LOST else "None"


def _again_unstarted(cluster: Cluster, job: Job, node: str, now: float, *, why: str, by_node: bool) -> None:
    """It provably never ran: back to the queue in its old place; a job that nodes keep refusing is held."""
    job = cluster.release_room(cluster.move(job, Trigger.LAUNCH_FAILED), now)
    refusals = job.refusals + 1 if by_node else job.refusals
    held = "user" if job.requeue_asked and job.requeue_held else job.held
    job = replace(
        job, refusals=refusals, start_at=None, end_at=None, exit_code=None, held=held, requeue_asked=False, requeue_held=False,
        last_refused_by=node if by_node else job.last_refused_by,
    )  # fmt: skip
    if refusals >= REFUSALS_MAX:
        job = replace(job, held="user", reason=HELD_AFTER_REFUSALS, note=f"{node} refused it: {why}", refusals=0)
    elif by_node:
        job = replace(job, note=f"{node} refused it: {why}")
    cluster.put_job(job)
    cluster.requeue_index(job.job_id, now)
    cluster.dependents.wake(cluster, job, now)  # an earlier singleton that waited while this one ran


def _again(cluster: Cluster, job: Job, trigger: Trigger, now: float, *, held: bool = False) -> None:
    """Final and at once pending again, at the end of its class; nobody ever sees the final state."""
    ended = cluster.release_room(cluster.move(job, trigger), now)
    job = replace(
        cluster.move(ended, Trigger.REQUEUED),
        restarts=job.restarts + 1, order=cluster.new_order(), start_at=None, end_at=None, eligible_at=now,
        held="user" if held else job.held, requeue_asked=False, requeue_held=False, reason="None", refusals=0,
    )  # fmt: skip
    cluster.put_job(job)
    cluster.requeue_index(job.job_id, now)
    cluster.dependents.wake(cluster, job, now)  # an earlier singleton that waited while this one ran
