"""Requests about hosts, partitions and the controller itself."""

import os
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from sshq import __version__
from sshq.controller.fleet import Fleet
from sshq.controller.mailbox import Mailbox
from sshq.controller.views import node_view, partition_view, reservation_view
from sshq.core.cluster import Cluster
from sshq.core.events import NodeAccepted, NodeUpdated, PartitionUpdated, ReservationChanged
from sshq.core.hostlist import expand_hostlist
from sshq.core.licenses import free_licenses
from sshq.errors import RefusedError, SshqError
from sshq.wire.protocol import PROTOCOL
from sshq.wire.server import Peer, StreamOut


class HostDesk:
    """What the controller knows of its machines."""

    def __init__(
        self, *, mailbox: Mailbox, fleet: Fleet, clock: Callable[[], float], started_at: float, state_dir: str, socket: str,
        epoch: int, user_name: Callable[[int], str], settings: Mapping[str, object],
    ) -> None:  # fmt: skip
        self._mailbox = mailbox
        self._fleet = fleet
        self._clock = clock
        self._started_at = started_at
        self._state_dir = state_dir
        self._socket = socket
        self._epoch = epoch
        self._user_name = user_name
        self._settings = settings  # of config.yaml, what `scontrol show config` shows

    async def info(self, _peer: Peer, _params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        known = await self._mailbox.ask(partial(_info, now=self._clock()))
        return {**known, "inventory": self._inventory(), "controller": {"pid": os.getpid()}}

    async def hosts(self, _peer: Peer, _params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        """The table of `sshq up`: who takes part, who was left out and why."""
        info = await self._mailbox.ask(partial(_info, now=self._clock()))
        nodes = {str(n["name"]): n for n in info["nodes"]}
        hosts = []
        for name, link in self._fleet.links.items():
            node = nodes.get(name, {})
            keys = ("slots", "cpus", "memory_mib", "partitions", "gres", "gpu_list", "gpu_notes")
            hosts.append(
                {
                    "name": name,
                    "address": link.host.address,
                    "port": link.host.port,
                    "account": link.host.account,
                    "state": link.state,
                    "note": link.note,
                    **{k: node.get(k) for k in keys},
                }
            )
        inventory = self._fleet.inventory
        excluded = [{"name": e.name, "why": e.reason} for e in inventory.excluded]
        return {
            "hosts": hosts,
            "excluded": excluded,
            "partitions": info["partitions"],
            "warnings": list(inventory.warnings),
            "inventory": self._inventory(),
        }

    async def retry(self, _peer: Peer, params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        names = params.get("names")
        results = []
        for name in names if isinstance(names, list) else list(self._fleet.links):
            known = self._fleet.retry(str(name))
            results.append({"name": name, "outcome": "retrying" if known else "unknown"})
        return {"results": results}

    async def accept(self, peer: Peer, params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        """Take somebody's word that the machine which answers now is the host: jobs of the other one are given up."""
        results = []
        for name in _expand([str(n) for n in params.get("names") or ()]):
            spool_id = self._fleet.find_stranger(name)
            if spool_id is None:
                known = name in self._fleet.links
                why = "its identity has not changed" if known else "no such host in the inventory"
                results.append({"name": name, "outcome": "refused" if known else "unknown", "message": why})
                continue
            await self._mailbox.submit(NodeAccepted(now=self._clock(), name=name, spool_id=spool_id, uid=peer.uid))
            self._fleet.retry(name)
            message = "accepted; jobs of the machine it was before are given up"
            results.append({"name": name, "outcome": "accepted", "message": message})
        return {"results": results}

    async def update_node(self, peer: Peer, params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        """Carry out scontrol update nodename=…: drain, resume, down; who and when is kept."""
        names, state = params.get("names"), params.get("state")
        if not isinstance(names, list):
            raise RefusedError("Invalid node name specified", code="bad_request")
        user = self._user_name(peer.uid)
        reason, features = params.get("reason"), params.get("features")
        results = []
        for name in _expand(names):
            event = NodeUpdated(
                now=self._clock(), name=name, state=str(state or "").lower(), reason=str(reason) if reason else None,
                uid=peer.uid, user=user, weight=params.get("weight"), comment=params.get("comment"),
                features=tuple(features) if isinstance(features, list) else None,
            )  # fmt: skip
            results.append(await self._settle(event, name))
        return {"results": results}

    async def update_partition(self, peer: Peer, params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        """Lay an administrator's word over the inventory's, until it is changed again."""
        changes = {key: value for key, value in params.items() if key != "names" and value is not None}
        results = []
        for name in params.get("names") or ():
            event = PartitionUpdated(now=self._clock(), name=str(name), uid=peer.uid, changes=changes)
            results.append(await self._settle(event, str(name)))
        return {"results": results}

    async def reservation(self, peer: Peer, params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        """Create, update or delete a reservation; the reply has its name."""
        name = params.get("name")
        event = ReservationChanged(
            now=self._clock(), verb=str(params.get("verb") or ""), name=str(name) if name else None, uid=peer.uid,
            changes={key: value for key, value in (params.get("changes") or {}).items() if value is not None},
        )  # fmt: skip
        return {"name": await self._mailbox.submit(event)}

    async def _settle(self, event: NodeUpdated | PartitionUpdated, name: str) -> dict[str, object]:
        try:
            await self._mailbox.submit(event)
        except SshqError as error:
            return {"name": name, "outcome": "refused", "message": error.message}
        return {"name": name, "outcome": "done", "message": ""}

    async def reload(self, _peer: Peer, _params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        lines = await self._fleet.reload()
        return {"diff": lines, "error": self._fleet.inventory_error}

    async def doctor(self, _peer: Peer, params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        names = params.get("names")
        return {"hosts": await self._fleet.doctor([str(n) for n in names] if isinstance(names, list) else None)}

    async def status(self, _peer: Peer, _params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        jobs, orphans, nodes, next_job_id = await self._mailbox.ask(
            lambda c: ({s.name: n for s, n in c.index.states.items() if n}, dict(c.orphans), len(c.nodes), c.next_job_id)
        )
        return {
            "pid": os.getpid(),
            "uid": os.getuid(),
            "uptime_s": round(self._clock() - self._started_at, 3),
            "version": __version__,
            "protocol": PROTOCOL,
            "inventory": self._inventory(),
            "hosts": dict(Counter(link.state for link in self._fleet.links.values())),
            "jobs": jobs,
            "orphans": [{"launch": launch, "host": host, "job_id": job} for launch, (host, job) in sorted(orphans.items())],
            "state_dir": self._state_dir,
            "socket": self._socket,
            "epoch": self._epoch,
            "settings": {**self._settings, "nodes": nodes, "next_job_id": next_job_id},
        }

    def _inventory(self) -> dict[str, object]:
        return {
            "path": self._fleet.inventory.path,
            "error": self._fleet.inventory_error,
            "loaded_at": self._fleet.loaded_at,
        }


def _expand(names: list[str]) -> list[str]:
    """Return the nodes that lists of them mean, all taken together as one list."""
    try:
        return expand_hostlist(",".join(names))
    except ValueError as error:
        raise RefusedError("Invalid node name specified", code="bad_request", detail=(str(error)[:200],)) from None


def _info(cluster: Cluster, now: float) -> dict[str, list[dict[str, object]]]:
    nodes = sorted(cluster.nodes.values(), key=lambda n: n.name)
    free = free_licenses(cluster)
    held = {name: "MAINT" if "MAINT" in r.flags else "RESERVED"
            for r in cluster.reservations.values() if r.is_active(now) for name in r.nodes}  # fmt: skip
    return {
        "nodes": [node_view(cluster, n) | {"reserved": held.get(n.name)} for n in nodes],
        "partitions": [partition_view(cluster, p) for p in cluster.partitions.values()],
        "reservations": [reservation_view(cluster, r) for r in cluster.reservations.values()],
        "licenses": [{"name": name, "total": count, "used": count - free[name]} for name, count in cluster.licenses.items()],
    }
