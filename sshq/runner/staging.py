"""Calls of `stage.sh`: what is written to a channel of its own, and how its answer reads.  Pure.

A channel gets the program by its input.  Only the one that takes chunks has them there: it runs the copy of the program that
the first channel left in the spool.
"""

import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from sshq.runner.calls import quote
from sshq.runner.commands import strip_comments

BLOCK: Final = 512
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"[0-9]{1,15}")


@dataclass(slots=True)
class StageAnswer:
    """What a call came to: `ended` once it said its last word, `why` and `text` where it failed."""

    missing: list[str] = field(default_factory=list)
    free_kib: int | None = None
    used_kib: int | None = None
    ended: bool = False
    why: str = ""
    text: str = ""

    @property
    def over(self) -> bool:
        return self.ended or bool(self.why)


@cache
def stage_program() -> bytes:
    """Return the program; read once in the life of the process."""
    return strip_comments(Path(__file__).with_name("stage.sh").read_bytes())


@cache
def _program_name() -> str:
    return f"stage-{sha256(stage_program()).hexdigest()[:16]}.sh"


def encode_open(*, spool: str, nonce: str, tree: str, chunks: Sequence[str]) -> bytes:
    """Leave the program in the spool, then ask which chunks of a tree are missing.  -> missing, free_kib, used_kib"""
    path = quote(f"{spool}/cache/{_program_name()}")
    lines = "".join(f"{_check(chunk)}\n" for chunk in chunks).encode()
    return b"".join([
        b"umask 077\nmkdir -p ", quote(f"{spool}/cache"), b"\n[ -s ", path, b" ] || { cat >", path, b".$$ <<'END-OF-PROGRAM'\n",
        stage_program(), b"\nEND-OF-PROGRAM\nmv -f ", path, b".$$ ", path, b"\n}\n", stage_program(), b"\n",
        _words("st_open", spool, nonce, _check(tree)), b" <<'END-OF-CHUNKS'\n", lines, b"END-OF-CHUNKS\n",
    ])  # fmt: skip


def encode_evict(*, spool: str, nonce: str, used_kib: int, max_kib: int, keep: Sequence[str]) -> bytes:
    """Make room in the cache.  -> free_kib, used_kib"""
    return stage_program() + b"\n" + _words("st_evict", spool, nonce, str(used_kib), str(max_kib), *map(_check, keep)) + b"\n"


def encode_grow(*, spool: str, nonce: str, tree: str, id: str) -> bytes:  # noqa: A002 - the launch's own word for it
    """Build a tree as the directory of a launch."""
    return stage_program() + b"\n" + _words("st_grow", spool, nonce, _check(tree), id) + b"\n"


def encode_undo(*, spool: str, nonce: str, id: str) -> bytes:  # noqa: A002
    """Remove the directory of a launch that was never sent."""
    return stage_program() + b"\n" + _words("st_undo", spool, nonce, id) + b"\n"


def put_command(spool: str, nonce: str) -> str:
    """Return the command of a channel that takes a tar stream of chunks; every login shell understands it.

    Raises:
        ValueError: the spool's path cannot be said in all of them.
    """
    if "'" in spool or "!" in spool or "\\" in spool or not spool.isprintable():
        raise ValueError(f"files cannot be staged below {spool!r}")
    return f"exec /bin/sh '{spool}/cache/{_program_name()}' st_put '{spool}' {nonce}"


def chunk_header(digest: str, size: int) -> bytes:
    """Return what stands before a chunk in the stream that `put_command` takes; behind it, it is filled up to `BLOCK`."""
    info = tarfile.TarInfo(_check(digest))
    info.size, info.mode = size, 0o600
    return info.tobuf(tarfile.USTAR_FORMAT)


def read_line(line: str, nonce: str, answer: StageAnswer) -> None:
    """Take in one line of a channel; what is not ours (a talkative login) is passed over."""
    mark, _, rest = line.partition(" ")
    if mark != nonce:
        return
    word, _, value = rest.partition(" ")
    if word == "-" and _DIGEST.fullmatch(value):
        answer.missing.append(value)
    elif word in ("free", "used") and _NUMBER.fullmatch(value):
        setattr(answer, f"{word}_kib", int(value))
    elif word == "end":
        answer.ended = True
    elif word == "no":
        answer.why, _, answer.text = value.partition(" ")


def _words(*words: str) -> bytes:
    return b" ".join(quote(word) for word in words)


def _check(digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"not a digest: {digest!r}")
    return digest
