"""Parts of running launches: started through a holder, followed to their end, fed and read; across cuts of the line.

What a holder rings is a hint; what it wrote is the truth, and is asked for again after each cut and now and then.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sshq.controller.hosts import HostLink
from sshq.controller.logdesk import BLOCK, read_head
from sshq.controller.mailbox import Mailbox
from sshq.controller.session import Session
from sshq.core.cluster import Cluster
from sshq.core.lifecycle import FINAL, State
from sshq.core.model import Job
from sshq.errors import NodeError, UnreachableHostError
from sshq.runner import parts as rp
from sshq.runner import protocol
from sshq.runner.replies import PartAnswer, PartNews

log = logging.getLogger("sshq.parts")

ASK_S = 20.0  # how long a hint that was lost may hold up whoever waits for it
AWAY_S = 0.3  # between looks whether a host that was lost is back
WINDOW = 8  # chunks of input that may wait on the node to be read


class Send(Protocol):
    """What passes on the pieces of bytes that have come, in their order."""

    def __call__(self, *pieces: bytes) -> Awaitable[None]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRef:
    """Which part of which launch, and where."""

    job_id: int
    node: str
    launch_id: str
    token: str


class _Seen:
    """What has been rung of one part, for those who wait for it."""

    def __init__(self) -> None:
        self.rung = asyncio.Event()
        self.taken = 0
        self.closed = False
        self.users = 0


class Parts:
    """What may be asked of the holders of all hosts; one a controller."""

    def __init__(self, mailbox: Mailbox, links: Mapping[str, HostLink]) -> None:
        self._mailbox = mailbox
        self._links = links
        self._seen: dict[tuple[str, str], _Seen] = {}

    def take(self, news: PartNews) -> None:
        """Take a hint from a node."""
        seen = self._seen.get((news.id, news.token))
        if seen is None:
            return
        if news.word == "took" and news.value is not None:
            seen.taken = max(seen.taken, news.value)
        elif news.word == "closed":
            seen.closed = True
        seen.rung.set()

    async def start(self, node: str, call: rp.PartCall) -> bool:
        """Ask the holder on `node` for a part; may be repeated.  False: its launch is over.

        Raises:
            NodeError: the host is away, or could not do it; whether the part was started is then not known.
        """
        session = self._session(node)
        reply = await session.call(lambda tag: b"".join(rp.encode_start_part(call, tag=tag)), PartAnswer)
        return reply.word != "gone"

    async def end_launch(self, node: str, launch_id: str, code: int) -> bool:
        """Let a holder end with its parts; its launch ends with `code`.  False: it is over already."""
        session = self._session(node)
        reply = await session.call(lambda tag: rp.encode_end_parts(tag=tag, id=launch_id, code=code), PartAnswer)
        return reply.word != "gone"

    async def signal(self, ref: PartRef, signal: int) -> bool:
        """Signal a part.  False: it is over, or has not begun."""
        session = self._session(ref.node)
        reply = await session.call(
            lambda tag: rp.encode_signal_part(tag=tag, id=ref.launch_id, token=ref.token, signal=signal), PartAnswer
        )
        return reply.word == "signalled"

    async def wait_end(self, ref: PartRef) -> int | None:
        """Return a part's exit status once it has ended, None if its launch ended first."""
        seen = self._hold(ref)
        try:
            while True:
                seen.rung.clear()
                try:
                    session = self._session(ref.node)
                    answer = await session.call(
                        lambda tag: rp.encode_ask_part(tag=tag, id=ref.launch_id, token=ref.token), PartAnswer
                    )
                except NodeError:
                    if await self._is_over(ref.job_id):
                        return None
                    await asyncio.sleep(AWAY_S)
                    continue
                if answer.word == "ended":
                    return answer.value
                if answer.word == "gone":
                    return None
                await self._until_rung(seen, session)
        finally:
            self._let_go(ref, seen)

    async def stream(self, ref: PartRef, name: str, offset: int, send: Send) -> int | None:
        """Send a part's output (`name`: out or err) from `offset` on as it comes; returns as `wait_end`.

        Raises:
            Whatever `send` raises.
        """
        ended = asyncio.create_task(self.wait_end(ref))
        try:
            while True:
                over = ended.done()
                try:
                    offset = await self._read(ref, name, offset, send, None if over else ended)
                except NodeError as error:
                    log.info("host=%s launch=%s part=%s: %s", ref.node, ref.launch_id, ref.token, error.message)
                    if over and (ended.result() is None or await self._is_over(ref.job_id)):
                        return ended.result()  # its files have gone with the launch
                    await asyncio.sleep(AWAY_S)
                    continue
                if over:
                    return ended.result()
        finally:
            ended.cancel()

    async def put_input(self, ref: PartRef, number: int, data: bytes) -> bool:
        """Bring one chunk of input, b"" for its end; returns when there is room for another.  False: nobody reads any more."""
        seen = self._hold(ref)

        def encode(tag: str) -> bytes:
            return b"".join(rp.encode_input(tag=tag, id=ref.launch_id, token=ref.token, number=number, data=data))

        try:
            while True:
                seen.rung.clear()
                session = self._session(ref.node)
                answer = await session.call(encode, PartAnswer)
                if answer.word != "took":
                    return False
                seen.taken = max(seen.taken, answer.value or 0)
                while not seen.closed and number - seen.taken >= WINDOW:
                    seen.rung.clear()
                    await self._until_rung(seen, session)
                    if not seen.rung.is_set():
                        break  # ask: the hint may have been lost
                else:
                    return not seen.closed
        finally:
            self._let_go(ref, seen)

    async def _read(
        self, ref: PartRef, name: str, offset: int, send: Send, until: "asyncio.Task[int | None] | None"
    ) -> int:
        node = ref.node
        link = self._links.get(node)
        if link is None:
            raise UnreachableHostError(f"{node}: not in the inventory any more", host=node)
        hello = link.session.hello if link.session is not None else None
        if hello is None:
            raise UnreachableHostError(f"{node}: {link.note or 'not connected'}", host=node)
        channel, session = await link.open_reader()
        nonce = secrets.token_hex(8)
        path = f"{rp.part_dir(hello.spool, ref.launch_id, ref.token)}/{name}"
        channel.write(protocol.encode_read(nonce=nonce, path=path, offset=offset, follow=until is not None))
        head: protocol.ReadHead | None = None
        try:
            head, begin = await read_head(channel, nonce)
            if head.error is not None:
                raise NodeError(f"{node}: {path}: {head.error}", host=node)
            pieces = [begin]
            while True:
                await send(*pieces)
                offset += sum(map(len, pieces))
                if pieces := channel.take_pieces(BLOCK):
                    continue
                reading = asyncio.ensure_future(channel.read_pieces(BLOCK))
                try:
                    await asyncio.wait({reading} if until is None else {reading, until}, return_when=asyncio.FIRST_COMPLETED)
                    if not reading.done():
                        return offset  # the rest is read to its end once more
                    pieces = reading.result()
                finally:
                    if not reading.done():
                        reading.cancel()
                        await asyncio.gather(reading, return_exceptions=True)
                if not pieces:
                    if until is None and offset < (head.size or 0):
                        raise NodeError(f"{node}: the output was cut off", host=node)
                    if until is not None and not until.done():
                        raise NodeError(f"{node}: the line was lost", host=node)
                    return offset
        finally:
            channel.close()
            if head is not None and head.error is None and until is not None:
                link.reap(session, head.pid, head.start)

    def _session(self, node: str) -> Session:
        link = self._links.get(node)
        session = link.session if link is not None else None
        if session is None or not session.ready:
            note = link.note if link is not None else "not in the inventory"
            raise UnreachableHostError(f"{node}: {note or 'not connected'}", host=node)
        return session

    async def _is_over(self, job_id: int) -> bool:
        def question(cluster: Cluster) -> Job | None:
            return cluster.jobs.get(job_id)

        job = await self._mailbox.ask(question)
        return job is None or job.state in FINAL or job.state is State.PENDING

    async def _until_rung(self, seen: _Seen, session: Session) -> None:
        """Until a hint comes, the line is lost, or it is time to ask again."""
        rung = asyncio.ensure_future(seen.rung.wait())
        either: list[asyncio.Future[Any]] = [rung, session.connection.lost]
        try:
            await asyncio.wait(either, timeout=ASK_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            rung.cancel()

    def _hold(self, ref: PartRef) -> _Seen:
        seen = self._seen.setdefault((ref.launch_id, ref.token), _Seen())
        seen.users += 1
        return seen

    def _let_go(self, ref: PartRef, seen: _Seen) -> None:
        seen.users -= 1
        if not seen.users:
            self._seen.pop((ref.launch_id, ref.token), None)
