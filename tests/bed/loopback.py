"""Plain sshds on loopback addresses: no root needed, quick, but one machine: all see the same files and processes.

Each has its own HOME, so that spools, .bashrc and keys of "hosts" do not meet.
"""

import contextlib
import itertools
import os
import pwd
import signal
import socket
import subprocess
from pathlib import Path

from .host import Host
from .session import MARK, call, session, wait_until, which

PORT = 2222
_numbers = itertools.count()  # of all beds of this session: each host has an address of its own


def why_no_sshd() -> str | None:
    return None if which("sshd") and which("ssh") else "apt-get install openssh-server openssh-client"


def is_locked_account() -> bool:
    """Ubuntu locks root's password ("!"); then sshd lets nobody in unless PAM decides."""
    name = pwd.getpwuid(os.geteuid()).pw_name
    try:
        lines = Path("/etc/shadow").read_text().splitlines()
    except OSError:
        return os.geteuid() == 0  # root of a user namespace: systemd's name service calls that one locked
    return any(line.startswith(f"{name}:!") for line in lines)


class LoopbackBed:
    """N sshds on addresses 127.77.SLOT.x of their own, one login key."""

    def __init__(self, n: int = 4) -> None:
        self.session = session()
        self.dir = self.session.fresh_dir("loop")
        self.key = f"{self.dir}/id"
        call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "sshq test bed", "-f", self.key])
        self.hosts: list[LoopbackHost] = []
        self._numbers = itertools.count(1)
        self.add(n)

    def __enter__(self) -> "LoopbackBed":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, n: int = 1, sshd_config: str = "") -> "list[LoopbackHost]":
        made = [LoopbackHost(self, next(self._numbers), sshd_config) for i in range(n)]  # no name twice: directories stay
        self.hosts += made
        for host in made:
            host.start()
        for host in made:
            host.wait_up()
        return made

    def close(self) -> None:
        for host in self.hosts:
            host.stop()
        self.hosts.clear()


class LoopbackHost(Host):
    """One sshd; the login is this process's own user."""

    def __init__(self, bed: LoopbackBed, number: int, sshd_config: str) -> None:
        super().__init__()
        self.bed, self.name, self.number = bed, f"l{number}", number
        part, last = divmod(next(_numbers), 250)
        self.addr, self.port, self.key = f"127.{77 + part}.{bed.session.slot}.{1 + last}", PORT, bed.key
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        self.dir = f"{bed.dir}/{self.name}"
        self.home = f"{self.dir}/home"
        os.makedirs(self.home)
        self.vars["sshq_spool"] = f"{self.home}/spool"  # not left to HOME: it is one machine after all
        self.process: subprocess.Popen[bytes] | None = None
        call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", f"{self.dir}/host_key"])
        Path(self.dir, "sshd_config").write_text(
            f"{sshd_config}ListenAddress {self.addr}\nPort {self.port}\nHostKey {self.dir}/host_key\n"
            f"PidFile {self.dir}/pid\nAuthorizedKeysFile {self.key}.pub\nStrictModes no\nUseDNS no\n"
            f"UsePAM {'yes' if is_locked_account() else 'no'}\nPermitRootLogin prohibit-password\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nMaxStartups 200:30:400\nMaxSessions 64\n"
            f"PrintMotd no\nSubsystem sftp internal-sftp\nSetEnv HOME={self.home} {MARK}={bed.session.slot}\n"
        )
        self.trust()

    def start(self) -> None:
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        argv = [which("sshd") or "sshd", "-D", "-f", f"{self.dir}/sshd_config", "-E", f"{self.dir}/log"]
        env = {"PATH": os.environ["PATH"], MARK: str(self.bed.session.slot)}
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(argv, **quiet, start_new_session=True, env=env)

    def wait_up(self, timeout_s: float = 15) -> None:
        def is_up() -> bool:
            try:
                with socket.create_connection((self.addr, self.port), 1) as link:
                    link.settimeout(2)
                    return link.recv(4) == b"SSH-"
            except OSError:
                return False

        log = Path(self.dir, "log")
        wait_until(is_up, timeout_s, lambda: f"{self.name}: {log.read_text() if log.exists() else 'no log'}")

    def stop(self) -> None:
        """The listening sshd goes; sessions stay, as with a real one."""
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def sshd_signal(self, name: str) -> None:
        """Signal the listening sshd: STOP, CONT, KILL."""
        if self.process:
            self.process.send_signal(signal.Signals[f"SIG{name}"])

    def present_key(self) -> str:
        return " ".join(Path(self.dir, "host_key.pub").read_text().split()[:2])

    def sh(self, cmd: str, *, check: bool = True, input: str | None = None) -> subprocess.CompletedProcess[str]:  # noqa: A002
        return call(["sh", "-c", cmd], check=check, input=input, cwd=self.home, env={**os.environ, "HOME": self.home})

    def path(self, path: str) -> Path:
        return Path(path)

    def pids(self) -> list[int]:
        """Its sshd and everything with its HOME."""
        wanted, found = f"HOME={self.home}".encode(), []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError):
                    if wanted in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                        found.append(int(entry))
        return found
