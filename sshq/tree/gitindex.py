"""Which files git tracks: its index, read as it lies in the repository.  Ignore files say nothing of those, to git and to us.

Versions 2, 3 and 4, of repositories with SHA-1 and SHA-256.  An index that is missing, damaged, being written, newer than this or
split over two files tells nothing: then ignore files decide alone.
"""

import os
import stat
import struct
from bisect import bisect_left
from hashlib import new
from typing import Final

INDEX_BYTES_MAX: Final = 1 << 30
_HASHES: Final = (("sha1", 20), ("sha256", 32))
_STAT_BYTES: Final = 40
_MODE_AT: Final = 24
_EXTENDED: Final = 0x4000
_GITLINK: Final = 0o160000
_TYPE: Final = 0o170000


class IndexDamagedError(ValueError):
    """It is no index that is read here."""


def parse_index(data: bytes) -> tuple[list[bytes], frozenset[bytes]]:
    """Return the paths that an index holds, sorted, and which of them are submodules.

    Raises:
        IndexDamagedError: it is not whole, or of a kind that is not read here.
    """
    if len(data) < 12 or data[:4] != b"DIRC":
        raise IndexDamagedError("not an index")
    version, count = struct.unpack_from(">II", data, 4)
    if version not in (2, 3, 4):
        raise IndexDamagedError(f"version {version}")
    for name, size in _HASHES:
        sum_at = len(data) - size
        if sum_at >= 12 and data[sum_at:] == new(name, memoryview(data)[:sum_at], usedforsecurity=False).digest():
            return _read_entries(data, version, count, size)
    for _, size in _HASHES:  # index.skipHash writes zeros
        if data.endswith(bytes(size)):
            try:
                return _read_entries(data, version, count, size)
            except IndexDamagedError:
                continue
    raise IndexDamagedError("its checksum is another")


def _read_entries(data: bytes, version: int, count: int, size: int) -> tuple[list[bytes], frozenset[bytes]]:
    end = len(data) - size
    paths: list[bytes] = []
    links: list[bytes] = []
    at, path = 12, b""
    for _ in range(count):
        flags_at = at + _STAT_BYTES + size
        if flags_at + 2 > end:
            raise IndexDamagedError("it ends too early")
        (flags,) = struct.unpack_from(">H", data, flags_at)
        (mode,) = struct.unpack_from(">I", data, at + _MODE_AT)
        extended = flags & _EXTENDED
        if extended and version < 3:
            raise IndexDamagedError("flags of a later version")
        name_at = flags_at + (4 if extended else 2)
        kept = b""
        if version == 4:
            dropped, name_at = _read_offset(data, name_at, end)
            if dropped > len(path):
                raise IndexDamagedError("a name is shorter than nothing")
            kept = path[: len(path) - dropped]
        name_end = data.find(b"\0", name_at, end)
        if name_end < 0:
            raise IndexDamagedError("a name does not end")
        path = kept + data[name_at:name_end]
        if not path:
            raise IndexDamagedError("it is split")
        at = name_end + 1 if version == 4 else at + (name_end - at) // 8 * 8 + 8
        if mode & _TYPE == _GITLINK:
            links.append(path)
        paths.append(path)
    _check_extensions(data, at, end)
    return sorted(paths), frozenset(links)


def _read_offset(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return a number of variable length, as git's packs have it too, and where it ends."""
    value = -1
    while at < end:
        value = (value + 1) << 7 | data[at] & 0x7F
        at += 1
        if not data[at - 1] & 0x80:
            return value, at
        if value > INDEX_BYTES_MAX:
            break
    raise IndexDamagedError("a length is none")


def _check_extensions(data: bytes, at: int, end: int) -> None:
    while at < end:
        if at + 8 > end:
            raise IndexDamagedError("it ends too early")
        name, (length,) = data[at : at + 4], struct.unpack_from(">I", data, at + 4)
        if not name[:1].isupper() and name != b"sdir":  # it must be understood: an index that is split
            raise IndexDamagedError(f"extension {name!r}")
        at += 8 + length
    if at != end:
        raise IndexDamagedError("an extension is longer than the rest")


class Tracked:
    """What one repository tracks; read when it is first asked.  `way` leads from its top to the tree, or from the tree to it."""

    __slots__ = ("_below", "_git", "_links", "_paths", "_way")

    def __init__(self, git: bytes, *, way: bytes = b"", below: bytes = b"") -> None:
        self._git = git
        self._way = way + b"/" if way else b""
        self._below = below
        self._paths: list[bytes] | None = None
        self._links: frozenset[bytes] = frozenset()

    def holds(self, path: bytes, *, is_dir: bool) -> bool:
        """Whether it tracks a path of the tree, or something below a directory."""
        if self._paths is None:
            self._paths, self._links = _read(self._git)
        path = self._way + path[len(self._below) :]
        if is_dir:
            if path in self._links:
                return True
            path += b"/"
        at = bisect_left(self._paths, path)
        return at < len(self._paths) and (self._paths[at].startswith(path) if is_dir else self._paths[at] == path)


def _read(git: bytes) -> tuple[list[bytes], frozenset[bytes]]:
    try:
        if os.path.isfile(git):  # of a submodule, or of one of several working trees
            with open(git, "rb") as file:
                word, _, place = file.read(8192).rstrip(b"\r\n").partition(b": ")
            if word != b"gitdir":
                return [], frozenset()
            git = os.path.join(os.path.dirname(git), place)
        with open(os.open(os.path.join(git, b"index"), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            looked = os.fstat(file.fileno())
            if not stat.S_ISREG(looked.st_mode) or looked.st_size > INDEX_BYTES_MAX:
                return [], frozenset()
            return parse_index(file.read())
    except (OSError, ValueError):  # none, or a name that is none
        return [], frozenset()
