"""Which key a host must show, and where we know it from: strict always, our own file first.

Our file has lines `NAME TYPE KEY ORIGIN`, NAME being the inventory's.  A host's first use takes the line of the user's
or the machine's known_hosts over with its origin; from then on only our line counts, until `trust` replaces it.
Revocations in any of the files are heeded always.  A changed key is never accepted.
"""

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote

import asyncssh

from sshq.errors import HostKeyError
from sshq.transport.knownhosts import (
    KnownHostsFile,
    KnownKey,
    Line,
    find_keys,
    host_name,
    make_known_key,
    names_host,
)
from sshq.transport.options import Resolved, format_endpoint

_HEADER = "# Host keys that sshq goes by: NAME TYPE KEY, then where the line came from.  Change with `sshq hosts trust`.\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedKey:
    """A key a host showed to somebody who did not log in."""

    kind: str
    fingerprint: str
    line: str  # "ssh-ed25519 AAAA…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """What is known of one host before it is dialled."""

    keys: tuple[KnownKey, ...]  # plain keys and authorities
    revoked: tuple[KnownKey, ...]
    pinned: bool  # the keys stand in our own file
    searched: tuple[str, ...]

    @property
    def plain(self) -> tuple[KnownKey, ...]:
        """The host's own keys."""
        return tuple(key for key in self.keys if not key.marker)

    @property
    def authorities(self) -> tuple[KnownKey, ...]:
        """Keys that may sign the host's certificate."""
        return tuple(key for key in self.keys if key.marker)


class HostKeys:
    """Our own file and, behind it, everybody else's."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._own = KnownHostsFile(path)
        self._others: dict[str, KnownHostsFile] = {}
        self._key_problems: dict[str, str] = {}

    def look_up(self, resolved: Resolved) -> Lookup:
        """Return what this host may show; nothing known gives no keys (see `explain_unknown`)."""
        bare = resolved.lookup_name.lower()
        name = bare if resolved.has_alias else host_name(bare, resolved.port)
        files = [self._file(path) for path in resolved.known_hosts_files]
        others = self._decode(find_keys(files, name, bare))
        own = self._pinned(resolved.target.name)
        pinned = [key for key in own if key.marker != "revoked"]
        return Lookup(
            keys=tuple(pinned or [key for key in others if key.marker != "revoked"]),
            revoked=tuple(key for key in [*own, *others] if key.marker == "revoked"),
            pinned=bool(pinned),
            searched=(self.path, *resolved.known_hosts_files),
        )

    def adopt(self, name: str, keys: Sequence[KnownKey]) -> None:
        """Take lines of another file over, with their origin, unless `name` has got a line meanwhile."""
        lines = [_format_line(name, key.line, key.origin, key.marker) for key in keys]
        try:
            self._rewrite(lambda old: old if any(_names(line, name) for line in old) else [*old, *lines])
        except OSError as exc:  # the host was checked all the same; next time the other file is asked again
            self._key_problems[self.path] = f"{self.path}: {exc.strerror}: the key of {name} could not be recorded"

    def pinned(self, name: str) -> list[KnownKey]:
        """Return what our own file says of a host."""
        return self._pinned(name)

    def trust(self, name: str, keys: Sequence[FetchedKey], *, origin: str) -> None:
        """Record these keys for a host in place of whatever stood there; revocations stay."""
        lines = [_format_line(name, key.line, origin) for key in keys]
        self._rewrite(lambda old: [*(line for line in old if not _names(line, name)), *lines])

    def forget(self, name: str) -> bool:
        """Drop a host's lines; False if there were none."""
        found = bool(self._pinned(name))
        if found:
            self._rewrite(lambda old: [line for line in old if not _names(line, name)])
        return found

    def problems(self) -> tuple[str, ...]:
        """Return the malformed lines met so far, each with its place."""
        files = [self._own, *self._others.values()]
        return (*(problem for file in files for problem in file.problems), *self._key_problems.values())

    def explain_unknown(self, resolved: Resolved, lookup: Lookup) -> HostKeyError:
        """Nothing vouches for the host: say where we looked and what was nearly it."""
        name, endpoint = resolved.target.name, format_endpoint(resolved.host, resolved.port)
        return HostKeyError(
            f"{name}: host key unknown: nothing vouches for {endpoint}, so it is not used",
            kind="unknown",
            host=name,
            detail=(f"looked in {', '.join(lookup.searched)}", *self._near_misses(resolved)),
            hint=f"sshq hosts trust {name}",
        )

    def explain_refused(self, resolved: Resolved, lookup: Lookup, shown: asyncssh.SSHKey | None) -> HostKeyError:
        """The host showed a key that nothing vouches for, or a revoked one."""
        name, endpoint = resolved.target.name, format_endpoint(resolved.host, resolved.port)
        received = "received: a certificate" if shown is None else f"received: {_describe(shown)}"
        if not lookup.plain:
            message = f"{name}: {endpoint} shows no certificate of an authority we know"
            kind = "unknown"
        else:
            message = f"{name}: HOST KEY CHANGED: {endpoint} shows another key than the one recorded"
            kind = "changed"
        return HostKeyError(
            message, kind=kind, host=name,
            detail=(*(_expected(key) for key in lookup.keys), received, *self._seen_elsewhere(resolved, shown),
                    "either the machine was installed anew, or somebody sits in between"),
            hint=f"sshq hosts trust {name}    # after comparing the fingerprint with the machine's own",
        )  # fmt: skip

    def explain_revoked(self, resolved: Resolved, lookup: Lookup) -> HostKeyError:
        """The host showed a key that a known_hosts file has revoked."""
        name = resolved.target.name
        return HostKeyError(
            f"{name}: {format_endpoint(resolved.host, resolved.port)} shows a revoked host key", kind="changed", host=name,
            detail=tuple(f"revoked: {key.fingerprint} ({key.kind}), {key.place}" for key in lookup.revoked),
            hint=f"sshq hosts trust {name}    # after the machine has got a new host key",
        )  # fmt: skip

    # -- reading ------------------------------------------------------------------------------------------------

    def _file(self, path: str) -> KnownHostsFile:
        return self._others.setdefault(path, KnownHostsFile(path))

    def _pinned(self, name: str) -> list[KnownKey]:
        wanted = _quote(name)
        return self._decode((line for line in self._own.lines() if line.patterns == wanted), own=True)

    def _decode(self, lines: Iterator[Line], *, own: bool = False) -> list[KnownKey]:
        keys = []
        for line in lines:
            try:
                keys.append(make_known_key(line, origin=line.comment if own else None))
                self._key_problems.pop(line.place, None)
            except ValueError as exc:
                self._key_problems[line.place] = f"{line.place}: {exc}"
        return keys

    def _near_misses(self, resolved: Resolved) -> Iterator[str]:
        """Lines a user may think of: the same host without its port, or under the inventory's name."""
        asked = resolved.lookup_name.lower()
        for path in resolved.known_hosts_files:
            for line in self._file(path).lines():
                for name in {asked, resolved.target.name.lower()}:
                    if not line.marker and names_host(line.patterns, name):
                        yield f"{line.place} has a key for `{name}`, which is not {host_name(asked, resolved.port)}: not taken"

    def _seen_elsewhere(self, resolved: Resolved, shown: asyncssh.SSHKey | None) -> Iterator[str]:
        """The user's own files may have the new key already: worth saying, no reason to accept."""
        if shown is None:
            return
        bare = resolved.lookup_name.lower()
        name = bare if resolved.has_alias else host_name(bare, resolved.port)
        for key in self._decode(find_keys([self._file(path) for path in resolved.known_hosts_files], name, bare)):
            if key.key == shown and not key.marker:
                yield f"the received key stands in {key.place}"

    # -- writing ------------------------------------------------------------------------------------------------

    def _rewrite(self, change: "Callable[[list[str]], list[str]]") -> None:
        """Replace the file atomically, under a lock: `sshq hosts trust` is another process than the controller."""
        folder = os.path.dirname(self.path) or "."
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with _locked(self.path + ".lock"):
            try:
                with open(self.path, encoding="utf-8", errors="surrogateescape") as file:
                    old = [line for line in file.read().splitlines() if line and line + "\n" != _HEADER]
            except FileNotFoundError:
                old = []
            text = _HEADER + "".join(line + "\n" for line in change(old))
            descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".known_hosts.")  # 0600
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, self.path)
            except BaseException:
                os.unlink(temporary)
                raise
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)  # its name, too, outlives a power cut
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


@contextmanager
def _locked(path: str) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _quote(name: str) -> str:
    """Inventory names may hold anything; a known_hosts field may not."""
    return quote(name, safe="[]:+~")


def _names(line: str, name: str) -> bool:
    fields = line.split(None, 2)
    if fields and fields[0] == "@cert-authority":
        fields = fields[1:]
    return bool(fields) and fields[0] == _quote(name)


def _format_line(name: str, key: str, origin: str, marker: str = "") -> str:
    start = f"@{marker} " if marker else ""
    return f"{start}{_quote(name)} {key} {' '.join(origin.split())}"


def _describe(key: asyncssh.SSHKey) -> str:
    return f"{key.get_fingerprint()} ({key.get_algorithm()})"


def _expected(key: KnownKey) -> str:
    what = "a certificate signed by " if key.marker else ""
    origin = "" if key.origin == key.place else f", taken from {key.origin}"
    return f"expected: {what}{key.fingerprint} ({key.kind}), recorded at {key.place}{origin}"
