"""When to look at which job again: begin times, deadlines, delays after a start.

A timer is a hint: who is woken is judged anew, so one that has become void does no harm and is never searched for.
"""

import heapq


class Timers:
    """When to look at which job again; one entry a pair, however often it is asked for."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []
        self._known: set[tuple[float, int]] = set()

    def add(self, at: float, job_id: int) -> None:
        if (at, job_id) not in self._known:
            self._known.add((at, job_id))
            heapq.heappush(self._heap, (at, job_id))

    def next(self) -> float | None:
        return self._heap[0][0] if self._heap else None

    def take_due(self, now: float) -> list[int]:
        due = []
        while self._heap and self._heap[0][0] <= now:
            self._known.discard(self._heap[0])
            due.append(heapq.heappop(self._heap)[1])
        return due
