"""`job_files`, `job_file`: the files of a job's directory, read from its node for `sshq cp`, below that directory alone."""

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from sshq.controller.fleet import Fleet
from sshq.controller.logdesk import find_job
from sshq.controller.mailbox import Mailbox
from sshq.controller.nodefiles import FileGoneError, NodeFiles
from sshq.core.lifecycle import FINAL, State
from sshq.core.model import Job
from sshq.core.stagenames import check_pattern, split_name
from sshq.errors import NodeError, RefusedError
from sshq.runner import protocol as rp
from sshq.wire.server import Peer, StreamOut

ITEMS = 200
LARGE_BYTES = 8 << 20  # worth a channel of its own for its checksum, which takes longer than to bring it


class FileDesk:
    """Reads files where they are."""

    def __init__(self, *, mailbox: Mailbox, fleet: Fleet) -> None:
        self._mailbox = mailbox
        self._fleet = fleet

    async def job_files(self, _peer: Peer, params: Mapping[str, Any], stream: StreamOut) -> Mapping[str, object]:
        """Stream what a path or pattern of a job's directory matches: kind, name, size, mode."""
        job = await self._find(params)
        pattern = _read_pattern(job, str(params.get("path") or ""))
        try:
            async with self._open(job) as files:
                found = {entry.name: entry for entry in await files.match([pattern])}
                names = [name for name, entry in found.items() if entry.kind == "f" and split_name(name) is not None]
                sizes = dict(zip(names, await files.sizes(names), strict=True))
                large = next((name for name, size in sizes.items() if size is not None and size.size >= LARGE_BYTES), None)
                digest = await files.sum_of(large, 0) if large is not None else None
        except NodeError as error:
            raise _explain(job, error) from None
        items: list[Mapping[str, object]] = []
        for name, entry in found.items():
            size = sizes.get(name)
            items.append({
                "kind": entry.kind, "name": os.fsdecode(name), "size": size.size if size else None,
                "mode": size.mode if size else None,
            })  # fmt: skip
        for start in range(0, len(items), ITEMS):
            await stream.items(items[start : start + ITEMS])
        return {"node": job.nodes[0], "pattern": pattern, "sum_of_nothing": digest}  # by which the node's kind is known

    async def job_file(self, _peer: Peer, params: Mapping[str, Any], stream: StreamOut) -> Mapping[str, object]:
        """Stream the first `size` bytes of a file from `offset` on; the reply has the checksum of all of them."""
        job = await self._find(params)
        name, size, offset = os.fsencode(str(params.get("name"))), int(params.get("size") or 0), int(params.get("offset") or 0)
        if split_name(name) is None or offset > size:
            raise RefusedError("that is no file of a job's directory", code="bad_request")
        try:
            async with self._open(job) as files:
                (present,) = await files.sizes([name])
                if present is None:
                    raise FileGoneError(f"{job.nodes[0]}: the file is not there", host=job.nodes[0])
                if present.size < size:
                    raise RefusedError(f"the file has become shorter: {present.size} bytes", code="not_now")
                summing = asyncio.create_task(self._sum_of(job, files, name, size))
                try:
                    if size < LARGE_BYTES:
                        await summing
                    async for pieces in files.read(files.ask(name, offset, size), size - offset):
                        await stream.data(*pieces)
                    expected = await summing
                finally:
                    summing.cancel()
                    await asyncio.gather(summing, return_exceptions=True)
                if expected is None:
                    raise FileGoneError(f"{job.nodes[0]}: the file is not there", host=job.nodes[0])
        except NodeError as error:
            raise _explain(job, error) from None
        return {"sum": expected}

    async def _sum_of(self, job: Job, files: NodeFiles, name: bytes, size: int) -> str | None:
        """Return the checksum of a file's beginning, by `files` if it is small, else beside them."""
        if size < LARGE_BYTES:
            return await files.sum_of(name, size)
        async with self._open(job) as beside:
            return await beside.sum_of(name, size)

    async def _find(self, params: Mapping[str, Any]) -> Job:
        ref = params.get("ref")
        if not isinstance(ref, list) or not ref or not isinstance(ref[0], int):
            raise RefusedError("Invalid job id specified", code="bad_request")
        task = ref[1] if len(ref) > 1 and isinstance(ref[1], int) else None
        job = await self._mailbox.ask(lambda c: find_job(c, ref[0], task))
        if job.launch_id is None or not job.nodes or job.state is State.PENDING:
            raise RefusedError(f"job {job.job_id} has not started, so it has no files yet", code="not_now",
                               hint=f"sshq why {job.job_id}")  # fmt: skip
        return job

    def _open(self, job: Job) -> NodeFiles:
        node = job.nodes[0]
        link = self._fleet.links.get(node)
        if link is None or link.session is None or link.session.hello is None:
            raise NodeError(f"{node} cannot be reached now", host=node)
        spool = link.session.hello.spool
        root = rp.work_path(spool, str(job.launch_id), job.spec.tree_below) if job.private_dir else job.spec.work_dir
        return NodeFiles(link, root, private=job.private_dir)


def _read_pattern(job: Job, path: str) -> str:
    """Return the pattern below the job's directory; an absolute path counts if it names something below the submit directory."""
    below = job.spec.work_dir.rstrip("/") + "/"
    if path.startswith("/") and not f"{path}/".startswith(below):
        raise RefusedError(f"{path} is not below the job's directory", code="bad_request",
                           detail=(f"its directory is {job.spec.work_dir}",), hint="paths are relative to it")  # fmt: skip
    try:
        return check_pattern(path.removeprefix(below) if path.startswith("/") else path or "./")
    except ValueError as error:
        raise RefusedError(f"{path}: {error}", code="bad_request") from None


def _explain(job: Job, error: NodeError) -> RefusedError:
    if not isinstance(error, FileGoneError):
        return RefusedError(error.message, code="not_now")
    if job.state in FINAL and job.private_dir and not job.output_pending:
        return RefusedError(
            f"the files of job {job.job_id} are gone: its private directory on {job.nodes[0]} was removed with its end",
            code="bad_request", hint="submit with --stage-out what is to be kept",
        )  # fmt: skip
    return RefusedError(f"{error.message} (job {job.job_id})", code="bad_request")
