"""`submit_many`: many submissions that are taken together or not at all, in as many requests as they need.

What has come so far of a batch belongs to its connection and is gone with it; nothing is stored before its last request, and
then all of it in one transaction.  A batch that is sent again with its token, on whatever connection, makes no job twice.

Whatever takes long is done in slices, between which others are served (`core/together.py` has the steps).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from sshq.controller.mailbox import Mailbox
from sshq.controller.material import Materials
from sshq.controller.once import Once
from sshq.controller.storethread import StoreThread
from sshq.controller.submission import Incoming, clean_name, digest_of, encode_environ, read_description
from sshq.core.cluster import Cluster
from sshq.core.events import Member, StoredTogether, SubmittedTogether
from sshq.core.model import Job, JobSpec, Row, ScriptBlob, SubmitToken, VariableDigests
from sshq.core.replacing import replace
from sshq.core.together import Numbered, RefusedTogetherError
from sshq.errors import RefusedError
from sshq.inventory.config import Config
from sshq.store.database import DiskFullError
from sshq.store.jobs import Store
from sshq.wire.channel import Channel
from sshq.wire.server import Peer, StreamOut

log = logging.getLogger("sshq.submit")
JOBS_MAX: Final = 10_000  # of one batch: the store takes them in one go, and nobody else meanwhile
SLICE: Final = 250  # jobs in one turn of the loop, or of the store: some milliseconds
BYTES_MAX: Final = 64 << 20  # of its scripts and arguments
ALL_BYTES_MAX: Final = 256 << 20  # of all batches that have not come to their end
REFUSALS_TOLD: Final = 100

# Fields that matter neither to admission nor to placement: jobs that differ in these alone are judged once.
OWN: Final[Mapping[str, Callable[[Any], object]]] = {
    "name": lambda value: clean_name(value or "sbatch"),
    "args": lambda value: tuple(value or ()),
    "command": lambda value: value or "(null)",
    "submit_line": lambda value: value or "",
    "std_out": lambda value: value,
    "std_err": lambda value: value,
}
Prove = Callable[[Mapping[str, Any], JobSpec], Awaitable[JobSpec | None]]


@dataclass(slots=True)
class _Upload:
    """What has come of a batch."""

    token: str
    members: list[Member] = field(default_factory=list)
    refusals: dict[int, RefusedError] = field(default_factory=dict)
    environs: list[str] = field(default_factory=list)  # pinned
    count: int = 0  # refused ones too
    size: int = 0


class ManyDesk:
    """Collects batches, and posts each as one event."""

    def __init__(
        self, *, mailbox: Mailbox, store: StoreThread, materials: Materials, config: Config, clock: Callable[[], float],
        crash: Callable[[str], None], prove: Prove, check_space: Callable[[], Awaitable[None]],
        describe_place: Callable[[Cluster, JobSpec], str | None],
    ) -> None:  # fmt: skip
        self._mailbox = mailbox
        self._store = store
        self._materials = materials
        self._config = config
        self._clock = clock
        self._crash = crash
        self._prove = prove
        self._check_space = check_space
        self._describe_place = describe_place
        self._uploads: dict[Channel, _Upload] = {}
        self._once: Once[tuple[int, str], int] = Once()

    async def submit_many(self, peer: Peer, params: Mapping[str, Any], stream: StreamOut) -> Mapping[str, object]:
        """Take in a part of a batch, and with its last part the batch.

        A part has one directory and one environment; `common` is what its descriptions share.  The answer is `{"kept": N}` while
        there is `more` to come; at the end `{"first_job_id": N, "notes": […]}`, whose successors the others are; or
        `{"refused": [{"number", "error", "code", "detail", "hint"}, …], "refused_count": N}`, and none was taken.
        """
        token = str(params.get("token") or "")
        channel = stream.channel
        upload = self._uploads.get(channel)
        at = int(params.get("at") or 0)
        if upload is None or upload.token != token:
            if at:
                raise RefusedError("Batch job submission failed: the beginning of the batch is not here", code="not_now")
            await self._once.settle((peer.uid, token))  # stored is not yet in the queue
            known = await self._store.run(lambda s: s.token(token, peer.uid))
            if known is not None:
                return {"first_job_id": known}
            await self._check_space()
            upload = self._begin(channel, token)
        if at == upload.count and not await self._take_part(peer, params, upload):
            return {"need_nonce": True}
        if params.get("more") is True:
            return {"kept": upload.count}
        try:
            return await self._finish(peer, upload)
        finally:
            self._drop(channel)

    def _begin(self, channel: Channel, token: str) -> _Upload:
        self._drop(channel)
        self._check_crowd(0)
        upload = self._uploads[channel] = _Upload(token)
        channel.at_end.append(lambda: self._drop(channel))
        return upload

    def _check_crowd(self, more: int, upload: _Upload | None = None) -> None:
        """Refuse what would be too much with all others: asked at each part, as many small beginnings grow, too."""
        if more + sum(one.size for one in self._uploads.values() if one is not upload) > ALL_BYTES_MAX:
            raise RefusedError("Batch job submission failed: too much is being submitted at once", code="not_now",
                               hint="try again in a moment")  # fmt: skip

    def _drop(self, channel: Channel) -> None:
        upload = self._uploads.pop(channel, None)
        for digest in upload.environs if upload is not None else ():
            self._materials.unpin(digest)

    async def _take_part(self, peer: Peer, params: Mapping[str, Any], upload: _Upload) -> bool:
        """Read the descriptions of a part; False: its directory has to be proved first."""
        given, common = params.get("descriptions"), params.get("common") or {}
        if not isinstance(given, list) or not given:
            raise RefusedError("Batch job submission failed: there is nothing to submit", code="bad_request")
        reader = _Reader(peer, self._config, common)
        read: list[Member | RefusedError] = []
        for at in range(0, len(given), SLICE):
            read += [reader.read(one) for one in given[at : at + SLICE]]
            await asyncio.sleep(0)
        upload_size = upload.size + sum(len(one.script) + 2048 for one in read if isinstance(one, Member))
        if upload.count + len(given) > JOBS_MAX or upload_size > BYTES_MAX:
            raise RefusedError(
                "Batch job submission failed: too much for one batch", code="too_large",
                detail=(f"a batch has at most {JOBS_MAX} jobs and {BYTES_MAX >> 20} MiB of scripts",),
                hint="submit it in parts; equal jobs are an array: sbatch --array",
            )  # fmt: skip
        self._check_crowd(upload_size, upload)
        first = next((one.shared for one in read if isinstance(one, Member)), None)
        proved = await self._prove(params, replace(first, partitions=())) if first is not None else None
        if first is not None and proved is None:
            return False
        environ = await self._materials.keep_environ(encode_environ(params.get("environ") or {}))
        upload.environs.append(environ)
        finished: dict[int, JobSpec] = {}
        for one in read:
            if isinstance(one, RefusedError):
                upload.refusals[upload.count] = one
            else:
                assert proved is not None  # noqa: S101  else we had returned
                shared = finished.get(id(one.shared))
                if shared is None:
                    shared = finished[id(one.shared)] = replace(
                        await self._materials.check_tree(one.shared), environ=environ, work_dir=proved.work_dir,
                        provable=proved.provable, seen_from=proved.seen_from,
                    )  # fmt: skip
                self._materials.remember_script(str(one.own["script"]), one.script)
                upload.members.append(replace(one, shared=shared))
            upload.count += 1
        upload.size = upload_size
        return True

    async def _finish(self, peer: Peer, upload: _Upload) -> Mapping[str, object]:
        if upload.refusals:
            return _tell_refusals(upload.refusals)
        try:
            first = await self._once.run((peer.uid, upload.token), lambda: self._post(peer, upload))
        except RefusedTogetherError as error:
            return _tell_refusals(error.refusals)
        shared = {id(one.shared): one.shared for one in upload.members}.values()
        notes = await self._mailbox.ask(lambda c: [self._describe_place(c, spec) for spec in shared if spec.provable])
        return {"first_job_id": first, "notes": list(dict.fromkeys(note for note in notes if note))}

    async def _post(self, peer: Peer, upload: _Upload) -> int:
        for digest in upload.environs:  # once more: the client may go now
            self._materials.pin(digest)
        try:
            known = await self._store.run(lambda s: s.token(upload.token, peer.uid))
            if known is not None:
                return known
            members = upload.members
            numbered = await self._mailbox.submit(SubmittedTogether(members=tuple(members)))
            assert isinstance(numbered, Numbered)  # noqa: S101
            first, now = numbered.first_job_id, self._clock()
            digests = dict.fromkeys(upload.environs)
            notes = [VariableDigests(environ=one, text=self._materials.describe_environ(one)) for one in digests]
            token = SubmitToken(token=upload.token, uid=peer.uid, job_id=first, at=now)
            jobs = await self._store_jobs(numbered, members, [*notes, token], now)
            self._crash("submit.after_commit")
            for at in range(0, len(jobs), SLICE):
                await self._mailbox.submit(StoredTogether(now=now, jobs=tuple(jobs[at : at + SLICE])))
            log.info("jobs %d to %d submitted together uid=%d", first, first + len(members) - 1, peer.uid)
            return first
        finally:
            for digest in upload.environs:
                self._materials.unpin(digest)

    async def _store_jobs(self, numbered: Numbered, members: list[Member], others: list[Row], now: float) -> list[Job]:
        """Make the jobs, and store all of them, and `others`, or nothing."""
        key, jobs = numbered.first_job_id, list[Job]()
        try:
            for at in range(0, len(members), SLICE):
                part = members[at : at + SLICE]
                made = numbered.make_jobs(part, at, now)
                scripts = [ScriptBlob(digest=job.spec.script, data=one.script) for job, one in zip(made, part, strict=True)]
                await self._store.run(partial(Store.stage, key=key, rows=[*made, *scripts]))
                jobs += made
            self._crash("submit.before_commit")
            await self._store.run(lambda s: s.commit_staged(key, others, self._mailbox.cluster.next_job_id))
        except DiskFullError:
            raise RefusedError(
                "Batch job submission failed: no space is left for the state of the controller", code="not_now",
                hint="free space on the head node; running jobs go on and are settled",
            ) from None  # fmt: skip
        finally:
            await self._store.run(lambda s: s.drop_staged(key))
        return jobs


class _Reader:
    """Makes members of descriptions; what they have in common is read once."""

    def __init__(self, peer: Peer, config: Config, common: Mapping[str, Any]) -> None:
        self._peer = peer
        self._config = config
        self._common = common
        self._shared: Incoming | None = None

    def read(self, given: Mapping[str, Any]) -> Member | RefusedError:
        try:
            if given.keys() - OWN.keys() - {"script"}:
                incoming = self._read({**self._common, **given})
                return _make_member(incoming, incoming.script, {})
            if self._shared is None:
                self._shared = self._read(self._common)
            script = str(given["script"]).encode("utf-8", "surrogateescape") if "script" in given else self._shared.script
            if len(script) > self._config.script_bytes_max:
                self._read({**self._common, **given})  # refuses it
            own = {key: OWN[key](value) for key, value in given.items() if key != "script"}
            return _make_member(self._shared, script, own)
        except RefusedError as error:
            return error

    def _read(self, description: Mapping[str, Any]) -> Incoming:
        return read_description({"description": dict(description)}, self._peer, self._config)


def _make_member(incoming: Incoming, script: bytes, own: dict[str, object]) -> Member:
    own["script"] = digest_of(script)
    return Member(shared=incoming.spec, own=own, script=script, held=incoming.held, array=incoming.array)


def _tell_refusals(refusals: Mapping[int, RefusedError]) -> Mapping[str, object]:
    told = [
        {"number": number, "error": one.message, "code": one.code, "detail": list(one.detail), "hint": one.hint}
        for number, one in list(refusals.items())[:REFUSALS_TOLD]
    ]
    return {"refused": told, "refused_count": len(refusals)}
