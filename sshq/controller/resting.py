"""How often a host on which nothing runs is listed, where there are so many that listing all of them all the time would cost.

Up to 90 hosts (with the usual interval of 45 s) every host is listed each time.  Of more, those without a launch share two
listings a second; one with a launch is listed as ever, for that is what reconciles it and renews its leases.  That a connection
is lost is told by keepalives (`transport/keepalives.py`), whatever is listed.

Whether its turn has come each host looks every interval, by a timer's callback: that is all a host costs that is not listed.
"""

import asyncio
import math
import random
from collections.abc import Callable
from typing import Final

IDLE_LISTINGS_A_SECOND: Final = 2.0
LOOKS_A_SECOND: Final = 4  # moments at which hosts look: with a timer for each the process would wake up for each


class Resting:
    """Remembers when each host was listed last."""

    def __init__(
        self, *, interval_s: float, hosts: Callable[[], int], is_busy: Callable[[str], bool], now: Callable[[], float],
        spread: Callable[[], float] = random.random,
    ) -> None:  # fmt: skip
        self._interval_s = interval_s
        self._hosts = hosts
        self._is_busy = is_busy
        self._now = now
        self._spread = spread  # what share of its pause a host that joins has behind it
        self._listed_at: dict[str, float] = {}

    def note_listed(self, name: str) -> None:
        """It was listed by itself: on joining.

        What joins together must not be listed together for ever, so its first turn comes somewhere in the time it may wait.
        """
        self._listed_at[name] = self._now() - self._spread() * self._hosts() / IDLE_LISTINGS_A_SECOND

    def worth_listing(self, name: str) -> bool:
        """Whether a host whose interval is over shall be listed; if so, it counts as listed now."""
        pause_s = self._hosts() / IDLE_LISTINGS_A_SECOND
        now = self._now()
        lately = now - self._listed_at.get(name, float("-inf")) < pause_s
        if pause_s > self._interval_s and lately and not self._is_busy(name):
            return False
        self._listed_at[name] = now
        return True


async def wait_for_turn(reading: "asyncio.Task[None]", interval_s: float, is_due: Callable[[], bool]) -> bool:
    """Ask every `interval_s`, a tenth more or less, until `is_due` says so or `reading` is over; return whether it goes on."""
    loop = asyncio.get_running_loop()
    turn: asyncio.Future[None] = loop.create_future()
    timer: asyncio.TimerHandle

    def set_timer() -> asyncio.TimerHandle:
        at = loop.time() + interval_s * random.uniform(0.9, 1.1)  # noqa: S311
        return loop.call_at(math.ceil(at * LOOKS_A_SECOND) / LOOKS_A_SECOND, look)

    def look() -> None:
        nonlocal timer
        try:
            if is_due():
                turn.set_result(None)
            else:
                timer = set_timer()
        except Exception as error:  # asked in a callback, told to who waits
            turn.set_exception(error)

    timer = set_timer()
    try:
        await asyncio.wait({reading, turn}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        timer.cancel()
    if turn.done():
        turn.result()
    return not reading.done()
