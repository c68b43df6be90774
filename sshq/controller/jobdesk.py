"""Requests about jobs in the live queue: list, wait, why, and the verbs that change them."""

import asyncio
import contextlib
import time
from array import array
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from sshq.controller.endwatch import EndWatch
from sshq.controller.filters import JobFilter, read_filter
from sshq.controller.listing import KEYS_AT_ONCE, Listing, read_asked
from sshq.controller.mailbox import Mailbox
from sshq.controller.rowviews import job_rows
from sshq.controller.stagewatch import STEP_S, StageWatch, find_note
from sshq.controller.storethread import StoreThread
from sshq.controller.submission import clean_name
from sshq.controller.upkeep import purge_jobs
from sshq.controller.views import View, live_job_view, pending_reason
from sshq.core.cluster import Cluster
from sshq.core.control import Answer
from sshq.core.events import JobsControlled, PurgeAsked, Selected
from sshq.core.lifecycle import FINAL, State
from sshq.core.model import Job
from sshq.core.placement import Step, judge, request_of
from sshq.core.pythons import read_need
from sshq.core.settle import NO_OUTPUT_SIGNAL
from sshq.errors import RefusedError
from sshq.wire.server import Peer, StreamOut

CHUNK = 500
SORTING_MAX = 2  # long listings being put in order at once: each takes a hundred bytes a job meanwhile, later eight
SIGTERM = 15


class JobDesk:
    """Answers from the cluster through the mailbox, so that nobody sees what is not stored."""

    def __init__(
        self, *, mailbox: Mailbox, store: StoreThread, clock: Callable[[], float], staging: Mapping[str, str]
    ) -> None:
        self._mailbox = mailbox
        self._store = store
        self._clock = clock
        self._sorting = asyncio.Semaphore(SORTING_MAX)
        self._staging = staging  # of launches whose files are on their way: how far they are

    def _view(self, cluster: Cluster, job: Job) -> View:
        view = live_job_view(cluster, job)
        view["note"] = view.get("note") or find_note(self._staging, job)
        return view

    # ---- reading ---------------------------------------------------------------------------------------------

    async def jobs(self, _peer: Peer, params: Mapping[str, Any], stream: StreamOut) -> Mapping[str, object]:
        """Stream the jobs a filter means, in order of their numbers: whole, or a few columns of them, or squeue's lines."""
        if params.get("listing") is not None:
            return await self._list(params, stream)
        columns: list[str] | None = params.get("columns")
        wanted = read_filter(params)
        finished = params.get("finished") is True or bool(wanted.states)
        ids, unknown = await self._mailbox.ask(lambda c: _select_ids(c, wanted))
        count = 0
        for start in range(0, len(ids), CHUNK):
            part = ids[start : start + CHUNK]

            if columns is None:
                items = await self._mailbox.ask(partial(_views, view=self._view, ids=part, wanted=wanted, finished=finished))
                count += len(items)
                await stream.items(items)
            else:
                rows = await self._mailbox.ask(partial(_rows, ids=part, wanted=wanted, finished=finished, columns=columns))
                count += len(rows)
                await stream.rows(rows)
        refs = [r.job_id for r in wanted.refs or ()]
        lost = set(unknown)
        return {"count": count, "unknown_ids": unknown, "known_ids": [r for r in refs if r not in lost]}

    async def _list(self, params: Mapping[str, Any], stream: StreamOut) -> Mapping[str, object]:
        """Stream the lines of squeue.  Between two parts of a long queue others have their turn, and jobs may change."""
        wanted = read_filter(params)
        finished = params.get("finished") is True or bool(wanted.states)
        listing = Listing(read_asked(params["listing"]), wanted, finished=finished, now=self._clock())
        in_order = array("q")
        async with self._sorting:  # who reads slowly holds nothing here
            ids, _ = await self._mailbox.ask(lambda c: _select_ids(c, wanted))
            for start in range(0, len(ids), KEYS_AT_ONCE):
                await self._mailbox.ask(partial(listing.sort_in, ids=ids[start : start + KEYS_AT_ONCE]))
            for part in listing.order():
                in_order += part
                await asyncio.sleep(0)
        start = 0
        while start < len(in_order):
            text, start = await self._mailbox.ask(partial(listing.render, ids=in_order, start=start))
            if text:
                await stream.text(text)
        return {"count": len(in_order)}

    async def wait(self, _peer: Peer, params: Mapping[str, Any], stream: StreamOut) -> Mapping[str, object]:
        """Stream each job as soon as it is over and its output is home; an array is all of its tasks.

        With `staging` how far the files of those are that have not begun comes in between: `{"job_id": N, "staging": text}`;
        "alone": nothing else, and it ends when no files are waited for any more.
        """
        ids = [i for i in params.get("ids") or () if isinstance(i, int)]
        staging = StageWatch(ids, self._staging) if params.get("staging") else None
        if staging is not None and params.get("staging") == "alone":
            while staging.is_needed:
                await self._tell_staging(staging, stream)
                if staging.is_needed:
                    await asyncio.sleep(STEP_S)
            return {}
        watch = EndWatch(ids)
        self._mailbox.listeners.append(watch)
        try:
            while True:
                await self._mailbox.ask(watch.look_at_all)
                if watch.is_over:
                    return {"unknown_ids": watch.unknown}
                while not watch.is_over:
                    watch.wake.clear()
                    if watch.has_more:
                        await stream.items(watch.take_ended())
                    elif staging is not None and staging.is_needed:
                        await self._tell_staging(staging, stream)
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(watch.wake.wait(), STEP_S)
                    else:
                        await watch.wake.wait()
        finally:
            self._mailbox.listeners.remove(watch)

    async def _tell_staging(self, staging: StageWatch, stream: StreamOut) -> None:
        items = await self._mailbox.ask(staging.look)
        if items:
            await stream.items(items)

    async def why(self, _peer: Peer, params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        """Say for each node why the job does not run there now."""
        job_id, task = read_ref(params)

        def explain(cluster: Cluster) -> Mapping[str, object]:
            job = _find(cluster, job_id, task)
            return _explain(cluster, job, self._view(cluster, job), self._clock())

        return await self._mailbox.ask(explain)

    async def script(self, _peer: Peer, params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        job_id, task = read_ref(params)
        digest = await self._mailbox.ask(lambda c: _find(c, job_id, task).spec.script)
        data = await self._store.run(lambda s: s.script(digest))
        return {"script": data.decode("utf-8", "surrogateescape")}

    # ---- verbs -----------------------------------------------------------------------------------------------

    async def cancel(self, peer: Peer, params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        """Cancel or signal what a filter means; ids that are unknown are answered, as Slurm is silent about them."""
        wanted = read_filter(params)
        signal = params.get("signal")
        if signal is not None and (not isinstance(signal, int) or not 0 < signal < 65):
            raise RefusedError("Invalid signal", code="bad_request")
        if not wanted.refs and not wanted.narrows:  # of a list, nothing given means all; of a cancel it must not
            raise RefusedError("No job identification provided", code="bad_request")
        targets = await self._mailbox.ask(lambda c: _cancel_targets(c, wanted))
        event = JobsControlled(
            now=self._clock(), verb="cancel", uid=peer.uid, admin=_is_admin(peer), targets=targets, signal=signal,
            batch_only=params.get("batch") is True, whole=params.get("full") is True,
        )  # fmt: skip
        return await self._control(event)

    async def hold(self, peer: Peer, params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        return await self._control(self._event("hold", peer, params, user_hold=params.get("user") is True))

    async def release(self, peer: Peer, params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        return await self._control(self._event("release", peer, params))

    async def requeue(self, peer: Peer, params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        return await self._control(self._event("requeue", peer, params, hold=params.get("hold") is True))

    async def suspend(self, peer: Peer, params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        return await self._control(self._event("suspend", peer, params))

    async def resume(self, peer: Peer, params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        return await self._control(self._event("resume", peer, params))

    async def top(self, peer: Peer, params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        return await self._control(self._event("top", peer, params))

    async def update(self, peer: Peer, params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        changes = params.get("changes")
        if not isinstance(changes, dict):
            raise RefusedError("the changes are missing", code="bad_request")
        changes = dict(changes)
        held = changes.pop("hold", changes.pop("held", None))
        if "name" in changes:
            changes["name"] = clean_name(changes["name"])
        if "partition" in changes:
            given = changes.pop("partition")
            changes["partitions"] = given if isinstance(given, list) else str(given).split(",")
        if "reservation" in changes:
            changes["reservations"] = [name for name in str(changes.pop("reservation")).split(",") if name]
        if "requeue" in changes:
            changes["requeue"] = "yes" if changes["requeue"] else "no"
        result: Mapping[str, object] = {"results": []}
        if changes:
            result = await self._control(self._event("update", peer, params, changes=changes))
        if held is not None:
            result = await self._control(self._event("hold" if held else "release", peer, params))
        return result

    async def purge(self, peer: Peer, params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        """Finished jobs leave the live queue; their history stays."""
        if not _is_admin(peer):
            raise RefusedError("Access/permission denied", code="denied")
        older = params.get("older_than_s")
        refs = read_filter({"filter": {"refs": params.get("refs")}}).refs or ()
        event = PurgeAsked(
            now=self._clock(), older_than_s=float(older) if isinstance(older, int | float) else None,
            job_ids=tuple(ref.job_id for ref in refs if ref.tasks is None),
            tasks=frozenset((ref.job_id, task) for ref in refs for task in ref.tasks or ()),
        )  # fmt: skip
        return {"purged": await purge_jobs(self._mailbox, event)}

    def _event(self, verb: str, peer: Peer, params: Mapping[str, Any], **more: Any) -> JobsControlled:
        refs = read_filter({"filter": {"refs": params.get("refs")}}).refs
        if not refs:
            raise RefusedError("Invalid job id specified", code="bad_request")
        return JobsControlled(now=self._clock(), verb=verb, uid=peer.uid, admin=_is_admin(peer), targets=refs, **more)

    async def _control(self, event: JobsControlled) -> Mapping[str, object]:
        answers = await self._mailbox.submit(event)
        if not isinstance(answers, list):
            raise TypeError("control answers with a list")
        return {"results": [_answer_view(a) for a in answers]}


def _is_admin(peer: Peer) -> bool:
    import os

    return peer.uid in (0, os.getuid())


def _answer_view(answer: Answer) -> View:
    return {
        "job_id": answer.job_id,
        "array_task_id": answer.array_task_id,
        "outcome": answer.outcome,
        "message": answer.message,
        "survivors": [],
    }


def read_ref(params: Mapping[str, Any]) -> tuple[int, int | None]:
    """Return the job that a request is about, and the task of an array or None."""
    ref = params.get("ref")
    if not isinstance(ref, list) or not ref or not isinstance(ref[0], int):
        raise RefusedError("Invalid job id specified", code="bad_request")
    task = ref[1] if len(ref) > 1 else None
    if isinstance(task, list):
        task = task[0] if task else None
    return ref[0], task


def _find(cluster: Cluster, job_id: int, task: int | None) -> Job:
    """The live job a reference means; of an array without a task, its record or first task."""
    if task is not None:
        for member in cluster.array_members.get(job_id, ()):
            job = cluster.jobs.get(member)
            if job is not None and (job.array_task_id == task or (job.is_array_record and task in cluster.array_sets[member])):
                return job
        raise RefusedError("Invalid job id specified", code="unknown_job")
    job = cluster.jobs.get(job_id)
    if job is None:
        raise RefusedError("Invalid job id specified", code="unknown_job", hint=f"sacct -j {job_id}")
    return job


def _select_ids(cluster: Cluster, wanted: JobFilter) -> tuple[list[int], list[int]]:
    """Ids a filter can mean, sorted, and the asked ids nobody knows."""
    if not wanted.refs:
        return sorted(cluster.jobs), []
    found: set[int] = set()
    unknown = []
    for ref in wanted.refs:
        members = {i for i in cluster.array_members.get(ref.job_id, ()) if i in cluster.jobs}
        if ref.job_id in cluster.jobs:
            members.add(ref.job_id)
        if not members:
            unknown.append(ref.job_id)
        if ref.tasks is not None:
            tasks = set(ref.tasks)
            members = {i for i in members if cluster.jobs[i].array_task_id in tasks or not tasks.isdisjoint(_waiting(cluster, i))}
        found |= members
    return sorted(found), unknown


def _chosen(cluster: Cluster, ids: list[int], wanted: JobFilter, finished: bool) -> list[Job]:
    found = (cluster.jobs.get(i) for i in ids)
    return [j for j in found if j is not None and wanted.matches(j, finished=finished)]


def _views(
    cluster: Cluster, *, view: Callable[[Cluster, Job], View], ids: list[int], wanted: JobFilter, finished: bool
) -> list[View]:  # fmt: skip
    return [view(cluster, job) for job in _chosen(cluster, ids, wanted, finished)]


def _rows(cluster: Cluster, *, ids: list[int], wanted: JobFilter, finished: bool, columns: list[str]) -> list[list[object]]:
    return job_rows(cluster, _chosen(cluster, ids, wanted, finished), columns)


def _waiting(cluster: Cluster, job_id: int) -> Iterable[int]:
    """The array tasks that a record stands for."""
    return cluster.array_sets[job_id] if cluster.jobs[job_id].is_array_record else ()


def _cancel_targets(cluster: Cluster, wanted: JobFilter) -> tuple[Selected, ...]:
    """With ids alone: those, known or not.  With other filters: the live jobs that match all of them."""
    if wanted.refs and not wanted.narrows:
        return wanted.refs
    refs = wanted.refs
    ids, _ = _select_ids(cluster, wanted)
    jobs = [cluster.jobs[i] for i in ids]
    matching = [j for j in jobs if wanted.matches(j, finished=False)]
    chosen = []
    for job in matching:
        asked = next((r for r in refs or () if r.job_id in (job.job_id, job.array_job_id)), None)
        if asked is not None and asked.tasks is not None and job.is_array_record:
            chosen.append(Selected(job_id=job.job_id, tasks=asked.tasks))
        elif job.array_job_id == job.job_id and not job.is_array_record and job.array_task_id is not None:
            chosen.append(Selected(job_id=job.job_id, tasks=(job.array_task_id,)))
        elif job.is_array_record:
            chosen.append(Selected(job_id=job.job_id, tasks=tuple(cluster.array_sets[job.job_id])))
        else:
            chosen.append(Selected(job_id=job.job_id))
    return tuple(chosen)


def _explain(cluster: Cluster, job: Job, view: View, now: float) -> Mapping[str, object]:
    nodes: list[View] = []
    reason = pending_reason(cluster, job)
    waits = job.state is State.PENDING and job.job_id not in cluster.pending
    if waits:  # no host is the reason, so none is listed
        text = f" ({view['dependency']})" if view.get("dependency") else ""
        refused = f"; {job.note}" if job.note else ""
        summary = f"{reason}: {_SENTENCES.get(reason, 'it may not be considered yet')}{text}{refused}"
    elif job.state is State.PENDING:
        request = request_of(job)
        for node in sorted(cluster.nodes.values(), key=lambda n: n.name):
            rejection = judge(request, node, cluster.directories)
            nodes.append(
                {
                    "name": node.name,
                    "verdict": "would take it now" if rejection is None else _VERDICTS[rejection.step],
                    "detail": _next_end(cluster, node.jobs, now) if rejection is None else rejection.detail,
                }
            )
        judged = [judge(request, node, cluster.directories) for node in cluster.nodes.values()]
        steps = [rejection.step for rejection in judged if rejection is not None]
        sentence = _SENTENCES.get(reason.split(",")[0].split(":")[0], "see the hosts below")
        if reason == "Resources" and max(steps, default=Step.BUSY) is Step.DIRECTORY:
            sentence = "no host that may be used shares its directory; sbatch --anywhere lifts this"
        elif request.python is not None and max(steps, default=Step.BUSY) is Step.PYTHON:
            sentence = f"no host that may be used is known to have a {read_need(request.python)}"
        elif request.num_nodes > 1:
            there = sum(r.step is not Step.NOT_ASKED for r in judged if r) + judged.count(None)
            sentence = f"{request.num_nodes} hosts asked, {there} in its partitions, {judged.count(None)} could take a part now"
        summary = f"{reason}: {sentence}" + (f"; {job.note}" if job.note and job.last_refused_by else "")
    elif job.state in FINAL:
        how = f" {job.exit_code or 0}:{job.exit_signal or 0}" if job.exit_code is not None or job.exit_signal else ""
        if job.exit_signal == NO_OUTPUT_SIGNAL:  # the record has no more; there is no output to look into
            how += f": {view['std_out']} could not be opened on {','.join(job.nodes)}"
            how += " (no such directory, no right to write, no room?)"
        tries = f", attempt {job.attempt}" if job.attempt > 1 else ""
        summary = f"it is over: {job.state.name}{how}{tries}" + (f", {view['note']}" if view["note"] else "")
    else:
        doing = job.state.name if job.cancel_uid is None else "being cancelled"
        summary = f"it is {doing} on {','.join(job.nodes)}" + (f", {view['note']}" if view.get("note") else "")
    return {"job": view, "summary": summary, "nodes": nodes, "expected_start_at": None}


def _next_end(cluster: Cluster, job_ids: set[int], now: float) -> str:
    ends = [
        j.start_at + j.spec.time_limit_s
        for j in (cluster.jobs[i] for i in job_ids if i in cluster.jobs)
        if j.start_at is not None and j.spec.time_limit_s
    ]
    return f"next end: {time.strftime('%H:%M', time.localtime(min(ends)))}" if ends and min(ends) > now else ""


_VERDICTS = {
    Step.NOT_ASKED: "not asked",
    Step.CONSTRAINT: "lacks a feature",
    Step.TOO_SMALL: "too small",
    Step.PYTHON: "other Python",
    Step.DIRECTORY: "other files",
    Step.UNAVAILABLE: "not available",
    Step.OUTSIDE: "in use",
    Step.BUSY: "busy",
}
_SENTENCES = {
    "None": "it has not been looked at yet",
    "Priority": "jobs before it wait for the same hosts",
    "Resources": "the hosts that could take it are busy",
    "Dependency": "it waits for other jobs",
    "DependencyNeverSatisfied": "the jobs it depends on can no longer end as it asks; scancel it",
    "JobHeldUser": "it is held by its user; scontrol release",
    "JobHeldAdmin": "it is held by an administrator",
    "BeginTime": "its --begin time has not come",
    "JobArrayTaskLimit": "as many tasks of its array run as %N allows",
    "PartitionDown": "its partition is down",
    "PartitionTimeLimit": "its time limit is above its partition's",
    "PartitionConfig": "it asks for more than any host of its partition has",
    "BadConstraints": "no host has what --constraint asks",
    "ReqNodeNotAvail": "hosts it could use are drained, down or unreachable",
    "launch failed requeued held": "hosts refused it three times; see the note, then scontrol release",
}
