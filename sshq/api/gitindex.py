"""Whether the tracked files of a work tree are those of its commit: the index read as git reads it, within a bound.

As git, a file whose size, time and inode are the index's is taken as unchanged; of any other, and of one that was written so
late that its time proves nothing, the content decides.  Untracked files do not count, submodules are not entered.
"""

import os
import time

from sshq.api.gitfacts import Repository, read_bounded
from sshq.core.gitindex import GITLINK, Index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Hash(Protocol):
        """What both kinds do."""

        def update(self, data: bytes, /) -> None: ...
        def digest(self) -> bytes: ...
        def hexdigest(self) -> str: ...


SHA1_BYTES = 20
INDEX_BYTES_MAX = 1 << 20
LOOK_EVERY = 32  # entries between two looks at the clock
WAITS = 8  # on a busy machine, or for a file server, it may take so many times as long by the clock
READ_BYTES_MAX = 4 << 20  # of files whose content decides
COMMIT_BYTES_MAX = 1 << 20
HEAD_BYTES = 512  # a commit begins with its tree
PACKS_MAX = 20

_LINK, _ASSUMED, _STAGE = 0o120000, 0x8000, 0x3000
_SKIPPED, _INTENDED = 0x4000, 0x2000


class _Look:
    """One look at all files of an index."""

    def __init__(self, repository: Repository, written_at: float, look_s: float, width: int) -> None:
        self.top = repository.top.rstrip("/")
        self.config = f"{repository.common}/config"
        self.written_at = written_at  # of the index
        self.cpu_ends_at = time.process_time() + look_s
        self.ends_at = time.monotonic() + WAITS * look_s
        self.width = width  # of an object's name, in bytes
        self.left = READ_BYTES_MAX
        self.changed = False
        self.whole = True  # every file's content is known
        self.digest = _new_hash("sha256")
        self.modes_count: bool | None = None

    def run(self, index: Index) -> bool:
        """Look at each entry; False if that took too long."""
        for number, (path, name, about, flags, more) in enumerate(index):
            if number % LOOK_EVERY == LOOK_EVERY - 1 and self._is_late():
                return False
            self._judge(path, name, about, flags, more)
        return True

    def _is_late(self) -> bool:
        return time.process_time() > self.cpu_ends_at or time.monotonic() > self.ends_at

    def _judge(self, path: bytes, name: bytes, about: "tuple[int, ...]", flags: int, more: int) -> None:
        mode = about[6]
        if flags & _STAGE or more & _INTENDED:
            self.changed = True
        elif not flags & _ASSUMED and not more & _SKIPPED and mode != GITLINK:
            name = self._look_at(path, name, about)
        self.digest.update(b"%o %s\0%s" % (mode, path, name))

    def _look_at(self, path: bytes, name: bytes, about: "tuple[int, ...]") -> bytes:
        """Return the name of the content that lies there, b"" for none and for one that was not read."""
        ctime_s, ctime_ns, mtime_s, mtime_ns, _, inode, mode, _, _, size = about
        place = os.fsencode(self.top) + b"/" + path
        try:
            found = os.lstat(place)
        except OSError:
            self.changed = True
            return b""
        kind = found.st_mode & 0o170000
        if kind != mode & 0o170000 or (kind == 0o100000 and (found.st_mode ^ mode) & 0o100 and self._has_modes()):
            self.changed = True
        elif found.st_size & 0xFFFFFFFF == size:
            same_time = _is_time(found.st_mtime_ns, mtime_s, mtime_ns) and _is_time(found.st_ctime_ns, ctime_s, ctime_ns)
            if same_time and inode in (0, found.st_ino & 0xFFFFFFFF) and found.st_mtime < self.written_at:
                return name
        content = self._name_content(place, found.st_size, link=kind == _LINK)
        if content is None:
            self.whole = False
            self.changed |= found.st_size & 0xFFFFFFFF != size
            return b""
        self.changed |= content != name
        return content

    def _name_content(self, place: bytes, size: int, *, link: bool) -> bytes | None:
        if size > self.left:
            return None
        self.left -= size
        try:
            data = os.readlink(place) if link else read_bounded(os.fsdecode(place), READ_BYTES_MAX)
        except (OSError, ValueError):
            return None
        made = _new_hash("sha1" if self.width == SHA1_BYTES else "sha256")
        made.update(b"blob %d\0" % len(data))
        made.update(data)
        return made.digest()

    def _has_modes(self) -> bool:
        """Whether the file system keeps the bit that makes a file a program: git notes where it does not."""
        if self.modes_count is None:
            try:
                config = read_bounded(self.config, 1 << 20).lower().replace(b" ", b"")
            except (OSError, ValueError):
                config = b""
            self.modes_count = b"filemode=false" not in config
        return self.modes_count


def read_state(repository: Repository, commit: str, look_s: float) -> dict[str, str]:
    """Return `state`, and `files` where the content of all tracked files is known; `problem` says why it is not.

    Raises:
        OSError, ValueError: the index cannot be read.
    """
    path = f"{repository.own}/index"
    try:
        written_at = os.stat(path).st_mtime
        data = read_bounded(path, INDEX_BYTES_MAX)
    except FileNotFoundError:
        return {"state": "unknown", "problem": "nothing is checked out"}
    except ValueError:
        return {"state": "unknown", "problem": "too many files to be looked at"}
    width = len(commit) // 2
    look = _Look(repository, written_at, look_s, width)
    index = Index(data, width)
    in_time = look.run(index)
    extensions = index.extensions() if in_time else {}
    if b"link" in extensions or b"sdir" in extensions:
        return {"state": "unknown", "problem": "the index is split or sparse"}
    facts = {"files": look.digest.hexdigest()} if in_time and look.whole else {}
    if look.changed:
        return facts | {"state": "changed"}
    if not in_time:
        return {"state": "unknown", "problem": "looking at all files would have taken too long"}
    if not look.whole:
        return {"state": "unknown", "problem": "some files are too large to be compared"}
    tree = _read_cached_tree(extensions.get(b"TREE", b""), width)
    wanted = _read_tree_of(repository, commit)
    if tree is None or wanted is None:  # then what was added and not yet committed cannot be told
        return facts | {"state": "unknown", "problem": "files are as in the index, which was not compared with the commit"}
    return facts | {"state": "clean" if tree == wanted else "changed"}


def _is_time(found_ns: int, at_s: int, at_ns: int) -> bool:
    """Whether a time is the one that was noted, maybe without its fraction."""
    whole_s, rest_ns = divmod(found_ns, 1_000_000_000)
    return whole_s & 0xFFFFFFFF == at_s and at_ns in (0, rest_ns)


def _read_cached_tree(data: bytes, width: int) -> str | None:
    """Return the tree that the whole index is, None where something was added since that was known."""
    if not data.startswith(b"\0"):
        return None
    head, newline, rest = data[1:].partition(b"\n")
    if not newline or head.startswith(b"-") or len(rest) < width:
        return None
    return rest[:width].hex()


def _read_tree_of(repository: Repository, commit: str) -> str | None:
    """Return the tree of a commit, None where that is not read here."""
    import zlib

    objects = f"{repository.common}/objects"
    packed: bytes | None
    try:
        packed = read_bounded(f"{objects}/{commit[:2]}/{commit[2:]}", COMMIT_BYTES_MAX)
    except (OSError, ValueError):
        packed = _find_packed(objects, bytes.fromhex(commit))
    if packed is None:
        return None
    try:
        text = zlib.decompressobj().decompress(packed, HEAD_BYTES)
    except zlib.error:
        return None
    body = text.partition(b"\0")[2] if text.startswith(b"commit ") else text
    if not body.startswith(b"tree "):
        return None
    return body[5:].partition(b"\n")[0].decode("ascii", "replace")


def _find_packed(objects: str, name: bytes) -> bytes | None:
    """Return the compressed commit from a pack, None where it is in none, or kept there as a difference."""
    try:
        packs = [one for one in os.listdir(f"{objects}/pack") if one.endswith(".idx")]
    except OSError:
        return None
    for pack in packs[:PACKS_MAX]:
        try:
            file = os.open(f"{objects}/pack/{pack}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                at = _find_in_index(file, name)
            finally:
                os.close(file)
            if at is None:
                continue
            file = os.open(f"{objects}/pack/{pack[:-4]}.pack", os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = os.pread(file, 4096, at)
            finally:
                os.close(file)
        except (OSError, OverflowError):  # the place that a damaged index names is none
            continue
        if not data:
            continue
        kind, skip = (data[0] >> 4) & 7, 1
        while skip <= min(10, len(data)) and data[skip - 1] & 0x80:
            skip += 1
        return data[skip:] if kind == 1 else None
    return None


def _find_in_index(file: int, name: bytes) -> int | None:
    """Return where a pack has an object, None where it has not; of indexes of version 2."""
    if os.pread(file, 8, 0) != b"\377tOc\0\0\0\2":
        return None

    def number(at: int, width: int = 4) -> int:
        return int.from_bytes(os.pread(file, width, at), "big")

    table = 8
    low = number(table + 4 * (name[0] - 1)) if name[0] else 0
    high, count = number(table + 4 * name[0]), number(table + 4 * 255)
    names = table + 4 * 256
    while low < high:
        middle = (low + high) // 2
        found = os.pread(file, len(name), names + middle * len(name))
        if found == name:
            offset = number(names + count * (len(name) + 4) + 4 * middle)
            if not offset & 0x80000000:
                return offset
            return number(names + count * (len(name) + 8) + 8 * (offset & 0x7FFFFFFF), 8)
        if found < name:
            low = middle + 1
        else:
            high = middle
    return None


def _new_hash(name: str) -> "Hash":
    """Return a new sha1 or sha256.  `hashlib` loads OpenSSL, which takes as long as all of this; the interpreter has its own."""
    for module in (f"_{name}", "_sha2", "hashlib"):  # sha256 is in _sha256 up to Python 3.11, in _sha2 since
        try:
            made: Hash = getattr(__import__(module), name)()
        except (ImportError, AttributeError):
            continue
        return made
    raise ValueError(f"this Python has no {name}")
