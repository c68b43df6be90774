"""Shared connections to jump hosts: one for all the hosts behind it, ended when the last of them is let go.

A jump host that refuses one of two hundred hosts refuses them all: the failure is remembered for some seconds, so that
they do not knock two hundred times.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import asyncssh

from sshq.errors import NodeError
from sshq.transport.base import Target
from sshq.transport.login import Login

FAILURE_REMEMBERED_S = 5.0

LogIn = Callable[[Target], Awaitable[Login]]


@dataclass(slots=True)
class _Way:
    """One connection to a jump host, and how many go through it."""

    login: Login
    users: int = 0


@dataclass(slots=True)
class _Door:
    """One jump host, reached one way; who waits for it keeps its connection up as who uses it does."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    way: _Way | None = None
    waiting: int = 0
    failed_at: float = 0.0
    failure: NodeError | None = None


@dataclass(slots=True)
class JumpLease:
    """A share in a jump host's connection."""

    connection: asyncssh.SSHClientConnection
    _give_back: Callable[[], None]
    _released: bool = False

    def release(self) -> None:
        """Give the share back, once."""
        if not self._released:
            self._released = True
            self._give_back()


class JumpHosts:
    """All jump hosts of a process."""

    def __init__(self, log_in: LogIn) -> None:
        self._log_in = log_in
        self._doors: dict[Target, _Door] = {}

    async def lease(self, jump: Target) -> JumpLease:
        """Return a share in the connection to a jump host."""
        door = self._doors.setdefault(jump, _Door())
        door.waiting += 1
        try:
            async with door.turn:
                way = door.way
                if way is None or way.login.connection.is_closed():
                    way = door.way = _Way(await self._connect(door, jump))
                way.users += 1
                return JumpLease(way.login.connection, functools.partial(_give_back, door, way))
        finally:
            door.waiting -= 1
            _end_if_idle(door)

    async def _connect(self, door: _Door, jump: Target) -> Login:
        loop = asyncio.get_running_loop()
        if door.failure is not None and loop.time() - door.failed_at < FAILURE_REMEMBERED_S:
            raise door.failure
        door.failure = None
        try:
            login = await self._log_in(jump)
        except NodeError as exc:
            door.failure, door.failed_at = exc, loop.time()
            raise
        login.events.lost.add_done_callback(lambda _: login.let_go())
        return login

    def close(self) -> None:
        """End all connections, in use or not."""
        for door in self._doors.values():
            way, door.way = door.way, None
            if way is not None:
                way.login.connection.close()


def _give_back(door: _Door, way: _Way) -> None:
    way.users -= 1
    _end_if_idle(door)


def _end_if_idle(door: _Door) -> None:
    """End the connection that nobody uses or waits for; what it hangs on is let go when it is down."""
    way = door.way
    if way is not None and not way.users and not door.waiting:
        door.way = None
        way.login.connection.close()
