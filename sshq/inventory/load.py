"""From an inventory file to hosts and partitions: who takes part, and what each of them is.

A host takes part only if some `sshq_*` variable applies to it, so that an inventory written for Ansible
does not turn file servers into nodes by accident.  Every group with such hosts is a partition; `lab` holds
all of them.  What a partition is (`Where.PARTITION` in keys.py) is read from the group's own vars,
everything else by Ansible's precedence (tree.py).  Every variable of ours is checked where it stands, even
one that is overridden.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from sshq.errors import InventoryError
from sshq.inventory.ansible import Files, OsFiles, read_tree
from sshq.inventory.keys import KEYS, Where, explain_misplaced, find_key, read_entry
from sshq.inventory.model import DEFAULT_PARTITION, Excluded, Host, Inventory, Partition
from sshq.inventory.partitions import build_partitions
from sshq.inventory.resolve import Resolved, resolve_host
from sshq.inventory.tree import AnsibleHost, Group, Tree

SYSTEM_CONFIG_DIRECTORY: Final = "/etc/sshq"
_WATCHED_MAX: Final = 50_000
_WATCHED_DEPTH_MAX: Final = 3  # group_vars/GROUP/part.yaml


def find_inventory(
    environ: Mapping[str, str], flag: str | None, home: str, *, exists: Callable[[str], bool] = os.path.exists
) -> str | None:
    """Return the inventory to read, None for the embedded default.

    --inventory, then SSHQ_INVENTORY: those are taken as they are, there or not.  Then inventory.yaml of
    $SSHQ_HOME alone if that is set, else of ~/.config/sshq or /etc/sshq, the first that exists.
    """
    if flag:
        return flag
    if named := environ.get("SSHQ_INVENTORY"):
        return named
    base = environ.get("SSHQ_HOME")
    places = [base] if base else [os.path.join(home, ".config", "sshq"), SYSTEM_CONFIG_DIRECTORY]
    return next((path for place in places if exists(path := os.path.join(place, "inventory.yaml"))), None)


def embedded_default() -> Inventory:
    """Return the inventory of a machine that has none: itself."""
    host = Host(name="localhost", address="localhost", connection="local")
    lab = Partition(name=DEFAULT_PARTITION, hosts=(host.name,), default=True)
    return Inventory(hosts={host.name: host}, partitions={lab.name: lab}, digest=hashlib.sha256(b"").hexdigest())


def load_found(path: str | None, *, files: Files | None = None) -> Inventory:
    """Return the inventory `find_inventory` found."""
    return embedded_default() if path is None else load_inventory(path, files=files)


def load_inventory(path: str, *, files: Files | None = None) -> Inventory:
    """Return the inventory at `path`, an Ansible YAML inventory or a directory of them.

    Raises InventoryError and nothing else: for the first fault, with its place; also if no host takes part.
    """
    tree = read_tree(path, files or OsFiles())
    values = _read_variables(tree)
    base = path if path not in tree.read else os.path.dirname(path)
    warnings = dict.fromkeys(tree.warnings)
    hosts: dict[str, Host] = {}
    excluded: list[Excluded] = []
    for name in tree.hosts:
        resolved: Resolved = resolve_host(tree, name, values, base)
        warnings |= dict.fromkeys(resolved.warnings)
        if isinstance(resolved.host, Host):
            hosts[name] = resolved.host
        else:
            excluded.append(resolved.host)
    if not hosts:
        raise _explain_nobody(path, excluded)
    warnings |= dict.fromkeys(_find_twins(hosts.values()))
    partitions = build_partitions(tree, hosts, values, warnings)
    digest = hashlib.sha256()
    for source, data in tree.read.items():
        digest.update(f"{source}\0{len(data)}\0".encode(errors="surrogateescape") + data)
    return Inventory(
        hosts=hosts, partitions=partitions, excluded=tuple(excluded), warnings=tuple(warnings), path=path,
        digest=digest.hexdigest(), sources=tuple(tree.read), watched=tuple(tree.watched),
    )  # fmt: skip


def stat_signature(paths: Iterable[str]) -> tuple[tuple[str, int, int, int] | None, ...]:
    """Return what `os.stat` says of each path: differs when an inventory should be read again.

    A directory counts with what is in it: a fault in a new file of group_vars/ is mended there, and that file is
    in no inventory yet.
    """
    result: list[tuple[str, int, int, int] | None] = []
    queue = [(path, 0) for path in paths]
    while queue and len(result) < _WATCHED_MAX:
        path, depth = queue.pop()
        try:
            facts = os.stat(path)
            if depth < _WATCHED_DEPTH_MAX and stat.S_ISDIR(facts.st_mode):
                queue += [(os.path.join(path, n), depth + 1) for n in sorted(os.listdir(path)) if n[0] != "."]
        except (OSError, ValueError):
            result.append(None)
        else:
            result.append((path, facts.st_mtime_ns, facts.st_size, facts.st_ino))
    return tuple(result)


def _read_variables(tree: Tree) -> dict[int, object]:
    """Return the value of every `sshq_*` entry by the entry's identity; the first fault is raised."""
    values: dict[int, object] = {}
    owners: list[Group | AnsibleHost] = [*tree.groups.values(), *tree.hosts.values()]
    for owner in owners:
        for entry in (*owner.own.values(), *owner.filed.values()):
            key = None if id(entry) in values else find_key(entry)
            if key is None:
                continue
            if key.where is Where.PARTITION and isinstance(owner, AnsibleHost):
                raise explain_misplaced(key, entry, owner.name)
            values[id(entry)] = read_entry(key, entry)
    return values


def _find_twins(hosts: Iterable[Host]) -> list[str]:
    """Warn of two names with one address; whether they are one machine is proved by its spool, elsewhere."""
    first: dict[tuple[object, ...], str] = {}
    found: list[str] = []
    for host in hosts:
        endpoint: tuple[object, ...] = (host.address.lower(), host.port or 22, host.account, host.ssh_options)
        if host.connection == "local":
            endpoint = ("local",)
        if endpoint in first:
            found.append(f"{host.name} and {first[endpoint]} have the same address: one machine under two names?")
        first.setdefault(endpoint, host.name)
    return found


def _explain_nobody(path: str, excluded: list[Excluded]) -> InventoryError:
    if not excluded:
        return InventoryError("no hosts in it", file=path, hint="start from inventory.example.yaml")
    reasons = dict.fromkeys(f"{host.name}: {host.reason}" for host in excluded[:5])
    more = f"\n    and {len(excluded) - 5} more" if len(excluded) > 5 else ""
    message = "no host takes part" + "".join(f"\n    {reason}" for reason in reasons) + more
    hint = "give the hosts that shall run jobs a variable, for example sshq_nice: 10"
    return InventoryError(message, file=path, hint=hint)


__all__ = ["KEYS", "embedded_default", "find_inventory", "load_found", "load_inventory", "stat_signature"]
