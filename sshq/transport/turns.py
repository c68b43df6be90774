"""How many hosts we knock on at once: politeness towards one sshd, and our own CPU.

sshd drops connections at random from ten unauthenticated ones on (MaxStartups), which looks like a network fault; a
handshake burns a core here.  So: at most 8 handshakes to one sshd, two a core in all.  A place in the second count
is taken only once the server has spoken, or a few dead hosts would hold up all the living.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

DIALS = 128  # of 20 s each at most, tried every 30 s: up to 190 dead hosts, and nobody waits
HANDSHAKES_A_TARGET = 8
OPENINGS_A_JUMP_HOST = 32  # through one connection that is already in: none of them counts at the jump host's door


@dataclass(slots=True)
class _Place:
    free: asyncio.Semaphore
    users: int = 0


@dataclass(slots=True)
class Turns:
    """The counts of one process."""

    dials: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(DIALS))
    handshakes: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2 * (os.cpu_count() or 1)))
    _places: dict[Hashable, _Place] = field(default_factory=dict)

    @asynccontextmanager
    async def at(self, door: Hashable, limit: int = HANDSHAKES_A_TARGET) -> AsyncIterator[None]:
        """Wait for one's turn at one sshd (or jump host)."""
        place = self._places.setdefault(door, _Place(asyncio.Semaphore(limit)))
        place.users += 1
        try:
            async with place.free:
                yield
        finally:
            place.users -= 1
            if not place.users:
                self._places.pop(door, None)
