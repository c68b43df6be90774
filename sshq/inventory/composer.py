"""YAML to a tree of values with places (document.py): the only way a file gets in.

Whatever bytes come in, the answer is a tree or an InventoryError that shows the line.  YAML means what
Ansible takes it to mean: version 1.1, `yes` is true, 010 is eight, 1:30:00 is a number, `<<` merges,
`!vault` and `!unsafe` are known; a file that is JSON is read as JSON.

Two things are refused that Ansible lets pass with a warning: a key twice in one mapping, and a document
that grows without bound through aliases.  The tree is built from the parser's events without recursion, so
depth is bounded here and not by Python's stack.  libyaml parses; its messages are too short to help, so a
file with a fault is read once more by PyYAML's own parser for the words.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import yaml
from yaml.constructor import ConstructorError, SafeConstructor
from yaml.resolver import Resolver

from sshq.errors import InventoryError
from sshq.inventory.document import Entry, Map, Node, Place, Scalar, Seq, Source, closest, describe

FILE_BYTES_MAX: Final = 4 * 1024 * 1024  # a thousand hosts with ten lines each are a tenth of this
DEPTH_MAX: Final = 64
NODES_MAX: Final = 400_000  # with every alias counted as often as it is used
NUMBER_LENGTH_MAX: Final = 100  # longer digits take Python quadratic time
VAULT_HEADER: Final = "$ANSIBLE_VAULT;"

_TAG: Final = "tag:yaml.org,2002:"
_LINE_BREAK: Final = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
# libyaml and PyYAML agree on these; the position in the message is only found here.
_NOT_PRINTABLE: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_CParser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse_document(data: bytes, *, name: str, label: str | None = None) -> Node | None:
    """Return the tree of a file, None if it holds nothing but comments.

    No bytes raise anything but InventoryError.  `name` is the file in errors, `label` in origins.
    """
    if len(data) > FILE_BYTES_MAX:
        raise InventoryError(f"{len(data)} bytes are too many: at most {FILE_BYTES_MAX}", file=name)
    text = _decode(data, name)
    source = Source(name, label if label is not None else name, tuple(_LINE_BREAK.split(text)))
    if odd := _NOT_PRINTABLE.search(text):
        raise _place_at(source, text, odd.start()).error(
            f"a control character ({odd.group()!r}) cannot stand in YAML",
            hint="write it as an escape in double quotes",
        )
    as_json = text.lstrip()[:1] in ("{", "[") and _is_json(text)
    if as_json:
        text = text.replace("\t", " ")  # JSON may be indented by tabs; none can stand in its strings
    try:
        return _Builder(source, as_json=as_json).build(yaml.parse(text, Loader=_CParser))
    except yaml.MarkedYAMLError as error:
        raise _explain(source, _find_better_words(source, text, error)) from None
    except yaml.YAMLError as error:
        raise InventoryError(f"not YAML: {str(error).splitlines()[0]}", file=name) from None
    except (ValueError, OverflowError, RecursionError) as error:
        raise InventoryError(f"not YAML: {error}", file=name) from None


@dataclass(slots=True)
class _Frame:
    """A sequence or mapping whose end has not been seen."""

    event: Any
    anchor: str | None
    place: Place
    items: list[Node] = field(default_factory=list)
    size: int = 1
    height: int = 1


class _Builder:
    """Builds one tree from parser events, with a stack of its own."""

    def __init__(self, source: Source, *, as_json: bool = False) -> None:
        self._source = source
        self._as_json = as_json
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[Node, int, int]] = {}
        self._resolver: Any = Resolver()
        self._constructor: Any = SafeConstructor()
        self._root: Node | None = None

    def build(self, events: Iterator[Any]) -> Node | None:
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._place(event).error("a second document starts here: a file holds one")
            elif isinstance(event, yaml.AliasEvent):
                self._add(*self._find_alias(event))
            elif isinstance(event, yaml.ScalarEvent):
                scalar = self._build_scalar(event)
                self._remember(event.anchor, event, scalar, 1, 1)
                self._add(scalar, 1, 1)
            elif isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
                if len(self._stack) >= DEPTH_MAX:
                    raise self._place(event).error(f"nested deeper than {DEPTH_MAX} levels")
                self._stack.append(_Frame(event, event.anchor, self._place(event)))
            elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
                frame = self._stack.pop()
                node = self._close(frame)
                self._remember(frame.anchor, frame.event, node, frame.size, frame.height)
                self._add(node, frame.size, frame.height)
        if isinstance(self._root, Scalar) and self._root.value is None:
            return None
        return self._root

    def _add(self, node: Node, size: int, height: int) -> None:
        if not self._stack:
            self._root = node
            return
        frame = self._stack[-1]
        frame.items.append(node)
        frame.size += size
        frame.height = max(frame.height, height + 1)
        if frame.size > NODES_MAX:
            raise frame.place.error(f"more than {NODES_MAX} values, aliases counted each time they are used")
        if len(self._stack) + height > DEPTH_MAX + 1:
            raise node.place.error(f"nested deeper than {DEPTH_MAX} levels")

    def _remember(self, anchor: str | None, event: Any, node: Node, size: int, height: int) -> None:
        if anchor is None:
            return
        if anchor in self._anchors:
            first = self._anchors[anchor][0].place
            raise self._place(event).error(f"the anchor &{anchor} stands already in line {first.line}")
        self._anchors[anchor] = (node, size, height)

    def _find_alias(self, event: Any) -> tuple[Node, int, int]:
        if event.anchor in self._anchors:
            return self._anchors[event.anchor]
        if any(frame.anchor == event.anchor for frame in self._stack):
            raise self._place(event).error(f"the alias *{event.anchor} stands inside what it names")
        near = closest(event.anchor, tuple(self._anchors))
        raise self._place(event).error(
            f"no anchor &{event.anchor} before this alias", suggestion=f"*{near}" if near else None,
            hint=None if near else 'a value that starts with * must be quoted: "*"',
        )  # fmt: skip

    def _place(self, event: Any) -> Place:
        start, end = event.start_mark, event.end_mark
        line: str = self._source.lines[start.line] if start.line < len(self._source.lines) else ""
        stop = end.column if end.line == start.line else len(line)
        return Place(self._source, start.line + 1, start.column + 1, max(1, stop - start.column))

    def _build_scalar(self, event: Any) -> Scalar:
        place, quoted, text = self._place(event), bool(event.style), str(event.value)
        tag, mark = event.tag, ""
        if self._as_json and not quoted:
            return Scalar(place=place, value=json.loads(text), text=text)
        if tag in ("!vault", "!vault-encrypted"):
            return Scalar(place=place, value=text, text=text, quoted=quoted, mark="vault")
        if tag == "!unsafe":
            tag, mark = self._resolver.resolve(yaml.ScalarNode, text, (True, False)), "unsafe"
        elif tag is None or tag == "!":
            tag = self._resolver.resolve(yaml.ScalarNode, text, event.implicit)
        kind = tag.removeprefix(_TAG)
        if kind in ("int", "float", "timestamp") and len(text) > NUMBER_LENGTH_MAX:
            raise place.error(f"a number of {len(text)} characters", hint="quote it if it is a text")
        constructors = {
            "null": SafeConstructor.construct_yaml_null,
            "bool": SafeConstructor.construct_yaml_bool,
            "int": SafeConstructor.construct_yaml_int,
            "float": SafeConstructor.construct_yaml_float,
            "timestamp": SafeConstructor.construct_yaml_timestamp,
            "binary": SafeConstructor.construct_yaml_binary,
            "str": SafeConstructor.construct_yaml_str,
            "merge": SafeConstructor.construct_yaml_str,
        }
        if kind not in constructors:
            self._refuse_tag(place, tag)
        try:
            value = constructors[kind](self._constructor, yaml.ScalarNode(tag, text))
        except (ConstructorError, ValueError, KeyError, OverflowError, AttributeError, IndexError):
            message = f"`{text[:60]}` is not a valid {kind}"
            raise place.error(message, hint="quote it if it is a text") from None
        return Scalar(place=place, value=value, text=text, quoted=quoted, mark=mark)

    def _refuse_tag(self, place: Place, tag: str) -> NoReturn:
        if tag == _TAG + "value":
            raise place.error("a bare `=` must be quoted", suggestion="'='")
        short = tag.replace(_TAG, "!!")
        raise place.error(f"the tag {short} is not understood", hint="Ansible's own are !vault and !unsafe")

    def _close(self, frame: _Frame) -> Node:
        tag = frame.event.tag
        mark = "unsafe" if tag == "!unsafe" else ""
        kind = "" if tag is None or tag in ("!", "!unsafe") else tag.removeprefix(_TAG)
        if isinstance(frame.event, yaml.SequenceStartEvent):
            if kind not in ("", "seq", "omap", "pairs"):
                self._refuse_tag(frame.place, tag)
            return Seq(place=frame.place, items=tuple(frame.items), mark=mark)
        if kind not in ("", "map", "set"):
            self._refuse_tag(frame.place, tag)
        return Map(place=frame.place, entries=_merge(frame), mark="set" if kind == "set" else mark)


def _merge(frame: _Frame) -> tuple[Entry, ...]:
    """Pair up keys and values; own entries win over merged ones, earlier merges over later ones."""
    own: dict[str, Entry] = {}
    merged: dict[str, Entry] = {}
    for key, value in zip(frame.items[::2], frame.items[1::2], strict=True):
        if not isinstance(key, Scalar):
            raise key.place.error("a list or mapping cannot be a key", hint='a Jinja expression must be quoted: "{{ name }}"')
        if key.value == "<<" and not key.quoted:
            for part in reversed(value.items if isinstance(value, Seq) else (value,)):
                if not isinstance(part, Map):
                    raise part.place.error(f"`<<` merges mappings, not {describe(part)}")
                merged |= {entry.name: entry for entry in part.entries}
            continue
        entry = Entry(key=key, value=value)
        if entry.name in own:
            first = own[entry.name].key.place.line
            message = f"`{key.text}` stands already in line {first} of this mapping"
            raise key.place.error(message, hint="remove one of them")
        own[entry.name] = entry
    result = tuple((merged | own).values())
    frame.size += 2 * len(merged)
    if frame.size > NODES_MAX:
        raise frame.place.error(f"more than {NODES_MAX} values, aliases counted each time they are used")
    return result


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        head = data[: error.start].decode("utf-8", "replace").removeprefix("\ufeff")
        lines = _LINE_BREAK.split(head)
        whole = data.decode("utf-8", "replace").removeprefix("\ufeff")
        source = Source(name, name, tuple(_NOT_PRINTABLE.sub("�", line) for line in _LINE_BREAK.split(whole)))
        place = Place(source, len(lines), len(lines[-1]) + 1)
        bad = f"0x{data[error.start]:02x}"
        raise place.error(f"the byte {bad} is not UTF-8", hint=f"iconv -f latin1 -t utf-8 {name}") from None


def _place_at(source: Source, text: str, index: int) -> Place:
    lines = _LINE_BREAK.split(text[:index])
    return Place(source, len(lines), len(lines[-1]) + 1)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _find_better_words(source: Source, text: str, error: yaml.MarkedYAMLError) -> yaml.MarkedYAMLError:
    """Return what PyYAML's own parser says of the same fault, else libyaml's error."""
    try:
        _Builder(source).build(yaml.parse(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as other:
        # PyYAML alone refuses tabs between words: then it stopped before the fault.
        same = "'\\t'" not in str(other.problem) or "cannot start any token" in str(error.problem)
        return other if same else error
    except (InventoryError, yaml.YAMLError, ValueError, OverflowError):
        return error
    return error


# What PyYAML says, what we say, and the way out.  {0} is the first quoted word of its message.
_EXPLANATIONS: Final = (
    (r"found character '\\t'", "a tab cannot stand here", "indent with spaces"),
    (r"found character '(.)'", "a value cannot start with {0}", "quote the value"),
    (r"mapping values are not allowed", "a second `: ` in one value", "quote a value that holds `: `"),
    (r"could not find expected ':'", "a key without its colon", "write `name:`"),
    (r"expected ',' or '(.)'", "this bracket is not closed by {0}", None),
    (r"expected <block end>, but found '-'", "a list item among the keys of a mapping",
     "in an inventory, hosts, children and vars are mappings: `name:` instead of `- name`"),
    (r"expected <block end>", "the indentation fits none of the lines above",
     "entries of one mapping start in the same column"),
    (r"found unexpected end of stream", "this quote is never closed", None),
    (r"found unexpected document separator", "this quote is never closed", None),
    (r"found unknown escape character '(.+)'", "\\{0} is no escape in double quotes",
     "use single quotes, or double the backslash"),
    (r"found undefined tag handle", "this tag is not understood", None),
    (r"found incompatible YAML document", "not YAML 1.x", None),
)  # fmt: skip


def _explain(source: Source, error: yaml.MarkedYAMLError) -> InventoryError:
    problem = str(error.problem or "bad YAML")
    opening = ("expected ',' or", "unexpected end", "unexpected document separator")
    # A bracket or quote that is never closed is seen at the end of the file; the fault is where it opened.
    at_opening = error.context_mark is not None and any(word in problem for word in opening)
    mark = error.context_mark if at_opening else error.problem_mark or error.context_mark
    if "could not find expected ':'" in problem and error.context_mark is not None:
        mark = error.context_mark
    line, column = (mark.line, mark.column) if mark is not None else (0, 0)
    if line >= len(source.lines):
        line, column = len(source.lines) - 1, len(source.lines[-1])
    if "mapping values are not allowed" in problem and (fault := _explain_indent(source, line, column)):
        return fault
    place = Place(source, line + 1, column + 1)
    for pattern, message, hint in _EXPLANATIONS:
        if found := re.search(pattern, problem):
            return place.error(message.format(*found.groups()), hint=hint)
    return place.error(problem)


def _explain_indent(source: Source, line: int, column: int) -> InventoryError | None:
    """Return the error of a mapping below something that takes none; None if the fault is within the line."""
    if re.search(r":\s", source.lines[line][:column]):
        return None
    above = next((n for n in range(line - 1, -1, -1) if source.lines[n].split("#")[0].strip()), None)
    if above is None:
        return None
    text = source.lines[above].split("#")[0].rstrip()
    start = len(text) - len(text.lstrip())
    if ":" not in text:
        place = Place(source, above + 1, start + 1, len(text) - start)
        return place.error("a key without its colon", suggestion=text.strip() + ":")
    indent = len(source.lines[line]) - len(source.lines[line].lstrip())
    message = f"indented below line {above + 1}, which has a value already"
    hint = "entries of one mapping start in the same column"
    return Place(source, line + 1, indent + 1, max(1, column - indent)).error(message, hint=hint)
