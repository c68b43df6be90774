"""`events`: what becomes of jobs, told as it is stored; for clients that wait for many jobs at once.

A client that reads slowly is told less often, never less: of a job whose last change it has not read yet only the newest is
kept, so what waits for a client is bounded by the number of jobs.
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from sshq.controller.filters import JobFilter, read_filter
from sshq.controller.mailbox import Mailbox
from sshq.controller.views import View, live_job_view, pending_reason
from sshq.core.cluster import Cluster
from sshq.core.lifecycle import FINAL, State
from sshq.core.model import Job
from sshq.wire.server import Peer, StreamOut

CHUNK = 500


class EventDesk:
    """Streams changes until the client hangs up."""

    def __init__(self, *, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def events(self, _peer: Peer, params: Mapping[str, Any], stream: StreamOut) -> Mapping[str, object]:
        """Stream `{"event": "job", "over": bool, "job": view}` for each job that changes and matches the filter.

        The first item is `{"event": "listening"}`: of all that is stored after it nothing is missed.  A job that left the
        queue before it could be told is `{"event": "gone", "job_id": N}`: its history has the rest.  It ends when the client
        hangs up, or after `count` changes.  With `brief` a job that waits is told by its number, state and reason alone.
        """
        wanted = read_filter(params)
        count = params.get("count")
        left = count if isinstance(count, int) else None
        brief = params.get("brief") is True
        changed: dict[int, None] = {}
        wake = asyncio.Event()

        def listener(jobs: list[Job]) -> None:
            for job in jobs:
                if wanted.matches(job, finished=True) and _is_meant(job, wanted):
                    changed[job.job_id] = None
                    wake.set()

        self._mailbox.listeners.append(listener)
        try:
            await stream.items([{"event": "listening"}])
            while left is None or left > 0:
                await wake.wait()
                part = list(changed)[: CHUNK if left is None else min(CHUNK, left)]
                for job_id in part:
                    del changed[job_id]
                if not changed:
                    wake.clear()
                await stream.items(await self._mailbox.ask(partial(_tell_all, job_ids=part, brief=brief)))
                left = None if left is None else left - len(part)
            return {}
        finally:
            self._mailbox.listeners.remove(listener)


def _is_meant(job: Job, wanted: JobFilter) -> bool:
    if wanted.refs is None:
        return True
    return any(
        ref.job_id in (job.job_id, job.array_job_id) and (ref.tasks is None or job.array_task_id in ref.tasks)
        for ref in wanted.refs
    )


def _tell_all(cluster: Cluster, job_ids: list[int], *, brief: bool) -> list[View]:
    return [_tell(cluster, job_id, brief=brief) for job_id in job_ids]


def _tell(cluster: Cluster, job_id: int, *, brief: bool) -> View:
    job = cluster.jobs.get(job_id)
    if job is None:
        return {"event": "gone", "job_id": job_id}
    if brief and job.state is State.PENDING:
        view = {
            "job_id": job_id, "array_job_id": job.array_job_id, "array_task_id": job.array_task_id,
            "array_tasks": job.array_tasks, "state": job.state.name, "reason": pending_reason(cluster, job),
        }  # fmt: skip
        return {"event": "job", "over": False, "job": view}
    over = job.state in FINAL and not job.output_pending  # as for `wait`
    return {"event": "job", "over": over, "job": live_job_view(cluster, job)}
