"""SQLite's own calls to the disk, seen and broken: a VFS inside the very library that Python's sqlite3 uses.

It is a copy of the default VFS whose files get a table of methods with four entries of ours (write, truncate, sync,
close); reads, locks and shared memory go to the original as before.  Made by ctypes, so nothing is compiled and the
store's code runs unchanged.
"""

import _sqlite3
import ctypes
from collections.abc import Callable
from typing import Final

POINTER, INT = ctypes.c_void_p, ctypes.c_int
MAIN_JOURNAL, SUPER_JOURNAL, WAL, CREATE = 0x800, 0x4000, 0x80000, 0x4
IOERR_WRITE, IOERR_FSYNC, IOERR_TRUNCATE, FULL = 10 | 3 << 8, 10 | 4 << 8, 10 | 6 << 8, 13

_METHODS: Final = (
    "xClose", "xRead", "xWrite", "xTruncate", "xSync", "xFileSize", "xLock", "xUnlock", "xCheckReservedLock", "xFileControl",
    "xSectorSize", "xDeviceCharacteristics", "xShmMap", "xShmLock", "xShmBarrier", "xShmUnmap", "xFetch", "xUnfetch",
)  # fmt: skip
_VFS_CALLS: Final = (
    "xOpen", "xDelete", "xAccess", "xFullPathname", "xDlOpen", "xDlError", "xDlSym", "xDlClose", "xRandomness", "xSleep",
    "xCurrentTime", "xGetLastError", "xCurrentTimeInt64", "xSetSystemCall", "xGetSystemCall", "xNextSystemCall",
)  # fmt: skip


class Methods(ctypes.Structure):
    _fields_ = [("iVersion", INT), *((name, POINTER) for name in _METHODS)]


class Vfs(ctypes.Structure):
    _fields_ = [
        ("iVersion", INT), ("szOsFile", INT), ("mxPathname", INT), ("pNext", POINTER), ("zName", ctypes.c_char_p),
        ("pAppData", POINTER), *((name, POINTER) for name in _VFS_CALLS),
    ]  # fmt: skip


class File(ctypes.Structure):
    _fields_ = [("pMethods", ctypes.POINTER(Methods))]


_CLOSE = ctypes.CFUNCTYPE(INT, ctypes.POINTER(File))
_WRITE = ctypes.CFUNCTYPE(INT, ctypes.POINTER(File), POINTER, INT, ctypes.c_int64)
_TRUNCATE = ctypes.CFUNCTYPE(INT, ctypes.POINTER(File), ctypes.c_int64)
_SYNC = ctypes.CFUNCTYPE(INT, ctypes.POINTER(File), INT)
_OPEN = ctypes.CFUNCTYPE(INT, ctypes.POINTER(Vfs), POINTER, ctypes.POINTER(File), INT, ctypes.POINTER(INT))
_DELETE = ctypes.CFUNCTYPE(INT, ctypes.POINTER(Vfs), POINTER, INT)

# What a call is about to do: its word, the path, offset (or size, or flags), the bytes.  Not 0: it fails with that code.
Watch = Callable[[str, str, int, bytes], int]


_KEPT: Final[list["TappedVfs"]] = []  # for ever: a connection that a failed test left open still points into it


class TappedVfs:
    """Registered as the default while the `with` block runs; `watch` is asked before each call, `done` told after it."""

    def __init__(self, watch: Watch, done: Watch | None = None, *, sync: bool = True) -> None:
        self.watch, self.done, self.sync = watch, done or (lambda *_: 0), sync
        library = ctypes.CDLL(_sqlite3.__file__)
        library.sqlite3_vfs_find.restype = ctypes.POINTER(Vfs)
        library.sqlite3_vfs_find.argtypes = [ctypes.c_char_p]
        library.sqlite3_vfs_register.argtypes = [ctypes.POINTER(Vfs), INT]
        self.library = library
        self.original = library.sqlite3_vfs_find(None)
        self.paths: dict[int, tuple[str, int]] = {}
        self.tables: dict[int, Methods] = {}
        self.real: dict[int, Methods] = {}  # the original table of an open file
        self.vfs = Vfs.from_buffer_copy(self.original.contents)
        self.vfs.zName = b"sshq-test-tap"
        self.open = _OPEN(self._open)
        self.delete = _DELETE(self._delete)
        self.vfs.xOpen, self.vfs.xDelete = (ctypes.cast(f, POINTER).value for f in (self.open, self.delete))
        self.calls = {
            "xClose": _CLOSE(self._close), "xWrite": _WRITE(self._write), "xTruncate": _TRUNCATE(self._truncate), "xSync": _SYNC(self._sync),
        }  # fmt: skip

    def __enter__(self) -> "TappedVfs":
        _KEPT.append(self)
        assert self.library.sqlite3_vfs_register(ctypes.byref(self.vfs), 1) == 0
        return self

    def __exit__(self, *_: object) -> None:
        self.library.sqlite3_vfs_register(self.original, 1)

    # ---- what SQLite calls -------------------------------------------------------------------------------------------

    def _open(self, vfs, name, file, flags, out_flags) -> int:
        path = "" if name is None else ctypes.string_at(name).decode()
        failed = path and self.watch("open", path, flags, b"")
        if failed:
            return failed
        status = _OPEN(self.original.contents.xOpen)(vfs, name, file, flags, out_flags)
        if status == 0 and path:
            address = ctypes.addressof(file.contents)
            self.paths[address] = (path, flags)
            self.real[address] = file.contents.pMethods.contents
            file.contents.pMethods = ctypes.pointer(self._table(file.contents.pMethods))
            self.done("open", path, flags, b"")
        return status

    def _table(self, original) -> Methods:
        """Our table for one of the original's: the same but for four entries; kept, as open files point to it."""
        key = ctypes.addressof(original.contents)
        if key not in self.tables:
            table = Methods.from_buffer_copy(original.contents)
            for name, function in self.calls.items():
                setattr(table, name, ctypes.cast(function, POINTER).value)
            self.tables[key] = table
        return self.tables[key]

    def _close(self, file) -> int:
        address = ctypes.addressof(file.contents)
        path, flags = self.paths.pop(address)
        status = _CLOSE(self.real.pop(address).xClose)(file)
        self.done("close", path, flags, b"")
        return status

    def _write(self, file, data, count, offset) -> int:
        return self._pass("write", file, offset, ctypes.string_at(data, count), "xWrite", _WRITE, (data, count, offset))

    def _truncate(self, file, size) -> int:
        return self._pass("truncate", file, size, b"", "xTruncate", _TRUNCATE, (size,))

    def _sync(self, file, flags) -> int:
        return self._pass("sync", file, flags, b"", "xSync", _SYNC, (flags,))

    def _pass(self, word, file, number, data, method, kind, arguments) -> int:
        address = ctypes.addressof(file.contents)
        path, _flags = self.paths[address]
        status = self.watch(word, path, number, data)
        if status == 0 and (word != "sync" or self.sync):
            status = kind(getattr(self.real[address], method))(file, *arguments)
        if status == 0:
            self.done(word, path, number, data)
        return status

    def _delete(self, vfs, name, sync_directory) -> int:
        path = ctypes.string_at(name).decode()
        status = self.watch("delete", path, sync_directory, b"") or _DELETE(self.original.contents.xDelete)(vfs, name, sync_directory)
        if status == 0:
            self.done("delete", path, sync_directory, b"")
        return status
