"""What one test session owns on this machine, and how every trace of it goes away.

A session holds a numbered slot by a lock.  All names come from it: directories `/tmp/sshq-tN`, links and network
namespaces `sqN…`, addresses 10.(100+N).x.y and 127.77.N.x.  So parallel sessions never meet, and whoever gets a slot may
clear what a killed predecessor left under it.  A guard process waits for the end of this one, however it comes, and
sweeps.  Processes are found by the mark in their environment, never by name.
"""

import atexit
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

REPO = str(Path(__file__).resolve().parents[2])
MARK = "BED_SESSION"
SLOTS = range(1, 100)
POLL_S = 0.02
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class CommandError(RuntimeError):
    """A command of the bed itself failed: the bed is broken, not what is tested."""


def call(
    argv: list[str], *, check: bool = True, input: str | None = None, env: dict[str, str] | None = None,  # noqa: A002
    cwd: str | None = None, timeout_s: float = 60,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run a command of the bed; its output is text with undecodable bytes kept."""
    done = subprocess.run(
        argv, capture_output=True, text=True, errors="surrogateescape", check=False, timeout=timeout_s, env=env, cwd=cwd,
        **({"input": input} if input is not None else {"stdin": subprocess.DEVNULL}),
    )  # fmt: skip
    if check and done.returncode:
        msg = f"{argv} ended with {done.returncode}: {done.stdout[-500:]}{done.stderr[-1500:]}"
        raise CommandError(msg)
    return done


def which(name: str) -> str | None:
    """Where a system tool is; sbin counts although a user's PATH may lack it."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":" + SYSTEM_PATH)


def wait_until(condition: Callable[[], T], timeout_s: float = 15, what: str | Callable[[], str] = "") -> T:
    """Call `condition` until it returns something true; return that, or fail saying what never came."""
    end = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            text = what() if callable(what) else what
            msg = f"not within {timeout_s:g} s: {text or condition}; last value {value!r}"
            raise AssertionError(msg)
        time.sleep(POLL_S)


def session_dir(slot: int) -> str:
    """Short on purpose: a socket's path may have 107 bytes."""
    return f"/tmp/sshq-t{slot}"


def is_marked(environ: bytes, mark: str, directory: str) -> bool:
    """Whether a process with this environment is ours: by the mark, or by a HOME or PATH inside the directory."""
    inside = directory.encode() + b"/"
    for entry in environ.split(b"\0"):
        if entry == mark.encode():
            return True
        name, _, value = entry.partition(b"=")
        if name in (b"HOME", b"PATH", b"SSHQ_HOME") and any(part.startswith(inside) for part in value.split(b":")):
            return True
    return False


def marked_pids(mark: str, directory: str) -> Iterator[int]:
    """Every process with the mark, this one excepted."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            ours = is_sshd_of(Path(f"/proc/{entry}/cmdline").read_bytes(), directory)
            # another's, or an sshd's own (it hides from its user), cannot be read
            ours = ours or is_marked(Path(f"/proc/{entry}/environ").read_bytes(), mark, directory)
        except OSError:
            continue
        if ours:
            yield int(entry)


def is_sshd_of(cmdline: bytes, directory: str) -> bool:
    """Whether it is an sshd with its configuration in the directory."""
    return b"sshd" in cmdline.partition(b"\0")[0] and directory.encode() + b"/" in cmdline


def kill_marked_by(mark: str, directory: str) -> None:
    """Kill until none is left: a dying supervisor may still start something."""
    for _ in range(200):
        pids = [pid for pid in marked_pids(mark, directory) if not is_zombie(pid)]
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(POLL_S)


def is_zombie(pid: int) -> bool:
    """Gone, or ended and not waited for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def sweep(slot: int) -> None:
    """Remove all that stands under a slot's names."""
    thaw_cgroups(slot)
    kill_marked_by(f"{MARK}={slot}", session_dir(slot))
    kill_in_cgroups(slot)
    spaces = [n for n in list_dir("/run/netns") if n.startswith(f"sq{slot}-")]
    links = [n for n in list_dir("/sys/class/net") if n == f"sq{slot}br" or n.startswith(f"sq{slot}v")]
    lines = [f"link del {n}\n" for n in links] + [f"netns del {n}\n" for n in spaces]
    if lines:
        call([which("ip") or "ip", "-force", "-batch", "-"], input="".join(lines), check=False)
    remove_cgroups(slot)
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in reversed([n for n in mounted if n.startswith(f"{session_dir(slot)}/")]):
        call(["umount", "-l", place], check=False)
    shutil.rmtree(session_dir(slot), ignore_errors=True)


def list_dir(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def cgroups_of(slot: int) -> Iterator[str]:
    """Those of hosts, and below those of the containers' engine; the inner ones first."""
    for base in ("/sys/fs/cgroup", *(f"/sys/fs/cgroup/{name}" for name in list_dir("/sys/fs/cgroup"))):
        for name in list_dir(base):
            if name.startswith(f"sq{slot}-"):
                yield from (f"{base}/{name}/{inner}" for inner in list_dir(f"{base}/{name}") if os.path.isdir(f"{base}/{name}/{inner}"))
                yield f"{base}/{name}"


def thaw_cgroups(slot: int) -> None:
    """A frozen process of cgroup v1 does not even die."""
    for group in cgroups_of(slot):
        for name, value in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            with contextlib.suppress(OSError):
                Path(group, name).write_text(value)


def kill_in_cgroups(slot: int) -> None:
    """The first process of a container is an sshd, whose title hides its environment."""
    for group in cgroups_of(slot):
        with contextlib.suppress(OSError):
            for pid in map(int, Path(group, "cgroup.procs").read_text().split()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def remove_cgroups(slot: int) -> None:
    for group in cgroups_of(slot):
        for _ in range(50):
            try:
                os.rmdir(group)
                break
            except OSError:
                time.sleep(POLL_S)


class Session:
    """The slot of this process, taken at first use and swept at its end."""

    def __init__(self) -> None:
        self.slot, self.lock = take_slot()
        sweep(self.slot)
        self.dir = session_dir(self.slot)
        os.mkdir(self.dir, 0o711)
        os.chmod(self.dir, 0o711)  # other users' processes reach the socket below it
        self.count = 0
        # The guard holds the lock too, so that the slot is free only when it has swept.
        self.guard = subprocess.Popen(
            [sys.executable, __file__, str(self.slot)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True, pass_fds=[self.lock], cwd="/",
        )  # fmt: skip
        atexit.register(self.close)

    def fresh_dir(self, word: str) -> str:
        """A new directory of this session."""
        self.count += 1
        path = f"{self.dir}/{word}{self.count}"
        os.mkdir(path, 0o711)
        os.chmod(path, 0o711)
        return path

    def close(self) -> None:
        """Let the guard sweep, and wait for it."""
        atexit.unregister(self.close)
        if self.guard.stdin and not self.guard.stdin.closed:
            self.guard.stdin.close()
            self.guard.wait(60)
            os.close(self.lock)


_current: list[Session] = []


def session() -> Session:
    """The one session of this process."""
    if not _current:
        _current.append(Session())
    return _current[0]


def close_session() -> None:
    while _current:
        _current.pop().close()


def take_slot() -> tuple[int, int]:
    """Lock the first free slot whose addresses nobody else routes; return it with the lock's descriptor."""
    for slot in SLOTS:
        path = session_dir(slot) + ".lock"
        try:
            lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            continue
        if not is_routed(slot):
            return slot, lock
        os.close(lock)
    msg = "no free slot for a test bed"
    raise CommandError(msg)


def is_routed(slot: int) -> bool:
    """Whether 10.(100+slot).0.0/16 is somebody else's: a leftover bridge of this very slot does not count."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/route").read_text().splitlines()[1:]:
            link, destination = line.split()[:2]
            ours = (f"sq{slot}br", f"sq{slot}vd")
            if int(destination[6:8], 16) == 10 and int(destination[4:6], 16) == 100 + slot and link not in ours:
                return True
    return False


def guard_main(slot: int) -> None:
    """Wait until the session's process is gone (its end of our stdin closes), then sweep."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    sweep(slot)


if __name__ == "__main__":
    guard_main(int(sys.argv[1]))
