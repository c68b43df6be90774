"""Scripts and environments, from the store and the state directory, with a small cache in front."""

import asyncio
import logging
from collections import Counter, OrderedDict
from pathlib import Path

from sshq.controller.launching import Material
from sshq.controller.storethread import StoreThread
from sshq.controller.submission import decode_environ, digest_of
from sshq.core.effects import StartLaunch
from sshq.core.model import JobSpec
from sshq.core.replacing import replace
from sshq.errors import RefusedError, StoreError
from sshq.store.environ import Environments
from sshq.store.variables import Variables
from sshq.tree.objects import Objects

log = logging.getLogger("sshq.material")
CACHE_BYTES_MAX = 32 * 1024 * 1024
NOTES_MAX = 64


class _Cache:
    """Bytes under a digest, the least recently used go first."""

    def __init__(self) -> None:
        self._items: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    def get(self, key: str) -> bytes | None:
        data = self._items.get(key)
        if data is not None:
            self._items.move_to_end(key)
        return data

    def put(self, key: str, data: bytes) -> None:
        if key in self._items:
            return
        self._items[key] = data
        self._size += len(data)
        while self._size > CACHE_BYTES_MAX:
            _, old = self._items.popitem(last=False)
            self._size -= len(old)

    def drop(self, key: str) -> None:
        self._size -= len(self._items.pop(key, b""))


class Materials:
    """What a launch needs besides its records."""

    def __init__(self, state_dir: Path, store: StoreThread, *, environments_keep_s: int = 0) -> None:
        self._store = store
        self._environments_keep_s = environments_keep_s
        self._environments = Environments(state_dir / "environments")
        self.variables = Variables(state_dir)
        self._notes: OrderedDict[str, str] = OrderedDict()
        self.objects = Objects(str(state_dir / "objects"))
        self.objects.make()
        self._scripts = _Cache()
        self._environs = _Cache()
        self._kept: set[str] = set(self._environments.list())
        self._pins: Counter[str] = Counter()
        self._decoded: tuple[str, dict[str, str]] = ("", {})

    def remember_script(self, digest: str, data: bytes) -> None:
        self._scripts.put(digest, data)

    async def check_tree(self, spec: JobSpec) -> JobSpec:
        """Return the spec with the size of the files that go along; all of them must be here before a job may name them."""
        if spec.tree is None:
            if spec.frozen:
                raise RefusedError("Batch job submission failed: --sync without files", code="bad_request")
            return spec
        try:
            manifest = await asyncio.to_thread(self.objects.check, spec.tree)
        except StoreError as error:
            raise RefusedError(
                "Batch job submission failed: the files that go along are not here", code="bad_request", detail=(error.message,),
                hint="submit it again",
            ) from None  # fmt: skip
        return replace(spec, tree_bytes=manifest.bytes)

    async def keep_environ(self, data: bytes) -> str:
        """Make an environment durable and pin it; returns its digest.  One shell's submissions share one file.

        The pin keeps the file while the submission is on its way to the store: the last job of the same environment
        may end in between.  Whoever keeps it calls `unpin`.
        """
        digest = digest_of(data)
        self._pins[digest] += 1
        if digest not in self._kept:
            try:
                await asyncio.to_thread(self._store.guard, lambda: self._environments.put(data))
            except BaseException:  # no room, or who submits has gone: nobody else takes this pin off
                self.unpin(digest)
                raise
            self._kept.add(digest)
        self._environs.put(digest, data)
        return digest

    def describe_environ(self, digest: str) -> str:
        """Return what is noted of an environment that was just kept; many submissions have the same."""
        note = self._notes.get(digest)
        if note is None:
            data = self._environs.get(digest) or self._environments.get(digest)
            note = self._notes[digest] = self.variables.describe(decode_environ(data))
            if len(self._notes) > NOTES_MAX:
                self._notes.popitem(last=False)
        return note

    def find_environ(self, digest: str) -> dict[str, str] | None:
        """Return an environment, None where it is kept no longer."""
        if digest not in self._kept:
            return None
        try:
            return decode_environ(self._environs.get(digest) or self._environments.get(digest))
        except StoreError:
            return None

    def pin(self, digest: str) -> None:
        """Keep an environment that is pinned already, for somebody else."""
        self._pins[digest] += 1

    def unpin(self, digest: str) -> None:
        self._pins[digest] -= 1
        if self._pins[digest] <= 0:
            del self._pins[digest]

    def drop_environ(self, digest: str) -> None:
        """Forget an environment no job needs; one that is pinned or to be kept for a while stays for the hourly sweep."""
        if self._pins[digest]:
            return
        if self._environments_keep_s:
            self._environments.touch(digest)
            return
        self._forget_environ(digest)

    def _forget_environ(self, digest: str) -> None:
        self._kept.discard(digest)
        self._environs.drop(digest)
        try:
            self._environments.remove(digest)
        except StoreError as error:  # no reason to stop for: the sweep of the next start finds it
            log.warning("%s", error.message)

    def sweep(self, needed: frozenset[str], now: float) -> int:
        """Remove files no live job needs: kept long enough, or left by a crash between file and commit, or by a restore."""
        stale = {one for one in self._kept - needed if not self._pins[one]}
        keep_s = self._environments_keep_s
        old = [one for one in stale if not keep_s or now - self._environments.used_at(one) >= keep_s]
        for digest in old:
            self._forget_environ(digest)
        return len(old)

    def find(self, effect: StartLaunch) -> Material | None:
        """Return the script and environment of a launch if both are in memory, as they mostly are."""
        spec = effect.job.spec
        script = self._scripts.get(spec.script)
        if script is None or spec.environ != self._decoded[0]:
            return None
        return Material(script=script, environ=self._decoded[1])

    async def fetch(self, effect: StartLaunch) -> Material:
        """Return the script and environment of a launch."""
        spec = effect.job.spec
        script = self._scripts.get(spec.script)
        if script is None:
            script = await self._store.run(lambda s: s.script(spec.script))
            if digest_of(script) != spec.script:
                raise StoreError(f"the script of job {effect.job.job_id} is damaged in the store")
            self._scripts.put(spec.script, script)
        environ = self._environs.get(spec.environ)
        if environ is None:
            environ = await asyncio.to_thread(self._environments.get, spec.environ)
            self._environs.put(spec.environ, environ)
        if spec.environ != self._decoded[0]:  # the jobs of one shell come one after the other
            self._decoded = (spec.environ, decode_environ(environ))
        return Material(script=script, environ=self._decoded[1])
