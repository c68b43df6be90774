"""JSON of one field: for each type the model may use, what checks a value and makes it JSON, and what does the way back.

Whatever is of another type is refused, in both directions, with what was expected.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from sshq.errors import BugError

Json = object  # what json reads and writes: None, bool, int, float, str, list
Convert = Callable[[Any], Json]


class TypeMismatchError(ValueError):
    """A value is not what its field says; the message is what was expected."""


def plain_type(hint: object) -> type | None:
    """Return the type whose values are of `hint` as they are read from JSON, None where they have to be looked at."""
    inner = [arg for arg in get_args(hint) if arg is not NoneType] if get_origin(hint) in {Union, UnionType} else [hint]
    return inner[0] if len(inner) == 1 and inner[0] in (bool, int, float, str) else None


def written_type(hint: object) -> object:
    """Return the type or sequence whose text is known without a look at the value; None for all others."""
    plain = plain_type(hint)
    if plain is not None:
        return plain
    inner = [arg for arg in get_args(hint) if arg is not NoneType] if get_origin(hint) in {Union, UnionType} else [hint]
    one = inner[0] if len(inner) == 1 else None
    return one if get_origin(one) is tuple or (isinstance(one, type) and issubclass(one, Enum)) else None


def writer_of(hint: object) -> Convert:
    """Return the function that checks a value of type `hint` and makes it JSON."""
    return _converter(hint, writing=True)


def reader_of(hint: object) -> Convert:
    """Return the function that checks JSON and makes it a value of type `hint`."""
    return _converter(hint, writing=False)


def _converter(hint: object, *, writing: bool) -> Convert:
    origin = get_origin(hint)
    if origin in {Union, UnionType}:
        return _optional(hint, writing=writing)
    if origin is Literal:
        return _one_of(get_args(hint))
    if origin is tuple:
        return _sequence(get_args(hint), writing=writing)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _enum_name(hint) if writing else _enum_member({member.name: member for member in hint})
    if isinstance(hint, type) and hint in _SCALARS:
        return _SCALARS[hint]
    raise BugError(f"no text for the type {hint}")


def _read_bool(value: object) -> Json:
    if value is True or value is False:
        return value
    raise TypeMismatchError(f"not a truth value: {value!r}")


def _read_int(value: object) -> Json:
    if type(value) is int:
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)  # an IntEnum: signal.SIGTERM
    raise TypeMismatchError(f"not an integer: {value!r}")


def _read_float(value: object) -> Json:
    if type(value) is float:
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool) and -1e300 < value < 1e300:  # more digits fit no float
        return float(value)
    raise TypeMismatchError(f"not a number: {value!r}")


def _read_str(value: object) -> Json:
    if type(value) is str:
        return value
    raise TypeMismatchError(f"not text: {value!r}")


_SCALARS: Final[Mapping[type, Convert]] = {
    bool: _read_bool,
    int: _read_int,
    float: _read_float,
    str: _read_str,
}


def _optional(hint: object, *, writing: bool) -> Convert:
    inner = [arg for arg in get_args(hint) if arg is not NoneType]
    if len(inner) != 1:
        raise BugError(f"no text for the type {hint}")
    convert = _converter(inner[0], writing=writing)
    return lambda value: None if value is None else convert(value)


def _one_of(choices: tuple[object, ...]) -> Convert:
    def convert(value: object) -> Json:
        if type(value) is str and value in choices:
            return value
        raise TypeMismatchError(f"not one of {', '.join(map(str, choices))}: {value!r}")

    return convert


def _sequence(items: tuple[object, ...], *, writing: bool) -> Convert:
    container = tuple if writing else list
    make: Callable[..., Json] = list if writing else tuple
    if len(items) == 2 and items[1] is Ellipsis:
        each, plain = _converter(items[0], writing=writing), frozenset([plain_type(items[0])])

        def convert_all(value: object) -> Json:
            if isinstance(value, container):
                if plain.issuperset(map(type, value)):
                    return make(value)
                return make([each(item) for item in value])
            raise TypeMismatchError(f"not a sequence: {value!r}")

        return convert_all
    converts = [_converter(item, writing=writing) for item in items]

    def convert(value: object) -> Json:
        if isinstance(value, container) and len(value) == len(converts):
            return make([each(item) for each, item in zip(converts, value, strict=True)])
        raise TypeMismatchError(f"not {len(converts)} values: {value!r}")

    return convert


def _enum_name(choices: type[Enum]) -> Convert:
    def convert(value: object) -> Json:
        if type(value) is choices:
            return value.name
        raise TypeMismatchError(f"not a {choices.__name__}: {value!r}")

    return convert


def _enum_member(members: Mapping[str, Enum]) -> Convert:
    def convert(value: object) -> Json:
        member = members.get(value) if isinstance(value, str) else None
        if member is None:
            raise TypeMismatchError(f"not one of {', '.join(members)}: {value!r}")
        return member

    return convert
