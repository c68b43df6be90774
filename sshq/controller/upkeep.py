"""Regular chores: finished jobs leave the live queue, old history is forgotten, backups, files nobody needs."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from sshq.controller.mailbox import Mailbox
from sshq.controller.material import Materials
from sshq.controller.storethread import StoreThread
from sshq.core.events import PurgeAsked
from sshq.core.lifecycle import FINAL
from sshq.errors import SshqError
from sshq.inventory.config import Config
from sshq.store.backups import is_due, name_backup, prune_backups
from sshq.store.jobs import Store
from sshq.store.kept import find_spare_scripts

log = logging.getLogger("sshq.upkeep")
FIRST_S = 1.0  # soon: a controller that is restarted again and again must do its chores too
PERIOD_S = 30.0
SWEEP_S = 3600.0
FORGET_AT_ONCE = 1000
PURGE_AT_ONCE = 2000
DROP_AT_ONCE = 5000


async def purge_jobs(mailbox: Mailbox, event: PurgeAsked) -> int:
    """Have ended jobs leave the queue, in portions, so that others are served in between: a scancel may have ended 100 000."""
    total, gone = 0, PURGE_AT_ONCE
    while gone >= PURGE_AT_ONCE:
        found = await mailbox.submit(replace(event, at_most=PURGE_AT_ONCE))
        gone = found if isinstance(found, int) else 0
        total += gone
    return total


class Upkeep:
    """Runs until cancelled; a failing chore is logged and tried again."""

    def __init__(
        self,
        *,
        mailbox: Mailbox,
        store: StoreThread,
        materials: Materials,
        config: Config,
        clock: Callable[[], float],
        state_dir: Path,
    ) -> None:
        self._mailbox = mailbox
        self._store = store
        self._materials = materials
        self._config = config
        self._clock = clock
        self._state_dir = state_dir

    async def check_store(self) -> None:
        """Read what of a large store the start has not: damage ends the controller, a little later than it would have."""
        check = await self._store.run(lambda s: s.begin_check())
        if check is not None:
            try:
                await asyncio.to_thread(self._store.guard, check)
            except asyncio.CancelledError:
                check.stop()
                raise
            log.info("the whole store was read, and is in order")

    async def run(self) -> None:
        swept_at = tried_at = float("-inf")
        pause = FIRST_S
        while True:
            await asyncio.sleep(pause)
            pause = PERIOD_S
            try:
                now = self._clock()
                keep = self._config.finished_keep_count
                await purge_jobs(self._mailbox, PurgeAsked(now=now, older_than_s=self._config.finished_keep_s, keep=keep))
                if now - swept_at >= SWEEP_S:
                    swept_at = now
                    await self._sweep(now)
                interval = self._config.backup_interval_s
                if interval and not 0 <= now - tried_at < interval and is_due(self._state_dir, now, interval):
                    tried_at = now  # one that fails, on a full disk say, is not tried all the time
                    await self._back_up()
            except SshqError as error:
                log.warning("%s", error.message)
            except Exception:
                log.exception("upkeep failed")

    async def _sweep(self, now: float) -> None:
        bytes_max = self._config.scripts_bytes_max
        spare = await self._store.read(lambda reader: reader.ask(lambda select: find_spare_scripts(select, bytes_max)))
        for start in range(0, len(spare) or 1, DROP_AT_ONCE):
            await self._store.run(partial(Store.drop_spare, now=now, scripts=spare[start : start + DROP_AT_ONCE]))
        keep = self._config.history_keep_s
        if keep is not None:
            forgotten = FORGET_AT_ONCE
            while forgotten >= FORGET_AT_ONCE:  # in portions, so that commits come in between
                forgotten = await self._store.run(lambda s: s.forget_before(now - keep, at_most=FORGET_AT_ONCE))
        needed = await self._mailbox.ask(lambda c: frozenset(c.environments))
        self._materials.sweep(needed, now)
        trees = await self._mailbox.ask(lambda c: {j.spec.tree for j in c.jobs.values() if j.spec.tree and j.state not in FINAL})
        sweep = partial(
            self._materials.objects.sweep, trees, bytes_max=self._config.objects_bytes_max, keep_s=self._config.objects_keep_s
        )
        count, size = await asyncio.to_thread(sweep)
        if count:
            log.info("%d chunks of jobs' files removed, %d bytes", count, size)

    async def _back_up(self) -> None:
        path = name_backup(self._state_dir, self._clock())
        make = await self._store.run(lambda s: s.begin_backup(path))
        await asyncio.to_thread(make)  # commits go on meanwhile: of a long history it takes minutes
        prune_backups(self._state_dir, self._config.backup_keep)
        log.info("backup written to %s", path)
