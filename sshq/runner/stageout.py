"""Reading a job's directory on its node: how each question is written and each answer read.  The other half is stageout.sh.

The program and then calls are the stdin of an `exec /bin/sh` on a channel of its own.  An answer is framed by a nonce, and a
list by its count; names come with their length, so that nothing in them can end a line.  What a node says is hostile input:
what does not fit makes the whole answer void (`StageError`), and what a name may mean here is for `core.stagenames` to say.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from sshq.runner.calls import quote
from sshq.runner.commands import strip_comments

KINDS: Final = frozenset(b"fdlou")
NAME_BYTES_MAX: Final = 65_536  # of a name in a list; a longer one is none
NOISE_MAX: Final = 65_536  # what a login shell may say before the first answer
ENTRIES_MAX: Final = 200_000  # as in stageout.sh

_NONCE = re.compile(r"[0-9a-f]{8,64}")
_ENTRY = re.compile(rb"([a-z]) ([0-9]{1,4}) ([0-9]{1,6}) ")
_SIZE = re.compile(rb" *([0-9]{1,18}) ([0-7]{1,6})")
_SHA = re.compile(rb"\\?([0-9a-f]{64})(?: .*)?")
_CKSUM = re.compile(rb"cksum ([0-9]{1,10})[ \t]+([0-9]{1,18})(?: .*)?")
_END = re.compile(rb"end ([0-9a-f]{8,64}) ([a-z0-9]{1,10})")

class StageError(Exception):
    """The answer is not whole, or not one of ours; `args[0]` says what about it."""


class GoneError(StageError):
    """What was asked for is not there any more."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in the directory: f a file, d a directory, l a symbolic link, u not readable, o none of these."""

    kind: str
    pattern: int  # which of those asked for it matches
    name: bytes  # relative to the directory


@dataclass(frozen=True, slots=True)
class Size:
    size: int
    mode: int  # permissions


@cache
def stage_program() -> bytes:
    """Return what is sent first; read once in the life of the process."""
    return strip_comments(Path(__file__).with_name("stageout.sh").read_bytes())


def encode_list(*, nonce: str, root: str, private: bool, patterns: Sequence[str]) -> bytes:
    """Ask what the patterns match, whole directories with all below them.  -> `parse_list`"""
    return _call("stage_list", nonce, root, private, *patterns)


def encode_sizes(*, nonce: str, root: str, private: bool, names: Sequence[bytes]) -> bytes:
    """Ask for sizes and permissions.  -> `parse_sizes`"""
    return _call("stage_sizes", nonce, root, private, *map(_local, names))


def encode_sums(*, nonce: str, root: str, private: bool, names: Sequence[bytes]) -> bytes:
    """Ask for checksums, which reads the files whole.  -> `parse_sums`"""
    return _call("stage_sums", nonce, root, private, *map(_local, names))


def encode_sum(*, nonce: str, root: str, private: bool, name: bytes, size: int) -> bytes:
    """Ask for the checksum of the first `size` bytes of one file.  -> `parse_sums`"""
    return _call("stage_sum", nonce, root, private, str(size), _local(name))


def encode_read(*, nonce: str, root: str, private: bool, name: bytes, offset: int, size: int | None = None) -> bytes:
    """Ask for a file's bytes from `offset` on, of the first `size` where that is said.

    -> `begin_of`, the line "data", the bytes, `end_of_data`; or `begin_of`, `gone_line`
    """
    return _call("stage_read", nonce, root, private, str(offset), "-" if size is None else str(size), _local(name))


def _local(name: bytes) -> bytes:
    return b"./" + name  # never an option


def _call(verb: str, nonce: str, root: str, private: bool, *words: str | bytes) -> bytes:
    if not _NONCE.fullmatch(nonce) or not root.startswith("/"):
        raise ValueError(f"not a question: {nonce!r} {root!r}")
    parts = [verb.encode(), nonce.encode(), b"private" if private else b"shared", quote(root), *map(quote, words)]
    return b" ".join([*parts, b"END-" + nonce.encode()]) + b"\n"


def begin_of(nonce: str) -> bytes:
    """Return the line with which the answer begins; what comes before it is noise."""
    return b"\nSSHQ-OUT " + nonce.encode() + b"\n"


def end_of_data(nonce: str) -> bytes:
    """Return what follows the last byte of a file."""
    return b"\nend " + nonce.encode() + b" 1\n"


def gone_line(nonce: str) -> bytes:
    """Return what follows the first line where the file is not there."""
    return b"end " + nonce.encode() + b" gone\n"


class AnswerReader:
    """Takes bytes until the answer to one question is whole.  `feed` returns its body, or None while more has to come.

    A body is what stands between the two frames; `left` is then what came behind it.

    Raises:
        StageError: too much noise, a malformed end.
        GoneError: the directory, or the file, is not there.
    """

    def __init__(self, nonce: str) -> None:
        self._nonce = nonce.encode()
        self._begin = begin_of(nonce)
        self._end = b"end " + self._nonce + b" "
        self._data = bytearray()
        self._began = False
        self._looked = 0
        self.left = b""
        self.count = 0

    def feed(self, data: bytes) -> bytes | None:
        self._data += data
        if not self._began:
            at = (b"\n" + bytes(self._data)).find(self._begin)
            if at < 0:
                if len(self._data) > NOISE_MAX:
                    raise StageError("it said something else first, and too much of it")
                return None
            del self._data[: at + len(self._begin) - 1]
            self._began = True
        while True:
            # At the beginning of a line, or at once.  Names may hold such a line too: the count and the rest decide.
            at = self._data.find(self._end, self._looked)
            if at < 0:
                self._looked = max(0, len(self._data) - len(self._end))
                return None
            stop = self._data.find(b"\n", at)
            if stop < 0:
                self._looked = at
                return None
            self._looked = at + 1
            if at and self._data[at - 1] != 0x0A:
                continue
            found = _END.fullmatch(bytes(self._data[at:stop]))
            if found is None:
                continue
            if found[2] == b"gone":
                raise GoneError("it is not there")
            if found[2] == b"many":
                raise StageError(f"there are more than {ENTRIES_MAX} files and directories")
            if not found[2].isdigit():
                raise StageError("the end of the answer is malformed")
            self.count = int(found[2])
            body, self.left = bytes(self._data[:at]), bytes(self._data[stop + 1 :])
            return body


def parse_list(body: bytes, count: int) -> list[Entry]:
    """Return a whole list.  Raises StageError for one that is not."""
    entries: list[Entry] = []
    at = 0
    while at < len(body):
        head = _ENTRY.match(body, at)
        if head is None or head[1] not in (b"f", b"d", b"l", b"o", b"u"):
            raise StageError("a line of the list is malformed")
        length, start = int(head[3]), head.end()
        if length > NAME_BYTES_MAX or body[start + length : start + length + 1] != b"\n":
            raise StageError("a name of the list has another length than was said")
        entries.append(Entry(head[1].decode(), int(head[2]), body[start : start + length]))
        at = start + length + 1
    if len(entries) != count:
        raise StageError(f"the list has {len(entries)} of {count} entries")
    return entries


def parse_sizes(body: bytes, names: int) -> list[Size | None]:
    """Return one a name, None where it is not there.  Raises StageError for anything else."""
    lines = body.split(b"\n")[:-1]
    if b"again" in lines:  # what the faster way had said before it failed does not count
        lines = lines[lines.index(b"again") + 1 :]
    if len(lines) != names:
        raise StageError(f"sizes of {len(lines)} of {names} files")
    sizes: list[Size | None] = []
    for line in lines:
        found = _SIZE.fullmatch(line)
        if found is None and not line.startswith(b"-"):
            raise StageError("a size is malformed")
        sizes.append(None if found is None else Size(int(found[1]), int(found[2], 8) & 0o777))
    return sizes


def parse_sums(body: bytes, names: int) -> list[str | None]:
    """Return one checksum a name, None where it is not there; for `core.digests`.  Raises StageError for anything else."""
    lines = body.split(b"\n")[:-1]
    if len(lines) != names:
        raise StageError(f"checksums of {len(lines)} of {names} files")
    sums: list[str | None] = []
    for line in lines:
        sha, crc = _SHA.fullmatch(line), _CKSUM.fullmatch(line)
        if sha is None and crc is None and line not in (b"gone", b"cksum gone"):
            raise StageError("a checksum is malformed")
        sums.append(sha[1].decode() if sha else str(int(crc[1])) if crc else None)
    return sums
