"""Files for a job, brought to its node before its launch is sent: only what the node's cache lacks, then the tree is built there.

The launch is decided and stored meanwhile, and nothing of it was sent: whatever goes wrong, it never started.  A line that is
cut gives the job back to the queue in its old place, and the next try finds in the cache what had come.
"""

import asyncio
import contextlib
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from sshq.controller.crash import go_on
from sshq.controller.mailbox import Mailbox
from sshq.controller.session import Session
from sshq.core.cluster import Cluster
from sshq.core.effects import StartLaunch
from sshq.core.events import LaunchRefused
from sshq.core.model import LaunchState
from sshq.errors import NodeError, StoreError
from sshq.inventory.model import Host
from sshq.runner import staging as rs
from sshq.transport.base import Channel, Terminal
from sshq.tree.objects import Manifest, Objects

log = logging.getLogger("sshq.staging")

BATCH_BYTES = 32 << 20
BATCH_CHUNKS = 500
SLICE_BYTES = 64 << 10
PARALLEL_MAX = 8  # hosts that take chunks at once
GROW_A_NODE_MAX = 2
TRIES = 5  # on a connection that lives; the pauses between them grow
ANSWER_S = 900.0  # for what moves gigabytes on a slow disk, or looks at them after a reboot
KIB = 1024


class _RefusedError(Exception):
    """It cannot be done there, and trying again at once would not help."""


class Link(Protocol):
    """What is needed of a host's link."""

    host: Host
    session: Session | None

    @property
    def name(self) -> str: ...

    async def open_reader(self, command: str = ..., terminal: Terminal | None = ...) -> tuple[Channel, Session]: ...


@dataclass(slots=True)
class _Place:
    """What is under way on one host."""

    line: asyncio.Lock = field(default_factory=asyncio.Lock)  # chunks go to a host for one tree at a time: often they share them
    turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(GROW_A_NODE_MAX))
    trees: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _Way:
    """One launch whose files are on their way."""

    link: Link
    session: Session
    effect: StartLaunch
    manifest: Manifest
    spool: str
    sent: int = 0

    @property
    def host(self) -> str:
        return self.link.name


class Stager:
    """Brings trees to hosts; `notes` says of each launch how far it is."""

    def __init__(
        self, *, mailbox: Mailbox, objects: Objects, clock: Callable[[], float], crash: Callable[[str], None] = go_on
    ) -> None:
        self._mailbox = mailbox
        self._objects = objects
        self._clock = clock
        self._crash = crash
        self._places: dict[str, _Place] = {}
        self._parallel = asyncio.Semaphore(PARALLEL_MAX)
        self.notes: dict[str, str] = {}

    async def bring(self, link: Link, session: Session, effect: StartLaunch) -> LaunchRefused | None:
        """Have the files of a launch lie on its node; returns why it must not be sent, None if it may.

        Raises:
            NodeError: the connection was lost meanwhile.
        """
        launch, tree = effect.launch, effect.job.spec.tree
        if tree is None or not launch.private_dir:
            return None
        place = self._places.setdefault(link.name, _Place())
        place.trees[tree] += 1
        why, passing = "", False
        try:
            why, passing = await self._try(link, session, effect, place)
        finally:
            self.notes.pop(launch.id, None)
            place.trees[tree] -= 1
            if not place.trees[tree]:
                del place.trees[tree]
        if not why:
            return None
        log.warning("job=%d host=%s launch=%s files not staged: %s", launch.job_id, link.name, launch.id, why)
        return LaunchRefused(now=self._clock(), launch_id=launch.id, why=why, passing=passing)

    async def _try(self, link: Link, session: Session, effect: StartLaunch, place: _Place) -> tuple[str, bool]:
        """Return why it cannot be done ("" if it is done), and whether nobody is to blame."""
        for attempt in range(1, TRIES + 1):
            try:
                return await self._bring(link, session, effect, place)
            except (_RefusedError, StoreError, ValueError) as error:
                return str(error), False
            except NodeError as error:
                if link.session is not session or session.connection.lost.done():
                    raise
                if attempt == TRIES:
                    return error.message, False
                log.info("job=%d host=%s files: %s; once more", effect.launch.job_id, link.name, error.message)
                await asyncio.sleep(2 ** (attempt - 1))
        raise AssertionError

    async def _bring(self, link: Link, session: Session, effect: StartLaunch, place: _Place) -> tuple[str, bool]:
        if session.hello is None or effect.job.spec.tree is None:
            return "the node has not said where its spool is", True
        manifest = await asyncio.to_thread(self._objects.read_manifest, effect.job.spec.tree)
        way = _Way(link, session, effect, manifest, session.hello.spool)
        started_at = self._clock()
        self.notes[effect.launch.id] = f"its files wait for their turn to {link.name}"
        async with place.line, self._parallel:
            await self._send_missing(way, place)
        self._crash("staging.sent")
        self.notes[effect.launch.id] = f"building its files on {link.name} ({show_bytes(manifest.bytes)})"
        async with place.turn:
            wanted = await self._is_wanted(effect)
            if wanted:
                await self._ask(way, lambda nonce: rs.encode_grow(
                    spool=way.spool, nonce=nonce, tree=manifest.digest, id=effect.launch.id
                ))  # fmt: skip
                self._crash("staging.grown")
                wanted = await self._is_wanted(effect)
        if not wanted:
            with contextlib.suppress(_RefusedError, NodeError):
                await self._ask(way, lambda nonce: rs.encode_undo(spool=way.spool, nonce=nonce, id=effect.launch.id))
            return "it was cancelled while its files were on their way", True
        log.info(
            "job=%d host=%s tree=%s staged: %d of %d bytes sent, %.1f s", effect.launch.job_id, link.name, manifest.digest[:12],
            way.sent, manifest.bytes, self._clock() - started_at,
        )  # fmt: skip
        return "", False

    async def _is_wanted(self, effect: StartLaunch) -> bool:
        """Whether the launch is still to be sent: nobody cancelled its job, or settled it."""

        def look(cluster: Cluster) -> bool:
            launch, job = cluster.launches.get(effect.launch.id), cluster.jobs.get(effect.launch.job_id)
            open_still = launch is not None and launch.state is LaunchState.INTENT and not launch.fencing
            return open_still and job is not None and job.cancel_uid is None and not job.requeue_asked

        return await self._mailbox.ask(look)

    # ---- chunks ----------------------------------------------------------------------------------------------

    async def _send_missing(self, way: _Way, place: _Place) -> None:
        chunks = list(dict.fromkeys(digest for digest, _ in way.manifest.chunks))
        opened = await self._ask(way, lambda nonce: rs.encode_open(
            spool=way.spool, nonce=nonce, tree=way.manifest.digest, chunks=chunks
        ))  # fmt: skip
        self._crash("staging.opened")
        sizes = dict(way.manifest.chunks)
        missing = [(digest, sizes[digest]) for digest in dict.fromkeys(opened.missing) if digest in sizes]
        await self._make_room(way, place, opened, sum(size for _, size in missing))
        total, sent = sum(size for _, size in missing), 0
        for batch in _cut_batches(missing):
            if not await self._is_wanted(way.effect):
                return
            await self._put(way, batch, partial(self._note, way, sent, total))
            sent += sum(size for _, size in batch)

    def _note(self, way: _Way, before: int, total: int, done: int) -> None:
        self.notes[way.effect.launch.id] = f"staging {show_bytes(before + done)} of {show_bytes(total)} to {way.host}"

    async def _make_room(self, way: _Way, place: _Place, opened: rs.StageAnswer, coming: int) -> None:
        """Look at the disk before anything is sent; trees that nothing needs now make room."""
        free, used = (opened.free_kib or 0) * KIB, (opened.used_kib or 0) * KIB
        needed, limit = coming + way.manifest.bytes, way.link.host.cache_max_bytes
        surplus = max(used + coming - limit, needed - free, 0)
        if surplus:
            target = max(0, used - surplus) // KIB
            answer = await self._ask(way, lambda nonce: rs.encode_evict(
                spool=way.spool, nonce=nonce, used_kib=used // KIB, max_kib=target, keep=list(place.trees)
            ))  # fmt: skip
            free = (answer.free_kib or 0) * KIB
            log.info("host=%s cache: %s before, %s after", way.host, show_bytes(used), show_bytes((answer.used_kib or 0) * KIB))
        if needed > free:
            text = f"{show_bytes(needed)} needed for its files, {show_bytes(free)} free in {way.spool}"
            raise _RefusedError(f"{way.host}: {text}")

    async def _put(self, way: _Way, batch: Sequence[tuple[str, int]], tell: Callable[[int], None]) -> None:
        nonce = secrets.token_hex(8)
        channel, _ = await way.link.open_reader(rs.put_command(way.spool, nonce))
        reading = asyncio.create_task(_read_answer(channel, nonce, way.host))
        done = 0
        try:
            for digest, size in batch:
                data = await asyncio.to_thread(self._objects.read, digest, size)
                framed = rs.chunk_header(digest, size) + data + bytes(-size % rs.BLOCK)
                for start in range(0, len(framed), SLICE_BYTES):
                    if reading.done():
                        break
                    channel.write(framed[start : start + SLICE_BYTES])
                    await channel.pace()
                done += size
                way.sent += len(framed)
                tell(done)
            self._crash("staging.mid_send")
            channel.write(bytes(2 * rs.BLOCK))
            channel.write_eof()
            async with asyncio.timeout(ANSWER_S):
                _judge(await reading, way.host)
        except TimeoutError:
            raise NodeError(f"{way.host}: no word of the files that were sent", host=way.host) from None
        finally:
            reading.cancel()
            channel.close()

    async def _ask(self, way: _Way, encode: Callable[[str], bytes]) -> rs.StageAnswer:
        """Have one call of the program carried out on a channel of its own."""
        nonce = secrets.token_hex(8)
        channel, _ = await way.link.open_reader()
        try:
            text = encode(nonce)
            for start in range(0, len(text), SLICE_BYTES):
                channel.write(text[start : start + SLICE_BYTES])
                await channel.drain()
            channel.write_eof()
            async with asyncio.timeout(ANSWER_S):
                answer = await _read_answer(channel, nonce, way.host)
        except TimeoutError:
            raise NodeError(f"{way.host}: no answer about the job's files", host=way.host) from None
        finally:
            channel.close()
        _judge(answer, way.host)
        return answer


async def _read_answer(channel: Channel, nonce: str, host: str) -> rs.StageAnswer:
    answer, rest = rs.StageAnswer(), b""
    while not answer.over and (data := await channel.read()):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            rs.read_line(line.decode("utf-8", "backslashreplace"), nonce, answer)
    if not answer.over:
        said = channel.stderr.decode("utf-8", "backslashreplace").strip().rpartition("\n")[2][:200]
        raise NodeError(f"{host}: the line was cut while files were staged{f' ({said})' if said else ''}", host=host)
    return answer


def _judge(answer: rs.StageAnswer, host: str) -> None:
    """Raise what an answer says went wrong."""
    if answer.why == "damaged":
        raise NodeError(f"{host}: {answer.text}", host=host)
    if answer.why:
        raise _RefusedError(f"{host}: its files cannot be staged: {answer.text or answer.why}")


def _cut_batches(missing: Sequence[tuple[str, int]]) -> list[list[tuple[str, int]]]:
    batches: list[list[tuple[str, int]]] = []
    room = 0
    for digest, size in missing:
        if not batches or room < size or len(batches[-1]) >= BATCH_CHUNKS:
            batches.append([])
            room = BATCH_BYTES
        batches[-1].append((digest, size))
        room -= size
    return batches


def show_bytes(count: int) -> str:
    """Return a size for people: 340 MB, 1.2 GB."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}" if count < 10 * size else f"{count // size} {unit}"
    return f"{count} bytes"
