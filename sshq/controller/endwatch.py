"""Whoever waits for jobs looks at those that changed, not at all he waits for: a large array ends many times."""

import asyncio
from collections.abc import Iterable

from sshq.controller.views import View
from sshq.core.cluster import Cluster
from sshq.core.lifecycle import FINAL
from sshq.core.model import Job

CHUNK = 500


class EndWatch:
    """A listener of the mailbox, for one waiter; an array is all of its tasks.

    Mailbox and waiter share one thread: a look is part of a batch, and what that batch changed is heard after it, stored.  So
    what is told are the records that were heard, and nobody has to ask for them once more.
    """

    def __init__(self, ids: Iterable[int]) -> None:
        self.unknown: list[int] = []
        self.wake = asyncio.Event()
        self._ids = dict.fromkeys(ids)
        self._open: set[int] = set()
        self._ended: dict[int, Job] = {}  # to be told, in this order
        self._told: set[int] = set()

    def __call__(self, jobs: list[Job]) -> None:
        for job in jobs:
            if job.job_id in self._ids or job.array_job_id in self._ids:
                self._note(job)
        if self._ended or not self._open:
            self.wake.set()

    def _note(self, job: Job) -> None:
        if job.state not in FINAL or job.output_pending:
            self._open.add(job.job_id)
            self._ended.pop(job.job_id, None)  # requeued before anybody was told
            return
        self._open.discard(job.job_id)
        if job.job_id not in self._told:
            self._ended[job.job_id] = job

    def look_at_all(self, cluster: Cluster) -> None:
        """Begin, or make sure of the end: nothing depends on what was heard in between."""
        self.unknown = []
        self._open.clear()
        for job_id in self._ids:
            members = [i for i in cluster.array_members.get(job_id, ()) if i in cluster.jobs] or [job_id]
            known = [cluster.jobs[i] for i in members if i in cluster.jobs]
            if not known and job_id not in self._told:
                self.unknown.append(job_id)
            for job in known:
                self._note(job)

    def take_ended(self) -> list[View]:
        """Return of some that have ended and were not told yet what those who wait look at."""
        taken = [self._ended.pop(job_id) for job_id in list(self._ended)[:CHUNK]]
        self._told.update([job.job_id for job in taken])
        return [_ended_view(job) for job in taken]

    @property
    def is_over(self) -> bool:
        return not self._open and not self._ended

    @property
    def has_more(self) -> bool:
        return bool(self._ended)


def _ended_view(job: Job) -> View:
    """Return the part of a job's view that says how it ended; all of it costs six times as much to make and to send."""
    return {
        "job_id": job.job_id,
        "array_job_id": job.array_job_id,
        "array_task_id": job.array_task_id,
        "state": job.state.name,
        "reason": job.reason,
        "exit_code": job.exit_code,
        "exit_signal": job.exit_signal,
        "start_at": job.start_at,
        "end_at": job.end_at,
        "nodes": list(job.nodes),
        "restarts": job.restarts,
    }
