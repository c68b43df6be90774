"""The controller: one a store, in a process of its own (`start`), alive until told to stop; its jobs outlive it.

Order at start: lock, log, store (a new epoch), the cluster from the store, inventory, mailbox, links, and last the
socket: who can connect gets true answers.  Order at the end: socket, links, mailbox (what is queued is stored), store.
"""

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import pwd
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sshq.controller.auditfile import AuditFile
from sshq.controller.crash import VARIABLE, crash_hook
from sshq.controller.eventdesk import EventDesk
from sshq.controller.filedesk import FileDesk
from sshq.controller.fleet import Fleet
from sshq.controller.headcommands import HeadCommands
from sshq.controller.heap import Heap
from sshq.controller.history import HistoryDesk
from sshq.controller.hostdesk import HostDesk
from sshq.controller.interactdesk import InteractDesk
from sshq.controller.jobdesk import JobDesk
from sshq.controller.joining import Surroundings
from sshq.controller.leases import Leases, watch_leases
from sshq.controller.logdesk import LogDesk
from sshq.controller.mailbox import Mailbox
from sshq.controller.material import Materials
from sshq.controller.outputs import OutputBringer
from sshq.controller.parts import Parts
from sshq.controller.provenance import ProvenanceDesk
from sshq.controller.proving import DirectoryKeeper
from sshq.controller.purging import RemovalDesk
from sshq.controller.pythons import PythonDesk
from sshq.controller.service import Service
from sshq.controller.sharing import SharingDesk
from sshq.controller.staging import Stager
from sshq.controller.stats import StatsDesk
from sshq.controller.stepcalls import StepCalls
from sshq.controller.stepdesk import StepDesk
from sshq.controller.storethread import StoreThread
from sshq.controller.submission import DirectoryProver
from sshq.controller.submitdesk import SubmitDesk
from sshq.controller.upcalls import Upcalls
from sshq.controller.upkeep import Upkeep
from sshq.core.cluster import Cluster
from sshq.core.effects import AskPythons, Audit, BringOutput, DropEnvironment, Effect, ProveDirectories
from sshq.core.licenses import parse_licenses
from sshq.errors import SshqError
from sshq.inventory.config import Config
from sshq.inventory.load import load_found
from sshq.store.inspecting import Inspection
from sshq.store.jobs import Store
from sshq.transport.base import Deadlines
from sshq.transport.pool import Transports
from sshq.wire.server import Peer, Server

log = logging.getLogger("sshq.daemon")
MANY_JOBS = 10_000


class Controller:
    """Builds the parts, runs them, takes them down."""

    def __init__(
        self, arguments: argparse.Namespace, config: Config, clock: Callable[[], float] = time.time,
        random: Callable[[int], bytes] = os.urandom, inspection: Inspection | None = None,
    ) -> None:  # fmt: skip
        self.arguments = arguments
        self.config = config
        self.clock = clock
        self.random = random
        self.inspection = inspection  # of the store, where it was begun before there was anything to serve with
        self.state_dir = Path(arguments.state)
        self.crash = crash_hook(os.environ.get(VARIABLE, ""), self.state_dir)
        self.stopping = asyncio.Event()
        self.exit_code = 0
        self.store = StoreThread()

    async def run(self) -> int:
        """Serve until stopped; returns the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop, f"signal {signal.Signals(number).name}")
        inventory = await asyncio.to_thread(load_found, self.arguments.inventory)
        cluster = await self._open_store()
        self.store.on_fatal = self._die
        self.materials = Materials(self.state_dir, self.store, environments_keep_s=self.config.environments_keep_s)
        self.materials.sweep(frozenset(cluster.environments), self.clock())
        transports = self._make_transports()
        mailbox = Mailbox(
            cluster, commit=self.store.commit, carry_out=self._carry_out, clock=self.clock, random=self.random, crash=self.crash,
            on_fatal=self._die,
        )  # fmt: skip
        mailbox.listeners.append(Heap(cluster.jobs))
        self.leases = Leases()
        around = Surroundings(
            mailbox=mailbox,
            clock=self.clock,
            config=self.config,
            store_id=cluster.store_id,
            epoch=cluster.epoch,
            local_base=self._local_base(),
            transport=transports.transport,
            material=self.materials.fetch,
            material_at_hand=self.materials.find,
            crash=self.crash,
            find_settled=self.store.find_settled,
            leases=self.leases,
            confirm_epoch=self.store.confirm_epoch,
        )
        self.fleet = Fleet(path=self.arguments.inventory, inventory=inventory, around=around, clock=self.clock, crash=self.crash)
        around.find_gpus = self.fleet.find_gpus
        self.stager = Stager(mailbox=mailbox, objects=self.materials.objects, clock=self.clock, crash=self.crash)
        around.stage = self.stager.bring
        self.parts = Parts(mailbox, self.fleet.links)
        around.part_news = self.parts.take
        self.upcalls = Upcalls(mailbox=mailbox, links=self.fleet.links, crash=self.crash)
        HeadCommands(mailbox=mailbox, socket_path=self.arguments.socket, crash=self.crash).register(self.upcalls)
        StepCalls(mailbox=mailbox, parts=self.parts, links=self.fleet.links).register(self.upcalls)
        around.upcall = self.upcalls.announce
        self.outputs = OutputBringer(mailbox=mailbox, fleet=self.fleet, clock=self.clock, crash=self.crash)
        self.audit = AuditFile(self.state_dir / "audit.jsonl", enabled=self.config.audit, clock=self.clock)
        await self._serve(mailbox, transports)
        if self.exit_code == 0:
            await self.store.close()
        log.info("stopped; %d launched jobs run on and are adopted by the next start", len(cluster.launches))
        return self.exit_code

    async def _open_store(self) -> Cluster:
        """Open the store, take a new epoch, and build the cluster from it."""
        on_network, looked = self.config.state_on_network, self.inspection
        store = await self.store.open(
            lambda: Store.open(self.state_dir, create=True, crash=self.crash, on_network=on_network, looked=looked)
        )
        epoch = await self.store.run(lambda s: s.begin_epoch())
        self.crash("epoch.taken")
        gc.disable()  # a hundred thousand records come, and nothing of them is garbage: looking for it takes as long as reading
        loaded = await self.store.run(lambda s: s.load())
        cluster = Cluster(store_id=store.store_id, epoch=epoch, next_job_id=loaded.next_job_id, next_order=loaded.max_order + 1)
        cluster.jobs_max = self.config.jobs_max
        cluster.licenses = dict(parse_licenses(self.config.licenses or ""))
        cluster.arrange(loaded.partitions, loaded.reservations)
        cluster.restore(list(loaded.jobs), list(loaded.launches), list(loaded.nodes), self.clock())
        if loaded.restored:
            rows = cluster.hold_after_restore(self.clock())
            await self.store.commit(rows, cluster.next_job_id)
            await self.store.run(lambda s: s.end_restore())
            log.warning("the store is a restored backup: %d pending jobs are held until released", len(cluster.doubted))
        log.info("store opened epoch=%d jobs=%d open_launches=%d", epoch, len(loaded.jobs), len(loaded.launches))
        if len(loaded.jobs) >= MANY_JOBS:
            gc.freeze()  # what is there stays for long: no later look at all objects has to pass over it
        gc.enable()
        return cluster

    async def _serve(self, mailbox: Mailbox, transports: Transports) -> None:
        """Start the parts in order, wait for the word to stop, take them down in the reverse order."""
        prover = DirectoryProver(mailbox, self.fleet.links, self.clock)
        self.keeper = DirectoryKeeper(prover)
        self.pythons = PythonDesk(mailbox, self.fleet.links, self.clock)
        service = self._build_service(mailbox, prover)
        self.store.on_full = service.store_filled
        server = self.server = self._make_server(service)
        mailing = asyncio.create_task(mailbox.run(), name="mailbox")
        await self.fleet.start()
        upkeep = Upkeep(
            mailbox=mailbox,
            store=self.store,
            materials=self.materials,
            config=self.config,
            clock=self.clock,
            state_dir=self.state_dir,
        )
        chores = [
            asyncio.create_task(self.fleet.watch(), name="inventory"),
            asyncio.create_task(upkeep.run(), name="upkeep"),
            asyncio.create_task(upkeep.check_store(), name="check"),
            asyncio.create_task(watch_leases(mailbox, self.leases, self.clock), name="leases"),
        ]
        await server.start()
        path = self.fleet.inventory.path or "(embedded)"
        log.info("listening on %s, inventory %s, %d hosts", self.arguments.socket, path, len(self.fleet.links))
        await self.stopping.wait()
        await server.close()
        for chore in chores:
            chore.cancel()
        await asyncio.gather(*chores, return_exceptions=True)
        self.upcalls.close()
        self.outputs.close()
        await self.fleet.close()
        mailbox.close()
        await asyncio.gather(mailing, return_exceptions=True)
        await transports.close()

    # The three seams of tests/sim: other hosts, another door for clients, another way to die.

    def _make_transports(self) -> Transports:
        return Transports(
            known_hosts=str(self.state_dir / "known_hosts"),
            deadlines=Deadlines(connect_s=float(self.config.connect_timeout_s)),
            keepalive_s=float(self.config.keepalive_interval_s),
            keepalive_count=self.config.keepalive_count,
        )

    def _make_server(self, service: Service) -> Server:
        mode = 0o666 if self.config.others_may_list else 0o600
        return Server(self.arguments.socket, service.dispatch, mode=mode, on_bug=_log_bug)

    def _end_process(self) -> None:
        os._exit(self.exit_code)

    def _build_service(self, mailbox: Mailbox, prover: DirectoryProver) -> Service:
        submit = SubmitDesk(
            mailbox=mailbox,
            store=self.store,
            materials=self.materials,
            prover=prover,
            pythons=self.pythons,
            config=self.config,
            clock=self.clock,
            crash=self.crash,
        )
        hosts = HostDesk(
            mailbox=mailbox,
            fleet=self.fleet,
            clock=self.clock,
            started_at=self.clock(),
            state_dir=str(self.state_dir),
            socket=self.arguments.socket,
            epoch=mailbox.cluster.epoch,
            user_name=_user_name,
            settings=_shown_settings(self.config),
        )
        steps = StepDesk(mailbox=mailbox, fleet=self.fleet, clock=self.clock)
        return Service(
            submit=submit,
            jobs=JobDesk(mailbox=mailbox, store=self.store, clock=self.clock, staging=self.stager.notes),
            events=EventDesk(mailbox=mailbox),
            hosts=hosts,
            removal=RemovalDesk(
                mailbox=mailbox, fleet=self.fleet, clock=self.clock, store_id=mailbox.cluster.store_id, user_name=_user_name
            ),
            history=HistoryDesk(self.store, steps),
            steps=steps,
            interact=InteractDesk(mailbox=mailbox, fleet=self.fleet, parts=self.parts),
            files=FileDesk(mailbox=mailbox, fleet=self.fleet),
            provenance=ProvenanceDesk(mailbox, self.store, self.materials),
            sharing=SharingDesk(fleet=self.fleet),
            logs=LogDesk(mailbox=mailbox, fleet=self.fleet, log_file=str(self.state_dir / "controller.log")),
            stats=StatsDesk(
                stats=mailbox.stats, ask=mailbox.ask, hosts=self.fleet.counters, depths=lambda: self._depths(mailbox),
                state_dir=self.state_dir,
            ),
            note_request=mailbox.stats.note_request,
            others_may_list=self.config.others_may_list,
            shut_down=lambda: self.stop("sshq down"),
            waiting_for=lambda: self.store.full,
        )

    def _depths(self, mailbox: Mailbox) -> dict[str, int]:
        """How much waits outside the queue."""
        return {"mailbox": mailbox.depth, "outputs": self.outputs.under_way, "clients": self.server.connections}

    def stop(self, why: str) -> None:
        """Begin an orderly end; jobs run on."""
        log.info("stopping: %s", why)
        self.store.give_up()
        self.stopping.set()

    def _die(self, error: BaseException) -> None:
        """The mailbox cannot go on: what is stored is the truth, the next start reads it."""
        known = isinstance(error, SshqError)
        self.exit_code = error.exit_code if isinstance(error, SshqError) else 70
        with contextlib.suppress(OSError):  # the disk of the log may be the one that failed
            log.critical("the controller cannot go on: %s", error, exc_info=None if known and self.exit_code == 1 else error)
            if isinstance(error, SshqError):
                sys.stderr.write(error.render("sshq"))
            sys.stderr.flush()
            for handler in logging.getLogger().handlers:
                handler.flush()
        # No orderly way out: memory may already be ahead of the store, and nothing of it may be told to anybody.
        self._end_process()

    def _carry_out(self, effects: list[Effect]) -> None:
        """Hand out the orders of a stored batch."""
        for effect in effects:
            match effect:
                case BringOutput():
                    self.outputs.start(effect)
                case DropEnvironment():
                    self.materials.drop_environ(effect.digest)
                case ProveDirectories():
                    self.keeper.start(effect)
                case AskPythons():
                    self.pythons.start(effect)
                case Audit():
                    self.audit.write(effect)
                case _:
                    self.fleet.carry_out(effect)

    def _local_base(self) -> str | None:
        if self.config.spool_base:
            return self.config.spool_base
        return f"{self.arguments.home}/spool-base" if self.arguments.home else None


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _shown_settings(config: Config) -> dict[str, object]:
    """What of config.yaml `scontrol show config` shows."""
    return {
        "array_size_max": config.array_size_max,
        "default_memory_mib": config.default_memory_mib,
        "finished_keep_s": config.finished_keep_s,
        "jobs_max": config.jobs_max,
        "kill_wait_s": config.kill_wait_s,
        "licenses": config.licenses,
        "over_time_limit_s": config.over_time_limit_s,
        "program_dir": os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
    }


def _log_bug(error: BaseException, peer: Peer, method: str) -> None:
    log.error("request %s of uid=%d failed", method, peer.uid, exc_info=error)
