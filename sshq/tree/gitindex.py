"""Which files git tracks: its index, read as it lies in the repository.  Ignore files say nothing of those, to git and to us.

Versions 2, 3 and 4, of repositories with SHA-1 and SHA-256.  An index that is missing, damaged, being written, newer than this or
split over two files tells nothing: then ignore files decide alone.
"""

import os
import stat
from bisect import bisect_left
from hashlib import new
from typing import Final

from sshq.core.gitindex import GITLINK, Index, IndexDamagedError

INDEX_BYTES_MAX: Final = 1 << 30
_HASHES: Final = (("sha1", 20), ("sha256", 32))
_HEAD_BYTES: Final = 12


def parse_index(data: bytes) -> tuple[list[bytes], frozenset[bytes]]:
    """Return the paths that an index holds, sorted, and which of them are submodules.

    Raises:
        IndexDamagedError: it is not whole, or of a kind that is not read here.
    """
    for name, size in _HASHES:
        sum_at = len(data) - size
        if sum_at >= _HEAD_BYTES and data[sum_at:] == new(name, memoryview(data)[:sum_at], usedforsecurity=False).digest():
            return _read_paths(data, size)
    for _, size in _HASHES:  # index.skipHash writes zeros
        if data.endswith(bytes(size)):
            try:
                return _read_paths(data, size)
            except IndexDamagedError:
                continue
    raise IndexDamagedError("its checksum is another")


def _read_paths(data: bytes, size: int) -> tuple[list[bytes], frozenset[bytes]]:
    paths: list[bytes] = []
    links: list[bytes] = []
    index = Index(data, size)
    for path, _name, about, _flags, _more in index:
        if not path:
            raise IndexDamagedError("it is split")
        if about[6] & 0o170000 == GITLINK:
            links.append(path)
        paths.append(path)
    for name in index.extensions():
        if not name[:1].isupper() and name != b"sdir":  # it must be understood: an index that is split
            raise IndexDamagedError(f"extension {name!r}")
    return sorted(paths), frozenset(links)


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
