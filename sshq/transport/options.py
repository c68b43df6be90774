"""What ssh's configuration and the inventory together say of one host: `resolve(target)` → `Resolved`.

The inventory's own values win, then its `-o KEY=VALUE`, then the configuration files, as `ssh -o` would have it.  The
files are read by asyncssh (Host, Match, Include, tokens); what it passes over is listed by `sshconfig`.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import asyncssh

from sshq.errors import UnreachableHostError
from sshq.transport.base import Target

JUMPS_MAX = 8
SYSTEM_CONFIG = "/etc/ssh/ssh_config"
_MEMORY_FILE = re.compile(r"/proc/self/fd/\d+")
_INVENTORY = "the inventory's ssh options,"
_LINE_BREAKS = str.maketrans({"\n": " ", "\r": " "})


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A target with every blank filled in."""

    target: Target
    host: str  # what is dialled, after HostName
    port: int
    account: str
    lookup_name: str  # what known_hosts files call it: HostKeyAlias or `host`
    has_alias: bool  # then the port is no part of the name
    jumps: tuple[str, ...]  # as written, the first to dial first
    proxy_command: str | None
    identity_files: tuple[str, ...]  # of the configuration, not of the inventory
    certificate_files: tuple[str, ...]
    identities_only: bool
    agent_socket: str | None
    gssapi: bool
    known_hosts_files: tuple[str, ...]  # the user's, then the machine's
    asyncssh_options: asyncssh.SSHClientConnectionOptions
    passed_over: str | None  # what is wrong with the machine-wide file, if that could not be read

    @property
    def place(self) -> str:
        """`account@host:port`, for messages."""
        return f"{self.account}@{format_endpoint(self.host, self.port)}"


def format_endpoint(host: str, port: int) -> str:
    """Return host:port, with brackets round an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def config_files(target: Target) -> list[str]:
    """Return the configuration files that apply, those that exist."""
    if target.ssh_config is not None:
        return [] if target.ssh_config == "none" else [os.path.expanduser(target.ssh_config)]
    return [path for path in (os.path.expanduser("~/.ssh/config"), SYSTEM_CONFIG) if os.access(path, os.R_OK)]


def resolve(target: Target) -> Resolved:
    """Merge the inventory's values with ssh's configuration.  Blocking: files, and commands of `Match exec`.

    A machine-wide file that asyncssh cannot read (its own new keywords of Match, say) is passed over, since its user
    cannot mend it; the doctor tells.
    """
    files = config_files(target)
    fault: str | None = None
    try:
        try:
            options = _parse(target, files)
        except ValueError as exc:  # asyncssh's ConfigParseError is one
            if SYSTEM_CONFIG not in files or not str(exc).startswith(os.path.dirname(SYSTEM_CONFIG)):
                raise
            fault = str(exc)
            options = _parse(target, [path for path in files if path != SYSTEM_CONFIG])
    except (OSError, ValueError) as exc:
        raise UnreachableHostError(
            f"{target.name}: ssh's configuration cannot be used: {_MEMORY_FILE.sub(_INVENTORY, str(exc))}",
            host=target.name,
            detail=(f"read: {', '.join(files) or 'no file'}",),
            hint=f"ssh -G {target.address}    # OpenSSH's own reading of the same files",
        ) from exc
    return _fill_in(target, options, fault)


def _parse(target: Target, files: list[str]) -> asyncssh.SSHClientConnectionOptions:
    """Read the files once; whatever must never come from a file is fixed here."""
    with _inventory_options(target) as first:
        options = _load(target, [*first, *files])
        if options.config.has_match_final():
            options.update(reload=True, final=True)
    # All is read: a connection's own options inherit the values, and no file is read twice.
    options.kwargs.update(config=None, reload=False, final=False)
    return options


def _load(target: Target, files: list[str]) -> asyncssh.SSHClientConnectionOptions:
    return asyncssh.SSHClientConnectionOptions(
        config=files, host=target.address, port=target.port or (), username=target.account or (),
        known_hosts=b"", client_keys=None, agent_forwarding=False, x11_forwarding=False, password=None,
        password_auth=False, kbdint_auth=False, host_based_auth=False, client_host_keysign=False,
        compression_algs=["none"], command=None, request_pty=False, send_env=None, env=None,
        pkcs11_provider=None, x509_trusted_certs=None, x509_trusted_cert_paths=(), canonicalize_hostname=False,
        utf8_decode_errors="replace", encoding=None, connect_timeout=None,
    )  # fmt: skip


def _fill_in(target: Target, options: asyncssh.SSHClientConnectionOptions, fault: str | None) -> Resolved:
    config = options.config
    jumps = target.proxy_jump if target.proxy_jump is not None else _text(config.get("ProxyJump"))
    if target.proxy_jump is None and any(key.lower() == "proxycommand" for key, _ in target.options):
        jumps = None  # whichever stands first shuts out the other, and the inventory stands first
    alias = options.host_key_alias
    return Resolved(
        target=target,
        host=options.host,
        port=options.port,
        account=options.username,
        lookup_name=alias or options.host,
        has_alias=bool(alias),
        jumps=split_jumps(jumps),
        proxy_command=_text(config.get("ProxyCommand")) if target.proxy_jump is None else None,
        identity_files=_paths(config.get("IdentityFile")),
        certificate_files=_paths(config.get("CertificateFile")),
        identities_only=bool(config.get("IdentitiesOnly")),
        agent_socket=_agent_socket(config.get("IdentityAgent", "SSH_AUTH_SOCK")),
        gssapi=bool(config.get("GSSAPIAuthentication")) and _gssapi_available(),
        known_hosts_files=_known_hosts_files(options),
        asyncssh_options=options,
        passed_over=fault,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value and value.lower() != "none" else None


def _paths(value: object) -> tuple[str, ...]:
    return tuple(os.path.expanduser(str(path)) for path in value) if isinstance(value, list) else ()


def _agent_socket(value: object) -> str | None:
    """IdentityAgent is a path, a variable by name or with a dollar, or none."""
    if not isinstance(value, str):
        return None
    if value == "SSH_AUTH_SOCK":
        return os.environ.get("SSH_AUTH_SOCK") or None
    if value.startswith("$"):
        return os.environ.get(value.strip("${}")) or None
    return os.path.expanduser(value)


def _gssapi_available() -> bool:
    import importlib.util

    return importlib.util.find_spec("gssapi") is not None


def _known_hosts_files(options: asyncssh.SSHClientConnectionOptions) -> tuple[str, ...]:
    user = options.config.get("UserKnownHostsFile", ["~/.ssh/known_hosts", "~/.ssh/known_hosts2"])
    machine = options.config.get("GlobalKnownHostsFile", ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"])
    return tuple(path for path in (*_paths(user), *_paths(machine)) if path != os.devnull)


@contextmanager
def _inventory_options(target: Target) -> Iterator[list[str]]:
    """Give the inventory's `-o` options as a file in memory: read first, they win, and they are parsed as a file's are."""
    if not target.options:
        yield []
        return
    text = "".join(f"{key} {value}\n" for key, value in _one_line_each(target.options))
    descriptor = os.memfd_create("sshq-options")
    try:
        os.write(descriptor, text.encode())
        yield [f"/proc/self/fd/{descriptor}"]
    finally:
        os.close(descriptor)


def _one_line_each(options: tuple[tuple[str, str], ...]) -> Iterator[tuple[str, str]]:
    for key, value in options:
        yield key.translate(_LINE_BREAKS), value.translate(_LINE_BREAKS)


def split_jumps(text: str | None) -> tuple[str, ...]:
    """Split a ProxyJump value; "none" and nothing are no jump."""
    if text is None or text.lower() == "none":
        return ()
    return tuple(part for part in (piece.strip() for piece in text.split(",")) if part)


def parse_jump(text: str) -> tuple[str | None, str, int | None]:
    """Parse `[user@]host[:port]`, `[user@][v6]:port` or an ssh:// URI into account, host, port."""
    rest = text.removeprefix("ssh://").rstrip("/")
    account, at, place = rest.rpartition("@")
    host, port = place, ""
    if place.startswith("["):
        host, _, tail = place[1:].partition("]")
        port = tail.removeprefix(":")
    elif place.count(":") == 1:
        host, _, port = place.partition(":")
    if not host or (port and not port.isdecimal()):
        raise ValueError(f"`{text}` is not a jump host ([user@]host[:port])")
    return (account if at else None), host, (int(port) if port else None)


def last_jump(resolved: Resolved) -> Target | None:
    """Return the jump host next to this host, as a target that knows its own way; None if there is none.

    As with OpenSSH, the inventory's key files, account and options are the destination's, not the jump host's; and only
    the first of a row of jump hosts follows its own ProxyJump.
    """
    if not resolved.jumps:
        return None
    *before, text = resolved.jumps
    account, host, port = parse_jump(text)
    return Target(
        name=host if port is None else format_endpoint(host, port),
        address=host,
        port=port,
        account=account,
        proxy_jump=",".join(before) or None,
        ssh_config=resolved.target.ssh_config,
    )


def find_jumps(target: Target) -> list[Target]:
    """Return all jump hosts before a host in the order they are dialled; ValueError if they go in a circle."""
    found: list[Target] = []
    jump = last_jump(resolve(target))
    while jump is not None:
        if jump in found or len(found) >= JUMPS_MAX:
            way = " → ".join(hop.name for hop in (jump, *reversed(found)))
            raise ValueError(f"ProxyJump goes in a circle, or over more than {JUMPS_MAX} hosts: {way}")
        found.append(jump)
        jump = last_jump(resolve(jump))
    return found[::-1]
