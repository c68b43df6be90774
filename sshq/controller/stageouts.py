"""Files that come back: what `--stage-out` names of a private directory, brought to the submit directory as the submitter.

Part of bringing a job's output (`outputs`), so before its launch is acknowledged: what is not home is still on the node.
Each file is compared with the checksum that the node made of it, and appears whole or not at all; what has come of one
before a cut, or before the controller's death, lies aside and is gone on with.  A name is taken for a path below the submit
directory or for nothing (`landing`).  What stands in a file's way here keeps that file on the node, for `sshq cp`; what is
no regular file there is named and left out.
"""

import asyncio
import contextlib
import errno
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from sshq.controller.nodefiles import FileChangedError, FileGoneError, MalformedAnswerError, NodeFiles
from sshq.core.digests import Digest, make_digest
from sshq.core.model import Job
from sshq.core.stagenames import show_name, split_name
from sshq.landing import Landing, ObstacleError, Part
from sshq.runner import stageout as so

P = ParamSpec("P")
T = TypeVar("T")
BATCH_FILES = 50
BATCH_BYTES = 8 << 20
CHANGES_MAX = 3  # times a file may be another one than its checksum was made of
MALFORMED_MAX = 3
KEPT_BYTES = 1 << 20  # of less than that the beginning is not worth a file left behind by a crash
NAMED_MAX = 3  # in a note
GONE = "gone before it was read"
_WHAT = {"l": "a symbolic link", "o": "no regular file", "u": "not readable"}


@dataclass(slots=True)
class Staging:
    """What has come of a job's files, over all tries."""

    home: set[bytes] = field(default_factory=set)
    left: dict[bytes, str] = field(default_factory=dict)  # stays on the node, and why
    passed: dict[bytes, str] = field(default_factory=dict)  # is nothing to be copied
    unmatched: tuple[str, ...] = ()
    total: int = 0
    changes: Counter[bytes] = field(default_factory=Counter)
    malformed: int = 0  # answers of the node

    def problem(self, job: Job, node: str) -> str | None:
        """Return why something stays on the node, with what to do; None if nothing does."""
        if not self.left:
            return None
        first = next(iter(self.left))
        text = f"{len(self.left)} of --stage-out stay on {node}: {_name_some(self.left)}"
        return f"{text}; sshq cp {job.job_id}:{show_name(first)} ."

    def note(self, node: str) -> str:
        """Return what the user should know although nothing stays behind; "" for nothing."""
        lines = []
        if self.unmatched:
            lines.append(f"--stage-out: nothing on {node} matched {', '.join(self.unmatched[:NAMED_MAX])}")
        if self.passed:
            lines.append(f"--stage-out: {len(self.passed)} not copied from {node}: {_name_some(self.passed)}")
        return "; ".join(lines)


@dataclass(slots=True)
class _Coming:
    """A file that is asked for: its part here, its checksum as promised and as it is so far, what to read."""

    name: bytes
    size: so.Size
    expected: str
    part: Part
    digest: Digest
    nonce: str = ""

    def take(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self.digest.update(piece)
            self.part.write(piece)


async def bring_staged(job: Job, node_files: NodeFiles, tag: str, staging: Staging, crash: Callable[[str], None]) -> None:
    """Bring what is not home yet; raises what a later try may mend.

    Raises:
        NodeError: the node cannot be asked now.
        OSError: nothing more can be written here.
    """
    landing = await asyncio.to_thread(Landing, job.spec.work_dir, tag, job.spec.umask)
    try:
        async with node_files as files:
            await _Bringer(files, landing, staging, crash).bring(job.spec.stage_out)
    finally:
        landing.close()


class _Bringer:
    """One try."""

    def __init__(self, files: NodeFiles, landing: Landing, staging: Staging, crash: Callable[[str], None]) -> None:
        self._files, self._landing, self._staging, self._crash = files, landing, staging, crash

    async def bring(self, patterns: Sequence[str]) -> None:
        entries = await self._list(patterns)
        names = self._sort_out(entries)
        self._crash("staged.listed")
        for entry in entries:
            if entry.kind == "d" and entry.name not in self._staging.passed:
                await self._try(entry.name, self._landing.make_directory, entry.name)
        sizes = await self._find_sizes(names)
        present = {name: await self._try(name, self._landing.size_of, name) for name in sizes}
        sizes = {name: size for name, size in sizes.items() if name not in self._staging.left}
        needed = sum(size.size for name, size in sizes.items() if present[name] != size.size)
        free = await asyncio.to_thread(self._landing.free_bytes)
        if needed > free:
            raise OSError(errno.ENOSPC, f"no room: {needed} bytes of --stage-out are to come, {free} are free")
        for batch in _batches(sizes):
            await self._bring_batch({name: sizes[name] for name in batch}, present)
        await asyncio.to_thread(self._landing.sync)
        self._crash("staged.synced")

    async def _list(self, patterns: Sequence[str]) -> list[so.Entry]:
        try:
            entries = await self._files.match(patterns)
        except FileGoneError:
            entries = []  # the job has removed its directory, or it never had one
        except MalformedAnswerError as error:
            self._staging.malformed += 1
            if self._staging.malformed >= MALFORMED_MAX:
                raise OSError(errno.EBADMSG, error.message) from None
            raise
        matched = {entry.pattern for entry in entries}
        self._staging.unmatched = tuple(p for number, p in enumerate(patterns) if number not in matched)
        return entries

    def _sort_out(self, entries: Sequence[so.Entry]) -> list[bytes]:
        """Return the names of the files that are to come; notes what is none."""
        staging, names = self._staging, []
        for entry in {entry.name: entry for entry in entries}.values():
            if split_name(entry.name) is None:
                staging.passed[entry.name] = "a name that is not written here"
            elif entry.kind in _WHAT:
                staging.passed[entry.name] = _WHAT[entry.kind]
            elif entry.kind == "f":
                names.append(entry.name)
        staging.total = len(names)
        return [name for name in names if name not in staging.home and name not in staging.left]

    async def _find_sizes(self, names: Sequence[bytes]) -> dict[bytes, so.Size]:
        sizes = dict(zip(names, await self._files.sizes(names), strict=True))
        self._staging.passed |= {name: GONE for name, size in sizes.items() if size is None}
        return {name: size for name, size in sizes.items() if size is not None}

    async def _bring_batch(self, sizes: dict[bytes, so.Size], present: dict[bytes, int | None]) -> None:
        sums = await self._files.sums(list(sizes), sum(size.size for size in sizes.values()))
        coming: list[_Coming] = []
        try:
            for (name, size), expected in zip(sizes.items(), sums, strict=True):
                if expected is None:
                    self._staging.passed[name] = GONE
                elif present[name] == size.size and await self._is_same(name, expected):
                    self._staging.home.add(name)
                else:
                    digest = make_digest(expected)
                    part = await self._try(name, self._landing.begin, name, digest.update, size.size)
                    if part is not None:
                        coming.append(_Coming(name, size, expected, part, digest))
            for one in coming:
                one.nonce = self._files.ask(one.name, one.part.done)
            for one in coming:
                await self._fetch(one)
        except OSError:
            for one in coming:
                one.part.discard()  # there is no room, or no right: what lies aside would only stay
            raise
        finally:
            for one in coming:
                if one.part.done < KEPT_BYTES:
                    one.part.discard()
                one.part.close()

    async def _fetch(self, one: _Coming) -> None:
        part = one.part
        try:
            async for pieces in self._files.read(one.nonce, one.size.size - part.done):
                await asyncio.to_thread(one.take, pieces)
        except FileGoneError:
            part.discard()
            self._staging.passed[one.name] = GONE
            return
        except FileChangedError:
            self._note_change(one)
            raise
        if one.digest.hexdigest() != one.expected:
            self._note_change(one)
            raise FileChangedError(f"{show_name(one.name)} is not what its checksum says")
        self._crash("staged.fetched")
        await self._try(one.name, part.publish, one.size.mode)
        self._crash("staged.published")
        if one.name in self._staging.left:
            part.discard()
        else:
            self._staging.home.add(one.name)

    def _note_change(self, one: _Coming) -> None:
        """A file that is another one each time it is read is somebody's who still writes it: it stays."""
        one.part.discard()
        self._staging.changes[one.name] += 1
        if self._staging.changes[one.name] >= CHANGES_MAX:
            self._staging.left[one.name] = "it changes while it is read"

    async def _try(self, name: bytes, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Do something here about a file; what stands in its way keeps it on the node."""
        try:
            return await asyncio.to_thread(act, *args, **kwargs)
        except ObstacleError as error:
            self._staging.left[name] = str(error)
        return None

    async def _is_same(self, name: bytes, expected: str) -> bool:
        digest = make_digest(expected)
        with contextlib.suppress(OSError, ObstacleError):
            await asyncio.to_thread(self._landing.feed, name, digest.update)
            return digest.hexdigest() == expected
        return False


def _batches(sizes: dict[bytes, so.Size]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    total = 0
    for name, size in sizes.items():
        if batch and (len(batch) == BATCH_FILES or total + size.size > BATCH_BYTES):
            yield batch
            batch, total = [], 0
        batch.append(name)
        total += size.size
    if batch:
        yield batch


def _name_some(reasons: dict[bytes, str]) -> str:
    some = [f"{show_name(name)}: {why}" for name, why in list(reasons.items())[:NAMED_MAX]]
    return ", ".join(some) + (", ..." if len(reasons) > NAMED_MAX else "")
