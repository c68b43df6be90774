"""One live runner channel: questions with tagged answers, orders gathered into packets, news handed on."""

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import TypeVar

from sshq.errors import NodeError, NoReplyError, RunnerError, UnreachableHostError
from sshq.runner import protocol as rp
from sshq.transport.base import Channel, Connection

log = logging.getLogger("sshq.host")
R = TypeVar("R")

ANSWER_S = 30.0
ANSWER_MAX_S = 600.0  # however busy the line is
BUSY_BYTES = 4096  # in ANSWER_S; keepalives alone are a few hundred
REASON_S = 0.2  # the channel ends a moment before its connection says why it was lost


class Session:
    """Lives as long as its channel; a new connection makes a new one."""

    def __init__(self, host: str, connection: Connection, channel: Channel, nonce: str) -> None:
        self.host = host
        self.nonce = nonce
        self.connection = connection
        self.channel = channel
        self.parser = rp.ReplyParser(nonce)
        self.generation = 0
        self.hello: rp.Hello | None = None
        self.hello_came = asyncio.Event()
        self.unusable: str | None = None
        self.ready = False
        self.worn = False  # so many launches were numbered here that a new generation is due
        self.heard = False  # the first listing is applied: what the node says from now on is news
        self.early: list[rp.Reply] = []  # what it said between that listing and its being applied
        self.sent: set[str] = set()  # launches written to this channel and not yet seen settled
        self.sweeps: dict[str, tuple[str, ...]] = {}  # tag of a sweep that is under way: launches it looks for
        self._waiting: dict[str, asyncio.Future[rp.Reply]] = {}
        self._out: list[bytes] = []
        self._closed = False

    async def read(self, take: Callable[["Session", rp.Reply], None]) -> None:
        """Hand each reply to `take` until the channel ends; then fail whoever still waits for an answer."""
        try:
            while data := await self.channel.read():
                for reply in self.parser.feed(data):
                    take(self, reply)
            await asyncio.wait({self.connection.lost}, timeout=REASON_S)
        except NodeError as error:
            log.info("host=%s channel: %s", self.host, error.message)
        finally:
            self._closed = True
            self.hello_came.set()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(self._gone())

    def _gone(self) -> NodeError:
        lost = self.connection.lost
        if lost.done() and not lost.cancelled() and (reason := lost.result()) is not None:
            return reason
        return UnreachableHostError(f"{self.host}: the connection was lost", host=self.host)

    async def call(self, encode: Callable[[str], bytes], answer: type[R]) -> R:
        """Ask one question and return its answer.

        Raises:
            NoReplyError: none came within ANSWER_S.
            RunnerError: the runner could not do it.
            UnreachableHostError: the channel ended meanwhile.
        """
        if self._closed:
            raise self._gone()
        tag = secrets.token_hex(6)
        future: asyncio.Future[rp.Reply] = asyncio.get_running_loop().create_future()
        self._waiting[tag] = future
        self.write(encode(tag))
        try:
            reply = await self._wait(future)
        finally:
            self._waiting.pop(tag, None)
        if not isinstance(reply, answer):
            text = getattr(reply, "text", "") or getattr(reply, "why", "")
            raise RunnerError(f"{self.host}: the runner could not do it: {text}", host=self.host)
        return reply

    async def _wait(self, answer: "asyncio.Future[rp.Reply]") -> rp.Reply:
        """Wait longer while the line is busy: the question, or its answer, queues behind a long script or output."""
        loop = asyncio.get_running_loop()
        gives_up_at, moved = loop.time() + ANSWER_MAX_S, self.connection.moved_bytes
        while True:
            done, _ = await asyncio.wait({answer}, timeout=ANSWER_S)
            if done:
                return answer.result()
            before, moved = moved, self.connection.moved_bytes
            if moved - before < BUSY_BYTES or loop.time() > gives_up_at:
                raise NoReplyError(f"{self.host}: the runner did not answer within {ANSWER_S:.0f} s", host=self.host)

    def answer(self, tag: str, reply: rp.Reply) -> None:
        """Give a tagged reply to whoever asked."""
        future = self._waiting.get(tag)
        if future is not None and not future.done():
            future.set_result(reply)

    def write(self, data: bytes) -> None:
        """Gather what one turn of the loop writes into one packet."""
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        data, self._out = b"".join(self._out), []
        if not self._closed:
            self.channel.write(data)
