"""The transport over asyncssh: bytes only, whole-operation deadlines, at most as many channels a connection as the host allows.

An exit status that never came is `None` and is never success.  A channel that was asked for and given up on is closed as
soon as it opens, or it would hold one of the host's places for ever.
"""

import asyncio

import asyncssh

from sshq.errors import LoginError, NodeError, UnreachableHostError
from sshq.transport.base import (
    ChannelRefusedError,
    Connection,
    Counters,
    Deadlines,
    Target,
    Terminal,
)
from sshq.transport.channel import SshChannel
from sshq.transport.classify import classify
from sshq.transport.dial import read_moved_bytes, read_round_trip_s
from sshq.transport.login import Login, Shared, log_in

_WINDOW = 2 * 1024 * 1024
_BULK_WINDOW = 4 * 1024 * 1024  # twice that of ssh: what one reader that stands still may make us keep
_PACKET = 32768


class SshTransport:
    """The way to one host and account by ssh."""

    def __init__(self, target: Target, shared: Shared) -> None:
        self.target = target
        self.counters = Counters()
        self._shared = shared

    async def connect(self) -> Connection:
        """Log in, or raise a NodeError."""
        try:
            login = await log_in(self.target, self._shared)
        except LoginError:
            self.counters.logins_refused += 1
            raise
        return SshConnection(login, self.counters, self._shared.deadlines)


class SshConnection:
    """One login."""

    def __init__(self, login: Login, counters: Counters, deadlines: Deadlines) -> None:
        self.target = login.attempt.resolved.target
        self.counters = counters
        self.lost: asyncio.Future[NodeError | None] = asyncio.get_running_loop().create_future()
        self._login, self._deadlines = login, deadlines
        self._connection = login.connection
        self._used = 0
        self._closing = False
        self._fastest_s: float | None = None
        counters.connections_opened += 1
        counters.connections_open += 1
        login.events.lost.add_done_callback(self._on_lost)

    @property
    def channels_free(self) -> int:
        """How many more channels `open` would allow."""
        return self.target.channels_max - self._used

    @property
    def rtt_s(self) -> float | None:
        """The kernel's estimate; behind a jump host, the fastest exchange seen."""
        if self._login.lease is not None:
            return self._fastest_s
        sock = self._connection.get_extra_info("socket")
        if sock is None or self._connection.is_closed():
            return self._fastest_s
        return read_round_trip_s(sock) or self._fastest_s

    @property
    def moved_bytes(self) -> int:
        """What the host has acknowledged and sent; behind a jump host, what came out of the channels."""
        sock = self._connection.get_extra_info("socket") if self._login.lease is None else None
        moved = read_moved_bytes(sock) if sock is not None and not self._connection.is_closed() else None
        return self.counters.bytes_in if moved is None else moved

    @property
    def greeting(self) -> str:
        """Server version and banner."""
        version = str(self._connection.get_extra_info("server_version", ""))
        return "\n".join(part for part in (version, self._login.events.banner.strip()) if part)

    async def open(
        self, command: str = "exec /bin/sh", *, bulk: bool = False, terminal: Terminal | None = None
    ) -> SshChannel:
        """Start a command on a channel of its own."""
        if self._used >= self.target.channels_max:
            raise ChannelRefusedError(
                f"{self.target.name}: all {self.target.channels_max} channels of this connection are in use",
                by="budget",
                host=self.target.name,
            )
        self._used += 1
        channel = SshChannel(self.target.name, command, self.counters, self._deadlines, self._release)
        opening = asyncio.ensure_future(self._start(channel, bulk=bulk, terminal=terminal))
        try:
            async with asyncio.timeout(self._deadlines.open_s):
                await asyncio.shield(opening)
        except BaseException as exc:
            opening.add_done_callback(channel.abandon)
            if isinstance(exc, (asyncssh.Error, OSError)):  # TimeoutError is an OSError
                raise self._explain_refusal(exc) from exc
            raise
        return channel

    async def _start(self, channel: SshChannel, *, bulk: bool, terminal: Terminal | None) -> None:
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        await self._connection.create_session(
            lambda: channel,
            channel.command,
            encoding=None,
            request_pty="force" if terminal is not None else False,
            term_type=terminal.term if terminal is not None else None,
            term_size=(terminal.columns, terminal.rows) if terminal is not None else None,
            window=_BULK_WINDOW if bulk else _WINDOW,
            max_pktsize=_PACKET,
        )
        took_s = loop.time() - began_at
        self._fastest_s = took_s if self._fastest_s is None else min(self._fastest_s, took_s)

    def _explain_refusal(self, exc: Exception) -> NodeError:
        name = self.target.name
        if self.lost.done():
            return self.lost.result() or UnreachableHostError(f"{name}: the connection is closed", host=name)
        if isinstance(exc, asyncssh.ChannelOpenError) and not self._connection.is_closed():
            return ChannelRefusedError(
                f"{name}: refused one more channel: {exc.reason}",
                by="host",
                host=name,
                detail=(f"channels in use on this connection: {self._used - 1}",
                        "sshd allows MaxSessions of them (10 by default), or forbids running commands"),
            )  # fmt: skip
        attempt = self._login.attempt
        attempt.stage = "open" if isinstance(exc, TimeoutError) else "connected"
        return classify(exc, attempt)

    def _release(self) -> None:
        self._used -= 1

    def _on_lost(self, ended: "asyncio.Future[Exception | None]") -> None:
        self.counters.connections_open -= 1
        self._login.let_go()
        if self.lost.done():
            return
        if self._closing:
            self.lost.set_result(None)
            return
        self._login.attempt.stage = "connected"
        reason = ended.result() or asyncssh.ConnectionLost("connection closed")
        self.lost.set_result(classify(reason, self._login.attempt))

    async def close(self) -> None:
        """End the connection; what runs on the host runs on."""
        self._closing = True
        self._connection.close()
        try:
            async with asyncio.timeout(self._deadlines.close_s):
                await self._connection.wait_closed()
        except TimeoutError:
            self._connection.abort()
            await self._connection.wait_closed()
        self._login.let_go()
