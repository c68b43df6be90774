"""All host links, and the inventory they follow.

The inventory is looked at every second: added hosts join, changed ones reconnect, removed ones end their jobs first.
A bad edit leaves the old inventory in force and is shown until it is mended.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from sshq.controller.gpuwatch import GpuWatch
from sshq.controller.hosts import HostLink, target_of
from sshq.controller.joining import Surroundings
from sshq.controller.placing import OTHER_SPOOL, is_elsewhere, recall_place
from sshq.controller.resting import Resting
from sshq.controller.session import Session
from sshq.core.cluster import Cluster
from sshq.core.effects import Effect
from sshq.core.events import InventoryLoaded, NodeLost
from sshq.core.model import NodeConfig, PartitionConfig
from sshq.errors import InventoryError
from sshq.inventory.diff import diff_inventories
from sshq.inventory.load import load_found, stat_signature
from sshq.inventory.model import Host, Inventory
from sshq.transport.base import Transport

log = logging.getLogger("sshq.fleet")


class Fleet:
    """Owns the links; the only place that starts and stops them."""

    def __init__(
        self,
        *,
        path: str | None,
        inventory: Inventory,
        around: Surroundings,
        clock: Callable[[], float],
        crash: Callable[[str], None],
    ) -> None:
        self.path = path
        self.inventory = inventory
        self.inventory_error: str | None = None
        self.loaded_at = clock()
        self.links: dict[str, HostLink] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._leaving: set[str] = set()
        self._moving: set[str] = set()  # hosts whose change waits for their last job
        self._around = around
        self._clock = clock
        self._crash = crash
        self._signature = stat_signature(inventory.watched)
        resting = Resting(
            interval_s=around.config.reconcile_interval_s, hosts=lambda: len(self.links), is_busy=self._has_work,
            now=lambda: asyncio.get_running_loop().time(),
        )  # fmt: skip
        around.worth_listing, around.note_listed = resting.worth_listing, resting.note_listed

    def _has_work(self, name: str) -> bool:
        """Asked for each host all the time, so not by way of the queue of events: nothing is sent before it is applied."""
        return _is_busy(name, self._around.mailbox.cluster)

    async def start(self) -> None:
        then = await self._recall_places()
        self._moving.update(name for name in then if name in self.inventory.hosts)
        await self._around.mailbox.submit(self._event())
        for host in self.inventory.hosts.values():
            self._start_link(then.get(host.name, host))
        for name in sorted(set(then) - set(self.inventory.hosts)):
            log.info("host=%s is not in the inventory any more; its jobs end first", name)
            self._start_link(then[name])
            self._leaving.add(name)

    async def _recall_places(self) -> dict[str, Host]:
        """Hosts with jobs that the inventory has not, or elsewhere: it was edited while no controller was up."""
        busy: dict[str, str] = await self._around.mailbox.ask(
            lambda c: {n.name: n.record.place for n in c.nodes.values() if _is_busy(n.name, c)}
        )
        found = {}
        for name, place in sorted(busy.items()):
            now = self.inventory.hosts.get(name)
            then = recall_place(place, name, now)
            if then is not None and (now is None or is_elsewhere(then, now)):
                found[name] = then
                if now is not None:
                    log.info("host=%s its jobs end before the change takes effect", name)
        return found

    def _start_link(self, host: Host) -> None:
        link = HostLink(host, self._around)
        self.links[host.name] = link
        self._leaving.discard(host.name)
        self._tasks[host.name] = asyncio.create_task(link.run(), name=f"host {host.name}")

    async def _stop_link(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        self.links.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self._around.mailbox.submit(NodeLost(now=self._clock(), name=name, note="connecting"))

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()

    def carry_out(self, effect: Effect) -> None:
        """Hand an order to the link of its node; without one it is dropped: the next listing decides."""
        link = self.links.get(getattr(effect, "node", ""))
        if link is not None:
            link.carry_out(effect)

    def retry(self, name: str) -> bool:
        link = self.links.get(name)
        if link is not None:
            link.retry.set()
            if name not in self._tasks:  # it was let go
                self._start_link(link.host)
        return link is not None

    def find_stranger(self, name: str) -> str | None:
        """Return the spool of the machine that answers in the place of this host, and is not it."""
        link = self.links.get(name)
        return link.stranger if link is not None else None

    def find_gpus(self, name: str) -> tuple[GpuWatch, Session] | None:
        """Return the looks at a host's GPUs, and over what to ask it; None while it is not connected."""
        link = self.links.get(name)
        return None if link is None or link.session is None else (link.gpus, link.session)

    @property
    def local_base(self) -> str | None:
        return self._around.local_base

    async def let_go(self, name: str) -> Transport:
        """End the link of a host that is to be cleared, until it is edited or retried; return the way there."""
        host = self.links[name].host
        await self._stop_link(name)
        link = self.links[name] = HostLink(host, self._around)
        link.state, link.note = "removed", "taken off; take it out of the inventory, or: sshq hosts retry " + name
        await self._around.mailbox.submit(NodeLost(now=self._clock(), name=name, note=link.note))
        return self._around.transport(target_of(host))

    def counters(self) -> dict[str, object]:
        return {name: {"state": link.state, "note": link.note, **link.figures.tell()} for name, link in self.links.items()}

    async def doctor(self, names: list[str] | None) -> list[Mapping[str, Any]]:
        """Examine hosts over connections of their own, bounded."""
        from sshq.controller.doctor import examine_hosts

        chosen = [h for h in self.inventory.hosts.values() if names is None or h.name in names]
        return await examine_hosts(
            chosen, self._around.transport, store_id=self._around.store_id, local_base=self._around.local_base
        )

    # ---- the inventory ---------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Follow the inventory until cancelled."""
        while True:
            await asyncio.sleep(self._around.config.inventory_poll_s)
            try:
                signature = await asyncio.to_thread(stat_signature, self.inventory.watched)
                if signature != self._signature:
                    await self.reload()
                await self._let_leave()
                for link in [link for link in self.links.values() if link.state == "auth_failed"]:
                    await link.look_at_keys()
            except Exception:
                log.exception("looking at the inventory failed")

    async def reload(self) -> list[str]:
        """Read the inventory again; returns what changed, in words."""
        self._signature = await asyncio.to_thread(stat_signature, self.inventory.watched)
        try:
            new = await asyncio.to_thread(load_found, self.path)
        except InventoryError as error:
            text = "\n".join([error.message, *(f"    {line}" for line in error.detail)])
            if text != self.inventory_error:
                log.warning("inventory refused, the old one stays in force: %s", error.message)
            self.inventory_error = text
            return []
        self.inventory_error = None
        if new.watched != self.inventory.watched:
            self._signature = await asyncio.to_thread(stat_signature, new.watched)
        diff = diff_inventories(self.inventory, new)
        if not diff:
            self.inventory = new
            return []
        lines = diff.lines()
        for line in lines:
            log.info("inventory: %s", line)
        self._crash("fleet.before_swap")
        self.inventory, self.loaded_at = new, self._clock()
        for change in diff.changed:
            busy: bool = await self._around.mailbox.ask(partial(_is_busy, change.name))
            if busy and not set(OTHER_SPOOL).isdisjoint(change.keys):
                # Another account or spool does not know the jobs that run: the old link ends them first.
                self._moving.add(change.name)
                log.info("host=%s its jobs end before the change takes effect", change.name)
        await self._around.mailbox.submit(self._event())
        self._crash("fleet.after_swap")
        for name in diff.added:
            await self._stop_link(name)  # it may still be leaving from an earlier edit
            self._start_link(new.hosts[name])
        for change in diff.changed:
            if change.name in self._moving:
                continue
            if change.needs_reconnect or self.links[change.name].state == "auth_failed":
                await self._stop_link(change.name)
                self._start_link(new.hosts[change.name])
            else:
                self.links[change.name].host = new.hosts[change.name]
        self._leaving.update(diff.removed)
        await self._let_leave()
        for link in self.links.values():
            if link.state in ("twin", "identity"):
                link.retry.set()
        return lines

    def _event(self) -> InventoryLoaded:
        """The inventory in the core's words; a host that is moving takes nothing new."""
        event = inventory_event(self.inventory, self._clock())
        nodes = tuple(replace(n, partitions=()) if n.name in self._moving else n for n in event.nodes)
        return replace(event, nodes=nodes)

    async def _let_leave(self) -> None:
        """A removed host keeps its link until its last job is settled."""
        for name in sorted(self._leaving):
            if not await self._around.mailbox.ask(partial(_is_busy, name)):
                self._leaving.discard(name)
                await self._stop_link(name)
                log.info("host=%s left", name)
        for name in sorted(self._moving):
            if name not in self.inventory.hosts:
                self._moving.discard(name)
            elif not await self._around.mailbox.ask(partial(_is_busy, name)):
                self._moving.discard(name)
                await self._stop_link(name)
                await self._around.mailbox.submit(self._event())
                self._start_link(self.inventory.hosts[name])


def inventory_event(inventory: Inventory, now: float) -> InventoryLoaded:
    """Return the inventory in the core's words."""
    nodes = tuple(
        NodeConfig(
            name=h.name, address=h.address, port=h.port or 22, account=h.account or "", transport=h.connection, slots=h.slots,
            cpus=h.cpus, memory_mib=h.memory_mib, features=h.features, weight=h.weight, nice=h.nice, gpus=h.gpus,
            container=h.container,
            partitions=inventory.partitions_of(h.name),
        )
        for h in inventory.hosts.values()
    )  # fmt: skip
    partitions = tuple(
        PartitionConfig(
            name=p.name, nodes=p.hosts, default=p.default, max_time_s=p.max_time_s, default_time_s=p.default_time_s,
            up=p.state == "UP", hidden=p.hidden, priority_tier=p.priority_tier,
        )
        for p in inventory.partitions.values()
    )  # fmt: skip
    return InventoryLoaded(now=now, nodes=nodes, partitions=partitions)


def _is_busy(name: str, cluster: Cluster) -> bool:
    """Whether anything of a job is still there: a launch, or output that is not home."""
    if cluster.node_launches.get(name) or (name in cluster.nodes and cluster.nodes[name].jobs):
        return True
    return any(cluster.jobs[i].nodes[:1] == (name,) for i in cluster.index.outputs_pending)
