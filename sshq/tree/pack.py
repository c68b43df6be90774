"""The stream of a tree, cut into chunks: small files lie together in packs, a large one has chunks of its own.

Where a pack ends depends on the names in it alone, so that a file more or less changes one pack and not all behind it.
"""

import os
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from sshq.errors import OptionError
from sshq.tree.walk import Entry, show

CHUNK_BYTES: Final = 4 << 20  # of a large file
LARGE_BYTES: Final = 1 << 20
PACK_MAX: Final = 2 << 20
PACK_MIN: Final = 128 << 10
BLOCK: Final = 512
END: Final = bytes(2 * BLOCK)  # what ends a tar stream
RACY_NS: Final = 2_000_000_000  # what changed within so long of being looked at may have changed since, and look the same


@dataclass(slots=True)
class Piece:
    """What becomes one chunk: members with all their bytes, or a part of one file."""

    entries: list[Entry] = field(default_factory=list)
    body: Entry | None = None  # then it is a part of this file, else members
    offset: int = 0
    length: int = 0  # bytes of the file, or of members with their headers

    @property
    def key(self) -> str:
        """What it is as long as nothing it is made of was touched."""
        made = blake2b(digest_size=20)
        for one in (*self.entries, *((self.body,) if self.body else ())):
            made.update(repr((one.path, one.mode, one.size, one.mtime_ns, one.ctime_ns, one.ino, one.dev, one.target)).encode())
        made.update(f"{self.offset} {self.length} {self.body is None}".encode())
        return made.hexdigest()

    def touched_since(self, at_ns: int) -> bool:
        return any(max(one.mtime_ns, one.ctime_ns) >= at_ns for one in (*self.entries, *((self.body,) if self.body else ())))


def cut(entries: Iterable[Entry]) -> Iterator[Piece]:
    """Yield the pieces of a tree in the order of its stream."""
    pack = Piece()
    for entry in entries:
        large = entry.is_file and entry.size >= LARGE_BYTES
        pack.entries.append(entry)
        pack.length += BLOCK + (0 if large or not entry.is_file else _padded(entry.size))
        if large:
            yield pack
            for offset in range(0, entry.size, CHUNK_BYTES):
                yield Piece(body=entry, offset=offset, length=min(CHUNK_BYTES, entry.size - offset))
        elif pack.length < PACK_MAX and (pack.length < PACK_MIN or zlib.crc32(entry.path) % 8):
            continue
        else:
            yield pack
        pack = Piece()
    if pack.entries:
        yield pack


def read_piece(piece: Piece) -> bytes:
    """Return the bytes of a piece.

    Raises:
        OptionError: a file changed, or cannot be read.
    """
    if piece.body is not None:
        data = _read(piece.body, piece.offset, piece.length)
        return data + bytes(-len(data) % BLOCK)
    parts = []
    for entry in piece.entries:
        parts.append(make_header(entry))
        if entry.is_file and 0 < entry.size < LARGE_BYTES:
            data = _read(entry, 0, entry.size)
            parts += (data, bytes(-len(data) % BLOCK))
    return b"".join(parts)


def make_header(entry: Entry) -> bytes:
    """Return what stands before a member: permissions and time as they are, no owner."""
    name = entry.path.decode("utf-8", "surrogateescape")
    info = tarfile.TarInfo(name)
    info.mode = entry.mode & 0o777
    info.mtime = max(0, entry.mtime_ns // 1_000_000_000)
    if entry.is_dir:
        info.type, info.mode = tarfile.DIRTYPE, info.mode | 0o700
    elif entry.target:
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, entry.target.decode("utf-8", "surrogateescape"), 0o777
    else:
        info.size = entry.size
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _read(entry: Entry, offset: int, length: int) -> bytes:
    try:
        file = os.open(entry.source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise _unreadable(entry, error) from None
    try:
        _compare(entry, os.fstat(file))
        parts, left = [], length
        while left and (data := os.pread(file, left, offset + length - left)):
            parts.append(data)
            left -= len(data)
        _compare(entry, os.fstat(file))
        if left:
            raise _changed(entry)
        return b"".join(parts)
    except OSError as error:
        raise _unreadable(entry, error) from None
    finally:
        os.close(file)


def _compare(entry: Entry, found: os.stat_result) -> None:
    seen = (found.st_mode, found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev)
    if seen != (entry.mode, entry.size, entry.mtime_ns, entry.ino, entry.dev):
        raise _changed(entry)


def _changed(entry: Entry) -> OptionError:
    return OptionError(
        f"{show(entry.source)} changed while it was read: nothing was submitted",
        hint="submit again when nobody writes there, or name it in .sshqignore",
    )  # fmt: skip


def _unreadable(entry: Entry, error: OSError) -> OptionError:
    return OptionError(f"{show(entry.source)} cannot be read: {error.strerror}", hint="name it in .sshqignore")


Progress = Callable[[int, int], None]  # bytes looked at so far, and of all
