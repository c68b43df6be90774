"""The store's own thread: SQLite objects are made, used and closed there and nowhere else.

A store that may no longer keep what it is told ends the controller from here, whoever asked: a chore or a listing must not
turn a failed sync into a line of the log.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sshq.core.model import Row
from sshq.store.database import DiskFullError, FatalStoreError
from sshq.store.history import HistoryReader
from sshq.store.jobs import Store

log = logging.getLogger("sshq.store")
T = TypeVar("T")
ROOM_LOOK_S = 1.0
READERS = 4  # questions to the history that are looked into at once; a short one seldom waits for four long ones


class StoreThread:
    """Runs functions of the store, one after the other."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        # What is read for long is read beside it: a commit does not wait for who asks for a year.
        self._reading = ThreadPoolExecutor(max_workers=READERS, thread_name_prefix="history")
        self._store: Store | None = None
        self._history: HistoryReader | None = None
        self.full: DiskFullError | None = None  # while a batch waits for room
        self.on_full: Callable[[], None] = lambda: None
        self._given_up = asyncio.Event()
        self.on_fatal: Callable[[BaseException], None] = lambda _error: None  # until the controller serves, raising is enough

    async def open(self, opener: Callable[[], Store]) -> Store:
        """Make the store in its thread."""
        self._store = await asyncio.get_running_loop().run_in_executor(self._pool, opener)
        self._history = HistoryReader(self._store.path)
        return self._store

    async def run(self, work: Callable[[Store], T]) -> T:
        """Return `work(store)`, run in the store's thread."""
        store = self._store
        if store is None:
            raise RuntimeError("the store is not open")
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: self.guard(lambda: work(store)))

    async def read(self, work: Callable[[HistoryReader], T]) -> T:
        """Return `work(reader)` of what is stored now, run in another thread than the store's."""
        reader = self._history
        if reader is None:
            raise RuntimeError("the store is not open")
        return await asyncio.get_running_loop().run_in_executor(self._reading, lambda: self.guard(lambda: work(reader)))

    def guard(self, work: Callable[[], T]) -> T:
        """Return `work()`, in this thread; a fatal error of it is told to `on_fatal` before anybody can go on."""
        try:
            return work()
        except DiskFullError:  # rolled back, and as it was: only who cannot do without the write has to end
            raise
        except FatalStoreError as error:
            self.on_fatal(error)
            raise

    async def commit(self, rows: list[Row], next_job_id: int) -> None:
        """Store one batch; durable on return.

        Where the disk is full even without the reserve, the batch waits for room: nobody has heard of it yet, no host
        obeys it yet, and jobs run on.  Raises DiskFullError only after `give_up`.
        """
        while True:
            try:
                await self.run(lambda s: s.commit(rows, next_job_id))
            except DiskFullError as error:
                if self._given_up.is_set():
                    raise
                if self.full is None:
                    log.critical("%s; everything waits until there is room (%s)", error.message, error.hint)
                    self.full = error
                    self.on_full()
                self.full = error
            else:
                if self.full is not None:
                    log.warning("there is room for the store again")
                self.full = None
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ROOM_LOOK_S):
                    await self._given_up.wait()

    def give_up(self) -> None:
        """Wait for room no longer: what is not stored is left to the next start."""
        self._given_up.set()

    async def confirm_epoch(self) -> None:
        """Return if the store is still this controller's; another one that took it over ends this one."""
        await self.run(lambda s: s.confirm_epoch())

    async def find_settled(self, launch_ids: list[str]) -> frozenset[str]:
        """Return which of these launches were stored, and closed."""
        found = await self.run(lambda s: s.find_launches(launch_ids))
        return frozenset(launch.id for launch in found if launch.outcome is not None)

    async def close(self) -> None:
        if self._history is not None:
            self._history.stop()
            await asyncio.to_thread(self._reading.shutdown, cancel_futures=True)
        if self._store is not None:
            await self.run(lambda s: s.close())
            self._store = None
        self._pool.shutdown()
