"""What stands in ssh's configuration for a host and is not honoured, for `sshq doctor` to say.

asyncssh passes over what it does not know; some of that matters (who checks the key, how the host is reached).  This is
no parser of its own: it walks the same files with the same Host patterns, and takes a Match block as met.
"""

import fnmatch
import glob
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from sshq.errors import NodeError
from sshq.transport.base import Target
from sshq.transport.options import config_files, resolve

_NEVER = "sshq never asks for it"
_OWN_CHECK = "sshq checks every host key against its own file, whatever this says"
IGNORED: dict[str, str] = {
    "stricthostkeychecking": _OWN_CHECK,
    "knownhostscommand": "not run; record the key with `sshq hosts trust`",
    "revokedhostkeys": "not read: put @revoked lines into a known_hosts file instead",
    "updatehostkeys": "a new host key is recorded by `sshq hosts trust` only",
    "verifyhostkeydns": "not asked; record the key with `sshq hosts trust`",
    "checkhostip": "keys are looked up by the name dialled",
    "nohostauthenticationforlocalhost": _OWN_CHECK,
    "controlmaster": "sshq keeps one connection of its own a host",
    "controlpath": "sshq keeps one connection of its own a host",
    "controlpersist": "sshq keeps one connection of its own a host",
    "canonicalizehostname": "write the full name into the inventory",
    "forwardagent": _NEVER,
    "forwardx11": _NEVER,
    "localforward": _NEVER,
    "remoteforward": _NEVER,
    "dynamicforward": _NEVER,
    "remotecommand": "the runner is the only command",
    "requesttty": "no terminal is asked for",
    "localcommand": "not run",
    "permitlocalcommand": "not run",
    "proxyusefdpass": "the proxy's own standard input and output are used",
    "passwordauthentication": "only keys, agents and Kerberos are used",
    "pkcs11provider": "load the card's keys into an agent",
    "securitykeyprovider": "keys that want a touch are no use to a service",
    "tunnel": _NEVER,
    "serveraliveinterval": "sshq has its own: 15 s, three times",
    "serveralivecountmax": "sshq has its own: 15 s, three times",
    "connecttimeout": "sshq has its own deadlines",
    "compression": "off: it costs more CPU than it saves",
}
_HARMLESS = {
    ("stricthostkeychecking", "yes"), ("forwardagent", "no"), ("forwardx11", "no"), ("tunnel", "no"),
    ("compression", "no"), ("canonicalizehostname", "no"), ("controlmaster", "no"), ("controlpath", "none"),
    ("controlpersist", "no"), ("requesttty", "no"), ("passwordauthentication", "no"), ("permitlocalcommand", "no"),
    ("checkhostip", "no"), ("verifyhostkeydns", "no"), ("updatehostkeys", "no"),
    ("nohostauthenticationforlocalhost", "no"), ("connecttimeout", "0"),
}  # fmt: skip
_DEPTH_MAX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class IgnoredOption:
    """One line of a configuration that has no effect here."""

    option: str
    value: str
    place: str  # FILE:LINE, or "inventory"
    why: str


def find_ignored_options(target: Target) -> list[IgnoredOption]:
    """Return what the inventory's options and ssh's files say of this host in vain."""
    found = [item for key, value in target.options for item in _judge(key, value, "inventory")]
    for path in config_files(target):
        found += _walk(path, target.address, 0)
    try:
        fault = resolve(target).passed_over
    except NodeError:
        fault = None  # a connect says it louder
    if fault is not None:
        found.append(IgnoredOption(option="everything", value="", place=fault, why="cannot be read, so passed over whole"))
    return found


def _walk(path: str, address: str, depth: int) -> Iterator[IgnoredOption]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.readlines()
    except OSError:
        return
    applies = True
    for number, raw in enumerate(lines, 1):
        key, values = _split(raw)
        if key == "host":
            applies = _names_host(values, address)
        elif key == "match":
            applies = True
        elif applies and key == "include" and depth < _DEPTH_MAX:
            for included in _expand(values):
                yield from _walk(included, address, depth + 1)
        elif applies and key:
            yield from _judge(key, " ".join(values), f"{path}:{number}")


def _judge(key: str, value: str, place: str) -> Iterator[IgnoredOption]:
    low, value_low = key.lower(), value.lower()
    if low in {"userknownhostsfile", "globalknownhostsfile"} and value_low in {"/dev/null", "none"}:
        yield IgnoredOption(option=key, value=value, place=place, why=_OWN_CHECK)
    elif low in IGNORED and (low, value_low) not in _HARMLESS:
        yield IgnoredOption(option=key, value=value, place=place, why=IGNORED[low])


def _split(raw: str) -> tuple[str, list[str]]:
    line = raw.strip()
    if not line or line.startswith("#"):
        return "", []
    key, _, rest = line.replace("=", " ", 1).partition(" ") if "=" in line.split(None, 1)[0] else line.partition(" ")
    try:
        return key.lower(), shlex.split(rest.strip().removeprefix("="))
    except ValueError:
        return key.lower(), rest.split()


def _names_host(patterns: list[str], address: str) -> bool:
    found = False
    for pattern in patterns:
        if fnmatch.fnmatchcase(address, pattern.removeprefix("!")):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _expand(patterns: list[str]) -> Iterator[str]:
    for pattern in patterns:
        full = os.path.expanduser(pattern)
        yield from sorted(glob.glob(full if os.path.isabs(full) else os.path.expanduser(f"~/.ssh/{full}")))
