"""Points in time, told at 2026-11-22 16:36:31 in Berlin (a Sunday, UTC+1), and around changes of the clock."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sshq.core.times import TimeSpecError, find_local_time, format_time, format_time_utc, parse_begin

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 22, 16, 36, 31, tzinfo=BERLIN).timestamp()


def berlin(at: float) -> int:
    offset = datetime.fromtimestamp(at, BERLIN).utcoffset()
    assert offset is not None
    return int(offset.total_seconds())


def read(text: str, *, past: bool = False, now: float = NOW) -> str:
    return format_time(parse_begin(text, now, berlin, past=past), berlin)


@pytest.mark.parametrize(
    ("text", "begin"),
    [
        ("now", "2026-11-22T16:36:31"),
        ("20:00-", "2026-11-22T20:00:00"),  # a joint with nothing behind it is harmless
        ("now+60", "2026-11-22T16:37:31"),
        ("now+1hour", "2026-11-22T17:36:31"),
        ("now+2hours", "2026-11-22T18:36:31"),
        ("now + 90 minutes", "2026-11-22T18:06:31"),
        ("NOW+1Day", "2026-11-23T16:36:31"),
        ("now+2weeks", "2026-12-06T16:36:31"),
        ("now+30seconds", "2026-11-22T16:37:01"),
        ("now-1hour", "2026-11-22T15:36:31"),
        ("now-3days", "2026-11-19T16:36:31"),
        ("today", "2026-11-22T00:00:00"),
        ("tomorrow", "2026-11-23T00:00:00"),
        ("midnight", "2026-11-23T00:00:00"),
        ("noon", "2026-11-23T12:00:00"),
        ("elevenses", "2026-11-23T11:00:00"),
        ("fika", "2026-11-23T15:00:00"),
        ("teatime", "2026-11-23T16:00:00"),
        ("noon tomorrow", "2026-11-23T12:00:00"),
        ("tomorrow 8:30", "2026-11-23T08:30:00"),
        ("today 23:59", "2026-11-22T23:59:00"),
        ("23:59", "2026-11-22T23:59:00"),
        ("16:36", "2026-11-23T16:36:00"),
        ("16:36:59", "2026-11-23T16:36:59"),  # Slurm compares minutes
        ("16:37", "2026-11-22T16:37:00"),
        ("00:01", "2026-11-23T00:01:00"),
        ("7:05", "2026-11-23T07:05:00"),
        ("5:30 PM", "2026-11-22T17:30:00"),
        ("5:30pm", "2026-11-22T17:30:00"),
        ("12:15 am", "2026-11-23T00:15:00"),
        ("12:15 PM", "2026-11-23T12:15:00"),
        ("122426", "2026-12-24T00:00:00"),
        ("1224", "2026-12-24T00:00:00"),
        ("0101", "2027-01-01T00:00:00"),
        ("12/24/27", "2027-12-24T00:00:00"),
        ("12/24", "2026-12-24T00:00:00"),
        ("11/22", "2027-11-22T00:00:00"),
        ("11/22-17:00", "2026-11-22T17:00:00"),
        ("3.1.27", "2027-03-01T00:00:00"),
        ("12/24/26-18:00", "2026-12-24T18:00:00"),
        ("2030-01-02T03:04:05", "2030-01-02T03:04:05"),
        ("2030-01-02", "2030-01-02T00:00:00"),
        ("2030-1-2 3:04", "2030-01-02T03:04:00"),
        ("2026-01-02", "2026-01-02T00:00:00"),
        ("2028-02-29", "2028-02-29T00:00:00"),
        ("2026-07-01T12:00", "2026-07-01T12:00:00"),
    ],
)
def test_a_begin_time_is_the_next_that_fits(text: str, begin: str) -> None:
    assert read(text) == begin


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("now-1hour", "2026-11-22T15:36:31"),
        ("now-10minutes", "2026-11-22T16:26:31"),
        ("midnight", "2026-11-22T00:00:00"),
        ("16:36", "2026-11-22T16:36:00"),
        ("23:59", "2026-11-22T23:59:00"),
        ("1101", "2026-11-01T00:00:00"),
        ("12/24", "2025-12-24T00:00:00"),
        ("2026-11-20T08:00", "2026-11-20T08:00:00"),
    ],
)
def test_sacct_looks_into_the_past(text: str, start: str) -> None:
    assert read(text, past=True) == start


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("whenever", 0), ("", 0), (" ", 0), ("now+", 4), ("now+x", 4), ("now*2", 3), ("now+1fortnight", 5), ("now+1hour2", 9), ("tomorrow never", 9),
        ("24:00", 0), ("12:60", 3), ("12:3", 4), ("13:00 pm", 6), ("12:00:60", 6), ("1", 1), ("1332", 3), ("2026-13-01", 9), ("2026-02-30", 9), ("0000-01-01", 9),
        ("2026-11", 7), ("12/24/", 6), ("noon x", 5), ("now tomorrow", 4), ("9999999999999", 5),
    ],
)  # fmt: skip
def test_a_bad_time_is_refused_with_its_place(text: str, position: int) -> None:
    with pytest.raises(TimeSpecError) as caught:
        read(text)
    assert str(caught.value) == f"Invalid time specification (pos={position}): {text}"


def test_a_day_that_this_year_lacks_is_refused() -> None:
    with pytest.raises(TimeSpecError):
        read("2/29")


def test_a_time_of_day_keeps_its_reading_across_a_change_of_the_clock() -> None:
    before_summer = datetime(2026, 3, 28, 12, 0, tzinfo=BERLIN).timestamp()
    assert read("11:00", now=before_summer) == "2026-03-29T11:00:00"
    assert parse_begin("tomorrow", before_summer, berlin) - before_summer == 12 * 3600
    assert parse_begin("11:00", before_summer, berlin) - before_summer == 22 * 3600
    assert read("now+1day", now=before_summer) == "2026-03-29T13:00:00"


def test_a_reading_that_the_clock_shows_twice_is_the_first_and_one_it_never_shows_is_after_the_jump() -> None:
    twice = find_local_time(datetime(2026, 10, 25, 2, 30), berlin)
    assert format_time_utc(twice) == "2026-10-25T00:30:00Z"
    never = find_local_time(datetime(2026, 3, 29, 2, 30), berlin)
    assert format_time(never, berlin) == "2026-03-29T03:30:00"


@settings(max_examples=80)
@given(st.datetimes(datetime(1971, 1, 1), datetime(2090, 1, 1)), st.sampled_from(["Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "UTC", "Australia/Lord_Howe"]))  # fmt: skip
def test_a_time_printed_reads_back_as_itself(when: datetime, zone: str) -> None:
    place = ZoneInfo(zone)

    def offset(at: float) -> int:
        found = datetime.fromtimestamp(at, place).utcoffset()
        assert found is not None
        return int(found.total_seconds())

    at = when.replace(microsecond=0, tzinfo=place, fold=0).timestamp()
    shown = format_time(at, offset)
    again = parse_begin(shown, NOW, offset)
    assert format_time(again, offset) == shown
    assert again == at or again == at - timedelta(hours=1).total_seconds() or again == at - 1800


def test_an_unknown_time_says_so_and_fractions_are_cut() -> None:
    assert format_time(None, berlin) == "Unknown"
    assert format_time(NOW + 0.9, berlin) == "2026-11-22T16:36:31"
    assert format_time_utc(0.5) == "1970-01-01T00:00:00Z"
