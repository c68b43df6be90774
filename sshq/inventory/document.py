"""A file as a tree of values that know their places: what the rest of the inventory reads.

A scalar keeps its source text beside its value, so that a key of ours that wants a time or a version (3.10)
reads what was written and not what YAML 1.1 made of it.
"""

import datetime as dt
import difflib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from sshq.errors import InventoryError

ScalarValue: TypeAlias = str | int | float | bool | bytes | dt.date | None
Plain: TypeAlias = "ScalarValue | list[Plain] | dict[str, Plain]"


@dataclass(frozen=True, slots=True)
class Source:
    """One file: `name` as errors show it, `label` as origins do, its lines without their ends."""

    name: str
    label: str
    lines: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands; line and column count from 1, `width` characters are underlined."""

    source: Source
    line: int
    column: int
    width: int = 1

    def __str__(self) -> str:
        return f"{self.source.label}:{self.line}"

    def error(self, message: str, *, suggestion: str | None = None, hint: str | None = None) -> InventoryError:
        """Return the error to raise about this place."""
        text = self.source.lines[self.line - 1] if self.line <= len(self.source.lines) else ""
        shown = "".join(letter if letter.isprintable() else " " for letter in text)  # the caret must fit
        text = shown[: self.column + 150]
        return InventoryError(
            message, file=self.source.name, line=self.line, column=self.column, text=text,
            suggestion=suggestion, width=self.width, hint=hint,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """One value.  `text` is what stood in the file; `mark` is "vault" or "unsafe" for Ansible's two tags."""

    place: Place
    value: ScalarValue
    text: str
    quoted: bool = False
    mark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seq:
    """A list."""

    place: Place
    items: tuple["Node", ...]
    mark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One `key: value` of a mapping."""

    key: Scalar
    value: "Node"

    @property
    def name(self) -> str:
        """The key as JSON would spell it."""
        return self.key.value if isinstance(self.key.value, str) else json.dumps(self.key.value, default=str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """A mapping, its merges already done, in the order of the file; no name occurs twice."""

    place: Place
    entries: tuple[Entry, ...]
    mark: str = ""

    def entry(self, name: str) -> Entry | None:
        """Return the entry of a name, None if there is none."""
        return next((entry for entry in self.entries if entry.name == name), None)


Node: TypeAlias = Scalar | Seq | Map


def to_plain(node: Node) -> Plain:
    """Return a tree as JSON-like values, in the shape `ansible-inventory --list` prints."""
    if isinstance(node, Scalar):
        value: Plain = node.value
        if isinstance(value, dt.date):
            value = value.isoformat()
        if node.mark and isinstance(value, str):
            return {f"__ansible_{node.mark}": value}
        return value
    if isinstance(node, Seq):
        return [to_plain(item) for item in node.items]
    if node.mark == "set":
        return [to_plain(entry.key) for entry in node.entries]
    return {entry.name: to_plain(entry.value) for entry in node.entries}


def walk(node: Node) -> Iterator[Scalar]:
    """Yield every scalar value below a node, the node itself included; keys are left out."""
    if isinstance(node, Scalar):
        yield node
    elif isinstance(node, Seq):
        for item in node.items:
            yield from walk(item)
    else:
        for entry in node.entries:
            yield from walk(entry.value)


def describe(node: Node) -> str:
    """Return what a node is, for a message: "a list", "the number 4", "`four`"."""
    if isinstance(node, Seq):
        return "a list"
    if isinstance(node, Map):
        return "a mapping" if node.entries else "an empty mapping"
    if node.value is None:
        return "nothing"
    if isinstance(node.value, bool):
        return f"the truth value {node.text}"
    if isinstance(node.value, int | float):
        return f"the number {node.text}"
    return f"`{node.text if len(node.text) <= 60 else node.text[:57] + '…'}`"


def closest(name: str, known: Iterable[str], *, cutoff: float = 0.7) -> str | None:
    """Return the known name that is most like `name`, None if none is."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return matches[0] if matches else None
