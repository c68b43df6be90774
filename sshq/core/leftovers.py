"""What launches may leave running: survivors of a kill, and launches that were declared dead.

An administrator's word (`scontrol update nodename=… state=down`) settles launches without evidence, and their jobs may
run elsewhere since.  So the node remembers them as condemned: when it is back, what still runs of them is killed, and no
slot of it opens before the last one is proved gone.  A node on which something cannot be killed at all is drained.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from sshq.core.effects import Audit, KillLaunch, SweepLaunches
from sshq.core.events import LaunchesSwept, NodeEntry

if TYPE_CHECKING:
    from sshq.core.cluster import Cluster
    from sshq.core.nodes import Node

UNKILLABLE = "Kill task failed"  # Slurm's word
SIGKILL = 9


def condemn(cluster: "Cluster", node: "Node", launch_ids: Iterable[str]) -> None:
    """Remember launches that are about to be settled by somebody's word."""
    known = node.record.condemned
    new = tuple(i for i in launch_ids if i not in known)
    if new:
        cluster.put_node_record(node, replace(node.record, condemned=(*known, *new)))


def absolve_after_reboot(cluster: "Cluster", node: "Node", boot: str) -> None:
    """Another boot: nothing of an earlier one lives."""
    if node.record.condemned and boot != node.record.boot:
        _discharge(cluster, node, frozenset(node.record.condemned))


def pursue_condemned(cluster: "Cluster", node: "Node", entries: Mapping[str, NodeEntry]) -> None:
    """A whole listing: kill what lives; for what does not, have the machine searched for strays, which is the proof."""
    dead = []
    for launch_id in node.record.condemned:
        entry = entries.get(launch_id)
        if entry is not None and (entry.supervisor_alive or entry.job_alive):
            cluster.emit(KillLaunch(node=node.name, launch_id=launch_id, seq=entry.seq, signal=SIGKILL))
        else:  # neither does one start any more that has only been claimed: the floor is above it since we connected
            dead.append(launch_id)
    if dead:
        cluster.emit(SweepLaunches(node=node.name, launch_ids=tuple(dead)))


def note_condemned_end(cluster: "Cluster", launch_id: str, survivors: tuple[str, ...], now: float) -> None:
    """A record, or the arbiter, says that a launch is over which is not open here."""
    node = next((n for n in cluster.nodes.values() if launch_id in n.record.condemned), None)
    if node is not None:
        drain_unkillable(cluster, node.name, survivors, now)
        cluster.emit(SweepLaunches(node=node.name, launch_ids=(launch_id,)))


def note_swept(cluster: "Cluster", event: LaunchesSwept) -> None:
    """Nothing that carries the name of these launches is alive on the node, but for `survivors`."""
    node = cluster.nodes.get(event.name)
    if node is None or not node.connected:
        return
    if event.survivors:
        drain_unkillable(cluster, event.name, event.survivors, event.now)
        return
    gone = frozenset(node.record.condemned).intersection(event.launch_ids)
    if gone:
        _discharge(cluster, node, gone)
        cluster.acknowledge(event.name, tuple(sorted(gone)))
        cluster.schedule_wanted = True


def _discharge(cluster: "Cluster", node: "Node", gone: frozenset[str]) -> None:
    left = tuple(i for i in node.record.condemned if i not in gone)
    cluster.put_node_record(node, replace(node.record, condemned=left))
    detail = f"proved gone: {' '.join(sorted(gone))}" + (f"; {len(left)} left" if left else "")
    cluster.emit(Audit(verb="node reclaim", uid=0, target=node.name, result="done", detail=detail))


def drain_unkillable(cluster: "Cluster", name: str, survivors: tuple[str, ...], now: float) -> None:
    """Take a node out of use that could not kill `survivors`, as Slurm does; it needs somebody to look at it."""
    node = cluster.nodes.get(name)
    if node is None or not survivors or node.record.drain_reason:
        return
    record = replace(node.record, drain_reason=UNKILLABLE, drain_by="root", drain_uid=0, drain_at=now)
    cluster.put_node_record(node, record)
    cluster.emit(
        Audit(verb="node drain", uid=0, target=name, result="done", detail=f"{UNKILLABLE}: {' '.join(survivors)}")
    )
