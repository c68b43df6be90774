"""The sole owner of the cluster: events in, one transaction, then effects and answers out.

Everybody posts; only the mailbox applies.  All that has piled up while the last batch was being stored is the next
batch, so many events share one fsync (group commit).  Nothing leaves before it is stored: neither an order to a node
nor the answer to a question, so nobody ever sees a state that a power cut could take back.
"""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from sshq.controller.crash import crash_at_steps, go_on
from sshq.controller.logfile import Lines
from sshq.controller.stats import Stats, clock
from sshq.core.cluster import Cluster
from sshq.core.effects import Effect
from sshq.core.events import Event, Planned, TimePassed
from sshq.core.model import Accounting, Job, Launch, LaunchState, Row
from sshq.core.schedule import schedule
from sshq.errors import SshqError

log = logging.getLogger("sshq.mailbox")
T = TypeVar("T")

BATCH_MAX = 2000  # events a transaction
Question = Callable[[Cluster], object]
Mail = tuple[Event | Question, "asyncio.Future[object] | None", Question | None]  # what, who waits, what is asked after it


class Commit(Protocol):
    """Stores one batch durably; runs in the store's own thread."""

    def __call__(self, rows: list[Row], next_job_id: int) -> Awaitable[None]: ...


class Mailbox:
    """Posts are answered in order, each after the commit of its batch."""

    def __init__(
        self, cluster: Cluster, *, commit: Commit, carry_out: Callable[[list[Effect]], None], clock: Callable[[], float],
        random: Callable[[int], bytes] = os.urandom, crash: Callable[[str], None] = go_on,
        on_fatal: Callable[[BaseException], None],
    ) -> None:  # fmt: skip
        self.cluster = cluster
        self.finished = asyncio.Event()
        self.listeners: list[Callable[[list[Job]], None]] = []
        self.stats = Stats()
        self._commit = commit
        self._carry_out = carry_out
        self._clock = clock
        self._random = random
        self._crash = crash
        self._on_fatal = on_fatal
        self._waiting: deque[Mail] = deque()
        self._wake = asyncio.Event()
        self._closing = False

    def post(self, event: Event) -> None:
        """Take an event nobody waits for."""
        self._waiting.append((event, None, None))
        self._wake.set()

    async def submit(self, event: Event) -> object:
        """Post an event and wait for its result, stored.  Raises what `apply` refused with."""
        return await self._enqueue(event)

    async def submit_and_ask(self, event: Event, question: Callable[[Cluster], T]) -> tuple[object, T]:
        """As `submit` and `ask` one after the other, in one go: returns the event's result and the answer after it."""
        return await self._enqueue(event, question)  # type: ignore[return-value]

    async def ask(self, question: Callable[[Cluster], T]) -> T:
        """Return the answer to a question about the cluster, as it stands after all that was posted before."""
        return await self._enqueue(question)  # type: ignore[return-value]

    def _enqueue(
        self, item: Event | Question, then: Question | None = None
    ) -> "asyncio.Future[object]":
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future, then))
        self._wake.set()
        return future

    @property
    def depth(self) -> int:
        """How many events and questions wait for the next batch."""
        return len(self._waiting)

    def close(self) -> None:
        """Finish what is queued, then end `run`."""
        self._closing = True
        self._wake.set()

    async def run(self) -> None:
        """Serve until closed."""
        try:
            while not (self._closing and not self._waiting):
                await self._pause()
                await self._one_batch()
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError):
                self._on_fatal(error)
            raise
        finally:
            self.finished.set()

    async def _pause(self) -> None:
        """Sleep until there is mail or a timer is due."""
        if self._waiting or self._closing or self.cluster.schedule_wanted:
            return
        due = self.cluster.next_timer()
        if due is None:
            await self._wake.wait()
        else:
            try:
                async with asyncio.timeout(max(0.0, due - self._clock())):
                    await self._wake.wait()
            except TimeoutError:
                self.post(TimePassed(now=self._clock()))
        self._wake.clear()

    async def _one_batch(self) -> None:
        rows: list[Row] = []
        effects: list[Effect] = []
        arrived: list[Job] = []
        answers: list[tuple[asyncio.Future[object], object, BaseException | None]] = []
        items, asked = min(len(self._waiting), BATCH_MAX), 0
        for _ in range(items):
            item, future, then = self._waiting.popleft()
            asked += callable(item)
            result, error = self._take(item, rows, effects, arrived)
            if then is not None and error is None:
                answer, error = self._answer(then)
                result = result, answer
            if future is not None:
                answers.append((future, result, error))
        if self.cluster.schedule_wanted:
            self._schedule(rows, effects)
        if rows:
            self._crash("mailbox.before_commit")
            crash_at_steps(self._crash, rows, "before_commit")
            before = clock()
            await self._commit(rows, self.cluster.next_job_id)
            self.stats.commits.add(clock() - before)
            self._crash("mailbox.after_commit")
            crash_at_steps(self._crash, rows, "after_commit")
        if items:
            self.stats.note_batch(items, items - asked)
        if effects:
            self._carry_out(effects)
        for future, result, error in answers:
            if future.cancelled():
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)
        if rows or arrived:
            _log_lives(rows)
            changed = [*arrived, *(row for row in rows if isinstance(row, Job))]
            for listener in list(self.listeners):
                listener(changed)

    def _take(
        self, item: Event | Question, rows: list[Row], effects: list[Effect], arrived: list[Job]
    ) -> tuple[object, BaseException | None]:
        try:
            if callable(item):
                return self._answer(item)
            changes = self.cluster.apply(item)
        except SshqError as error:
            if error.exit_code != 70:
                return None, error
            raise
        rows.extend(changes.rows)
        effects.extend(changes.effects)
        arrived.extend(changes.arrived)
        return changes.result, None

    def _answer(self, question: Callable[[Cluster], object]) -> tuple[object, BaseException | None]:
        """Who only asks changes nothing: a question that fails is the asker's trouble, not the end of the controller."""
        try:
            return question(self.cluster), None
        except Exception as error:
            return None, error

    def _schedule(self, rows: list[Row], effects: list[Effect]) -> None:
        now = self._clock()
        self.cluster.schedule_wanted = False
        before = clock()
        plan = schedule(self.cluster, now)
        self.stats.passes.add(clock() - before)
        self.stats.starts += len(plan.starts)
        if plan.starts:
            changes = self.cluster.apply(Planned(now=now, starts=plan.starts, random=self._random(16)))
            rows.extend(changes.rows)
            effects.extend(changes.effects)
        self.cluster.schedule_wanted = plan.more


def _log_lives(rows: list[Row]) -> None:
    """One line for each start and end of a launch, once it is stored."""
    if not log.isEnabledFor(logging.INFO):
        return
    lines: list[str] = []
    for row in rows:
        if isinstance(row, Launch) and row.state is LaunchState.RUNNING:
            lines.append(f"job={row.job_id} host={row.node} attempt={row.attempt} launch={row.id} started pid={row.pid}")
        elif isinstance(row, Accounting):
            lines.append(
                f"job={row.job_id} host={row.node} attempt={row.attempt} launch={row.launch_id} ended {row.state.name} "
                f"({row.outcome.value}) exit={row.exit_code or 0}:{row.exit_signal or 0}{row.detail and ' '}{row.detail}"
            )
    if lines:
        log.info(Lines(lines))
