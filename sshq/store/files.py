"""What the store asks of the file system: locality, privacy, and bytes that survive a power cut."""

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from sshq.errors import StoreError

# Where locks, shared memory or fsync are not what they are on a local disk (names as in mountinfo).
_SHARED: Final = frozenset({
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "9p", "afs", "coda", "ceph", "lustre", "gpfs", "beegfs",
    "panfs", "pvfs2", "orangefs", "ocfs2", "gfs2", "davfs", "davfs2",
})  # fmt: skip
_SHARED_FUSE: Final = frozenset({"sshfs", "glusterfs", "ceph", "ceph-fuse", "rclone", "s3fs", "davfs2"})
_MOUNTINFO: Final = "/proc/self/mountinfo"


def parse_filesystem(path: str, mountinfo: str) -> str:
    """Return the type of the file system that holds the absolute `path`, "" where the text does not say."""
    best, kind = -1, ""
    for line in mountinfo.splitlines():
        before, dash, after = line.partition(" - ")
        if not dash:
            continue
        escaped = before.split(" ")[4]  # \040 is a space
        point = escaped.encode("ascii", "backslashreplace").decode("unicode_escape")
        root = point.rstrip("/")
        # At equal length the later mount hides the earlier.
        if (path == point or path.startswith(root + "/")) and len(root) >= best:
            best, kind = len(root), after.split(" ")[0]
    return kind


def refuse_shared(directory: Path, mountinfo: str | None = None, *, forced: bool = False) -> None:
    """Raise StoreError where `directory` is on a network file system, unless its owner takes the risk (`forced`)."""
    if forced:
        return
    if mountinfo is None:
        try:
            mountinfo = Path(_MOUNTINFO).read_text(encoding="utf-8", errors="backslashreplace")
        except OSError:  # not Linux: nothing is known, nothing is refused
            return
    kind = parse_filesystem(os.path.realpath(directory), mountinfo)
    if kind in _SHARED or kind.removeprefix("fuse.") in _SHARED_FUSE:
        raise StoreError(
            f"{directory} is on a network file system ({kind}), the store needs a local disk",
            detail=(
                "A lock or an fsync there can be lost, and with it an accepted job.",
                "To take that risk: state_on_network: true in config.yaml.",
            ),
            hint="sshq up --state DIR",
        )


def make_private(directory: Path) -> None:
    """Make `directory` 0700 and ours, or raise StoreError.  A new one survives a power cut."""
    make_directory(directory)
    found = directory.lstat()
    if not directory.is_dir() or found.st_uid != os.geteuid():
        raise StoreError(
            f"{directory} is not a directory of uid {os.geteuid()}",
            detail=(f"It belongs to uid {found.st_uid}; whoever owns it could replace the store.",),
            hint="sshq up --state DIR",
        )
    if found.st_mode & 0o077:
        directory.chmod(0o700)


def make_directory(directory: Path) -> None:
    """Make `directory` and those above it, as far as they are missing, and their names durable."""
    missing = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in missing:
        sync_directory(folder.parent)


def is_full(error: OSError) -> bool:
    """Whether there was no room, rather than something broken."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` survive a power cut."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Make the content of `path`, if there is such a file, survive a power cut."""
    with suppress(FileNotFoundError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_durably(path: Path, data: bytes) -> None:
    """Make `path` a 0600 file of `data`: all of it or nothing, and on the disk when this returns."""
    aside = path.with_name(f".new.{os.getpid()}.{path.name}")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with open(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(handle)
        os.rename(aside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(aside)
        raise
    sync_directory(path.parent)
