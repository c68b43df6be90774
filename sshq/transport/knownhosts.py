"""Reading known_hosts files: which lines speak of a host.

Stricter than OpenSSH and than asyncssh in one point: a plain key counts only under the very name and port dialled.  A
key known for an address is not taken for a name, nor one for port 22 for port 2222.  Lines of an authority or of a
revocation hold for a machine whatever its port.  A malformed line is reported and passed over, never fatal.
"""

import binascii
import hmac
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import asyncssh

Marker = Literal["", "cert-authority", "revoked"]
_MARKERS: dict[str, Marker] = {"@cert-authority": "cert-authority", "@revoked": "revoked"}
_SIZE_MAX = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownKey:
    """One key a file vouches for (or warns of)."""

    kind: str  # "ssh-ed25519"
    fingerprint: str  # "SHA256:…"
    line: str  # "ssh-ed25519 AAAA…"
    marker: Marker
    place: str  # FILE:LINE where it stands
    origin: str  # where it first came from: the same place, or what our own file says
    key: asyncssh.SSHKey


@dataclass(frozen=True, slots=True)
class Line:
    """One line, split but not yet decoded."""

    place: str
    marker: Marker
    patterns: str
    key_text: str
    comment: str


def import_key(text: str) -> asyncssh.SSHKey:
    """Decode `TYPE BASE64`; ValueError says what is wrong."""
    try:
        return asyncssh.import_public_key(text)
    except (asyncssh.KeyImportError, ValueError, IndexError) as exc:
        raise ValueError(f"not a public key: {exc}") from None


def make_known_key(line: Line, *, origin: str | None = None) -> KnownKey:
    """Decode a line's key."""
    key = import_key(line.key_text)
    return KnownKey(
        kind=key.get_algorithm(), fingerprint=key.get_fingerprint(), line=line.key_text, marker=line.marker,
        place=line.place, origin=origin or line.place, key=key,
    )  # fmt: skip


class KnownHostsFile:
    """One file, read again when it changed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.problems: tuple[str, ...] = ()
        self._signature: tuple[int, int, int] | None = None
        self._lines: list[Line] = []

    def lines(self) -> list[Line]:
        """Return the lines that can be read; none if the file is not there."""
        try:
            stat = os.stat(self.path)
            signature = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if signature != self._signature:
                self._load(signature)
        except FileNotFoundError:
            self._signature, self._lines, self.problems = None, [], ()
        except OSError as exc:
            self._signature, self._lines, self.problems = None, [], (f"{self.path}: {exc.strerror}",)
        return self._lines

    def _load(self, signature: tuple[int, int, int]) -> None:
        with open(self.path, "rb") as file:
            text = file.read(_SIZE_MAX).decode("utf-8", "replace")
        lines, problems = [], []
        for number, raw in enumerate(text.split("\n"), 1):
            stripped = raw.strip()
            if not stripped or stripped.startswith("#"):
                continue
            place = f"{self.path}:{number}"
            try:
                lines.append(parse_line(stripped, place))
            except ValueError as exc:
                problems.append(f"{place}: {exc}")
        self._lines, self.problems, self._signature = lines, tuple(problems), signature


def parse_line(text: str, place: str) -> Line:
    """Split `[@MARKER] PATTERNS TYPE BASE64 [COMMENT]`."""
    marker: Marker = ""
    if text.startswith("@"):
        word, _, text = text.partition(" ")
        if word not in _MARKERS:
            raise ValueError(f"unknown marker {word}")
        marker = _MARKERS[word]
    fields = text.split(None, 3)
    if len(fields) < 3:
        raise ValueError("not `HOSTS TYPE KEY`")
    patterns, kind, key = fields[:3]
    if patterns.startswith("|"):
        split_hash(patterns)
    return Line(place, marker, patterns, f"{kind} {key}", fields[3] if len(fields) > 3 else "")


def split_hash(pattern: str) -> tuple[bytes, bytes]:
    """Return salt and digest of a hashed name, `|1|SALT|HMAC-SHA1`."""
    parts = pattern.split("|")
    if len(parts) != 4 or parts[1] != "1":
        raise ValueError("a hashed name of unknown form")
    try:
        salt, digest = (binascii.a2b_base64(part, strict_mode=True) for part in parts[2:])
        return salt, digest
    except binascii.Error:
        raise ValueError("a hashed name that is not base64") from None


def host_name(host: str, port: int) -> str:
    """Return a host as known_hosts writes it: the bare name at port 22, else [name]:port."""
    return host.lower() if port == 22 else f"[{host.lower()}]:{port}"


def names_host(patterns: str, name: str) -> bool:
    """Whether a line's first field names this host (lower case): hashed, wildcards, negation."""
    if patterns.startswith("|"):
        salt, digest = split_hash(patterns)
        return hmac.compare_digest(hmac.digest(salt, name.encode(), "sha1"), digest)
    found = False
    for pattern in patterns.lower().split(","):
        if _matches_wildcard(pattern.removeprefix("!"), name):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _matches_wildcard(pattern: str, name: str) -> bool:
    if "*" not in pattern and "?" not in pattern:
        return pattern == name
    # Brackets are part of `[host]:port` here, so fnmatch will not do.
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, name) is not None


def find_keys(files: Iterable[KnownHostsFile], name: str, bare_name: str) -> Iterator[Line]:
    """Yield the lines that speak of the host: keys under `name`, authorities and revocations under either name."""
    for file in files:
        for line in file.lines():
            if names_host(line.patterns, name) or (line.marker and names_host(line.patterns, bare_name)):
                yield line
