"""`history`: what sacct reads, from the store."""

import asyncio
import contextlib
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from sshq.controller.filters import JobFilter, read_filter, states_of
from sshq.controller.historyrows import history_rows, shown_state, whole_view
from sshq.controller.stepdesk import StepDesk
from sshq.controller.stepping import LOOK_S
from sshq.controller.storethread import StoreThread
from sshq.controller.views import View
from sshq.store.history import HistoryFilter, HistoryJob, HistoryReader, split_portions
from sshq.wire.server import Peer, StreamOut

if TYPE_CHECKING:
    from array import array


class HistoryDesk:
    """Reads finished and running jobs with their attempts."""

    def __init__(self, store: StoreThread, steps: StepDesk) -> None:
        self._store = store
        self._steps = steps
        self._turn = asyncio.Lock()  # to make views of records holds the interpreter: one at a time, the long answers in turns

    async def history(self, _peer: Peer, params: Mapping[str, Any], stream: StreamOut) -> Mapping[str, object]:
        """Stream the jobs a filter means, by number: whole, or a few columns of them."""
        columns: list[str] | None = params.get("columns")
        wanted = read_filter(params)
        refs = wanted.refs or ()
        filters = HistoryFilter(
            job_ids=tuple(r.job_id for r in refs if r.tasks is None),
            array_tasks=tuple((r.job_id, t) for r in refs if r.tasks is not None for t in r.tasks),
            users=wanted.users,
            uids=wanted.uids,
            names=wanted.names,
            partitions=wanted.partitions,
            states=states_of(wanted.states),
            nodes=wanted.nodes,
            start_at=_time(params.get("start_at")),
            end_at=_time(params.get("end_at")),
            all_attempts=columns is None or "attempts" in columns,
            with_steps=columns is None or "steps" in columns,
        )
        if wanted.refs is not None and not refs:
            return {"count": 0}
        count = 0
        for ids in split_portions(await self._store.read(lambda reader: reader.find(filters))):
            read = partial(self._read_portion, ids, filters, wanted, columns)
            async with self._turn:
                found, views, rows = await self._store.read(read)
            count += len(found)
            if params.get("steps") is True and (columns is None or "steps" in columns):
                at = columns.index("steps") if columns is not None else 0
                known = [row[at] for row in rows] if columns is not None else [view["steps"] for view in views]
                await self._add_running(found, known)
            if columns is None:
                await stream.items(views)
            else:
                await stream.rows(rows)
        return {"count": count}

    @staticmethod
    def _read_portion(
        ids: "array[int]", filters: HistoryFilter, wanted: JobFilter, columns: list[str] | None, reader: HistoryReader
    ) -> tuple[list[HistoryJob], list[View], list[list[object]]]:
        found = reader.read(ids, filters)
        if filters.states:  # of those that are not over, some are shown in another state than the store's
            found = [one for one in found if shown_state(one.job) in wanted.states]
        return (found, list(map(whole_view, found)), []) if columns is None else (found, [], history_rows(found, columns))

    async def _add_running(self, found: list[HistoryJob], known: list[object]) -> None:
        """Add to the steps known of each job those of one that runs: they are not in the store, but its host's to tell."""
        running = frozenset(one.job.job_id for one in found if shown_state(one.job) in ("RUNNING", "SUSPENDED"))
        told: Mapping[int, list[View]] = {}
        with contextlib.suppress(TimeoutError):  # while the store waits for room, nothing can be asked; the past is there
            async with asyncio.timeout(LOOK_S):
                told = await self._steps.steps_of(running) if running else {}
        for one, steps in zip(found, known, strict=True):
            if isinstance(steps, list):
                steps.extend(told.get(one.job.job_id, ()))


def _time(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
