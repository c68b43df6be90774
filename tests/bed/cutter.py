"""A relay in front of an sshd that cuts each connection after a chosen number of bytes of one direction.

What a cut looks like from either end is part of the plan: an orderly end, a reset, or nothing at all for one of the two.
The relay runs in a thread of its own; `made` and `seen` may be read at any time.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from .host import Host

Way = Literal["up", "down"]  # towards the host, from the host
How = Literal["rst", "fin", "host_unaware", "head_unaware"]
CHUNK = 65536


@dataclass(frozen=True, slots=True)
class Cut:
    """Let `after` bytes pass on `way`, then cut; bytes of the other way pass until then."""

    way: Way
    after: int
    how: How


@dataclass(slots=True)
class Passed:
    """One connection: what has passed so far, and its cut."""

    cut: Cut | None
    up: int = 0
    down: int = 0
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Cutter:
    """`with Cutter(host, plan):` the host is reached through the relay meanwhile; `plan()` decides for each connection."""

    def __init__(self, host: Host, plan: Callable[[], Cut | None]) -> None:
        self.host, self.plan = host, plan
        self.made: list[Cut] = []
        self.seen: list[Passed] = []
        self.real = (host.addr, host.port)
        self._kept: list[socket.socket] = []
        self._loop = asyncio.new_event_loop()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)

    def __enter__(self) -> "Cutter":
        self.host.addr, self.host.port = self._listener.getsockname()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.host.addr, self.host.port = self.real
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(10)
        for sock in (self._listener, *self._kept):
            sock.close()
        self._loop.close()

    def _stop(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            task.cancel()

    async def _serve(self) -> None:
        tasks = set()
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                head, _ = await self._loop.sock_accept(self._listener)
                tasks.add(task := self._loop.create_task(self._relay(head)))
                task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _relay(self, head: socket.socket) -> None:
        passed = Passed(self.plan())
        self.seen.append(passed)
        host = socket.socket()
        host.setblocking(False)
        try:
            await self._loop.sock_connect(host, self.real)
            ways = [self._pass(head, host, passed, "up"), self._pass(host, head, passed, "down")]
            copying = [self._loop.create_task(way) for way in (*ways, passed.done.wait())]
            await asyncio.wait(copying, return_when=asyncio.FIRST_COMPLETED)
            for task in copying:
                task.cancel()
            await asyncio.gather(*copying, return_exceptions=True)
            if passed.done.is_set() and passed.cut is not None:
                self._end(passed.cut, head, host)
                return
        except OSError:
            pass
        head.close()
        host.close()

    async def _pass(self, source: socket.socket, target: socket.socket, passed: Passed, way: Way) -> None:
        while data := await self._loop.sock_recv(source, CHUNK):
            cut = passed.cut  # it may be decided later
            if cut is not None and cut.way == way:
                data = data[: max(0, cut.after - getattr(passed, way))]
            await self._loop.sock_sendall(target, data)
            setattr(passed, way, getattr(passed, way) + len(data))
            if cut is not None and cut.way == way and getattr(passed, way) >= cut.after:
                passed.done.set()
                return

    def _end(self, cut: Cut, head: socket.socket, host: socket.socket) -> None:
        ends = {"rst": (head, host), "fin": (), "host_unaware": (head,), "head_unaware": (host,)}[cut.how]
        for sock in ends:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for sock in (head, host) if cut.how == "fin" else ends:
            sock.close()
        self._kept += [sock for sock in (head, host) if sock.fileno() >= 0]  # silent for ever
        self.made.append(cut)
