"""`history`: what sacct reads, from the store."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from sshq.controller.filters import read_filter, states_of
from sshq.controller.stepdesk import StepDesk
from sshq.controller.stepping import LOOK_S
from sshq.controller.stepviews import attempt_view, step_view
from sshq.controller.storethread import StoreThread
from sshq.controller.views import View, history_view
from sshq.store.history import HistoryFilter
from sshq.store.jobs import Store
from sshq.wire.server import Peer, StreamOut

CHUNK = 500


class HistoryDesk:
    """Reads finished and running jobs with their attempts."""

    def __init__(self, store: StoreThread, steps: StepDesk) -> None:
        self._store = store
        self._steps = steps

    async def history(self, _peer: Peer, params: Mapping[str, Any], stream: StreamOut) -> Mapping[str, object]:
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
        )
        if wanted.refs is not None and not refs:
            return {"count": 0}
        iterator = await self._store.run(lambda s: s.history(filters))
        count = 0
        while True:

            def next_chunk(_store: Store) -> list[View]:
                views = []
                for found in iterator:
                    attempts = [attempt_view(row) for row in found.accounting if not row.rank]
                    views.append(history_view(found.job, attempts, [step_view(step) for step in found.steps]))
                    if len(views) >= CHUNK:
                        break
                return views

            views = await self._store.run(next_chunk)
            if not views:
                return {"count": count}
            count += len(views)
            if params.get("steps") is True:
                await self._add_running(views)
            await stream.items(views)


    async def _add_running(self, views: list[View]) -> None:
        """What runs is not in the store: its steps so far are its host's to tell."""
        running = frozenset(int(str(view["job_id"])) for view in views if view["state"] in ("RUNNING", "SUSPENDED"))
        told: Mapping[int, list[View]] = {}
        with contextlib.suppress(TimeoutError):  # while the store waits for room, nothing can be asked; the past is there
            async with asyncio.timeout(LOOK_S):
                told = await self._steps.steps_of(running) if running else {}
        for view in views:
            known = view["steps"]
            if isinstance(known, list):
                known.extend(told.get(int(str(view["job_id"])), ()))


def _time(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
