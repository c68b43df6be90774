"""Hosts, groups and variables as Ansible relates them: who belongs where, and which of several values wins.

Nothing here knows sshq.  The rules, each compared with the real `ansible-inventory --list` by the tests:

* `all` is the ancestor of every group, and a host in no group is in `ungrouped`.
* Of two values the later wins, in this order: `all`, then the groups by depth (the longest way from `all`),
  `ansible_group_priority` and name, as written in the inventory; then group_vars/all, then group_vars/GROUP
  in the same order; then the host as written, then host_vars/HOST.  A value replaces, mappings too.
"""

import re
from dataclasses import dataclass, field
from typing import Final

from sshq.inventory.document import Entry, Node, Place, Plain, Scalar, describe, to_plain

HOSTS_MAX: Final = 20_000


@dataclass(slots=True)
class Group:
    """A group; `own` are the variables written in the inventory, `filed` those of group_vars/."""

    name: str
    place: Place | None
    children: list[str] = field(default_factory=list)
    parents: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    own: dict[str, Entry] = field(default_factory=dict)
    filed: dict[str, Entry] = field(default_factory=dict)
    priority: int = 1
    depth: int = 0


@dataclass(slots=True)
class AnsibleHost:
    """A host; `own` are the variables written in the inventory, `filed` those of host_vars/."""

    name: str
    place: Place
    groups: list[str] = field(default_factory=list)  # those it is written in
    own: dict[str, Entry] = field(default_factory=dict)
    filed: dict[str, Entry] = field(default_factory=dict)


class Tree:
    """All that one inventory says.  `read` collects what was looked at, for the digest and the watch."""

    def __init__(self) -> None:
        self.groups: dict[str, Group] = {"all": Group("all", None), "ungrouped": Group("ungrouped", None)}
        self.hosts: dict[str, AnsibleHost] = {}
        self.read: dict[str, bytes] = {}
        self.watched: dict[str, None] = {}  # an ordered set
        self.warnings: list[str] = []
        self.link("all", "ungrouped", None)

    def ancestors(self, name: str) -> set[str]:
        """Return every group above one."""
        found: set[str] = set()
        frontier = list(self.groups[name].parents)
        while frontier:
            parent = frontier.pop()
            if parent not in found:
                found.add(parent)
                frontier += self.groups[parent].parents
        return found

    def groups_of(self, host: str) -> list[Group]:
        """Return every group a host is in, weakest first, `all` included."""
        names = {"all"}
        for name in self.hosts[host].groups:
            names |= {name} | self.ancestors(name)
        return sorted((self.groups[name] for name in names), key=lambda g: (g.depth, g.priority, g.name))

    def hosts_of(self, group: str) -> list[str]:
        """Return the hosts of a group and of those below it, in the order of the inventory."""
        below, frontier = {group}, [group]
        while frontier:
            fresh = [child for child in self.groups[frontier.pop()].children if child not in below]
            below.update(fresh)
            frontier += fresh
        everyone = group == "all"
        return [name for name, host in self.hosts.items() if everyone or not below.isdisjoint(host.groups)]

    def variables_of(self, host: str) -> dict[str, Entry]:
        """Return what Ansible calls the host's variables: for each name the entry that wins."""
        everything, *groups = self.groups_of(host)  # `all` alone has depth 0
        result = dict(everything.own)
        for group in groups:
            result |= group.own
        for group in (everything, *groups):
            result |= group.filed
        return result | self.hosts[host].own | self.hosts[host].filed

    def add_host(self, name: str, place: Place, group: str) -> None:
        """Put a host into a group."""
        if name not in self.hosts:
            if len(self.hosts) >= HOSTS_MAX:
                raise place.error(f"more than {HOSTS_MAX} hosts")
            self.hosts[name] = AnsibleHost(name, place)
        if name not in self.groups[group].hosts:
            self.groups[group].hosts.append(name)
            self.hosts[name].groups.append(group)

    def add_group(self, name: str, place: Place) -> None:
        """Make a group, unless it is there."""
        if name not in self.groups:
            self.groups[name] = Group(name, place)

    def link(self, parent: str, child: str, place: Place | None) -> None:
        """Make one group the child of another; a circle is refused."""
        if child in self.groups[parent].children:
            return
        if (parent == child or child in self.ancestors(parent)) and place is not None:
            raise place.error(f"the group `{child}` would contain itself, through `{parent}`")
        self.groups[parent].children.append(child)
        self.groups[child].parents.append(parent)

    def set_variable(self, owner: str, entry: Entry) -> None:
        """Set a variable; if a host is called like a group, Ansible means the group."""
        if owner not in self.groups:
            self.hosts[owner].own[entry.name] = entry
        elif entry.name == "ansible_group_priority":
            self.groups[owner].priority = _read_priority(entry.value)
        else:
            self.groups[owner].own[entry.name] = entry

    def settle(self) -> None:
        """Apply Ansible's last rules, once all is read: `all` above everything, `ungrouped`, depths."""
        for group in list(self.groups.values()):
            if group.name != "all" and not group.parents:
                self.link("all", group.name, group.place)
        for host in self.hosts.values():
            elsewhere = [name for name in host.groups if name not in ("all", "ungrouped")]
            if elsewhere and "ungrouped" in host.groups:
                host.groups.remove("ungrouped")
                self.groups["ungrouped"].hosts.remove(host.name)
            elif not elsewhere and host.name in self.groups:
                self.link("ungrouped", host.name, host.place)  # called like a group: Ansible takes that one
            elif not elsewhere and "ungrouped" not in host.groups:
                host.groups.append("ungrouped")
                self.groups["ungrouped"].hosts.append(host.name)
        self._measure_depths()

    def _measure_depths(self) -> None:
        waiting = {name: len(group.parents) for name, group in self.groups.items()}
        ready = [name for name, count in waiting.items() if count == 0]
        while ready:
            group = self.groups[ready.pop()]
            for name in group.children:
                child = self.groups[name]
                child.depth = max(child.depth, group.depth + 1)
                waiting[name] -= 1
                if waiting[name] == 0:
                    ready.append(name)


def as_ansible_list(tree: Tree) -> dict[str, Plain]:
    """Return the tree in the shape of `ansible-inventory --list`, without its `_meta.profile`."""
    result: dict[str, Plain] = {}
    for group in tree.groups.values():
        shown: dict[str, Plain] = {}
        if group.hosts and group.name != "all":
            shown["hosts"] = list(group.hosts)
        if group.children:
            shown["children"] = list(group.children)
        if shown:
            result[group.name] = shown
    variables: dict[str, Plain] = {}
    for name in tree.hosts:
        if entries := tree.variables_of(name):
            variables[name] = {key: to_plain(entry.value) for key, entry in entries.items()}
    return result | {"_meta": {"hostvars": variables}}


def _read_priority(node: Node) -> int:
    if isinstance(node, Scalar) and re.fullmatch(r"-?[0-9]{1,9}", node.text):
        return int(node.text)
    raise node.place.error(f"ansible_group_priority is a whole number, not {describe(node)}")
