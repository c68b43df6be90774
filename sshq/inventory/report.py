"""The text of `sshq inventory`: who takes part with what and which line says so, who does not, what is odd.

The JSON form holds the same; its keys are the fields of model.py.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Final

from sshq.core.hostlist import fold_hostlist
from sshq.core.units import format_memory, format_time_limit
from sshq.inventory.model import Host, Inventory, Partition

_COLUMNS: Final = ("HOST", "ADDRESS", "ACCOUNT", "SLOTS", "PARTITIONS")
_UNIT: Final = re.compile(r"_(mib|s)$")
_NOT_SAID: Final = {
    "slots": "its CPUs",
    "cpus": "probed",
    "memory_mib": "probed",
    "account": "by ~/.ssh/config",
}
_TABLE_FIELDS: Final = ("name", "groups", "origins")


def format_inventory(inventory: Inventory, *, with_origins: bool = True) -> str:
    """Return the whole report, ending in a newline."""
    lines = [f"inventory: {inventory.path or 'none found: the embedded default, this machine alone'}", ""]
    rows = [_COLUMNS, *(_host_row(inventory, host) for host in inventory.hosts.values())]
    lines += _align(rows)
    lines += [
        "",
        *_align(
            [
                ("PARTITION", "HOSTS", "TIMELIMIT", "STATE"),
                *map(_partition_row, inventory.partitions.values()),
            ]
        ),
    ]
    if with_origins:
        alike: dict[tuple[str, ...], list[str]] = {}
        for host in inventory.hosts.values():
            alike.setdefault(tuple(_origin_lines(host, host.origins)), []).append(host.name)
        for block, names in alike.items():
            if block:
                lines += ["", f"{', '.join(names)}:", *block]
        for partition in inventory.partitions.values():
            if partition.origins:
                lines += ["", f"partition {partition.name}:", *_origin_lines(partition, partition.origins)]
    if inventory.excluded:
        lines += ["", "take no part:"]
        lines += _align([(f"  {host.name}", host.reason) for host in inventory.excluded])
    if inventory.warnings:
        lines += ["", "warnings:", *(f"  {warning}" for warning in inventory.warnings)]
    return "\n".join(lines) + "\n"


def inventory_json(inventory: Inventory) -> dict[str, object]:
    """Return the report as JSON-like data."""
    return {
        "path": inventory.path,
        "digest": inventory.digest,
        "sources": list(inventory.sources),
        "hosts": [_as_json(host) | {"partitions": list(inventory.partitions_of(host.name))} for host in inventory.hosts.values()],
        "partitions": [_as_json(partition) for partition in inventory.partitions.values()],
        "excluded": [{"name": host.name, "reason": host.reason, "origin": host.origin} for host in inventory.excluded],
        "warnings": list(inventory.warnings),
    }


def format_value(name: str, value: object) -> str:
    """Return one field as people read it."""
    if value is None:
        return "none"
    if name.endswith("_mib") and isinstance(value, int):
        return format_memory(value)
    if name.endswith("time_s") and isinstance(value, int):
        return format_time_limit(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join("=".join(item) if isinstance(item, tuple) else str(item) for item in value) or "none"
    return str(value)


def _host_row(inventory: Inventory, host: Host) -> tuple[str, ...]:
    address = "local" if host.connection == "local" else host.address
    if host.port is not None and host.connection == "ssh":
        address += f" port {host.port}"
    if host.proxy_jump:
        address += f" via {host.proxy_jump}"
    slots = "CPUs" if host.slots is None else str(host.slots)
    return (host.name, address, host.account or "-", slots, ",".join(inventory.partitions_of(host.name)))


def _partition_row(partition: Partition) -> tuple[str, ...]:
    star = "*" if partition.default else ""
    limit = format_time_limit(partition.max_time_s, unlimited="infinite")
    return (partition.name + star, fold_hostlist(partition.hosts), limit, partition.state.lower())


def _origin_lines(owner: Host | Partition, origins: Mapping[str, str]) -> list[str]:
    return _align(
        [
            (
                f"  {_UNIT.sub('', row.name)}",
                f"= {format_value(row.name, getattr(owner, row.name))}",
                origins[row.name],
            )
            for row in fields(owner)
            if row.name in origins
        ]
    )


def _align(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _as_json(owner: Host | Partition) -> dict[str, object]:
    shown: dict[str, object] = {}
    for row in fields(owner):
        value: object = getattr(owner, row.name)
        if isinstance(value, tuple):
            value = dict(value) if row.name in ("ssh_options", "environment") else list(value)
        shown[row.name] = dict(value) if isinstance(value, Mapping) else value
    return shown
