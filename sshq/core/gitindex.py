"""Git's index, versions 2, 3 and 4: bytes in, entries out.  Source: gitformat-index(5)."""

from _struct import Struct  # `struct` alone takes half a millisecond, and sbatch reads this

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Entry = tuple[bytes, bytes, tuple[int, ...], int, int]

GITLINK = 0o160000
_HEAD = Struct(">4sLL")
_ABOUT = Struct(">10L")
_EXTENDED = 0x4000
_LENGTH_MAX = 1 << 30


class IndexDamagedError(ValueError):
    """It is no index that is read here."""


class Index:
    """The entries of an index, in its order, each `(path, name, about, flags, more)`.

    `name` is the object's, of `width` bytes; `about` is ctime s and ns, mtime s and ns, dev, ino, mode, uid, gid and size, each
    modulo 2^32; `more` are the flags of version 3.  Of an index that is split some paths are empty.  Iterate once, then ask for
    `extensions`.
    """

    def __init__(self, data: bytes, width: int) -> None:
        if len(data) < _HEAD.size + width or data[:4] != b"DIRC":
            raise IndexDamagedError("not an index")
        _, self.version, self.count = _HEAD.unpack_from(data)
        if self.version not in (2, 3, 4):
            raise IndexDamagedError(f"version {self.version}")
        self._data, self._width = data, width
        self._end = len(data) - width  # of all but the checksum
        self._at = _HEAD.size

    def __iter__(self) -> "Iterator[Entry]":
        """Raises IndexDamagedError where it ends too early or makes no sense."""
        data, width, end = self._data, self._width, self._end
        at, path = self._at, b""
        for _ in range(self.count):
            start, flags_at = at, at + _ABOUT.size + width
            if flags_at + 2 > end:
                raise IndexDamagedError("it ends too early")
            flags, more, at = int.from_bytes(data[flags_at : flags_at + 2], "big"), 0, flags_at + 2
            if flags & _EXTENDED:
                if self.version < 3:
                    raise IndexDamagedError("flags of a later version")
                more, at = int.from_bytes(data[at : at + 2], "big"), at + 2
            kept = b""
            if self.version == 4:
                dropped, at = _read_offset(data, at, end)
                if dropped > len(path):
                    raise IndexDamagedError("a name is shorter than nothing")
                kept = path[: len(path) - dropped]
            name_end = data.find(b"\0", at, end)
            if name_end < 0:
                raise IndexDamagedError("a name does not end")
            path = kept + data[at:name_end]
            at = name_end + 1 if self.version == 4 else start + (name_end - start) // 8 * 8 + 8
            yield path, data[flags_at - width : flags_at], _ABOUT.unpack_from(data, start), flags, more
        self._at = at

    def extensions(self) -> dict[bytes, bytes]:
        """Return what stands behind the entries, by its four letters.  Raises IndexDamagedError as the iteration."""
        found = {}
        at = self._at
        while at < self._end:
            size = int.from_bytes(self._data[at + 4 : at + 8], "big")
            found[self._data[at : at + 4]] = self._data[at + 8 : at + 8 + size]
            at += 8 + size
        if at != self._end:
            raise IndexDamagedError("an extension is longer than the rest")
        return found


def _read_offset(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return a number of variable length, as git's packs have it too, and where it ends."""
    value = -1
    while at < end:
        value = (value + 1) << 7 | data[at] & 0x7F
        at += 1
        if not data[at - 1] & 0x80:
            return value, at
        if value > _LENGTH_MAX:
            break
    raise IndexDamagedError("a length is none")
