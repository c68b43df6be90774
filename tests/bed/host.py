"""What every host of a bed can do, and the inventory text for a set of them."""

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import yaml

from .session import call

Vars = dict[str, object]
SSH_OPTIONS = [
    "-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no",
    "-o", "UserKnownHostsFile=/dev/null", "-o", "GlobalKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
]  # fmt: skip


class Host:
    """A machine with an ssh server.  `vars` are its own inventory variables, `env` is what the controller needs in its
    environment to log in (an agent's socket), `helpers` are hosts to trust that are not nodes (a jump host).
    """

    name: str
    addr: str
    port: int
    user: str
    key: str
    home: str
    host_key: str

    def __init__(self) -> None:
        self.vars: Vars = {}
        self.env: dict[str, str] = {}
        self.helpers: list[Host] = []
        self.recorded_key: str | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.addr}:{self.port}>"

    # -- trust ---------------------------------------------------------------------------------------------------
    def present_key(self) -> str:
        """The public part of the server's host key as it is now: `ssh-ed25519 AAAA…`."""
        raise NotImplementedError

    def trust(self) -> None:
        """Record the present host key; `known_hosts_line` shows what was recorded last."""
        self.recorded_key = self.present_key()

    @property
    def known_hosts_line(self) -> str:
        """The line for known_hosts, or nothing where no key was recorded."""
        if not self.recorded_key:
            return ""
        place = self.addr if self.port == 22 else f"[{self.addr}]:{self.port}"
        return f"{place} {self.recorded_key}\n"

    # -- access --------------------------------------------------------------------------------------------------
    def sh(self, cmd: str, *, check: bool = True, input: str | None = None) -> subprocess.CompletedProcess[str]:  # noqa: A002
        """Run a line as root on the host, not through SSH."""
        raise NotImplementedError

    def path(self, path: str) -> Path:
        """A path of the host as this process can open it."""
        raise NotImplementedError

    def pids(self) -> list[int]:
        """Every process of the host, as seen from here."""
        raise NotImplementedError

    def ssh(
        self, cmd: str, *, user: str | None = None, timeout_s: float = 10, opts: Sequence[str] = (), key: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run a line by the ssh client, trusting any host key as nobody should.  Of an option given twice the first counts."""
        argv = ["ssh", *opts, *SSH_OPTIONS, "-o", f"ConnectTimeout={max(1, int(timeout_s))}", "-i", key or self.key]
        argv += ["-p", str(self.port), f"{user or self.user}@{self.addr}", cmd]
        return call(argv, check=False, timeout_s=timeout_s + 20, env=dict(env) if env is not None else None)

    def read(self, path: str) -> str:
        return self.path(path).read_text(errors="surrogateescape")

    def exists(self, path: str) -> bool:
        return self.path(path).exists()

    def write(self, path: str, text: str, mode: int = 0o644, owner: str = "root") -> None:
        self.sh(f"mkdir -p {Path(path).parent} && cat >{path} && chmod {mode:o} {path} && chown {owner}: {path}", input=text)

    def boot_id(self) -> str:
        return self.sh("cat /proc/sys/kernel/random/boot_id").stdout.strip()


Groups = Mapping[str, Iterable[str] | tuple[Iterable[str], Mapping[str, object]]]


def inventory_text(
    hosts: Sequence[Host], *, groups: Groups | None = None, host_vars: Mapping[str, Mapping[str, object]] | None = None,
    **variables: object,
) -> str:  # fmt: skip
    """An Ansible inventory of these hosts.  `variables` stand at `all`; `sshq_slots: 2` makes the hosts nodes."""
    entries: dict[str, Vars] = {}
    for host in hosts:
        own: Vars = {
            "ansible_host": host.addr,
            "ansible_port": host.port,
            "ansible_user": host.user,
            "ansible_ssh_private_key_file": host.key,
        }
        entries[host.name] = own | host.vars | dict((host_vars or {}).get(host.name, {}))
    top: dict[str, object] = {"hosts": entries, "vars": {"sshq_slots": 2, **variables}}
    children: dict[str, object] = {}
    for name, content in (groups or {}).items():
        members, own_vars = content if isinstance(content, tuple) else (content, {})
        children[name] = {"hosts": {member: None for member in members}} | ({"vars": dict(own_vars)} if own_vars else {})
    if children:
        top["children"] = children
    return yaml.safe_dump({"all": top}, sort_keys=False, default_flow_style=False)


def known_hosts_text(hosts: Iterable[Host]) -> str:
    """The known_hosts file that trusts these hosts and their helpers."""
    return "".join(host.known_hosts_line + known_hosts_text(host.helpers) for host in hosts)
