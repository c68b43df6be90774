"""Virtual time: an event loop that never waits, in which whole processes can be killed between any two steps.

Time jumps to the next timer, so a simulated day costs what its events cost.  Whatever runs on behalf of a simulated
process is marked by a context variable, which asyncio hands on to every task, callback and executor call made from there.
Executor calls (the store's thread, `asyncio.to_thread`) run in this thread, some simulated milliseconds later, in order.
"""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

PROCESS: contextvars.ContextVar["Process | None"] = contextvars.ContextVar("PROCESS", default=None)


class Killed(BaseException):
    """Thrown where a crash point is reached: what stands above it on the stack has no effect any more."""


class Stalled(Exception):
    """Nothing is scheduled any more and somebody still waits."""


class Process:
    """One simulated operating system process of the head node: its tasks, and whether it still lives."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.tasks: list[asyncio.Task[Any]] = []
        self.on_death: list[Callable[[], None]] = []
        self.steps = 0  # executor calls begun

    def kill(self) -> None:
        """SIGKILL: from here on nothing it does reaches the outside; then its coroutines are unwound."""
        if not self.alive:
            return
        self.alive = False
        for call in self.on_death:
            call()
        for task in self.tasks:
            task.cancel()

    def spawn(self, loop: "VirtualLoop", work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Run `work` inside the process."""
        context = contextvars.copy_context()
        context.run(PROCESS.set, self)
        return loop.create_task(work, context=context)


class VirtualLoop(asyncio.BaseEventLoop):
    """asyncio's own loop without selector and without waiting."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._now = 0.0
        self._selector = self
        self._clock_resolution = 1e-9
        self._random = random
        self._busy: dict[int, float] = {}
        self.disk_s = 0.0  # what each executor call takes more: a slow disk
        self.set_task_factory(_make_task)

    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> list[object]:
        if timeout is None:
            raise Stalled
        if timeout > 0 and self._scheduled:
            self._now = max(self._now, self._scheduled[0]._when)
        return []

    def _process_events(self, event_list: list[object]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: object) -> None:
        pass

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":
        process = PROCESS.get()
        future = self.create_future()
        begin = self._now + self._random.uniform(0.0001, 0.002) + self.disk_s
        if executor is not None:
            begin = max(begin, self._busy.get(id(executor), 0.0))
            self._busy[id(executor)] = begin + 0.0005

        def resolve(result: Any, error: BaseException | None) -> None:
            if future.done() or (process is not None and not process.alive):
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        def work() -> None:
            if process is not None and not process.alive:
                return
            result, error = None, None
            try:
                result = func(*args)
            except Killed:
                return
            except BaseException as raised:
                error = raised
            self.call_at(self._now + self._random.uniform(0.0001, 0.002), resolve, result, error)

        self.call_at(begin, work)
        return future


def _make_task(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **more: Any) -> "asyncio.Task[Any]":
    process = more["context"].get(PROCESS) if more.get("context") is not None else PROCESS.get()
    task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **more)
    if process is not None:
        tasks = process.tasks
        tasks.append(task)
        if len(tasks) > 256 and len(tasks) % 256 == 0:
            process.tasks = [t for t in tasks if not t.done()]
        if not process.alive:
            task.cancel()
    return task
