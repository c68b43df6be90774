"""What changed from one inventory to the next: for the log, and for the hosts that must connect anew."""

from dataclasses import dataclass, fields
from typing import Final

from sshq.inventory.model import Host, Inventory, Partition

# A new value of one of these needs another connection, or another runner behind it.
_RECONNECT: Final = frozenset(
    (
        "address", "port", "account", "identity_files", "connection", "proxy_jump", "ssh_options", "spool",
        "spool_forced", "channels_max",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class HostChange:
    """A host that is still there but not the same; `keys` are fields of Host, `lines` old and new values."""

    name: str
    keys: tuple[str, ...]
    needs_reconnect: bool
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryDiff:
    """The difference; false if there is none."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[HostChange, ...]
    partitions: tuple[str, ...]  # one line for each that came, went or changed

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.partitions)

    def lines(self) -> list[str]:
        """Return one line a change, for the log."""
        result = [f"host {name} added" for name in self.added]
        result += [f"host {name} removed" for name in self.removed]
        for change in self.changed:
            again = ", connects anew" if change.needs_reconnect else ""
            result.append(f"host {change.name} changed: {', '.join(change.lines)}{again}")
        return result + list(self.partitions)


def diff_inventories(old: Inventory, new: Inventory) -> InventoryDiff:
    """Return what becomes of `old` when `new` takes its place; names in the order of the files."""
    changed: list[HostChange] = []
    for name, host in new.hosts.items():
        before = old.hosts.get(name)
        if before is not None and before != host:
            keys = tuple(row.name for row in fields(Host) if row.compare and _differ(before, host, row.name))
            lines = tuple(f"{key} {_show(before, key)} -> {_show(host, key)}" for key in keys)
            anew = not _RECONNECT.isdisjoint(keys)
            changed.append(HostChange(name=name, keys=keys, needs_reconnect=anew, lines=lines))
    return InventoryDiff(
        added=tuple(name for name in new.hosts if name not in old.hosts),
        removed=tuple(name for name in old.hosts if name not in new.hosts),
        changed=tuple(changed),
        partitions=tuple(_diff_partitions(old, new)),
    )


def _diff_partitions(old: Inventory, new: Inventory) -> list[str]:
    lines = [f"partition {name} removed" for name in old.partitions if name not in new.partitions]
    for name, partition in new.partitions.items():
        before = old.partitions.get(name)
        if before is None:
            lines.append(f"partition {name} added: {', '.join(partition.hosts)}")
        elif before != partition:
            lines.append(f"partition {name} changed: {', '.join(_diff_partition(before, partition))}")
    return lines


def _diff_partition(old: Partition, new: Partition) -> list[str]:
    parts = [f"+{name}" for name in new.hosts if name not in old.hosts]
    parts += [f"-{name}" for name in old.hosts if name not in new.hosts]
    if not parts and old.hosts != new.hosts:
        parts.append("order of hosts")
    for row in fields(Partition):
        if row.compare and row.name != "hosts" and _differ(old, new, row.name):
            parts.append(f"{row.name} {_show(old, row.name)} -> {_show(new, row.name)}")
    return parts


def _differ(old: object, new: object, attribute: str) -> bool:
    return bool(getattr(old, attribute) != getattr(new, attribute))


def _show(owner: object, attribute: str) -> str:
    value: object = getattr(owner, attribute)
    if value is None or value == ():
        return "-"
    if attribute == "environment" and isinstance(value, tuple):
        return ",".join(str(name) for name, _ in value)  # values may be private, and this goes to the log
    if isinstance(value, tuple):
        return ",".join("=".join(item) if isinstance(item, tuple) else str(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
