"""How often a host on which nothing runs is listed, where there are so many that listing all of them all the time would cost.

Up to 90 hosts (with the usual interval of 45 s) every host is listed each time.  Of more, those without a launch share two
listings a second; one with a launch is listed as ever, for that is what reconciles it and renews its leases.  That a connection
is lost is told by keepalives (`transport/keepalives.py`), whatever is listed.
"""

from collections.abc import Callable
from typing import Final

IDLE_LISTINGS_A_SECOND: Final = 2.0


class Resting:
    """Remembers when each host was listed last."""

    def __init__(
        self, *, interval_s: float, hosts: Callable[[], int], is_busy: Callable[[str], bool], now: Callable[[], float]
    ) -> None:  # fmt: skip
        self._interval_s = interval_s
        self._hosts = hosts
        self._is_busy = is_busy
        self._now = now
        self._listed_at: dict[str, float] = {}

    def note_listed(self, name: str) -> None:
        """It was listed by itself: on joining."""
        self._listed_at[name] = self._now()

    def worth_listing(self, name: str) -> bool:
        """Whether a host whose interval is over shall be listed; if so, it counts as listed now."""
        pause_s = self._hosts() / IDLE_LISTINGS_A_SECOND
        now = self._now()
        lately = now - self._listed_at.get(name, float("-inf")) < pause_s
        if pause_s > self._interval_s and lately and not self._is_busy(name):
            return False
        self._listed_at[name] = now
        return True
