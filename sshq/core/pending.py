"""The pending jobs that may be considered, grouped by equal requests.

A pass looks at the head of each group only: 100 000 pending jobs of 50 shapes cost 50 looks and one more for each
start.  Held, dependent and not-yet-begun jobs are not in here; they come back by an event or a timer.
"""

from collections.abc import Iterable, Iterator

from sshq.core.placement import Request
from sshq.core.sortedkeys import Key, SortedKeys


class Group:
    """Jobs that ask for the same."""

    __slots__ = ("blocked", "keys", "request")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.keys = SortedKeys()  # highest priority first, then order of submission, then id
        self.blocked: str | None = None  # why the head did not start in the last pass


class PendingQueue:
    """A job is in at most one group; no group is empty."""

    def __init__(self) -> None:
        self.groups: dict[Request, Group] = {}
        self.planned: dict[str, Request] = {}  # node -> whom the last pass kept it for
        self._where: dict[int, tuple[Group, Key]] = {}

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, job_id: int) -> bool:
        return job_id in self._where

    def add(self, job_id: int, request: Request, sort_key: tuple[int, int]) -> None:
        self.remove(job_id)
        key = (*sort_key, job_id)
        group = self.groups.get(request)
        if group is None:
            group = self.groups[request] = Group(request)
        group.keys.add(key)
        self._where[job_id] = (group, key)

    def add_many(self, entries: Iterable[tuple[int, Request, tuple[int, int]]]) -> None:
        """Add jobs that are not in here, as `add` does, the keys of each group in one go."""
        keys: dict[Request, list[Key]] = {}
        for job_id, request, (first, second) in entries:
            keys.setdefault(request, []).append((first, second, job_id))
        for request, found in keys.items():
            group = self.groups.get(request)
            if group is None:
                group = self.groups[request] = Group(request)
            group.keys.add_many(found)
            self._where.update((key[2], (group, key)) for key in found)

    def remove(self, job_id: int) -> None:
        found = self._where.pop(job_id, None)
        if found is None:
            return
        group, key = found
        group.keys.remove(key)
        if not group.keys:
            del self.groups[group.request]

    def request(self, job_id: int) -> Request | None:
        found = self._where.get(job_id)
        return found[0].request if found else None

    def blocked(self, job_id: int) -> str | None:
        """Why the head of the job's group did not start in the last pass; None if it did, or there was none."""
        found = self._where.get(job_id)
        return found[0].blocked if found else None

    def is_head(self, job_id: int) -> bool:
        found = self._where.get(job_id)
        return found is not None and found[0].keys.first() == found[1]

    def is_planned(self, node: str) -> bool:
        """Whether a node is kept for a request that still waits."""
        request = self.planned.get(node)
        return request is not None and request in self.groups

    def __iter__(self) -> Iterator[int]:
        return iter(self._where)
