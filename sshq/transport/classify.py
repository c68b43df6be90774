"""From whatever asyncssh and the kernel raise to our tree of errors: one table, first match wins.

Everything that is not a key, a login or a host key is "unreachable": it is tried again for ever, and ends no job.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import asyncssh

from sshq.errors import HostKeyError, LoginError, NodeError, UnreachableHostError
from sshq.transport.credentials import Credentials, explain_no_key
from sshq.transport.dial import NoAnswerError, SilentServerError
from sshq.transport.hostkeys import HostKeys, Lookup
from sshq.transport.options import Resolved, format_endpoint

Stage = Literal["dial", "tunnel", "login", "open", "connected"]
_SAID_SHOWN = 120
_NO_WAY = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.ETIMEDOUT})
_PENALTY = (
    "sshd drops connections when too many log in at once (MaxStartups) or after failed logins from this address "
    "(PerSourcePenalties)"
)


@dataclass(slots=True)
class Attempt:
    """How far one connect has got: what an error message needs to know."""

    resolved: Resolved
    host_keys: HostKeys
    lookup: Lookup
    stage: Stage = "dial"
    credentials: Credentials = field(default_factory=Credentials)
    via: str = ""
    first_bytes: bytes = b""
    shown_key: asyncssh.SSHKey | None = None

    @property
    def name(self) -> str:
        """The inventory name."""
        return self.resolved.target.name

    @property
    def endpoint(self) -> str:
        """host:port, and by which jump host."""
        place = format_endpoint(self.resolved.host, self.resolved.port)
        return f"{place} (through {self.via})" if self.via else place


@dataclass(frozen=True, slots=True)
class _Rule:
    """`words`, in lower case, must stand in the exception's text; `stage` must be the attempt's."""

    types: type[BaseException] | tuple[type[BaseException], ...]
    make: Callable[[BaseException, Attempt], NodeError]
    words: str = ""
    stage: Stage | None = None

    def matches(self, exc: BaseException, attempt: Attempt) -> bool:
        """Whether this rule is for that exception."""
        return isinstance(exc, self.types) and self.words in str(exc).lower() and self.stage in {None, attempt.stage}


def classify(exc: BaseException, attempt: Attempt) -> NodeError:
    """Return the NodeError for an exception of a connect, an open or a lost connection."""
    if isinstance(exc, NodeError):
        return exc
    for rule in _RULES:
        if rule.matches(exc, attempt):
            error = rule.make(exc, attempt)
            if isinstance(error, UnreachableHostError):
                error.unheard = attempt.stage == "dial" and _is_unheard(exc)
            return error
    return _unreachable(attempt, f"failed: {type(exc).__name__}: {exc}", "", ())


def _is_unheard(exc: BaseException) -> bool:
    """Whether nobody was there to be troubled by the dialling: no name, no route, no answer, no listener."""
    if isinstance(exc, NoAnswerError):
        return exc.stage in ("name", "connect")
    return isinstance(exc, (ConnectionRefusedError, socket.gaierror)) or (isinstance(exc, OSError) and exc.errno in _NO_WAY)


def _ssh_hint(attempt: Attempt) -> str:
    resolved = attempt.resolved
    port = "" if resolved.port == 22 else f"-p {resolved.port} "
    jump = f"-J {','.join(resolved.jumps)} " if resolved.jumps else ""
    return f"ssh -v {jump}{port}{resolved.account}@{resolved.host} true"


def _unreachable(attempt: Attempt, what: str, because: str, detail: tuple[str, ...]) -> UnreachableHostError:
    said = _said(attempt.first_bytes)
    return UnreachableHostError(
        f"{attempt.name}: {attempt.endpoint} {what}" + (f"; it said: {said}" if said else ""),
        host=attempt.name,
        detail=(*((because,) if because else ()), *detail),
        hint=_ssh_hint(attempt),
    )


def _said(first_bytes: bytes) -> str:
    """Return the server's first line if that was no SSH greeting, made harmless for a terminal."""
    if not first_bytes or first_bytes.startswith(b"SSH-"):
        return ""
    line = first_bytes.split(b"\n", 1)[0].strip()[:_SAID_SHOWN].decode("utf-8", "replace")
    return "".join(char if char.isprintable() else "?" for char in line)


def _simple(what: str, because: str = "") -> Callable[[BaseException, Attempt], NodeError]:
    """Make an unreachable-host error; `{exc}` stands for the exception's text."""

    def make(exc: BaseException, attempt: Attempt) -> NodeError:
        return _unreachable(attempt, what.replace("{exc}", _text(exc)), because, ())

    return make


def _text(exc: BaseException) -> str:
    if isinstance(exc, OSError) and exc.errno in errno.errorcode and not isinstance(exc, socket.gaierror):
        return os.strerror(exc.errno or 0)  # asyncio puts words of its own in the place of "No route to host"
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror
    return str(exc) or type(exc).__name__


def _host_key(exc: BaseException, attempt: Attempt) -> HostKeyError:
    if "revoked" in str(exc):
        return attempt.host_keys.explain_revoked(attempt.resolved, attempt.lookup)
    return attempt.host_keys.explain_refused(attempt.resolved, attempt.lookup, attempt.shown_key)


def _login(exc: BaseException, attempt: Attempt) -> NodeError:
    resolved, found = attempt.resolved, attempt.credentials
    if not found.keys and not resolved.gssapi:
        return explain_no_key(resolved, found)
    many = "too many" in str(exc).lower()
    detail = found.notes
    if many:
        detail = (
            *detail,
            "the host hung up before the right key's turn: name it in the inventory, with IdentitiesOnly yes",
        )
    return LoginError(
        f"{attempt.name}: login as {resolved.account} on {attempt.endpoint} refused",
        host=attempt.name,
        detail=detail,
        hint=_ssh_hint(attempt),
    )


def _no_answer(exc: BaseException, attempt: Attempt) -> NodeError:
    seconds = f" within {exc.seconds:g} s" if isinstance(exc, NoAnswerError) else " in time"
    stage = exc.stage if isinstance(exc, NoAnswerError) else attempt.stage
    what, because = {
        "name": ("cannot be looked up", "the name service gave no answer"),
        "connect": ("does not answer", "the machine is off, cut off, or a firewall drops the packets"),
        "greeting": ("accepts connections but never speaks", "sshd hangs, or something else listens there"),
        "tunnel": ("does not answer", "the jump host got no connection to it"),
        "login": (
            "did not finish the login",
            "it may be overloaded, or its name service or home directory hangs",
        ),
        "open": ("did not start a command", "it may be overloaded, or the login shell hangs"),
    }.get(stage, ("does not answer", ""))
    return _unreachable(attempt, what + seconds, because, ())


def _silent(exc: BaseException, attempt: Attempt) -> NodeError:
    command = attempt.resolved.proxy_command
    if command is None:
        return _unreachable(attempt, "closed the connection without a word", _PENALTY, ())
    said = exc.proxy_said if isinstance(exc, SilentServerError) else ""
    because = f"ProxyCommand `{command}` gave up" + (f": {said}" if said else "")
    return _unreachable(attempt, "cannot be reached", because, ())


def _tunnel_refused(exc: BaseException, attempt: Attempt) -> NodeError:
    forbidden = isinstance(exc, asyncssh.ChannelOpenError) and exc.code == 1  # SSH_OPEN_ADMINISTRATIVELY_PROHIBITED
    if forbidden:
        because = f"{attempt.via} forbids forwarding (AllowTcpForwarding, PermitOpen)"
    else:
        because = f"{attempt.via} got no connection to it"
    return _unreachable(attempt, f"cannot be reached: {_text(exc)}", because, ())


_RULES: tuple[_Rule, ...] = (
    _Rule(asyncssh.HostKeyNotVerifiable, _host_key),
    _Rule((asyncssh.PermissionDenied, asyncssh.IllegalUserName), _login),
    _Rule(asyncssh.DisconnectError, _login, words="too many authentication failures"),
    _Rule(asyncssh.ConnectionLost, _no_answer, words="login timeout"),
    _Rule(asyncssh.ConnectionLost, _simple("stopped answering", "no reply to keepalives"), words="keepalive"),
    _Rule(asyncssh.ConnectionLost, _simple("closed the connection", "the connection was cut"), stage="connected"),
    _Rule(asyncssh.ConnectionLost, _simple("closed the connection before the login", _PENALTY)),
    _Rule(SilentServerError, _silent),
    _Rule(asyncssh.KeyExchangeFailed, _simple("agrees on no cryptography with us: {exc}")),
    _Rule((asyncssh.ProtocolError, asyncssh.ProtocolNotSupported), _simple("does not speak SSH as we do: {exc}")),
    _Rule(asyncssh.DisconnectError, _simple("disconnected: {exc}")),
    _Rule(asyncssh.ChannelOpenError, _tunnel_refused, stage="tunnel"),
    _Rule((TimeoutError, asyncio.TimeoutError), _no_answer),
    _Rule(socket.gaierror, _simple("has no address: {exc}", "no such name in DNS, /etc/hosts or ~/.ssh/config")),
    _Rule(
        ConnectionRefusedError,
        _simple("refuses connections", "the machine is there, sshd is not, or not on that port"),
    ),
    _Rule((ConnectionResetError, BrokenPipeError), _simple("reset the connection", _PENALTY), stage="dial"),
    _Rule((ConnectionResetError, BrokenPipeError), _simple("reset the connection")),
    _Rule(OSError, _simple("cannot be reached: {exc}")),
    _Rule(asyncssh.Error, _simple("failed: {exc}")),
    _Rule(
        ValueError,
        _simple("cannot be used: {exc}", "a value of ssh's configuration or of the inventory is at fault"),
    ),
)


def retell(error: NodeError, name: str) -> NodeError:
    """Return a jump host's error as that of the host behind it; the hint goes on naming the jump host."""
    message = f"{name}: jump host {error.message}"
    if isinstance(error, HostKeyError):
        return HostKeyError(message, kind=error.kind, host=name, detail=error.detail, hint=error.hint)
    told = type(error)(message, host=name, detail=error.detail, hint=error.hint)
    if isinstance(error, UnreachableHostError) and isinstance(told, UnreachableHostError):
        told.unheard = error.unheard
    return told
