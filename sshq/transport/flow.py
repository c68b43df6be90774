"""Flow control of a channel: bytes come in no faster than they are read, and go out no faster than they are taken.

Both kinds of channel are a `ChannelFlow`: they push into the same `Inflow` and wait on the same `Outflow`; a loss is an
end of the stream.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from sshq.errors import NoReplyError, UnreachableHostError
from sshq.transport.base import STDERR_KEPT, Counters, Deadlines

HIGH_WATER = 1024 * 1024
LOW_WATER = 256 * 1024


class Inflow:
    """Bytes received and not yet read.  Above the high water the sender is paused, below the low water resumed."""

    def __init__(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._pause, self._resume = pause, resume
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._paused = False
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None

    def feed(self, data: bytes) -> None:
        """Take bytes from the host."""
        self._chunks.append(data)
        self._size += len(data)
        self._wake()
        if self._size > HIGH_WATER and not self._paused:
            self._paused = True
            self._pause()

    def end(self) -> None:
        """No more will come: end of file, or loss."""
        self._ended = True
        self._wake()

    async def wait(self) -> None:
        """Return once something is here, or nothing more will come."""
        while not self._chunks and not self._ended:
            if self._waiter is not None:
                raise RuntimeError("two readers on one channel")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def take(self, max_bytes: int) -> list[bytes]:
        """Return what is here, as it came: joining it would be a copy more."""
        taken = []
        room = max_bytes
        while self._chunks and room > 0:
            chunk = self._chunks.popleft()
            if len(chunk) > room:
                self._chunks.appendleft(chunk[room:])
                chunk = chunk[:room]
            taken.append(chunk)
            room -= len(chunk)
        self._size -= max_bytes - room
        if self._paused and self._size < LOW_WATER:
            self._paused = False
            self._resume()
        return taken

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Outflow:
    """Whether the host takes what we write."""

    def __init__(self) -> None:
        self._clear = asyncio.Event()
        self._clear.set()

    def pause(self) -> None:
        """Too much is waiting to go out."""
        self._clear.clear()

    def resume(self) -> None:
        """Writing may go on, or there is nobody left to write to."""
        self._clear.set()

    async def wait(self) -> None:
        """Return once writing may go on."""
        await self._clear.wait()


class Tail:
    """The last bytes of a stream nobody reads to the end: stderr."""

    def __init__(self, kept: int = STDERR_KEPT) -> None:
        self._kept = kept
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        """Take bytes, drop the oldest beyond the bound."""
        self._data += data[-self._kept :]
        del self._data[: -self._kept]

    @property
    def data(self) -> bytes:
        """What is kept."""
        return bytes(self._data)


class ChannelFlow:
    """What the two kinds of channel have in common; they add the pipes."""

    def __init__(self, host: str, command: str, counters: Counters, deadlines: Deadlines, on_end: Callable[[], None]) -> None:
        self.command = command
        self.exit_signal: str | None = None
        self._host, self._counters, self._deadlines = host, counters, deadlines
        self._on_end: Callable[[], None] | None = on_end
        self._exit_code: int | None = None
        self._inflow = Inflow(self._pause, self._resume)
        self._outflow = Outflow()
        self._errors = Tail()
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def stderr(self) -> bytes:
        """The last of stderr."""
        return self._errors.data

    async def drain(self, deadline_s: float | None = None) -> None:
        """Wait until the host has taken enough."""
        limit_s = self._deadlines.drain_s if deadline_s is None else deadline_s
        try:
            async with asyncio.timeout(limit_s):
                await self._outflow.wait()
        except TimeoutError:
            raise self._stuck(limit_s) from None

    def _stuck(self, limit_s: float) -> UnreachableHostError:
        message = f"{self._host}: took no more input for {limit_s:g} s"
        return UnreachableHostError(message, host=self._host, hint=f"sshq doctor {self._host}")

    async def pace(self) -> None:
        """Wait until bulk may be written; nobody else waits for this channel."""
        await self.drain()

    async def read(self, max_bytes: int = 65536, deadline_s: float | None = None) -> bytes:
        """Return what has come, b"" at the end."""
        return b"".join(await self.read_pieces(max_bytes, deadline_s))

    async def read_pieces(self, max_bytes: int, deadline_s: float | None = None) -> list[bytes]:
        """Return what has come, in the pieces in which it came; none at the end."""
        if not (pieces := self._inflow.take(max_bytes)):
            await self._wait_for_pieces(deadline_s)
            pieces = self._inflow.take(max_bytes)
        return pieces

    async def _wait_for_pieces(self, deadline_s: float | None) -> None:
        if deadline_s is None:
            await self._inflow.wait()
            return
        try:
            async with asyncio.timeout(deadline_s):
                await self._inflow.wait()
        except TimeoutError:
            raise self._no_reply(f"said nothing for {deadline_s:g} s") from None

    def take_pieces(self, max_bytes: int) -> list[bytes]:
        """Return what is here already; none where that is nothing."""
        return self._inflow.take(max_bytes)

    async def wait_closed(self, deadline_s: float | None = None) -> int | None:
        """Wait for the end of the channel; None = no exit status came."""
        try:
            async with asyncio.timeout(deadline_s):
                await asyncio.shield(self._ended)
        except TimeoutError:
            raise self._no_reply(f"`{self.command}` did not end within {deadline_s:g} s") from None
        return self._exit_code

    def _no_reply(self, what: str) -> NoReplyError:
        return NoReplyError(f"{self._host}: {what}", host=self._host, hint=f"sshq doctor {self._host}")

    def _receive(self, data: bytes) -> None:
        self._counters.bytes_in += len(data)
        self._inflow.feed(data)

    def _receive_error(self, data: bytes) -> None:
        self._counters.bytes_in += len(data)
        self._errors.feed(data)

    def _end(self) -> None:
        """Nothing more comes or goes; give the place on the connection back, once."""
        self._inflow.end()
        self._outflow.resume()
        if not self._ended.done():
            self._ended.set_result(None)
        if self._on_end is not None:
            self._on_end()
            self._on_end = None

    def _pause(self) -> None:
        raise NotImplementedError

    def _resume(self) -> None:
        raise NotImplementedError
