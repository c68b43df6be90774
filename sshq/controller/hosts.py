"""One link a host and account: connect, take the node's generation, list, then carry orders and news.

A link owns one connection with one runner channel.  It reconnects with back-off for ever; what it learns it posts as
events, what it is told to do it writes to the channel.  An order for an older generation is dropped: the new connection
has closed those seqs on the node, and its first listing decides what became of them.
"""

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import Sequence
from functools import partial

from sshq.controller.gpuwatch import GpuLook, GpuWatch, check_start
from sshq.controller.joining import Surroundings, ask_settled, enter, greet
from sshq.controller.launching import Material, build_call, write_kill
from sshq.controller.leases import renew, tell_lease
from sshq.controller.patience import BUG_PAUSE_S, Patience, StrangerError, TwinError
from sshq.controller.replies import end_record, node_entry
from sshq.controller.resting import wait_for_turn
from sshq.controller.session import Session
from sshq.controller.stats import HostFigures
from sshq.controller.stepping import complete_entries, fetch_ended_steps
from sshq.core import events as ev
from sshq.core.effects import AckLaunches, Effect, FenceLaunch, KillLaunch, SetLimit, StartLaunch, SweepLaunches
from sshq.core.hostlife import ended_on
from sshq.core.model import SEQ_PER_GENERATION
from sshq.errors import NodeError, UnreachableHostError
from sshq.inventory.model import Host
from sshq.runner import protocol as rp
from sshq.runner.replies import PartNews
from sshq.transport.base import Channel, ChannelRefusedError, Connection, Target, Terminal
from sshq.transport.credentials import sign_login_files

log = logging.getLogger("sshq.host")


READERS_MAX = 8  # connections beside the first one
IDS_MAX = 500  # of one call
ACK_DELAY_S = 0.25  # acknowledgements are gathered: each call costs the node a rename and an rm, two processes
NEWS = (rp.Started, rp.Ended, rp.Refused, rp.Known, rp.FenceResult, rp.KillResult)


class HostLink:
    """The controller's side of one host."""

    def __init__(self, host: Host, around: Surroundings) -> None:
        self.host = host
        self.state = "connecting"
        self.note = "connecting"
        self.session: Session | None = None
        self.retry = asyncio.Event()
        self._around = around
        self._post = around.mailbox.post
        self._acks: AckLaunches | None = None
        self._ack_ids: list[str] = []
        self._patience = Patience()
        self.figures = HostFigures()
        self._login_files: object = None  # as they were before the last refused login
        self.stranger: str | None = None  # the spool of a machine that answered and is not the one that is meant
        self._was_ready = False
        self._unswept: list[str] = []  # ended launches that may have left processes behind, newest first
        self._survived: set[str] = set()  # those of which something could not be killed at the last look
        self.gpus = GpuWatch(lambda: self.host)
        self.pythons: dict[str, str] = {}  # by what jobs need, as last found
        self._looking: asyncio.Task[None] | None = None
        self._readers: list[Connection] = []  # more connections, only where MaxSessions forbids more channels on one

    @property
    def name(self) -> str:
        return self.host.name

    @property
    def kill_wait_s(self) -> int:
        return self._around.config.kill_wait_s

    # ---- life ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect, serve, reconnect, until cancelled."""
        while True:
            self.retry.clear()
            pause_s = 0.1
            try:
                await self._serve_once()
            except NodeError as error:
                if self.state == "ready":
                    self._patience.start_over()
                self.stranger = error.spool_id if isinstance(error, StrangerError) else None
                rest = self._patience.judge(error, self._around.clock())
                self._lost(rest.state, rest.note)
                pause_s = rest.pause_s
            except Exception:  # a bug in one link must not take the others along; it is logged whole
                log.exception("host=%s link failed", self.name)
                self._lost("unreachable", "internal error, see the controller's log")
                pause_s = BUG_PAUSE_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s * random.uniform(0.8, 1.2)):  # noqa: S311
                    await self.retry.wait()

    async def look_at_keys(self) -> None:
        """Where it rests after refused logins: try once more when a key file has changed."""
        seen = self._login_files if self.state == "auth_failed" else None
        if seen is not None and seen != await asyncio.to_thread(sign_login_files, target_of(self.host)):
            self.retry.set()

    def _lost(self, state: str, note: str) -> None:
        note = note.removeprefix(f"{self.name}: ")  # shown beside the name, in columns that are narrow
        if self.state == "ready" or note != self.note:
            log.warning("host=%s state=%s note=%r", self.name, state, note)
        self.state, self.note = state, note
        self._post(ev.NodeLost(now=self._around.clock(), name=self.name, note=note))

    async def _serve_once(self) -> None:
        self.state = "connecting"
        if self._patience.next_login_is_the_last:
            self._login_files = await asyncio.to_thread(sign_login_files, target_of(self.host))
        connection = await self.figures.connect(self._around.transport(target_of(self.host)))  # bounds its own handshakes
        self._patience.note_login()
        self._login_files = None
        session: Session | None = None
        try:
            channel = await connection.open()
            session = Session(self.name, connection, channel, secrets.token_hex(8))
            reading = asyncio.create_task(session.read(self._take))
            try:
                await self._start(session)
                await self._sweep_until_lost(session, reading)
            finally:
                reading.cancel()
                self.session = None
                for ids in session.sweeps.values():  # unanswered
                    self._unswept.extend(ids)
        finally:
            await connection.close()
            await self._close_readers(list(self._readers))

    async def _start(self, session: Session) -> None:
        """Hello, generation, probe, first listing; then the node is the scheduler's."""
        self.state = "probing"
        hello = await greet(self.host, self._around, session)
        connected, load, gpus = await enter(self.host, self._around, session, hello, self.gpus)
        # Before the event: what its batch orders (fences, kills, acknowledgements, launches) is carried out with its commit,
        # ahead of this coroutine.
        session.ready, self.session = True, session
        refused_for = await self._around.mailbox.submit(connected)
        if refused_for is not None:
            raise TwinError(str(refused_for), host=self.name)
        self._post(load)
        self._post(gpus)
        session.heard = True
        for reply in session.early:
            self._take(session, reply)
        session.early.clear()
        if not self._was_ready:
            self._was_ready = True
            self._unswept = await self._around.mailbox.ask(partial(ended_on, name=self.name))
        await renew(self._around, session)
        self.state, self.note = "ready", ""
        self.stranger = None
        log.info("host=%s ready generation=%d cpus=%s spool=%s", self.name, session.generation, connected.facts.cpus, hello.spool)

    async def _sweep_until_lost(self, session: Session, reading: "asyncio.Task[None]") -> None:
        """The slow heartbeat: a listing and the load, which also proves that the runner lives."""
        interval = self._around.config.reconcile_interval_s

        def is_due() -> bool:
            return bool(self._unswept or session.sent) or self._around.worth_listing(self.name)

        while True:
            if not await wait_for_turn(reading, interval, is_due):
                lost = session.connection.lost
                reason = lost.result() if lost.done() and not lost.cancelled() else None
                raise reason or UnreachableHostError(f"{self.name}: the runner's channel was closed", host=self.name)
            if await self.list_now(session):
                await renew(self._around, session)
            if self.gpus.worth_looking and (self._looking is None or self._looking.done()):
                self._looking = asyncio.create_task(self._report_gpus(session))  # it may take long, and holds up no sweep
            if session.worn:
                self._lost("connecting", "takes a new generation")
                return
            await self._close_readers([c for c in self._readers if c.channels_free == c.target.channels_max])

    async def list_now(self, session: Session) -> bool:
        """Take in a listing and the load; returns whether the node has, or may have, anything of a launch."""
        sent = frozenset(session.sent)
        listing = await session.call(lambda tag: rp.encode_list(nonce=tag), rp.Listing)
        load = await self.figures.time(session.call(lambda tag: rp.encode_load(tag=tag), rp.Load))
        entries = await complete_entries(self._around.mailbox, session, listing.entries)
        settled = await ask_settled(self._around, entries)
        self._post(
            ev.NodeListed(
                now=self._around.clock(), name=self.name, generation=session.generation, entries=entries, sent=sent,
                settled=settled,
            )
        )  # fmt: skip
        self._post(ev.LoadReported(name=self.name, load=load.load1, memory_free_mib=load.free_mib, room=load.room))
        session.sent -= sent - {e.id for e in listing.entries}
        if self._unswept:  # what an ended job left behind goes, many jobs at once: it is one look at all processes
            part, self._unswept = self._unswept[:IDS_MAX], self._unswept[IDS_MAX:]
            self._sweep(session, part)
        return bool(entries or session.sent)

    async def _report_gpus(self, session: Session) -> None:
        with contextlib.suppress(NodeError):
            self._post((await self.gpus.look(session)).event(self.name))

    def _sweep(self, session: Session, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), IDS_MAX):
            part = tuple(ids[start : start + IDS_MAX])
            tag = secrets.token_hex(4)
            session.sweeps[tag] = part
            session.write(rp.encode_sweep(tag=tag, ids=part))

    # ---- news ------------------------------------------------------------------------------------------------

    def _take(self, session: Session, reply: rp.Reply) -> None:
        if not session.heard:
            # Before the first listing a word may be about what a later launch has overtaken: the listing knows better.
            if isinstance(reply, rp.Listing):
                session.early.clear()
            elif isinstance(reply, NEWS):
                session.early.append(reply)
                return
        now = self._around.clock()
        match reply:
            case rp.Started():
                self._around.crash("hosts.started")
                self._post(ev.LaunchStarted(now=now, launch_id=reply.id, pid=reply.pid))
            case rp.Ended():
                self._around.crash("hosts.ended")
                if reply.record.steps:
                    asyncio.ensure_future(self._end_with_steps(session, reply.record))  # noqa: RUF006
                else:
                    self._post(ev.LaunchEnded(now=now, launch_id=reply.id, record=end_record(reply.record)))
            case rp.Refused() if reply.why != "floor":  # a floor proves nothing of this launch: the next listing fences it
                self._post(ev.LaunchRefused(now=now, launch_id=reply.id, why=f"{reply.why} {reply.text}".strip()))
            case rp.Known():
                self._take_entry(session, reply.entry)
            case rp.FenceResult():
                self._take_fence(session, reply, now)
            case rp.KillResult():
                self._take_kill(session, reply, now)
            case rp.Hello():
                session.hello = reply
                session.hello_came.set()
            case rp.Unusable():
                session.unusable = f"{reply.text or reply.why}"
                session.hello_came.set()
            case rp.CallFailed():
                log.warning("host=%s call failed: %s", self.name, reply.text)
                session.answer(reply.tag, reply)
            case rp.Listing():
                session.answer(reply.nonce, reply)
            case rp.Upcall():
                self._around.upcall(self.name, reply)
            case rp.Swept():
                self._take_sweep(session, reply, now)
            case PartNews():
                self._around.part_news(reply)
            case rp.Malformed():
                log.warning("host=%s malformed line (%s): %r", self.name, reply.why, reply.line[:200])
            case _:
                session.answer(getattr(reply, "tag", ""), reply)

    async def _end_with_steps(self, session: Session, record: rp.ExitRecord) -> None:
        """Record and steps are settled together; if the line is cut now, the next listing shows the record again."""
        with contextlib.suppress(NodeError):
            steps = (await fetch_ended_steps(session, (record.id,))).get(record.id, ())
            self._post(ev.LaunchEnded(now=self._around.clock(), launch_id=record.id, record=end_record(record, steps)))

    def _take_entry(self, session: Session, entry: rp.Entry) -> None:
        if entry.record is not None and entry.record.steps:
            asyncio.ensure_future(self._end_with_steps(session, entry.record))  # noqa: RUF006
            return
        now, entries = self._around.clock(), (node_entry(entry),)
        self._post(ev.NodeListed(now=now, name=self.name, generation=session.generation, entries=entries, sent=frozenset()))

    def _take_fence(self, session: Session, reply: rp.FenceResult, now: float) -> None:
        if reply.result == "lost" and reply.entry is not None:
            self._take_entry(session, reply.entry)
            return
        forgotten = reply.result == "lost-forgotten"
        self._post(ev.FenceAnswered(now=now, launch_id=reply.id, won=reply.result == "won", forgotten=forgotten))

    def _take_kill(self, session: Session, reply: rp.KillResult, now: float) -> None:
        if reply.result == "never":
            self._post(ev.FenceAnswered(now=now, launch_id=reply.id, won=True))
        elif reply.result == "forgotten":
            self._post(ev.FenceAnswered(now=now, launch_id=reply.id, won=False, forgotten=True))
        elif reply.result in ("gone", "killed"):
            if reply.survivors:
                log.warning("host=%s launch=%s survived the kill: %s", self.name, reply.id, " ".join(reply.survivors))
                self._post(ev.LaunchesSwept(now=now, name=self.name, launch_ids=(reply.id,), survivors=reply.survivors))
            asyncio.ensure_future(self._list_after_kill(session))  # noqa: RUF006

    def _take_sweep(self, session: Session, reply: rp.Swept, now: float) -> None:
        """What lives at one look may only be slow to die; at two it is told."""
        ids = session.sweeps.pop(reply.tag, ())
        if reply.killed:
            log.info("host=%s swept %d processes of ended jobs", self.name, reply.killed)
        if reply.survivors and not self._survived.intersection(ids):
            self._survived.update(ids)
            self._unswept.extend(ids)
            return
        self._survived.difference_update(ids)
        self._post(ev.LaunchesSwept(now=now, name=self.name, launch_ids=ids, survivors=reply.survivors))

    async def _list_after_kill(self, session: Session) -> None:
        with contextlib.suppress(NodeError, asyncio.CancelledError):
            await self.list_now(session)

    # ---- questions -------------------------------------------------------------------------------------------

    async def prove(self, path: str, nonce_name: str, nonce: str) -> bool | None:
        """Ask whether the host sees `nonce_name` with content `nonce` in `path`; None where it cannot be asked now."""
        session = self.session
        if session is None or not session.ready:
            return None
        try:
            reply = await session.call(
                lambda tag: rp.encode_shared(tag=tag, path=path, name=nonce_name, content=nonce), rp.SharedResult
            )
        except NodeError:
            return None
        return reply.present

    # ---- orders ----------------------------------------------------------------------------------------------

    def carry_out(self, effect: Effect) -> None:
        """Write one order to the channel, if this connection may still carry it."""
        session = self.session
        if session is None or not session.ready:
            return
        match effect:
            case StartLaunch():
                generation, number = divmod(effect.launch.seq, SEQ_PER_GENERATION)
                if generation == session.generation:
                    session.worn = number > SEQ_PER_GENERATION // 2
                    self._around.crash("hosts.before_send")
                    material = self._around.material_at_hand(effect) if _is_plain(effect) else None
                    if material is not None:  # as of most: no task of the loop is made for it
                        self._write_launch(session, effect, material)
                    else:
                        asyncio.ensure_future(self._send_launch(session, effect))  # noqa: RUF006
            case FenceLaunch():
                self._around.crash("hosts.before_fence")
                session.write(rp.encode_fence(id=effect.launch_id, seq=effect.seq))
                self._around.crash("hosts.after_fence")
            case KillLaunch():
                self._around.crash("hosts.before_kill")
                session.write(write_kill(effect, self._around.config.kill_wait_s))
                self._around.crash("hosts.after_kill")
            case SetLimit():
                over_s = self._around.config.over_time_limit_s
                limit_s = None if effect.limit_s is None else effect.limit_s + over_s
                session.write(rp.encode_limit(id=effect.launch_id, seq=effect.seq, limit_s=limit_s))
            case AckLaunches():
                self._gather_ack(session, effect)
            case SweepLaunches():
                self._sweep(session, effect.launch_ids)
            case _:
                log.error("host=%s cannot carry out %r", self.name, effect)

    async def _send_launch(self, session: Session, effect: StartLaunch) -> None:
        try:
            material = await self._around.material(effect)
            refused = await self._around.stage(self, session, effect)  # may take long; nothing of it is counted
            if refused is not None:
                self._post(refused)
                return
            lease_from_s = await tell_lease(self._around, session, effect.job)
            look, obstacle = await check_start(effect.job, self.name, self._around.find_gpus, self._post)
            if session is not self.session:
                return
            if obstacle:  # nothing of it was written either
                log.info("host=%s launch=%s not sent: %s", self.name, effect.launch.id, obstacle)
                self._post(ev.LaunchRefused(now=self._around.clock(), launch_id=effect.launch.id, why=obstacle, passing=True))
                return
        except Exception as error:
            self._give_up_launch(effect, error)
        else:
            self._write_launch(session, effect, material, lease_from_s=lease_from_s, look=look)

    def _give_up_launch(self, effect: StartLaunch, error: Exception) -> None:
        """Nothing of it was written, so it never starts: said like a refusal, or the job would wait for ever."""
        why = f"the launch could not be sent: {error}"
        lost = isinstance(error, NodeError)  # it did not tell its clock, or its GPUs: not a fault of ours
        self._post(ev.LaunchRefused(now=self._around.clock(), launch_id=effect.launch.id, why=why, passing=lost))
        if not lost:
            log.error("a launch could not be sent", exc_info=error)

    def _write_launch(
        self, session: Session, effect: StartLaunch, material: Material, *, lease_from_s: int = 0, look: GpuLook | None = None
    ) -> None:
        if session.hello is None:
            return
        try:
            call = build_call(
                effect.launch, effect.job, host=self.host, hello=session.hello, material=material,
                grace_s=self._around.config.kill_wait_s, lease_from_s=lease_from_s, gpus=look or self.gpus.last,
                over_s=self._around.config.over_time_limit_s, python=self.pythons.get(effect.job.spec.python or ""),
                engine=effect.engine,
            )  # fmt: skip
            parts = rp.encode_launch(call)
        except Exception as error:
            self._give_up_launch(effect, error)
            return
        session.sent.add(effect.launch.id)
        for number, part in enumerate(parts):
            if number:
                self._around.crash("hosts.mid_send")
            session.write(part)
        self._around.crash("hosts.after_send")

    def _gather_ack(self, session: Session, effect: AckLaunches) -> None:
        if self._acks is None:
            asyncio.get_running_loop().call_later(ACK_DELAY_S, self._send_acks, session)
        self._acks = effect  # the newest floor covers the older ones
        self._ack_ids.extend(effect.launch_ids)

    def _send_acks(self, session: Session) -> None:
        acks, ids = self._acks, self._ack_ids
        self._acks, self._ack_ids = None, []
        if acks is None or session is not self.session:
            return  # the next first listing shows them again
        session.sent.difference_update(ids)
        self._around.crash("hosts.before_ack")
        self._unswept.extend(ids)
        for start in range(0, len(ids), IDS_MAX):
            part = ids[start : start + IDS_MAX]
            session.write(rp.encode_ack(tag=secrets.token_hex(4), high=acks.high, open_seqs=acks.open_seqs, ids=part))
        self._around.crash("hosts.after_ack")

    async def flush(self) -> None:
        """Send the acknowledgements that are gathered, and wait until the node has carried them out."""
        session = self.session
        if session is not None:
            self._send_acks(session)
            await session.call(lambda tag: rp.encode_ping(tag=tag), rp.Pong)

    # ---- reading files of the host ---------------------------------------------------------------------------

    async def open_reader(self, command: str = "exec /bin/sh", terminal: Terminal | None = None) -> tuple[Channel, Session]:
        """Return one more channel, for bulk reading or a terminal; on another connection only where those we have are full."""
        session = self.session
        if session is None:
            raise UnreachableHostError(f"{self.name}: {self.note or 'not connected'}", host=self.name)
        for connection in (session.connection, *self._readers):
            if not connection.lost.done():
                with contextlib.suppress(ChannelRefusedError):
                    return await connection.open(command, bulk=True, terminal=terminal), session
        if len(self._readers) >= READERS_MAX:
            raise NodeError(f"{self.name}: {READERS_MAX} connections for reading are in use already", host=self.name)
        connection = await self.figures.connect(self._around.transport(target_of(self.host)))
        if session is not self.session:
            await connection.close()
            raise UnreachableHostError(f"{self.name}: the connection was lost", host=self.name)
        self._readers.append(connection)
        return await connection.open(command, bulk=True, terminal=terminal), session

    async def _close_readers(self, connections: list[Connection]) -> None:
        self._readers = [one for one in self._readers if one not in connections]
        for connection in connections:
            await connection.close()

    def reap(self, session: Session, pid: int, start: int) -> None:
        """End a tail of ours: closing its channel alone would leave it behind."""
        if session is self.session:
            session.write(rp.encode_reap(pid=pid, start=start))


def target_of(host: Host) -> Target:
    return Target(
        name=host.name,
        address=host.address,
        port=host.port,
        account=host.account,
        identity_files=host.identity_files,
        proxy_jump=host.proxy_jump,
        options=tuple((k, v) for k, v in host.ssh_options if k != "ConfigFile"),
        connection=host.connection,
        ssh_config=next((v for k, v in host.ssh_options if k == "ConfigFile"), None),
        channels_max=host.channels_max,
    )


def _is_plain(effect: StartLaunch) -> bool:
    """Return whether nothing is to be asked or brought before it is sent: no files, lease or GPU."""
    spec = effect.job.spec
    return spec.tree is None and not spec.lease_s and not effect.job.gpus
