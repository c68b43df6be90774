"""`--sync` and `--stage-in` from another machine: the tree is cut into chunks here, and the head is sent those that it lacks.

The chunks lie in `~/.cache/sshq/objects` of this machine meanwhile, and some days longer, so that a tree of which little has
changed is neither read nor sent again.  A transfer that was cut goes on: what arrived whole is not sent twice.
"""

import errno
import os
import time
from dataclasses import replace
from functools import partial

from sshq.api import proof
from sshq.errors import OptionError, UnreachableError
from sshq.tree.objects import Objects, explain_room
from sshq.tree.snapshot import Snapshot, take_snapshot
from sshq.wire.away import borrow, give_back

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sshq.slurm.submit import Submission
    from sshq.wire.headssh import Head

    Progress = Callable[[str, int, int], None]

ASKED_AT_ONCE = 1000  # chunks
SENT_AT_ONCE_BYTES = 64 << 20  # after so many the head makes durable what it has
CACHE_BYTES_MAX, CACHE_KEEP_S = 4 << 30, 7 * 86400.0
PATIENCE_S = 60.0


def stage_away(
    submission: "Submission", head: "Head", directory: str, option: str, *, progress: "Progress | None" = None
) -> Snapshot:
    """Make the snapshot that a submission asks for and bring it to the head's store.

    Args:
        submission: as it was read; its paths stand for ours.
        head: where the controller is.
        directory: of the store there.
        option: as the user knows it.
        progress: told how many bytes of how many were read, then how many of what the head lacks were sent.

    Raises:
        OptionError: what cannot be taken along, or there is no room for it.
        UnreachableError: the head was lost, and did not come back in time.

    """
    home = os.environ.get("HOME") or os.path.expanduser("~")
    objects = Objects(os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache"), "sshq/objects"))
    try:
        objects.make()
    except OSError as error:
        raise explain_room(error, objects.directory, 0) from None
    sync = None if submission.sync is None else proof.find_own(submission.sync)
    stage_in = [proof.find_own(path) for path in submission.stage_in]
    work_dir = proof.find_own(str(submission.description["work_dir"]))
    told = partial(progress, "reading files") if progress is not None else None
    snapshot = take_snapshot(objects, work_dir, sync=sync, stage_in=stage_in, progress=told)
    manifest = objects.read_manifest(snapshot.digest)
    new, ends_at = 0, 0.0
    while True:
        try:
            parts = list(_lacking(head, directory, list(dict.fromkeys(manifest.chunks)), option))
            total, sent = sum(size for part in parts for _, size in part), 0
            for part in parts:
                tell = partial(progress, f"sending files to {head.name}") if progress is not None else None
                _send(head, {"op": "chunks", "directory": directory}, _read(objects, part, sent, total, tell), option)
                sent += sum(size for _, size in part)
                new += sum(size for _, size in part)
            with open(os.path.join(objects.directory, "m", snapshot.digest), "rb") as file:
                _send(head, {"op": "manifest", "directory": directory}, iter([file.read()]), option)
            break
        except UnreachableError:
            ends_at = ends_at or time.monotonic() + PATIENCE_S
            if time.monotonic() > ends_at:
                raise
    objects.sweep([snapshot.digest], bytes_max=CACHE_BYTES_MAX, keep_s=CACHE_KEEP_S)
    return replace(snapshot, bytes_new=new)


def _read(
    objects: Objects, part: "list[tuple[str, int]]", sent: int, total: int, tell: "Callable[[int, int], None] | None"
) -> "Iterator[bytes]":
    """Yield chunks; whoever asks for the next has sent the one before."""
    for digest, size in part:
        yield objects.read(digest, size)
        sent += size
        if tell is not None:
            tell(sent, total)


def _lacking(head: "Head", directory: str, chunks: list[tuple[str, int]], option: str) -> "Iterator[list[tuple[str, int]]]":
    """Yield the chunks that the store on the head does not have, some at a time."""
    sizes = dict(chunks)
    part: list[tuple[str, int]] = []
    for start in range(0, len(chunks), ASKED_AT_ONCE):
        session = borrow(head)
        try:
            asked = [list(one) for one in chunks[start : start + ASKED_AT_ONCE]]
            answer = session.ask("lacking", directory=directory, chunks=asked)
        except BaseException:
            session.close()
            raise
        give_back(session)
        _check(answer, head, directory, option)
        for digest in answer["lacking"]:
            part.append((digest, sizes[digest]))
            if sum(size for _, size in part) >= SENT_AT_ONCE_BYTES:
                yield part
                part = []
    if part:
        yield part


def _send(head: "Head", words: dict[str, object], pieces: "Iterator[bytes]", option: str) -> None:
    session = borrow(head)
    try:
        session.send(str(words["op"]), directory=words["directory"])
        try:
            for piece in pieces:
                session.stream.sendall(len(piece).to_bytes(4, "big") + piece)
            session.stream.sendall(bytes(4))
        except OSError:
            pass  # the answer, or that there is none, tells why
        answer = session.answer()
    except BaseException:
        session.close()
        raise
    give_back(session)
    _check(answer, head, str(words["directory"]), option)


def _check(answer: dict[str, object], head: "Head", directory: str, option: str) -> None:
    if "error" not in answer:
        return
    hint = "sshq down && sshq up starts the controller of the installed release" if answer.get("errno") == errno.ENOENT else None
    what = f"{option}: the controller's store of files cannot be used: {head.name}:{directory}: {answer['error']}"
    raise OptionError(what, source=option, hint=hint)
