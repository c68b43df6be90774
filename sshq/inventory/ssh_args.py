"""The ssh command line options an inventory may carry (`ansible_ssh_common_args` and its kin), read as
data.

sshq starts no `ssh`: it takes from these options what its own connection can honour, says of the rest that
it has no effect, and never honours one that would skip the check of host keys.  As in OpenSSH, the first
value of an option wins, and identity files add up.
"""

import re
import shlex
from dataclasses import dataclass, field
from typing import Final

from sshq.inventory.document import Place, Scalar, describe

_HONOURED: Final = {
    name.lower(): name
    for name in (
        "AddressFamily", "BindAddress", "CertificateFile", "Ciphers", "Compression", "ConfigFile",
        "ConnectTimeout", "ForwardAgent", "HostKeyAlgorithms", "HostKeyAlias", "HostName", "IdentitiesOnly",
        "IdentityAgent", "IdentityFile", "KexAlgorithms", "MACs", "Port", "PreferredAuthentications",
        "ProxyCommand", "ProxyJump", "PubkeyAcceptedAlgorithms", "ServerAliveCountMax",
        "ServerAliveInterval", "User", "UserKnownHostsFile",
    )
}  # fmt: skip
# True of sshq's one lasting connection anyway, or about ssh's own terminal: nothing is lost.
_SILENT: Final = frozenset(
    ("batchmode", "checkhostip", "controlmaster", "controlpath", "controlpersist", "escapechar", "loglevel",
     "numberofpasswordprompts", "requesttty", "tcpkeepalive", "updatehostkeys")
)  # fmt: skip
_FLAG_OPTIONS: Final = {
    "i": "IdentityFile", "p": "Port", "l": "User", "J": "ProxyJump", "F": "ConfigFile", "b": "BindAddress",
    "c": "Ciphers", "m": "MACs",
}  # fmt: skip
_FLAGS_WITH_VALUE: Final = frozenset("BbcDEeFIiJLlmOoPpQRSWw")
_SWITCHES: Final = {"4": ("AddressFamily", "inet"), "6": ("AddressFamily", "inet6"),
                    "C": ("Compression", "yes"), "A": ("ForwardAgent", "yes"),
                    "a": ("ForwardAgent", "no")}  # fmt: skip
_SILENT_SWITCHES: Final = frozenset("fnNqTtvxM")


@dataclass(slots=True)
class SshArgs:
    """What was found: options by ssh_config(5)'s name, identity files in order, each with its place."""

    options: dict[str, tuple[str, Place]] = field(default_factory=dict)
    identity_files: list[tuple[str, Place]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def add_ssh_args(found: SshArgs, name: str, node: Scalar) -> None:
    """Add the options of one variable to what stronger ones gave."""
    if node.value is None:
        return
    if not isinstance(node.value, str):
        raise node.place.error(f"`{name}` is a text with options of ssh, not {describe(node)}")
    try:
        words = shlex.split(node.value)
    except ValueError as error:
        reason = str(error).lower().rstrip(".")
        raise node.place.error(f"`{name}` cannot be split into words: {reason}") from None
    for option, value in _split_options(found, name, node, words):
        _take(found, name, node, option, value)


def _split_options(found: SshArgs, name: str, node: Scalar, words: list[str]) -> list[tuple[str, str]]:
    options: list[tuple[str, str]] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if not re.match(r"-[A-Za-z0-9]", word):
            raise node.place.error(f"`{name}` holds `{word}`, which is no option of ssh")
        letter, rest = word[1], word[2:]
        if letter in _FLAGS_WITH_VALUE:
            if not rest and not queue:
                raise node.place.error(f"`{name}`: the option -{letter} lacks its value")
            value = rest or queue.pop(0)
            if letter == "o":
                option, _, value = re.sub(r"\s*=\s*|\s+", "=", value.strip(), count=1).partition("=")
                options.append((option, value.strip().strip('"')))
            elif letter in _FLAG_OPTIONS:
                options.append((_FLAG_OPTIONS[letter], value))
            else:
                found.warnings.append(f"{node.place}: -{letter} in {name} has no effect in sshq")
            continue
        if letter in _SWITCHES:
            options.append(_SWITCHES[letter])
        elif letter not in _SILENT_SWITCHES:
            found.warnings.append(f"{node.place}: -{letter} in {name} has no effect in sshq")
        if rest:
            queue.insert(0, "-" + rest)
    return options


def _take(found: SshArgs, name: str, node: Scalar, option: str, value: str) -> None:
    key = option.lower()
    if key == "stricthostkeychecking":
        if value.lower() not in ("yes", "ask"):
            ignored = f"StrictHostKeyChecking={value} is never honoured; sshq hosts trust records a key"
            found.warnings.append(f"{node.place}: {ignored}")
        return
    if key in ("userknownhostsfile", "globalknownhostsfile") and value in ("/dev/null", "none"):
        found.warnings.append(f"{node.place}: {option}={value} is never honoured: host keys are always checked")
        return
    if key in _SILENT:
        return
    if key not in _HONOURED:
        found.warnings.append(f"{node.place}: the option {option} in {name} has no effect in sshq")
        return
    if not value:
        raise node.place.error(f"`{name}`: the option {option} lacks its value")
    if key == "identityfile":
        found.identity_files.append((value, node.place))
        return
    if key == "proxycommand" and (jump := read_jump(value)):
        key, value = "proxyjump", jump
    found.options.setdefault(_HONOURED[key], (value, node.place))


def read_jump(command: str) -> str | None:
    """Return `ssh -W %h:%p USER@HOST`, the older way to write a jump, as USER@HOST; None for others."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    if not words or words.pop(0).rsplit("/", 1)[-1] != "ssh":
        return None
    given: dict[str, str] = {}
    while words:
        word = words.pop(0)
        if re.fullmatch(r"-[qTax4]+", word):
            continue
        if word[:2] in ("-W", "-p", "-l") and (word[2:] or words):
            given[word[1]] = word[2:] or words.pop(0)
        elif not word.startswith("-") and "host" not in given:
            given["host"] = word
        else:
            return None
    if given.get("W") not in ("%h:%p", "[%h]:%p") or "host" not in given:
        return None
    account = f"{given['l']}@" if "l" in given and "@" not in given["host"] else ""
    return account + given["host"] + (f":{given['p']}" if "p" in given else "")
