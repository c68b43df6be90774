"""The store's own thread: SQLite objects are made, used and closed there and nowhere else."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sshq.core.model import Row
from sshq.store.jobs import Store

T = TypeVar("T")


class StoreThread:
    """Runs functions of the store, one after the other."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._store: Store | None = None

    async def open(self, opener: Callable[[], Store]) -> Store:
        """Make the store in its thread."""
        self._store = await asyncio.get_running_loop().run_in_executor(self._pool, opener)
        return self._store

    async def run(self, work: Callable[[Store], T]) -> T:
        """Return `work(store)`, run in the store's thread."""
        store = self._store
        if store is None:
            raise RuntimeError("the store is not open")
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: work(store))

    async def commit(self, rows: list[Row], next_job_id: int) -> None:
        """Store one batch; durable on return."""
        await self.run(lambda s: s.commit(rows, next_job_id))

    async def close(self) -> None:
        if self._store is not None:
            await self.run(lambda s: s.close())
            self._store = None
        self._pool.shutdown()
