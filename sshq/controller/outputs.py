"""Bringing a private directory's output home: read over a channel of its own, written as the submitter.

The controller writes for its own uid only; for any other the output stays in the spool, for `sshq logs`.  The file
appears whole: it is written aside, synced and renamed, or appended where the job asked for that.
"""

import asyncio
import logging
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from sshq.controller.fleet import Fleet
from sshq.controller.launching import err_path
from sshq.controller.logdesk import read_head
from sshq.controller.mailbox import Mailbox
from sshq.controller.views import expand_output
from sshq.core.effects import BringOutput
from sshq.core.events import OutputReturned
from sshq.errors import NodeError
from sshq.runner import protocol as rp

log = logging.getLogger("sshq.output")

PARALLEL_MAX = 8
TRIES_PAUSE_S = 1.0


class OutputBringer:
    """Carries out `BringOutput`; retries for as long as the host is away, gives up only on what cannot be written."""

    def __init__(self, *, mailbox: Mailbox, fleet: Fleet, clock: Callable[[], float]) -> None:
        self._mailbox = mailbox
        self._fleet = fleet
        self._clock = clock
        self._turn = asyncio.Semaphore(PARALLEL_MAX)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, effect: BringOutput) -> None:
        task = asyncio.create_task(self._bring(effect))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _bring(self, effect: BringOutput) -> None:
        job = effect.job
        problem: str | None = None
        if job.spec.uid != os.getuid():
            problem = f"it belongs to {job.spec.user}, and this controller writes for {os.getuid()} only"
        while problem is None:
            try:
                async with self._turn:
                    await self._bring_streams(effect)
                break
            except OSError as error:
                problem = f"{error.filename or job.spec.work_dir}: {error.strerror}"
            except NodeError as error:
                log.info("job=%d output waits for host=%s: %s", job.job_id, effect.node, error.message)
                await asyncio.sleep(TRIES_PAUSE_S)
        if problem:
            log.warning("job=%d output stays on host=%s: %s", job.job_id, effect.node, problem)
        self._mailbox.post(OutputReturned(now=self._clock(), job_id=job.job_id, launch_id=effect.launch_id, problem=problem))

    async def _bring_streams(self, effect: BringOutput) -> None:
        spec = effect.job.spec
        out = expand_output(spec, effect.job, spec.std_out, effect.node)
        err = expand_output(spec, effect.job, spec.std_err, effect.node) if spec.std_err else out
        await self._bring_one(effect, rp.out_path, out)
        if err != out:
            await self._bring_one(effect, err_path, err)

    async def _bring_one(self, effect: BringOutput, place: Callable[[str, str], str], home: str) -> None:
        link = self._fleet.links.get(effect.node)
        if link is None or link.session is None or link.session.hello is None:
            raise NodeError(f"{effect.node} is not connected", host=effect.node)
        if home == "/dev/null":
            return
        spec = effect.job.spec
        append = spec.open_mode == "append" or (spec.open_mode is None and effect.job.attempt > 1)
        channel, _ = await link.open_reader()
        aside = Path(home).with_name(f".{Path(home).name[:200]}.sshq-{secrets.token_hex(4)}")
        mode = 0o666 & ~spec.umask
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        try:
            os.fchmod(fd, mode)  # the controller's own umask is 077, the job's was asked for
            nonce = secrets.token_hex(8)
            channel.write(
                rp.encode_read(nonce=nonce, path=place(link.session.hello.spool, effect.launch_id), offset=0, follow=False)
            )
            head, rest = await read_head(channel, nonce)
            if head.error is None:
                total = len(rest)
                await asyncio.to_thread(os.write, fd, rest)
                while data := await channel.read():
                    await asyncio.to_thread(_write_all, fd, data)
                    total += len(data)
                if head.size is not None and total < head.size:
                    raise NodeError(f"{effect.node}: the output was cut off at {total} of {head.size} bytes", host=effect.node)
            await asyncio.to_thread(_publish, fd, aside, home, append=append)
        finally:
            os.close(fd)
            channel.close()
            aside.unlink(missing_ok=True)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _publish(fd: int, aside: Path, home: str, *, append: bool) -> None:
    os.fsync(fd)
    if append and os.path.exists(home):
        with open(aside, "rb") as source, open(home, "ab") as target:
            while data := source.read(1 << 20):
                target.write(data)
    elif os.path.exists(home) and not os.path.isfile(home):
        with open(aside, "rb") as source, open(home, "wb") as target:  # a FIFO or device the user named
            target.write(source.read())
    else:
        aside.replace(home)
