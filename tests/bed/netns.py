"""Hosts without containers: each a network, mount, pid, uts, ipc and time namespace with an own file system and sshd.

    with NetnsBed() as bed:
        a, b = bed.add(2)
        a.ssh("hostname"); a.cut(); b.reboot()

About 35 ms and 2 MiB a host.  Needs root, or a user namespace with subordinate ids around the whole test run.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from . import faults, rootfs
from .session import MARK, SYSTEM_PATH, CommandError, call, session, wait_until, which

HERE = os.path.dirname(os.path.abspath(__file__))
SSHD_DEFAULTS = """Port 22
HostKey /etc/ssh/host_key
UsePAM no
UseDNS no
PidFile /run/sshd.pid
MaxStartups 200:30:400
MaxSessions 64
PasswordAuthentication no
"""
SFTP = "Subsystem sftp /usr/lib/openssh/sftp-server\n"


def why_no_netns() -> str | None:
    """What this machine lacks for such hosts, or None."""
    if os.geteuid() != 0:
        return "hosts in network namespaces need root, or subordinate ids (apt-get install uidmap) and bash tests/run.sh"
    packages = {"sshd": "openssh-server", "ip": "iproute2", "nft": "nftables", "unshare": "util-linux"}
    missing = [package for tool, package in packages.items() if not which(tool)]
    if missing:
        return f"apt-get install {' '.join(missing)}"
    probe = call(["unshare", "-n", "-m", "-p", "-f", "true"], check=False)
    return None if probe.returncode == 0 else f"this machine allows no namespaces: {probe.stderr.strip()}"


class NetnsBed:
    """A bridge, shared root file systems, one login key, and hosts on them.  Named and swept by the session."""

    def __init__(self) -> None:
        self.session = session()
        self.dir = self.session.fresh_dir("bed")
        self.slot = self.session.slot
        self.net = f"10.{100 + self.slot}"
        self.bridge = f"sq{self.slot}br"
        self.hosts: list[NetnsHost] = []
        self.count = 1
        self.roots: dict[str, str] = {}
        self.key = f"{self.dir}/id"
        call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "sshq test bed", "-f", self.key])
        self.public_key = Path(self.key + ".pub").read_text()
        self.time_namespaces = call(["unshare", "-T", "true"], check=False).returncode == 0
        self.ip(
            f"link add {self.bridge} type bridge forward_delay 0",
            f"addr add {self.net}.0.1/16 dev {self.bridge}",
            f"link set {self.bridge} up",
        )
        # whoever asks for a host that boots or comes back shall not wait a second for the next ARP
        with contextlib.suppress(OSError):
            Path(f"/proc/sys/net/ipv4/neigh/{self.bridge}/retrans_time_ms").write_text("100")

    def __enter__(self) -> "NetnsBed":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ip(self, *lines: str, check: bool = True) -> None:
        """Many commands of ip in one process."""
        call(["ip", "-batch", "-", *([] if check else ["-force"])], input="\n".join(lines) + "\n", check=check)

    def root(self, kind: str) -> str:
        """The shared lower file system of a kind, built at first use."""
        if kind not in self.roots:
            path = f"{self.dir}/root-{kind}"
            os.mkdir(path)
            rootfs.BUILDERS[kind](path)
            self.roots[kind] = path
        return self.roots[kind]

    def add(
        self, n: int = 1, *, server: str = "openssh", root: str = "lab", sshd_config: str = "", wire: str = "veth",
        tmp_options: str = "", tmp_size: str = "256m", memory: int | None = None, names: Sequence[str] = (),
    ) -> "list[NetnsHost]":  # fmt: skip
        """Start hosts side by side; return when each answers on port 22.  `wire="tap"` allows `shape`."""
        made = []
        for i in range(n):
            self.count += 1
            name = names[i] if names else f"h{self.count - 1}"
            host = NetnsHost(
                self, name, self.count, server=server, root=self.root(root), sshd_config=sshd_config, wire=wire,
                tmp_options=tmp_options, tmp_size=tmp_size, memory=memory,
            )  # fmt: skip
            self.hosts.append(host)
            made.append(host)
        for host in made:
            host.create()
            host.start_boot()
        for host in made:
            host.wait_up()
            host.trust()
        return made

    def remove(self, hosts: "Sequence[NetnsHost]") -> None:
        """End hosts for good."""
        for host in hosts:
            host.end()
        lines = [f"link del {h.link}" for h in hosts] + [f"netns del {h.space}" for h in hosts]
        if lines:
            self.ip(*lines, check=False)
        for host in hosts:
            shutil.rmtree(host.dir, ignore_errors=True)
            if host in self.hosts:
                self.hosts.remove(host)

    def close(self) -> None:
        self.remove(list(self.hosts))
        self.ip(f"link del {self.bridge}", check=False)
        shutil.rmtree(self.dir, ignore_errors=True)


class NetnsHost(faults.FaultsMixin):
    """One such host; alice (uid 1001), bob (1002) and root log in with the bed's key.  Faults are in `faults.py`."""

    def __init__(
        self, bed: NetnsBed, name: str, number: int, *, server: str, root: str, sshd_config: str, wire: str,
        tmp_options: str, tmp_size: str, memory: int | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.bed, self.name, self.server, self.lower, self.wire = bed, name, server, root, wire
        self.addr, self.port, self.user, self.key = f"{bed.net}.{number >> 8}.{number & 255}", 22, "alice", bed.key
        self.home = "/home/alice"
        self.dir = f"{bed.dir}/{name}"
        self.space = f"sq{bed.slot}-{number}"
        self.link = f"sq{bed.slot}v{number}"
        self.sshd_config = sshd_config
        self.mounts = {"TMP_OPTIONS": tmp_options, "TMP_SIZE": tmp_size}
        self.memory = memory
        self.process: subprocess.Popen[bytes] | None = None
        self.relay: subprocess.Popen[str] | None = None
        self.pid1: int | None = None
        self.processes: list[subprocess.Popen[bytes]] = []  # helpers such as an agent, ended with the host

    # -- making and ending ---------------------------------------------------------------------------------------
    def create(self) -> None:
        """The host's own files, its network namespace and its cable."""
        upper = f"{self.dir}/upper"
        for path in (upper, f"{self.dir}/work", f"{self.dir}/root"):
            os.makedirs(path)
            os.chmod(path, 0o755)
        rootfs.write_file(upper, "/etc/hostname", self.name + "\n")
        for home, uid in (("/root", 0), *((f"/home/{n}", u) for n, u in rootfs.USERS.items())):
            rootfs.make_directory(upper, home, 0o755 if uid else 0o700, uid)
            rootfs.make_directory(upper, home + "/.ssh", 0o700, uid)
            rootfs.write_file(upper, home + "/.ssh/authorized_keys", self.bed.public_key, 0o600, uid)
        if self.server == "openssh":
            rootfs.write_file(upper, "/etc/ssh/sshd_config", self.full_sshd_config())
            call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", f"{upper}/etc/ssh/host_key"])
            self.sshd = "/usr/sbin/sshd -D -e"
        else:
            rootfs.make_directory(upper, "/etc/dropbear")
            self.sshd = f"/usr/sbin/dropbear -F -E -R -p 22 -P /run/sshd.pid {self.sshd_config}".strip()
        lines = [f"netns add {self.space}"]
        if self.wire == "veth":
            lines += [
                f"link add {self.link} master {self.bed.bridge} type veth peer name eth0 netns {self.space}",
                f"link set {self.link} up",
            ]
            self.bed.ip(*lines)
        else:
            self.bed.ip(*lines)
            self.start_wire()

    def full_sshd_config(self) -> str:
        """Of a setting given twice sshd takes the first; Match blocks must come last."""
        general, match, rest = self.sshd_config.partition("Match ")
        sftp = "" if "Subsystem" in general else SFTP
        return general + SSHD_DEFAULTS + sftp + match + rest

    def start_wire(self) -> None:
        self.control = f"{self.dir}/wire.json"
        self.shape()
        self.relay = subprocess.Popen(
            [sys.executable, f"{HERE}/wire.py", self.space, self.link, self.control], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, text=True, start_new_session=True, env=self.marked_env(),
        )  # fmt: skip
        if not self.relay.stdout or self.relay.stdout.readline().strip() != "ready":
            msg = f"{self.name}: the user-space wire did not start"
            raise CommandError(msg)
        self.bed.ip(f"link set {self.link} master {self.bed.bridge} up")

    def marked_env(self) -> dict[str, str]:
        return {"PATH": SYSTEM_PATH, MARK: str(self.bed.slot)}

    def start_boot(self) -> None:
        """Power: a new boot_id, uptime near 0, then sshd."""
        Path(f"{self.dir}/boot_id").write_text(f"{uuid.uuid4()}\n")
        argv = ["nsenter", f"--net=/run/netns/{self.space}", "unshare", "-m", "-u", "-i", "-p", "-f", "--kill-child=KILL"]
        if self.bed.time_namespaces:
            uptime_s = int(float(Path("/proc/uptime").read_text().split()[0]))
            argv += ["-T", "--boottime", str(-uptime_s)]
        env = self.marked_env() | self.mounts
        env |= {"D": self.dir, "LOWER": self.lower, "NAME": self.name, "ADDRESS": self.addr, "SSHD": self.sshd}
        with open(f"{self.dir}/boot.log", "ab") as log:
            self.process = subprocess.Popen(
                [*argv, "sh", f"{HERE}/boot.sh"], env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def wait_up(self, timeout_s: float = 20) -> None:
        """Until sshd sends its banner."""

        def is_up() -> bool:
            if self.process is None or self.process.poll() is not None:
                msg = f"{self.name} ended at boot: {Path(self.dir, 'boot.log').read_text()[-1000:]}"
                raise CommandError(msg)
            self.find_pid1()
            # not before it listens: a lost first packet costs a second of waiting for its repetition
            return self.pid1 is not None and self.exists("/run/sshd.pid") and self.answers(0.5)

        wait_until(is_up, timeout_s, lambda: f"{self.name} up: {Path(self.dir, 'boot.log').read_text()[-1000:]}")

    def find_pid1(self) -> None:
        if self.pid1 is None and self.process is not None:
            pid = self.process.pid
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            if children:
                self.pid1 = int(children[0])
                if self.memory:
                    self.join_cgroup("memory", {"memory.limit_in_bytes": self.memory, "memory.max": self.memory})

    def answers(self, timeout_s: float = 1) -> bool:
        """Whether its port 22 sends an SSH banner."""
        try:
            with socket.create_connection((self.addr, self.port), timeout_s) as link:
                link.settimeout(timeout_s)
                return link.recv(4) == b"SSH-"
        except OSError:
            return False

    def end(self) -> None:
        """Kill everything of the host; its names stay."""
        self.thaw()
        self.kill()
        if self.relay:
            self.relay.kill()
            self.relay.communicate()
            self.relay = None
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes.clear()
        self.leave_cgroups()

    # -- access --------------------------------------------------------------------------------------------------
    def sh(self, cmd: str, *, check: bool = True, input: str | None = None) -> subprocess.CompletedProcess[str]:  # noqa: A002
        spaces = ["-m", "-u", "-i", "-n", "-p", *(["-T"] if self.bed.time_namespaces else [])]
        argv = ["nsenter", "-t", str(self.pid1), *spaces, "-r", "-w", "--", "/bin/sh", "-c", cmd]
        return call(argv, check=check, input=input, env={"PATH": SYSTEM_PATH, "HOME": "/root"})

    def path(self, path: str) -> Path:
        """Through the root of its pid 1.  An absolute symlink on the way would lead to this machine: use `sh` there."""
        return Path(f"/proc/{self.pid1}/root{path}")

    def pids(self) -> list[int]:
        """All members of its pid namespace."""
        try:
            wanted = os.readlink(f"/proc/{self.pid1}/ns/pid")
        except OSError:
            return []
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    if os.readlink(f"/proc/{entry}/ns/pid") == wanted:
                        found.append(int(entry))
                except OSError:
                    continue
        return found

    def present_key(self) -> str:
        if self.server == "openssh":
            return " ".join(self.read("/etc/ssh/host_key.pub").split()[:2])
        text = call(["ssh-keyscan", "-T", "5", "-t", "ed25519", self.addr], check=False).stdout
        return " ".join(text.split()[1:3])
