"""One client's connection as the controller sees it: whole requests in, bounded and patient writing out.

A reader task takes at most one request ahead, so that a client's going away is noticed while its request runs
without ever buffering more than that.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import socket
import sys
import termios
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Self

from sshq import __version__
from sshq.errors import BugError, RefusedError, SshqError, UserError
from sshq.wire.codec import CodecError, decode_json, encode_json, encode_plain, frame_header, frame_json, parse_header
from sshq.wire.protocol import (
    DATA_BYTES_MAX,
    DATA_FRAME,
    HEADER_BYTES,
    ITEMS_BYTES_AIM,
    ITEMS_MAX,
    JSON_BYTES_MAX,
    JSON_FRAME,
    METHODS,
    PROTOCOL,
    TIMELESS,
)

_ENCODE_ROWS: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
_UNSENT_BYTES_MAX: Final = 1 << 20
_FRAME_TIMEOUT_S: Final = 30.0  # from a frame's first byte to its last
_LARGE_BYTES: Final = 1 << 20  # a frame above this waits for its turn: what is half received has a bound too
_BULK_UNREAD: Final = 208 << 10  # Linux makes twice as much of it, and by default lets nobody ask for more
_PARTS_MAX: Final = 512  # of one writev; Linux takes 1024
LARGE_FRAMES_MAX: Final = 16  # being received at once, over all connections


class ClosedError(Exception):
    """The client is gone, or reads nothing: there is nobody to answer."""


class RequestError(Exception):
    """A frame that is no request.  After a `fatal` one the bytes that follow mean nothing."""

    def __init__(
        self, message: str, *, code: str = "bad_request", request_id: int | None = None, fatal: bool = False
    ) -> None:
        super().__init__(message)
        self.code, self.request_id, self.fatal = code, request_id, fatal


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request whose frame, version, method and shape have been checked."""

    id: int
    method: str
    params: dict[str, object]


class Channel:
    """Reads requests and writes replies; used as a context manager while it does."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, stall_s: float,
        large: asyncio.Semaphore | None = None,
    ) -> None:  # fmt: skip
        self._large = large or asyncio.Semaphore(1)
        self._reader = reader
        self._writer = writer
        self._stall_s = stall_s
        self._frame_bytes_max = JSON_BYTES_MAX
        self._requests: asyncio.Queue[Request | RequestError | None] = asyncio.Queue(maxsize=1)
        self._closed = self._is_bulk = False
        self._running: asyncio.Future[Mapping[str, object]] | None = None  # the handler
        self._reading: asyncio.Task[None] | None = None
        self.at_end: list[Callable[[], None]] = []  # called when the connection is over
        writer.transport.set_write_buffer_limits(high=_UNSENT_BYTES_MAX // 4)

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self._read_all())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    def limit_frames(self, bytes_max: int) -> None:
        """Refuse requests larger than this."""
        self._frame_bytes_max = bytes_max

    def abort(self) -> None:
        """Close without waiting for a client that may never read."""
        for call in self.at_end:
            call()
        self.at_end.clear()
        if self._writer.transport.get_write_buffer_size():
            self._writer.close()  # lets the rest out; the timer below ends what nobody reads
            asyncio.get_running_loop().call_later(self._stall_s, self._writer.transport.abort)
        else:
            self._writer.close()

    async def read_request(self) -> Request | None:
        """Return the next request, or None at the end; raise RequestError for a frame that is none."""
        found = await self._requests.get()
        if isinstance(found, RequestError):
            raise found
        return found

    async def run_until_closed(self, work: Awaitable[Mapping[str, object]]) -> Mapping[str, object]:
        """Await a handler; cancel it when the client goes away first."""
        running = self._running = asyncio.ensure_future(_awaiting(work))
        if self._closed:
            asyncio.get_running_loop().call_soon(running.cancel)  # it gets its first step, as all do
        try:
            result = await running
            if _is_being_cancelled():  # it was told to the handler alone, which did not mind
                raise asyncio.CancelledError
            return result
        except asyncio.CancelledError:
            if running.cancelled() and not _is_being_cancelled():
                raise ClosedError from None  # the client is gone, or the handler gave up by itself
            raise
        finally:
            self._running = None
            if not running.done():
                running.cancel()
                await asyncio.wait([running])

    async def send_result(self, request_id: int, result: Mapping[str, object]) -> None:
        """Send the reply that ends a request."""
        frame = frame_json({"id": request_id, "ok": True, "result": dict(result)})
        if len(frame) - HEADER_BYTES > JSON_BYTES_MAX:
            raise BugError(f"a result of {len(frame)} bytes does not fit into a frame")
        await self.send(frame)

    async def send_error(self, request_id: int | None, error: Exception) -> None:
        """Send a refusal."""
        await self.send(frame_json({"id": request_id, "ok": False, "error": describe_error(error)}))

    async def refuse_connection(self, why: str) -> None:
        """Say why the connection ends, to whom still listens, without waiting for it."""
        refusal = describe_error(RefusedError(why, code="crowded", hint="sshq status"))
        with contextlib.suppress(Exception):
            self._writer.write(frame_json({"id": None, "ok": False, "error": refusal}))

    async def send(self, frame: bytes) -> None:
        """Write one frame and wait while the client is behind; ClosedError when it reads nothing for `stall_s`."""
        if self._writer.is_closing():
            raise ClosedError
        transport = self._writer.transport
        self._writer.write(frame)
        while transport.get_write_buffer_size():  # nearly always all of it went out at once
            unread = self._count_unread()
            try:
                async with asyncio.timeout(self._stall_s):
                    await self._writer.drain()
                    return
            except TimeoutError:
                if self._count_unread() < unread:
                    continue  # slow, but it reads
                transport.abort()
                raise ClosedError from None
            except ConnectionError:
                raise ClosedError from None

    async def send_parts(self, parts: Iterable[bytes]) -> None:
        """As `send`, of bulk in parts: the kernel takes them from where they are, and nothing is joined or copied before."""
        transport = self._writer.transport
        if not self._is_bulk:
            if self._writer.is_closing():  # such a socket takes no options
                raise ClosedError
            self._is_bulk = True
            connection: socket.socket = self._writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BULK_UNREAD)
            transport.set_write_buffer_limits(high=0)  # waits until all is with the kernel: the rest may go there directly
        left = deque(parts)
        try:
            while left:
                if self._writer.is_closing():
                    raise ClosedError
                if not transport.get_write_buffer_size() and not self._write_directly(left):
                    return
                await self.send(left.popleft())  # the kernel's buffer is full: the transport knows how to wait for room
        except asyncio.CancelledError:
            self._writer.write(b"".join(left))  # what comes next must not stand amid a frame
            raise

    def _write_directly(self, left: deque[bytes]) -> bool:
        """Hand over what the kernel takes at once; return whether something is left."""
        try:
            sent = os.writev(self._writer.get_extra_info("socket").fileno(), list(islice(left, _PARTS_MAX)))
        except BlockingIOError:
            return True
        except OSError:
            raise ClosedError from None
        while sent:
            first = left.popleft()
            if len(first) > sent:
                left.appendleft(first[sent:])
                break
            sent -= len(first)
        return bool(left)

    def _count_unread(self) -> int:
        """Return the bytes that the client has still to read, in our buffer and, with an allowance, in the kernel's."""
        here = self._writer.transport.get_write_buffer_size()
        connection: socket.socket = self._writer.get_extra_info("socket")
        if connection.fileno() < 0:
            return here
        return here + int.from_bytes(fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)), sys.byteorder)

    async def _read_all(self) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                found = await self._read_one()
                await self._requests.put(found)
                if isinstance(found, RequestError) and found.fatal:
                    while await self._reader.read(1 << 16):
                        pass  # means nothing any more, but its end does
                    break
        self._closed = True
        if self._running is not None:
            self._running.cancel()
        # A request that waits behind a running one is dropped; a fatal error still has to be said.
        if self._requests.full():
            waiting = self._requests.get_nowait()
            if isinstance(waiting, RequestError) and waiting.fatal:
                self._requests.put_nowait(waiting)
                return
        self._requests.put_nowait(None)

    async def _read_one(self) -> Request | RequestError:
        header = await self._reader.readexactly(HEADER_BYTES)
        try:
            kind, length = parse_header(header)
        except CodecError as error:
            return RequestError(str(error), fatal=True)
        if kind != JSON_FRAME:
            return RequestError("a client sends no data frames", fatal=True)
        if length > self._frame_bytes_max:
            return RequestError(
                f"a frame of {length} bytes; {self._frame_bytes_max} are allowed", code="too_large", fatal=True
            )
        try:
            async with self._large if length > _LARGE_BYTES else contextlib.nullcontext():
                async with asyncio.timeout(_FRAME_TIMEOUT_S):
                    body = await self._reader.readexactly(length)
        except TimeoutError:
            return RequestError("half a frame, and then nothing", fatal=True)
        try:
            return parse_request(body)
        except RequestError as error:
            return error


class StreamOut:
    """Where a handler puts what it sends before its result; both calls wait for a client that reads slowly."""

    def __init__(self, channel: Channel, request: Request) -> None:
        self._channel = channel
        self._id = request.id
        self._sends = METHODS[request.method]

    @property
    def channel(self) -> Channel:
        """The connection it goes out on."""
        return self._channel

    async def items(self, items: Iterable[Mapping[str, object]]) -> None:
        """Send objects, in as many frames as they need."""
        if self._sends != "items":
            raise BugError("this method sends no items")
        chunk: list[bytes] = []
        size = 0
        for item in items:
            body = encode_plain(item)
            if chunk and (len(chunk) == ITEMS_MAX or size + len(body) > ITEMS_BYTES_AIM):
                await self._send_items(chunk)
                chunk, size = [], 0
            chunk.append(body)
            size += len(body) + 1
        if chunk:
            await self._send_items(chunk)

    async def rows(self, rows: Sequence[Sequence[object]]) -> None:
        """Send rows of plain values as items `{"rows": [...]}`: many at a time, and without looking at each value twice."""
        if self._sends != "items":
            raise BugError("this method sends no items")
        body = _ENCODE_ROWS({"rows": rows}).encode("ascii")
        if b"\\ud" in body:  # it may be half of a surrogate pair
            body = encode_json({"rows": rows})
        if len(body) > ITEMS_BYTES_AIM and len(rows) > 1:
            await self.rows(rows[: len(rows) // 2])
            await self.rows(rows[len(rows) // 2 :])
        else:
            await self._send_items([body])

    async def text(self, text: str) -> None:
        """Send whole lines as one item `{"text": "..."}`; they are as many as fit into a frame."""
        if self._sends != "items":
            raise BugError("this method sends no items")
        body = _ENCODE_ROWS({"text": text}).encode("ascii")
        await self._send_items([body if b"\\ud" not in body else encode_json({"text": text})])

    async def data(self, *pieces: bytes) -> None:
        """Send raw bytes, in as many frames as they need."""
        if self._sends != "data":
            raise BugError("this method sends no data")
        await self._channel.send_parts(_frame_pieces(pieces))

    async def _send_items(self, bodies: list[bytes]) -> None:
        body = b'{"id":%d,"items":[%b]}' % (self._id, b",".join(bodies))
        if len(body) > JSON_BYTES_MAX:
            raise BugError(f"an item of {len(body)} bytes does not fit into a frame")
        await self._channel.send(len(body).to_bytes(4, "big") + b"J" + body)


def _frame_pieces(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield data frames in parts, each the header and then pieces as they are: only one that fits into no frame is cut."""
    frame: list[bytes] = []
    size = 0
    for piece in pieces:
        for start in range(0, len(piece), DATA_BYTES_MAX):
            part = piece if len(piece) <= DATA_BYTES_MAX else piece[start : start + DATA_BYTES_MAX]
            if size + len(part) > DATA_BYTES_MAX:
                yield frame_header(DATA_FRAME, size)
                yield from frame
                frame, size = [], 0
            frame.append(part)
            size += len(part)
    if frame:
        yield frame_header(DATA_FRAME, size)
        yield from frame


def parse_request(body: bytes) -> Request:
    """Return the request that a frame's body holds; raise RequestError saying what is wrong with it."""
    try:
        message = decode_json(body)
    except CodecError as error:
        raise RequestError(f"malformed request: {error}", fatal=True) from None
    raw_id, version = message.get("id"), message.get("v")
    request_id = raw_id if type(raw_id) is int else None
    method, params = message.get("method"), message.get("params")
    timeless = isinstance(method, str) and method in TIMELESS
    if type(version) is not int or (version != PROTOCOL and not timeless):  # another version may look different in all else
        speaks = f"the controller (sshq {__version__}) speaks {PROTOCOL}, the client {version!r:.9}"
        raise RequestError(f"protocol version mismatch: {speaks}", code="version", request_id=request_id, fatal=True)
    if request_id is None or message.keys() != {"v", "id", "method", "params"}:
        raise RequestError("a request has exactly v, id, method and params", request_id=request_id)
    if not isinstance(method, str) or method not in METHODS:
        raise RequestError(f"no such method: {method!r:.80}", request_id=request_id)
    if not isinstance(params, dict):
        raise RequestError("params is an object", request_id=request_id)
    return Request(id=request_id, method=method, params=params)


def is_bug(error: Exception) -> bool:
    """Return whether an error is a fault of ours, to be logged, and not the client's."""
    return isinstance(error, BugError) or not isinstance(error, (SshqError, RequestError))


def describe_error(error: Exception) -> dict[str, object]:
    """Return an error as a reply carries it; of a bug of ours only that it is one."""
    if isinstance(error, RequestError):
        hint = "sshq down && sshq up starts the controller of this release; jobs run on" if error.code == "version" else None
        return _describe(str(error), error.code, hint=hint)
    if isinstance(error, SshqError) and not is_bug(error):
        code = error.code if isinstance(error, RefusedError) else _code_of(error)
        return _describe(error.message, code, error.detail, error.hint, error.exit_code)
    return _describe("sshq's controller hit a bug of its own", "internal", (), "sshq logs --controller", 70)


def _code_of(error: SshqError) -> str:
    return "bad_request" if isinstance(error, UserError) else "internal"


def _describe(
    message: str, code: str, detail: tuple[str, ...] = (), hint: str | None = None, exit_code: int = 1
) -> dict[str, object]:
    return {"code": code, "message": message, "detail": list(detail), "hint": hint, "exit": exit_code}


def _awaiting(work: Awaitable[Mapping[str, object]]) -> Coroutine[object, object, Mapping[str, object]]:
    async def run() -> Mapping[str, object]:
        return await work

    return run()


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
