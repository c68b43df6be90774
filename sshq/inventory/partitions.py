"""Groups as partitions: `lab` with every host that takes part, and each group that has such hosts.

A partition's settings are those of the group's own vars (written in the inventory or in group_vars/GROUP),
never inherited; those of the group `all` are `lab`'s.  One group may be the default, else `lab` is.
"""

import re
from collections.abc import Mapping
from typing import Final

from sshq.core.units import format_time_limit
from sshq.inventory.document import Entry
from sshq.inventory.keys import KEYS, Where
from sshq.inventory.model import DEFAULT_PARTITION, Host, Partition
from sshq.inventory.tree import Group, Tree

_PARTITION_NAME: Final = re.compile(r"[A-Za-z0-9_](?:[\w.+-]*[A-Za-z0-9_])?", re.ASCII)


def build_partitions(
    tree: Tree, hosts: Mapping[str, Host], values: Mapping[int, object], warnings: dict[str, None]
) -> dict[str, Partition]:
    """Return the partitions, `lab` first; add to `warnings` what is odd but clear."""
    found: dict[str, tuple[Group, tuple[str, ...]]] = {}
    for group in tree.groups.values():
        own = _own_settings(group)
        members = tuple(name for name in tree.hosts_of(group.name) if name in hosts)
        wanted = values[id(own["sshq_partition"])] if "sshq_partition" in own else group.name != "ungrouped"
        if group.name == "all":
            if not wanted:
                place = own["sshq_partition"].value.place
                raise place.error(f"the partition {DEFAULT_PARTITION} holds all hosts and is always there")
            found[DEFAULT_PARTITION] = (group, members)
        elif wanted and members and group.name != DEFAULT_PARTITION:
            _check_name(group)
            found[group.name] = (group, members)
        elif "sshq_default" in own and values[id(own["sshq_default"])] is True and group.name != DEFAULT_PARTITION:
            place = own["sshq_default"].key.place
            raise place.error(f"`{group.name}` cannot be the default: it is no partition")
    found[DEFAULT_PARTITION] = _merge_lab(tree, found[DEFAULT_PARTITION], hosts, warnings)
    default = _find_default(found, values)
    return {name: _build(name, group, members, values, default=name == default) for name, (group, members) in found.items()}


def _own_settings(group: Group) -> dict[str, Entry]:
    settings = group.own | group.filed
    return {name: entry for name, entry in settings.items() if name in KEYS and KEYS[name].where is Where.PARTITION}


def _merge_lab(
    tree: Tree, everyone: tuple[Group, tuple[str, ...]], hosts: Mapping[str, Host], warnings: dict[str, None]
) -> tuple[Group, tuple[str, ...]]:
    """Let a group called `lab` add its settings to those of `all`; the hosts are all that take part."""
    group, members = everyone
    lab = tree.groups.get(DEFAULT_PARTITION)
    if lab is None:
        return everyone
    inside = [name for name in tree.hosts_of(lab.name) if name in hosts]
    if inside and len(inside) < len(members) and lab.place is not None:
        rest = len(members) - len(inside)
        warnings[f"{lab.place}: the partition {lab.name} always holds all hosts: {rest} more than this group"] = None
    merged = Group(lab.name, lab.place, own=group.own | lab.own, filed=group.filed | lab.filed)
    return merged, members


def _find_default(found: Mapping[str, tuple[Group, tuple[str, ...]]], values: Mapping[int, object]) -> str:
    chosen: dict[str, Entry] = {}
    for name, (group, _) in found.items():
        entry = _own_settings(group).get("sshq_default")
        if entry is not None and values[id(entry)] is True:
            chosen[name] = entry
    if len(chosen) > 1:
        first, second = list(chosen.items())[:2]
        message = f"`{second[0]}` cannot be the default too: `{first[0]}` is, by line {first[1].key.place.line}"
        raise second[1].key.place.error(message)
    return next(iter(chosen), DEFAULT_PARTITION)


def _check_name(group: Group) -> None:
    if not _PARTITION_NAME.fullmatch(group.name) and group.place is not None:
        message = f"the group `{group.name}` cannot be a partition: a name has letters, digits and _ . + -"
        raise group.place.error(message, hint="rename it, or give it the variable sshq_partition: false")


def _build(name: str, group: Group, members: tuple[str, ...], values: Mapping[int, object], *, default: bool) -> Partition:
    own = _own_settings(group)
    fields = {KEYS[key].field: values[id(entry)] for key, entry in own.items() if key not in ("sshq_partition", "sshq_default")}
    limit, usual = fields.get("max_time_s"), fields.get("default_time_s")
    if isinstance(limit, int) and "default_time_s" in fields and (usual is None or (isinstance(usual, int) and usual > limit)):
        message = f"the default time limit of `{name}` is longer than its longest, {format_time_limit(limit)}"
        raise own["sshq_default_time"].value.place.error(message)
    origins = {KEYS[key].field: str(entry.key.place) for key, entry in own.items()}
    build: type = Partition
    partition = build(name=name, hosts=members, default=default, origins=origins, **fields)
    assert isinstance(partition, Partition)  # noqa: S101  for the type checker: the fields come from a table
    return partition
