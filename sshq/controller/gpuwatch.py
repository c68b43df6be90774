"""A host's GPUs, looked at: when it connects, with each sweep, and just before a job that gets some is sent there.

One look is at most two questions: what the maker's tool says, and whose the processes are that it names.  Looks asked for
while one is under way share the next one.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sshq.controller.session import Session
from sshq.core.events import GpusReported
from sshq.core.gpus import Gpu, GpuShare, GpuUse
from sshq.core.model import Job
from sshq.errors import NoReplyError, RunnerError
from sshq.inventory.gpufacts import GpuAnswer, ProcessOwner, find_uses, parse_gpus_answer, parse_owners
from sshq.inventory.model import Host
from sshq.runner.calls import encode_gpus, encode_who
from sshq.runner.replies import FactsReply

log = logging.getLogger("sshq.host")

LOOKS_MAX = 3  # of memory that is in use without a process: that of a job that has just ended goes within a moment
PAUSE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuLook:
    answer: GpuAnswer
    uses: tuple[GpuUse, ...] = ()

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        return self.answer.gpus

    def event(self, name: str) -> GpusReported:
        return GpusReported(name=name, gpus=self.answer.gpus, uses=self.uses, problem=self.answer.problem)


class GpuWatch:
    """The looks at one host."""

    def __init__(self, host: Callable[[], Host]) -> None:
        self._host = host
        self._session: Session | None = None
        self._running: asyncio.Task[GpuLook] | None = None
        self._next: asyncio.Task[GpuLook] | None = None
        self.last: GpuLook | None = None

    async def look(self, session: Session) -> GpuLook:
        """Return what a look shows that began after this call.

        Raises:
            UnreachableHostError: the channel ended meanwhile.
        """
        if session is not self._session:
            self._session, self._running, self._next = session, None, None
        if self._next is None:
            self._next = asyncio.ensure_future(self._after(self._running, session))
        return await asyncio.shield(self._next)

    async def _after(self, before: "asyncio.Task[GpuLook] | None", session: Session) -> GpuLook:
        if before is not None:
            await asyncio.wait({before})
        if session is self._session:
            self._running, self._next = self._next, None
        found = await look_at_gpus(session, self._host())
        if found.answer.problem and (self.last is None or self.last.answer.problem != found.answer.problem):
            log.warning("host=%s GPUs: %s", self._host().name, found.answer.problem)
        self.last = found
        return found

    @property
    def worth_looking(self) -> bool:
        """Whether there is anything to look at: a tool that tells."""
        return self.last is not None and bool(self.last.answer.tool)

    async def check(self, session: Session, share: GpuShare) -> tuple[GpuLook | None, str]:
        """Look just before a start; returns the look and why the job must not start now ("" if it may).

        GPUs that are only counted are not looked at: nobody could tell.
        """
        if not share or not self.worth_looking:
            return None, ""
        found, why = None, ""
        for tries in range(LOOKS_MAX):
            if tries:
                await asyncio.sleep(PAUSE_S)
            found = await self.look(session)
            why, passing = _find_obstacle(found, share)
            if not passing:
                break
        return found, why


async def check_start(
    job: Job, node: str, find: Callable[[str], tuple[GpuWatch, Session] | None], post: Callable[[GpusReported], None]
) -> tuple[GpuLook | None, str]:
    """Look once more at the GPUs of a start, on all its nodes.

    Returns the look at `node`, where the launch goes, and why it must not start now ("" if it may).
    """
    first: GpuLook | None = None
    for share in job.shares() if job.gpus else ():
        place = find(share.node)
        if place is None:
            return first, f"{share.node} is not connected"
        look, why = await place[0].check(place[1], share.gpus)
        if look is not None:
            post(look.event(share.node))
            first = look if share.node == node else first
        if why:
            return first, f"{share.node}: {why}"
    return first, ""


def _find_obstacle(look: GpuLook, share: Sequence[tuple[str, int, str]]) -> tuple[str, bool]:
    """Return what is wrong with the GPUs of a start, and whether another look may find it gone."""
    if look.answer.problem:
        return f"its GPUs cannot be looked at: {look.answer.problem}", False
    there = {gpu.id: gpu for gpu in look.gpus}
    uses = {use.id: use for use in look.uses}
    for gpu_id, index, _ in share:
        if gpu_id not in there or there[gpu_id].mig:
            return f"GPU {index} ({gpu_id}) is not there any more", False
    taken = [uses[gpu_id] for gpu_id, _, _ in share if gpu_id in uses]
    text = "; ".join(f"GPU {there[use.id].index} is in use outside sshq: {use}" for use in taken)
    return text, bool(taken) and all(not use.pid for use in taken)


async def look_at_gpus(session: Session, host: Host) -> GpuLook:
    """Ask a node about its GPUs; what it does not tell is a problem of theirs, not of the node."""
    try:
        reply = await session.call(lambda tag: encode_gpus(tag=tag), FactsReply)
        answer = parse_gpus_answer(reply.facts)
        owners: dict[int, ProcessOwner] = {}
        if answer.pids:
            who = await session.call(lambda tag: encode_who(tag=tag, pids=answer.pids), FactsReply)
            owners = parse_owners(who.facts)
    except (NoReplyError, RunnerError) as error:
        return GpuLook(answer=GpuAnswer(problem=error.message))
    return GpuLook(answer=answer, uses=find_uses(answer, owners, host.gpu_idle_mib))
