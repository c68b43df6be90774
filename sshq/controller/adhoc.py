"""Asking hosts without a controller: `python -m sshq.controller.adhoc VERB JSON` prints one JSON document and ends.

The commands start it, since they may not touch hosts themselves.  It reads what a controller would read (inventory,
configuration, the known_hosts file in its state directory) and starts no job; only `rebuild` takes its lock, to make a store
where there is none.
"""

import argparse
import asyncio
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sshq.controller.doctor import ScratchRunner, examine_hosts
from sshq.controller.doctor_checks import clean_text
from sshq.controller.fleet import inventory_event
from sshq.controller.gpuwatch import GpuLook
from sshq.controller.hosts import target_of
from sshq.controller.rebuilding import Rebuilder
from sshq.controller.replies import node_facts
from sshq.controller.trust import Trust, choose_hosts
from sshq.controller.views import node_view, partition_view
from sshq.core import events as ev
from sshq.core.cluster import Cluster
from sshq.errors import (
    AgentError,
    BugError,
    HostKeyError,
    LoginError,
    NodeError,
    NoReplyError,
    RefusedError,
    RunnerError,
    SshqError,
    UserError,
)
from sshq.inventory.config import load_config
from sshq.inventory.facts import Facts
from sshq.inventory.gpufacts import GpuAnswer
from sshq.inventory.load import load_found
from sshq.inventory.model import Host, Inventory
from sshq.runner.protocol import Hello
from sshq.transport.base import Deadlines
from sshq.transport.pool import Transports

GPUS_S: Final = 4.0
PROBE_S: Final = 10.0  # of all hosts, side by side
SIDE_BY_SIDE: Final = 64
# The same words as for the controller's links.
FAILURES: Final = {
    LoginError: "auth_failed", AgentError: "agent", HostKeyError: "host_key", NoReplyError: "no_reply", RunnerError: "unusable",
}  # fmt: skip

Object = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What one host answered, or why it did not."""

    host: Host
    state: str = "unreachable"
    note: str = ""
    hello: Hello | None = None
    facts: Facts | None = None
    gpus: GpuLook | None = None


class AdHoc:
    """One question to the hosts of one inventory."""

    def __init__(
        self, inventory: Inventory, transports: Transports, *, local_base: str | None, state: str, on_network: bool = False
    ) -> None:
        self.state, self.on_network = state, on_network
        self.inventory = inventory
        self.transports = transports
        self.local_base = local_base

    async def info(self, _params: Object) -> Object:
        """Return INFO as the controller would, as far as it can be known without one: no jobs, only what hosts say."""
        cluster = await self._probe_into_cluster()
        return {
            "nodes": [node_view(cluster, node) for node in sorted(cluster.nodes.values(), key=lambda n: n.name)],
            "partitions": [partition_view(cluster, partition) for partition in cluster.partitions.values()],
            "inventory": self._inventory(),
            "controller": {"pid": None},
        }

    async def inventory_probe(self, _params: Object) -> Object:
        """Return the table of hosts, with what the machines themselves say."""
        probes = await self._probe_all()
        cluster = self._build_cluster(probes)
        hosts = []
        for probe in probes:
            node, host = cluster.nodes[probe.host.name], probe.host
            hosts.append({
                "name": host.name, "address": host.address, "port": host.port, "account": host.account, "state": probe.state,
                "note": probe.note, "slots": node.slots or None, "cpus": node.cpus or None, "memory_mib": node.memory_mib or None,
                "partitions": list(self.inventory.partitions_of(host.name)), "load": node.load,
                "os": probe.facts.os if probe.facts else None, "spool": _parent_of(probe.hello),
            })  # fmt: skip
        return {
            "hosts": hosts,
            "excluded": [{"name": one.name, "why": one.reason} for one in self.inventory.excluded],
            "partitions": [partition_view(cluster, partition) for partition in cluster.partitions.values()],
            "warnings": list(self.inventory.warnings),
            "inventory": self._inventory(),
        }

    async def doctor(self, params: Object) -> Object:
        """Examine hosts as the controller's doctor does."""
        hosts = choose_hosts(self.inventory, _read_names(params))
        found = await examine_hosts(hosts, self.transports.transport, store_id="", local_base=self.local_base)
        return {"hosts": found}

    async def trust(self, params: Object) -> Object:
        """Fetch or record host keys."""
        trust = Trust(self.inventory, self.transports)
        match params.get("op"):
            case "fetch":
                names = None if params.get("all") else _read_names(params)
                if names is None and not params.get("all"):
                    raise RefusedError("name hosts, or ask for all", code="bad_request")
                return await trust.fetch(names)
            case "record":
                keys = params.get("keys")
                if not isinstance(keys, list):
                    raise RefusedError("no keys to record", code="bad_request")
                return trust.record(keys)
            case other:
                raise RefusedError(f"trust: no such operation: {other}", code="bad_request")

    async def rebuild(self, params: Object) -> Object:
        """Make a lost store anew from the hosts' spools; the one verb that takes the lock, and writes once it is told to."""
        wanted = params.get("store")
        return await Rebuilder(
            inventory=self.inventory, transport=self.transports.transport, local_base=self.local_base, directory=Path(self.state),
            wanted=str(wanted) if wanted else None, apply=params.get("apply") is True, adding=params.get("add") is True,
            force=params.get("force") is True, on_network=self.on_network,
        ).run()  # fmt: skip

    def _inventory(self) -> Object:
        return {"path": self.inventory.path, "error": None, "loaded_at": time.time()}

    # ---- asking ----------------------------------------------------------------------------------------------

    async def _probe_into_cluster(self) -> Cluster:
        return self._build_cluster(await self._probe_all())

    async def _probe_all(self) -> list[Probe]:
        turns = asyncio.Semaphore(SIDE_BY_SIDE)

        async def probe(host: Host) -> Probe:
            async with turns:
                return await self._probe(host)

        hosts = list(self.inventory.hosts.values())
        tasks = [asyncio.create_task(probe(host), name=f"probe {host.name}") for host in hosts]
        if tasks:
            await asyncio.wait(tasks, timeout=PROBE_S)
        for task in tasks:
            task.cancel()
        late = f"no answer within {PROBE_S:.0f} s"
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        probes = []
        for host, outcome in zip(hosts, outcomes, strict=True):
            if isinstance(outcome, asyncio.CancelledError):
                probes.append(Probe(host=host, note=late))
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                probes.append(outcome)
        return probes

    async def _probe(self, host: Host) -> Probe:
        try:
            connection = await self.transports.transport(target_of(host)).connect()
            try:
                return await self._ask_runner(host, ScratchRunner(connection, host, self.local_base))
            finally:
                await connection.close()
        except NodeError as error:
            hint = f"; {error.hint}" if isinstance(error, HostKeyError) and error.hint else ""
            note = error.message.removeprefix(f"{host.name}: ") + hint
            return Probe(host=host, state=FAILURES.get(type(error), "unreachable"), note=note)

    async def _ask_runner(self, host: Host, runner: ScratchRunner) -> Probe:
        try:
            await runner.start(PROBE_S)
            if runner.unusable is not None:
                why = clean_text((runner.unusable.text or runner.unusable.why).encode("utf-8", "replace"))
                return Probe(host=host, state="unusable", note=why)
            if runner.hello is None:
                return Probe(host=host, state="no_reply", note=f"no POSIX shell answered; sshq doctor {host.name}")
            facts = await runner.facts(PROBE_S)
            if facts is None:
                return Probe(host=host, state="no_reply", note=f"it told nothing about itself; sshq doctor {host.name}")
            return Probe(host=host, state="ready", hello=runner.hello, facts=facts, gpus=await runner.gpus(GPUS_S))
        finally:
            await runner.leave()

    def _build_cluster(self, probes: Sequence[Probe]) -> Cluster:
        """Put the answers through the controller's own rules, so that sinfo says the same with and without it."""
        now = time.time()
        cluster = Cluster(store_id="adhoc", epoch=0)
        cluster.apply(inventory_event(self.inventory, now))
        for probe in probes:
            name = probe.host.name
            if probe.hello is None or probe.facts is None:
                cluster.apply(ev.NodeLost(now=now, name=name, note=probe.note))
                continue
            look = probe.gpus or GpuLook(answer=GpuAnswer(problem="the node did not tell of its GPUs in time"))
            cluster.apply(
                ev.NodeConnected(
                    now=now, name=name, generation=1, boot=probe.hello.boot, spool_id=probe.hello.spool_id,
                    machine_id=probe.facts.machine, uid=probe.hello.uid, facts=node_facts(probe.facts, look.answer),
                    facts_json="",
                )
            )  # fmt: skip
            cluster.apply(look.event(name))
            if probe.facts.load1 is not None:
                cluster.apply(ev.LoadReported(name=name, load=probe.facts.load1, memory_free_mib=probe.facts.memory_free_mib))
        return cluster


def _parent_of(hello: Hello | None) -> str | None:
    return hello.spool.rpartition("/")[0] if hello is not None else None


def _read_names(params: Object) -> list[str] | None:
    names = params.get("names")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise RefusedError("names: a list of host names is expected", code="bad_request")
    return names


# ---- the process ---------------------------------------------------------------------------------------------------

VERBS: Final[dict[str, Callable[[AdHoc, Object], Awaitable[Object]]]] = {
    "info": AdHoc.info, "doctor": AdHoc.doctor, "trust": AdHoc.trust, "inventory-probe": AdHoc.inventory_probe,
    "rebuild": AdHoc.rebuild,
}  # fmt: skip
# `info` has ten seconds in all; a doctor has patience.
DEADLINES: Final = {
    "info": Deadlines(connect_s=7, login_s=8, open_s=5, drain_s=5, close_s=2),
    "inventory-probe": Deadlines(connect_s=7, login_s=8, open_s=5, drain_s=5, close_s=2),
}
PATIENT: Final = Deadlines(connect_s=12, login_s=15, open_s=10, drain_s=10, close_s=3)


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sshq adhoc", description="Started by commands when no controller is up.")
    parser.add_argument("verb", choices=VERBS)
    parser.add_argument("params")
    parser.add_argument("--state", required=True)
    parser.add_argument("--socket")  # told to every process of ours; nobody is asked through it here
    parser.add_argument("--home")
    parser.add_argument("--config")
    parser.add_argument("--inventory")
    return parser.parse_args(argv)


async def answer(arguments: argparse.Namespace) -> Object:
    """Return the document to print."""
    params = _read_params(arguments.params)
    config = load_config(arguments.config)
    inventory = load_found(arguments.inventory)
    transports = Transports(
        known_hosts=os.path.join(arguments.state, "known_hosts"),
        deadlines=DEADLINES.get(arguments.verb, PATIENT),
        keepalive_s=float(config.keepalive_interval_s),
        keepalive_count=config.keepalive_count,
    )
    local_base = config.spool_base or (f"{arguments.home}/spool-base" if arguments.home else None)
    try:
        adhoc = AdHoc(
            inventory, transports, local_base=local_base, state=arguments.state, on_network=config.state_on_network
        )  # fmt: skip
        return await VERBS[arguments.verb](adhoc, params)
    finally:
        await transports.close()


def _read_params(text: str) -> Object:
    try:
        params = json.loads(text)
    except ValueError as error:
        raise RefusedError(f"the parameters are not JSON: {error}", code="bad_request") from None
    if not isinstance(params, dict):
        raise RefusedError("the parameters are no object", code="bad_request")
    return params


def describe_error(error: Exception) -> Object:
    """Return an error in the shape of the socket protocol's."""
    if not isinstance(error, SshqError):
        places = traceback.extract_tb(error.__traceback__)[-3:]
        detail = tuple(f"{os.path.basename(place.filename)}:{place.lineno} in {place.name}" for place in places)
        error = BugError(f"{type(error).__name__}: {error}", detail=detail)
    code = error.code if isinstance(error, RefusedError) else "bad_request" if isinstance(error, UserError) else "internal"
    return {"error": {
        "code": code, "message": error.message, "detail": list(error.detail), "hint": error.hint, "exit": error.exit_code,
    }}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Entry of the process; returns its exit status."""
    os.umask(0o077)
    logging.getLogger().addHandler(logging.NullHandler())  # what matters is in the answer
    arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
    code = 0
    try:
        document = asyncio.run(answer(arguments))
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        document, code = describe_error(error), 1
    sys.stdout.write(json.dumps(document) + "\n")  # ASCII: names need not be UTF-8
    return code


if __name__ == "__main__":
    sys.exit(main())
