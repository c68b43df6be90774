"""Cheap counters of how the controller fares, and the request `stats` that tells them.

A figure costs an addition in a list of fixed buckets; nothing is kept for each event.  Times are those of this process's own
clock, so they go on whatever the wall clock does; what is counted by the day is counted by the local date.
"""

import os
import time
from bisect import bisect_left
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from sshq.core.cluster import Cluster
from sshq.errors import LoginError
from sshq.transport.base import Connection, Counters, Transport
from sshq.wire.server import Peer, StreamOut

T = TypeVar("T")
BOUNDS_S: Final = tuple(1e-6 * 2 ** (i / 4) for i in range(120))  # a microsecond to a quarter of an hour, a fifth apart
SIZES: Final = tuple(2**i for i in range(16))
RECENT_S: Final = 60
clock: Final = time.perf_counter


class Histogram:
    """How often a value fell into which bucket; quantiles are right to a bucket's width (a fifth for times)."""

    __slots__ = ("_bounds", "_counts", "count", "most", "total")

    def __init__(self, bounds: tuple[float, ...] = BOUNDS_S) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.count = 0
        self.total = 0.0
        self.most = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.count += 1
        self.total += value
        self.most = max(self.most, value)

    def quantile(self, share: float) -> float | None:
        """Return a value that this share of all did not exceed; None where there were none."""
        left = share * self.count
        for bound, count in zip((*self._bounds, self.most), self._counts, strict=True):
            left -= count
            if count and left <= 0:
                return min(bound, self.most)
        return None

    def tell(self) -> dict[str, float | int | None]:
        """Return count, sum, median, 99th percentile and largest, in seconds."""
        figures = {"total_s": self.total, "p50_s": self.quantile(0.5), "p99_s": self.quantile(0.99), "max_s": self.most}
        return {"count": self.count, **{key: _short(value) for key, value in figures.items()}}

    def tell_sizes(self) -> dict[str, float | int | None]:
        mean = self.total / self.count if self.count else None
        quantiles = {"p50": self.quantile(0.5), "p99": self.quantile(0.99)}
        return {"count": self.count, "mean": _short(mean), **quantiles, "max": int(self.most)}


class Recent:
    """How many of something there were in the last minute, to the second."""

    __slots__ = ("_counts", "_second")

    def __init__(self) -> None:
        self._counts = [0] * RECENT_S
        self._second = int(clock())

    def add(self, number: int) -> None:
        self._turn()
        self._counts[self._second % RECENT_S] += number

    def _turn(self) -> None:
        now = int(clock())
        for second in range(max(self._second + 1, now - RECENT_S + 1), now + 1):
            self._counts[second % RECENT_S] = 0
        self._second = now

    def total(self) -> int:
        self._turn()
        return sum(self._counts)


class HostFigures:
    """What a lab's administrator asks of one host: how often we came today, and how the line is."""

    def __init__(self) -> None:
        self._day = 0
        self.opened_today = 0
        self.refused_today = 0
        self.round_trips = Histogram()
        self._over = Counters()  # of connections that are gone
        self._open: list[Counters] = []

    def _look_at_date(self) -> None:
        day = time.localtime().tm_yday
        if day != self._day:
            self._day, self.opened_today, self.refused_today = day, 0, 0

    async def connect(self, transport: Transport) -> Connection:
        """Connect, and count it."""
        try:
            connection = await transport.connect()
        except LoginError:
            self._look_at_date()
            self.refused_today += 1
            raise
        self._look_at_date()
        self.opened_today += 1
        for gone in [one for one in self._open if not one.connections_open]:
            self._open.remove(gone)
            _add_counters(self._over, gone)
        self._open.append(connection.counters)
        return connection

    async def time(self, question: Coroutine[Any, Any, T]) -> T:
        """Await a short question to the runner, and note how long the answer took."""
        before = clock()
        answer = await question
        self.round_trips.add(clock() - before)
        return answer

    def tell(self) -> dict[str, object]:
        self._look_at_date()
        sums = Counters()
        for one in (self._over, *self._open):
            _add_counters(sums, one)
        return {
            "connections_opened": sums.connections_opened, "opened_today": self.opened_today,
            "refused_today": self.refused_today, "channels_open": sums.channels_open, "channels_opened": sums.channels_opened,
            "channels_peak": sums.channels_peak, "bytes_in": sums.bytes_in, "bytes_out": sums.bytes_out,
            "round_trips": self.round_trips.tell(),
        }  # fmt: skip


def _add_counters(sums: Counters, one: Counters) -> None:
    sums.connections_opened += one.connections_opened
    sums.channels_opened += one.channels_opened
    sums.channels_open += one.channels_open
    sums.channels_peak = max(sums.channels_peak, one.channels_peak)
    sums.bytes_in += one.bytes_in
    sums.bytes_out += one.bytes_out


class Stats:
    """The figures of the mailbox and of requests."""

    def __init__(self) -> None:
        self.began = clock()
        self.events = 0
        self.recent_events = Recent()
        self.batch_sizes = Histogram(tuple(map(float, SIZES)))
        self.commits = Histogram()
        self.passes = Histogram()
        self.starts = 0
        self._requests: dict[str, Histogram] = {}

    def note_batch(self, items: int, events: int) -> None:
        self.batch_sizes.add(items)
        if events:
            self.events += events
            self.recent_events.add(events)

    def note_request(self, method: str, took_s: float) -> None:
        found = self._requests.get(method)
        if found is None:
            found = self._requests[method] = Histogram()
        found.add(took_s)

    def tell(self) -> dict[str, object]:
        up_s = max(clock() - self.began, 1e-6)
        recent = self.recent_events.total()
        return {
            "events": self.events,
            "events_a_second": _short(self.events / up_s),
            "events_a_second_recent": _short(recent / min(up_s, RECENT_S)),
            "batches": self.batch_sizes.tell_sizes(),
            "commits": self.commits.tell(),
            "passes": {**self.passes.tell(), "starts": self.starts},
            "requests": {name: found.tell() for name, found in sorted(self._requests.items())},
        }


class Depths(Protocol):
    """What tells how much waits."""

    def __call__(self) -> Mapping[str, int]: ...


class StatsDesk:
    """Answers `stats`."""

    def __init__(
        self, *, stats: Stats, ask: Callable[[Callable[[Cluster], dict[str, int]]], Coroutine[Any, Any, dict[str, int]]],
        hosts: Callable[[], dict[str, object]], depths: Depths, state_dir: Path,
    ) -> None:  # fmt: skip
        self._stats = stats
        self._ask = ask
        self._hosts = hosts
        self._depths = depths
        self._state_dir = state_dir

    async def stats(self, _peer: Peer, _params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        """Return the figures; what they mean stands in the README."""
        depths = dict(self._depths())
        queue = await self._ask(_count_queue)
        return {
            "uptime_s": round(clock() - self._stats.began, 3),
            "pid": os.getpid(),
            **self._stats.tell(),
            "queue": {**queue, **depths},
            "memory": _read_memory(),
            "store": {name: _size_of(self._state_dir / file) for name, file in _STORE_FILES.items()},
            "hosts": self._hosts(),
        }


_STORE_FILES: Final = {"database_bytes": "sshq.db", "log_bytes": "sshq.db-wal"}


def _count_queue(cluster: Cluster) -> dict[str, int]:
    return {
        "jobs": len(cluster.jobs), "considered": len(cluster.pending), "shapes": len(cluster.pending.groups),
        "open_launches": len(cluster.launches),
    }  # fmt: skip


def _read_memory() -> dict[str, int]:
    found: dict[str, int] = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in ("VmRSS", "VmHWM"):
            found["bytes" if name == "VmRSS" else "peak_bytes"] = int(rest.split()[0]) * 1024
    return found


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _short(value: float | None) -> float | None:
    """Six digits are more than any of this is worth."""
    return None if value is None else float(f"{value:.6g}")
