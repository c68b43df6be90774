"""Bringing a private directory's output home: read over a channel of its own, written as the submitter.

The controller writes for its own uid only; for any other the output stays in the spool, for `sshq logs`.  The file
appears whole: it is written aside, synced and renamed, or appended where the job asked for that.  What has come of a
large one before a cut is kept, or over a line that is cut often it would never be whole.
"""

import asyncio
import logging
import os
import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from sshq.controller.crash import go_on
from sshq.controller.fleet import Fleet
from sshq.controller.hosts import HostLink
from sshq.controller.launching import err_path, result_path
from sshq.controller.logdesk import BLOCK, read_head
from sshq.controller.mailbox import Mailbox
from sshq.controller.nodefiles import NodeFiles
from sshq.controller.stageouts import Staging, bring_staged
from sshq.controller.views import expand_output
from sshq.core.effects import BringOutput
from sshq.core.events import OutputReturned
from sshq.errors import NodeError
from sshq.runner import protocol as rp
from sshq.transport.base import Channel

log = logging.getLogger("sshq.output")

PARALLEL_MAX = 64
A_NODE_MAX = 2  # so that a slow line, or a host that hangs, holds up its own jobs only
TRIES_PAUSE_S = 1.0
KEPT_BYTES = 1024 * 1024  # of less than that the beginning is not worth a file left behind by a crash


@dataclass(slots=True)
class _Part:
    """One file on its way: where it is written aside, and how much of it has come."""

    aside: Path
    fd: int
    done: int = 0

    def discard(self) -> None:
        os.close(self.fd)
        self.aside.unlink(missing_ok=True)


@dataclass(slots=True)
class _Way:
    """What has come of the output of one job."""

    parts: dict[str, _Part] = field(default_factory=dict)
    home: set[str] = field(default_factory=set)

    def drop(self, home: str) -> None:
        part = self.parts.pop(home, None)
        if part is not None:
            part.discard()

    def close(self) -> None:
        for home in list(self.parts):
            self.drop(home)


class OutputBringer:
    """Carries out `BringOutput`; retries for as long as the host is away, gives up only on what cannot be written."""

    def __init__(
        self, *, mailbox: Mailbox, fleet: Fleet, clock: Callable[[], float], crash: Callable[[str], None] = go_on
    ) -> None:
        self._mailbox = mailbox
        self._fleet = fleet
        self._clock = clock
        self._crash = crash
        self._turn = asyncio.Semaphore(PARALLEL_MAX)
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, effect: BringOutput) -> None:
        task = asyncio.create_task(self._bring(effect))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def under_way(self) -> int:
        """How many outputs are on their way home, or wait for their turn."""
        return len(self._tasks)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _bring(self, effect: BringOutput) -> None:
        job, way, staging = effect.job, _Way(), Staging()
        try:
            problem = await self._bring_somehow(effect, partial(self._bring_streams, effect, way))
        finally:
            way.close()
        hint = f"sshq logs {job.job_id}" if problem else ""
        if job.spec.stage_out and job.spec.uid == os.getuid():
            staged = await self._bring_somehow(effect, partial(self._bring_staged, effect, staging))
            staged = staged or staging.problem(job, effect.node)
            problem = "; ".join(filter(None, (problem, staged)))
            note = staging.note(effect.node)
            came, total = len(staging.home), staging.total
            log.info("job=%d staged out %d of %d files from host=%s %s", job.job_id, came, total, effect.node, note)
        if problem:
            log.warning("job=%d output stays on host=%s: %s", job.job_id, effect.node, problem)
        event = OutputReturned(
            now=self._clock(), job_id=job.job_id, launch_id=effect.launch_id, problem=problem or None, hint=hint,
            note=staging.note(effect.node),
        )  # fmt: skip
        await self._mailbox.submit(event)
        for home in way.home:  # stored: it will not be asked for again
            _note_of(home, effect.launch_id).unlink(missing_ok=True)

    async def _bring_somehow(self, effect: BringOutput, bring: Callable[[], Awaitable[None]]) -> str | None:
        """Try until it is home; returns why it stays where it is."""
        job, waits_for = effect.job, ""
        turn = self._turns.setdefault(effect.node, asyncio.Semaphore(A_NODE_MAX))
        if job.spec.uid != os.getuid():
            return f"it belongs to {job.spec.user}, and this controller writes for {os.getuid()} only"
        while True:
            try:
                async with turn, self._turn:
                    await bring()
                return None
            except OSError as error:
                return f"{os.fsdecode(error.filename or job.spec.work_dir)}: {error.strerror}"
            except NodeError as error:
                if error.message != waits_for:
                    log.info("job=%d output waits for host=%s: %s", job.job_id, effect.node, error.message)
                waits_for = error.message
                await asyncio.sleep(TRIES_PAUSE_S)

    async def _bring_streams(self, effect: BringOutput, way: _Way) -> None:
        spec = effect.job.spec
        out = expand_output(spec, effect.job, spec.std_out, effect.node)
        err = expand_output(spec, effect.job, spec.std_err, effect.node) if spec.std_err else out
        await self._bring_one(effect, rp.out_path, out, way)
        if err != out:
            await self._bring_one(effect, err_path, err, way)
        if spec.result:
            await self._bring_one(effect, result_path, expand_output(spec, effect.job, spec.result, effect.node), way)

    def _link_of(self, node: str) -> tuple[HostLink, str]:
        link = self._fleet.links.get(node)
        if link is None or link.session is None or link.session.hello is None:
            raise NodeError(f"{node} is not connected", host=node)
        return link, link.session.hello.spool

    async def _bring_staged(self, effect: BringOutput, staging: Staging) -> None:
        link, spool = self._link_of(effect.node)
        files = NodeFiles(link, rp.work_path(spool, effect.launch_id, effect.job.spec.tree_below), private=True)
        await bring_staged(effect.job, files, effect.launch_id[:16], staging, self._crash)

    async def _bring_one(self, effect: BringOutput, place: Callable[[str, str], str], home: str, way: _Way) -> None:
        link, spool = self._link_of(effect.node)
        if home == "/dev/null" or home in way.home:
            return
        spec = effect.job.spec
        append = spec.open_mode == "append" or (spec.open_mode is None and effect.job.attempt > 1)
        append = append and place is not result_path  # the newest attempt's alone counts
        path = place(spool, effect.launch_id)
        channel, _ = await link.open_reader()
        try:
            if home not in way.parts:
                way.parts[home] = _begin(home, effect.launch_id, 0o666 & ~spec.umask)
            part = way.parts[home]
            await _read_rest(channel, path, part, effect.node)
            self._crash("outputs.fetched")
            await asyncio.to_thread(_publish, part.fd, part.aside, home, append=append)
            self._crash("outputs.published")
            way.home.add(home)
        finally:
            channel.close()
            if home in way.home or (home in way.parts and way.parts[home].done < KEPT_BYTES):
                way.drop(home)


def _aside(home: str, launch_id: str) -> Path:
    """Where it is written until it is whole: the same place each time, so that a crash leaves nothing that nobody takes."""
    return Path(home).with_name(f".{Path(home).name[:200]}.sshq-{launch_id[:16]}")


def _note_of(home: str, launch_id: str) -> Path:
    return Path(f"{_aside(home, launch_id)}.at")


def _begin(home: str, launch_id: str, mode: int) -> _Part:
    aside = _aside(home, launch_id)
    aside.unlink(missing_ok=True)
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    os.fchmod(fd, mode)  # the controller's own umask is 077, the job's was asked for
    return _Part(aside, fd)


async def _read_rest(channel: Channel, path: str, part: _Part, node: str) -> None:
    """Write what is not here yet of the host's file; one that was never made counts as empty."""
    nonce = secrets.token_hex(8)
    channel.write(rp.encode_read(nonce=nonce, path=path, offset=part.done, follow=False))
    head, begin = await read_head(channel, nonce)
    if head.error is not None:
        return
    pieces = [begin]
    while pieces:
        await asyncio.to_thread(_write_all, part.fd, pieces)
        part.done += sum(map(len, pieces))
        pieces = await channel.read_pieces(BLOCK)
    if head.size is not None and part.done < head.size:
        raise NodeError(f"{node}: the output was cut off at {part.done} of {head.size} bytes", host=node)


def _write_all(fd: int, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        view = memoryview(piece)
        while view:
            view = view[os.write(fd, view) :]


def _append(aside: Path, home: str) -> None:
    """Append once: where it began is noted first, so that after a crash what is there already is not written again."""
    note = Path(f"{aside}.at")
    if not note.exists():
        new = aside.with_name(aside.name + ".new")
        new.write_text(str(os.path.getsize(home)))
        new.replace(note)
    began = int(note.read_text() or 0)
    with open(aside, "rb") as source, open(home, "rb") as present:
        present.seek(began)
        while (data := source.read(1 << 20)) and data == (there := present.read(len(data))):
            pass
        if data and (not data.startswith(there) or present.read(1)):  # others have written here meanwhile: then rather twice
            source.seek(0)
        elif data:
            source.seek(len(there) - len(data), os.SEEK_CUR)
        with open(home, "ab") as target:
            while data := source.read(1 << 20):
                target.write(data)
            target.flush()
            os.fsync(target.fileno())


def _publish(fd: int, aside: Path, home: str, *, append: bool) -> None:
    os.fsync(fd)
    if append and os.path.isfile(home):
        _append(aside, home)
    elif os.path.exists(home) and not os.path.isfile(home):
        with open(aside, "rb") as source, open(home, "wb") as target:  # a FIFO or device the user named
            target.write(source.read())
    else:
        aside.replace(home)
