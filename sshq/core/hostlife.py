"""Nodes joining, leaving, being drained; the inventory coming in.

A host that is removed while it runs jobs stays, takes nothing new and goes with its last job.  Losing a connection
changes what is known of a node and nothing about its jobs.
"""

from dataclasses import replace

from sshq.core.cluster import Cluster
from sshq.core.effects import Audit, BringOutput, ProveDirectories
from sshq.core.events import DirectoryProved, InventoryLoaded, LoadReported, NodeConnected, NodeLost, NodeUpdated
from sshq.core.lifecycle import FINAL
from sshq.core.model import NodeRecord, Outcome
from sshq.core.nodes import Node
from sshq.core.reconcile import take_first_listing
from sshq.core.settle import settle
from sshq.errors import RefusedError

SWEEP_BACK_S = 900.0


def load_inventory(cluster: Cluster, event: InventoryLoaded) -> None:
    """Take the inventory as the new truth of hosts and partitions."""
    wanted = {c.name: c for c in event.nodes}
    for name, config in wanted.items():
        node = cluster.nodes.get(name)
        if node is None:
            cluster.nodes[name] = Node(config=config, record=NodeRecord(name=name), since_at=event.now)
        else:
            if node.removed and not node.connected:
                node.note = "not connected yet"
            node.config, node.removed = config, False
    for name in sorted(set(cluster.nodes) - set(wanted)):
        node = cluster.nodes[name]
        node.removed = True
        node.config = replace(node.config, partitions=()) if not node.jobs else node.config
        if not node.jobs and not cluster.node_launches.get(name):
            del cluster.nodes[name]
    tiers = {p.name: p.priority_tier for p in cluster.partitions.values()}
    cluster.partitions = {p.name: p for p in event.partitions}
    if any(p.priority_tier != tiers.get(p.name, 1) for p in event.partitions):
        for job_id in list(cluster.pending):
            cluster.requeue_index(job_id, event.now)
    cluster.default_partition = next((p.name for p in event.partitions if p.default), None)
    cluster.schedule_wanted = True


def connect(cluster: Cluster, event: NodeConnected) -> str | None:
    """A node is ready: returns None, or the name of the node whose spool it turned out to share."""
    node = cluster.nodes.get(event.name)
    if node is None:
        return "(removed)"
    twin = find_twin(cluster, event.name, event.spool_id, displaced=False)
    if twin is not None:
        return twin
    node.facts = event.facts
    node.connected, node.note, node.since_at = True, "", event.now
    node.next_n = 1
    cluster.put_node_record(
        node,
        replace(
            node.record, generation=event.generation, boot=event.boot, spool_id=event.spool_id, machine_id=event.machine_id,
            account_uid=event.uid, facts=event.facts_json,
        ),
    )  # fmt: skip
    take_first_listing(cluster, event.name, event.entries, event.now)
    cluster.directories.forget_node(event.name)
    paths = unproved_directories(cluster, event.name)
    if paths:
        cluster.emit(ProveDirectories(node=event.name, paths=tuple(paths)))
    _bring_outputs(cluster, event.name)
    cluster.schedule_wanted = True
    return None


def recently_ended(cluster: Cluster, *, name: str, now: float) -> list[str]:
    """Return the launches of a node that ended not long ago: the connection that was to sweep after them may be gone."""
    return [
        job.launch_id for job in cluster.jobs.values()
        if job.launch_id and job.nodes[:1] == (name,) and job.state in FINAL and (job.end_at or 0.0) > now - SWEEP_BACK_S
    ]  # fmt: skip


def find_twin(cluster: Cluster, name: str, spool_id: str, *, displaced: bool) -> str | None:
    """Return the node that already is the machine with this spool; `displaced`: our runner has just ended another's.

    Of two names the one with launches there has it, then the one that had it before, then the first, so that they do not
    end each other's runner for ever.
    """

    def rank(node: Node) -> tuple[bool, bool, str]:
        launches = any(cluster.launches[i].spool_id == spool_id for i in cluster.node_launches.get(node.name, ()))
        return not launches, node.record.spool_id != spool_id, node.name

    me = cluster.nodes.get(name)
    for other in sorted(cluster.nodes.values(), key=rank):
        if other.name == name or other.record.spool_id != spool_id:
            continue
        holds = other.connected or displaced or not rank(other)[0]
        if holds and (me is None or other.removed or rank(other) < rank(me)):
            return other.name
    return None


def _bring_outputs(cluster: Cluster, name: str) -> None:
    """Order again, once, what an earlier controller had begun to bring home."""
    for job_id in sorted(cluster.outputs_away):
        job = cluster.jobs.get(job_id)
        if job is None or not job.output_pending or job.launch_id is None:
            cluster.outputs_away.discard(job_id)
        elif job.nodes[0] == name:
            cluster.outputs_away.discard(job_id)
            cluster.emit(BringOutput(node=name, job=job, launch_id=job.launch_id))


def lose(cluster: Cluster, event: NodeLost) -> None:
    """The connection is gone, or there was none; `note` says why in words for people."""
    node = cluster.nodes.get(event.name)
    if node is None:
        return
    if node.connected:
        node.since_at = event.now
        cluster.directories.forget_node(event.name)
    node.connected = False
    node.note = event.note
    node.load = node.memory_free_mib = None
    if node.removed and not node.jobs and not cluster.node_launches.get(event.name):
        del cluster.nodes[event.name]


def report_load(cluster: Cluster, event: LoadReported) -> None:
    node = cluster.nodes.get(event.name)
    if node is not None:
        node.load, node.memory_free_mib = event.load, event.memory_free_mib


def note_directory(cluster: Cluster, event: DirectoryProved) -> None:
    if event.node in cluster.nodes:
        cluster.directories.record(event.path, event.node, shared=event.shared, now=event.now)
        cluster.schedule_wanted = True


def update(cluster: Cluster, event: NodeUpdated) -> str:
    """Carry out scontrol update nodename=…; returns Slurm-like words.  Down asserts death: its launches end as NODE_FAIL."""
    node = cluster.nodes.get(event.name)
    if node is None:
        raise RefusedError("Invalid node name specified", code="bad_request")
    record = node.record
    state = event.state.lower()
    if state in ("resume", "idle", "undrain"):
        record = replace(record, drain_reason=None, drain_by="", drain_at=None, down_asserted=False)
    elif state in ("drain", "down", "fail"):
        if not event.reason and not record.drain_reason:
            raise RefusedError("You must specify a reason when DOWNING or DRAINING a node. Request denied", code="bad_request")
        record = replace(
            record, drain_reason=event.reason or record.drain_reason, drain_by=event.user, drain_uid=event.uid,
            drain_at=event.now, down_asserted=state == "down",
        )  # fmt: skip
    else:
        raise RefusedError("Invalid node state specified", code="bad_request")
    cluster.put_node_record(node, record)
    if state == "down" and not node.connected:
        for launch_id in sorted(cluster.node_launches.get(event.name, ())):
            launch = cluster.launches[launch_id]
            settle(cluster, launch, Outcome.ASSERTED, event.now, why=f"{event.user} declared {event.name} down")
    cluster.emit(Audit(verb=f"node {state}", uid=event.uid, target=event.name, result="done", detail=event.reason or ""))
    cluster.schedule_wanted = True
    return "done"


def unproved_directories(cluster: Cluster, node: str) -> list[str]:
    """Directories `node` has not answered for, of jobs that may yet be launched: held, waiting or retried ones too."""
    paths = {
        j.spec.work_dir for j in cluster.jobs.values()
        if j.state not in FINAL and j.spec.provable and not j.spec.anywhere
        and cluster.directories.answer(j.spec.work_dir, node) is None
    }  # fmt: skip
    return sorted(paths)
