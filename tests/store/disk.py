"""A disk that loses power: every write, sync, rename recorded; then what the disk may hold if the power went at any of them.

The rules are those a program may count on, and no more.  What was written to a file and not synced is there, or not, or
in part, each sector of 512 bytes for itself and in any order.  Names in one directory come to the disk in the order they
were made, up to some point after the last sync of that directory; syncing a file does not sync its name.  What a failed sync was to
write can be read as long as the power is on, and no later sync brings it to the disk.
"""

import contextlib
import os
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from store.vfs import CREATE, MAIN_JOURNAL, SUPER_JOURNAL, WAL, TappedVfs

SECTOR = 512


@dataclass(frozen=True, slots=True)
class Op:
    """One thing that happened: `word`, the file or directory it happened to, and what belongs to it."""

    word: str  # write, truncate, sync, badsync, whole, link, unlink, rename, syncdir, mkdir, note
    path: str
    number: int = 0
    data: bytes = b""
    other: str = ""


class Recorder:
    """While its `with` block runs, all that this process does below `root` is noted, in order."""

    def __init__(
        self, root: Path, *, sync: bool = False, known: list[Op] | None = None,
        fail: Callable[[str, str], int] = lambda _word, _path: 0,
    ) -> None:  # fmt: skip
        self.root = f"{os.path.realpath(root)}/"
        self.ops: list[Op] = [] if known is None else known
        self.start = 0  # so many of them say what was there before
        self._sync, self._fail = sync, fail
        self._dirty_names: set[str] = set()  # journals whose name SQLite syncs with their first bytes
        self._lock = threading.RLock()
        self._stack = contextlib.ExitStack()
        self._real = {
            name: getattr(os, name) for name in ("open", "fsync", "fdatasync", "rename", "replace", "unlink", "remove", "mkdir")
        }

    def __enter__(self) -> "Recorder":
        for folder, folders, files in os.walk(self.root) if not self.ops else ():  # what is there already is on the disk
            for name in folders:
                self._add("mkdir", os.path.join(folder, name))
            for name in files:
                path = os.path.join(folder, name)
                self._add("link", path)
                self._add("whole", path, 1, Path(path).read_bytes())
            self._add("syncdir", os.path.realpath(folder))
        self.start = len(self.ops)
        self._stack.enter_context(TappedVfs(self._before, self._after, sync=self._sync))
        for name in self._real:
            setattr(os, name, getattr(self, f"_os_{name}"))
        self._stack.callback(lambda: [setattr(os, name, real) for name, real in self._real.items()])
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def note(self, text: str) -> None:
        """What was promised to somebody at this point."""
        self._add("note", text)

    def _add(self, word: str, path: str, number: int = 0, data: bytes = b"", other: str = "") -> None:
        with self._lock:
            self.ops.append(Op(word, self._inside(path), number, data, self._inside(other)))

    def _inside(self, path: str) -> str:
        return f"{path}/".removeprefix(self.root).rstrip("/") if path.startswith("/") else path

    def _ours(self, path: object) -> str:
        """The real path if it is below root, else nothing."""
        if not isinstance(path, (str, bytes, os.PathLike)):
            return ""
        full = os.path.abspath(os.fsdecode(path))
        return full if f"{full}/".startswith(self.root) else ""

    # ---- SQLite's calls ----------------------------------------------------------------------------------------------

    def _before(self, word: str, path: str, number: int, _data: bytes) -> int:
        if word == "open" and number & CREATE and self._ours(path) and not os.path.exists(path):
            self._add("link", path)
            if number & (MAIN_JOURNAL | SUPER_JOURNAL | WAL):
                self._dirty_names.add(path)
        failed = self._fail(word, path)
        if failed and word == "sync":
            self._add("badsync", path)
        return failed

    def _after(self, word: str, path: str, number: int, data: bytes) -> int:
        if not self._ours(path):
            return 0
        if word == "open":  # somebody may have filled it by other means: a copy
            self._add("whole", path, 0, Path(path).read_bytes())
        if word in ("write", "truncate", "sync"):
            self._add(word, path, number, data)
            if word == "sync" and path in self._dirty_names:
                self._dirty_names.discard(path)
                self._add("syncdir", os.path.dirname(path))
        elif word == "delete":
            self._add("unlink", path)
            self._dirty_names.discard(path)
            if number:
                self._add("syncdir", os.path.dirname(path))
        return 0

    # ---- ours --------------------------------------------------------------------------------------------------------

    def _os_open(self, path, flags, mode=0o777, **more):
        if flags & os.O_CREAT and self._ours(path) and not os.path.lexists(path):
            self._add("link", self._ours(path))
        return self._real["open"](path, flags, mode, **more)

    def _os_fsync(self, fd):
        path = os.path.realpath(f"/proc/self/fd/{fd}")
        ours = self._ours(path)
        if self._sync or not ours:
            self._real["fsync"](fd)
        if ours and os.path.isdir(path):
            self._add("syncdir", path)
        elif ours:
            self._add("whole", path, 1, Path(path).read_bytes())

    _os_fdatasync = _os_fsync

    def _os_rename(self, source, target, **more):
        old, new = self._ours(source), self._ours(target)
        if old and os.path.isfile(old):  # what nobody synced, as far as it was not seen being written
            self._add("whole", old, 0, Path(old).read_bytes())
        self._real["rename"](source, target, **more)
        if old and new:
            self._add("rename", old, other=new)

    _os_replace = _os_rename

    def _os_unlink(self, path, **more):
        self._real["unlink"](path, **more)
        if self._ours(path):
            self._add("unlink", self._ours(path))

    _os_remove = _os_unlink

    def _os_mkdir(self, path, mode=0o777, **more):
        self._real["mkdir"](path, mode, **more)
        if self._ours(path):
            self._add("mkdir", self._ours(path))


# ---- what is left --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Content:
    """A file: what is certainly on the disk, and what came since."""

    durable: bytes = b""
    pending: list[Op] = field(default_factory=list)
    current: bytearray = field(default_factory=bytearray)


@dataclass(slots=True)
class _Folder:
    durable: dict[str, object] = field(default_factory=dict)  # a _Content, or None for a directory
    pending: list[dict[str, object]] = field(default_factory=list)  # what changes at once: name and what, or _GONE

    def names(self, count: int) -> dict[str, object]:
        found = dict(self.durable)
        for change in self.pending[:count]:
            found |= change
        return {name: what for name, what in found.items() if what is not _GONE}


_GONE = object()


class Disk:
    """Fed with ops; can be asked at any time what it would show after a power cut."""

    def __init__(self) -> None:
        self.folders: dict[str, _Folder] = {"": _Folder()}
        self.promises: list[str] = []

    def feed(self, op: Op) -> None:
        folder, _, name = op.path.rpartition("/")
        match op.word:
            case "note":
                self.promises.append(op.path)
            case "mkdir":
                self.folders[op.path] = _Folder()
                self.folders[folder].pending.append({name: None})
            case "link":
                self.folders[folder].pending.append({name: _Content()})
            case "unlink":
                self.folders[folder].pending.append({name: _GONE})
            case "rename":
                what = self._now(op.path)
                other, _, new = op.other.rpartition("/")
                if other == folder:
                    self.folders[folder].pending.append({name: _GONE, new: what})
                else:
                    self.folders[folder].pending.append({name: _GONE})
                    self.folders[other].pending.append({new: what})
            case "syncdir":
                found = self.folders[op.path]
                found.durable = found.names(len(found.pending))
                found.pending.clear()
            case _:
                self._feed_content(self._now(op.path), op)

    def _now(self, path: str) -> _Content:
        folder, _, name = path.rpartition("/")
        found = self.folders[folder]
        what = found.names(len(found.pending)).get(name)
        if not isinstance(what, _Content):  # made by somebody else: a copy, a touch
            what = _Content()
            found.pending.append({name: what})
        return what

    @staticmethod
    def _feed_content(file: _Content, op: Op) -> None:
        if op.word == "whole":
            if bytes(file.current) != op.data:
                file.pending.append(Op("whole", op.path, 0, op.data))
                file.current[:] = op.data
        elif op.word == "badsync":  # the kernel keeps the pages as if they were written, and never writes them again
            file.pending.clear()
        elif op.word != "sync":
            file.pending.append(op)
            _apply(file.current, op)
        if op.word == "sync" or (op.word == "whole" and op.number):
            durable = bytearray(file.durable)
            for waiting in file.pending:
                _apply(durable, waiting)
            file.durable = bytes(durable)
            file.pending.clear()

    def show(self, target: Path, chance: random.Random, *, writes: float, names: float) -> None:
        """Write out one thing the disk may show.

        Each unsynced sector is there with the chance `writes`; of unsynced names none, all, or (between 0 and 1) the first few.
        """
        self._show_folder("", target, chance, writes, names)

    def _show_folder(self, path: str, target: Path, chance: random.Random, writes: float, names: float) -> None:
        target.mkdir(mode=0o700)
        folder = self.folders[path]
        count = len(folder.pending)
        reached = count if names >= 1 else 0 if names <= 0 else chance.randint(0, count)
        for name, what in folder.names(reached).items():
            if what is None:
                inner = f"{path}/{name}" if path else name
                self._show_folder(inner, target / name, chance, writes, names)
            else:
                (target / name).write_bytes(_survivor(what, chance, writes))
                (target / name).chmod(0o600)


def _apply(data: bytearray, op: Op) -> None:
    if op.word == "truncate":
        del data[op.number :]
        data.extend(bytes(op.number - len(data)))
    elif op.word == "whole":
        data[:] = op.data
    else:
        if len(data) < op.number:
            data.extend(bytes(op.number - len(data)))
        data[op.number : op.number + len(op.data)] = op.data


def _survivor(file: _Content, chance: random.Random, share: float) -> bytes:
    if not file.pending or share <= 0:
        return file.durable
    data = bytearray(file.durable)
    for op in file.pending:
        if op.word in ("truncate", "whole"):
            if chance.random() < share:
                _apply(data, op)
            continue
        for start in range(0, len(op.data), SECTOR):
            if chance.random() < share:
                _apply(data, Op("write", op.path, op.number + start, op.data[start : start + SECTOR]))
    return bytes(data)


def replay(ops: list[Op]) -> Iterator[tuple[int, Disk]]:
    """The disk after each op."""
    disk = Disk()
    yield 0, disk
    for number, op in enumerate(ops, 1):
        disk.feed(op)
        yield number, disk
