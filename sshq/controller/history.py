"""`history`: what sacct reads, from the store."""

from collections.abc import Mapping
from typing import Any

from sshq.controller.filters import read_filter, states_of
from sshq.controller.storethread import StoreThread
from sshq.controller.views import View, history_view
from sshq.store.history import HistoryFilter
from sshq.store.jobs import Store
from sshq.wire.server import Peer, StreamOut

CHUNK = 500


class HistoryDesk:
    """Reads finished and running jobs with their attempts."""

    def __init__(self, store: StoreThread) -> None:
        self._store = store

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
                    views.append(history_view(found.job, found.accounting))
                    if len(views) >= CHUNK:
                        break
                return views

            views = await self._store.run(next_chunk)
            if not views:
                return {"count": count}
            count += len(views)
            await stream.items(views)


def _time(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
