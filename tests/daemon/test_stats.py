"""The figures of `sshq stats`: histograms that are right to a bucket, counts of the last minute, of the day, of a host."""

import asyncio
import random

import pytest

from sshq.controller import stats
from sshq.controller.stats import Histogram, HostFigures, Recent, Stats
from sshq.errors import LoginError, UnreachableHostError
from sshq.transport.base import Counters


def test_a_histogram_is_right_to_a_fifth() -> None:
    pick, histogram = random.Random(1), Histogram()
    values = [pick.expovariate(100) for _ in range(5000)]
    for value in values:
        histogram.add(value)
    values.sort()
    told = histogram.tell()
    assert (told["count"], told["max_s"]) == (5000, pytest.approx(values[-1], rel=1e-5))
    assert told["total_s"] == pytest.approx(sum(values), rel=1e-5)
    for key, share in (("p50_s", 0.5), ("p99_s", 0.99)):
        exact = values[int(share * 5000)]
        assert exact * 0.98 <= told[key] <= exact * 1.25


def test_a_histogram_of_nothing_and_of_what_no_bucket_holds() -> None:
    histogram = Histogram()
    assert histogram.tell() == {"count": 0, "total_s": 0.0, "p50_s": None, "p99_s": None, "max_s": 0.0}
    histogram.add(1e6)
    histogram.add(0.0)
    assert histogram.tell() == {"count": 2, "total_s": 1e6, "p50_s": 1e-6, "p99_s": 1e6, "max_s": 1e6}


def test_the_last_minute_forgets(monkeypatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(stats, "clock", lambda: now[0])
    recent = Recent()
    recent.add(5)
    now[0] += 30
    recent.add(7)
    assert recent.total() == 12
    now[0] += 29
    assert recent.total() == 12
    now[0] += 1
    assert recent.total() == 7
    now[0] += 10_000
    assert recent.total() == 0


class Way:
    """A transport whose connections count as it is told."""

    def __init__(self, error: Exception | None = None, **figures: int) -> None:
        self.counters = Counters(connections_opened=1, connections_open=1, **figures)
        self.error = error

    async def connect(self) -> "Way":
        if self.error is not None:
            raise self.error
        return self


def test_a_host_sums_over_its_connections_and_counts_the_day(monkeypatch) -> None:
    async def run() -> None:
        figures = HostFigures()
        first = Way(bytes_in=100, bytes_out=10, channels_opened=3, channels_peak=2)
        await figures.connect(first)
        first.counters.connections_open, first.counters.bytes_in = 0, 150
        for error in (LoginError("no", host="n"), UnreachableHostError("away", host="n")):
            with pytest.raises(type(error)):
                await figures.connect(Way(error))
        await figures.connect(Way(bytes_in=1, channels_open=1, channels_opened=1, channels_peak=1))
        told = figures.tell()
        assert told.pop("round_trips")["count"] == 0
        assert told == {
            "connections_opened": 2, "opened_today": 2, "refused_today": 1, "channels_open": 1, "channels_opened": 4,
            "channels_peak": 2, "bytes_in": 151, "bytes_out": 10,
        }  # fmt: skip
        assert await figures.time(asyncio.sleep(0, "answer")) == "answer"
        assert figures.tell()["round_trips"]["count"] == 1
        tomorrow = stats.time.localtime(stats.time.time() + 86400)
        monkeypatch.setattr(stats.time, "localtime", lambda: tomorrow)
        assert (figures.tell()["opened_today"], figures.tell()["connections_opened"]) == (0, 2)

    asyncio.run(run())


def test_requests_are_told_by_name() -> None:
    figures = Stats()
    figures.note_request("jobs", 0.001)
    figures.note_request("jobs", 0.002)
    figures.note_batch(3, 2)
    figures.note_batch(1, 0)
    told = figures.tell()
    assert told["requests"]["jobs"]["count"] == 2
    assert (told["events"], told["batches"]) == (2, {"count": 2, "mean": 2.0, "p50": 1.0, "p99": 3.0, "max": 3})
