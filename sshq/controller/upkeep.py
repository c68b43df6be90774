"""Regular chores: finished jobs leave the live queue, old history is forgotten, backups, files nobody needs."""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from sshq.controller.mailbox import Mailbox
from sshq.controller.material import Materials
from sshq.controller.storethread import StoreThread
from sshq.core.events import PurgeAsked
from sshq.inventory.config import Config

log = logging.getLogger("sshq.upkeep")
PERIOD_S = 30.0
SWEEP_S = 3600.0
FORGET_AT_ONCE = 1000


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
        self._backups = state_dir / "backups"

    async def run(self) -> None:
        swept_at = backed_up_at = self._clock()
        while True:
            await asyncio.sleep(PERIOD_S)
            try:
                now = self._clock()
                await self._mailbox.submit(
                    PurgeAsked(now=now, older_than_s=self._config.finished_keep_s, keep=self._config.finished_keep_count)
                )
                if now - swept_at >= SWEEP_S:
                    swept_at = now
                    await self._sweep(now)
                interval = self._config.backup_interval_s
                if interval and now - backed_up_at >= interval:
                    backed_up_at = now
                    await self._back_up()
            except Exception:
                log.exception("upkeep failed")

    async def _sweep(self, now: float) -> None:
        await self._store.run(lambda s: s.sweep(now))
        keep = self._config.history_keep_s
        if keep is not None:
            forgotten = FORGET_AT_ONCE
            while forgotten >= FORGET_AT_ONCE:  # in portions, so that commits come in between
                forgotten = await self._store.run(lambda s: s.forget_before(now - keep, at_most=FORGET_AT_ONCE))
        needed = await self._mailbox.ask(lambda c: frozenset(c.environments))
        self._materials.sweep(needed)

    async def _back_up(self) -> None:
        path = self._backups / time.strftime("sshq-%Y%m%dT%H%M%S.db", time.localtime(self._clock()))
        await self._store.run(lambda s: s.backup(path))
        for old in sorted(self._backups.glob("sshq-*.db"))[: -self._config.backup_keep]:
            old.unlink()
        log.info("backup written to %s", path)
