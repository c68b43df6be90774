"""From an open channel to a node that takes part: hello, is it the right machine, a new generation, the first listing.

Nothing is changed on the node before it is known to be the one that is meant, and that this controller still is the one
that speaks for the store: taking a generation closes every launch there that the store does not hold open.
"""

import asyncio
import os
import pwd
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from sshq.controller.gpuwatch import GpuWatch
from sshq.controller.launching import Material
from sshq.controller.mailbox import Mailbox
from sshq.controller.patience import StrangerError, TwinError
from sshq.controller.placing import format_place
from sshq.controller.replies import encode_facts, node_facts
from sshq.controller.session import Session
from sshq.controller.staging import Link
from sshq.controller.stepping import complete_entries
from sshq.core.cluster import Cluster
from sshq.core.effects import StartLaunch
from sshq.core.events import GpusReported, LaunchRefused, LoadReported, NodeConnected, NodeEntry
from sshq.core.gpus import Gpu
from sshq.core.identity import find_stranger, find_twin
from sshq.core.model import SEQ_PER_GENERATION
from sshq.errors import NoReplyError, RunnerError
from sshq.inventory.config import Config
from sshq.inventory.facts import parse_facts
from sshq.inventory.model import Host
from sshq.runner import protocol as rp
from sshq.runner.replies import PartNews
from sshq.transport.base import Target, Transport

if TYPE_CHECKING:
    from sshq.controller.leases import Leases

HELLO_S = 30.0


def _not_at_hand(_effect: StartLaunch) -> None:
    """Every launch's material is fetched."""


def _unheard(_host: str, _reply: rp.Upcall) -> None:
    """Nobody answers commands inside jobs."""


async def _none_settled(_launch_ids: list[str]) -> frozenset[str]:
    return frozenset()


def _nobody_waits(_news: PartNews) -> None:
    """A hint that is for nobody."""


async def _nothing_to_stage(_link: Link, _session: Session, _effect: StartLaunch) -> None:
    """No job takes files along."""


def _always(_name: str) -> bool:
    return True


def _forget(_name: str) -> None:
    """Nobody counts listings."""


async def _ours() -> None:
    """Nobody else can have taken the store."""


@dataclass(slots=True, kw_only=True)
class Surroundings:
    """What every link shares."""

    mailbox: Mailbox
    clock: Callable[[], float]
    config: Config
    store_id: str
    epoch: int
    local_base: str | None
    transport: Callable[[Target], Transport]
    material: Callable[[StartLaunch], Awaitable[Material]]
    crash: Callable[[str], None]
    leases: "Leases"
    material_at_hand: Callable[[StartLaunch], Material | None] = _not_at_hand  # None where it has to be fetched
    find_gpus: Callable[[str], tuple[GpuWatch, Session] | None] = lambda _: None  # of another host, while it is connected
    find_settled: Callable[[list[str]], Awaitable[frozenset[str]]] = _none_settled  # of these, what the store has as settled
    worth_listing: Callable[[str], bool] = _always  # whether a host whose interval is over is listed
    note_listed: Callable[[str], None] = _forget  # it joined, and was
    part_news: Callable[[PartNews], None] = _nobody_waits
    upcall: Callable[[str, rp.Upcall], None] = _unheard  # a command inside a job waits
    stage: Callable[[Link, Session, StartLaunch], Awaitable[LaunchRefused | None]] = _nothing_to_stage  # files that go along
    confirm_epoch: Callable[[], Awaitable[None]] = _ours  # does not return where another controller has taken the store over


async def greet(host: Host, around: Surroundings, session: Session) -> rp.Hello:
    """Start the runner and hear from it; it is neither another name's machine nor, by its spool, the wrong one.

    Raises:
        NoReplyError, RunnerError: no runner of ours can work there.
        StrangerError, TwinError: the machine of another name.
    """
    base = host.spool or (around.local_base if host.connection == "local" else None)
    session.channel.write(
        rp.encode_bootstrap(
            nonce=session.nonce, store_id=around.store_id, base=base, force_spool=host.spool_forced, nice=host.nice
        )
    )
    hello = await _await_hello(session)
    await _refuse_stranger(host.name, around, hello, machine_id="")
    twin = await around.mailbox.ask(lambda c: find_twin(c, host.name, hello.spool_id, displaced=hello.took_over))
    if twin is not None:
        raise TwinError(twin, host=host.name)
    return hello


async def enter(
    host: Host, around: Surroundings, session: Session, hello: rp.Hello, gpus: GpuWatch
) -> tuple[NodeConnected, LoadReported, GpusReported]:
    """Probe, take the next generation, list; returns what to post.

    Raises:
        StrangerError: it is not the machine whose launches are open.
    """
    reply, look = await asyncio.gather(session.call(lambda tag: rp.encode_probe(tag=tag), rp.FactsReply), gpus.look(session))
    facts = parse_facts(reply.facts)
    await _refuse_stranger(host.name, around, hello, machine_id=facts.machine or "")
    # After our runner has ended those of others: from here on none of them can come in between unnoticed.
    await around.confirm_epoch()
    session.generation = await _reserve(host.name, around, session, hello)
    around.crash("hosts.reserved")
    listing = await session.call(lambda tag: rp.encode_list(nonce=tag), rp.Listing)
    entries = await complete_entries(around.mailbox, session, listing.entries)
    settled = await ask_settled(around, entries)
    around.note_listed(host.name)
    around.crash("hosts.listed")
    known = node_facts(facts, look.answer, own_account=hello.user == _own_account())
    if known.gpu_problem:  # what it has is what it had
        known = replace(known, gpus=await around.mailbox.ask(partial(_known_gpus, host.name)))
    connected = NodeConnected(
        now=around.clock(), name=host.name, generation=session.generation, boot=hello.boot, spool_id=hello.spool_id,
        machine_id=facts.machine or "", uid=hello.uid, facts=known, facts_json=encode_facts(known), entries=entries,
        settled=settled, place=format_place(host),
    )  # fmt: skip
    load = LoadReported(name=host.name, load=facts.load1, memory_free_mib=facts.memory_free_mib, room=facts.room)
    return connected, load, look.event(host.name)


def _own_account() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # an account without a name is nobody's on a host
        return ""


def _known_gpus(name: str, cluster: Cluster) -> tuple[Gpu, ...]:
    node = cluster.nodes.get(name)
    return node.facts.gpus if node is not None and node.facts is not None else ()


async def ask_settled(around: Surroundings, entries: Iterable[NodeEntry]) -> frozenset[str]:
    """Of the launches a node shows, and that are not open, those the store remembers to have settled."""
    shown = [e.launch_id for e in entries]
    if not shown:  # most hosts, most of the time
        return frozenset()
    unknown = await around.mailbox.ask(lambda c: [i for i in shown if i not in c.launches])
    return await around.find_settled(unknown) if unknown else frozenset()


async def _refuse_stranger(name: str, around: Surroundings, hello: rp.Hello, *, machine_id: str) -> None:
    why = await around.mailbox.ask(
        partial(find_stranger, name=name, spool_id=hello.spool_id, boot=hello.boot, machine_id=machine_id)
    )
    if why is not None:
        raise StrangerError(why, host=name, spool_id=hello.spool_id)


async def _reserve(name: str, around: Surroundings, session: Session, hello: rp.Hello) -> int:
    def look(cluster: Cluster) -> tuple[int, tuple[int, ...]]:
        node = cluster.nodes.get(name)
        open_seqs = sorted(cluster.launches[i].seq for i in cluster.node_launches.get(name, ()))
        return (node.record.generation if node else 0), tuple(open_seqs)

    known, open_seqs = await around.mailbox.ask(look)
    generation = max(hello.gen, known) + 1
    reserved = await session.call(
        lambda tag: rp.encode_reserve(
            tag=tag, old_gen=hello.gen, new_gen=generation, high=generation * SEQ_PER_GENERATION, open_seqs=open_seqs
        ),
        rp.Reserved,
    )
    if not reserved.ok:
        raise RunnerError("another controller of this store took the node at the same moment", host=name)
    return generation


async def _await_hello(session: Session) -> rp.Hello:
    name = session.host
    try:
        async with asyncio.timeout(HELLO_S):
            await session.hello_came.wait()
    except TimeoutError:
        raise NoReplyError(f"{name}: connected, but /bin/sh did not answer within {HELLO_S:.0f} s",
                           host=name, hint=f"sshq doctor {name}") from None  # fmt: skip
    if session.unusable is not None:
        raise RunnerError(f"{name}: {session.unusable}", host=name, hint=f"sshq doctor {name}")
    if session.hello is None:
        noise = session.parser.noise[-200:].decode("utf-8", "replace").strip()
        said = f"; it said {noise!r}" if noise else ""
        error = bytes(session.channel.stderr)[-200:].decode("utf-8", "replace").strip()
        said += f"; on stderr {error!r}" if error else ""
        raise NoReplyError(f"{name}: no POSIX shell answered{said}", host=name, hint=f"sshq doctor {name}")
    return session.hello
