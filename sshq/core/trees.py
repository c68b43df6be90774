"""Which hosts have a job's files in their caches, as far as starts told: a hint, for the choice between hosts that do as well."""

from collections.abc import Collection
from typing import Final

TREES_MAX: Final = 4096
HOSTS_MAX: Final = 64  # of one tree: more choice than anybody needs


class Trees:
    """Kept in memory alone: after a restart the first job of a tree goes where any would.  A host may have let go of it since."""

    def __init__(self) -> None:
        self._hosts: dict[str, dict[str, None]] = {}  # by tree, used longest ago first

    def note(self, tree: str, node: str) -> None:
        """A job with these files began there."""
        hosts = self._hosts.pop(tree, {})
        hosts.pop(node, None)
        hosts[node] = None
        if len(hosts) > HOSTS_MAX:
            del hosts[next(iter(hosts))]
        self._hosts[tree] = hosts
        if len(self._hosts) > TREES_MAX:
            del self._hosts[next(iter(self._hosts))]

    def hosts(self, tree: str | None) -> Collection[str]:
        """Return the hosts that have it, probably."""
        return self._hosts.get(tree, ()) if tree is not None else ()
