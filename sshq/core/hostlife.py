"""Nodes joining, leaving, being drained; the inventory coming in.

A host that is removed while it runs jobs stays, takes nothing new and goes with its last job.  Losing a connection
changes what is known of a node and nothing about its jobs.
"""

from dataclasses import replace

from sshq.core.cluster import Cluster
from sshq.core.effects import Audit, BringOutput, ProveDirectories
from sshq.core.events import (
    DirectoryProved,
    GpusReported,
    InventoryLoaded,
    LoadReported,
    NodeAccepted,
    NodeConnected,
    NodeLost,
    NodeUpdated,
)
from sshq.core.identity import find_twin
from sshq.core.interpreters import ask_newcomer, forget_pythons
from sshq.core.leftovers import absolve_after_reboot, condemn
from sshq.core.lifecycle import FINAL, State
from sshq.core.model import NodeFacts, NodeRecord, Outcome, Share
from sshq.core.nodes import Node
from sshq.core.partitions import settle as settle_partitions
from sshq.core.reconcile import take_first_listing
from sshq.core.restored import end_doubts
from sshq.core.settle import note_room, settle
from sshq.errors import RefusedError

SWEEP_BACK_S = 900.0
SIGTERM = 15


def load_inventory(cluster: Cluster, event: InventoryLoaded) -> None:
    """Take the inventory as the new truth of hosts and partitions."""
    wanted = {c.name: c for c in event.nodes}
    for name, config in wanted.items():
        node = cluster.nodes.get(name)
        if node is None:
            record = cluster.forgotten.pop(name, None) or NodeRecord(name=name)
            cluster.nodes[name] = Node(config=config, record=record, facts=NodeFacts.parse(record.facts), since_at=event.now)
        else:
            if node.removed and not node.connected:
                node.note = "not connected yet"
            node.config, node.removed = config, False
    for name in sorted(set(cluster.nodes) - set(wanted)):
        node = cluster.nodes[name]
        node.removed = True
        node.config = replace(node.config, partitions=()) if not node.jobs else node.config
        if not node.jobs and not cluster.node_launches.get(name):
            cluster.forget_node(name)
    cluster.inventory_partitions = {p.name: p for p in event.partitions}
    settle_partitions(cluster, event.now)
    end_doubts(cluster, event.now)


def connect(cluster: Cluster, event: NodeConnected) -> str | None:
    """A node is ready: returns None, or the name of the node whose spool it turned out to share."""
    node = cluster.nodes.get(event.name)
    if node is None:
        return "(removed)"
    twin = find_twin(cluster, event.name, event.spool_id, displaced=False)
    if twin is not None:
        return twin
    if node.record.boot and node.record.boot != event.boot:
        _end_gangs(cluster, node, f"{event.name} rebooted")
    node.facts = event.facts
    node.connected, node.note, node.since_at = True, "", event.now
    node.next_n = 1
    absolve_after_reboot(cluster, node, event.boot)
    cluster.put_node_record(
        node,
        replace(
            node.record, generation=event.generation, boot=event.boot, spool_id=event.spool_id, machine_id=event.machine_id,
            account_uid=event.uid, facts=event.facts_json, heard_epoch=cluster.epoch, accepted_spool="", place=event.place,
        ),
    )  # fmt: skip
    take_first_listing(cluster, event)
    end_doubts(cluster, event.now)
    cluster.directories.forget_node(event.name)
    paths = unproved_directories(cluster, event.name)
    if paths:
        cluster.emit(ProveDirectories(node=event.name, paths=tuple(paths)))
    ask_newcomer(cluster, node)
    _bring_outputs(cluster, event.name)
    cluster.schedule_wanted = True
    return None


def _end_gangs(cluster: Cluster, node: Node, why: str) -> None:
    """A node is gone whose jobs, of the release before, run their scripts elsewhere and have nothing there: they end with it."""
    for job_id in sorted(node.jobs):
        job = cluster.jobs[job_id]
        if job.part_launches:
            continue  # its launch there tells
        if job.nodes[0] != node.name and job.lost_node is None and job.state not in FINAL:
            cluster.put_job(replace(job, lost_node=node.name, note=why))
            cluster.kill(job.launch_id, SIGTERM)


def ended_on(cluster: Cluster, name: str) -> list[str]:
    """Return the launches of ended jobs on a node, newest first: whoever was to sweep after them may be gone."""
    ended = [j for j in map(cluster.jobs.__getitem__, cluster.index.final) if j.launch_id and name in j.nodes]
    ended.sort(key=lambda j: (-(j.end_at or 0.0), j.job_id))
    scripts = [str(job.launch_id) for job in ended if job.nodes[0] == name]
    # Which of a job's parts was here is not kept: one that was not is not found here either.
    return scripts + [part for job in ended if job.nodes[0] != name for part in job.part_launches]


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
        forget_pythons(node)
    node.connected = False
    node.note = event.note
    node.load = node.memory_free_mib = None
    if node.record.down_asserted:  # it was said of a node that still answered; now it no longer does
        _assert_death(cluster, node, node.record.drain_by, event.now)
    if node.removed and not node.jobs and not cluster.node_launches.get(event.name):
        cluster.forget_node(event.name)


def report_load(cluster: Cluster, event: LoadReported) -> None:
    node = cluster.nodes.get(event.name)
    if node is not None:
        node.load, node.memory_free_mib = event.load, event.memory_free_mib
        if event.room:
            note_room(cluster, node, event.room)


def report_gpus(cluster: Cluster, event: GpusReported) -> None:
    """Take in what a look at the GPUs of a node showed; without an answer none of them is given away."""
    node = cluster.nodes.get(event.name)
    if node is None or node.facts is None:
        return
    facts, uses = replace(node.facts, gpu_problem=event.problem), node.gpu_uses
    if not event.problem:
        held = {gpu[0] for share in _running_shares(cluster, node) for gpu in share.gpus}
        facts = replace(facts, gpus=event.gpus)
        uses = {use.id: use for use in event.uses if use.pid or use.id not in held}  # else it is the job's own memory
    if facts != node.facts or uses != node.gpu_uses:
        node.facts, node.gpu_uses = facts, uses
        cluster.schedule_wanted = True


def _running_shares(cluster: Cluster, node: Node) -> list[Share]:
    """What jobs that run hold of a node."""
    running = [cluster.jobs[i] for i in node.jobs if cluster.jobs[i].state in (State.RUNNING, State.SUSPENDED)]
    return [share for job in running for share in job.shares() if share.node == node.name]


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
    if event.weight is not None:
        record = replace(record, weight=event.weight)
    if event.features is not None:
        record = replace(record, features=event.features)
    if event.comment is not None:
        record = replace(record, comment=event.comment)
    if state in ("resume", "idle", "undrain"):
        record = replace(record, drain_reason=None, drain_by="", drain_at=None, down_asserted=False)
    elif state in ("drain", "down", "fail"):
        if not event.reason and not record.drain_reason:
            raise RefusedError("You must specify a reason when DOWNING or DRAINING a node. Request denied", code="bad_request")
        record = replace(
            record, drain_reason=event.reason or record.drain_reason, drain_by=event.user, drain_uid=event.uid,
            drain_at=event.now, down_asserted=state == "down",
        )  # fmt: skip
    elif state:
        raise RefusedError("Invalid node state specified", code="bad_request")
    elif event.reason and record.drain_reason:
        record = replace(record, drain_reason=event.reason, drain_by=event.user, drain_uid=event.uid, drain_at=event.now)
    cluster.put_node_record(node, record)
    if state == "down":
        if not node.connected:
            _assert_death(cluster, node, event.user, event.now)
        end_doubts(cluster, event.now)
    verb = f"node {state or 'update'}"
    cluster.emit(Audit(verb=verb, uid=event.uid, target=event.name, result="done", detail=event.reason or ""))
    cluster.schedule_wanted = True
    return "done"


def _assert_death(cluster: Cluster, node: Node, user: str, now: float) -> None:
    """Settle what is open on a node by somebody's word; should it live after all, it is killed before anything starts there."""
    launch_ids = sorted(cluster.node_launches.get(node.name, ()))
    condemn(cluster, node, launch_ids)
    for launch_id in launch_ids:
        launch = cluster.launches.get(launch_id)
        if launch is not None:  # else it was settled with another launch of its job
            outcome = Outcome.NEVER_STARTED if launch.held else Outcome.ASSERTED
            settle(cluster, launch, outcome, now, why=f"{user} declared {node.name} down")
    _end_gangs(cluster, node, f"{user} declared {node.name} down")


def accept(cluster: Cluster, event: NodeAccepted) -> None:
    """Take somebody's word that a stranger is the node from now on: what is open there ends as its spool tells."""
    node = cluster.nodes.get(event.name)
    if node is None:
        raise RefusedError("Invalid node name specified", code="bad_request")
    cluster.put_node_record(node, replace(node.record, accepted_spool=event.spool_id))
    detail = f"another machine, spool {event.spool_id}"
    cluster.emit(Audit(verb="node accept", uid=event.uid, target=event.name, result="done", detail=detail))


def unproved_directories(cluster: Cluster, node: str) -> list[str]:
    """Directories `node` has not answered for, of jobs that may yet be launched: held, waiting or retried ones too."""
    return sorted(path for path in cluster.index.directories if cluster.directories.answer(path, node) is None)
