"""Another machine that reaches an instance's controller by ssh alone: an own HOME and directory, which the head does not see.

As root it has them in a mount namespace of its own; otherwise nobody on the head knows the names.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from .host import Host
from .instance import Instance
from .session import MARK, REPO, call, kill_marked_by, wait_until


class Laptop:
    """Commands with SSHQ_HEAD set to a loopback host on which the instance's controller runs."""

    def __init__(self, instance: Instance, head: Host) -> None:
        self.instance, self.head = instance, head
        self.dir = instance.session.fresh_dir("lap")
        self.mark = f"{instance.session.slot}.lap{instance.session.count}"
        self.config = f"{instance.session.dir}/ssh-{self.mark}"
        self.write_config()
        there = {"SSHQ_HOME": instance.sshq_home, "PYTHONPATH": REPO, "BED_INSTANCE": instance.mark}
        words = [f"{name}={value}" for name, value in there.items()]
        self.env = {
            "PATH": f"{os.path.dirname(sys.executable)}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": f"{self.dir}/home", "USER": head.user, "LOGNAME": head.user, "SHELL": "/bin/sh", "LANG": "C.UTF-8",
            "TERM": "dumb", "PYTHONPATH": REPO, MARK: str(instance.session.slot), "BED_LAPTOP": self.mark,
            "SSHQ_HEAD": "head", "SSHQ_SSH": f"ssh -F {self.config}",
            "SSHQ_HEAD_COMMAND": " ".join([*words, sys.executable, "-m", "sshq.cli.main"]),
        }  # fmt: skip
        self.holder: subprocess.Popen[str] | None = None
        if os.geteuid() == 0:
            self._hide()
        for name in ("home", "w"):
            self.path(f"{self.dir}/{name}").mkdir()
        self.work = f"{self.dir}/w"

    def _hide(self) -> None:
        """A file system of its own over the directory, seen by its own processes alone."""
        script = f"mount -t tmpfs tmpfs {self.dir} && echo ready && exec cat"
        self.holder = subprocess.Popen(
            ["unshare", "-m", "--propagation", "private", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )  # fmt: skip
        assert self.holder.stdout is not None  # noqa: S101
        wait_until(lambda: self.holder.stdout.readline() == "ready\n", 10, "the laptop's file system")  # type: ignore[union-attr]

    def write_config(self, *lines: str, port: int = 0, addr: str = "", known: bool = True) -> None:
        """Its ~/.ssh/config; `port`, `addr`: where the head is reached, if not directly."""
        h = self.head
        Path(f"{self.config}.known").write_text(f"head {h.present_key()}\n" if known else "")
        own = [
            f"HostName {addr or h.addr}", f"Port {port or h.port}", f"User {h.user}", f"IdentityFile {h.key}", "IdentitiesOnly yes",
            f"UserKnownHostsFile {self.config}.known", "GlobalKnownHostsFile /dev/null", "HostKeyAlias head",
        ]  # fmt: skip
        Path(self.config).write_text("Host head\n" + "".join(f"  {line}\n" for line in (*lines, *own)))

    def path(self, path: str) -> Path:
        """A path of the laptop as this process reaches it; relative ones begin in its working directory."""
        whole = os.path.join(f"{self.dir}/w", path)
        return Path(f"/proc/{self.holder.pid}/root{whole}") if self.holder else Path(whole)

    def there(self, name: str = "") -> Path:
        """What stands on the head for a file of its working directory."""
        return Path(f"{self.instance.sshq_home}/away/{os.uname().nodename}{self.work}", name)

    def argv(self, *words: str) -> list[str]:
        inside = ["nsenter", "-t", str(self.holder.pid), "-m"] if self.holder else []
        return [*inside, "sh", "-c", 'cd "$0" && exec "$@"', self.work, *words]

    def run(
        self, *args: str, env: Mapping[str, str] | None = None, input: str | None = None, timeout_s: float = 60, check: bool = False,  # noqa: A002
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """`sshq ARGS` on the laptop."""
        return self.call(sys.executable, "-m", "sshq.cli.main", *args, env=env, input=input, timeout_s=timeout_s, check=check)

    def call(
        self, *words: str, env: Mapping[str, str] | None = None, input: str | None = None, timeout_s: float = 60, check: bool = False,  # noqa: A002
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Any command on the laptop."""
        return call(self.argv(*words), env={**self.env, **(env or {})}, input=input, timeout_s=timeout_s, check=check, cwd="/")

    def start(self, *words: str, **kwargs: object) -> "subprocess.Popen[str]":
        """`sshq WORDS` on the laptop, left running."""
        return self.spawn(sys.executable, "-m", "sshq.cli.main", *words, **kwargs)

    def spawn(self, *words: str, **kwargs: object) -> "subprocess.Popen[str]":
        """Any command on the laptop, left running."""
        options: dict[str, object] = {
            "env": self.env, "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True,
            "cwd": "/",
        }  # fmt: skip
        return subprocess.Popen(self.argv(*words), **(options | kwargs))  # type: ignore[call-overload,no-any-return]

    def ssh_pids(self) -> list[int]:
        """Its ssh processes."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError):
                    mine = f"BED_LAPTOP={self.mark}".encode() in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
                    if mine and Path(f"/proc/{entry}/comm").read_text() == "ssh\n":
                        found.append(int(entry))
        return found

    def close(self) -> None:
        """End its processes and remove its files."""
        kill_marked_by(f"BED_LAPTOP={self.mark}", self.dir)
        if self.holder:
            self.holder.kill()
            self.holder.communicate()
        shutil.rmtree(self.dir, ignore_errors=True)
