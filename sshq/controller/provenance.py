"""`provenance`: where a job came from, where it ran, and what of it is still kept to do it again."""

import asyncio
import json
from collections.abc import Collection, Mapping
from typing import Any, Final

from sshq.controller.again import describe_again, left_out, refuse_again
from sshq.controller.jobdesk import read_ref
from sshq.controller.mailbox import Mailbox
from sshq.controller.material import Materials
from sshq.controller.storethread import StoreThread
from sshq.controller.views import View, history_view
from sshq.core.arrays import parse_indices
from sshq.core.cluster import Cluster
from sshq.core.hostfacts import describe_host
from sshq.core.model import Job, JobSpec, Launch
from sshq.core.origin import read_origin
from sshq.errors import RefusedError, StoreError
from sshq.store.history import HistoryFilter
from sshq.store.jobs import Store
from sshq.store.variables import names_of
from sshq.wire.server import Peer, StreamOut

JOBS_MAX: Final = 200  # tasks of an array whose launches are told
LAUNCHES_MAX: Final = 100  # of one job


class ProvenanceDesk:
    """Reads the store; nothing is asked of hosts."""

    def __init__(self, mailbox: Mailbox, store: StoreThread, materials: Materials) -> None:
        self._mailbox = mailbox
        self._store = store
        self._materials = materials

    async def provenance(self, _peer: Peer, params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        """Tell of a job, or of the first tasks of an array; `environ` is the caller's, to be compared.

        With `again` also what would have to be submitted for the same job, with its environment where that is still kept: it goes
        to whom the controller belongs, who could read the file.
        """
        job_id, task = read_ref(params)
        jobs = await self._store.run(lambda s: _find_jobs(s, job_id, task))
        if not jobs:
            raise RefusedError("Invalid job id specified", code="unknown_job", hint="sshq sacct -X")
        spec = jobs[0].spec
        launches, facts = await self._store.run(lambda s: _find_launches(s, jobs[:JOBS_MAX]))
        script_bytes = await self._store.run(lambda s: s.script_size(spec.script))
        return {
            "again": await self._describe_again(spec, task) if params.get("again") is True else None,
            "job": history_view(jobs[0], [], []),
            "jobs": len(jobs),
            "submit_dir": spec.submit_dir,
            "args": list(spec.args),
            "script": {"digest": spec.script, "bytes": script_bytes},
            "origin": read_origin(spec.origin),
            "environ": await self._compare(spec, params.get("environ")),
            "tree": await self._find_tree(spec),
            "launches": launches,
            "facts": facts,
            "facts_now": await self._mailbox.ask(lambda c: _facts_now(c, {str(one["node"]) for one in launches})),
        }

    async def _describe_again(self, spec: JobSpec, task: int | None) -> View:
        """Return what would have to be submitted for the same job: `description`, `environ` if it is kept; or `refused`."""
        why = refuse_again(spec)
        if why is not None:
            return {"refused": why}
        try:
            script = await self._store.run(lambda s: s.script(spec.script))
        except StoreError:
            return {"gone": "script"}
        return {
            "description": describe_again(spec, script, task),
            "environ": self._materials.find_environ(spec.environ),
            "left_out": left_out(spec),
        }

    async def _compare(self, spec: JobSpec, environ: Mapping[str, str] | None) -> View:
        """Return what is known of the environment, beside the caller's where that was given."""
        note = await self._store.run(lambda s: s.variables(spec.environ))
        found: View = {"digest": spec.environ, "names": None if note is None else names_of(note), "difference": None}
        found["kept"] = self._materials.find_environ(spec.environ) is not None
        if note is not None and environ is not None:
            difference = self._materials.variables.compare(note, environ)
            if difference is not None:
                found["difference"] = {
                    "changed": list(difference.changed), "gone": list(difference.gone), "new": list(difference.new),
                }  # fmt: skip
        return found

    async def _find_tree(self, spec: JobSpec) -> View | None:
        if spec.tree is None:
            return None
        missing: str | None = None
        try:
            await asyncio.to_thread(self._materials.objects.check, spec.tree)
        except StoreError as error:
            missing = error.message
        return {"digest": spec.tree, "bytes": spec.tree_bytes, "frozen": spec.frozen, "missing": missing}


def _find_jobs(store: Store, job_id: int, task: int | None) -> list[Job]:
    """Return the job, a task, or the tasks of an array, live or past; for a task that has not started the array's record."""
    if task is not None and (found := [one.job for one in store.history(HistoryFilter(array_tasks=((job_id, task),)))]):
        return found
    jobs = [one.job for one in store.history(HistoryFilter(job_ids=(job_id,)))]
    return jobs if task is None else [job for job in jobs if job.is_array_record and task in parse_indices(job.array_tasks or "")]


def _find_launches(store: Store, jobs: list[Job]) -> tuple[list[View], dict[str, object]]:
    """Return the launches of jobs, oldest first, and what their hosts were, each once."""
    views: list[View] = []
    facts: dict[str, object] = {}
    for job in jobs:
        for launch in reversed(store.launches_of(job.job_id, LAUNCHES_MAX)):
            views.append(_launch_view(job, launch))
            if launch.facts is not None and launch.facts not in facts:
                text = store.facts(launch.facts)
                facts[launch.facts] = None if text is None else json.loads(text)
    return views, facts


def _facts_now(cluster: Cluster, names: Collection[str]) -> dict[str, object]:
    """Return what hosts are now; those that are gone from the inventory are left out."""
    nodes = [cluster.nodes[name] for name in sorted(names) if name in cluster.nodes]
    return {node.name: json.loads(describe_host(node.facts).text) for node in nodes if node.facts is not None}


def _launch_view(job: Job, launch: Launch) -> View:
    boot_id = launch.boot.split(":")[0].split(" ")[0]
    return {
        "job_id": job.job_id, "array_job_id": job.array_job_id, "array_task_id": job.array_task_id,
        "attempt": launch.attempt, "rank": launch.rank, "node": launch.node, "decided_at": launch.decided_at,
        "started_at": launch.started_at, "ended_at": launch.ended_at, "boot": boot_id,
        "outcome": None if launch.outcome is None else launch.outcome.value, "facts": launch.facts,
        "image": launch.image,
    }  # fmt: skip
