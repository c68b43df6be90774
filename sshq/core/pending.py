"""The pending jobs that may be considered, grouped by equal requests.

A pass looks at the head of each group only: 100 000 pending jobs of 50 shapes cost 50 looks and one more for each
start.  Held, dependent and not-yet-begun jobs are not in here; they come back by an event or a timer.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator

from sshq.core.placement import Request

Key = tuple[int, int, int]  # sort key: highest priority first, then order of submission, then id


class PendingQueue:
    """Groups of (key, job id), each sorted; a job is in at most one group."""

    def __init__(self) -> None:
        self.groups: dict[Request, list[Key]] = {}
        self.blocked: dict[Request, str] = {}  # why the group's head did not start in the last pass
        self.planned: dict[str, Request] = {}  # node -> whom the last pass kept it for
        self._where: dict[int, tuple[Request, Key]] = {}

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, job_id: int) -> bool:
        return job_id in self._where

    def add(self, job_id: int, request: Request, sort_key: tuple[int, int]) -> None:
        self.remove(job_id)
        key = (*sort_key, job_id)
        insort(self.groups.setdefault(request, []), key)
        self._where[job_id] = (request, key)

    def remove(self, job_id: int) -> None:
        found = self._where.pop(job_id, None)
        if found is None:
            return
        request, key = found
        group = self.groups[request]
        del group[bisect_left(group, key)]
        if not group:
            del self.groups[request]
            self.blocked.pop(request, None)

    def request(self, job_id: int) -> Request | None:
        found = self._where.get(job_id)
        return found[0] if found else None

    def is_head(self, job_id: int) -> bool:
        found = self._where.get(job_id)
        return found is not None and self.groups[found[0]][0] == found[1]

    def is_planned(self, node: str) -> bool:
        """Whether a node is kept for a request that still waits."""
        request = self.planned.get(node)
        return request is not None and request in self.groups

    def __iter__(self) -> Iterator[int]:
        return iter(self._where)
