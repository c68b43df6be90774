"""The simulated network: what `sshq.transport.base` promises, over paths that break.

A path is the way between the head and one address.  Each direction of a channel is an ordered queue of bytes: TCP neither
reorders nor duplicates nor invents, but it keeps what was sent while the cable is out, and may deliver it long after the
sender has gone.  That is how calls of an old connection reach an old runner late.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sshq.errors import HostKeyError, LoginError, NodeError, UnreachableHostError
from sshq.transport.base import ChannelRefusedError, Counters, Target

from .clock import PROCESS, Process

if TYPE_CHECKING:
    from .node import Node
    from .world import World

EOF = None


class Path:
    """The way to one address, and which machine answers there now."""

    def __init__(self, world: "World", address: str, node: "Node") -> None:
        self.world = world
        self.address = address
        self.node = node
        self.up = self.down = True  # head to node, node to head
        self.sshd = True
        self.login = True
        self.host_key = True
        self.latency_s = 0.001
        self.reset_after: int | None = None  # the next bytes to the node are cut there, and the connection with them
        self.connections: list[SimConnection] = []

    @property
    def whole(self) -> bool:
        return self.up and self.down and self.node.awake

    def passes(self, *, up: bool) -> bool:
        return (self.up if up else self.down) and self.node.awake

    def set_cut(self, *, up: bool, down: bool) -> None:
        self.up, self.down = up, down
        self.changed()

    def changed(self) -> None:
        """Something about the way is other than it was: who waits looks again."""
        for connection in list(self.connections):
            connection.look()

    def reset(self, why: str) -> None:
        """Both ends hear of it as soon as they can; what was under way is gone."""
        for connection in list(self.connections):
            connection.break_off(why, drop=True)


class Pipe:
    """One direction of one channel."""

    def __init__(self, path: Path, *, up: bool, deliver: Callable[[bytes | None], None]) -> None:
        self.path = path
        self.up = up
        self.deliver = deliver
        self.queue: deque[tuple[float, bytes | None]] = deque()
        self.closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0.0
        self._stuck_at: float | None = None  # since when nothing has come through

    def send(self, data: bytes | None) -> None:
        if self.closed:
            return
        world = self.path.world
        at = world.loop.time() + self.path.latency_s * world.random.uniform(0.5, 1.5)
        self.queue.append((max(at, self._last), data))
        self._last = max(at, self._last)
        if data is EOF:
            self.closed = True
        self.look()

    def look(self) -> None:
        if self._timer is not None or not self.queue:
            return
        loop = self.path.world.loop
        now = loop.time()
        if not self.path.passes(up=self.up):
            if self._stuck_at is None:
                self._stuck_at = now
            return
        at = max(self.queue[0][0], now)
        if self._stuck_at is not None:  # TCP tries again ever more seldom: new connections are faster than old ones
            at += self.path.world.random.uniform(0, min(120.0, now - self._stuck_at))
            self._stuck_at = None
        self._timer = loop.call_at(at, self._arrive)

    def _arrive(self) -> None:
        self._timer = None
        if not self.queue or not self.path.passes(up=self.up):
            self.look()
            return
        _, data = self.queue.popleft()
        cut = self.path.reset_after
        if self.up and data and cut is not None:
            self.path.reset_after = None
            self.deliver(data[:cut])
            self.path.reset("Connection reset by peer")
            return
        self.deliver(data)
        self.look()

    def drop(self) -> None:
        """What was under way never arrives; the end does."""
        self.queue.clear()
        self.closed = False
        self.send(EOF)


class SimChannel:
    """The head's end of one command on a node."""

    exit_signal = None
    stderr = b""

    def __init__(self, connection: "SimConnection", command: str) -> None:
        self.command = command
        self.connection = connection
        self._process = PROCESS.get()
        self._buffer: deque[bytes] = deque()
        self._ended = False
        self._came = asyncio.Event()
        self.counted = True
        self.pipe_up = Pipe(connection.path, up=True, deliver=lambda data: shell.receive(data))
        self.pipe_down = Pipe(connection.path, up=False, deliver=self._take)
        shell = connection.node.open_shell(self.pipe_down)
        self.shell = shell

    def _take(self, data: bytes | None) -> None:
        if data is EOF:
            self.end()
        else:
            self._buffer.append(data)
            self._came.set()

    def end(self) -> None:
        self._ended = True
        self._came.set()

    def write(self, data: bytes) -> None:
        if not self.connection.lost.done() and (self._process is None or self._process.alive):
            self.pipe_up.send(data)

    async def drain(self, deadline_s: float | None = None) -> None:
        await asyncio.sleep(0)

    async def pace(self) -> None:
        await asyncio.sleep(0)

    def write_eof(self) -> None:
        if not self.connection.lost.done():
            self.pipe_up.send(EOF)

    async def read(self, max_bytes: int = 65536, deadline_s: float | None = None) -> bytes:
        try:
            async with asyncio.timeout(deadline_s):
                while not self._buffer and not self._ended:
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            raise NodeError(f"{self.connection.target.name}: nothing came within {deadline_s} s") from None
        if not self._buffer:
            return b""
        data = self._buffer.popleft()
        if len(data) > max_bytes:
            self._buffer.appendleft(data[max_bytes:])
        return data[:max_bytes]

    async def read_pieces(self, max_bytes: int, deadline_s: float | None = None) -> list[bytes]:
        data = await self.read(max_bytes, deadline_s)
        return [data] if data else []

    def take_pieces(self, max_bytes: int) -> list[bytes]:
        if not self._buffer:
            return []
        data = self._buffer.popleft()
        if len(data) > max_bytes:
            self._buffer.appendleft(data[max_bytes:])
        return [data[:max_bytes]]

    async def wait_closed(self, deadline_s: float | None = None) -> int | None:
        while not self._ended:
            self._came.clear()
            await self._came.wait()
        return None

    def close(self) -> None:
        self.pipe_up.send(EOF)
        self.end()
        if self.counted:
            self.counted = False
            self.connection.counters.channels_open -= 1


class SimConnection:
    """One login."""

    rtt_s = 0.001
    greeting = "simulated"
    moved_bytes = 0

    def __init__(self, transport: "SimTransport", path: Path) -> None:
        self.target = transport.target
        self.counters = transport.counters
        self.path = path
        self.node = path.node
        self.boot = path.node.boot
        self.lost: asyncio.Future[NodeError | None] = path.world.loop.create_future()
        self.channels: list[SimChannel] = []
        self._silence: asyncio.TimerHandle | None = None
        self._process = PROCESS.get()
        self.counters.connections_opened += 1
        path.connections.append(self)
        if self._process is not None:
            self._process.on_death.append(self._orphan)

    @property
    def channels_free(self) -> int:
        return self.target.channels_max - sum(1 for c in self.channels if c.counted)

    async def open(self, command: str = "exec /bin/sh", *, bulk: bool = False, terminal: object = None) -> SimChannel:
        await asyncio.sleep(self.path.latency_s)
        if self.lost.done():
            raise UnreachableHostError(f"{self.target.name}: the connection was lost", host=self.target.name)
        self.channels = [c for c in self.channels if c.counted or c.pipe_up.queue or c.pipe_down.queue]
        if self.channels_free <= 0:
            raise ChannelRefusedError(f"{self.target.name}: no channel left", by="budget", host=self.target.name)
        channel = SimChannel(self, command)
        self.channels.append(channel)
        self.counters.count_channel()
        return channel

    async def close(self) -> None:
        self._let_go(drop=False)
        if not self.lost.done():
            self.lost.set_result(None)
        await asyncio.sleep(0)

    def _orphan(self) -> None:
        """The process that held it was killed: its kernel still sends what was written, then the end."""
        self._let_go(drop=self.path.world.random.random() < 0.2)

    def _let_go(self, *, drop: bool) -> None:
        for channel in self.channels:
            if drop:
                channel.pipe_up.drop()
            else:
                channel.pipe_up.send(EOF)
            channel.pipe_down.queue.clear()
            channel.end()

    def break_off(self, why: str, *, drop: bool) -> None:
        """The connection is dead at both ends, or at the head's alone where the node cannot hear."""
        if self in self.path.connections:
            self.path.connections.remove(self)
        self._let_go(drop=drop)
        if not drop:
            self.path.connections.append(self)  # its last bytes may still come through
        if not self.lost.done():
            name = self.target.name
            self.lost.set_result(UnreachableHostError(f"{name}: {why}", host=name))

    def look(self) -> None:
        """The path has changed."""
        for channel in self.channels:
            channel.pipe_up.look()
            channel.pipe_down.look()
        if self.lost.done():
            if not any(c.pipe_up.queue for c in self.channels) and self in self.path.connections:
                self.path.connections.remove(self)
            return
        loop = self.path.world.loop
        if self.path.whole and self.path.node is self.node:
            if self._silence is not None:
                self._silence.cancel()
                self._silence = None
        elif self._silence is None:
            self._silence = loop.call_later(self.path.world.random.uniform(45, 60), self._give_up)

    def _give_up(self) -> None:
        """Keepalive: the peer has been silent for too long."""
        self._silence = None
        if not self.lost.done() and not self.path.whole:
            self.break_off("no answer to keepalive", drop=self.path.world.random.random() < 0.3)


class SimTransport:
    """The way to one host, as the controller sees it."""

    def __init__(self, world: "World", target: Target) -> None:
        self.world = world
        self.target = target
        self.counters = Counters()

    async def connect(self) -> SimConnection:
        name = self.target.name
        path = self.world.paths.get(self.target.address)
        process: Process | None = PROCESS.get()
        if path is None:
            raise UnreachableHostError(f"{name}: name unknown", host=name)
        await asyncio.sleep(path.latency_s * 4)
        if not path.whole:
            await asyncio.sleep(20)
            if not path.whole:
                raise UnreachableHostError(f"{name}: no answer within 20 s", host=name)
        if not path.sshd:
            raise UnreachableHostError(f"{name}: Connection refused", host=name)
        if not path.host_key:
            raise HostKeyError(f"{name}: host key is not the one in known_hosts", kind="changed", host=name)
        if not path.login:
            raise LoginError(f"{name}: Permission denied (publickey)", host=name)
        if process is not None and not process.alive:
            raise UnreachableHostError(f"{name}: we are dead", host=name)
        return SimConnection(self, path)


class SimTransports:
    """What `sshq.transport.pool.Transports` is for the controller."""

    def __init__(self, world: "World") -> None:
        self.world = world

    def transport(self, target: Target) -> Any:
        return SimTransport(self.world, target)

    async def close(self) -> None:
        await asyncio.sleep(0)
