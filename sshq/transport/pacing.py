"""How much bulk may be under way on a channel: little enough that others on the line wait for it half a second, not for a window.

The host's window (2 MiB with sshd) lets a line of 4 Mbit/s be full for four seconds, and a start of another job waits behind it.
What the host has taken tells how fast the line is; what that carries in the line's own delay and `DELAY_S` may be under way.
Pure: the channel tells what it wrote and what the host has not taken yet.
"""

from collections import deque
from typing import Final

DELAY_S: Final = 0.35
UNDER_WAY_MIN: Final = 128 << 10  # sshd tells of what it took 96 KiB at a time
SAMPLE_S: Final = 0.1
KEPT: Final = 0.7  # of the old figure, where the line has become slower: one pause of the host is no new line


class Pacer:
    """Of one channel; times are seconds of a clock that never goes back."""

    def __init__(self, now: float) -> None:
        self.limit = UNDER_WAY_MIN
        self._at, self._taken = now, 0
        self._rate = 0.0  # bytes a second
        self._delay_s: float | None = None  # from a write until the host has taken it, at best
        self._marks: deque[tuple[int, float]] = deque()  # bytes written in all, when

    def note_written(self, written: int, now: float) -> None:
        """So many bytes were written in all."""
        if len(self._marks) < 256:
            self._marks.append((written, now))

    def note_taken(self, taken: int, now: float) -> None:
        """The host has taken so many of them."""
        while self._marks and self._marks[0][0] <= taken:
            delay_s = now - self._marks.popleft()[1]
            self._delay_s = delay_s if self._delay_s is None else min(self._delay_s, delay_s)
        if now - self._at < SAMPLE_S or taken <= self._taken:
            return
        rate = (taken - self._taken) / (now - self._at)
        self._rate = rate if rate > self._rate else KEPT * self._rate + (1 - KEPT) * rate
        self._at, self._taken = now, taken
        self.limit = max(UNDER_WAY_MIN, int(self._rate * (DELAY_S + (self._delay_s or 0.0))))
