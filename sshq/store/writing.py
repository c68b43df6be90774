"""Records made text by a function of their own kind: six or seven are written for each job.

A loop over the fields of a record costs four times as much as the same in straight lines, which the interpreter is quick at.
What is checked is the same; where a value is none that its field allows, the loop has the words for it.
"""

import json
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Final

Write = Callable[[Any], object]  # checks a value and returns what json makes text of; raises ValueError
Field = tuple[str, object, object, Write]  # name, the default that is left out, `plain`, the check of what is not plain

_quote: Final = json.encoder.encode_basestring_ascii


_TEXTS: Final[dict[float, str]] = {}  # of times, each of which stands in several rows of several jobs
_TEXTS_MAX: Final = 1000


def _say(value: float) -> str:
    """Return the shortest text of a number that reads as the same one: it takes ten times as long as to look it up."""
    if len(_TEXTS) >= _TEXTS_MAX:
        _TEXTS.clear()
    text = repr(value)
    if value:  # 0.0 and -0.0 are equal
        _TEXTS[value] = text
    return text


def make_writer(fields: Sequence[Field], head: str, to_json: Callable[[object], str]) -> Callable[[object], str]:
    """Return what makes the text of a record; it raises ValueError where a field holds what it may not.

    `plain` is the type whose values are written without another look, or the sequence whose single items are.
    """
    scope: dict[str, Any] = {"quote": _quote, "to_json": to_json, "say": _say, "texts": _TEXTS}
    lines = ["def write(record):", f"    text = '{{{head}'"]
    # What is equal to None, a truth value or a member of an enum is that itself.
    for number, (name, default, plain, check) in enumerate(fields):
        scope |= {f"default_{number}": default, f"plain_{number}": plain, f"check_{number}": check}
        test, text = _PLAIN.get(plain, _NAMED if isinstance(plain, type) else ("", ""))
        lines.append(f"    value = record.{name}")
        unlike = "" if default is None or isinstance(default, (bool, Enum)) else f" and value != default_{number}"
        lines.append(f"    if value is not default_{number}{unlike}:")
        if test:
            lines.append(f"        if {test.format(plain=f'plain_{number}')}: text += f',\"{name}\":{text}'")
        lines.append(f"        {'else: ' if test else ''}text += f',\"{name}\":{{to_json(check_{number}(value))}}'")
    lines.append("    return text + '}'")
    exec("\n".join(lines), scope)  # noqa: S102 - the names of our own fields, as in `core.replacing`
    write: Callable[[object], str] = scope["write"]
    return write


# Of each plain type: how its values are known, and what stands for them in the text.
_NAMED: Final = ("type(value) is {plain}", '"{value._name_}"')  # an enum: the names of its members are identifiers
_PLAIN: Final[dict[object, tuple[str, str]]] = {
    bool: ("value is True", "true"),
    int: ("type(value) is int", "{value}"),
    float: ("type(value) is float and value - value == 0", "{texts.get(value) or say(value)}"),  # neither infinite nor no number
    str: ("type(value) is str", "{quote(value)}"),
    tuple[str, ...]: ("type(value) is tuple and len(value) == 1 and type(value[0]) is str", "[{quote(value[0])}]"),
    tuple[int, ...]: ("type(value) is tuple and len(value) == 1 and type(value[0]) is int", "[{value[0]}]"),
}
