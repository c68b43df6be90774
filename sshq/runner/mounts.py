"""The question of `mounts.sh`: what is written to a channel of its own, and how its answer reads.  Pure."""

import calendar
import re
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sshq.core.mounts import Identity, identify, parse_mountinfo
from sshq.runner.calls import quote
from sshq.runner.commands import strip_comments

_TIME = re.compile(r"(\d+) (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:\.(\d{9}))? \+0000")


@dataclass(frozen=True, slots=True)
class Place:
    """A directory as its machine has it: `present` if it is one; inode and change time in ns, 0 where not told."""

    present: bool = False
    identity: Identity | None = None
    inode: int = 0
    changed_ns: int = 0

    def looks_as(self, other: "Place") -> bool:
        """Whether inode and change time are the other's, to the nanosecond: a server tells both to all."""
        known = self.inode and self.changed_ns % 1_000_000_000
        return bool(known) and (self.inode, self.changed_ns) == (other.inode, other.changed_ns)


@cache
def _program() -> bytes:
    return strip_comments(Path(__file__).with_name("mounts.sh").read_bytes())


def encode_question(nonce: str, path: str) -> bytes:
    """Return the input of a shell that tells of a directory.  ValueError for a path that cannot be told in lines."""
    if "\n" in path or "\0" in path:
        raise ValueError("a line's end in its name")
    return _program() + b"\ntell_mounts " + quote(nonce) + b" " + quote(path) + b"\n"


def is_whole(data: bytes, nonce: str) -> bool:
    """Return whether an answer has come as a whole."""
    return f"\nend {nonce}\n".encode() in data


def parse_answer(data: bytes, nonce: str) -> Place:
    """Return what a whole answer says."""
    text = data.decode("utf-8", "surrogateescape")
    body = text.partition(f"\nSSHQ-MNT {nonce}\n")[2].partition(f"end {nonce}\n")[0]
    at, _, rest = body.partition("\n")
    if not at.startswith("at /"):
        return Place()
    told, _, table = rest.partition("\n")
    found = _TIME.fullmatch(told.removeprefix("is "))
    inode, changed_ns = 0, 0
    if found is not None:
        inode, seconds = int(found[1]), calendar.timegm(time.strptime(found[2], "%Y-%m-%d %H:%M:%S"))
        changed_ns = seconds * 1_000_000_000 + int(found[3] or 0)
    return Place(present=True, identity=identify(parse_mountinfo(table), at[3:]), inode=inode, changed_ns=changed_ns)
