"""Network file system identity: what a directory of one machine is to a server, read from /proc/self/mountinfo.

A hint, never a proof: two networks may have each a server 192.168.1.1 with an export /home, and a server may hide who it is.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

MOUNTINFO_BYTES_MAX: Final = 8 << 20
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")
_LOOPBACK: Final = re.compile(r"localhost.*|127\..*|::1|0\.0\.0\.0")
# How the source of a mount names server and place; types that name no server tell nothing.
_NAMED: Final = {
    "nfs": ":", "nfs4": ":", "ceph": ":", "lustre": ":", "fuse.glusterfs": ":", "fuse.sshfs": ":", "cifs": "//", "smb3": "//",
    "smbfs": "//",
}  # fmt: skip
_NAMELESS: Final = (
    "beegfs", "gpfs", "mmfs", "afs", "openafs", "9p", "virtiofs", "pvfs2", "orangefs", "coda", "autofs", "ocfs2", "gfs2", "panfs",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mount:
    """One line: `root` is what of the file system is mounted at `point`."""

    number: int
    parent: int
    root: str
    point: str
    fstype: str
    source: str
    options: str


@dataclass(frozen=True, slots=True)
class Identity:
    """What a directory is: on a server, on a network file system that does not name its server, or on this machine (`local`)."""

    fstype: str
    source: str
    server: str = ""  # lower case; "" where none is named
    address: str = ""  # as the kernel knows it
    path: str = ""  # on the server
    local: bool = False

    @property
    def is_known(self) -> bool:
        return bool(self.server)

    def __str__(self) -> str:
        """`nfs4 fs:/export/home`, for people."""
        if not self.is_known:
            return f"{self.fstype} {self.source}"
        form = "{} //{}{}" if _NAMED[self.fstype] == "//" else "{} {}:{}"
        return form.format(self.fstype, self.server, self.path)


class Match(Enum):
    """What two identities say of two directories."""

    SAME = "same"
    OTHER = "other"
    UNKNOWN = "unknown"


def parse_mountinfo(text: str) -> list[Mount]:
    """Return the mounts, in their order; lines that are none are passed over."""
    found = []
    for line in text.split("\n"):
        before, dash, after = line.partition(" - ")
        words, rest = before.split(" "), after.split(" ")
        if not dash or len(words) < 6 or len(rest) < 2 or not (words[0].isdecimal() and words[1].isdecimal()):
            continue
        root, point, source = (_ESCAPE.sub(lambda code: chr(int(code[1], 8)), word) for word in (words[3], words[4], rest[1]))
        found.append(Mount(int(words[0]), int(words[1]), root, point, rest[0], source, ",".join(rest[2:])))
    return found


def find_mount(mounts: Sequence[Mount], path: str) -> Mount | None:
    """Return the mount that a physical path lies on: down from the root, so that what another lies over does not count."""
    ways = [mount for mount in mounts if _holds(mount.point, path)]
    numbers = {mount.number for mount in ways}
    tops = [mount for mount in ways if mount.parent not in numbers or mount.parent == mount.number]
    if not tops:
        return None
    # Of several tops (seen from a chroot) the nearest; one that was mounted later lies over one at the same place.
    here = max(tops, key=lambda mount: len(mount.point))
    here = [mount for mount in tops if mount.point == here.point][-1]
    for _ in ways:  # the table is another machine's word: one that leads in a circle must end, too
        below = [mount for mount in ways if mount.parent == here.number and mount.number != here.number]
        if not below:
            break
        first = min(len(mount.point) for mount in below)
        here = [mount for mount in below if len(mount.point) == first][-1]
    return here


def identify(mounts: Sequence[Mount], path: str) -> Identity | None:
    """Return what a physical path is; None where the table does not tell."""
    mount = find_mount(mounts, path)
    if mount is None:
        return None
    fstype, source = mount.fstype, mount.source
    if fstype in _NAMED:
        return _identify_named(mount, path)
    is_remote = fstype.startswith(("fuse.", "nfs")) or any(fstype.startswith(name) for name in _NAMELESS)
    return Identity(fstype, source, local=not is_remote)


def _identify_named(mount: Mount, path: str) -> Identity:
    mark, source = _NAMED[mount.fstype], mount.source
    if mark == "//":
        server, _, place = source.replace("\\", "/").removeprefix("//").partition("/")
        place = place.lower()
    elif source.startswith("["):
        server, _, place = source[1:].partition("]:")
    elif mount.fstype == "ceph" and "=" in source:  # user@fsid.name=/path
        server, _, place = source.partition("=")
        server = server.rpartition("@")[2]
    else:
        server, _, place = source.rpartition(":/") if ":/" in source else source.rpartition(":")
    server = server.rpartition("@")[2] if mount.fstype == "fuse.sshfs" else server
    if mount.fstype == "ceph" and "=" not in source:
        server = ",".join(sorted(server.split(",")))
    server = server.lower().rstrip(".")
    if not server or _LOOPBACK.fullmatch(server):
        return Identity(mount.fstype, source)
    below = "" if path == mount.point else path[len(mount.point.rstrip("/")) :]
    parts = [part for part in f"{place}/{mount.root}/{below}".split("/") if part]
    address = next((word[5:] for word in mount.options.split(",") if word.startswith("addr=")), "")
    return Identity(mount.fstype, source, server, "" if _LOOPBACK.fullmatch(address) else address, "/" + "/".join(parts))


def compare(one: Identity | None, other: Identity | None) -> Match:
    """Return whether two directories of two machines are one.

    SAME needs the same kind of file system, server and place.  A server by another name or address may be the same one all the
    same, and so may another place of it (a pseudo root, a directory exported twice): OTHER is as little a proof.
    """
    if one is None or other is None:
        return Match.UNKNOWN
    if one.local or other.local:
        return Match.OTHER
    if not (one.is_known and other.is_known):
        return Match.UNKNOWN
    if (one.fstype, one.path) != (other.fstype, other.path):
        return Match.OTHER
    if one.address and other.address:
        return Match.SAME if one.address == other.address else Match.OTHER
    return Match.SAME if one.server == other.server else Match.OTHER


def _holds(point: str, path: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")
