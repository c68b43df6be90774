"""What a node's listing says about what the store holds open.  Absence of evidence is never an outcome.

| store, node                                   | result |
|-----------------------------------------------|--------|
| open, intact exit record                      | settle by the record |
| open, no `go`                                 | fence: the arbiter decides |
| open, `go` by the supervisor, anything alive  | RUNNING |
| open, `go`, all dead, no record               | LOST (it may have run) |
| open, `go` is a directory                     | NEVER_STARTED |
| open, another boot, no record                 | REBOOTED |
| open, another spool, no trace                 | SPOOL_LOST |
| closed, directory there                       | acknowledge again |
| unknown, `go` by the supervisor               | adopted where its job is known, else kept as an orphan; never killed |
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from sshq.core.cluster import Cluster
from sshq.core.effects import FenceLaunch
from sshq.core.events import LaunchEnded, LaunchStarted, NodeEntry, NodeListed
from sshq.core.lifecycle import State, Trigger
from sshq.core.model import SEQ_PER_GENERATION, Job, Launch, LaunchState, Outcome
from sshq.core.settle import note_end, note_start, settle

SIGTERM = 15


def take_listing(cluster: Cluster, event: NodeListed) -> None:
    """A sweep on a live connection.  A stale one (older generation) says nothing."""
    node = cluster.nodes.get(event.name)
    if node is None or not node.connected or node.record.generation != event.generation:
        return
    entries = {e.launch_id: e for e in event.entries}
    for launch in _open_on(cluster, event.name):
        # A call of an older generation is refused by the node: silence about it is complete, whatever was sent here.
        closed = launch.seq < event.generation * SEQ_PER_GENERATION
        if launch.id in entries or launch.id in event.sent or closed:
            judge_launch(cluster, launch, entries.get(launch.id), event.now)
    _known_and_unknown(cluster, event.name, event.entries, event.now)


def take_first_listing(cluster: Cluster, name: str, entries: Iterable[NodeEntry], now: float) -> None:
    """The listing of a new connection: calls sent before it are closed by its generation, so silence is fenced."""
    entries = tuple(entries)
    by_id: Mapping[str, NodeEntry] = {e.launch_id: e for e in entries}
    for launch in _open_on(cluster, name):
        judge_launch(cluster, launch, by_id.get(launch.id), now)
    _known_and_unknown(cluster, name, entries, now)


def _open_on(cluster: Cluster, name: str) -> list[Launch]:
    return [cluster.launches[i] for i in sorted(cluster.node_launches.get(name, ()))]


def judge_launch(cluster: Cluster, launch: Launch, entry: NodeEntry | None, now: float) -> None:
    """Apply the table to one open launch."""
    node = cluster.nodes[launch.node]
    if entry is not None and entry.record is not None:
        note_end(cluster, LaunchEnded(now=now, launch_id=launch.id, record=entry.record))
    elif entry is not None and entry.go == "dir":
        settle(cluster, launch, Outcome.NEVER_STARTED, now, why="fenced")
    elif entry is None and node.record.spool_id != launch.spool_id:
        settle(cluster, launch, Outcome.SPOOL_LOST, now, why=f"the spool on {launch.node} is not the one it was sent to")
    elif node.record.boot != launch.boot:
        started = launch.state is LaunchState.RUNNING or (entry is not None and entry.go)
        outcome = Outcome.REBOOTED if started else Outcome.NEVER_STARTED
        settle(cluster, launch, outcome, now, why=f"{launch.node} was rebooted")
    elif entry is None or not entry.go:
        cluster.put_launch(replace(launch, fencing=True))
        cluster.emit(FenceLaunch(node=launch.node, launch_id=launch.id, seq=launch.seq))
    elif entry.supervisor_alive or entry.job_alive:
        note_start(cluster, LaunchStarted(now=now, launch_id=launch.id, pid=entry.pid))
        job = cluster.jobs.get(launch.job_id)
        if job is not None and (job.cancel_uid is not None or job.requeue_asked) and job.launch_id == launch.id:
            cluster.kill(launch.id, SIGTERM)
    else:
        settle(cluster, launch, Outcome.LOST, now, why=f"supervisor and job on {launch.node} are gone without a record")


def _known_and_unknown(cluster: Cluster, name: str, entries: Iterable[NodeEntry], now: float) -> None:
    """Directories of closed launches are acknowledged again; launches nobody here knows are kept and shown."""
    again = []
    before = cluster.next_job_id
    for entry in sorted(entries, key=lambda e: -e.attempt):  # only the newest launch moves its job
        if entry.launch_id in cluster.launches:
            continue
        if _adopt(cluster, name, entry, now):
            continue
        if entry.job_id >= before:
            # The store was restored and counts from before this job: never give its number out again.
            cluster.next_job_id = max(cluster.next_job_id, entry.job_id + 1)
            cluster.foreign_jobs.add(entry.job_id)
        if _is_closed(cluster, entry):
            if not _holds_output(cluster.jobs.get(entry.job_id), entry):
                again.append(entry.launch_id)
            cluster.orphans.pop(entry.launch_id, None)
        else:
            cluster.orphans[entry.launch_id] = (name, entry.job_id)
    if again:
        cluster.acknowledge(name, tuple(again))


def _adopt(cluster: Cluster, name: str, entry: NodeEntry, now: float) -> bool:
    """A restored store has not heard of a launch of a job that it holds pending: take it in, and judge it as any other."""
    job = cluster.jobs.get(entry.job_id)
    if job is None or job.state is not State.PENDING or job.is_array_record or entry.go != "file" or entry.attempt <= job.attempt:
        return False
    node = cluster.nodes[name]
    slots = tuple(node.lowest_free_slots(job.spec.num_tasks))
    launch = Launch(
        id=entry.launch_id, job_id=job.job_id, attempt=entry.attempt, node=name, seq=entry.seq, epoch=cluster.epoch,
        boot=node.record.boot, spool_id=node.record.spool_id, slot=slots[0] if slots else 0, decided_at=now,
    )  # fmt: skip
    cluster.pending.remove(job.job_id)
    cluster.dependents.unwatch(job)
    job = replace(
        cluster.move(job, Trigger.ALLOCATED), reason="None", attempt=entry.attempt, launch_id=launch.id, nodes=(name,),
        slots=slots, released=False, start_at=now, note=f"found on {name}, adopted",
    )  # fmt: skip
    cluster.take_room(job)
    cluster.put_job(job)
    cluster.put_launch(launch)
    cluster.orphans.pop(launch.id, None)
    judge_launch(cluster, launch, entry, now)
    return True


def _is_closed(cluster: Cluster, entry: NodeEntry) -> bool:
    """Whether a launch that is not open here was settled here.  What still runs is never taken for settled."""
    if entry.supervisor_alive or entry.job_alive:
        return False
    job = cluster.jobs.get(entry.job_id)
    if job is None:  # purged from the live queue, so it was settled long ago; or of a later time than this store
        return entry.job_id not in cluster.foreign_jobs
    return entry.attempt <= job.attempt


def _holds_output(job: Job | None, entry: NodeEntry) -> bool:
    """Whether its directory has output that is not home: being brought, or what could not be."""
    if job is None or job.launch_id != entry.launch_id:
        return False
    return job.output_pending or (job.note is not None and "output not brought home" in job.note)
