"""Odd but real nodes, by name.  Each builder starts from a fresh host and returns it ready to be put in an inventory."""

import os
import shutil
import socket as sockets
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .netns import NetnsBed, NetnsHost
from .session import CommandError, call, wait_until, which

PASSPHRASE = "correct horse"


@dataclass(frozen=True, slots=True, kw_only=True)
class OddKind:
    """`usable`: sshq is expected to run jobs there.  `why`: what is odd, in words a report may use."""

    build: Callable[[NetnsBed], NetnsHost]
    usable: bool = True
    why: str = ""
    tool: str | None = None  # what this machine must have, as a command


def login_shell(name: str) -> Callable[[NetnsBed], NetnsHost]:
    def build(bed: NetnsBed) -> NetnsHost:
        (host,) = bed.add()
        path = which(name)
        if not path:
            msg = f"apt-get install {name}"
            raise CommandError(msg)
        host.set_login_shell(path)
        return host

    return build


def noisy_bashrc(bed: NetnsBed) -> NetnsHost:
    (host,) = bed.add()
    host.noisy()
    return host


def busybox(bed: NetnsBed) -> NetnsHost:
    (host,) = bed.add(root="busybox", server="dropbear")
    return host


def max_sessions_1(bed: NetnsBed) -> NetnsHost:
    (host,) = bed.add(sshd_config="MaxSessions 1\n")
    return host


def proxy_jump(bed: NetnsBed) -> NetnsHost:
    """Only reachable from the jump host; the way there is said in the inventory."""
    jump, host = bed.add(2)
    host.nft(f"ip saddr != {jump.addr} tcp dport 22 drop")
    host.vars["ansible_ssh_common_args"] = f"-J {jump.user}@{jump.addr}"
    host.helpers.append(jump)
    return host


def is_listening(path: str) -> bool:
    """Whether a server takes connections there; its socket stands there a moment before it does."""
    with sockets.socket(sockets.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


def agent(bed: NetnsBed) -> NetnsHost:
    """The key file is encrypted; an agent has it open.  Other keys do not log in."""
    (host,) = bed.add()
    key = f"{host.dir}/encrypted"
    call(["ssh-keygen", "-q", "-t", "ed25519", "-N", PASSPHRASE, "-C", "", "-f", key])
    host.write("/home/alice/.ssh/authorized_keys", Path(key + ".pub").read_text(), 0o600, "alice")
    socket, ask = f"{host.dir}/agent", f"{host.dir}/askpass"
    Path(ask).write_text(f"#!/bin/sh\necho '{PASSPHRASE}'\n")
    os.chmod(ask, 0o755)
    env = host.marked_env()
    argv = ["ssh-agent", "-D", "-a", socket]
    host.processes.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=env, start_new_session=True))
    wait_until(lambda: is_listening(socket), 30, "ssh-agent")
    call(["ssh-add", "-q", key], env=env | {"SSH_AUTH_SOCK": socket, "SSH_ASKPASS": ask, "SSH_ASKPASS_REQUIRE": "force"})
    host.key, host.env["SSH_AUTH_SOCK"] = key, socket
    return host


def changed_host_key(bed: NetnsBed) -> NetnsHost:
    (host,) = bed.add()
    host.new_host_key()
    return host


def unknown_host_key(bed: NetnsBed) -> NetnsHost:
    (host,) = bed.add()
    host.recorded_key = None
    return host


def bad_key(bed: NetnsBed) -> NetnsHost:
    """The login key is not authorized there."""
    (host,) = bed.add()
    host.write("/home/alice/.ssh/authorized_keys", "", 0o600, "alice")
    return host


def read_only_home(bed: NetnsBed) -> NetnsHost:
    (host,) = bed.add()
    host.read_only("/home")
    return host


def noexec_tmp(bed: NetnsBed) -> NetnsHost:
    (host,) = bed.add(tmp_options=",noexec")
    return host


def force_command(bed: NetnsBed) -> NetnsHost:
    (host,) = bed.add(sshd_config="Match User alice\n  ForceCommand echo This account is for file transfer only.\n")
    return host


def missing_tools(bed: NetnsBed) -> NetnsHost:
    """No setsid, flock, timeout, nohup, stdbuf, python3 (a minimal image)."""
    (host,) = bed.add()
    host.remove_tools("setsid", "flock", "timeout", "nohup", "stdbuf", "python3")
    return host


ODD: dict[str, OddKind] = {
    "tcsh": OddKind(build=login_shell("tcsh"), tool="tcsh"),
    "fish": OddKind(build=login_shell("fish"), tool="fish"),
    "zsh": OddKind(build=login_shell("zsh"), tool="zsh"),
    "ksh": OddKind(build=login_shell("ksh"), tool="ksh"),
    "noisy_bashrc": OddKind(build=noisy_bashrc, why="noisy"),
    "busybox": OddKind(build=busybox, tool="dropbear"),
    "max_sessions_1": OddKind(build=max_sessions_1, why="MaxSessions"),
    "proxy_jump": OddKind(build=proxy_jump),
    "agent": OddKind(build=agent),
    "read_only_home": OddKind(build=read_only_home),
    "noexec_tmp": OddKind(build=noexec_tmp),
    "missing_tools": OddKind(build=missing_tools, usable=False, why="setsid"),
    "changed_host_key": OddKind(build=changed_host_key, usable=False, why="host key"),
    "unknown_host_key": OddKind(build=unknown_host_key, usable=False, why="host key"),
    "bad_key": OddKind(build=bad_key, usable=False, why="auth"),
    "force_command": OddKind(build=force_command, usable=False, why="ForceCommand"),
}


def lacking_tool(kind: str) -> str | None:
    """The command this machine lacks for such a host."""
    tool = ODD[kind].tool
    return tool if tool and not shutil.which(tool) and not which(tool) else None
