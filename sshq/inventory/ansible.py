"""Reading an Ansible inventory from its files into a tree of hosts and groups (tree.py has the rules).

A group may be written in several places; its parts add up.  A host key may hold ranges (`ws[01:12]`) and a
port (`ws1:2222`).  group_vars/ and host_vars/ beside the inventory are read.  A directory is all
inventories in it.

Where Ansible would skip what it does not understand and go on with fewer hosts, this refuses.
"""

import ipaddress
import os
import re
from typing import Final, Protocol

from sshq.core.hostlist import HostlistError, expand_ansible_range
from sshq.errors import InventoryError
from sshq.inventory.composer import VAULT_HEADER, parse_document
from sshq.inventory.document import Entry, Map, Place, Scalar, closest, describe
from sshq.inventory.tree import HOSTS_MAX, Tree

_EXTENSIONS: Final = ("", ".yml", ".yaml", ".json")  # the first that exists is read, in Ansible's order
_SECTIONS: Final = ("vars", "children", "hosts")
_IGNORED_IN_DIRECTORY: Final = re.compile(
    r"^\.|^(host_vars|group_vars|vars_plugins)$"
    r"|(~|\.(pyc|pyo|swp|bak|rpm|md|txt|rst|orig|cfg|retry))$"
)
_CONVERT_HINT: Final = "ansible-inventory -i {0} --list --export --yaml --output new.yaml"
_HOST_PORT: Final = re.compile(r"\[(.+)\]:([0-9]+)|((?:[^:\[\]]|\[[^\]]*\])*):([0-9]+)")
_RANGE: Final = r"\[(?:[a-z]:[a-z]|[0-9]+:[0-9]+)(?::[0-9]+)?\]"
_LABEL: Final = rf"(?:\w|{_RANGE})(?:[\w-]|{_RANGE})*(?<![_-])"
_HOST_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.IGNORECASE)


class Files(Protocol):
    """What the reading of an inventory needs of a file system."""

    def read(self, path: str) -> bytes:
        """Return a file's bytes, or raise OSError."""

    def list_directory(self, path: str) -> list[str] | None:
        """Return the names in a directory, None if it is not one; or raise OSError."""


class OsFiles:
    """The real file system."""

    def read(self, path: str) -> bytes:
        """Return a file's bytes, or raise OSError."""
        with open(path, "rb") as stream:
            return stream.read()

    def list_directory(self, path: str) -> list[str] | None:
        """Return the names in a directory, None if it is not one; or raise OSError."""
        return os.listdir(path) if os.path.isdir(path) else None


def read_tree(path: str, files: Files) -> Tree:
    """Return what the inventory at `path`, a file or a directory, says; raise InventoryError otherwise."""
    tree = Tree()
    directory = _read_source(tree, path, files, os.path.basename(os.path.normpath(path)))
    tree.settle()
    base = path if directory else os.path.dirname(path)
    _read_adjacent(tree, base, files)
    return tree


def _read_source(tree: Tree, path: str, files: Files, label: str) -> bool:
    """Read one file, or every inventory in a directory; return whether it was a directory."""
    tree.watched[path] = None
    try:
        names = files.list_directory(path)
        data = files.read(path) if names is None else b""
    except (OSError, ValueError) as error:
        raise explain_os_error(path, error) from None
    if names is None:
        _read_inventory_file(tree, path, data, label)
        return False
    for name in sorted(names):
        if not _IGNORED_IN_DIRECTORY.search(name):
            _read_source(tree, os.path.join(path, name), files, name)
    if not tree.read:
        raise InventoryError("this directory holds no inventory", file=path, hint=f"ls -a {path}")
    return True


def _read_inventory_file(tree: Tree, path: str, data: bytes, label: str) -> None:
    tree.read[path] = data
    extension = os.path.splitext(path)[1]
    if extension not in _EXTENSIONS:
        raise InventoryError(f"{extension} is not the name of a YAML inventory", file=path, hint=_CONVERT_HINT.format(path))
    if data.startswith(b"#!"):
        raise InventoryError("a program, not a YAML inventory", file=path, hint=_CONVERT_HINT.format(path))
    if _looks_like_ini(data):
        raise InventoryError("an INI inventory, not YAML", file=path, hint=_CONVERT_HINT.format(path))
    root = parse_document(data, name=path, label=label)
    if root is None:
        raise InventoryError("nothing in it", file=path, hint="start from inventory.example.yaml")
    if not isinstance(root, Map):
        message = f"an inventory is a mapping of groups, not {describe(root)}"
        raise root.place.error(message, hint="it begins with `all:`")
    if plugin := root.entry("plugin"):
        raise plugin.key.place.error("a dynamic inventory (plugin) is not a YAML inventory", hint=_CONVERT_HINT.format(path))
    for entry in root.entries:
        _read_group(tree, entry)


def _looks_like_ini(data: bytes) -> bool:
    lines = (line.strip() for line in data[:65536].decode("utf-8", "replace").splitlines())
    first = next((line for line in lines if line and line[0] not in "#;"), "")
    return bool(re.fullmatch(r"\[[\w.:-]+\]|[\w.:-]+([ \t]+\w+=\S+)+", first))


def _read_group(tree: Tree, entry: Entry) -> str:
    name, place = entry.key.value, entry.key.place
    if not isinstance(name, str) or not name:
        message = f"a group's name is a text, not {describe(entry.key)}"
        raise place.error(message, suggestion=f'"{entry.key.text}"')
    body = entry.value
    if isinstance(body, Scalar) and body.value is None:
        tree.add_group(name, place)
        return name
    if not isinstance(body, Map):
        message = f"the group `{name}` is a mapping with hosts, children and vars, not {describe(body)}"
        raise body.place.error(message)
    tree.add_group(name, place)
    for section in body.entries:
        content = _read_section(tree, name, section)
        for item in content:
            if section.name == "vars":
                tree.set_variable(name, item)
            elif section.name == "children":
                tree.link(name, _read_group(tree, item), item.key.place)
            else:
                _read_host(tree, name, item)
    return name


def _read_section(tree: Tree, group: str, section: Entry) -> tuple[Entry, ...]:
    """Return the entries of hosts, children or vars; a single name may stand for a mapping, as in Ansible."""
    value = section.value
    if section.name not in _SECTIONS:
        near = closest(section.name, _SECTIONS)
        if near is None and section.name.startswith(("sshq_", "ansible_")):
            message = f"`{section.name}` is a variable: it belongs under the group's vars"
            raise section.key.place.error(message, hint=f"{group}: {{vars: {{{section.name}: …}}}}")
        if near is not None or (isinstance(value, Map) and value.entries):
            message = f"a group has hosts, children and vars, not `{section.key.text}`"
            hint = None if near else "put a group inside a group under children:"
            raise section.key.place.error(message, suggestion=near, hint=hint)
        ignored = f"a group has no `{section.key.text}`; Ansible skips it too"
        tree.warnings.append(f"{section.key.place}: {ignored}")
        return ()
    if isinstance(value, Map):
        return value.entries
    if isinstance(value, Scalar) and value.value is None:
        return ()
    if isinstance(value, Scalar) and isinstance(value.value, str) and value.text.strip():
        nothing = Scalar(place=value.place, value=None, text="")
        return (Entry(key=value, value=nothing),)
    raise value.place.error(
        f"`{section.name}` is a mapping, not {describe(value)}",
        hint="write `name:` on its own line, without a dash",
    )


def _read_host(tree: Tree, group: str, entry: Entry) -> None:
    pattern, place, body = entry.key.value, entry.key.place, entry.value
    if not isinstance(pattern, str) or not pattern:
        message = f"a host's name is a text, not {describe(entry.key)}"
        raise place.error(message, suggestion=f'"{entry.key.text}"')
    port: str | None = None
    if found := _HOST_PORT.fullmatch(pattern):
        head = found[1] if found[1] is not None else found[3]
        if _HOST_NAME.fullmatch(head) or _is_address(head):
            pattern, port = head, found[2] or found[4]
    try:
        names = expand_ansible_range(pattern, max_names=HOSTS_MAX) if "[" in pattern else [pattern]
    except HostlistError as error:
        column = place.column + error.position - 1 + (0 if not entry.key.quoted else 1)
        near = re.sub(r"\[(\w+)-(\w+)\]", r"[\1:\2]", pattern)  # Slurm's own way to write it
        raise Place(place.source, place.line, column).error(
            f"the range in `{pattern}`: {error.reason}",
            suggestion=near if near != pattern else None,
            hint="ranges are [01:12], [a:f] or [0:10:2]",
        ) from None
    if not isinstance(body, Map) and not (isinstance(body, Scalar) and not body.value):
        raise body.place.error(f"the variables of `{pattern}` are a mapping, not {describe(body)}")
    for name in names:
        fresh = name not in tree.hosts
        tree.add_host(name, place, group)
        if port is not None and fresh:  # a port behind a later mention is ignored, as Ansible does
            text = str(int(port))
            value = Scalar(place=place, value=int(port), text=text)
            tree.hosts[name].own["ansible_port"] = Entry(
                key=Scalar(place=place, value="ansible_port", text="ansible_port"), value=value
            )
        for variable in body.entries if isinstance(body, Map) else ():
            tree.set_variable(name, variable)


def _read_adjacent(tree: Tree, base: str, files: Files) -> None:
    """Read group_vars/ and host_vars/ beside the inventory, for the groups and hosts there are."""
    for folder, owners in (("group_vars", tree.groups), ("host_vars", tree.hosts)):
        path = os.path.join(base, folder)
        tree.watched[path] = None
        try:
            names = set(files.list_directory(path) or ())
        except OSError as error:
            raise explain_os_error(path, error) from None
        for owner in owners.values():
            found = next((owner.name + end for end in _EXTENSIONS if owner.name + end in names), None)
            if found is not None:
                for entry in _read_variables(tree, os.path.join(path, found), f"{folder}/{found}", files):
                    owner.filed[entry.name] = entry


def _read_variables(tree: Tree, path: str, label: str, files: Files) -> list[Entry]:
    """Return the variables of a file, or of all files of a directory by name."""
    tree.watched[path] = None
    try:
        names = files.list_directory(path)
        data = files.read(path) if names is None else b""
    except OSError as error:
        raise explain_os_error(path, error) from None
    entries: list[Entry] = []
    if names is not None:
        for name in sorted(names):
            extension = os.path.splitext(name)[1]
            if not name.startswith(".") and not name.endswith("~") and extension in _EXTENSIONS:
                entries += _read_variables(tree, os.path.join(path, name), f"{label}/{name}", files)
        return entries
    tree.read[path] = data
    if data.startswith(VAULT_HEADER.encode()):
        tree.warnings.append(f"{label} is encrypted as a whole: sshq sees none of its variables")
        return []
    root = parse_document(data, name=path, label=label)
    if isinstance(root, Map):
        return list(root.entries)
    if root is None or (isinstance(root, Scalar) and not root.value):
        return []
    message = f"this file holds variables, a mapping, not {describe(root)}"
    raise root.place.error(message, suggestion="name: value")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return bool(re.fullmatch(rf"(?:(?:[0-9]{{1,3}}|{_RANGE})\.){{3}}(?:[0-9]{{1,3}}|{_RANGE})", text))
    return True


def explain_os_error(path: str, error: Exception) -> InventoryError:
    """Return the error of a file that cannot be read."""
    if isinstance(error, FileNotFoundError):
        return InventoryError("no such file", file=path, hint="start from inventory.example.yaml")
    if isinstance(error, PermissionError):
        return InventoryError("this account may not read it", file=path, hint=f"ls -l {path}")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return InventoryError(f"cannot be read: {reason}", file=path)
