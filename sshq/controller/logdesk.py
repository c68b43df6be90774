"""`logs`: a job's output, live from its host or from the file on this machine; and the controller's own log."""

import asyncio
import contextlib
import logging
import os
import secrets
import stat
from collections.abc import Callable, Mapping
from typing import Any

from sshq.controller.fleet import Fleet
from sshq.controller.hosts import HostLink
from sshq.controller.launching import err_path
from sshq.controller.mailbox import Mailbox
from sshq.controller.views import expand_output
from sshq.core.cluster import Cluster
from sshq.core.lifecycle import FINAL, State
from sshq.core.model import Job
from sshq.errors import NodeError, RefusedError
from sshq.runner import protocol as rp
from sshq.transport.base import Channel
from sshq.wire.server import Peer, StreamOut

log = logging.getLogger("sshq.logs")
BLOCK = 256 * 1024
HEAD_S = 20.0
LOOK_S = 0.2
LAST_WORDS_S = 1.5  # `tail -f` looks once a second where its file system tells it nothing


class _AwayError(Exception):
    """The output cannot be read now; `offset` is how far it was."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset


class LogDesk:
    """Reads output where it is: the job's host while it runs there, else here."""

    def __init__(self, *, mailbox: Mailbox, fleet: Fleet, log_file: str) -> None:
        self._mailbox = mailbox
        self._fleet = fleet
        self._log_file = log_file

    async def logs(self, _peer: Peer, params: Mapping[str, Any], stream: StreamOut) -> Mapping[str, object]:
        """Stream a job's output from `offset`; with `follow` until the job is over and all is sent."""
        ref = params.get("ref")
        if not isinstance(ref, list) or not ref or not isinstance(ref[0], int):
            raise RefusedError("Invalid job id specified", code="bad_request")
        task = ref[1] if len(ref) > 1 and isinstance(ref[1], int) else None
        follow = params.get("follow") is True
        error_stream = params.get("stream") == "err"
        given = params.get("offset")
        offset = given if isinstance(given, int) else 0
        job = await self._await_start(ref[0], task, follow=follow)
        launch_id, begin = job.launch_id, 0  # `begin`: where in all that was sent the present attempt's output begins
        while True:
            job = await self._mailbox.ask(lambda c: find_job(c, ref[0], task))
            over = job.state in FINAL
            if job.launch_id != launch_id:
                launch_id, begin = job.launch_id, (offset if job.private_dir and launch_id else begin)
            try:
                offset = begin + await self._send_from(
                    job, offset - begin, stream, error_stream=error_stream, follow=follow and not over
                )
            except _AwayError as error:
                offset = begin + error.offset
                if not await self._will_be_there(job, follow=follow):
                    raise RefusedError(error.message, code="not_now") from None
            else:
                if not follow or over:
                    return {"offset": offset, "state": job.state.name}
            await self._pause(job)

    async def _pause(self, job: Job) -> None:
        """Wait until another look is worth it: the job is another than it was, or some time has passed."""
        changed, stop = self._listen(lambda one: one.job_id == job.job_id)
        try:
            now = await self._mailbox.ask(lambda c: c.jobs.get(job.job_id))
            if now is not None and (now.state, now.launch_id) == (job.state, job.launch_id):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await changed.wait()
        finally:
            stop()

    def _listen(self, concerns: Callable[[Job], bool]) -> tuple[asyncio.Event, Callable[[], None]]:
        """Return what is set when a job that is meant changes, and what ends that."""
        changed = asyncio.Event()

        def listener(jobs: list[Job]) -> None:
            if any(map(concerns, jobs)):
                changed.set()

        self._mailbox.listeners.append(listener)
        return changed, lambda: self._mailbox.listeners.remove(listener)

    async def _will_be_there(self, job: Job, *, follow: bool) -> bool:
        """Whether output that could not be read just now is worth another look: it came home meanwhile, or somebody waits."""
        if job.state in FINAL and not job.output_pending:
            return False
        pending = await self._mailbox.ask(lambda c: job.job_id in c.jobs and c.jobs[job.job_id].output_pending)
        return follow or pending != job.output_pending

    async def _await_start(self, job_id: int, task: int | None, *, follow: bool) -> Job:
        while True:
            job = await self._mailbox.ask(lambda c: find_job(c, job_id, task))
            if job.state is not State.PENDING or not follow:
                return job
            changed, stop = self._listen(lambda one: job_id in (one.job_id, one.array_job_id))
            try:
                job = await self._mailbox.ask(lambda c: find_job(c, job_id, task))
                if job.state is State.PENDING:
                    await changed.wait()
            finally:
                stop()

    async def _send_from(self, job: Job, offset: int, stream: StreamOut, *, error_stream: bool, follow: bool) -> int:
        if job.launch_id is None or not job.nodes:
            return offset
        spec = job.spec
        pattern = spec.std_err if error_stream and spec.std_err else spec.std_out
        home = expand_output(spec, job, pattern, job.nodes[0])
        link = self._fleet.links.get(job.nodes[0])
        brought = job.state in FINAL and not job.output_pending and not (job.note or "").startswith("output not brought")
        if brought or link is None or link.session is None or link.session.hello is None:
            if job.private_dir and not brought:
                raise _AwayError(f"the output is on {job.nodes[0]}, which cannot be reached now", offset)
            try:
                return await _send_file(home, offset, stream)
            except RefusedError as error:
                if job.state in FINAL:
                    raise
                raise _AwayError(error.message, offset) from None
        if job.private_dir:
            place = err_path if error_stream and spec.std_err else rp.out_path
            path = place(link.session.hello.spool, job.launch_id)
        else:
            path = home
        return await self._send_remote(link, path, offset, stream, job, follow=follow)

    async def _send_remote(self, link: HostLink, path: str, offset: int, stream: StreamOut, job: Job, *, follow: bool) -> int:
        try:
            channel, session = await link.open_reader()
        except NodeError as error:
            raise _AwayError(error.message, offset) from None
        nonce = secrets.token_hex(8)
        channel.write(rp.encode_read(nonce=nonce, path=path, offset=offset, follow=follow))
        ended = asyncio.create_task(self._until_over(job)) if follow else None
        head: rp.ReadHead | None = None
        try:
            head, begin = await read_head(channel, nonce)
            if head.error is not None:
                if job.state in FINAL:
                    raise _AwayError(f"{link.name}: {path}: {head.error}", offset)
                return offset  # it has not been made yet
            pieces = [begin]
            while pieces:
                await stream.data(*pieces)
                offset += sum(map(len, pieces))
                pieces = channel.take_pieces(BLOCK) or await _read_some(channel, ended)
            return offset
        except NodeError as error:
            raise _AwayError(error.message, offset) from None
        finally:
            if ended is not None:
                ended.cancel()
            channel.close()
            if head is not None and head.error is None and follow:
                link.reap(session, head.pid, head.start)

    async def _until_over(self, job: Job) -> bool:
        """Return once this attempt of the job is over: whether its output is kept for a last look."""
        changed, stop = self._listen(lambda one: one.job_id == job.job_id)
        try:
            while True:
                changed.clear()
                now = await self._mailbox.ask(lambda c: c.jobs.get(job.job_id))
                if now is None or now.launch_id != job.launch_id or now.state is State.PENDING:
                    return not job.private_dir
                if now.state in FINAL:
                    return True
                await changed.wait()
        finally:
            stop()

    async def controller_log(self, _peer: Peer, params: Mapping[str, Any], stream: StreamOut) -> Mapping[str, object]:
        lines = params.get("lines")
        keep = lines if isinstance(lines, int) else 100
        data = await asyncio.to_thread(_tail_lines, self._log_file, keep)
        await stream.data(data)
        offset = await asyncio.to_thread(_size_of, self._log_file)
        while params.get("follow") is True:
            await asyncio.sleep(LOOK_S)
            size = await asyncio.to_thread(_size_of, self._log_file)
            if size < offset:
                offset = 0
            if size > offset:
                offset = await _send_file(self._log_file, offset, stream)
        return {"offset": offset}


def find_job(cluster: Cluster, job_id: int, task: int | None) -> Job:
    if task is not None:
        for member in cluster.array_members.get(job_id, ()):
            found = cluster.jobs.get(member)
            if found is not None and found.array_task_id == task:
                return found
        if any(
            cluster.jobs[m].is_array_record and task in cluster.array_sets[m]
            for m in cluster.array_members.get(job_id, ())
            if m in cluster.jobs
        ):
            return cluster.jobs[job_id]
        raise RefusedError("Invalid job id specified", code="unknown_job")
    job = cluster.jobs.get(job_id)
    if job is None:
        raise RefusedError("Invalid job id specified", code="unknown_job", hint=f"sacct -j {job_id}")
    return job


async def read_head(channel: Channel, nonce: str) -> tuple[rp.ReadHead, bytes]:
    data = b""
    while True:
        more = await channel.read(BLOCK, HEAD_S)
        data += more
        head = rp.parse_read_head(data, nonce)
        if head is not None:
            return head, data[head.body_at :]
        if not more or len(data) > BLOCK:
            raise NodeError("the host did not answer the request for the output")


async def _read_some(channel: Channel, ended: "asyncio.Task[bool] | None") -> list[bytes]:
    """Return the next pieces; none at their end or once the attempt is over, after a short silence where nothing is kept."""
    if ended is None:
        return await channel.read_pieces(BLOCK)
    reading = asyncio.ensure_future(channel.read_pieces(BLOCK))
    try:
        await asyncio.wait({reading, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not reading.done() and not ended.result():
            await asyncio.wait({reading}, timeout=LAST_WORDS_S)
        if reading.done():
            return reading.result()
        return []  # what a last look after the end finds is sent by a plain read from the offset
    finally:
        if not reading.done():
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def _send_file(path: str, offset: int, stream: StreamOut) -> int:
    """Send a file of this machine; a name that is not a plain file is refused, so that a FIFO cannot hang us."""
    try:
        fd = await asyncio.to_thread(os.open, path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise RefusedError(f"{path}: {error.strerror}", code="not_now") from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise RefusedError(f"{path}: not a regular file", code="bad_request")
        while data := await asyncio.to_thread(os.pread, fd, BLOCK, offset):
            await stream.data(data)
            offset += len(data)
        return offset
    finally:
        os.close(fd)


def _size_of(path: str) -> int:
    return os.path.getsize(path) if os.path.exists(path) else 0


def _tail_lines(path: str, lines: int) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            size = min(file.tell(), 1 << 20)
            file.seek(-size, os.SEEK_END)
            return b"".join(file.read().splitlines(keepends=True)[-lines:])
    except OSError:
        return b""
