"""Requests of who works with a running job: follow it, start parts in an allocation, feed and read them, open a terminal."""

import asyncio
import base64
import binascii
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sshq.controller.fleet import Fleet
from sshq.controller.launching import describe_gpus, describe_start
from sshq.controller.mailbox import Mailbox
from sshq.controller.parts import PartRef, Parts
from sshq.controller.views import View, live_job_view
from sshq.core.cluster import Cluster
from sshq.core.lifecycle import FINAL, State
from sshq.core.model import Job
from sshq.errors import RefusedError, UnreachableHostError
from sshq.inventory.model import Host
from sshq.runner.parts import CHUNK_BYTES, PartCall, terminal_command
from sshq.slurm.environ import job_environment
from sshq.slurm.messages import ENDED_JOB
from sshq.transport.base import Channel, Terminal
from sshq.wire.server import Peer, StreamOut

log = logging.getLogger("sshq.interact")

HOLDING = ("allocation",)  # kinds whose launches are holders
FED = ("allocation", "attended")  # kinds that are fed input
OPEN_S = 60.0  # for a terminal that somebody types into already
STATUS_S = 10.0  # for a terminal's status, after its last word
STARTED = (State.RUNNING, State.SUSPENDED)
# The node's own srun, by sh, as the spool may lie where nothing can be executed.
STEP = ("/bin/sh", "-c", 'exec /bin/sh "${SSHQ_DIR%/a/*}/bin/srun" "$@"', "srun")


class InteractDesk:
    """Answers from the cluster, and asks the holders on the nodes."""

    def __init__(self, *, mailbox: Mailbox, fleet: Fleet, parts: Parts) -> None:
        self._mailbox = mailbox
        self._fleet = fleet
        self._parts = parts
        self._terminals: dict[str, asyncio.Future[Channel]] = {}
        self._closed: deque[str] = deque(maxlen=1000)  # tokens: who still types must not wait for them

    async def follow_job(self, _peer: Peer, params: Mapping[str, Any], stream: StreamOut) -> Mapping[str, object]:
        """Stream a job as it is, then each time its state changes, until it is over."""
        job_id = _read_job_id(params)
        changed = asyncio.Event()

        def listener(jobs: list[Job]) -> None:
            if any(j.job_id == job_id for j in jobs):
                changed.set()

        def look(cluster: Cluster) -> tuple[View, bool]:
            job = cluster.jobs.get(job_id)
            if job is None:
                raise RefusedError("Invalid job id specified", code="unknown_job")
            view = live_job_view(cluster, job) | {"cpus_per_node": [share.cpus for share in job.shares()], "kind": job.spec.kind}
            return view | {"started": job.state in STARTED}, job.state in FINAL

        self._mailbox.listeners.append(listener)
        told: object = None
        try:
            while True:
                changed.clear()
                view, over = await self._mailbox.ask(look)
                key = view["state"], view["started"], view["completing"], view["reason"]
                if key != told:
                    told = key
                    await stream.items([view])
                if over:
                    return {}
                await changed.wait()
        finally:
            self._mailbox.listeners.remove(listener)

    # ---- parts -----------------------------------------------------------------------------------------------

    async def part_start(self, peer: Peer, params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        """Start a part, or the node's srun with these words; a repetition with the same token starts nothing again."""
        ref = await self._find(peer, params, HOLDING)
        call = _read_call(await self._place(params, ref), ref, stdin="feed" if params.get("input") is True else "")
        if not await self._parts.start(ref.node, call):
            raise _ended()
        return {"node": ref.node}

    async def part_output(self, peer: Peer, params: Mapping[str, Any], stream: StreamOut) -> Mapping[str, object]:
        """Stream a part's output from `offset` until it has ended; the result has its status, null if its job ended first."""
        ref = await self._find(peer, params, HOLDING)
        name = "err" if params.get("stream") == "err" else "out"
        return {"code": await self._parts.stream(ref, name, int(params.get("offset") or 0), stream.data)}

    async def part_input(self, peer: Peer, params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        """Bring a numbered chunk of input, none for its end; the answer comes when there is room for the next."""
        ref = await self._find(peer, params, FED)
        return {"open": await self._parts.put_input(ref, int(params.get("number") or 0), _read_bytes(params))}

    async def part_signal(self, peer: Peer, params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        """Signal a part."""
        ref = await self._find(peer, params, HOLDING)
        return {"signalled": await self._parts.signal(ref, int(params.get("signal") or 15))}

    async def finish(self, peer: Peer, params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        """End an allocation; its job ends with `code`."""
        ref = await self._find(peer, params, HOLDING)
        return {"ending": await self._parts.end_launch(ref.node, ref.launch_id, int(params.get("code") or 0))}

    # ---- terminals -------------------------------------------------------------------------------------------

    async def attach(self, peer: Peer, params: Mapping[str, Any], stream: StreamOut) -> Mapping[str, object]:
        """Start a part on a terminal and stream what it shows, until it ends; it ends with this request at the latest.

        The result has its exit status, or null and why there is none.
        """
        ref = await self._find(peer, params, ())
        opened = self._terminals.setdefault(ref.token, asyncio.get_running_loop().create_future())
        if opened.done() or ref.token in self._closed:
            raise RefusedError("this terminal has been opened already", code="bad_request")
        link = self._fleet.links.get(ref.node)
        hello = link.session.hello if link is not None and link.session is not None else None
        if link is None or hello is None:
            raise UnreachableHostError(f"{ref.node}: not connected", host=ref.node)
        command = terminal_command(hello.spool, ref.launch_id, ref.token)
        call = _read_call(await self._place(params, ref), ref, terminal=True)
        guest = await self._mailbox.ask(lambda c: _guest_environment(c, ref, link.host))
        if guest is not None:
            call = replace(call, guest=True, environ={**call.environ, **guest})
        shape = Terminal(
            term=str(params.get("term") or "dumb"), rows=int(params.get("rows") or 24), columns=int(params.get("columns") or 80)
        )
        if not await self._parts.start(ref.node, call):
            raise _ended()
        channel, _ = await link.open_reader(command, shape)
        log.info("job=%d host=%s terminal opened", ref.job_id, ref.node)
        try:
            opened.set_result(channel)
            while data := await channel.read():
                await stream.data(data)
            code = await channel.wait_closed(STATUS_S)
            return {"code": code, "signal": channel.exit_signal, "node": ref.node}
        finally:
            self._terminals.pop(ref.token, None)
            self._closed.append(ref.token)
            channel.close()
            log.info("job=%d host=%s terminal closed", ref.job_id, ref.node)

    async def attach_input(self, _peer: Peer, params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        """Pass what was typed to a terminal, and its new size; the answer comes when it has taken it."""
        token, data = str(params.get("token")), _read_bytes(params)
        if token in self._closed:
            return {"open": False}
        opened = self._terminals.setdefault(token, asyncio.get_running_loop().create_future())
        try:
            async with asyncio.timeout(OPEN_S):
                channel = await asyncio.shield(opened)
        except TimeoutError:
            self._terminals.pop(token, None)
            return {"open": False}
        rows, columns = params.get("rows"), params.get("columns")
        if isinstance(rows, int) and isinstance(columns, int):
            channel.resize(rows, columns)
        if data:
            channel.write(data)
            await channel.drain()
        return {"open": True}

    async def _place(self, params: Mapping[str, Any], ref: PartRef) -> Mapping[str, Any]:
        """Return the request, without its directory where the node does not share it: then it is the job's private one."""
        job = await self._mailbox.ask(lambda c: c.jobs.get(ref.job_id))
        return {**params, "work_dir": None} if job is not None and job.private_dir else params

    # ---- which -----------------------------------------------------------------------------------------------

    async def _find(self, peer: Peer, params: Mapping[str, Any], kinds: tuple[str, ...]) -> PartRef:
        """Return the part that is meant, of a job that runs and is the caller's own."""
        job_id = _read_job_id(params)
        job = await self._mailbox.ask(lambda c: c.jobs.get(job_id))
        if job is None:
            raise RefusedError("Invalid job id specified", code="unknown_job")
        if peer.uid not in (0, job.spec.uid):
            raise RefusedError("Access/permission denied", code="denied")
        if job.state is State.PENDING:
            raise RefusedError("Job is pending execution", code="not_now")
        if job.launch_id is None or not job.nodes or (job.state in FINAL and job.released):
            raise _ended()
        if kinds and job.spec.kind not in kinds:
            raise RefusedError(
                f"job {job_id} is no allocation of salloc's: steps of a batch job are started by its script", code="bad_request",
                hint=f"srun --jobid={job_id} --overlap --pty COMMAND works in it",
            )  # fmt: skip
        return PartRef(job_id=job_id, node=job.nodes[0], launch_id=job.launch_id, token=str(params.get("token") or "main"))


def _guest_environment(cluster: Cluster, ref: PartRef, host: Host) -> dict[str, str] | None:
    """Return what a terminal in a job without a holder has to be told; None for a holder's, who knows."""
    job, launch = cluster.jobs.get(ref.job_id), cluster.launches.get(ref.launch_id)
    if job is None or launch is None or job.spec.kind in HOLDING:
        return None
    return job_environment(describe_start(launch, job) | describe_gpus(launch, job, host, None))


def _ended() -> RefusedError:
    return RefusedError(ENDED_JOB, code="ended")


def _read_job_id(params: Mapping[str, Any]) -> int:
    ref = params.get("ref")
    if not isinstance(ref, list) or not ref or not isinstance(ref[0], int):
        raise RefusedError("Invalid job id specified", code="bad_request")
    return ref[0]


def _read_bytes(params: Mapping[str, Any]) -> bytes:
    try:
        data = base64.b64decode(str(params.get("data") or ""), validate=True)
    except (binascii.Error, ValueError):
        raise RefusedError("data is not base64", code="bad_request") from None
    if len(data) > CHUNK_BYTES:
        raise RefusedError(f"a chunk of {len(data)} bytes; {CHUNK_BYTES} are allowed", code="too_large")
    return data


def _read_call(params: Mapping[str, Any], ref: PartRef, *, stdin: str = "", terminal: bool = False) -> PartCall:
    words = tuple(str(word) for word in params.get("argv") or ())
    if not words or not words[0]:
        raise RefusedError("No command given to execute.", code="bad_request")
    environ = params.get("environ")
    umask = params.get("umask")
    return PartCall(
        id=ref.launch_id, token=ref.token, argv=(*STEP, *words) if params.get("step") is True else words,
        environ=environ if isinstance(environ, dict) else {}, work_dir=str(params.get("work_dir") or ""), stdin=stdin,
        umask=umask if isinstance(umask, int) else None, terminal=terminal, main=params.get("main") is True,
    )  # fmt: skip
