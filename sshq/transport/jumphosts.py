"""Shared connections to jump hosts: one for all the hosts behind it, ended when the last of them is let go.

A jump host that refuses one of two hundred hosts refuses them all: the failure is remembered for some seconds, so that
they do not knock two hundred times.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import asyncssh

from sshq.errors import NodeError
from sshq.transport.base import Target
from sshq.transport.login import Login

FAILURE_REMEMBERED_S = 5.0

LogIn = Callable[[Target], Awaitable[Login]]


@dataclass(slots=True)
class _Door:
    """One jump host, reached one way."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    login: Login | None = None
    users: int = 0
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
        async with door.turn:
            login = door.login
            if login is None or login.connection.is_closed():
                login = await self._connect(door, jump)
            door.users += 1
        taken = login
        return JumpLease(taken.connection, lambda: self._give_back(door, taken))

    async def _connect(self, door: _Door, jump: Target) -> Login:
        now = asyncio.get_running_loop().time()
        if door.failure is not None and now - door.failed_at < FAILURE_REMEMBERED_S:
            raise door.failure
        door.failure = None
        door.users = 0
        try:
            door.login = await self._log_in(jump)
        except NodeError as exc:
            door.failure, door.failed_at = exc, asyncio.get_running_loop().time()
            raise
        return door.login

    def _give_back(self, door: _Door, login: Login) -> None:
        if door.login is not login:
            return  # a share in a connection that was lost since
        door.users -= 1
        if door.users <= 0 and not door.turn.locked():
            door.login = None
            end_login(login)

    def close(self) -> None:
        """End all connections, in use or not."""
        for door in self._doors.values():
            login, door.login = door.login, None
            if login is not None:
                end_login(login)


def end_login(login: Login) -> None:
    """Close a login without waiting, and what it hangs on."""
    login.connection.close()
    login.let_go()
