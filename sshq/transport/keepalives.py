"""How a connection that has died is noticed while nobody uses it.

A host or a way to it that is gone is the kernel's to notice, by TCP keepalives, which cost this process nothing.  An sshd that
stands still while its machine goes on is noticed by SSH's own, each of which is two packets and their encryption here.  So of
many connections each asks less often, that all together ask no more than so many times a second.
"""

import contextlib
import random
import socket
from typing import Final

import asyncssh

A_SECOND: Final = 4.0
STEP: Final = 1.25  # all are told again when the interval has changed by this much


class Keepalives:
    """The connections of one process, and when they are asked whether they live."""

    def __init__(self, interval_s: float, count: int) -> None:
        self.asked_s, self.count = interval_s, count
        self.a_second = A_SECOND
        self._told_s = interval_s
        self._connections: set[asyncssh.SSHClientConnection] = set()

    @property
    def interval_s(self) -> float:
        """Seconds without a sign until a connection is asked."""
        return max(self.asked_s, len(self._connections) / self.a_second)

    def add(self, connection: asyncssh.SSHClientConnection, sock: socket.socket | None) -> None:
        """Look after a connection that is in; `sock` is its own, None where it has none (through a jump host)."""
        self._connections.add(connection)
        if sock is not None:
            self._ask_by_tcp(sock)
        if self.interval_s >= self._told_s * STEP:
            self._tell(self._connections)
        elif self._told_s > self.asked_s:
            self._tell({connection})

    def remove(self, connection: asyncssh.SSHClientConnection) -> None:
        """It is lost or closed."""
        self._connections.discard(connection)
        if self._told_s > self.asked_s and self.interval_s * STEP <= self._told_s:
            self._tell(self._connections)

    def _tell(self, connections: set[asyncssh.SSHClientConnection]) -> None:
        if connections is self._connections:
            self._told_s = self.interval_s
        for connection in connections:
            spread = random.uniform(0.8, 1.2) if self._told_s > self.asked_s else 1.0  # noqa: S311 # or all would ask at once
            connection.set_keepalive(self._told_s * spread, self.count)

    def _ask_by_tcp(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):  # a ProxyCommand's socket
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, int(self.asked_s)))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, int(self.asked_s)))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, self.count + 1)  # after SSH's own, which has the better word
            # What was sent and is not acknowledged keeps the kernel from asking: that has a limit of its own.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self.asked_s * (self.count + 2) * 1000))
