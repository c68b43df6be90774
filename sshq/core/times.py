"""Points in time as sbatch and sacct read them (--begin, --deadline, -S, -E) and as Slurm prints them.

The clock and the time zone come in as arguments: `now` in seconds since the epoch, and a function that gives
the offset of local time from UTC at a point in time.  So nothing here depends on where or when it runs.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

UtcOffset = Callable[[float], int]  # of a time: seconds to add to UTC to get local time

_EPOCH: Final = datetime(1970, 1, 1)  # local wall time, without a zone on purpose
_UNITS_S: Final = (
    ("seconds", 1), ("second", 1), ("minutes", 60), ("minute", 60), ("hours", 3600), ("hour", 3600),
    ("days", 86400), ("day", 86400), ("weeks", 604800), ("week", 604800),
)  # fmt: skip
_CLOCK_WORDS: Final = {"midnight": 0, "elevenses": 11, "noon": 12, "fika": 15, "teatime": 16}
_DELTA_MAX_S: Final = 100 * 366 * 86400


class TimeSpecError(ValueError):
    """Slurm's message, with the place (counted from 0, as Slurm does)."""

    def __init__(self, text: str, position: int) -> None:
        super().__init__(f"Invalid time specification (pos={position}): {text}")
        self.text, self.position = text, position


def parse_begin(text: str, now: float, utc_offset_s: UtcOffset, *, past: bool = False) -> float:
    """Return the time a text means, in seconds since the epoch.

    Forms, any case, a date and a time of day in either order, joined by a blank, T or -:
    now, now+60 (seconds), now+1hour, now-3days; today, tomorrow, midnight, noon, elevenses, fika, teatime;
    HH:MM[:SS] [AM|PM]; MMDD[YY], MM/DD[/YY], MM.DD[.YY], YYYY-MM-DD[THH:MM[:SS]].

    Args:
        text: what the user wrote.
        now: seconds since the epoch.
        utc_offset_s: offset of local time at a given time; asked a few times.
        past: False (--begin, --deadline): a time of day without a date is the next one, and so is a date
            without a year.  True (sacct -S, -E): today's, and this year's unless its month is still to come.

    Raises:
        TimeSpecError: no such form, or no such day; its position is where reading stopped.

    """
    return _TimeReader(text, now, utc_offset_s, past=past).read()


def format_time(at: float | None, utc_offset_s: UtcOffset) -> str:
    """Return a time as Slurm prints it, in local time, 2026-11-22T16:36:31; Unknown for None."""
    if at is None:
        return "Unknown"
    return (_EPOCH + timedelta(seconds=int(at // 1) + utc_offset_s(at))).isoformat(timespec="seconds")


def format_time_utc(at: float) -> str:
    """Return a time for logs, 2026-11-22T15:36:31Z."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def find_local_time(wall: datetime, utc_offset_s: UtcOffset) -> float:
    """Return when a local wall clock shows `wall` (no zone, whole seconds), in seconds since the epoch.

    Where a clock shows it twice, at the end of summer time, it is the first; where it never does, at the
    beginning, it is as long after the jump as `wall` says.
    """
    as_utc = (wall - _EPOCH).total_seconds()
    # The offsets in force a day before and a day after: one of them is that of `wall`.
    before, after = utc_offset_s(as_utc - 86400), utc_offset_s(as_utc + 86400)
    matches = [as_utc - offset for offset in {before, after} if utc_offset_s(as_utc - offset) == offset]
    return min(matches) if matches else as_utc - before


class _TimeReader:
    """Reads one text from left to right, filling in day and clock."""

    def __init__(self, text: str, now: float, utc_offset_s: UtcOffset, *, past: bool) -> None:
        self.text, self.lower, self.past = text, text.lower(), past
        self.now, self.utc_offset_s = now, utc_offset_s
        self.wall = _EPOCH + timedelta(seconds=now // 1 + utc_offset_s(now))
        self.at = 0
        self.clock: tuple[int, int, int] | None = None
        self.day: tuple[int | None, int, int] | None = None  # year if given, month, day of month

    def read(self) -> float:
        while self.at < len(self.text):
            if self.lower.startswith("now", self.at):
                if self.clock or self.day:
                    raise self._fail()
                return float(self.now // 1 + self._read_delta())
            if self._read_word():
                continue
            if self.lower[self.at] in " \t-t":
                self.at += 1
            else:
                self._read_number()
        if self.clock is None and self.day is None:
            raise TimeSpecError(self.text, 0)
        return find_local_time(self._choose_wall(), self.utc_offset_s)

    def _fail(self, back: int = 0) -> TimeSpecError:
        return TimeSpecError(self.text, max(0, self.at - back))

    def _read_word(self) -> bool:
        for word, shift in (("today", 0), ("tomorrow", 1)):
            if self.lower.startswith(word, self.at):
                day = self.wall + timedelta(days=shift)
                self.day = (day.year, day.month, day.day)
                self.at += len(word)
                return True
        for word, hour in _CLOCK_WORDS.items():
            if self.lower.startswith(word, self.at):
                self.clock = (hour, 0, 0)
                self.at += len(word)
                return True
        return False

    def _read_delta(self) -> int:
        """Read what follows `now`, to the end of the text."""
        self.at += 3
        self._skip_blanks()
        if self.at == len(self.text):
            return 0
        sign = {"+": 1, "-": -1}.get(self.text[self.at])
        if sign is None:
            raise self._fail()
        self.at += 1
        self._skip_blanks()
        count = self._read_digits(1, 12)
        self._skip_blanks()
        scale = 1
        for word, seconds in _UNITS_S:
            if self.lower.startswith(word, self.at):
                scale = seconds
                self.at += len(word)
                break
        self._skip_blanks()
        if self.at != len(self.text) or count * scale > _DELTA_MAX_S:
            raise self._fail()
        return sign * count * scale

    def _read_number(self) -> None:
        if self.text[self.at + 1 : self.at + 2] == ":" or self.text[self.at + 2 : self.at + 3] == ":":
            self._read_clock()
        elif self.text[self.at + 4 : self.at + 5] == "-":
            year = self._read_digits(4, 4)
            self.at += 1
            month = self._read_digits(1, 2)
            if self.text[self.at : self.at + 1] != "-":
                raise self._fail()
            self.at += 1
            self._set_day(year, month, self._read_digits(1, 2))
        else:
            month = self._read_digits(1, 2)
            self._skip_one("./")
            day = self._read_digits(1, 2)
            separated = self._skip_one("./")
            has_year = separated or self.text[self.at : self.at + 1].isdigit()
            self._set_day(2000 + self._read_digits(2, 2) if has_year else None, month, day)

    def _read_clock(self) -> None:
        hour = self._read_digits(1, 2, below=24)
        self.at += 1  # the colon that was looked for
        minute = self._read_digits(2, 2, below=60)
        second = 0
        if self._skip_one(":"):
            second = self._read_digits(2, 2, below=60)
        self._skip_blanks()
        half = self.lower[self.at : self.at + 2]
        if half in ("am", "pm"):
            if hour > 12:
                raise self._fail()
            hour = hour % 12 + (12 if half == "pm" else 0)
            self.at += 2
        self.clock = (hour, minute, second)

    def _set_day(self, year: int | None, month: int, day: int) -> None:
        try:
            datetime(2000 if year is None else year, month, day)  # only whether there is such a day
        except ValueError:
            raise self._fail(back=1) from None
        self.day = (year, month, day)

    def _read_digits(self, least: int, most: int, *, below: int | None = None) -> int:
        end = self.at
        while end < len(self.text) and end - self.at < most and "0" <= self.text[end] <= "9":
            end += 1
        if end - self.at < least:
            self.at = end
            raise self._fail()
        number = int(self.text[self.at : end])
        if below is not None and number >= below:
            raise self._fail()
        self.at = end
        return number

    def _skip_one(self, letters: str) -> bool:
        if self.at < len(self.text) and self.text[self.at] in letters:
            self.at += 1
            return True
        return False

    def _skip_blanks(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in " \t":
            self.at += 1

    def _choose_wall(self) -> datetime:
        """Return the wall time meant; `past` says where to look for what was left out."""
        hour, minute, second = self.clock or (0, 0, 0)
        # Slurm compares minutes: 12:30:50 asked at 12:30:10 is tomorrow's.
        now = self.wall.replace(second=0)
        if self.day is None:
            chosen = self.wall.replace(hour=hour, minute=minute, second=second)
            if not self.past and chosen.replace(second=0) <= now:
                chosen += timedelta(days=1)
            return chosen
        year, month, day = self.day
        if year is not None:
            return datetime(year, month, day, hour, minute, second)
        year = now.year
        if self.past:
            year -= month > now.month
        elif (month, day, hour, minute) <= (now.month, now.day, now.hour, now.minute):
            year += 1
        try:
            return datetime(year, month, day, hour, minute, second)
        except ValueError:  # 29 February of a year without one
            raise self._fail(back=1) from None
