"""Checksums of files on nodes: SHA-256 where there is sha256sum, else the CRC of POSIX cksum."""

import zlib
from hashlib import sha256
from typing import Protocol

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class Digest(Protocol):
    """A checksum that grows with the bytes it is given."""

    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


class Cksum:
    """The CRC of POSIX cksum(1), for nodes without sha256sum; `hexdigest` is its decimal number."""

    def __init__(self) -> None:
        self._crc, self._size = 0xFFFFFFFF, 0  # of zlib's, mirrored, with its own first and last complement undone

    def update(self, data: bytes, /) -> None:
        self._crc = zlib.crc32(bytes(data).translate(_REVERSED), self._crc)
        self._size += len(data)

    def hexdigest(self) -> str:
        length = self._size.to_bytes(8, "little").rstrip(b"\0")
        crc = zlib.crc32(length.translate(_REVERSED), self._crc) ^ 0xFFFFFFFF
        return str(int(f"{crc:032b}"[::-1], 2) ^ 0xFFFFFFFF)


def make_digest(expected: str) -> Digest:
    """Return the checksum that `expected`, which a node said, is one of."""
    return sha256() if len(expected) == 64 else Cksum()
