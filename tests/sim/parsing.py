"""The little of a shell's syntax that the controller writes: commands a line, words in single quotes."""

import re
from functools import cache

from sshq.runner import protocol as rp

COMMAND = re.compile(rb"((?:[^'\\\n]++|'[^']*+'|\\.)*+)\n", re.DOTALL)
WORD = re.compile(rb"(?:[^\s'\\]++|'[^']*+'|\\.)++", re.DOTALL)
PIECE = re.compile(rb"'([^']*+)'|\\(.)", re.DOTALL)
ID = re.compile(r"[0-9a-f]{32}")
READ = re.compile(rb"SSHQ-READ (\S+) error")


@cache
def prologue() -> bytes:
    """What every bootstrap begins with: the program and the commands for jobs."""
    whole = rp.encode_bootstrap(nonce="x", store_id="y")
    return whole[: whole.rindex(b"boot 'x' 'y'")]


def split_words(command: bytes) -> list[str]:
    words = (PIECE.sub(lambda m: m[1] if m[1] is not None else m[2], w) for w in WORD.findall(command))
    return [w.decode("utf-8", "surrogateescape") for w in words]
