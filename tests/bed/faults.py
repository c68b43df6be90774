"""What can go wrong with a host: cable, power, clock, disks, keys, shells.  One verb a fault, mixed into NetnsHost."""

import contextlib
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from . import rootfs
from .host import Host
from .session import CommandError, call, wait_until

if TYPE_CHECKING:
    from .netns import NetnsBed

HERE = os.path.dirname(os.path.abspath(__file__))
ESTABLISHED = "01"  # in /proc/net/tcp


class FaultsMixin(Host):
    """The fault verbs; each is done when it returns."""

    bed: "NetnsBed"
    space: str
    link: str
    dir: str
    sshd: str
    wire: str
    control: str
    process: subprocess.Popen[bytes] | None
    relay: subprocess.Popen[str] | None
    pid1: int | None

    def __init__(self) -> None:
        super().__init__()
        self.cgroups: dict[str, str] = {}
        self.is_frozen = False

    def start_boot(self) -> None:
        raise NotImplementedError

    def wait_up(self, timeout_s: float = 20) -> None:
        raise NotImplementedError

    # -- power ---------------------------------------------------------------------------------------------------
    def kill(self) -> None:
        """Every process dies at once; the kernel of the "machine" stays and answers with RST."""
        if self.pid1:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid1, signal.SIGKILL)
        if self.process:
            self.process.kill()
            self.process.wait()
        self.pid1 = self.process = None

    crash = kill

    def power_off(self) -> None:
        """Silence: no FIN, no RST."""
        self.cut()
        self.kill()

    def power_on(self) -> None:
        """Boot: new boot_id, empty /tmp and /dev/shm, the homes as they were."""
        self.bed.ip(f"link set {self.link} up")
        self.start_boot()
        self.wait_up()

    def reboot(self) -> None:
        self.power_off()
        self.power_on()

    def freeze(self) -> None:
        """The whole user space stands still while the kernel still acknowledges: a wedged or swapping machine."""
        group = self.join_cgroup("freezer", {})
        self.is_frozen = True
        if not write_first(group, {"freezer.state": "FROZEN", "cgroup.freeze": "1"}):
            self.signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        if not self.is_frozen:
            return
        self.is_frozen = False
        if not write_first(self.cgroups.get("freezer"), {"freezer.state": "THAWED", "cgroup.freeze": "0"}):
            self.signal_all(signal.SIGCONT)

    def signal_all(self, number: signal.Signals) -> None:
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def join_cgroup(self, controller: str, values: dict[str, object]) -> str | None:
        """Put all processes of the host in an own cgroup (v1 or v2); None where this machine allows none."""
        for base in (f"/sys/fs/cgroup/{controller}", "/sys/fs/cgroup"):
            if not os.path.exists(f"{base}/cgroup.procs"):
                continue
            group = f"{base}/{self.space}"
            try:
                os.makedirs(group, exist_ok=True)
                self.cgroups[controller] = group
                for pid in self.pids():
                    with contextlib.suppress(ProcessLookupError):
                        Path(group, "cgroup.procs").write_text(str(pid))
            except OSError:
                continue
            write_first(group, {name: str(value) for name, value in values.items()})
            return group
        return None

    def leave_cgroups(self) -> None:
        for group in self.cgroups.values():

            def is_gone(group: str = group) -> bool:
                with contextlib.suppress(OSError):
                    os.rmdir(group)
                return not os.path.exists(group)

            wait_until(is_gone, 5, f"{group} empty")
        self.cgroups.clear()

    # -- cable ---------------------------------------------------------------------------------------------------
    def cut(self) -> None:
        """Cable out.  What runs there goes on."""
        self.bed.ip(f"link set {self.link} down")

    def heal(self) -> None:
        """Cable in, no filter (a `rate` or `shape` stays)."""
        self.bed.ip(f"link set {self.link} up")
        call(["ip", "netns", "exec", self.space, "nft", "delete", "table", "inet", "bed"], check=False)

    def nft(self, rule: str, hook: str = "input") -> None:
        """A packet filter inside the host: `drop`; `numgen random mod 100 < 30 drop`; hook "output" is one way."""
        text = f"add table inet bed; add chain inet bed {hook} {{ type filter hook {hook} priority 0; }}; "
        call(["ip", "netns", "exec", self.space, "nft", f"{text}add rule inet bed {hook} {rule}"])

    def reset(self) -> None:
        """Every packet to port 22 is answered with RST, so that open connections die and new ones are refused."""
        self.nft("tcp dport 22 reject with tcp reset")

    def half_open(self) -> None:
        """The connections that stand now fall silent for ever, as if the peer had forgotten them; new ones work."""
        lines = self.sh("cat /proc/net/tcp").stdout.splitlines()[1:]
        ports = {str(int(line.split()[2].split(":")[1], 16)) for line in lines if line.split()[3] == ESTABLISHED}
        if not ports:
            msg = f"{self.name}: no connection stands that could fall silent"
            raise CommandError(msg)
        self.nft(f"tcp sport {{ {', '.join(sorted(ports))} }} drop")
        self.nft(f"tcp dport {{ {', '.join(sorted(ports))} }} drop", hook="output")

    def rate(self, kbit: int | None) -> None:
        """A slow line in both directions; None ends it."""
        for prefix, link in ((["ip", "netns", "exec", self.space], "eth0"), ([], self.link)):
            call([*prefix, "tc", "qdisc", "del", "dev", link, "root"], check=False)
            if kbit:
                shape = ["tbf", "rate", f"{kbit}kbit", "burst", "4kb", "latency", "400ms"]
                call([*prefix, "tc", "qdisc", "add", "dev", link, "root", *shape])

    def shape(self, delay_ms: float = 0, jitter_ms: float = 0, loss: float = 0.0) -> None:
        """Delay, jitter and loss each way, by the user-space wire (`wire="tap"`)."""
        if self.wire != "tap":
            msg = 'shape needs a host made with wire="tap"'
            raise ValueError(msg)
        with open(self.control + ".new", "w", encoding="utf-8") as file:
            json.dump([delay_ms / 1e3, jitter_ms / 1e3, loss], file)
        os.rename(self.control + ".new", self.control)
        if self.relay and self.relay.stdout:
            self.relay.send_signal(signal.SIGHUP)
            self.relay.stdout.readline()  # it says when it has read it

    # -- sshd ----------------------------------------------------------------------------------------------------
    def sshd_signal(self, name: str) -> None:
        """Signal the listening sshd alone: sessions and jobs live on."""
        self.sh(f"kill -{name} $(cat /run/sshd.pid)")

    def sshd_start(self) -> None:
        self.sh(f"{self.sshd} </dev/null >>/var/log/sshd.log 2>&1 &")
        self.wait_up()

    def sshd_reload(self) -> None:
        """Read sshd_config again; open sessions keep the old one."""
        self.sh("pid=$(cat /run/sshd.pid); kill -TERM $pid; while kill -0 $pid 2>/dev/null; do :; done; rm -f /run/sshd.pid")
        self.sshd_start()

    def kill_sessions(self) -> None:
        """Every sshd but the listening one dies: connections end, detached jobs do not."""
        self.sh(
            "listener=$(cat /run/sshd.pid); for p in /proc/[0-9]*; do p=${p#/proc/}; "
            '[ "$p" = "$listener" ] && continue; read -r name </proc/$p/comm 2>/dev/null || continue; '
            'case $name in sshd*|dropbear) kill -KILL "$p" 2>/dev/null;; esac; done; :'
        )

    def sessions(self) -> list[int]:
        """The sshd processes that serve a login (one a connection: the one that runs as the user), as the host numbers them."""
        text = self.sh("ps -eo pid=,user=,comm=").stdout
        rows = [line.split() for line in text.splitlines()]
        return [int(pid) for pid, user, name in rows if name.startswith("sshd") and user == self.user]

    def append_sshd_config(self, lines: str) -> None:
        """Put lines before the present configuration (of two settings the first counts) and reload."""
        config = self.read("/etc/ssh/sshd_config")
        self.write("/etc/ssh/sshd_config", config + lines if lines.startswith("Match ") else lines + config)
        self.sshd_reload()

    def new_host_key(self) -> None:
        """Another host key from now on; `known_hosts_line` keeps the recorded one until `trust`."""
        self.sh("rm -f /etc/ssh/host_key*; ssh-keygen -q -t ed25519 -N '' -C '' -f /etc/ssh/host_key")
        self.sshd_reload()

    # -- accounts ------------------------------------------------------------------------------------------------
    def set_login_shell(self, path: str, user: str = "alice") -> None:
        """Another login shell, copied in with its libraries (and fish's function files)."""
        root = str(self.path(""))
        real = os.path.realpath(path)
        rootfs.copy_programs(root, [real])
        if os.path.basename(path) == "fish" and not self.exists("/usr/share/fish"):
            shutil.copytree("/usr/share/fish", f"{root}/usr/share/fish", ignore=shutil.ignore_patterns("man", "completions"))
        self.sh(f"sed -i 's#^\\({user}:.*\\):[^:]*$#\\1:{real}#' /etc/passwd; echo {real} >>/etc/shells")

    def noisy(self, text: str = "Welcome to the lab!") -> None:
        """A .bashrc that prints on both streams; bash started by sshd reads it."""
        self.write(f"{self.home}/.bashrc", f"echo '{text}'\necho 'noise on stderr' >&2\n", owner=self.user)

    def remove_tools(self, *names: str) -> None:
        self.sh(" ; ".join(f"rm -f /usr/bin/{name} /usr/sbin/{name} /usr/local/bin/{name}" for name in names))

    def skew(self, seconds: int) -> None:
        """Another wall clock for all that sshd starts from now on (libfaketime; raises where that is not installed)."""
        found = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1") + glob.glob("/usr/lib/faketime/libfaketimeMT.so.1")
        shutil.copy(found[0], self.path("/usr/lib/libfaketime.so"))
        fake = f"LD_PRELOAD=/usr/lib/libfaketime.so FAKETIME={seconds:+d}s FAKETIME_DONT_FAKE_MONOTONIC=1"
        self.append_sshd_config(f"SetEnv {fake}\n")

    # -- file systems --------------------------------------------------------------------------------------------
    def tmpfs(
        self, path: str, size: str = "64k", *, inodes: int | None = None, mode: str = "1777", owner: str = "root", options: str = ""
    ) -> None:
        """A small file system: full soon (`size`), or out of inodes (`inodes`)."""
        more = (f",nr_inodes={inodes}" if inodes else "") + options
        self.sh(f"mkdir -p {path}; mount -t tmpfs -o size={size},mode={mode}{more} bed {path}; chown {owner}: {path}")

    def read_only(self, path: str, on: bool = True) -> None:
        self.sh(f"mountpoint -q {path} || mount --bind {path} {path}; mount -o remount,bind,{'ro' if on else 'rw'} {path}")

    def umount(self, path: str) -> None:
        self.sh(f"umount -l {path}")

    def share(self, directory: str, path: str) -> None:
        """Show a directory of this machine at `path`, as NFS would (without its lag)."""
        self.sh(f"mkdir -p {path}")
        call([sys.executable, f"{HERE}/graft.py", str(self.pid1), directory, path])


def write_first(group: str | None, values: dict[str, str]) -> bool:
    """Write the first of these control files that the cgroup has."""
    for name, value in values.items():
        if group and os.path.exists(f"{group}/{name}"):
            with contextlib.suppress(OSError):
                Path(group, name).write_text(value)
                return True
    return False
