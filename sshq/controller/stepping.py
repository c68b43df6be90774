"""Steps, fetched from the hosts: with the record that ends a launch, and when somebody asks what runs.

Nothing polls: a record says whether there were steps, and only then they are asked for, before the record is posted, so that
both are stored in one transaction.  Whatever is cut short is found again in the next listing, whose record still says so.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from sshq.controller.mailbox import Mailbox
from sshq.controller.replies import node_entry
from sshq.controller.session import Session
from sshq.core.events import NodeEntry
from sshq.errors import NodeError, RefusedError, RunnerError
from sshq.runner import protocol as rp

if TYPE_CHECKING:
    from sshq.controller.hosts import HostLink

log = logging.getLogger("sshq.host")
IDS_MAX = 500  # of one call
LOOK_S = 5.0  # a host that does not answer so long is left out of what is shown

StepsOf = Mapping[str, tuple[rp.StepEntry, ...]]


async def fetch_steps(session: Session, launch_ids: Collection[str], *, live: bool) -> StepsOf:
    """Return the steps of launches by their ids.

    Raises:
        NodeError: the connection was lost, or the runner could not do it.
    """
    ids, found = sorted(launch_ids), defaultdict[str, list[rp.StepEntry]](list)
    for start in range(0, len(ids), IDS_MAX):
        part = ids[start : start + IDS_MAX]
        reply = await session.call(lambda tag, part=part: rp.encode_steps(tag=tag, ids=part, live=live), rp.Steps)  # type: ignore[misc]
        for step in reply.entries:
            found[step.launch_id].append(step)
    return {launch_id: tuple(steps) for launch_id, steps in found.items()}


async def fetch_ended_steps(session: Session, launch_ids: Collection[str]) -> StepsOf:
    """Return the steps of launches that have ended; none where the runner cannot tell: their records must not wait for it.

    Raises:
        NodeError: the connection was lost; the next listing shows the records again.
    """
    if not launch_ids:
        return {}
    try:
        return await fetch_steps(session, launch_ids, live=False)
    except RunnerError as error:
        log.warning("host=%s the steps of %s cannot be read: %s", session.host, " ".join(sorted(launch_ids)), error.message)
        return {}


async def complete_entries(mailbox: Mailbox, session: Session, entries: Iterable[rp.Entry]) -> tuple[NodeEntry, ...]:
    """Return a listing in the core's words, with the steps of those launches whose records are news.

    Raises:
        NodeError: the connection was lost meanwhile.
    """
    entries = tuple(entries)
    told = [e.id for e in entries if e.record is not None and e.record.steps]
    news = await mailbox.ask(lambda c: [i for i in told if i in c.launches]) if told else []
    steps = await fetch_ended_steps(session, news)
    return tuple(node_entry(e, steps.get(e.id, ())) for e in entries)


async def signal_step(link: "HostLink", launch_id: str, number: int, signal: int | None) -> bool:
    """End a step (None: TERM, and KILL when the grace is over), or signal it; returns whether it ran.

    Raises:
        RefusedError: its host cannot be asked now.
    """
    session = link.session
    if session is None or not session.ready:
        raise RefusedError(f"{link.name} cannot be reached now, so the step cannot be signalled", code="not_now")
    grace_s = link.kill_wait_s
    try:
        reply = await session.call(
            lambda tag: rp.encode_end_step(tag=tag, id=launch_id, number=number, signal=signal, grace_s=grace_s), rp.Steps
        )
    except NodeError as error:
        raise RefusedError(error.message, code="not_now") from error
    return bool(reply.entries)


async def ask_links(
    links: Mapping[str, "HostLink"], launches: Mapping[str, Collection[str]], *, live: bool
) -> StepsOf:  # fmt: skip
    """Ask several hosts at once; `launches` are by host.  Those that cannot be asked now have nothing to say."""

    async def ask(name: str, ids: Collection[str]) -> StepsOf:
        link = links.get(name)
        session = link.session if link is not None else None
        if session is None or not session.ready:
            return {}
        try:
            async with asyncio.timeout(LOOK_S):
                return await fetch_steps(session, ids, live=live)
        except (NodeError, TimeoutError):
            return {}

    found: dict[str, tuple[rp.StepEntry, ...]] = {}
    for answer in await asyncio.gather(*(ask(name, ids) for name, ids in launches.items())):
        found.update(answer)
    return found
