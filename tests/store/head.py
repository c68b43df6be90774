"""A real controller on a disk that fails or is recorded: `python -m store.head ARGUMENTS OF THE CONTROLLER`.

HEAD_FAULT=sync:7      SQLite's seventh sync fails with EIO (write:7: a write), counted from when the file `armed` is there
HEAD_FAULT=fsync:1     the first fsync of an environment's file, or of their directory, fails so
HEAD_OPS=FILE          all that happens to the state directory is appended there, in order, as `read_ops` reads it
HEAD_UNLOCKED=1        the lock on the state directory is not taken

The file `armed` lies beside the state directory, as does `again`, which gets a line for each write or sync after the fault: there must be none.
"""

import contextlib
import errno
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

from store.disk import Op, Recorder
from store.vfs import IOERR_FSYNC, IOERR_WRITE, TappedVfs


class OpFile(list):
    """A list that is written down as it grows."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def append(self, op: Op) -> None:
        super().append(op)
        os.write(self.file, pickle.dumps(op))


def read_ops(path: str | Path, size: int | None = None) -> list[Op]:
    """The ops in the first `size` bytes of a file that `OpFile` wrote."""
    found = []
    with open(path, "rb") as file, contextlib.suppress(EOFError, pickle.UnpicklingError):
        while size is None or file.tell() < size:
            found.append(pickle.load(file))
    return found


def sizes_of(path: str | Path) -> list[int]:
    """How much of the file there was after each op."""
    found = []
    with open(path, "rb") as file, contextlib.suppress(EOFError, pickle.UnpicklingError):
        while pickle.load(file):
            found.append(file.tell())
    return found


class Fault:
    """Fails the Nth call of a kind, and tells of those that follow."""

    def __init__(self, text: str, told: Path) -> None:
        self.kind, _, count = text.partition(":")
        self.left = int(count)
        self.told, self.armed = told, told.with_name("armed")

    def reached(self, kind: str) -> bool:
        if self.left == 0 and kind in ("sync", "write", "fsync"):
            with open(self.told, "a") as file:
                file.write(f"{time.time()} {kind}\n")
        if kind != self.kind or self.left == 0 or not self.armed.exists():
            return False
        self.left -= 1
        return self.left == 0

    def watch(self, word: str, path: str, _number: int, _data: bytes) -> int:
        # The backup of a controller's first minute may be under way: that it fails is told, and ends nothing.
        if word not in ("sync", "write") or "/backups/" in path or not self.reached(word):
            return 0
        return IOERR_FSYNC if word == "sync" else IOERR_WRITE

    def fsync(self, fd: int) -> None:
        if "/environments" in os.readlink(f"/proc/self/fd/{fd}") and self.reached("fsync"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        REAL_FSYNC(fd)


REAL_FSYNC = os.fsync


def main() -> int:
    from sshq.controller import start as controller

    arguments = sys.argv[1:]
    state = Path(arguments[arguments.index("--state") + 1])
    if os.environ.pop("HEAD_UNLOCKED", ""):
        controller.take_lock = lambda _path: contextlib.nullcontext()
    fault, ops = os.environ.pop("HEAD_FAULT", ""), os.environ.pop("HEAD_OPS", "")
    if fault:
        broken = Fault(fault, state.with_name("again"))
        os.fsync = broken.fsync
        with TappedVfs(broken.watch):
            return controller.main(arguments)
    if ops:
        with Recorder(state, sync=True, known=OpFile(ops)):
            return controller.main(arguments)
    return controller.main(arguments)


def start(instance, **variables: str) -> "subprocess.Popen[bytes]":
    """Start such a controller as `sshq up` starts a plain one; returns when it answers or is dead."""
    state, socket = f"{instance.sshq_home}/state", f"{instance.sshq_home}/sock"
    os.makedirs(state, mode=0o700, exist_ok=True)
    arguments = ["--state", state, "--socket", socket, "--home", instance.sshq_home, "--inventory", instance.inventory]
    if os.path.exists(f"{instance.sshq_home}/config.yaml"):
        arguments += ["--config", f"{instance.sshq_home}/config.yaml"]
    environ = {name: value for name, value in instance.env.items() if not name.startswith("SSHQ_")} | variables
    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    environ["PYTHONPATH"] = f"{os.path.dirname(tests)}:{tests}"
    with open(f"{instance.sshq_home}/head.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-s", "-m", "store.head", *arguments], env=environ, cwd="/", stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    instance.wait_for(lambda: process.poll() is not None or instance.status().get("pid") == process.pid, 60, "it answers or is dead")
    return process


if __name__ == "__main__":
    sys.exit(main())
