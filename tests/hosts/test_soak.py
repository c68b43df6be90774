"""Two minutes of ten jobs a second with a kill -9 of the controller every fifteen seconds; longer: contrib/chaos/soak.py --hours 2."""

import subprocess
import sys

import pytest

from bed import REPO
from contrib.chaos.soak import RSS_GROWTH_MIB, SPOOL_FILES_MAX, Sample, judge_growth, slope_per_hour


@pytest.mark.slow
@pytest.mark.timeout(480)
def test_two_minutes_of_jobs_and_kills_lose_nothing_and_nothing_grows(netns_bed):
    argv = [sys.executable, f"{REPO}/contrib/chaos/soak.py", "--minutes", "2"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=450)
    assert done.returncode == 0, done.stdout + done.stderr[-6000:]
    cells = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    rows = {row[0]: row[1] for row in cells if len(row) == 2}
    assert int(rows["controller killed"]) >= 4, done.stdout  # eight, where looking takes no time
    jobs = next(value for what, value in rows.items() if what.startswith("jobs, all"))
    assert int(jobs.split()[0]) >= 40, done.stdout  # ten a second where the machine can


def make_samples(rss=lambda n: 50.0, fds=lambda n: 16, files=lambda n: 20, wal=lambda n: 4.0) -> list[Sample]:
    return [
        Sample(at_s=15.0 * n, rss_mib=rss(n), fds=fds(n), wal_mib=wal(n), store_mib=1.0, spool_files=files(n), waiting=0)
        for n in range(80)
    ]


def test_a_flat_soak_passes():
    assert judge_growth(make_samples(), 1200) == []
    assert slope_per_hour(make_samples()) == pytest.approx(0)


@pytest.mark.parametrize(
    ("grown", "word"),
    [
        ({"rss": lambda n: 50 + n * RSS_GROWTH_MIB / 40}, "memory grew"),
        ({"rss": lambda n: 50 + n * 0.05}, "memory grows by 12.0 MiB an hour"),
        ({"fds": lambda n: 16 + n}, "file descriptors"),
        ({"files": lambda n: n * SPOOL_FILES_MAX // 60}, "spools hold"),
        ({"wal": lambda n: n * 1.0}, "log grew"),
    ],
)
def test_what_grows_is_named(grown, word):
    assert any(word in text for text in judge_growth(make_samples(**grown), 1200))
