"""Loopback sshd "hosts" for the benchmark: real OpenSSH servers on 127.77.0.x, fresh keys, ended by their own pids."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path


def free_port() -> int:
    """Return a port that nobody listens on: two benchmarks at a time do not meet."""
    with socket.socket() as probe:
        probe.bind(("127.77.0.1", 0))
        return int(probe.getsockname()[1])


class LoopbackHosts:
    """`with LoopbackHosts(4) as hosts:` gives running servers; everything lives in one temporary directory.

    With fewer `servers` than hosts, several names are one sshd: each is logged in on by itself, and has a spool of its own.
    """

    def __init__(self, count: int, port: int = 0, servers: int = 0) -> None:
        self.dir = Path(tempfile.mkdtemp(prefix="sshq-bench-"))
        self.port = port or free_port()
        self.names = [f"b{i}" for i in range(count)]
        self.servers = servers or count
        self.addresses = [f"127.77.{i // 250}.{i % 250 + 1}" for i in (n % self.servers for n in range(count))]
        self.ssh_config = self.dir / "ssh_config"
        self.ssh_config_plain = self.dir / "ssh_config_plain"
        self.pids: list[int] = []  # of the servers
        self._servers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "LoopbackHosts":
        sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin") or "sshd"
        (self.dir / "home" / ".ssh").mkdir(parents=True)
        for name in ("id", "hostkey"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.dir / name], check=True)
        (self.dir / "authorized").write_text((self.dir / "id.pub").read_text())
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        public = " ".join((self.dir / "hostkey.pub").read_text().split()[:2])
        known, config = "", ""
        for name, address in zip(self.names, self.addresses, strict=True):
            config += f"Host {name}\n  HostName {address}\n"
            if len(self.pids) == self.servers:
                continue
            conf = self.dir / f"{name}.conf"
            conf.write_text(
                f"ListenAddress {address}\nPort {self.port}\nHostKey {self.dir}/hostkey\nPidFile none\nUsePAM no\n"
                f"AuthorizedKeysFile {self.dir}/authorized\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
                f"StrictModes no\nLogLevel ERROR\nSetEnv HOME={self.dir}/home\n"
            )
            server = subprocess.Popen([sshd, "-D", "-f", conf, "-E", self.dir / f"{name}.log"], stdin=subprocess.DEVNULL)
            self._servers.append(server)
            self.pids.append(server.pid)
            known += f"[{address}]:{self.port} {public}\n"
        (self.dir / "home" / ".ssh" / "known_hosts").write_text(known)
        # curve25519: what asyncssh picks too, and the honest baseline (OpenSSH's default spends 55 ms more a connection)
        plain = (
            config + f"Host *\n  Port {self.port}\n  IdentityFile {self.dir}/id\n  IdentitiesOnly yes\n  BatchMode yes\n"
            f"  UserKnownHostsFile {self.dir}/home/.ssh/known_hosts\n  GlobalKnownHostsFile /dev/null\n"
            f"  LogLevel ERROR\n"
        )
        self.ssh_config_plain.write_text(plain)
        self.ssh_config.write_text(plain + "  KexAlgorithms curve25519-sha256\n")
        for name in self.names if len(self.names) <= 16 else self.names[-1:]:
            self._await(name)
        return self

    def _await(self, name: str) -> None:
        deadline = time.monotonic() + 15
        while subprocess.run(["ssh", "-F", self.ssh_config, name, "true"], check=False, capture_output=True).returncode:
            if time.monotonic() > deadline:
                raise SystemExit(f"sshd of {name} did not answer; see {self.dir}/{name}.log")
            time.sleep(0.05)

    def inventory(self, slots: int) -> str:
        """Return an inventory of these hosts, each with a spool of its own."""
        lines = ["all:", "  vars:", f"    sshq_slots: {slots}", f"    ansible_port: {self.port}",
                 f"    ansible_ssh_private_key_file: {self.dir}/id", "  hosts:"]  # fmt: skip
        for name, address in zip(self.names, self.addresses, strict=True):
            lines.append(f"    {name}: {{ansible_host: {address}, sshq_spool: {self.dir}/spool-{name}}}")
        return "\n".join(lines) + "\n"

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.terminate()
        for server in self._servers:
            server.wait()
        shutil.rmtree(self.dir, ignore_errors=True)
