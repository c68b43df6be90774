"""Partitions as they are in force: the inventory's, with what scontrol update changed laid over them."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sshq.core.arrangements import PARTITION_STATES, UNLIMITED, PartitionRecord
from sshq.core.effects import Audit
from sshq.core.model import PartitionConfig
from sshq.errors import RefusedError

if TYPE_CHECKING:
    from sshq.core.cluster import Cluster
    from sshq.core.events import PartitionUpdated


def lay_over(config: PartitionConfig, record: PartitionRecord | None) -> PartitionConfig:
    """Return a partition of the inventory with an administrator's changes."""
    if record is None:
        return config
    changes: dict[str, Any] = {}
    if record.state is not None:
        changes |= {"up": record.state in ("UP", "DRAIN"), "accepts": record.state in ("UP", "DOWN")}
    for key in ("max_time_s", "default_time_s"):
        value = getattr(record, key)
        if value is not None:
            changes[key] = None if value == UNLIMITED else value
    for key in ("default", "hidden", "priority_tier"):
        value = getattr(record, key)
        if value is not None:
            changes[key] = value
    return replace(config, **changes)


def state_of(partition: PartitionConfig) -> str:
    """Return Slurm's word for what a partition takes and starts."""
    if partition.up:
        return "UP" if partition.accepts else "DRAIN"
    return "DOWN" if partition.accepts else "INACTIVE"


def settle(cluster: "Cluster", now: float) -> None:
    """Make the partitions in force out of the inventory's and the records."""
    tiers = {p.name: p.priority_tier for p in cluster.partitions.values()}
    defaults = [r.name for r in cluster.partition_records.values() if r.default and r.name in cluster.inventory_partitions]
    partitions = [lay_over(p, cluster.partition_records.get(p.name)) for p in cluster.inventory_partitions.values()]
    if defaults:  # there is one default
        partitions = [replace(p, default=p.name == defaults[0]) for p in partitions]
    cluster.partitions = {p.name: p for p in partitions}
    cluster.default_partition = next((p.name for p in partitions if p.default), None)
    if any(p.priority_tier != tiers.get(p.name, 1) for p in partitions):
        for job_id in list(cluster.pending):
            cluster.requeue_index(job_id, now)
    cluster.schedule_wanted = True


def update(cluster: "Cluster", event: "PartitionUpdated") -> str:
    """Carry out scontrol update partitionname=…"""
    if event.name not in cluster.partitions:
        raise RefusedError("Invalid partition name specified", code="bad_request")
    changes: dict[str, Any] = dict(event.changes)
    state = changes.get("state")
    if state is not None and state not in PARTITION_STATES:
        raise RefusedError("Invalid partition state specified", code="bad_request")
    record = replace(cluster.partition_records.get(event.name, PartitionRecord(name=event.name)), **changes)
    if changes.get("default"):
        for other in [r for r in cluster.partition_records.values() if r.default and r.name != event.name]:
            cluster.put_partition_record(replace(other, default=None))
    cluster.put_partition_record(record)
    settle(cluster, event.now)
    detail = " ".join(f"{key}={value}" for key, value in changes.items())
    cluster.emit(Audit(verb="partition update", uid=event.uid, target=event.name, result="done", detail=detail))
    return "done"
