"""What a node's listing says about what the store holds open.  Absence of evidence is never an outcome.

| store, node                                   | result |
|-----------------------------------------------|--------|
| open, intact exit record                      | settle by the record |
| open, no `go`                                 | fence: the arbiter decides |
| open, `go` by the supervisor, anything alive  | RUNNING |
| open, `go`, all dead, no record               | LOST (it may have run) |
| open, `go` is a directory                     | NEVER_STARTED |
| open, another boot, no record                 | REBOOTED, `go` or not |
| open, another spool, no trace                 | SPOOL_LOST |
| closed, directory there                       | acknowledge again |
| unknown, `go` by the supervisor               | adopted where its job is known, else kept as an orphan; never killed |
| declared dead by an administrator             | killed, and proved gone before slots open (`leftovers`) |
"""

from dataclasses import replace

from sshq.core.cluster import Cluster
from sshq.core.effects import FenceLaunch
from sshq.core.events import LaunchEnded, LaunchStarted, NodeConnected, NodeEntry, NodeListed
from sshq.core.gangs import adopt_part
from sshq.core.hostfacts import note_facts
from sshq.core.leftovers import condemn, pursue_condemned
from sshq.core.lifecycle import FINAL, State, Trigger
from sshq.core.model import SEQ_PER_GENERATION, Job, Launch, LaunchState, Outcome
from sshq.core.settle import note_end, note_start, settle, tell_limit

SIGKILL, SIGTERM, SIGCONT, SIGSTOP = 9, 15, 18, 19


def take_listing(cluster: Cluster, event: NodeListed) -> None:
    """A sweep on a live connection.  A stale one (older generation) says nothing."""
    node = cluster.nodes.get(event.name)
    if node is None or not node.connected or node.record.generation != event.generation:
        return
    entries = {e.launch_id: e for e in event.entries}
    _adopt_unknown(cluster, event)
    for launch in _open_on(cluster, event.name):
        if launch.id not in cluster.launches:
            continue  # settled with another launch of its job
        # A call of an older generation is refused by the node: silence about it is complete, whatever was sent here.
        closed = launch.seq < event.generation * SEQ_PER_GENERATION
        if launch.id in entries or launch.id in event.sent or closed:
            judge_launch(cluster, launch, entries.get(launch.id), event.now)
    if event.settled is not None:
        _acknowledge_closed(cluster, event)
        pursue_condemned(cluster, node, entries)


def take_first_listing(cluster: Cluster, event: NodeConnected) -> None:
    """The listing of a new connection: calls sent before it are closed by its generation, so silence is fenced."""
    entries = {e.launch_id: e for e in event.entries}
    _adopt_unknown(cluster, event)
    for launch in _open_on(cluster, event.name):
        if launch.id not in cluster.launches:
            continue
        judge_launch(cluster, launch, entries.get(launch.id), event.now)
        _repeat_suspension(cluster, cluster.launches.get(launch.id))
        tell_limit(cluster, cluster.launches.get(launch.id))
    _acknowledge_closed(cluster, event)
    pursue_condemned(cluster, cluster.nodes[event.name], entries)


def _repeat_suspension(cluster: Cluster, launch: Launch | None) -> None:
    """A suspend or resume may have met a dead connection: STOP and CONT bear repeating.  What is being ended must not stop."""
    job = cluster.jobs.get(launch.job_id) if launch is not None and launch.state is LaunchState.RUNNING else None
    if launch is None or job is None or not job.suspensions:
        return
    if job.launch_id != launch.id and launch.id not in job.part_launches:
        return
    if job.cancel_uid is None and not job.requeue_asked and job.lost_node is None:
        cluster.kill(launch.id, SIGSTOP if job.state is State.SUSPENDED else SIGCONT, cancel=False, whole=True)


def _open_on(cluster: Cluster, name: str) -> list[Launch]:
    return [cluster.launches[i] for i in sorted(cluster.node_launches.get(name, ()))]


def judge_launch(cluster: Cluster, launch: Launch, entry: NodeEntry | None, now: float) -> None:
    """Apply the table to one open launch."""
    node = cluster.nodes[launch.node]
    if launch.held and entry is None:
        return  # no node has been told of it, nor will this one be, before the parts of its job have started
    if entry is not None and entry.record is not None:
        note_end(cluster, LaunchEnded(now=now, launch_id=launch.id, record=entry.record))
    elif entry is not None and entry.go == "dir":
        settle(cluster, launch, Outcome.NEVER_STARTED, now, why="fenced")
    elif entry is None and node.record.spool_id != launch.spool_id:
        if node.record.boot == launch.boot:  # its processes may live: they go before anything starts here, itself once more too
            condemn(cluster, node, (launch.id,))
        settle(cluster, launch, Outcome.SPOOL_LOST, now, why=f"the spool on {launch.node} is not the one it was sent to")
    elif node.record.boot != launch.boot:
        # Whether it had started cannot be told: a power cut may have taken an arbiter that was not on the disk yet.
        settle(cluster, launch, Outcome.REBOOTED, now, why=f"{launch.node} was rebooted")
    elif entry is None or not entry.go:
        cluster.put_launch(replace(launch, fencing=True))
        cluster.emit(FenceLaunch(node=launch.node, launch_id=launch.id, seq=launch.seq))
    elif entry.supervisor_alive or entry.job_alive:
        note_start(cluster, LaunchStarted(now=now, launch_id=launch.id, pid=entry.pid))
        _repeat_kill(cluster, launch)
    else:
        settle(cluster, launch, Outcome.LOST, now, why=f"supervisor and job on {launch.node} are gone without a record")


def _repeat_kill(cluster: Cluster, launch: Launch) -> None:
    """An order to end it may have met a dead connection."""
    job = cluster.jobs.get(launch.job_id)
    if job is None or (job.launch_id != launch.id and launch.id not in job.part_launches):
        return
    if job.verdict is not None:
        cluster.kill(launch.id, SIGKILL)
    elif job.cancel_uid is not None or job.requeue_asked or job.lost_node is not None:
        cluster.kill(launch.id, SIGTERM)


def _adopt_unknown(cluster: Cluster, event: NodeListed | NodeConnected) -> None:
    """Before anything is judged, launches are taken in that a restored store has not heard of; the newest moves its job."""
    for entry in sorted(event.entries, key=lambda e: -e.attempt):
        if entry.launch_id in cluster.launches:
            continue
        if entry.rank:
            adopt_part(cluster, event.name, entry, event.now)
        else:
            _adopt(cluster, event.name, entry, event.now)


def _adopt(cluster: Cluster, name: str, entry: NodeEntry, now: float) -> None:
    """A later attempt than the store knows, which had been started: whatever the job seems to be, this is its launch.

    Waiting in the backup, it was launched since.  Launched in the backup, that launch had been settled, and will be again,
    without moving the job.  Ended since the restore, it was by the evidence of such an older launch on another node.
    """
    job = cluster.jobs.get(entry.job_id)
    if job is None or job.is_array_record or entry.go != "file" or entry.attempt <= job.attempt:
        return
    if job.state is not State.PENDING and not job.restored_epoch:
        return
    node = cluster.nodes[name]
    if not job.released:
        job = cluster.release_room(job, now)
    slots = tuple(node.lowest_free_slots(job.spec.placed_tasks))
    launch = Launch(
        id=entry.launch_id, job_id=job.job_id, attempt=entry.attempt, node=name, seq=entry.seq, epoch=cluster.epoch,
        boot=node.record.boot, spool_id=node.record.spool_id, slot=slots[0] if slots else 0, decided_at=now,
        facts=note_facts(cluster, node),
    )  # fmt: skip
    if job.state in FINAL:
        job = cluster.move(job, Trigger.REQUEUED)
    elif job.state is State.PENDING:
        cluster.pending.remove(job.job_id)
        cluster.dependents.unwatch(job)
    else:
        job = replace(job, state=State.PENDING)
    job = replace(
        cluster.move(job, Trigger.ALLOCATED), reason="None", attempt=entry.attempt, launch_id=launch.id, nodes=(name,),
        slots=slots, other_slots=(), part_launches=(), verdict=None,
        lost_node=None, released=False, start_at=now, end_at=None, exit_code=None,
        exit_signal=None, output_pending=False,
        note=f"found on {name}, adopted",
    )  # fmt: skip
    cluster.take_room(job)
    cluster.put_job(job)
    cluster.put_launch(launch)
    cluster.orphans.pop(launch.id, None)


def _acknowledge_closed(cluster: Cluster, event: NodeListed | NodeConnected) -> None:
    """Files of closed launches are to be removed; launches nobody here knows are kept and shown."""
    again = []
    node = cluster.nodes[event.name]
    for entry in event.entries:
        cluster.living_scripts.pop(entry.launch_id, None)
        if entry.launch_id in cluster.launches or entry.launch_id in node.record.condemned:
            continue
        if not entry.rank and (entry.supervisor_alive or entry.job_alive):
            cluster.living_scripts[entry.launch_id] = entry.job_id
        cluster.next_job_id = max(cluster.next_job_id, entry.job_id + 1)  # restored: never give its number out again
        if _is_closed(cluster, entry, event.settled or frozenset()):
            if not _holds_output(cluster.jobs.get(entry.job_id), entry):
                again.append(entry.launch_id)
            cluster.orphans.pop(entry.launch_id, None)
        else:
            cluster.orphans[entry.launch_id] = (event.name, entry.job_id)
    if again:
        cluster.acknowledge(event.name, tuple(again))


def _is_closed(cluster: Cluster, entry: NodeEntry, settled: frozenset[str]) -> bool:
    """Whether a launch that is not open here was settled here.  What still runs is never taken for settled."""
    if entry.supervisor_alive or entry.job_alive:
        return False
    job = cluster.jobs.get(entry.job_id)
    return entry.launch_id in settled or (job is not None and entry.attempt <= job.attempt)


def _holds_output(job: Job | None, entry: NodeEntry) -> bool:
    """Whether its directory has output that is not home: being brought, or what could not be."""
    if job is None or job.launch_id != entry.launch_id:
        return False
    return job.output_pending or job.verdict is not None or (job.note is not None and "output not brought home" in job.note)
