"""`submit`: from a request to a stored job and its number."""

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sshq.controller.mailbox import Mailbox
from sshq.controller.manydesk import ManyDesk
from sshq.controller.material import Materials
from sshq.controller.once import Once
from sshq.controller.pythons import PythonDesk
from sshq.controller.storethread import StoreThread
from sshq.controller.submission import (
    DirectoryProver,
    Incoming,
    check_directory,
    digest_of,
    encode_environ,
    read_description,
    read_seen_from,
)  # fmt: skip
from sshq.core.admission import resolve
from sshq.core.cluster import Cluster
from sshq.core.events import Submitted
from sshq.core.model import Job, JobSpec
from sshq.core.placement import Step, is_preferred, judge, request_of
from sshq.core.replacing import replace
from sshq.core.schedule import place_now
from sshq.errors import RefusedError
from sshq.inventory.config import Config
from sshq.store.reserve import SIZE
from sshq.wire.server import Peer, StreamOut

log = logging.getLogger("sshq.submit")
SPACE_LOOK_S = 1.0
TOKEN = re.compile(r"[0-9a-f]{8,64}")


class SubmitDesk:
    """Takes submissions in."""

    def __init__(
        self, *, mailbox: Mailbox, store: StoreThread, materials: Materials, prover: DirectoryProver, pythons: PythonDesk,
        config: Config, clock: Callable[[], float], crash: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._mailbox = mailbox
        self._store = store
        self._materials = materials
        self._prover = prover
        self._pythons = pythons
        self._config = config
        self._clock = clock
        self._crash = crash
        self._space_looked_at = float("-inf")
        self._space_short = False
        self._once: Once[tuple[int, str], Mapping[str, object]] = Once()
        many = ManyDesk(
            mailbox=mailbox, store=store, materials=materials, config=config, clock=clock, crash=crash, prove=self._prove,
            check_space=self._check_space, describe_place=_describe_place,
        )  # fmt: skip
        self.submit_many = many.submit_many

    async def submit(self, peer: Peer, params: Mapping[str, Any], _stream: StreamOut) -> Mapping[str, object]:
        """Return the job's number once it is stored, or that a nonce is needed first."""
        incoming = read_description(params, peer, self._config)
        incoming = replace(incoming, spec=await self._materials.check_tree(incoming.spec))
        token = params.get("token")
        if token is not None and (not isinstance(token, str) or not TOKEN.fullmatch(token)):
            raise RefusedError("Batch job submission failed: the submit token is malformed", code="bad_request")
        notes: list[str] = []
        spec = await self._prove(params, incoming.spec)
        if spec is None:
            return {"need_nonce": True}
        warning = await self._pythons.check(spec)
        if warning is not None:
            notes.append(warning)
        if params.get("test_only") is True:
            return await self._mailbox.ask(lambda c: _test(c, spec, self._clock()))

        def work() -> Awaitable[Mapping[str, object]]:
            return self._submit(token, incoming, spec, notes)

        if token is None:
            return await work()
        # Nobody has sent a fresh token before: there is nothing to look for.  Who says so twice is not believed.
        if params.get("fresh") is True and not self._once.was_begun((peer.uid, token)):
            return await self._once.run((peer.uid, token), work)
        return await self._once.run((peer.uid, token), lambda: self._find_or(work, peer.uid, token))

    async def _prove(self, params: Mapping[str, Any], spec: JobSpec) -> JobSpec | None:
        """Return the spec with what is known of its directory; None: the client has to make a nonce first."""
        directory = check_directory(params)
        if directory is None:
            return spec
        path, nonce_name, nonce = directory
        seen_from = read_seen_from(params)
        spec = replace(spec, work_dir=path, provable=True, seen_from=seen_from)
        asked = self._prover.unanswered(spec.directory, spec.partitions)
        if seen_from is None:
            asked = self._prover.take_declared(path, asked)
        if asked and nonce_name is None and params["directory"].get("final") is not True:
            return None
        if nonce_name is not None and nonce is not None:
            await self._prover.ask(path, asked, nonce_name, nonce, key=spec.directory)
        return spec

    async def _find_or(self, work: Callable[[], Awaitable[Mapping[str, object]]], uid: int, token: str) -> Mapping[str, object]:
        known = await self._store.run(lambda s: s.token(token, uid))
        return {"job_id": known, "notes": []} if known is not None else await work()

    async def _submit(self, token: str | None, incoming: Incoming, spec: JobSpec, notes: list[str]) -> Mapping[str, object]:
        await self._check_space()
        environ = await self._materials.keep_environ(encode_environ(incoming.environ))
        self._crash("submit.environ_kept")
        try:
            return await self._store_job(token, incoming, replace(spec, environ=environ), notes)
        finally:
            self._materials.unpin(environ)

    async def _check_space(self) -> None:
        """Look at most once a second: a loop of submissions need not ask the disk each time."""
        now = self._clock()
        if not 0 <= now - self._space_looked_at < SPACE_LOOK_S:
            self._space_looked_at = now
            self._space_short = await self._store.run(lambda s: s.space_short())
        if self._space_short:
            raise RefusedError(
                "Batch job submission failed: no space is left for the state of the controller", code="not_now",
                hint=f"free {2 * SIZE >> 20} MiB where its state is (sshq status); running jobs go on and are settled",
            )  # fmt: skip

    async def _store_job(self, token: str | None, incoming: Incoming, spec: JobSpec, notes: list[str]) -> Mapping[str, object]:
        self._materials.remember_script(digest_of(incoming.script), incoming.script)
        spec = replace(spec, script=digest_of(incoming.script))
        self._crash("submit.before_commit")
        script, held, array = incoming.script, incoming.held, incoming.array
        variables = self._materials.describe_environ(spec.environ)
        job_id, note = await self._mailbox.submit_and_ask(
            Submitted(now=self._clock(), spec=spec, script=script, token=token, held=held, array=array, variables=variables),
            lambda cluster: _describe_place(cluster, spec) if spec.provable else None,
        )
        self._crash("submit.after_commit")
        if note:
            notes.append(note)
        log.info("job=%s submitted uid=%d name=%r", job_id, spec.uid, spec.name)
        return {"job_id": job_id, "array_job_id": job_id if incoming.array is not None else None, "notes": notes}


def _test(cluster: Cluster, spec: JobSpec, now: float) -> Mapping[str, object]:
    """What `--test-only` asks: refused as a submission would be, else where it would go, and when if that is known."""
    spec = resolve(cluster, spec)
    request = request_of(Job(job_id=0, spec=spec, spec_id=0, submit_at=now))
    if cluster.limit_reason(request):
        raise RefusedError("Batch job submission failed: Requested node configuration is not available", code="bad_request",
                           detail=(cluster.limit_reason(request),))  # fmt: skip
    nodes = sorted(cluster.nodes.values(), key=lambda n: (not is_preferred(request, n), n.weight, n.name))
    judged = [(judge(request, n, cluster.directories), n) for n in nodes]
    free = [node.name for node, _ in place_now(cluster, request, now)]
    busy = [n.name for rejection, n in judged if rejection is None or rejection.step is Step.BUSY]
    if not free and not busy:
        raise RefusedError("Batch job submission failed: Requested node configuration is not available", code="bad_request",
                           detail=tuple(f"{n.name}  {r.detail}" for r, n in judged if r is not None)[:8])  # fmt: skip
    return {
        "test_only": True,
        "job_id": cluster.next_job_id,
        "start_at": now if free and not len(cluster.pending) else None,
        "cpus": request.tasks * request.cpus_per_task,
        "node": cluster.fold(free or busy[: request.num_nodes]),
        "partition": spec.partitions[0],
    }


def _describe_place(cluster: Cluster, spec: JobSpec) -> str | None:
    """One line where the job will run in a private directory; None where the directory is shared."""
    if spec.anywhere or spec.seen_from or spec.tree or cluster.directories.is_shared_by_any(spec.work_dir):
        return None
    if not any(n.connected for n in cluster.nodes.values()):
        return None
    return f"no host shares {spec.work_dir}: the job runs in a private directory of its host, its output comes back here"
