"""Work that is begun once for a key, whoever asks for it again meanwhile, and that goes on though who asked has left.

A submission that was cut off is in the mailbox already: its repetition, with the same token, must find it there, and not
only once it is stored.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")
REMEMBERED = 10_000  # keys


class Once(Generic[K, T]):
    """What is under way, by key."""

    def __init__(self) -> None:
        self._running: dict[K, asyncio.Task[T]] = {}
        self._begun = OrderedDict[K, None]()  # lately, oldest first

    def was_begun(self, key: K) -> bool:
        """Whether work of this key was begun lately, whatever came of it."""
        return key in self._begun

    async def run(self, key: K, work: Callable[[], Awaitable[T]]) -> T:
        """Return what the work of this key comes to; it is begun unless it runs already."""
        task = self._running.get(key)
        if task is None:
            task = asyncio.ensure_future(_await(work()))
            self._running[key] = task
            self._begun[key] = None
            if len(self._begun) > REMEMBERED:
                self._begun.popitem(last=False)
            task.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(task)

    async def settle(self, key: K) -> None:
        """Wait until the work of this key, if any is under way, has come to its end."""
        task = self._running.get(key)
        if task is not None:
            await asyncio.wait([task])

    def _forget(self, key: K, done: "asyncio.Task[T]") -> None:
        del self._running[key]
        if not done.cancelled():
            done.exception()  # told to whoever still waits; else to nobody


async def _await(work: Awaitable[T]) -> T:
    return await work
