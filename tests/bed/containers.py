"""Hosts in containers: another kernel view than `netns` makes, by an engine that we did not write (Debian's docker.io).

    with ContainerBed() as bed:
        a, b = bed.add("c1"), bed.add("c2", memory="96m", tmpfs={"/spool": "size=1m,mode=700,uid=1001"})
        a.pause(); a.unplug(); a.reboot()

The engine is ours alone: an own dockerd with its data below the session's directory, in a network and a mount namespace of
its own, so that nothing of the machine's network, mounts or other containers is touched, and no registry is asked: the one
image is made of this machine's files (`rootfs.py`).  Containers are made by testcontainers.  What a killed run leaves is
swept by the session, which finds it by mark and name.
"""

import contextlib
import importlib.util
import io
import os
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import rootfs
from .host import Host
from .session import MARK, SYSTEM_PATH, call, is_zombie, session, wait_until, which

IMAGE = "sshq-bed:1"
# The first start makes the host's key.  sshd is pid 1, and reaps what jobs leave.
ENTRY = """#!/bin/sh
[ -f /etc/ssh/host_key ] || ssh-keygen -q -t ed25519 -N '' -C '' -f /etc/ssh/host_key
mkdir -p /run/sshd
exec /usr/sbin/sshd -D -e
"""
SSHD_CONFIG = """HostKey /etc/ssh/host_key
UsePAM no
UseDNS no
PidFile /run/sshd.pid
MaxSessions 64
PasswordAuthentication no
Subsystem sftp /usr/lib/openssh/sftp-server
"""
# dockerd would use a containerd that the machine runs already: it shall not see it, and start one of its own.
START = 'for p in /run/containerd /run/docker; do [ ! -d $p ] || mount -t tmpfs none $p; done; exec dockerd "$@"'


def why_no_containers() -> str | None:
    """What this machine lacks for such hosts, or None."""
    is_real_root = os.geteuid() == 0 and Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]
    if not is_real_root:
        return "optional: hosts in containers need root, of the machine and not of a user namespace"
    packages = {"dockerd": "docker.io", "ip": "iproute2", "sshd": "openssh-server", "unshare": "util-linux"}
    missing = [package for tool, package in packages.items() if not which(tool)]
    if missing:
        return f"apt-get install --no-install-recommends {' '.join(missing)} (nothing of it has to be started)"
    if not importlib.util.find_spec("testcontainers"):
        return "pip install testcontainers"
    return None


class ContainerBed:
    """An engine with one network, one image and one login key, and the hosts made on it."""

    def __init__(self) -> None:
        self.session = session()
        self.slot = self.session.slot
        self.dir = self.session.fresh_dir("c")
        self.net = f"10.{100 + self.slot}.250"  # the netns hosts of this slot count up from .0.2
        self.space, self.cable = f"sq{self.slot}-d", f"sq{self.slot}vd"
        self.hosts: list[ContainerHost] = []
        self.count = 1
        self.engine: subprocess.Popen[bytes] | None = None
        self.network: Any = None
        self.client: Any = None
        self.key = f"{self.dir}/id"
        call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "sshq test bed", "-f", self.key])
        # Read by testcontainers when it is imported: its reaper is an image to pull, and /.dockerenv may be there.
        os.environ["DOCKER_HOST"] = f"unix://{self.dir}/sock"
        os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"
        os.environ["TESTCONTAINERS_CONNECTION_MODE"] = "bridge_ip"
        try:
            self.start_engine()
            self.make_image()
            self.make_network()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "ContainerBed":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the engine ----------------------------------------------------------------------------------------------
    def start_engine(self) -> None:
        call(["ip", "netns", "add", self.space])
        call(["ip", "-n", self.space, "link", "set", "lo", "up"])
        argv = ["nsenter", f"--net=/run/netns/{self.space}", "unshare", "-m", "--propagation", "private", "sh", "-c", START, "dockerd"]
        argv += ["--data-root", f"{self.dir}/data", "--exec-root", f"{self.dir}/exec", "--pidfile", f"{self.dir}/pid"]
        argv += ["-H", os.environ["DOCKER_HOST"], "--exec-opt", "native.cgroupdriver=cgroupfs", "--bridge=none"]
        argv += ["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]
        # What it passes on to its containerd and that to each shim: how the session's sweep finds them all.
        env = {"PATH": SYSTEM_PATH, "HOME": self.dir, MARK: str(self.slot)}
        with open(f"{self.dir}/log", "ab") as log:
            self.engine = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, start_new_session=True)
        import docker  # noqa: PLC0415  # here and below: after the environment above

        def answers() -> bool:
            if self.engine is None or self.engine.poll() is not None:
                raise AssertionError(f"dockerd ended: {self.log()}")
            with contextlib.suppress(Exception):
                self.client = docker.from_env(timeout=60)  # asks for the engine's version at once
                return bool(self.client.ping())
            return False

        wait_until(answers, 30, self.log)

    def log(self) -> str:
        return Path(self.dir, "log").read_text(errors="replace")[-3000:]

    def make_image(self) -> None:
        """The lab file system of the other hosts, with the bed's key in each home."""
        root = f"{self.dir}/root"
        os.mkdir(root)
        rootfs.BUILDERS["lab"](root)
        rootfs.write_file(root, "/entry.sh", ENTRY, 0o755)
        rootfs.write_file(root, "/etc/ssh/sshd_config", SSHD_CONFIG)
        public_key = Path(self.key + ".pub").read_text()
        for home, uid in (("/root", 0), *((f"/home/{name}", uid) for name, uid in rootfs.USERS.items())):
            rootfs.make_directory(root, home, 0o755 if uid else 0o700, uid)
            rootfs.make_directory(root, home + "/.ssh", 0o700, uid)
            rootfs.write_file(root, home + "/.ssh/authorized_keys", public_key, 0o600, uid)
        text = io.BytesIO()
        with tarfile.open(fileobj=text, mode="w") as tar:
            tar.add(root, arcname=".")
        shutil.rmtree(root)
        name, _, tag = IMAGE.partition(":")
        self.client.api.import_image_from_data(text.getvalue(), repository=name, tag=tag, changes=['CMD ["/bin/sh", "/entry.sh"]'])

    def make_network(self) -> None:
        """A bridge in the engine's namespace, and a cable from this machine to it."""
        from docker.types import IPAMConfig, IPAMPool  # noqa: PLC0415
        from testcontainers.core.network import Network  # noqa: PLC0415

        ipam = IPAMConfig(pool_configs=[IPAMPool(subnet=f"{self.net}.0/24", gateway=f"{self.net}.1")])
        options = {"com.docker.network.bridge.name": "lab"}
        self.network = Network(docker_network_kw={"ipam": ipam, "options": options}).create()
        call(["ip", "link", "add", self.cable, "type", "veth", "peer", "name", "cable", "netns", self.space])
        call(["ip", "-n", self.space, "link", "set", "cable", "master", "lab", "up"])
        call(["ip", "addr", "add", f"{self.net}.254/24", "dev", self.cable])
        call(["ip", "link", "set", self.cable, "up"])

    def raw_network(self) -> Any:
        return self.client.networks.get(self.network.id)

    # -- hosts ---------------------------------------------------------------------------------------------------
    def add(self, name: str, *, memory: str = "", tmpfs: Mapping[str, str] | None = None) -> "ContainerHost":
        """Start a host and wait for its sshd.  `memory` is a hard limit (`96m`), `tmpfs` are paths with mount options."""
        self.count += 1
        host = ContainerHost(self, name, f"{self.net}.{self.count}", memory, dict(tmpfs or {}))
        self.hosts.append(host)  # before the start: a start that failed leaves a container too
        host.start()
        host.trust()
        return host

    def close(self) -> None:
        for host in self.hosts:
            host.remove()
        self.hosts.clear()
        if self.network:
            with contextlib.suppress(Exception):
                self.network.remove()
        if self.engine:
            if self.client:
                self.client.close()
            self.engine.terminate()  # it ends its containerd itself
            try:
                self.engine.wait(20)
            except subprocess.TimeoutExpired:
                self.engine.kill()  # what is left then has the session's mark
                self.engine.wait()
        call(["ip", "link", "del", self.cable], check=False)
        call(["ip", "netns", "del", self.space], check=False)
        shutil.rmtree(self.dir, ignore_errors=True)
        for name in ("DOCKER_HOST", "TESTCONTAINERS_RYUK_DISABLED", "TESTCONTAINERS_CONNECTION_MODE"):
            os.environ.pop(name, None)


class ContainerHost(Host):
    """One container with sshd as its pid 1; alice (uid 1001), bob (1002) and root log in with the bed's key."""

    def __init__(self, bed: ContainerBed, name: str, addr: str, memory: str, tmpfs: Mapping[str, str]) -> None:
        super().__init__()
        from docker.types import EndpointConfig  # noqa: PLC0415
        from testcontainers.core.container import DockerContainer  # noqa: PLC0415

        self.bed, self.name, self.addr, self.port, self.user, self.key = bed, name, addr, 22, "alice", bed.key
        self.home = "/home/alice"
        endpoint = EndpointConfig(bed.client.api._version, ipv4_address=addr)  # noqa: SLF001
        limits = {"mem_limit": memory, "memswap_limit": memory} if memory else {}
        self.container = (
            DockerContainer(IMAGE).with_name(f"sq-{name}").with_network(bed.network).with_env(MARK, str(bed.slot))
            .with_kwargs(
                hostname=name, cgroup_parent=f"/sq{bed.slot}-d", networking_config={bed.network.name: endpoint}, **limits
            )
        )  # fmt: skip
        for path, options in tmpfs.items():
            self.container.with_tmpfs_mount(path, options)
        self.pid1 = 0

    @property
    def raw(self) -> Any:
        return self.container.get_wrapped_container()

    def start(self) -> None:
        self.container.start()
        self.wait_up()

    def wait_up(self, timeout_s: float = 20) -> None:
        self.raw.reload()
        self.pid1 = int(self.raw.attrs["State"]["Pid"])
        wait_until(self.answers, timeout_s, lambda: f"{self.name} up: {self.raw.logs().decode(errors='replace')[-1000:]}")

    def answers(self) -> bool:
        try:
            with socket.create_connection((self.addr, self.port), 0.5) as link:
                link.settimeout(0.5)
                return link.recv(4) == b"SSH-"
        except OSError:
            return False

    def remove(self) -> None:
        if self.container.get_wrapped_container():
            with contextlib.suppress(Exception):
                self.container.stop(force=True, delete_volume=True)

    # -- the engine's verbs --------------------------------------------------------------------------------------
    def pause(self) -> None:
        """A hung machine: nothing of it runs, its kernel still acknowledges."""
        self.raw.pause()

    def unpause(self) -> None:
        self.raw.unpause()

    def unplug(self) -> None:
        """Cable out: the container loses its link, what runs there goes on."""
        self.bed.raw_network().disconnect(self.raw)

    def plug(self) -> None:
        """Cable in, the same address."""
        self.bed.raw_network().connect(self.raw, ipv4_address=self.addr)
        self.wait_up()

    def reboot(self) -> None:
        """`docker kill` and `docker start`: all processes die at once, the files stay."""
        old = self.pid1
        self.raw.kill()
        wait_until(lambda: is_zombie(old), 10, f"{self.name} dead")
        self.raw.start()
        self.wait_up()

    def restart(self) -> None:
        """`docker restart`: sshd is asked to end, and takes all with it."""
        self.raw.restart(timeout=2)
        self.wait_up()

    # -- access --------------------------------------------------------------------------------------------------
    def sh(self, cmd: str, *, check: bool = True, input: str | None = None) -> subprocess.CompletedProcess[str]:  # noqa: A002
        """By its namespaces, not by the engine: it works on a paused container too."""
        argv = ["nsenter", "-t", str(self.pid1), "-m", "-u", "-i", "-n", "-p", "-r", "-w", "--", "/bin/sh", "-c", cmd]
        return call(argv, check=check, input=input, env={"PATH": SYSTEM_PATH, "HOME": "/root"})

    def path(self, path: str) -> Path:
        return Path(f"/proc/{self.pid1}/root{path}")

    def pids(self) -> list[int]:
        try:
            wanted = os.readlink(f"/proc/{self.pid1}/ns/pid")
        except OSError:
            return []
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{entry}/ns/pid") == wanted:
                    found.append(int(entry))
        return found

    def present_key(self) -> str:
        return " ".join(self.read("/etc/ssh/host_key.pub").split()[:2])
