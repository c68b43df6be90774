"""The way back to one command inside a job: numbered pieces, written by its node's runner, repeated until they are there.

A piece may be written again as it is, so a lost connection costs nothing: what was not confirmed is sent once more.  How far
ahead of the command the pieces may be is bounded, and so what lies on the node for a command that takes nothing.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from sshq.controller.hosts import HostLink
from sshq.controller.logdesk import read_head
from sshq.controller.session import Session
from sshq.errors import NodeError
from sshq.runner import protocol as rp
from sshq.runner.replies import Answered
from sshq.runner.upcalls import ANSWER_MAX, BadRequestError, encode_answer, encode_question

GROUP_MAX = 8  # pieces on their way at a time
AHEAD_MAX = 64  # pieces that the command has not taken
BUFFER_MAX = 32  # pieces that wait here
LOOK_S = 0.3
AWAY_S = 0.5
TRIES_MAX = 100  # a node whose disk is full: the command waits for so long, in seconds
READ_S = 60.0
CUT_MAX = 5  # times that a file was shorter than it had said
IDLE_S = 20.0

Key = tuple[str, str, str]


class GoneError(Exception):
    """The command that asked is gone; there is nobody to answer."""


@dataclass(frozen=True, slots=True)
class _Piece:
    number: int
    kind: str
    data: bytes
    status: int | None = None


class CallStream:
    """Sends what a handler says; one task that sends, so that pieces keep their order."""

    def __init__(self, links: Mapping[str, HostLink], key: Key, news: asyncio.Event, fetching: asyncio.Semaphore) -> None:
        self._links = links
        self._key = key
        self._news = news
        self._fetching = fetching
        self._number = 0
        self._seen = 0
        self._pieces: list[_Piece] = []
        self._changed = asyncio.Condition()
        self._sending = asyncio.create_task(self._send_all(), name=f"answers {key[2]}")

    def close(self) -> None:
        self._sending.cancel()

    def when_gone(self, handler: "asyncio.Task[None] | None") -> None:
        """Cancel whoever works for a command that is gone, even if it has nothing to say for hours."""

        def ended(sending: "asyncio.Task[None]") -> None:
            if not sending.cancelled() and sending.exception() is not None and handler is not None:
                handler.cancel()

        self._sending.add_done_callback(ended)

    async def accept(self) -> None:
        """Tell the command that somebody is there; GoneError where there is none.  Cheap: whoever rings need not have called."""
        await self._add("-", b"")
        await self._drain()

    async def put(self, kind: str, data: bytes) -> None:
        """Queue bytes; returns when there is room for more."""
        for start in range(0, len(data), ANSWER_MAX):
            await self._add(kind, data[start : start + ANSWER_MAX])

    async def finish(self, status: int) -> None:
        """Send the exit status after all else; returns when the node has it."""
        await self._add("-", b"", status)
        await self._drain()

    async def ask(self, question: str, kind: str, data: bytes, max_bytes: int) -> bytes:
        """Ask the command for something, after all that was said before; return the file it answers with."""
        await self._drain()
        _, launch_id, token = self._key

        def encode(tag: str) -> bytes:
            return encode_question(tag=tag, id=launch_id, token=token, question=question, kind=kind, data=data)

        for failures in range(TRIES_MAX):
            session = await self._session()
            try:
                while not self._take(await session.call(encode, Answered)).given:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_S):
                            await self._news.wait()
                    self._news.clear()
                return await fetch_file(self._links, self._key, f"{question}.in", max_bytes, self._fetching)
            except NodeError:
                await asyncio.sleep(min(AWAY_S * (failures + 1), 1.0))
        raise GoneError

    async def _add(self, kind: str, data: bytes, status: int | None = None) -> int:
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._pieces) < BUFFER_MAX or self._sending.done())
            self._check()
            if kind != "-":
                self._number += 1
            self._pieces.append(_Piece(self._number, kind, data, status))
            self._changed.notify_all()
            return self._number

    async def _drain(self) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._pieces or self._sending.done())
        self._check()

    def _check(self) -> None:
        if self._sending.done():
            error = None if self._sending.cancelled() else self._sending.exception()
            raise error or GoneError

    async def _send_all(self) -> None:
        try:
            while True:
                if not await self._has_pieces():
                    await self._look()
                    continue
                group = self._pieces[:GROUP_MAX]
                while group[-1].number - self._seen > AHEAD_MAX:
                    await asyncio.sleep(LOOK_S)
                    await self._look()
                await self._send_group(group)
                async with self._changed:
                    del self._pieces[: len(group)]
                    self._changed.notify_all()
        finally:
            asyncio.get_running_loop().create_task(self._wake())

    async def _has_pieces(self) -> bool:
        """Wait for pieces, at most IDLE_S: then it is time to see whether anybody is still there."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IDLE_S), self._changed:
                await self._changed.wait_for(lambda: bool(self._pieces))
        return bool(self._pieces)

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _send_group(self, group: list[_Piece]) -> None:
        """All of it, in order, and all again where one of it was not confirmed."""
        for attempt in range(TRIES_MAX):
            session = await self._session()
            asked = [session.call(partial(self._encode, piece), Answered) for piece in group]
            replies = await asyncio.gather(*asked, return_exceptions=True)
            good = [reply for reply in replies if isinstance(reply, Answered)]
            for reply in good:
                self._take(reply)
            if len(good) == len(group):
                return
            error = next(reply for reply in replies if isinstance(reply, BaseException))
            if not isinstance(error, NodeError):
                raise error
            await asyncio.sleep(min(AWAY_S * (attempt + 1), 1.0))
        raise GoneError

    async def _look(self) -> None:
        session = await self._session()
        with contextlib.suppress(NodeError):
            self._take(await session.call(partial(self._encode, None), Answered))

    def _take(self, reply: Answered) -> Answered:
        if not reply.waits:
            raise GoneError
        self._seen = max(self._seen, min(reply.seen, self._number))
        return reply

    def _encode(self, piece: _Piece | None, tag: str) -> bytes:
        _, launch_id, token = self._key
        if piece is None:
            return encode_answer(tag=tag, id=launch_id, token=token, number=0, kind="-", ask=True)
        return encode_answer(
            tag=tag, id=launch_id, token=token, number=piece.number, kind=piece.kind, data=piece.data, status=piece.status
        )

    async def _session(self) -> Session:
        return await await_session(self._links, self._key[0])


async def await_session(links: Mapping[str, HostLink], host: str) -> Session:
    """Return the host's connection, as soon as there is one."""
    while True:
        link = links.get(host)
        if link is not None and link.session is not None and link.session.ready:
            return link.session
        await asyncio.sleep(AWAY_S)


async def fetch_file(
    links: Mapping[str, HostLink], key: Key, name: str, max_bytes: int, fetching: asyncio.Semaphore
) -> bytes:  # fmt: skip
    """Return a file of a call, over a channel of its own; tried again while its host is away.

    Raises:
        BadRequestError: it is not there, or larger than it may be.
    """
    host, launch_id, token = key
    cut = 0
    while True:
        session = await await_session(links, host)
        hello = session.hello
        path = f"{hello.spool if hello else ''}/a/{launch_id}.calls/{token}/{name}"
        try:
            async with fetching, asyncio.timeout(READ_S):
                channel, _ = await links[host].open_reader()
                try:
                    nonce = secrets.token_hex(8)
                    channel.write(rp.encode_read(nonce=nonce, path=path))
                    head, data = await read_head(channel, nonce)
                    if head.error is not None or head.size is None:
                        raise BadRequestError(f"{name}: {head.error}")
                    while len(data) <= min(max_bytes, head.size) and (more := await channel.read()):
                        data += more
                finally:
                    channel.close()
            if head.size > max_bytes or len(data) > max_bytes:
                raise BadRequestError(f"{name} has more than {max_bytes} bytes")
            if len(data) >= head.size:
                return data
            cut += 1
            if cut > CUT_MAX:
                raise BadRequestError(f"{name} has {len(data)} bytes of {head.size}")
        except (NodeError, TimeoutError, KeyError):
            await asyncio.sleep(AWAY_S)
