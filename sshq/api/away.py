"""From another machine: which directory on the head stands for one of ours, and how files come from there and go there.

A directory that the head sees, too, is itself there.  Each other one has one of the user's own on the head,
`AWAY/THIS-MACHINE/its/path`, made when something is submitted from it.  Jobs are submitted from that; what they leave there comes
back under the same path here, where somebody waits or asks.
"""

import errno
import os
import stat
import time

from sshq.errors import UnreachableError, UserError
from sshq.wire.away import HeadError, ask_head, borrow, give_back

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from sshq.wire.away import Session
    from sshq.wire.headssh import Head

CHUNK_BYTES = 256 << 10
PATIENCE_S = 60.0  # for a head that is lost in the middle of a file
PART = ".sshq-part"
TRIES_MAX = 4  # of a file that changes while it is read
NAME_MAX = 255
# Variables that name places on this machine: on a node they lead nowhere, or to something else.
LOCAL_NAMES = frozenset((
    "PATH", "VIRTUAL_ENV", "VIRTUAL_ENV_PROMPT", "PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "MANPATH",
    "INFOPATH", "PKG_CONFIG_PATH", "CPATH", "LIBRARY_PATH", "OLDPWD", "PWD", "MODULEPATH", "LOADEDMODULES", "_LMFILES_", "_",
))  # fmt: skip
LOCAL_PREFIXES = ("CONDA_", "DYLD_", "_CE_")

_roots: dict[str, str] = {}
_shared: dict[tuple[str, str], bool] = {}


def find_root(head: "Head", path: str | None = None) -> str:
    """Return the directory on the head that stands for `/` of this machine; is asked with `path`, for `is_shared`."""
    if head.name not in _roots or path is not None:
        answer = ask_head(head, "hello", path=path)
        if path is not None and not answer.get("exists"):
            _shared[head.name, path] = False
        host = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in os.uname().nodename)
        _roots[head.name] = f"{answer['about']['away']}/{host.lstrip('.') or 'unnamed'}"
    return _roots[head.name]


def is_shared(head: "Head", folder: str) -> bool:
    """Return whether the head sees this very directory, on a file server for instance: it is proved to it as to any host."""
    key = head.name, folder
    if key not in _shared:
        find_root(head, folder)
    if key not in _shared:  # there is one of that name
        from sshq.api.proof import hide_nonce, show_nonce

        shown = show_nonce({"path": folder})
        try:
            _shared[key] = shown is not None and ask_head(head, "sees", **shown).get("sees") is True
        finally:
            if shown is not None:
                hide_nonce(shown)
    return _shared[key]


def to_head(head: "Head", folder: str) -> str:
    """Return what stands on the head for a directory of this machine: itself where the head sees it."""
    if is_shared(head, folder):
        return folder
    return find_root(head) + ("" if folder == "/" else folder)


def to_here(head: "Head", path: str) -> str | None:
    """Return the path of this machine that a path on the head stands for; None for all other paths there."""
    root = find_root(head)
    if path != root and not path.startswith(root + "/"):
        return None
    return path[len(root) :] or "/"


def drop_local(environ: "dict[str, str]", export: str | None) -> dict[str, str]:
    """Return the environment of a job without what names places on this machine, but for what --export names."""
    from sshq.slurm.environ import split_export

    named = {word.partition("=")[0] for word in split_export(export or "")}
    return {
        name: value for name, value in environ.items()
        if name in named or (name not in LOCAL_NAMES and not name.startswith(LOCAL_PREFIXES))
    }  # fmt: skip


def describe_directory(head: "Head", work_dir: str, outputs: "Sequence[object]" = ()) -> "dict[str, Any] | None":
    """Return what `submit` is told of a directory on the head; one of ours is made, with those that outputs are to lie in.

    Args:
        head: where it is.
        work_dir: the path there.
        outputs: names of files, from there: their directories are made there if they exist here.

    """
    make = []
    for name in outputs:
        folder = os.path.dirname(os.path.normpath(os.path.join(work_dir, name))) if isinstance(name, str) else work_dir
        here = to_here(head, folder)
        if here is not None and "%" not in folder and os.path.isdir(here):
            make.append(folder)
    answer = ask_head(head, "directory", path=os.path.normpath(work_dir), make=make)
    if "error" in answer:
        raise HeadError(f"{work_dir} on {head.name}: {answer['error']}", hint="it must be writable there")
    proof: dict[str, Any] | None = answer["proof"]
    return proof


class Nonces:
    """Nonce files on the head, by sessions that stay open until they are removed: what is cut off is removed there."""

    def __init__(self, head: "Head") -> None:
        self._head = head
        self._session: Session | None = None

    def show(self, proof: "dict[str, Any]") -> "dict[str, Any] | None":
        """Put one into the directory; None where that cannot be done."""
        self._session = borrow(self._head)
        answer = self._session.ask("nonce", proof=proof)
        shown: dict[str, Any] | None = answer.get("proof")
        return shown

    def hide(self, _proof: "dict[str, Any]") -> None:
        """Remove it."""
        session, self._session = self._session, None
        if session is not None:
            try:
                session.ask("hide")
            except UnreachableError:
                session.close()  # the relay removes it when it ends
            else:
                give_back(session)


# ---- files ---------------------------------------------------------------------------------------------------


def fetch_file(head: "Head", source: str, target: str, *, show: "Callable[[int, int], None] | None" = None) -> int | None:
    """Bring a file of the head here, whole or not at all; what an earlier try brought is not brought again.

    Args:
        head: where it is.
        source: its path there.
        target: its path here, in a directory that exists; what stands there is replaced.
        show: told how many bytes are here and how many there are.

    Returns:
        Its size in bytes; None if the same is here already.

    Raises:
        OSError: it cannot be read there, or written here.
        UnreachableError: the head was lost, and did not come back in time.

    """
    part = _name_part(target)
    ends_at: float | None = None
    tries = 0
    while True:
        file = _open_part(part)
        try:
            size = _fetch_once(head, source, target, file, show=show)
            if size is not None or not os.path.lexists(part):
                return size
            tries += 1
            if tries >= TRIES_MAX:
                raise OSError(errno.EAGAIN, "it changes while it is read", source)
        except UnreachableError:
            ends_at = ends_at or time.monotonic() + PATIENCE_S
            if time.monotonic() > ends_at:
                raise
            time.sleep(0.5)
        finally:
            os.close(file)


def _name_part(target: str) -> str:
    folder, name = os.path.split(target)
    return os.path.join(folder, f".{os.fsdecode(os.fsencode(name)[: NAME_MAX - len(PART) - 1])}{PART}")


def _open_part(part: str) -> int:
    """Return the file that a transfer fills, ours alone while it lasts."""
    import fcntl

    while True:
        file = os.open(part, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            found, meant = os.fstat(file), os.stat(part, follow_symlinks=False)
        except FileNotFoundError:
            meant = None
        if meant is not None and (found.st_dev, found.st_ino) == (meant.st_dev, meant.st_ino):
            return file
        os.close(file)  # who had it before has put it in its place


def _fetch_once(
    head: "Head", source: str, target: str, file: int, *, show: "Callable[[int, int], None] | None"
) -> int | None:
    """One try: the size once it is in place; None with the part removed: the same is here; None with it: try once more."""
    from hashlib import sha256

    part = _name_part(target)
    known: dict[str, object] = {}
    try:
        have = os.stat(target, follow_symlinks=False)
        if stat.S_ISREG(have.st_mode):
            known = {"size": have.st_size, "mtime_ns": have.st_mtime_ns}
    except OSError:
        pass
    digest, at = sha256(), 0
    while data := os.pread(file, CHUNK_BYTES, at):
        digest.update(data)
        at += len(data)
    session = borrow(head)
    try:
        session.send("read", path=source, offset=at, **known)
        answer = session.answer()
        if "error" in answer or answer.get("same"):
            os.unlink(part)
        elif at > int(answer["size"]):
            _skip(session)
        else:
            for data in _chunks(session):
                _write_all(file, data)
                digest.update(data)
                at += len(data)
                if show is not None:
                    show(at, int(answer["size"]))
            end = session.answer()
    except BaseException:
        session.close()
        raise
    give_back(session)
    if "error" in answer:
        raise OSError(int(answer.get("errno") or errno.EIO), str(answer["error"]), source)
    if answer.get("same"):
        return None
    if at != answer["size"] or end["sha256"] != digest.hexdigest():
        os.ftruncate(file, 0)
        return None
    os.fchmod(file, int(answer["mode"]) & 0o777 & ~0o022 | 0o600)
    os.fsync(file)
    os.utime(file, ns=(int(answer["mtime_ns"]), int(answer["mtime_ns"])))
    os.rename(part, target)
    return at


def _skip(session: "Session") -> None:
    """What is here is longer than what is there: begin anew."""
    for _ in _chunks(session):
        pass
    session.answer()


def _chunks(session: "Session") -> "Iterator[bytes]":
    while length := int.from_bytes(session.receive(4), "big"):
        yield session.receive(length)


def send_file(head: "Head", path: str, data: bytes) -> None:
    """Write a new file on the head, for the user alone.

    Raises:
        OSError: it cannot be written there, or exists.
        UnreachableError: the head was lost; the file may be there, or a part of it: take another name.

    """
    from hashlib import sha256

    session = borrow(head)
    try:
        session.send("write", path=path)
        for start in range(0, len(data), CHUNK_BYTES):
            piece = data[start : start + CHUNK_BYTES]
            session.stream.sendall(len(piece).to_bytes(4, "big") + piece)
        session.stream.sendall(bytes(4))
        answer = session.answer()
    except OSError:
        answer = session.answer()  # tells why it is gone
    except BaseException:
        session.close()
        raise
    give_back(session)
    if "error" in answer:
        raise OSError(int(answer.get("errno") or errno.EIO), str(answer["error"]), path)
    if answer.get("sha256") != sha256(data).hexdigest():
        raise OSError(errno.EIO, "it did not arrive as it was sent", path)


def list_files(head: "Head", there: str) -> list[tuple[str, int, int]]:
    """Return the files that jobs left in a directory on the head that stands for one of ours: name from there, size, time in ns.

    Raises:
        OSError: it cannot be read.
        UnreachableError: the head was lost.

    """
    found: list[tuple[str, int, int]] = []
    session = borrow(head)
    try:
        session.send("list", path=there)
        while not (answer := session.answer()).get("end"):
            if "error" in answer:
                break
            found += [(str(name), int(size), int(mtime_ns)) for name, size, mtime_ns in answer["files"]]
    except BaseException:
        session.close()
        raise
    give_back(session)
    if "error" in answer:
        raise OSError(int(answer.get("errno") or errno.EIO), str(answer["error"]), there)
    return found


def bring_file(head: "Head", path: str) -> str:
    """Bring a file of our own making here, remove it there, and return where it is."""
    target = to_here(head, path)
    if target is None:
        return path  # in a directory that both see
    check_target(target)
    fetch_file(head, path, target)
    remove_files(head, [path])
    return target


def remove_files(head: "Head", paths: "Sequence[str]") -> None:
    """Remove files of our own making on the head; a head that was lost keeps them."""
    try:
        ask_head(head, "remove", paths=list(paths))
    except UnreachableError:
        pass


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


# ---- outputs of jobs -----------------------------------------------------------------------------------------


def list_outputs(head: "Head", view: "Mapping[str, Any]") -> list[tuple[str, str]]:
    """Return the output files of a job that belong to this machine: the path on the head, the path here."""
    found: dict[str, str] = {}
    for key in ("std_out", "std_err"):
        path = view.get(key)
        here = to_here(head, path) if isinstance(path, str) else None
        if here is not None and isinstance(path, str) and not os.path.basename(here).startswith(".sshq-srun-"):
            found[path] = here
    return list(found.items())


def bring_output(head: "Head", source: str, target: str, *, show: "Callable[[int, int], None] | None" = None) -> int | None:
    """Bring a file that a job left, as `fetch_file`; where it goes was told by the head, so not everywhere.

    Raises:
        UserError: the place is none for outputs.

    """
    check_target(target)
    return fetch_file(head, source, target, show=show)


def check_target(target: str) -> None:
    """Refuse to write where a head that was broken into would like us to: hidden names, but for ours and below where we are."""
    here = os.getcwd()
    below = target[len(here) :] if target.startswith(here.rstrip("/") + "/") else target
    hidden = [name for name in below.split("/") if name.startswith(".") and not name.startswith(".sshq")]
    if hidden or os.path.normpath(target) != target:
        raise UserError(f"{target} is hidden: output is not brought there", hint="sshq logs JOB shows it")
