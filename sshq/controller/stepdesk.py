"""Requests about steps: what runs now, asked of the hosts when somebody wants to know, and signals to a step."""

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from sshq.controller.filters import JobFilter, read_filter
from sshq.controller.fleet import Fleet
from sshq.controller.mailbox import Mailbox
from sshq.controller.stepping import ask_links, signal_step
from sshq.controller.stepviews import batch_step_view, live_step_view
from sshq.controller.views import View, live_job_view
from sshq.core.cluster import Cluster
from sshq.core.lifecycle import State
from sshq.core.model import Job, Launch
from sshq.errors import RefusedError
from sshq.wire.server import Peer, StreamOut

log = logging.getLogger("sshq.service")
CHUNK = 500
RUNNING = (State.RUNNING, State.SUSPENDED)
DONE, UNKNOWN, DENIED = "done", "Invalid job id specified", "Access/permission denied"
OVER = "Job/step already completing or completed"


class StepDesk:
    """Knows no step by itself: running ones are their node's to tell, those that ended are in the store."""

    def __init__(self, *, mailbox: Mailbox, fleet: Fleet, clock: Callable[[], float]) -> None:
        self._mailbox = mailbox
        self._fleet = fleet
        self._clock = clock

    async def steps(self, _peer: Peer, params: Mapping[str, Any], stream: StreamOut) -> Mapping[str, object]:
        """Stream the running steps of the jobs a filter means, each job's batch step first."""
        wanted = read_filter(params)
        running = await self._mailbox.ask(lambda c: _running(c, wanted))
        by_job = await self._ask(running, live=True)
        views: list[View] = []
        for job, launch, view in running:
            head = {"job": view}
            if job.spec.kind != "command":
                views.append(batch_step_view(job, launch) | head)
            views += [step | head for step in by_job.get(job.job_id, ())]
        for start in range(0, len(views), CHUNK):
            await stream.items(views[start : start + CHUNK])
        return {"count": len(views)}

    async def steps_of(self, job_ids: frozenset[int]) -> Mapping[int, list[View]]:
        """Return all steps so far of those of these jobs that run, by job."""
        running = await self._mailbox.ask(lambda c: [r for i in sorted(job_ids) if (r := _find(c, c.jobs.get(i))) is not None])
        return await self._ask([(job, launch, {}) for job, launch in running], live=False)

    async def _ask(self, running: list[tuple[Job, Launch, View]], *, live: bool) -> Mapping[int, list[View]]:
        on_host, known = defaultdict[str, list[str]](list), {}
        for job, launch, _ in running:
            on_host[launch.node].append(launch.id)
            known[launch.id] = (job, launch)
        told = await ask_links(self._fleet.links, on_host, live=live)
        views = defaultdict[int, list[View]](list)
        for launch_id, steps in told.items():
            if launch_id in known:
                job, launch = known[launch_id]
                ordered = sorted(steps, key=lambda step: step.number)
                views[job.job_id] = [live_step_view(step, job, launch, self._clock()) for step in ordered]
        return views

    async def cancel_steps(self, peer: Peer, params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        """End or signal steps by number; one answer each, in order."""
        results: list[View] = []
        for ref in params.get("steps") or ():
            job_id, task, number = ref
            outcome, message = await self._signal(peer, job_id, task, number, params.get("signal"))
            log.info("uid=%d signals step %s.%d: %s", peer.uid, job_id, number, outcome)
            results.append({"job_id": job_id, "array_task_id": task, "step": number, "outcome": outcome, "message": message})
        return {"results": results}

    async def _signal(self, peer: Peer, job_id: int, task: int | None, number: int, signal: int | None) -> tuple[str, str]:
        job, found = await self._mailbox.ask(lambda c: _named(c, job_id, task))
        if job is None:
            return "unknown", UNKNOWN
        if peer.uid not in (0, job.spec.uid):
            return "denied", f"{DENIED} for job {job_id}"
        if found is None:
            return "ended", OVER
        link = self._fleet.links.get(found.node)
        try:
            done = link is not None and await signal_step(link, found.id, number, signal)
        except RefusedError as error:
            return "refused", error.message
        return ("cancelled" if signal is None else "signalled", "") if done else ("ended", OVER)


def _running(cluster: Cluster, wanted: JobFilter) -> list[tuple[Job, Launch, View]]:
    refs = wanted.refs
    found = []
    with_launches = {launch.job_id for launch in cluster.launches.values()}
    for job in (cluster.jobs[job_id] for job_id in sorted(with_launches) if job_id in cluster.jobs):
        if refs is not None and not any(_means(ref.job_id, ref.tasks, job) for ref in refs):
            continue
        pair = _find(cluster, job)
        if pair is not None and wanted.matches(job, finished=False):
            found.append((*pair, live_job_view(cluster, job)))
    return found


def _means(job_id: int, tasks: tuple[int, ...] | None, job: Job) -> bool:
    if tasks is None:
        return job_id in (job.job_id, job.array_job_id)
    return job.array_job_id == job_id and job.array_task_id in tasks


def _named(cluster: Cluster, job_id: int, task: int | None) -> tuple[Job | None, Launch | None]:
    tasks = None if task is None else (task,)
    job = cluster.jobs.get(job_id) if task is None else None
    job = job or next((j for j in _members(cluster, job_id) if task is not None and _means(job_id, tasks, j)), None)
    pair = _find(cluster, job)
    return job, (pair[1] if pair is not None else None)


def _members(cluster: Cluster, array_job_id: int) -> list[Job]:
    return [cluster.jobs[i] for i in sorted(cluster.array_members.get(array_job_id, ())) if i in cluster.jobs]


def _find(cluster: Cluster, job: Job | None) -> tuple[Job, Launch] | None:
    if job is None or job.state not in RUNNING:
        return None
    launch = cluster.launches.get(job.launch_id or "")
    return None if launch is None else (job, launch)
