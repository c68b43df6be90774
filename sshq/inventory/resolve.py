"""One host of the tree, resolved: its variables become a `Host`, or the reason why it takes no part.

`ansible_*` variables mean what Ansible's ssh connection takes them to mean, the older spellings included
(of two, the older wins there too).  Passwords are refused: a batch system logs in with keys.
"""

import os
import re
from dataclasses import dataclass, field, fields
from typing import Final, Literal

from sshq.inventory.document import Entry, Node, Place, Scalar, closest, describe
from sshq.inventory.keys import KEYS, Where
from sshq.inventory.model import Excluded, Host
from sshq.inventory.ssh_args import SshArgs, add_ssh_args
from sshq.inventory.tree import Tree
from sshq.inventory.values import read_account, read_integer, read_text, refuse_template

_CONNECTIONS: Final[dict[str, Literal["ssh", "local"]]] = {
    "ssh": "ssh", "smart": "ssh", "paramiko": "ssh", "paramiko_ssh": "ssh", "local": "local",
}  # fmt: skip
# Of each row the last that is set wins, as in Ansible.
_ADDRESS: Final = ("ansible_host", "ansible_ssh_host")
_PORT: Final = ("ansible_port", "ansible_ssh_port")
_ACCOUNT: Final = ("ansible_user", "ansible_ssh_user")
_IDENTITY: Final = ("ansible_private_key_file", "ansible_ssh_private_key_file")
_SSH_ARGS: Final = ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args")
_SECRETS: Final = (
    "ansible_password", "ansible_ssh_pass", "ansible_ssh_password", "ansible_private_key",
    "ansible_ssh_private_key", "ansible_private_key_passphrase", "ansible_ssh_private_key_passphrase",
)  # fmt: skip
_USED: Final = (*_ADDRESS, *_PORT, *_ACCOUNT, *_IDENTITY, *_SSH_ARGS, *_SECRETS, "ansible_connection")
_NODE_NAME: Final = re.compile(r"[A-Za-z0-9_](?:[\w.:%-]{0,251}[A-Za-z0-9_])?", re.ASCII)
_HOST_FIELDS: Final = frozenset(row.name for row in fields(Host))


@dataclass(slots=True)
class Resolved:
    """A host or why it is none, and what is to be said about it."""

    host: Host | Excluded
    warnings: list[str] = field(default_factory=list)


def resolve_host(tree: Tree, name: str, values: dict[int, object], base: str) -> Resolved:
    """Return one host of the tree; `base` is the directory relative key files start from."""
    variables = tree.variables_of(name)
    place = tree.hosts[name].place
    ours = {key: variables[key] for key in variables if key in KEYS}
    # A group that is taken out of the partitions is not thereby invited.
    inviting = [key for key in ours if key != "sshq_partition" or values[id(ours[key])] is True]
    if not inviting:
        return Resolved(Excluded(name=name, reason="no sshq_* variable applies to it", origin=str(place)))
    if "sshq_use" in ours and values[id(ours["sshq_use"])] is False:
        where = str(ours["sshq_use"].key.place)
        return Resolved(Excluded(name=name, reason=f"sshq_use is false ({where})", origin=str(place)))
    connection: Literal["ssh", "local"] = "ssh"
    entry = _pick(variables, "ansible_connection")
    if entry is not None:
        refuse_template("ansible_connection", entry.value)
        word = read_text("ansible_connection", entry.value)
        known = _CONNECTIONS.get(re.sub(r"^ansible\.(builtin|legacy)\.", "", word))
        if known is None:
            reason = f"ansible_connection is {word} ({entry.key.place}), not ssh or local"
            return Resolved(Excluded(name=name, reason=reason, origin=str(place)))
        connection = known
    if not _NODE_NAME.fullmatch(name):
        hint = "name it plainly and put the address into ansible_host"
        raise place.error(f"`{name}` cannot be the name of a node", hint=hint)
    builder = _HostBuilder(name, variables, base)
    if connection == "ssh":
        builder.refuse_secrets()
        builder.read_login()
    if entry is not None:
        builder.origins["connection"] = str(entry.key.place)
    for key, own in ours.items():
        builder.take(key, own, values[id(own)])
    groups = sorted(group.name for group in tree.groups_of(name) if group.name != "all")
    return Resolved(builder.build(connection, tuple(groups)), builder.warnings)


class _HostBuilder:
    """Collects the fields of one host with their origins."""

    def __init__(self, name: str, variables: dict[str, Entry], base: str) -> None:
        self._name = name
        self._variables = variables
        self._base = base
        self._fields: dict[str, object] = {}
        self._identity_files: list[str] = []
        self.origins: dict[str, str] = {}
        self.warnings: list[str] = []

    def refuse_secrets(self) -> None:
        for name in _SECRETS:
            if entry := _pick(self._variables, name):
                raise entry.key.place.error(
                    f"`{name}`: sshq logs in with keys or an agent, never with a secret from a file",
                    hint=f"ssh-copy-id {self._name}, then remove {name}",
                )
        for name, entry in self._variables.items():
            if name.startswith("ansible_") and name not in _USED and (near := closest(name, _USED, cutoff=0.92)):
                self.warnings.append(f"{entry.key.place}: `{name}` means nothing to sshq; did you mean `{near}`?")

    def read_login(self) -> None:
        if entry := _pick(self._variables, *_ADDRESS):
            text = self._text(entry)
            if text.startswith("-") or re.search(r"[\s/@]", text):
                raise entry.value.place.error(f"`{entry.name}` is a host name or an address, not {describe(entry.value)}")
            self._set("address", text, entry.key.place)
        if entry := _pick(self._variables, *_PORT):
            refuse_template(entry.name, entry.value)
            self._set("port", read_integer(1, 65535)(entry.name, entry.value), entry.key.place)
        if entry := _pick(self._variables, *_ACCOUNT):
            refuse_template(entry.name, entry.value)
            self._set("account", read_account(entry.name, entry.value), entry.key.place)
        if entry := _pick(self._variables, *_IDENTITY):
            self._add_identity(self._text(entry), entry.key.place)
        self._read_ssh_args()

    def _read_ssh_args(self) -> None:
        found = SshArgs()
        for name in _SSH_ARGS:
            entry = _pick(self._variables, name)
            if entry is None:
                continue
            refuse_template(name, entry.value)
            if not isinstance(entry.value, Scalar):
                raise entry.value.place.error(f"`{name}` is a text with options of ssh, not {describe(entry.value)}")
            add_ssh_args(found, name, entry.value)
        self.warnings += found.warnings
        # Ansible puts its own variables before these options, and the first value wins.
        for option, attribute in (("HostName", "address"), ("User", "account"), ("ProxyJump", "proxy_jump")):
            if (given := found.options.pop(option, None)) and attribute not in self._fields:
                self._set(attribute, *given)
        if (given := found.options.pop("Port", None)) and "port" not in self._fields:
            number = Scalar(place=given[1], value=given[0], text=given[0])
            self._set("port", read_integer(1, 65535)("Port", number), given[1])
        for path, place in found.identity_files:
            self._add_identity(path, place)
        if found.options:
            options = sorted((option, value) for option, (value, _) in found.options.items())
            self._set("ssh_options", tuple(options), next(iter(found.options.values()))[1])

    def take(self, name: str, entry: Entry, value: object) -> None:
        key = KEYS[name]
        if key.where is Where.PARTITION or name == "sshq_use":
            return
        self._set(key.field, value, entry.key.place)

    def build(self, connection: Literal["ssh", "local"], groups: tuple[str, ...]) -> Host:
        values: dict[str, object] = {"address": self._name} | self._fields
        unknown = values.keys() - _HOST_FIELDS
        assert not unknown, unknown  # noqa: S101  a row of keys.py without its field: the tests meet it first
        build: type = Host
        host = build(name=self._name, connection=connection, groups=groups, origins=self.origins, **values)
        assert isinstance(host, Host)  # noqa: S101
        return host

    def _set(self, attribute: str, value: object, place: Place) -> None:
        self._fields[attribute] = value
        self.origins[attribute] = str(place)

    def _text(self, entry: Entry) -> str:
        refuse_template(entry.name, entry.value)
        return read_text(entry.name, entry.value)

    def _add_identity(self, text: str, place: Place) -> None:
        path = os.path.expanduser(os.path.expandvars(text))
        if not os.path.isabs(path):
            path = os.path.abspath(os.path.join(self._base, path))
            self.warnings.append(f"{place}: the key file {text} is taken relative to the inventory: {path}")
        self._identity_files.append(path)
        self._set("identity_files", tuple(self._identity_files), place)


def _pick(variables: dict[str, Entry], *names: str) -> Entry | None:
    """Return the last of some variables that is set; nothing (null) counts as not set."""
    found: Entry | None = None
    for name in names:
        if name in variables and not _is_null(variables[name].value):
            found = variables[name]
    return found


def _is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value is None
