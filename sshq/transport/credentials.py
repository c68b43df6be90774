"""What we can show a host to be let in, in order, and why the rest cannot be shown.

The inventory's key files, then those of ssh's configuration, else the usual ones in ~/.ssh, then the agent's other keys.
A locked key is offered through the agent if that holds it.  Nothing to offer and offered-but-refused are two outcomes:
the first is an `AgentError` and costs the host nothing, the second counts as a refused login.
"""

import asyncio
import os
from dataclasses import dataclass, field

import asyncssh

from sshq.errors import AgentError, NodeError
from sshq.transport.base import Target
from sshq.transport.options import Resolved, config_files, resolve

_DEFAULT_FILES = ("id_ed25519", "id_ecdsa", "id_rsa")
_AGENT_DEADLINE_S = 5.0
_OPENSSH_MAGIC = b"openssh-key-v1\0"

Presentable = asyncssh.SSHKey | asyncssh.SSHKeyPair | tuple[asyncssh.SSHKey, asyncssh.SSHCertificate]


@dataclass(frozen=True, slots=True)
class KeyFile:
    """One key file as read: the key itself, or what we know of it and why it cannot be used."""

    path: str
    key: asyncssh.SSHKey | None = None
    certificate: asyncssh.SSHCertificate | None = None
    public_blob: bytes | None = None
    locked: bool = False
    problem: str | None = None


@dataclass(slots=True)
class Credentials:
    """The keys to offer, each described for messages, and what could not be offered."""

    keys: list[Presentable] = field(default_factory=list)
    offered: list[str] = field(default_factory=list)
    locked: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    agent: asyncssh.SSHAgentClient | None = None
    agent_gone: str | None = None
    usable_files: set[str] = field(default_factory=set)
    only_agent: bool = True

    def close(self) -> None:
        """Let go of the agent."""
        if self.agent is not None:
            self.agent.close()
            self.agent = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What was offered and what was not, a line each."""
        gone = [f"the agent at {self.agent_gone}"] if self.agent_gone else []
        return (
            *(f"offered: {text}" for text in self.offered),
            *(f"not offered: {path} is locked by a passphrase and no agent holds it" for path in self.locked),
            *(f"not offered: {text}" for text in (*self.problems, *gone)),
        )


class KeyFiles:
    """Key files, read once and again when they change: reading an RSA key costs as much as a login."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[int, int, int], KeyFile]] = {}

    def read(self, path: str) -> KeyFile:
        """Return one key file; what is wrong with it stands in it."""
        try:
            stat = os.stat(path)
        except OSError as exc:
            return KeyFile(path, problem=f"{path}: {exc.strerror}")
        signature = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        known = self._known.get(path)
        if known is None or known[0] != signature:
            known = self._known[path] = (signature, _read_key_file(path))
        return known[1]


def _read_key_file(path: str) -> KeyFile:
    try:
        key = asyncssh.read_private_key(path)
    except OSError as exc:
        return KeyFile(path, problem=f"{path}: {exc.strerror}")
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError) as exc:
        blob = _read_public_blob(path)
        if str(exc).startswith("Passphrase"):
            return KeyFile(path, public_blob=blob, locked=True)
        if blob is not None:  # IdentityFile may name a public key whose private half only the agent has
            return KeyFile(path, public_blob=blob, problem=f"{path} is a public key and no agent holds the other half")
        return KeyFile(path, problem=f"{path}: {exc}")
    certificate = None
    try:
        certificate = asyncssh.read_certificate(path + "-cert.pub")
    except (OSError, asyncssh.KeyImportError, ValueError):
        pass
    return KeyFile(path, key=key, certificate=certificate, public_blob=key.public_data)


def _read_public_blob(path: str) -> bytes | None:
    """Return the public half of a file whose private half we cannot read: from its own header, else from FILE.pub."""
    for name in (path, path + ".pub"):
        try:
            with open(name, "rb") as file:
                text = file.read(65536)
            if b"BEGIN OPENSSH PRIVATE KEY" in text:
                return _parse_openssh_header(text)
            return asyncssh.import_public_key(text).public_data
        except (OSError, ValueError, IndexError):
            continue
    return None


def _parse_openssh_header(text: bytes) -> bytes:
    """Return the public key that stands unencrypted before the private part (PROTOCOL.key)."""
    import base64

    data = base64.b64decode(b"".join(line for line in text.split(b"\n") if not line.startswith(b"-----")))
    if not data.startswith(_OPENSSH_MAGIC):
        raise ValueError("not an OpenSSH private key")
    at = len(_OPENSSH_MAGIC)
    for _ in range(3):  # cipher, key derivation, its options
        at += 4 + int.from_bytes(data[at : at + 4], "big")
    at += 4  # how many keys: one
    size = int.from_bytes(data[at : at + 4], "big")
    blob = data[at + 4 : at + 4 + size]
    if len(blob) != size or not size:
        raise ValueError("cut off")
    return blob


async def gather_credentials(resolved: Resolved, files: KeyFiles) -> Credentials:
    """Collect what can be offered.  Never raises for a key that cannot."""
    found = Credentials()
    agent_keys = await ask_agent(resolved.agent_socket, found)
    for path in _identity_files(resolved):
        _add_file(found, files.read(path), agent_keys)
    for path in resolved.certificate_files:
        _add_certificate(found, path)
    if not resolved.identities_only:
        for key in agent_keys.values():
            _add_agent_key(found, key)
    return found


def _identity_files(resolved: Resolved) -> list[str]:
    """As OpenSSH: the usual files only if nobody named any; one that is named but missing is worth a word."""
    named = [os.path.expanduser(path) for path in resolved.target.identity_files]
    named += [path for path in resolved.identity_files if path not in named]
    if named:
        return named
    usual = (os.path.expanduser(f"~/.ssh/{name}") for name in _DEFAULT_FILES)
    return [path for path in usual if os.path.exists(path)]


def sign_login_files(target: Target) -> tuple[tuple[str, tuple[int, int, int] | None], ...]:
    """Return what differs when a refused login is worth another try: key files, certificates, ssh's configuration."""
    try:
        resolved = resolve(target)
        keys = [*_identity_files(resolved), *(os.path.expanduser(f"~/.ssh/{name}") for name in _DEFAULT_FILES)]
        keys += resolved.certificate_files
    except NodeError:
        keys = [os.path.expanduser(path) for path in target.identity_files]
    found: dict[str, tuple[int, int, int] | None] = {}
    for path in (*keys, *(f"{path}-cert.pub" for path in keys), *config_files(target)):
        try:
            stat = os.stat(path)
        except OSError:
            found[path] = None
        else:
            found[path] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return tuple(found.items())


async def ask_agent(socket: str | None, found: Credentials) -> dict[bytes, asyncssh.SSHKeyPair]:
    """Return the agent's keys by their public half; `found` learns of the agent, or that it is gone."""
    if socket is None:
        return {}
    try:
        async with asyncio.timeout(_AGENT_DEADLINE_S):
            found.agent = await asyncssh.connect_agent(socket)
            return {key.public_data: key for key in await found.agent.get_keys()}
    except TimeoutError:
        found.agent_gone = f"{socket} does not answer"
    except OSError as exc:
        found.agent_gone = f"{socket} is gone ({exc.strerror})"
    except (ValueError, asyncssh.Error) as exc:
        found.agent_gone = f"{socket} is no use ({exc})"
    found.close()
    return {}


def _add_file(found: Credentials, file: KeyFile, agent_keys: dict[bytes, asyncssh.SSHKeyPair]) -> None:
    if file.key is not None:
        if file.certificate is not None:
            found.keys.append((file.key, file.certificate))
        found.keys.append(file.key)
        found.offered.append(f"{file.path} ({file.key.get_algorithm()} {file.key.get_fingerprint()})")
        found.usable_files.add(file.path)
        found.only_agent = False
        if file.public_blob is not None:
            agent_keys.pop(file.public_blob, None)  # the same key twice would cost one of six tries
    elif file.public_blob is not None and file.public_blob in agent_keys:
        _add_agent_key(found, agent_keys.pop(file.public_blob), file.path)
    elif file.locked:
        found.locked.append(file.path)
    elif file.problem is not None:
        found.problems.append(file.problem)


def _add_agent_key(found: Credentials, key: asyncssh.SSHKeyPair, path: str = "") -> None:
    comment = (key.get_comment_bytes() or b"").decode("utf-8", "replace")
    found.keys.append(key)
    found.offered.append(f"{path or comment or 'a key'} ({key.get_algorithm()}), from the agent")
    if path:
        found.usable_files.add(path)


def _add_certificate(found: Credentials, path: str) -> None:
    """Pair a CertificateFile with the key it is for."""
    try:
        certificate = asyncssh.read_certificate(path)
    except (OSError, asyncssh.KeyImportError, ValueError) as exc:
        found.problems.append(f"{path}: {exc}")
        return
    for at, key in enumerate(found.keys):
        if isinstance(key, asyncssh.SSHKey) and key.public_data == certificate.key.public_data:
            found.keys.insert(at, (key, certificate))
            return
        if isinstance(key, asyncssh.SSHKeyPair) and key.public_data == certificate.key.public_data:
            key.set_certificate(certificate)
            return
    found.problems.append(f"{path}: no key at hand that this certificate is for")


def refuse_without_key(resolved: Resolved, found: Credentials) -> None:
    """Raise AgentError if it is plain beforehand that the right key cannot be offered: no login is wasted then."""
    name = resolved.target.name
    named = {os.path.expanduser(path) for path in resolved.target.identity_files}
    locked = [path for path in found.locked if path in named]
    if locked and not named & found.usable_files:
        raise _locked_error(name, locked[0], found)
    if not found.keys and found.locked:
        raise _locked_error(name, found.locked[0], found)
    if not found.keys and found.agent_gone:
        raise explain_agent_gone(resolved, found)


def explain_agent_gone(resolved: Resolved, found: Credentials) -> AgentError:
    """The agent that should sign for us is not there any more."""
    return AgentError(
        f"{resolved.target.name}: the ssh agent is gone, and there is no other key to offer",
        host=resolved.target.name,
        detail=found.notes,
        hint="ssh-add -l    # in a shell where that works: sshq down && sshq up",
    )


def _locked_error(name: str, path: str, found: Credentials) -> AgentError:
    agent = f"the agent at {found.agent_gone}" if found.agent_gone else "no agent holds it"
    return AgentError(
        f"{name}: key is locked: {path} has a passphrase and {agent}", host=name, detail=found.notes,
        hint=f"ssh-add {path}",
    )  # fmt: skip


def explain_no_key(resolved: Resolved, found: Credentials) -> AgentError:
    """The host wants a key and we have none at all."""
    name = resolved.target.name
    return AgentError(
        f"{name}: no key to offer to {resolved.place}", host=name,
        detail=found.notes or ("no key file, no agent",),
        hint=f"ssh-keygen -t ed25519 && ssh-copy-id -p {resolved.port} {resolved.account}@{resolved.host}",
    )  # fmt: skip
