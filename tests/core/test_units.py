"""Amounts: what sbatch accepts, what Slurm 22.05 printed (slurm transcripts time-*, mem-*, sacct-fmt)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sshq.core.units import (
    format_cpu_time,
    format_elapsed,
    format_elapsed_padded,
    format_memory,
    format_time_limit,
    format_time_limit_padded,
    parse_count,
    parse_memory,
    parse_time_limit,
    suggest_time_limit,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("10", "10:00"),
        ("10:30", "11:00"),
        ("1:02:03", "1:03:00"),
        ("2-3", "2-03:00:00"),
        ("2-3:04", "2-03:04:00"),
        ("2-3:04:05", "2-03:05:00"),
        ("2-0", "2-00:00:00"),
        ("0", "UNLIMITED"),
        ("UNLIMITED", "UNLIMITED"),
        ("infinite", "UNLIMITED"),
        ("-1", "UNLIMITED"),
        ("0:01", "1:00"),
        ("90", "1:30:00"),
        ("90:00", "1:30:00"),
        ("1440", "1-00:00:00"),
        ("1-30:00", "2-06:00:00"),
        ("0-0:0:1", "1:00"),
        (" 5 ", "5:00"),
    ],
)
def test_a_time_limit_is_read_and_shown_as_squeue_does(text: str, shown: str) -> None:
    assert format_time_limit(parse_time_limit(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "1h",
        "1:",
        ":1",
        "1:2:3:4",
        "1-2:3:4:5",
        "1-",
        "-5",
        "--1",
        "+5",
        "1.5",
        "1 2",
        "1_0",
        "٣",
        "1-2-3",
        "9" * 19,
    ],
)
def test_a_bad_time_limit_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ValueError, match="times are minutes, MM:SS"):
        parse_time_limit(text)


def test_a_time_limit_of_ages_is_refused() -> None:
    with pytest.raises(ValueError, match="largest"):
        parse_time_limit("99999999999")


@given(st.integers(1, 10**7))
def test_whole_minutes_survive_being_shown_and_read(minutes: int) -> None:
    limit_s = minutes * 60
    assert parse_time_limit(format_time_limit(limit_s)) == limit_s
    assert parse_time_limit(format_time_limit_padded(limit_s)) == limit_s


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1h", "1:00:00"),
        ("90m", "1:30:00"),
        ("30s", "0:30"),
        ("1d12h", "1-12:00:00"),
        ("h", None),
        ("1x", None),
        ("10", None),
        ("0h", None),
    ],
)
def test_a_limit_with_letters_is_answered_by_slurms_form(text: str, said: str | None) -> None:
    assert suggest_time_limit(text) == said


@pytest.mark.parametrize(
    ("seconds", "short", "padded"),
    [
        (0, "0:00", "00:00:00"),
        (5, "0:05", "00:00:05"),
        (5.9, "0:05", "00:00:05"),
        (600, "10:00", "00:10:00"),
        (3723, "1:02:03", "01:02:03"),
        (86399, "23:59:59", "23:59:59"),
        (93784, "1-02:03:04", "1-02:03:04"),
        (183845, "2-03:04:05", "2-03:04:05"),
        (100 * 86400, "100-00:00:00", "100-00:00:00"),
        (-1, "INVALID", "INVALID"),
    ],
)
def test_elapsed_time_is_shown_short_by_squeue_and_padded_by_sacct(
    seconds: float, short: str, padded: str
) -> None:
    assert format_elapsed(seconds) == short
    assert format_elapsed_padded(seconds) == padded


def test_no_limit_is_infinite_in_sinfo_and_unlimited_elsewhere() -> None:
    assert format_time_limit(None, unlimited="infinite") == "infinite"
    assert format_time_limit_padded(None) == "UNLIMITED"
    assert format_time_limit_padded(600) == "00:10:00"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.011, "00:00.011"),
        (0.0, "00:00:00"),
        (0.0004, "00:00:00"),
        (61.5, "01:01.500"),
        (3599.999, "59:59.999"),
        (3599.9996, "01:00:00"),
        (3600.5, "01:00:00"),
        (90061, "1-01:01:01"),
    ],
)
def test_cpu_time_shows_thousandths_below_an_hour(seconds: float, shown: str) -> None:
    assert format_cpu_time(seconds) == shown


@pytest.mark.parametrize(
    ("text", "mib", "shown"),
    [
        ("100", 100, "100M"),
        ("512K", 1, "1M"),
        ("3000K", 3, "3M"),
        ("100M", 100, "100M"),
        ("1G", 1024, "1G"),
        ("0", 0, "0"),
        ("1T", 1048576, "1T"),
        ("2gb", 2048, "2G"),
        ("1024k", 1, "1M"),
        ("1025kB", 2, "2M"),
        ("1536", 1536, "1.50G"),
        ("64000", 64000, "62.50G"),
        ("4000M", 4000, "4000M"),
        ("1025G", 1025 * 1024, "1025G"),
        ("2048T", 2048 * 1048576, "2P"),
    ],
)
def test_memory_is_read_and_shown_as_squeue_does(text: str, mib: int, shown: str) -> None:
    assert parse_memory(text) == mib
    assert format_memory(mib) == shown


@pytest.mark.parametrize(
    "text", ["", "lots", "1.5G", "-1", "+1", "1X", "G", "1 G", "1GG", "1B", "1KiB", "1e3", "99999999999T"]
)
def test_bad_memory_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="memory"):
        parse_memory(text)


@given(st.integers(0, 2**40))
def test_memory_shown_in_whole_units_reads_back(mib: int) -> None:
    shown = format_memory(mib)
    if "." not in shown and not shown.endswith("P"):
        assert parse_memory(shown) == mib
    else:
        unit = {"G": 10, "T": 20, "P": 30}[shown[-1]]
        assert float(shown[:-1]) * 2**unit == mib


@pytest.mark.parametrize(
    ("text", "count"), [("1", 1), ("0", 0), ("16", 16), ("2k", 2048), ("1K", 1024), ("1m", 1048576)]
)
def test_counts_take_k_and_m(text: str, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["", "x", "k", "-1", "1.5", "1G", "9999999999"])
def test_bad_counts_are_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="count"):
        parse_count(text)
