"""Hosts that run containers of their own: podman or docker, from this machine's packages, in a host of a network namespace.

    box = BoxHost(bed, "b1", "docker"); box.import_image("box:1")

What its engine keeps is there when the host has been rebooted.  The image is busybox; no registry is asked.  A stand-in for apptainer (which no distribution of ours has) makes a real mount namespace
and root of an image directory, and writes down how it was called.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable
from glob import glob
from pathlib import Path

from . import rootfs
from .faults import write_first
from .netns import NetnsBed, NetnsHost
from .session import wait_until, which

DOCKERD = "--bridge=none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false -s vfs --exec-opt native.cgroupdriver=cgroupfs"
APPLETS = "sh cat sleep echo env id pwd kill ls mkdir ps touch true nice stat hostname head grep dd rm test"
CONTAINERS_CONF = """[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=4096:8192"]
"""  # a cgroup tree that is hybrid; no journal; a root that may not raise its own limits
STORAGE_CONF = '[storage]\ndriver = "vfs"\ngraphroot = "/var/lib/boxes"\nrunroot = "/run/boxes"\n'
# Real namespaces, as a plain engine of images that are directories: mounts, root, working directory, environment.
APPTAINER = r"""#!/bin/sh
printf '%s\n' "$@" >"${APPTAINER_LOG:-/var/log/apptainer.log}"
[ "$1" = exec ] || exit 255
shift
BINDS='' CLEAN=''
while :; do
    case $1 in
    --cleanenv) CLEAN=1 ;;
    --no-home | --nv | --rocm) ;;
    --bind) BINDS="$BINDS $2"; shift ;;
    --pwd) PLACE=$2; shift ;;
    *) break ;;
    esac
    shift
done
ROOT=$1
shift
export BINDS ROOT PLACE CLEAN SSHQ_ATTEMPT
exec unshare -m /bin/sh -c '
for BIND in $BINDS; do
    FROM=${BIND%%:*} REST=${BIND#*:}
    TO=$ROOT${REST%%:*}
    if [ -d "$FROM" ]; then mkdir -p "$TO"; else mkdir -p "${TO%/*}"; : >>"$TO"; fi
    mount --bind "$FROM" "$TO" || exit 255
done
mkdir -p "$ROOT/proc" "$ROOT/dev"
mount --rbind /dev "$ROOT/dev"
mount -t proc proc "$ROOT/proc" 2>/dev/null
exec chroot "$ROOT" /bin/env -i PATH=/bin HOME=/root "$0" -c "cd \"$PLACE\" && exec \"\$@\"" sh "$0" "$@"' "$@"
"""


def why_no_engine(engine: str = "podman") -> str | None:
    """What this machine lacks for such hosts, or None."""
    if os.geteuid() != 0 or Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]:
        return "optional: containers on hosts need root, of the machine and not of a user namespace"
    packages = {"runc": "runc", "busybox": "busybox-static"}
    packages |= {"dockerd": "docker.io"} if engine == "docker" else {"podman": "podman", "conmon": "conmon"}
    packages |= {"newuidmap": "uidmap"} if engine == "rootless" else {}
    missing = [package for tool, package in packages.items() if not which(tool)]
    return f"apt-get install --no-install-recommends {' '.join(missing)}" if missing else None


def build_boxes(root: str) -> None:
    """A lab host with podman, unable to reach any registry."""
    rootfs.build_lab(root)
    found = [rootfs.system_tool(name) for name in ("podman", "runc", "conmon", "busybox", "chroot", "unshare", "mount")]
    rootfs.copy_programs(root, [path for path in found if path])
    rootfs.write_file(root, "/etc/containers/containers.conf", CONTAINERS_CONF)
    rootfs.write_file(root, "/etc/containers/storage.conf", STORAGE_CONF)
    rootfs.write_file(root, "/etc/containers/policy.json", '{"default": [{"type": "insecureAcceptAnything"}]}')
    rootfs.make_directory(root, "/var/lib/boxes")
    rootfs.write_file(root, "/usr/local/bin/apptainer", APPTAINER, 0o755)


def build_rootless(root: str) -> None:
    """With podman for alice: subordinate ids, and the two programs that map them."""
    build_boxes(root)
    rootfs.copy_programs(root, [path for name in ("newuidmap", "newgidmap") if (path := rootfs.system_tool(name))])
    for path in ("/etc/subuid", "/etc/subgid"):
        rootfs.write_file(root, path, "alice:100000:65536\n")
    rootfs.write_file(root, "/etc/containers/storage.conf", '[storage]\ndriver = "vfs"\n')


def build_docker(root: str) -> None:
    """With a docker whose daemon is started at boot, and no network but the host's."""
    rootfs.build_lab(root)
    names = ("docker", "dockerd", "containerd", "containerd-shim-runc-v2", "runc", "busybox", "docker-init")
    rootfs.copy_programs(root, [path for name in names if (path := rootfs.system_tool(name))])
    os.symlink("/run", f"{root}/var/run")


ENGINES: dict[str, Callable[[str], None]] = {"podman": build_boxes, "rootless": build_rootless, "docker": build_docker}


def build_image_root(path: str) -> None:
    """A root file system for an image: busybox, root's account, a directory anybody may write to."""
    for name in ("bin", "etc", "root", "tmp"):
        os.makedirs(f"{path}/{name}", exist_ok=True)
    os.chmod(f"{path}/tmp", 0o1777)
    busybox = rootfs.system_tool("busybox") or ""
    shutil.copy(busybox, f"{path}/bin/busybox")
    for library in rootfs.libraries_of([busybox]):  # none where it is the static one, but a machine may have the other
        os.makedirs(path + os.path.dirname(library), exist_ok=True)
        shutil.copy(os.path.realpath(library), path + library)
    for name in APPLETS.split():
        os.symlink("busybox", f"{path}/bin/{name}")
    rootfs.write_file(path, "/etc/passwd", "root:x:0:0::/root:/bin/sh\n")


class BoxHost:
    """A host of the bed with an engine on it, and the account that its jobs run as.

    `engine` is podman (as root), rootless (podman, as alice) or docker (an own dockerd, in whose group root and alice are).
    """

    def __init__(self, bed: NetnsBed, name: str, engine: str = "podman") -> None:
        kind = f"boxes-{engine}"
        rootfs.BUILDERS.setdefault(kind, ENGINES[engine])
        self.engine = engine
        self.tool = "docker" if engine == "docker" else "podman"
        self.host: NetnsHost = bed.add(1, root=kind, names=[name])[0]
        if engine != "rootless":
            self.host.user, self.host.home = "root", "/root"
        self.image_root = f"{bed.dir}/{name}.image"
        build_image_root(self.image_root)
        self.mount()

    def mount(self) -> None:
        """After each boot: control groups and message queues; what a login gives an account; the engine's daemon."""
        self.host.share("/sys", "/sys")
        self.host.sh("mkdir -p /dev/mqueue && mount -t mqueue none /dev/mqueue")
        if self.engine == "rootless":
            # A user namespace gets no /proc where all that it could see have something mounted over a part.
            self.host.sh(
                "mkdir -p -m 700 /run/user/1001 /run/proc && chown 1001:1001 /run/user/1001 && mount -t proc none /run/proc"
            )
        if self.engine == "docker":
            self.start_daemon()

    def start_daemon(self, *, live_restore: bool = True) -> None:
        """Start dockerd; without `live_restore` it ends what still runs, as after a plain installation's restart."""
        options = f"--cgroup-parent=/sq{self.host.bed.slot}-{self.host.name} {'--live-restore' if live_restore else ''}"
        self.host.sh(f"rm -f /run/docker.pid; setsid dockerd {DOCKERD} {options} </dev/null >>/var/log/dockerd.log 2>&1 &")
        wait_until(
            lambda: self.host.sh("docker version", check=False).returncode == 0, 30,
            lambda: self.host.read("/var/log/dockerd.log")[-2000:],
        )  # fmt: skip

    def cgroups(self) -> list[str]:
        """Those that the daemon makes its containers' in, on this machine: of each controller (v1), or the one (v2)."""
        name = f"sq{self.host.bed.slot}-{self.host.name}"
        return [*glob(f"/sys/fs/cgroup/{name}"), *glob(f"/sys/fs/cgroup/*/{name}")]

    def limit_memory(self, mib: int | None) -> None:
        """Of all containers together, which have been some before."""
        value = str(mib << 20) if mib else "-1"
        done = [write_first(group, {"memory.limit_in_bytes": value, "memory.max": value.replace("-1", "max")}) for group in self.cgroups()]
        assert any(done), self.cgroups()

    def remove(self) -> None:
        self.host.bed.remove([self.host])
        for group in self.cgroups():
            for folder, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)

    def signal_daemon(self, name: str) -> None:
        self.host.sh(f"kill -{name} $(cat /run/docker.pid)")

    def call(self, line: str, *, check: bool = True) -> str:
        """A line of the account that jobs run as, with what its engine needs."""
        if self.engine != "rootless":
            return self.host.sh(line, check=check).stdout
        done = self.host.ssh(f"export XDG_RUNTIME_DIR=/run/user/1001; {line}", timeout_s=30)
        assert not check or done.returncode == 0, done
        return done.stdout

    def import_image(self, name: str, *changes: str) -> None:
        tar = subprocess.run(["tar", "-C", self.image_root, "-cf", "-", "."], capture_output=True, check=True).stdout
        self.host.path("/srv").mkdir(exist_ok=True)
        self.host.path("/srv/image.tar").write_bytes(tar)
        words = " ".join(f"-c '{change}'" for change in changes)
        self.call(f"{self.tool} import {words} /srv/image.tar {name}")
        self.host.path("/srv/image.tar").unlink()

    def unpack_image(self, path: str) -> None:
        """As a directory, for apptainer."""
        shutil.copytree(self.image_root, self.host.path(path), symlinks=True)

    def containers(self) -> str:
        return self.call(f"{self.tool} ps -a --format '{{{{.Names}}}} {{{{.Status}}}}'")

    def boxes(self) -> list[str]:
        """What the spool still says of containers."""
        return self.host.sh(f"ls -d {self.host.home}/.local/state/sshq/spool/*/a/*.box 2>/dev/null", check=False).stdout.split()

    def pids_of(self, kind: str) -> list[int]:
        """Of all launches: "sup" or "run"."""
        text = self.host.sh(f"cat {self.host.home}/.local/state/sshq/spool/*/a/*.{kind} 2>/dev/null", check=False).stdout
        return [int(line.split()[1]) for line in text.splitlines() if line]
