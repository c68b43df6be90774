"""`sshq hosts remove`: a host leaves, and nothing of ours stays on it that can be taken away from here.

The order makes it safe to stop anywhere and to say it again: drained, its jobs over, the link let go, no process left, then
the files.  Only the spool of our own store is touched.  What is not ours to undo (keys, linger, the inventory file) is named.
"""

import contextlib
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sshq.controller.doctor import base_of
from sshq.controller.fleet import Fleet
from sshq.controller.mailbox import Mailbox
from sshq.core.cluster import Cluster
from sshq.core.events import JobsControlled, NodeUpdated, Selected
from sshq.core.model import Job
from sshq.errors import NodeError, RefusedError
from sshq.inventory.model import Host
from sshq.runner.survey import Removal, SurveyError, encode_removal, parse_removal
from sshq.transport.base import Transport, run
from sshq.wire.server import Peer, StreamOut

log = logging.getLogger("sshq.purging")

REMOVAL_S: Final = 60.0
REASON: Final = "leaving: sshq hosts remove"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovalDesk:
    """Answers one request; the command asks again until the jobs are over."""

    mailbox: Mailbox
    fleet: Fleet
    clock: Callable[[], float]
    store_id: str
    user_name: Callable[[int], str]

    async def remove(self, peer: Peer, params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        """Go one step further; `outcome` says how far: connecting, busy, unreachable, drained, kept, removed."""
        name, force = str(params.get("name") or ""), params.get("force") is True
        link = self.fleet.links.get(name)
        if link is None:
            raise RefusedError(
                f"no such host in the inventory: {name}", code="bad_request",
                detail=(
                    "To clear a host that was taken out already, put it back into the inventory for as long as it takes,",
                    f"or remove the directory spool/{self.store_id} on it by hand once none of its jobs runs.",
                ),
                hint="sshq hosts",
            )  # fmt: skip
        if not await self.mailbox.ask(lambda c: name in c.nodes and c.nodes[name].record.drain_reason is not None):
            user = self.user_name(peer.uid)
            await self.mailbox.submit(
                NodeUpdated(now=self.clock(), name=name, state="drain", reason=REASON, uid=peer.uid, user=user)
            )
        host = link.host
        base = base_of(host, self.fleet.local_base)
        found: dict[str, object] = {
            "name": name, "address": host.address, "account": host.account, "inventory": self.fleet.inventory.path,
            "spool": f"{base or '~/.local/state/sshq'}/spool/{self.store_id}",
        }  # fmt: skip
        jobs = await self.mailbox.ask(lambda c: _jobs_on(c, name))
        if jobs and force:
            await self.mailbox.submit(_cancel(jobs, self.clock(), peer.uid))
        if link.state in ("connecting", "probing"):
            return found | {"outcome": "connecting", "note": link.note, "jobs": [job.job_id for job in jobs]}
        if link.state not in ("ready", "removed"):
            return found | {"outcome": "unreachable", "note": link.note, "jobs": [job.job_id for job in jobs]}
        if jobs:
            return found | {"outcome": "busy", "jobs": [job.job_id for job in jobs]}
        if params.get("purge") is not True:
            return found | {"outcome": "drained"}
        # What ended just now is not yet acknowledged there.
        with contextlib.suppress(NodeError):  # of a host that went away we hear below
            await link.flush()
        return found | await self._purge(host, base, force=force)

    async def _purge(self, host: Host, base: str | None, *, force: bool) -> dict[str, object]:
        transport = await self.fleet.let_go(host.name)
        try:
            removal = await remove_spool(host, transport, self.store_id, base, force=force)
        except (NodeError, SurveyError) as error:
            self.fleet.retry(host.name)
            text = error.message if isinstance(error, NodeError) else str(error)
            return {"outcome": "unreachable", "note": text.removeprefix(f"{host.name}: "), "jobs": []}
        if removal.kept:
            self.fleet.retry(host.name)
        log.info("host=%s purge: removed=%s kept=%s", host.name, removal.removed, removal.kept)
        return {
            "outcome": "kept" if removal.kept else "removed", "removed": list(removal.removed), "killed": removal.killed,
            "records": removal.records, "kept": [list(one) for one in removal.kept], "others": list(removal.others),
            "linger": removal.linger, "user": removal.user,
        }  # fmt: skip


async def remove_spool(host: Host, transport: Transport, store_id: str, base: str | None, *, force: bool) -> Removal:
    """Remove one store's spool on a host whose link is let go.  Raises NodeError, SurveyError."""
    nonce = secrets.token_hex(8)
    connection = await transport.connect()
    try:
        text = encode_removal(nonce=nonce, store_id=store_id, force=force, bases=() if base is None else (base,))
        said = await run(connection, "exec /bin/sh", stdin=text, deadline_s=REMOVAL_S, bulk=host.connection == "local")
    finally:
        await connection.close()
    return parse_removal(said.stdout, nonce)


def _jobs_on(cluster: Cluster, name: str) -> list[Job]:
    """Jobs of which something is still there: a launch, an allocation, or output that is not home."""
    ids = {cluster.launches[i].job_id for i in cluster.node_launches.get(name, ())}
    ids |= cluster.nodes[name].jobs if name in cluster.nodes else set()
    ids |= {job_id for job_id in cluster.index.outputs_pending if name in cluster.jobs[job_id].nodes}
    return [cluster.jobs[i] for i in sorted(ids) if i in cluster.jobs]


def _cancel(jobs: list[Job], now: float, uid: int) -> JobsControlled:
    targets = tuple(
        Selected(job_id=job.job_id) if job.array_job_id is None or job.array_task_id is None
        else Selected(job_id=job.array_job_id, tasks=(job.array_task_id,))
        for job in jobs
    )  # fmt: skip
    return JobsControlled(now=now, verb="cancel", uid=uid, admin=True, targets=targets)
