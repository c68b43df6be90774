"""The store of chunks on the head: files named by the SHA-256 of their content, and manifests that name them in order.

`o/ab/abcd…` chunks, `m/DIGEST` manifests, `stat/` what was hashed when it looked how, `tmp/` what is being written.  Whoever
may submit writes it, as the user; the controller reads it, and removes what no job needs.  A chunk has its name only once it
is durable.
"""

import contextlib
import ctypes
import errno
import os
import re
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from sshq.errors import OptionError, StoreError

HEAD: Final = b"sshq-tree 1\n"
CHUNKS_MAX: Final = 2_000_000
GRACE_S: Final = 3600.0  # nothing younger is removed: its job may be on its way
TEMPORARY_S: Final = 86_400.0
DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_FLUSH_BYTES: Final = 512 << 20


@dataclass(frozen=True, slots=True)
class Manifest:
    """A tree: its chunks in order, with their sizes in bytes."""

    digest: str
    files: int
    chunks: tuple[tuple[str, int], ...]

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.chunks)


def format_manifest(files: int, chunks: Collection[tuple[str, int]]) -> bytes:
    return b"".join([HEAD, b"files %d\n" % files, *(f"{digest} {size}\n".encode() for digest, size in chunks)])


def parse_manifest(text: bytes) -> Manifest:
    """Return what a manifest says.  ValueError for one that is not well formed."""
    if not text.startswith(HEAD) or not text.endswith(b"\n"):
        raise ValueError("not a manifest")
    first, *lines = text[len(HEAD) : -1].decode("ascii").split("\n")
    word, _, files = first.partition(" ")
    if word != "files" or not files.isdigit() or len(lines) > CHUNKS_MAX:
        raise ValueError("not a manifest")
    chunks = []
    for line in lines:
        digest, _, size = line.partition(" ")
        if not DIGEST.fullmatch(digest) or not size.isdigit() or len(size) > 12:
            raise ValueError("not a chunk of a manifest")
        chunks.append((digest, int(size)))
    return Manifest(sha256(text).hexdigest(), int(files), tuple(chunks))


class Objects:
    """One store of chunks."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._waiting: dict[str, str] = {}  # digest: where it was written, not yet durable
        self._waiting_bytes = 0

    def make(self) -> None:
        """Make its directories, where they are not there yet."""
        for name in ("", "o", "m", "stat", "tmp"):
            os.makedirs(os.path.join(self.directory, name), mode=0o700, exist_ok=True)

    def path(self, digest: str) -> str:
        return f"{self.directory}/o/{digest[:2]}/{digest}"

    def _aside(self, name: str) -> str:
        """Return where something is written before it has its name: several threads may take along the same file."""
        return f"{self.directory}/tmp/{os.getpid()}.{threading.get_ident():x}.{name}"

    def holds(self, digest: str, size: int, *, touch: bool = False) -> bool:
        """Whether a chunk is there; `touch` it, so that it is not taken for old."""
        if digest in self._waiting:
            return True
        path = self.path(digest)
        try:
            if os.stat(path).st_size != size:
                return False
            if touch:
                os.utime(path)
        except OSError:
            return False
        return True

    def add(self, data: bytes) -> tuple[str, bool]:
        """Take a chunk; it is durable after `flush`.  Returns its digest, and whether it is new.  OSError without room."""
        digest = sha256(data).hexdigest()
        is_new = not self.holds(digest, len(data), touch=True)
        if is_new:
            path = self._aside(digest)
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o400)
            self._waiting[digest] = path
            with os.fdopen(file, "wb") as out:
                out.write(data)
            self._waiting_bytes += len(data)
            if self._waiting_bytes > _FLUSH_BYTES:
                self.flush()
        return digest, is_new

    def flush(self) -> None:
        """Make what was added durable, then give it its name."""
        if self._waiting:
            _sync(self.directory)
            for digest, path in self._waiting.items():
                home = self.path(digest)
                with contextlib.suppress(FileExistsError):
                    os.mkdir(os.path.dirname(home), 0o700)
                os.replace(path, home)
            _sync(self.directory)
        self._waiting.clear()
        self._waiting_bytes = 0

    def forget(self) -> None:
        """Remove what was added and not flushed."""
        for path in self._waiting.values():
            with contextlib.suppress(OSError):
                os.unlink(path)
        self._waiting.clear()

    def put_manifest(self, text: bytes) -> str:
        """Make a manifest durable; all it names was flushed before."""
        digest = sha256(text).hexdigest()
        home = f"{self.directory}/m/{digest}"
        if os.path.exists(home):
            os.utime(home)
            return digest
        aside = self._aside(f"m.{digest}")
        file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o400)
        with os.fdopen(file, "wb") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        os.replace(aside, home)
        folder = os.open(f"{self.directory}/m", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return digest

    def read_manifest(self, digest: str) -> Manifest:
        """Return a tree.

        Raises:
            StoreError: it is not there, or damaged.
        """
        if not DIGEST.fullmatch(digest):
            raise StoreError("the name of a tree is malformed")
        path = f"{self.directory}/m/{digest}"
        try:
            with open(path, "rb") as file:
                manifest = parse_manifest(file.read())
        except OSError as error:
            raise StoreError(f"the files of the job are not in {self.directory}: {error.strerror}") from None
        except ValueError:
            raise StoreError(f"{path} is damaged") from None
        if manifest.digest != digest:
            raise StoreError(f"{path} is damaged")
        return manifest

    def check(self, digest: str) -> Manifest:
        """Return a tree all of which is there.  StoreError."""
        manifest = self.read_manifest(digest)
        missing = sum(not self.holds(one, size) for one, size in manifest.chunks)
        if missing:
            raise StoreError(f"{missing} of {len(manifest.chunks)} chunks of the job's files are not in {self.directory}")
        return manifest

    def read(self, digest: str, size: int) -> bytes:
        """Return a chunk.  StoreError for one that is missing or damaged."""
        try:
            with open(self.path(digest), "rb") as file:
                data = file.read()
        except OSError as error:
            raise StoreError(f"{self.path(digest)}: {error.strerror}") from None
        if len(data) != size or sha256(data).hexdigest() != digest:
            raise StoreError(f"{self.path(digest)} is damaged: submit the job again")
        return data

    # ---- what was hashed before ------------------------------------------------------------------------------

    def read_stats(self, name: str) -> dict[str, tuple[str, int]]:
        """Return by keys of pieces what their chunks were the last time; nothing is lost where it cannot be read."""
        known = {}
        try:
            with open(f"{self.directory}/stat/{name}", encoding="ascii") as file:
                for line in file:
                    key, digest, size = line.split(" ")
                    known[key] = (digest, int(size))
        except (OSError, ValueError):
            return {}
        return known

    def write_stats(self, name: str, known: dict[str, tuple[str, int]]) -> None:
        aside = self._aside(f"s.{name}")
        with contextlib.suppress(OSError):
            with open(aside, "w", encoding="ascii") as file:
                file.writelines(f"{key} {digest} {size}\n" for key, (digest, size) in known.items())
            os.replace(aside, f"{self.directory}/stat/{name}")

    # ---- what may go -----------------------------------------------------------------------------------------

    def sweep(self, needed: Collection[str], *, bytes_max: int, keep_s: float, now: float | None = None) -> tuple[int, int]:
        """Remove what no job needs and is old, or too much.

        Args:
            needed: the trees of jobs that may still start.
            bytes_max: what all may take; the trees that were used longest ago go first.
            keep_s: how long a tree stays that nobody uses.
            now: seconds since the epoch.

        Returns:
            How many chunks were removed, and their bytes.  What jobs need stays, however much it is.
        """
        now = time.time() if now is None else now
        for name in needed:  # its time counts from when the last job that needs it is over
            with contextlib.suppress(OSError):
                os.utime(f"{self.directory}/m/{name}", (now, now))
        chunks = {name: (size, at) for name, size, at in _list(f"{self.directory}/o", deep=True)}
        trees = sorted(_list(f"{self.directory}/m"), key=lambda one: one[2])
        stay: dict[str, set[str]] = {}
        for name, _, at in trees:
            if name in needed or now - at < max(keep_s, GRACE_S):
                with contextlib.suppress(StoreError):
                    stay[name] = {digest for digest, _ in self.read_manifest(name).chunks}
        for name, _, at in trees:
            if sum(chunks[one][0] for one in _all(stay) if one in chunks) <= bytes_max:
                break
            if name in stay and name not in needed and now - at >= GRACE_S:
                del stay[name]
        for name, _, _ in trees:
            if name not in stay:
                with contextlib.suppress(OSError):
                    os.unlink(f"{self.directory}/m/{name}")
        kept = _all(stay)
        removed = [name for name, (_, at) in chunks.items() if name not in kept and self._remove_old(name, at, now)]
        for place, limit_s in (("tmp", TEMPORARY_S), ("stat", max(keep_s, TEMPORARY_S))):
            for name, _, at in _list(f"{self.directory}/{place}"):
                if now - at > limit_s:
                    with contextlib.suppress(OSError):
                        os.unlink(f"{self.directory}/{place}/{name}")
        return len(removed), sum(chunks[name][0] for name in removed)

    def _remove_old(self, name: str, at: float, now: float) -> bool:
        path = self.path(name)
        try:
            if now - at < GRACE_S or now - os.stat(path).st_mtime < GRACE_S:
                return False
            os.unlink(path)
        except OSError:
            return False
        return True


def explain_room(error: OSError, directory: str, needed: int) -> OptionError:
    """Return the error of a store that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        text = f"no space left in {directory} for the job's files ({needed} bytes)"
        return OptionError(text, hint="objects_max in config.yaml; .sshqignore leaves files out")
    return OptionError(f"{error.filename or directory}: {error.strerror}")


def _all(trees: Mapping[str, set[str]]) -> set[str]:
    return set().union(*trees.values())


def _list(directory: str, *, deep: bool = False) -> Iterator[tuple[str, int, float]]:
    """Yield name, size and time of the files of a directory, or of its directories."""
    with contextlib.suppress(OSError), os.scandir(directory) as found:
        for one in found:
            with contextlib.suppress(OSError):
                if deep:
                    yield from _list(one.path)
                else:
                    about = one.stat(follow_symlinks=False)
                    yield one.name, about.st_size, about.st_mtime


def _sync(directory: str) -> None:
    """Wait until all that was written to the file system is on its disk: one wait for thousands of files."""
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "syncfs"):
            os.sync()
        elif libc.syncfs(folder) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), directory)
    finally:
        os.close(folder)
