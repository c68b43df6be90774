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
from sshq.core.model import Launch, Outcome
from sshq.core.settle import note_end, note_start, settle

SIGTERM = 15


def take_listing(cluster: Cluster, event: NodeListed) -> None:
    """A sweep on a live connection.  A stale one (older generation) says nothing."""
    node = cluster.nodes.get(event.name)
    if node is None or not node.connected or node.record.generation != event.generation:
        return
    entries = {e.launch_id: e for e in event.entries}
    for launch in _open_on(cluster, event.name):
        if launch.id in entries or launch.id in event.sent:
            judge_launch(cluster, launch, entries.get(launch.id), event.now)
    _known_and_unknown(cluster, event.name, event.entries)


def take_first_listing(cluster: Cluster, name: str, entries: Iterable[NodeEntry], now: float) -> None:
    """The listing of a new connection: calls sent before it are closed by its generation, so silence is fenced."""
    entries = tuple(entries)
    by_id: Mapping[str, NodeEntry] = {e.launch_id: e for e in entries}
    for launch in _open_on(cluster, name):
        judge_launch(cluster, launch, by_id.get(launch.id), now)
    _known_and_unknown(cluster, name, entries)


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
        outcome = Outcome.REBOOTED if entry is not None and entry.go else Outcome.NEVER_STARTED
        settle(cluster, launch, outcome, now, why=f"{launch.node} was rebooted")
    elif entry is None or not entry.go:
        cluster.put_launch(replace(launch, fencing=True))
        cluster.emit(FenceLaunch(node=launch.node, launch_id=launch.id, seq=launch.seq))
    elif entry.supervisor_alive or entry.job_alive:
        note_start(cluster, LaunchStarted(now=now, launch_id=launch.id, pid=entry.pid))
        job = cluster.jobs.get(launch.job_id)
        if job is not None and job.cancel_uid is not None and job.launch_id == launch.id:
            cluster.kill(launch.id, SIGTERM)
    else:
        settle(cluster, launch, Outcome.LOST, now, why=f"supervisor and job on {launch.node} are gone without a record")


def _known_and_unknown(cluster: Cluster, name: str, entries: Iterable[NodeEntry]) -> None:
    """Directories of closed launches are acknowledged again; launches nobody here knows are kept and shown."""
    again = []
    before = cluster.next_job_id
    for entry in entries:
        if entry.launch_id in cluster.launches:
            continue
        # A restored store may count from before this job: never give its number out again.
        cluster.next_job_id = max(cluster.next_job_id, entry.job_id + 1)
        job = cluster.jobs.get(entry.job_id)
        ours = job is not None and entry.attempt <= job.attempt
        if ours and job is not None:
            awaiting = job.output_pending and job.launch_id == entry.launch_id
            kept = job.note is not None and "output not brought home" in job.note and job.launch_id == entry.launch_id
            if not awaiting and not kept:
                again.append(entry.launch_id)
        elif job is None and entry.record is not None and entry.job_id < before:
            again.append(entry.launch_id)  # purged from the live queue; its record was settled long ago
        else:
            cluster.orphans[entry.launch_id] = (name, entry.job_id)
    if again:
        cluster.acknowledge(name, tuple(again))
