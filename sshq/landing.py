"""Writing files that come from a node below one directory here, whatever the node calls them.

Every step is openat(2) with O_NOFOLLOW from the directory itself, which is the one path that is taken as it is: no link
below it is followed, and nothing outside it is written.  A file appears whole: written aside, synced, compared with its
checksum by the caller, renamed.  What is already there is replaced only where it is a regular file.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sshq.core.stagenames import split_name

BLOCK = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_TREE = (errno.ELOOP, errno.ENOTDIR)


class ObstacleError(Exception):
    """A file cannot be put there and never could, as things stand; `args[0]` says why, without its name."""


@dataclass(slots=True)
class Part:
    """One file on its way: the directory it will be in, the names it has now and then, and how much of it has come."""

    folder: int
    aside: bytes
    name: bytes
    fd: int
    done: int = 0
    closed: bool = field(default=False, init=False)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.write(self.fd, view)
            self.done += written
            view = view[written:]

    def restart(self) -> None:
        os.lseek(self.fd, 0, os.SEEK_SET)
        os.ftruncate(self.fd, 0)
        self.done = 0

    def publish(self, mode: int) -> None:
        """Give it its name.  Durable only when the directory is synced too: `Landing.sync`."""
        os.fchmod(self.fd, mode)
        os.fsync(self.fd)
        _check_place(self.folder, self.name)
        os.rename(self.aside, self.name, src_dir_fd=self.folder, dst_dir_fd=self.folder)
        self.close()

    def close(self) -> None:
        """Let go of it; what has come stays aside, to be gone on with."""
        if not self.closed:
            self.closed = True
            os.close(self.fd)
            os.close(self.folder)

    def discard(self) -> None:
        if not self.closed:
            with contextlib.suppress(OSError):
                os.unlink(self.aside, dir_fd=self.folder)
            self.close()


class Landing:
    """A directory here below which files land.  `tag` is part of the names of files that are not whole yet."""

    def __init__(self, root: str, tag: str, umask: int) -> None:
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._tag = tag.encode()
        self._umask = umask
        self._changed: set[tuple[bytes, ...]] = set()

    def __enter__(self) -> "Landing":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._root)

    def free_bytes(self) -> int:
        """Return what an account like ours may still write there."""
        room = os.fstatvfs(self._root)
        return room.f_bavail * room.f_frsize

    def make_directory(self, name: bytes) -> None:
        """Make a directory, and those on the way to it, unless they are there.

        Raises:
            ObstacleError: its name, or what stands in its place.
        """
        os.close(self._enter(_parts(name), make=True))

    def size_of(self, name: bytes) -> int | None:
        """Return the size of the regular file that has this name, None for none.

        Raises:
            ObstacleError: something that is not to be replaced stands there, or on the way to it.
        """
        *way, last = _parts(name)
        try:
            folder = self._enter(tuple(way), make=False)
        except FileNotFoundError:
            return None
        try:
            return _check_place(folder, last)
        finally:
            os.close(folder)

    def feed(self, name: bytes, take: Callable[[bytes], object]) -> None:
        """Give the bytes of a regular file there to `take`.  OSError where it cannot be read."""
        *way, last = _parts(name)
        folder = self._enter(tuple(way), make=False)
        try:
            fd = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        finally:
            os.close(folder)
        try:
            while data := os.read(fd, BLOCK):
                take(data)
        finally:
            os.close(fd)

    def begin(self, name: bytes, take: Callable[[bytes], object], size: int) -> Part:
        """Return the file on its way; what an earlier try has left aside, at most `size` bytes, is given to `take` and kept.

        Raises:
            ObstacleError: as `size_of`.
            OSError: it cannot be written.
        """
        *way, last = _parts(name)
        folder = self._enter(tuple(way), make=True)
        self._changed.add(tuple(way))
        aside = b"." + last[: 255 - 8 - len(self._tag)] + b".sshq-" + self._tag
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            _check_place(folder, last)
            try:
                fd = os.open(aside, flags, 0o600, dir_fd=folder)
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
                os.unlink(aside, dir_fd=folder)
                fd = os.open(aside, flags | os.O_EXCL, 0o600, dir_fd=folder)
        except BaseException:
            os.close(folder)
            raise
        part = Part(folder, aside, last, fd)
        found = os.fstat(fd)
        try:
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != os.getuid():
                raise ObstacleError(f"{os.fsdecode(aside)} is in its way")
            if found.st_size > size:
                part.restart()
            while data := os.read(fd, BLOCK):
                take(data)
                part.done += len(data)
        except BaseException:
            part.close()
            raise
        return part

    def sync(self) -> None:
        """Make the new names of all directories that were written to durable."""
        changed, self._changed = self._changed, set()
        for way in changed:
            with contextlib.suppress(OSError, ObstacleError):
                fd = self._enter(way, make=False)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)

    def _enter(self, parts: Sequence[bytes], *, make: bool) -> int:
        folder = os.dup(self._root)
        for number, part in enumerate(parts):
            try:
                inner = self._enter_one(folder, part, tuple(parts[:number]), make=make)
            finally:
                os.close(folder)
            folder = inner
        return folder

    def _enter_one(self, folder: int, part: bytes, way: tuple[bytes, ...], *, make: bool) -> int:
        try:
            return os.open(part, _DIRECTORY, dir_fd=folder)
        except FileNotFoundError:
            if not make:
                raise
        except OSError as error:
            if error.errno not in _NO_TREE:
                raise
            raise ObstacleError(f"{os.fsdecode(part)} on the way to it is no directory here") from None
        with contextlib.suppress(FileExistsError):
            os.mkdir(part, 0o700, dir_fd=folder)
            self._changed.add(way)
        inner = os.open(part, _DIRECTORY, dir_fd=folder)
        os.fchmod(inner, 0o777 & ~self._umask)
        return inner


def _parts(name: bytes) -> tuple[bytes, ...]:
    parts = split_name(name)
    if parts is None:
        raise ObstacleError("its name is not one that is written here")
    return parts


def _check_place(folder: int, name: bytes) -> int | None:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISREG(found.st_mode):
        return found.st_size
    kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "a directory" if stat.S_ISDIR(found.st_mode) else "no file"
    raise ObstacleError(f"there is {kind} of that name here")
