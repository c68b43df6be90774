"""`sshq rebuild`: a lost store is made anew from the spools on the hosts, where each job directory describes itself.

Only rows are made here: each launch found becomes an open one, its job running or about to start.  What became of it is
decided at the next start by the node's own evidence, as after any restart, and therefore once.  A rebuilt job never runs
again by itself: its environment was only on the head, and where it had not started it is held.
"""

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from sshq.controller.describing import parse_description
from sshq.controller.doctor import base_of
from sshq.controller.hosts import target_of
from sshq.controller.lock import take_lock
from sshq.controller.submission import digest_of, encode_environ
from sshq.core.lifecycle import State
from sshq.core.model import RANK_STEP, Job, JobSpec, Launch, LaunchState, NodeRecord, Row, ScriptBlob
from sshq.errors import NodeError, RefusedError
from sshq.inventory.model import Host, Inventory
from sshq.kinds import disclose
from sshq.runner.survey import (
    ANSWER_MAX,
    FoundLaunch,
    FoundSpool,
    Survey,
    SurveyError,
    encode_survey,
    parse_exports,
    parse_survey,
)
from sshq.store.jobs import Store
from sshq.store.rebuild import add_to_store, build_store, find_store, read_marker
from sshq.transport.base import Target, Transport, run

SURVEY_S: Final = 120.0  # of one host, which may have thousands of launches
SIDE_BY_SIDE: Final = 32
NO_ENVIRONMENT: Final = digest_of(b"")  # names a file that never exists: no environment is that short
NOTE: Final = "rebuilt from its host; its environment was lost with the head, so it is not run again"
NOTE_UNSTARTED: Final = "rebuilt from its host, where it had not started: release it, or submit it again"
FORMAT: Final = "1"  # of the spools this release knows


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFind:
    """One host's answer, or why there is none."""

    host: Host
    survey: Survey | None = None
    error: str = ""


@dataclass(slots=True)
class Rebuilt:
    """What is to be stored, and what is told of it."""

    rows: list[Row] = field(default_factory=list)
    environs: dict[str, bytes] = field(default_factory=dict)
    highest: int = 0  # job number
    epoch: int = 0
    jobs: list[dict[str, object]] = field(default_factory=list)
    hosts: list[dict[str, object]] = field(default_factory=list)


# ---- asking --------------------------------------------------------------------------------------------------------


async def survey_hosts(
    hosts: Iterable[Host], transport: Callable[[Target], Transport], local_base: str | None
) -> list[HostFind]:
    """Look at the spools of all hosts, side by side; nothing there is changed."""
    turns = asyncio.Semaphore(SIDE_BY_SIDE)

    async def look(host: Host) -> HostFind:
        async with turns:
            try:
                return HostFind(host=host, survey=await survey_host(host, transport(target_of(host)), local_base))
            except (NodeError, SurveyError) as error:
                text = error.message if isinstance(error, NodeError) else str(error)
                return HostFind(host=host, error=text.removeprefix(f"{host.name}: "))

    return list(await asyncio.gather(*(look(host) for host in hosts)))


async def survey_host(host: Host, transport: Transport, local_base: str | None) -> Survey:
    """Return what lies on one host.  Raises NodeError, or SurveyError where its answer is not whole."""
    nonce, base = secrets.token_hex(8), base_of(host, local_base)
    connection = await transport.connect()
    try:
        text = encode_survey(nonce=nonce, bases=() if base is None else (base,))
        said = await run(connection, "exec /bin/sh", stdin=text, max_bytes=ANSWER_MAX, deadline_s=SURVEY_S, bulk=True)
    finally:
        await connection.close()
    return parse_survey(said.stdout, nonce)


# ---- choosing ------------------------------------------------------------------------------------------------------


def list_stores(finds: Sequence[HostFind]) -> list[dict[str, object]]:
    """Return every store that has a spool somewhere: the one with launches on most hosts first."""
    stores: dict[str, list[tuple[str, FoundSpool]]] = {}
    for name, _, spool in distinct_spools(finds):
        stores.setdefault(spool.store_id, []).append((name, spool))
    found = [
        {
            "store": store_id,
            "hosts": [name for name, _ in spools],
            "launches": sum(len(s.launches) for _, s in spools),
            "running": sum(e.entry.alive or e.entry.supervisor for _, s in spools for e in s.launches),
            "live": [name for name, s in spools if s.runners],
            "foreign": [f"{name}: {s.path} has format {s.format}" for name, s in spools if s.format != FORMAT],
        }
        for store_id, spools in stores.items()
    ]
    return sorted(found, key=lambda one: (bool(one["live"]), -len(one["hosts"]), -int(str(one["launches"])), str(one["store"])))  # type: ignore[arg-type]


def distinct_spools(finds: Sequence[HostFind]) -> list[tuple[str, Survey, FoundSpool]]:
    """Every spool once: of two names for one machine the first has it."""
    seen: set[tuple[str, str]] = set()
    found = []
    for find in finds:
        for spool in find.survey.spools if find.survey is not None else ():
            key = (spool.store_id, spool.spool_id)
            if key not in seen and find.survey is not None:
                seen.add(key)
                found.append((find.host.name, find.survey, spool))
    return found


def choose_store(stores: Sequence[Mapping[str, object]], wanted: str | None, *, force: bool) -> Mapping[str, object]:
    """Return the store to be taken over.  Raises RefusedError where there is none, or it may still be somebody's."""
    chosen = next((s for s in stores if wanted is None or s["store"] == wanted), None)
    if chosen is None:
        have = ", ".join(str(s["store"]) for s in stores) or "none"
        what = "no host holds a spool of sshq" if wanted is None else f"no host holds a spool of store {wanted}"
        raise RefusedError(what, code="bad_request", detail=(f"stores that have spools there: {have}",), hint="sshq inventory")
    if chosen["foreign"]:
        lines = tuple(str(line) for line in chosen["foreign"])  # type: ignore[attr-defined]
        raise RefusedError(
            f"spools of store {chosen['store']} were written by another release of sshq", code="version",
            detail=(*lines, f"this sshq knows format {FORMAT}"), hint="sshq version; take the sshq that wrote them",
        )  # fmt: skip
    live = chosen["live"]
    if live and not force:
        raise RefusedError(
            f"a controller of store {chosen['store']} may be alive: runners of it are on {', '.join(live)}",  # type: ignore[arg-type]
            code="not_now",
            detail=(
                "Two controllers of one store would take the hosts from each other.  If it is up somewhere: sshq down there.",
                "If its machine is gone, hosts can take hours to notice that: then --force is right.",
            ),
            hint=f"sshq rebuild --store {chosen['store']} --force",
        )
    return chosen


# ---- making rows ---------------------------------------------------------------------------------------------------


def make_rows(
    finds: Sequence[HostFind], store_id: str, default_partition: str, known: frozenset[str] = frozenset(),
    known_jobs: frozenset[int] = frozenset(),
) -> Rebuilt:  # fmt: skip
    """Return what the spools of `store_id` say, but for the launches `known` already; `known_jobs` stay as they are."""
    built = Rebuilt()
    newest: dict[int, tuple[Job, Launch]] = {}
    launches: list[Launch] = []
    scripts: dict[str, bytes] = {}
    for name, survey, spool in distinct_spools(finds):
        if spool.store_id != store_id:
            continue
        counts: Counter[str] = Counter()
        for found in spool.launches:
            built.highest = max(built.highest, found.entry.job_id)
            if found.entry.attempt >= RANK_STEP:
                continue  # a part of a job on several nodes: taken in with its script by the next listing
            built.epoch = max(built.epoch, found.epoch)
            if found.entry.id in known or not found.entry.job_id:
                counts["known" if found.entry.job_id else "nameless"] += 1
                continue
            job, launch, script = _read_launch(
                found, name, survey, spool, default_partition=default_partition, environs=built.environs
            )
            counts[_kind_of(found)] += 1
            launches.append(launch)
            scripts[job.spec.script] = script
            built.highest = max(built.highest, job.array_job_id or 0)
            before = newest.get(job.job_id)
            if before is None or (before[1].attempt, before[1].decided_at) < (launch.attempt, launch.decided_at):
                newest[job.job_id] = (job, launch)
        built.rows.append(_node_record(name, survey, spool))
        built.hosts.append({"name": name, "spool": spool.path, "error": None, **counts})
    told = {str(host["name"]) for host in built.hosts}
    built.hosts += [{"name": f.host.name, "spool": None, "error": f.error or None} for f in finds if f.host.name not in told]
    for job_id, (job, launch) in sorted(newest.items()):
        if job_id not in known_jobs:  # else an older attempt of a job this store has: it is settled beside it
            built.rows.append(job)
            built.rows.append(ScriptBlob(digest=job.spec.script, data=scripts[job.spec.script]))
        built.jobs.append({
            "job_id": job_id, "name": job.spec.name, "user": job.spec.user, "node": launch.node, "state": job.state.name,
        })  # fmt: skip
    built.rows += launches
    return built


def _kind_of(found: FoundLaunch) -> str:
    if found.entry.alive or found.entry.supervisor:
        return "running"
    return "ended" if found.entry.record is not None or found.entry.go == "file" else "unstarted"


def _node_record(name: str, survey: Survey, spool: FoundSpool) -> NodeRecord:
    return NodeRecord(
        name=name, generation=spool.generation, boot=survey.boot, spool_id=spool.spool_id, account_uid=survey.uid
    )


def _read_launch(
    found: FoundLaunch, node: str, survey: Survey, spool: FoundSpool, *, default_partition: str, environs: dict[str, bytes]
) -> tuple[Job, Launch, bytes]:
    entry, record = found.entry, found.entry.record
    began_at = float(survey.clock_at) - survey.uptime_s
    started = record.how != "never" if record is not None else entry.alive or entry.pid > 0
    started_at = None
    if record is not None:
        started_at = float(record.start_at)
    elif entry.started_uptime_s is not None:
        started_at = began_at + entry.started_uptime_s
    about = parse_description(found.about)
    if about is not None and (about.job.job_id, about.job.attempt) == (entry.job_id, entry.attempt):
        job, decided_at = about.job, about.decided_at
    else:
        about = None
        decided_at = started_at or float(survey.clock_at)
        job = _undescribed(found, survey, default_partition, decided_at)
    script, enclosed = disclose(job.spec.kind, found.script)
    environ = parse_environ(found, enclosed)
    if environ:
        environs[digest_of(environ)] = environ
    spec = replace(
        job.spec, script=digest_of(script), environ=digest_of(environ) if environ else NO_ENVIRONMENT, requeue="no",
        retries=0,
    )  # fmt: skip
    state = State.RUNNING if started else State.CONFIGURING
    nodes = (node, *job.nodes[1:])  # its first may have another name now; what it holds on others it goes on holding
    # Held, all of them: only a pending job is held by it, and none of these may run again unasked.
    job = replace(
        job, spec=spec, state=state, held="user", reason="None", launch_id=entry.id, nodes=nodes, released=False,
        other_slots=job.other_slots if len(nodes) == 1 + len(job.other_slots) else (),
        start_at=started_at or decided_at, note=NOTE if entry.go == "file" else NOTE_UNSTARTED,
    )  # fmt: skip
    launch = Launch(
        id=entry.id, job_id=entry.job_id, attempt=entry.attempt, node=node, seq=entry.seq, epoch=found.epoch,
        boot=found.boot or (about.boot if about is not None else survey.boot), spool_id=spool.spool_id,
        slot=job.slots[0] if job.slots else 0, state=LaunchState.RUNNING if started else LaunchState.INTENT,
        decided_at=decided_at, started_at=started_at if started else None, pid=entry.pid or None, private_dir=job.private_dir,
    )  # fmt: skip
    return job, launch, script


def _undescribed(found: FoundLaunch, survey: Survey, partition: str, at: float) -> Job:
    """A job of a release that did not describe it: what its request says, and the account's names for the rest."""
    entry = found.entry
    work_dir = found.assigned("job_work")
    limit = found.assigned("job_limit")
    spec = JobSpec(
        name=f"job{entry.job_id}", uid=survey.uid, user=survey.user, gid=survey.gid, group=survey.group, script="", environ="",
        command="(unknown)", work_dir=work_dir or "/", submit_dir=work_dir or "/", partitions=(partition,),
        std_out=found.assigned("job_out") or None, std_err=found.assigned("job_err") or None,
        time_limit_s=int(limit) if limit.isdigit() else None,
    )  # fmt: skip
    return Job(job_id=entry.job_id, spec=spec, spec_id=entry.job_id, submit_at=at, eligible_at=at, attempt=entry.attempt)


def parse_environ(found: FoundLaunch, enclosed: Mapping[str, str]) -> bytes:
    """Return the environment of a launch that never read it, as submissions are kept; else nothing."""
    exports = {**parse_exports(found.environ), **enclosed} if found.entry.go != "file" else {}
    return encode_environ(exports) if exports else b""


# ---- the verb ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilder:
    """Carries out `sshq rebuild`; without `apply` it only tells what it would do.

    `adding`: put what it finds into the store that is here; `wanted`: the store to take over; `force`: though it may be alive.
    """

    inventory: Inventory
    transport: Callable[[Target], Transport]
    local_base: str | None
    directory: Path
    wanted: str | None = None
    apply: bool = False
    adding: bool = False
    force: bool = False
    on_network: bool = False

    async def run(self) -> dict[str, object]:
        """Return what was found and done.  Raises RefusedError, StoreError, ControllerError: nothing was changed."""
        if self.apply:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = take_lock(self.directory / "lock") if self.directory.is_dir() else contextlib.nullcontext()
        with lock:
            lost = read_marker(self.directory) if self.adding else find_store(self.directory)
            return await self._look_and_make(self.wanted or lost)

    async def _look_and_make(self, wanted: str | None) -> dict[str, object]:
        finds = await survey_hosts(self.inventory.hosts.values(), self.transport, self.local_base)
        stores = list_stores(finds)
        silent = tuple(f"{find.host.name}: {find.error}" for find in finds if find.survey is None)
        if not stores and silent:
            raise RefusedError("no host with a spool could be read", code="not_now", detail=silent[:20], hint="sshq doctor")
        chosen = choose_store(stores, wanted, force=self.force)
        store_id = str(chosen["store"])
        built = self._make_rows(finds, store_id)
        if self.apply:
            self._store(built, store_id)
        return {
            "store": store_id, "stores": stores, "state": str(self.directory), "applied": self.apply, "added": self.adding,
            "hosts": built.hosts, "jobs": built.jobs, "highest": built.highest,
        }  # fmt: skip

    def _make_rows(self, finds: Sequence[HostFind], store_id: str) -> Rebuilt:
        partitions = self.inventory.partitions
        default = next((p.name for p in partitions.values() if p.default), next(iter(partitions), ""))
        if not self.adding:
            return make_rows(finds, store_id, default)
        ids = [found.entry.id for _, _, spool in distinct_spools(finds) for found in spool.launches]
        known, known_jobs = _read_known(self.directory, ids, on_network=self.on_network)
        built = make_rows(finds, store_id, default, known, known_jobs)
        built.rows = [row for row in built.rows if not isinstance(row, NodeRecord)]  # it knows its nodes better
        return built

    def _store(self, built: Rebuilt, store_id: str) -> None:
        number, environs = built.highest + 1, built.environs.values()
        if self.adding:
            add_to_store(self.directory, built.rows, next_job_id=number, environs=environs, on_network=self.on_network)
        else:
            build_store(
                self.directory, store_id, built.rows, next_job_id=number, epoch=built.epoch + 1, environs=environs,
                on_network=self.on_network,
            )  # fmt: skip


def _read_known(directory: Path, ids: Sequence[str], *, on_network: bool) -> tuple[frozenset[str], frozenset[int]]:
    """Of the store that is here: those of `ids` it has ever had, and its live jobs."""
    store = Store.open(directory, create=False, on_network=on_network)
    try:
        return frozenset(launch.id for launch in store.find_launches(ids)), frozenset(job.job_id for job in store.load().jobs)
    finally:
        store.close()
