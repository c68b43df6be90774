"""One real sshd on a loopback port, all its files in one directory: start, kill, change its keys, edit who may come in."""

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from bed import session

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin:" + os.environ.get("PATH", "")) or ""
USER = pwd.getpwuid(os.geteuid()).pw_name


def make_key(path: Path, *, kind: str = "ed25519", passphrase: str = "") -> Path:
    """Make a key pair; the private file's path comes back."""
    for old in (path, Path(f"{path}.pub")):
        old.unlink(missing_ok=True)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", path.name, "-f", path], check=True, stdin=subprocess.DEVNULL
    )
    return path


def public_half(path: Path) -> str:
    return " ".join(Path(f"{path}.pub").read_text().split()[:2])


def fingerprint(path: Path) -> str:
    return subprocess.run(["ssh-keygen", "-l", "-f", f"{path}.pub"], check=True, capture_output=True, text=True).stdout.split()[1]


def wait_until(condition: Callable[[], object], what: str, seconds: float = 10.0) -> None:
    ends_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends_at, f"not within {seconds} s: {what}"
        time.sleep(0.01)


_numbers = itertools.count()


def free_port(address: str = "127.0.0.1") -> int:
    """A port of this session's own hundred, below those that the kernel gives out: nobody takes it until the server listens."""
    first = 12_000 + 100 * session().slot
    while True:
        port = first + next(_numbers) % 100
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as sshd does
            probe.bind((address, port))
            return port


def is_locked_account() -> bool:
    """Ubuntu locks root's password; then sshd lets nobody in unless PAM decides."""
    with contextlib.suppress(OSError):
        for line in Path("/etc/shadow").read_text().splitlines():
            if line.startswith(USER + ":"):
                return line.split(":")[1].startswith("!")
    return False


class SshdHost:
    """A server of its own; `config` are further sshd_config lines, the first of a kind wins."""

    def __init__(self, folder: Path, key: Path, *config: str, address: str = "127.0.0.1") -> None:
        self.folder, self.address = folder, address
        self.config = list(config)
        self.port = free_port(address)
        self.process: subprocess.Popen[bytes] | None = None
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.host_key = make_key(folder / "host_key")
        self.authorized_keys = folder / "authorized_keys"
        self.authorize(key)

    def authorize(self, *keys: Path, options: str = "") -> None:
        """Let in these keys only."""
        self.authorized_keys.write_text("".join(f"{options} {public_half(key)}\n".lstrip() for key in keys))
        self.authorized_keys.chmod(0o600)

    def start(self) -> "SshdHost":
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        lines = [
            *self.config,
            f"ListenAddress {self.address}",
            f"Port {self.port}",
            f"HostKey {self.host_key}",
            f"AuthorizedKeysFile {self.authorized_keys}",
            f"SetEnv HOME={self.home}",
            "PidFile none",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password",
            "StrictModes no",
            f"UsePAM {'yes' if is_locked_account() else 'no'}",
            "LogLevel VERBOSE",
        ]
        (self.folder / "sshd_config").write_text("\n".join(lines) + "\n")
        listening = self.log().count("Server listening")
        self.process = subprocess.Popen(
            [SSHD, "-D", "-f", self.folder / "sshd_config", "-E", self.folder / "log"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until(lambda: self.is_up(listening), f"sshd on port {self.port}")
        return self

    def is_up(self, before: int) -> bool:
        """Told by the log: a connection of ours would be one more in it."""
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        return self.log().count("Server listening") > before

    def log(self) -> str:
        log = self.folder / "log"
        return log.read_text(errors="replace") if log.exists() else ""

    def was_knocked_at(self) -> bool:
        return "Connection from" in self.log()

    def count_logins(self) -> int:
        return self.log().count("Accepted publickey")

    def sessions(self) -> list[int]:
        """The server's own processes that serve a connection (not what users started)."""
        assert self.process is not None
        return [pid for pid in find_descendants(self.process.pid) if read_name(pid).startswith("sshd")]

    def kill_sessions(self) -> None:
        """As if the machine were cut off with an RST: kill whoever serves a connection."""
        for pid in self.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """End the server, its sessions and what they started."""
        if self.process is None:
            return
        pids = find_descendants(self.process.pid)
        self.process.kill()
        self.process.wait()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process = None

    def change_host_key(self, kind: str = "ed25519") -> None:
        """Come up again with another host key on the same port."""
        self.stop()
        make_key(self.host_key, kind=kind)
        self.start()

    def known_line(self, name: str = "") -> str:
        return f"{name or f'[{self.address}]:{self.port}'} {public_half(self.host_key)}\n"


def find_descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with contextlib.suppress(OSError):
                parent = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry))
    found, todo = [], [pid]
    while todo:
        todo += (below := children.get(todo.pop(), []))
        found += below
    return found


def read_name(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""
