"""The controller's side of leases: reads a node's clock, renews, and finds what is over (`core/lease.py` has the why).

A node's clock counts as read only after the store has confirmed that it is still ours.  So a controller that has been
replaced, and stood still meanwhile, can only name moments before its successor began; and that one counts all leases from
its own beginning.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from sshq.controller.joining import Surroundings
from sshq.controller.mailbox import Mailbox
from sshq.controller.session import Session
from sshq.core.events import LeasesEnded
from sshq.core.lease import has_leases, hold_s, leased_away
from sshq.core.model import Job
from sshq.runner import protocol as rp

log = logging.getLogger("sshq.lease")

LOOK_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A moment of a node's uptime, and when we heard of it, by a clock of ours that nobody sets."""

    uptime_s: int
    heard_at: float


class Leases:
    """The latest moment each node was told to count from; made when the store is ours, before any link."""

    def __init__(self) -> None:
        self._began_at = _monotonic()
        self._told: dict[str, float] = {}

    def is_over(self, name: str, lease_s: int) -> bool:
        return _monotonic() >= self._told.get(name, self._began_at) + hold_s(lease_s)

    def note_told(self, name: str, moment: Moment) -> None:
        """To be said before the moment is written to the node's channel."""
        self._told[name] = max(self._told.get(name, self._began_at), moment.heard_at)


async def read_moment(around: Surroundings, session: Session) -> Moment:
    """Read the node's clock.

    Raises:
        NodeError: it does not answer.
    """
    pong = await session.call(lambda tag: rp.encode_ping(tag=tag), rp.Pong)
    heard_at = _monotonic()
    await around.confirm_epoch()
    return Moment(uptime_s=int(pong.uptime_s), heard_at=heard_at)


async def tell_lease(around: Surroundings, session: Session, job: Job) -> int:
    """Return what the lease of a launch counts from, of the node's uptime; 0 where there is none.

    Raises:
        NodeError: the node does not answer.
    """
    if not job.spec.lease_s:
        return 0
    moment = await read_moment(around, session)
    around.leases.note_told(session.host, moment)
    return moment.uptime_s


async def renew(around: Surroundings, session: Session) -> None:
    """Renew all leases of a node, if it has any: two short calls, however many they are.

    Raises:
        NodeError: it does not answer.
    """
    if not await around.mailbox.ask(lambda c: has_leases(c, session.host)):
        return
    moment = await read_moment(around, session)
    around.leases.note_told(session.host, moment)
    await session.call(lambda tag: rp.encode_renew(tag=tag, uptime_s=moment.uptime_s), rp.Pong)


async def watch_leases(mailbox: Mailbox, leases: Leases, clock: Callable[[], float]) -> None:
    """Settle what is over, until cancelled."""
    while True:
        await asyncio.sleep(LOOK_S)
        over: dict[str, list[str]] = {}
        for name, launch_id, lease_s in await mailbox.ask(leased_away):
            if leases.is_over(name, lease_s):
                over.setdefault(name, []).append(launch_id)
        for name, launch_ids in over.items():
            log.warning("host=%s leases of %d launches are over: they are given up", name, len(launch_ids))
            await mailbox.submit(LeasesEnded(now=clock(), name=name, launch_ids=tuple(launch_ids)))


def _monotonic() -> float:
    return asyncio.get_running_loop().time()
