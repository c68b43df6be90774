"""One login on one host: configuration, host key, jump hosts, dialling, key exchange, authentication, in that order.

Whatever can be refused without the network is refused first: an unknown host key, a locked key.  Our own known keys are
handed to asyncssh as keys, never as a file or None, so that no option of any configuration can switch the check off.
"""

import asyncio
import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import asyncssh

from sshq.errors import LoginError, NodeError
from sshq.transport.base import Deadlines, Target
from sshq.transport.classify import Attempt, classify, retell
from sshq.transport.credentials import (
    Credentials,
    KeyFiles,
    ask_agent,
    explain_agent_gone,
    gather_credentials,
    refuse_without_key,
)
from sshq.transport.dial import Dialled, NoAnswerError, dial, dial_by_command
from sshq.transport.hostkeys import HostKeys, Lookup
from sshq.transport.keepalives import Keepalives
from sshq.transport.options import Resolved, find_jumps, last_jump, resolve
from sshq.transport.turns import OPENINGS_A_JUMP_HOST, Turns

_GREETING_KEPT = 4096
_PLAIN_ALGORITHMS = (
    "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-512", "rsa-sha2-256",
)  # fmt: skip
_CERTIFICATE_SUFFIX = "-cert-v01@openssh.com"


class Lease(Protocol):
    """A share in a jump host's connection."""

    @property
    def connection(self) -> asyncssh.SSHClientConnection:
        """The connection to tunnel through."""

    def release(self) -> None:
        """Give the share back."""


class JumpHostSource(Protocol):
    """Where shared connections to jump hosts come from."""

    async def lease(self, jump: Target) -> Lease:
        """Return a share in the connection to a jump host, which knows its own way."""


@dataclass(slots=True)
class Shared:
    """What all logins of a process have in common."""

    host_keys: HostKeys
    jump_hosts: JumpHostSource
    deadlines: Deadlines
    keepalives: Keepalives
    turns: Turns = field(default_factory=Turns)
    key_files: KeyFiles = field(default_factory=KeyFiles)


@dataclass(slots=True)
class Login:
    """A connection that is in, and what it hangs on."""

    connection: asyncssh.SSHClientConnection
    events: "ClientEvents"
    attempt: Attempt
    lease: Lease | None
    dialled: Dialled | None = None

    def let_go(self) -> None:
        """Give the jump host's share back, hang up on the proxy."""
        if self.dialled is not None:
            self.dialled.end_proxy()
        if self.lease is not None:
            self.lease.release()
            self.lease = None


class ClientEvents(asyncssh.SSHClient):
    """What asyncssh tells us of one connection."""

    def __init__(self, attempt: Attempt, timeout: asyncio.Timeout, login_s: float) -> None:
        self._attempt, self._timeout, self._login_s = attempt, timeout, login_s
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.banner = ""

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:  # noqa: ARG002
        """TCP or the tunnel stands; from here the login's own time runs."""
        if self._attempt.stage == "tunnel":
            self._timeout.reschedule(asyncio.get_running_loop().time() + self._login_s)
        self._attempt.stage = "login"

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:  # noqa: ARG002
        """Asked only for a key that is none of ours: note it for the message, refuse it."""
        self._attempt.shown_key = key
        return False

    def auth_banner_received(self, msg: str, lang: str) -> None:  # noqa: ARG002
        """Keep the banner for `sshq doctor`."""
        self.banner = (self.banner + msg)[:_GREETING_KEPT]

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end and its reason."""
        if not self.lost.done():
            self.lost.set_result(exc)


_OpenTunnel = tuple["asyncssh.SSHTCPChannel[bytes]", "asyncssh.SSHTCPSession[bytes]"]


class Tunnel:
    """A way through a jump host that closes again what opened after we had given up waiting for it."""

    def __init__(self, connection: asyncssh.SSHClientConnection) -> None:
        self._connection = connection

    async def create_connection(
        self, session_factory: Callable[[], asyncssh.SSHTCPSession[bytes]], remote_host: str, remote_port: int
    ) -> _OpenTunnel:
        """What asyncssh calls to get from the jump host to the host."""
        opening = asyncio.ensure_future(self._connection.create_connection(session_factory, remote_host, remote_port))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_late)
            raise

    def close(self) -> None:
        """The jump host's connection is closed by its last lease, not by one host."""

    async def wait_closed(self) -> None:
        """Nothing to wait for."""


def _close_late(opening: "asyncio.Future[_OpenTunnel]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[0].abort()


async def log_in(target: Target, shared: Shared) -> Login:
    """Log in on one host, or raise a NodeError."""
    resolved = await asyncio.to_thread(resolve, target)  # `Match exec` runs commands
    attempt = Attempt(resolved, shared.host_keys, shared.host_keys.look_up(resolved))
    if not attempt.lookup.keys:
        raise shared.host_keys.explain_unknown(resolved, attempt.lookup)
    lease: Lease | None = None
    login: Login | None = None
    try:
        attempt.credentials = await gather_credentials(resolved, shared.key_files)
        refuse_without_key(resolved, attempt.credentials)
        lease = await lease_jump_host(resolved, shared)
        attempt.via = ", ".join(resolved.jumps)
        login = await _open(attempt, shared, lease)
        await _adopt_host_key(login, shared.host_keys)
        _look_after(login, shared.keepalives)
        return login
    except BaseException as exc:
        if login is not None:
            login.connection.abort()
            login.let_go()
        elif lease is not None:
            lease.release()
        if isinstance(exc, NodeError) or not isinstance(exc, Exception):
            raise
        raise await _explain(exc, attempt) from exc
    finally:
        attempt.credentials.close()


def _look_after(login: Login, keepalives: Keepalives) -> None:
    connection, lost = login.connection, login.events.lost
    if not lost.done():
        keepalives.add(connection, connection.get_extra_info("socket") if login.lease is None else None)
        lost.add_done_callback(lambda _: keepalives.remove(connection))


async def lease_jump_host(resolved: Resolved, shared: Shared) -> Lease | None:
    """Lease the jump host before this host; None if there is none.  Its failure is told as this host's."""
    jump = last_jump(resolved)
    if jump is None:
        return None
    await asyncio.to_thread(find_jumps, resolved.target)  # refuses a circle, which would wait for itself
    try:
        return await shared.jump_hosts.lease(jump)
    except NodeError as exc:
        raise retell(exc, resolved.target.name) from exc


async def _open(attempt: Attempt, shared: Shared, lease: Lease | None) -> Login:
    """Get a transport to the host in its turn, and log in over it."""
    resolved = attempt.resolved
    if lease is not None:
        attempt.stage = "tunnel"
        async with shared.turns.at(lease.connection, OPENINGS_A_JUMP_HOST):
            return await _authenticate(attempt, shared, lease=lease)
    async with shared.turns.at((resolved.host, resolved.port)):
        dialled = await dial_in_turn(resolved, shared)
        attempt.first_bytes = dialled.first_bytes
        try:
            async with shared.turns.handshakes:
                login = await _authenticate(attempt, shared, sock=dialled.sock)
        except BaseException:
            dialled.close()
            raise
        login.dialled = dialled
        return login


async def dial_in_turn(resolved: Resolved, shared: Shared) -> Dialled:
    """Return a connection on which the server has begun to speak."""
    options = resolved.asyncssh_options
    async with shared.turns.dials:
        if resolved.proxy_command is not None:
            return await dial_by_command(resolved.proxy_command, deadline_s=shared.deadlines.connect_s)
        return await dial(
            resolved.host,
            resolved.port,
            deadline_s=shared.deadlines.connect_s,
            family=options.family,
            local_address=options.local_addr,
        )


async def _authenticate(
    attempt: Attempt, shared: Shared, *, sock: socket.socket | None = None, lease: Lease | None = None
) -> Login:
    resolved, lookup = attempt.resolved, attempt.lookup
    login_s = shared.deadlines.login_s
    limit_s = login_s if lease is None else shared.deadlines.connect_s
    if lease is None:
        attempt.stage = "login"
    made: list[ClientEvents] = []
    try:
        async with asyncio.timeout(limit_s) as timeout:

            def make_events() -> ClientEvents:
                made.append(ClientEvents(attempt, timeout, login_s))
                return made[-1]

            connection = await asyncssh.connect(
                resolved.target.address,
                options=resolved.asyncssh_options,
                config=None,
                sock=sock,
                tunnel=None if lease is None else Tunnel(lease.connection),
                proxy_command=None,
                client_factory=make_events,
                known_hosts=_known_hosts(lookup),
                server_host_key_algs=host_key_algorithms(lookup),
                client_keys=attempt.credentials.keys or None,
                agent_path=None,
                agent_identities=None,
                login_timeout=0,
                keepalive_interval=shared.keepalives.asked_s,
                keepalive_count_max=shared.keepalives.count,
                rekey_seconds=rekey_after_s(resolved),
                kex_algs=preferred_kex(resolved),
                encryption_algs=_preferred_ciphers(resolved),
                **_authentication(resolved),
            )
    except TimeoutError as exc:
        if isinstance(exc, NoAnswerError):
            raise
        raise NoAnswerError(attempt.stage, login_s if attempt.stage == "login" else limit_s) from None
    attempt.stage = "connected"
    return Login(connection, made[-1], attempt, lease)


def rekey_after_s(resolved: Resolved) -> float | None:
    """Return when a connection takes new keys: within the limit that is set, or of an hour, but not all of a lab at once."""
    limit_s: float | None = resolved.asyncssh_options.rekey_seconds
    return limit_s and limit_s * random.uniform(0.5, 1.0)  # noqa: S311


def _known_hosts(lookup: Lookup) -> tuple[Sequence[asyncssh.SSHKey], ...]:
    """Return the keys themselves: host keys, authorities, revoked; no X.509."""
    plain, authorities, revoked = ([known.key for known in group] for group in (lookup.plain, lookup.authorities, lookup.revoked))
    return (plain, authorities, revoked, (), (), (), ())


def host_key_algorithms(lookup: Lookup) -> list[str]:
    """Ask for the kinds of key we know first, but take any: a missing kind is a changed key, not a failed handshake."""
    known = [algorithm for key in lookup.plain for algorithm in _signatures(key.kind)]
    certified = [name + _CERTIFICATE_SUFFIX for name in _PLAIN_ALGORITHMS] if lookup.authorities else []
    return list(dict.fromkeys((*certified, *known, *_PLAIN_ALGORITHMS)))


def _signatures(kind: str) -> tuple[str, ...]:
    if kind == "ssh-rsa":
        return ("rsa-sha2-512", "rsa-sha2-256")
    return (kind,) if kind in _PLAIN_ALGORITHMS else ()


def _authentication(resolved: Resolved) -> dict[str, object]:
    if resolved.gssapi:
        return {"preferred_auth": ("gssapi-keyex", "gssapi-with-mic", "publickey")}
    return {"preferred_auth": ("publickey",), "gss_host": None, "gss_kex": False, "gss_auth": False}


def preferred_kex(resolved: Resolved) -> str | tuple[()]:
    """Measured: curve25519 is 55 ms a login faster than the post-quantum exchange.  The user's own choice wins."""
    if resolved.asyncssh_options.config.get("KexAlgorithms") is not None:
        return ()
    return "^curve25519-sha256,curve25519-sha256@libssh.org"


def _preferred_ciphers(resolved: Resolved) -> str | tuple[()]:
    """Measured: aes128-gcm halves the CPU of bulk transfers."""
    return () if resolved.asyncssh_options.config.get("Ciphers") is not None else "^aes128-gcm@openssh.com"


async def _adopt_host_key(login: Login, host_keys: HostKeys) -> None:
    """Take over the line that vouched for the host: its own key, or the authority that signed its certificate."""
    lookup, shown = login.attempt.lookup, login.connection.get_server_host_key()
    if not lookup.pinned:
        matching = [known for known in lookup.plain if known.key == shown]
        keys = matching[:1] or lookup.authorities
        await asyncio.to_thread(host_keys.adopt, login.attempt.name, keys)  # syncs a file


async def _explain(exc: Exception, attempt: Attempt) -> NodeError:
    """Classify; and if only an agent's keys were offered and the agent has died meanwhile, that was the reason."""
    error = classify(exc, attempt)
    found = attempt.credentials
    if isinstance(error, LoginError) and found.only_agent and attempt.resolved.agent_socket is not None:
        now = Credentials()
        await ask_agent(attempt.resolved.agent_socket, now)
        now.close()
        if now.agent_gone is not None:
            found.agent_gone = now.agent_gone
            return explain_agent_gone(attempt.resolved, found)
    return error
