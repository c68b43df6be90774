"""Frames and strict JSON: what may cross the socket, checked the same way in both directions.

Strict means: one object, UTF-8, no key twice, no NaN or infinity, integers within 64 bits, nesting bounded, and no
half of a surrogate pair except U+DC80 to U+DCFF, by which Python carries bytes of file names and environments that
are not UTF-8.  A fault is named with its path (`params.description.nodes[3]`), for it is always a programmer's.

The common case runs at the speed of the C decoder; the path is found by decoding once more, after a fault.

The C halves of `json` are used by themselves: the package brings `re`, `enum`, `functools` and `collections` along, which
together cost a command more than all of sshq.  Where they are not there, or speak otherwise, and for the words of a fault,
`json` is imported after all.
"""

from sshq.wire.protocol import DATA_FRAME, DEPTH_MAX, HEADER_BYTES, JSON_FRAME

TYPE_CHECKING = False  # `typing` alone would cost each command 5 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import NoReturn

    Scan = Callable[[str, int], tuple[object, int]]

_INT_LIMIT = 1 << 63
_INFINITE = (float("inf"), float("-inf"))


class CodecError(ValueError):
    """Bytes or a value that the protocol does not allow.  `path` is empty when the text as a whole is at fault."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.reason, self.path = reason, path


def frame_json(value: "Mapping[str, object]") -> bytes:
    """Return the frame that carries one JSON object."""
    return _frame(JSON_FRAME, encode_json(value))


def frame_header(kind: int, length: int) -> bytes:
    """Return what stands before a body of `length` bytes."""
    return length.to_bytes(HEADER_BYTES - 1, "big") + bytes((kind,))


def parse_header(header: bytes) -> tuple[int, int]:
    """Return (kind, length of the body) of a frame's first five bytes."""
    kind = header[4]
    if kind not in (JSON_FRAME, DATA_FRAME):
        raise CodecError(f"a frame of unknown kind 0x{kind:02x}")
    return kind, int.from_bytes(header[:4], "big")


def encode_json(value: "Mapping[str, object]") -> bytes:
    """Return an object as JSON bytes (ASCII); raise CodecError naming what cannot cross."""
    if not _is_sound(value, DEPTH_MAX):
        _check_value(value, [], DEPTH_MAX)
    return "".join(_encode(value)).encode("ascii")


def encode_plain(value: "Mapping[str, object]") -> bytes:
    """Return what `encode_json` does of an object that the controller made: looked at value by value only if that may matter."""
    try:
        text = "".join(_encode(value))
    except ValueError:
        return encode_json(value)  # which says what it is, and where
    return encode_json(value) if "\\ud" in text else text.encode("ascii")


def decode_answer(body: bytes) -> dict[str, object]:
    """Return the object in a frame of the controller, whom a client believes: as `decode_json`, but not looked at twice."""
    try:
        value, end = _scan_plain(body.decode("utf-8"), 0)
    except (StopIteration, ValueError, RecursionError):
        return decode_json(body)  # which says what is wrong
    return value if isinstance(value, dict) and end == len(body) else decode_json(body)


def decode_json(body: bytes) -> dict[str, object]:
    """Return the object that strict JSON bytes hold; raise CodecError naming the fault and its place."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CodecError(f"not UTF-8 at byte {error.start + 1}") from None
    try:
        value, end = _scan(text, 0)
    except _FaultError:
        _raise_with_path(text)
    except (StopIteration, ValueError, RecursionError):
        value, end = None, -1
    if end != len(text):
        value = _decode_slowly(text)
    if not isinstance(value, dict):
        raise CodecError(f"a JSON object is needed, not {_name_type(value)}")
    if _is_nested_deeper(value):
        raise CodecError(f"nested deeper than {DEPTH_MAX}")
    if b"\\ud" in body or b"\\uD" in body:
        _check_value(value, [], DEPTH_MAX)
    return value


def _frame(kind: int, body: bytes) -> bytes:
    return frame_header(kind, len(body)) + body


def _has_bad_surrogate(text: str) -> bool:
    """Whether half of a surrogate pair is in it, beyond those that stand for bytes."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return True
    return False


def _is_sound(value: object, depth_left: int) -> bool:
    """Return whether `_check_value` would accept a value: the quick half, which needs no path."""
    kind = type(value)
    if kind is str:
        return value.isascii() or not _has_bad_surrogate(value)  # type: ignore[attr-defined,arg-type]
    if value is None or kind is bool:
        return True
    if kind is int:
        return -_INT_LIMIT <= value < _INT_LIMIT  # type: ignore[operator]
    if kind is float:
        return value == value and value not in _INFINITE  # noqa: PLR0124  NaN differs from itself
    if depth_left == 0:
        return False
    if isinstance(value, dict):
        for key, item in value.items():
            if type(key) is not str or not key.isascii() or not _is_sound(item, depth_left - 1):
                return False
        return True
    return isinstance(value, (list, tuple)) and all(_is_sound(item, depth_left - 1) for item in value)


def _check_value(value: object, path: list[str], depth_left: int) -> None:
    """Raise CodecError at the first part of `value` that JSON, as we restrict it, cannot carry."""
    kind = type(value)
    if kind is str:
        if not value.isascii() and _has_bad_surrogate(value):  # type: ignore[attr-defined,arg-type]
            raise CodecError("half of a surrogate pair", _format_path(path))
    elif value is None or kind is bool:
        pass
    elif kind is int:
        if not -_INT_LIMIT <= value < _INT_LIMIT:  # type: ignore[operator]
            raise CodecError("an integer beyond 64 bits", _format_path(path))
    elif kind is float:
        if value != value or value in _INFINITE:  # noqa: PLR0124  NaN differs from itself
            raise CodecError("not a finite number", _format_path(path))
    elif isinstance(value, dict):
        _check_members(value, path, depth_left)
    elif isinstance(value, (list, tuple)):
        if depth_left == 0:
            raise CodecError(f"nested deeper than {DEPTH_MAX}", _format_path(path))
        for index, item in enumerate(value):
            path.append(f"[{index}]")
            _check_value(item, path, depth_left - 1)
            path.pop()
    else:
        raise CodecError(f"{kind.__name__} has no JSON form", _format_path(path))


def _check_members(value: dict[object, object], path: list[str], depth_left: int) -> None:
    if depth_left == 0:
        raise CodecError(f"nested deeper than {DEPTH_MAX}", _format_path(path))
    for key, item in value.items():
        if type(key) is not str:
            raise CodecError(f"a key that is {_name_type(key)}, not a string", _format_path(path))
        path.append(f".{key}")
        if not key.isascii() and _has_bad_surrogate(key):
            raise CodecError("half of a surrogate pair", _format_path(path))
        _check_value(item, path, depth_left - 1)
        path.pop()


def _is_nested_deeper(root: dict[str, object]) -> bool:
    """Return whether containers stand in one another deeper than allowed; level by level, without recursion."""
    level: list[object] = [root]
    for _ in range(DEPTH_MAX):
        inner: list[object] = []
        for container in level:
            members = container.values() if isinstance(container, dict) else container
            inner += [one for one in members if type(one) is dict or type(one) is list]  # type: ignore[attr-defined]
        if not inner:
            return False
        level = inner
    return True


def _describe_syntax(error: BaseException) -> str:
    import json

    if isinstance(error, json.JSONDecodeError):
        return f"not JSON at character {error.pos + 1}: {error.msg}"
    if isinstance(error, RecursionError):
        return f"nested deeper than {DEPTH_MAX}"
    return "not JSON"


def _name_type(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _format_path(path: list[str]) -> str:
    # A hostile key must not fill a log.
    text = "".join(path).removeprefix(".").encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 200 else text[:197] + "..."


class _FaultError(ValueError):
    """Raised inside the decoder; the second pass finds out where."""


class _Fault:
    """Stands for a faulty value in the second pass."""

    def __init__(self, reason: str, key: str = "") -> None:
        self.reason, self.key = reason, key


def _find_repeated(pairs: list[tuple[str, object]]) -> str | None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            return key
        seen.add(key)
    return None


def _read_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _FaultError
    return members


def _read_int(text: str) -> int:
    if len(text) > 20 or not -_INT_LIMIT <= (number := int(text)) < _INT_LIMIT:
        raise _FaultError
    return number


def _read_float(text: str) -> float:
    number = float(text)
    if number in _INFINITE:
        raise _FaultError
    return number


def _refuse_constant(_text: str) -> "NoReturn":
    raise _FaultError


def _decode_slowly(text: str) -> object:
    """Decode as `json` does, for blanks around a text and for the words of what is wrong with it."""
    import json

    decoder = json.JSONDecoder(
        object_pairs_hook=_read_object, parse_int=_read_int, parse_float=_read_float, parse_constant=_refuse_constant
    )
    try:
        return decoder.decode(text)
    except _FaultError:
        _raise_with_path(text)
    except (ValueError, RecursionError) as error:
        raise CodecError(_describe_syntax(error)) from None


class _Reading:
    """What the C scanner asks of a decoder."""

    strict = True
    object_hook = None
    object_pairs_hook = staticmethod(_read_object)
    parse_int = staticmethod(_read_int)
    parse_float = staticmethod(_read_float)
    parse_constant = staticmethod(_refuse_constant)


class _PlainReading:
    """The same, without a call for each object and number."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_int = int
    parse_float = float
    parse_constant = staticmethod(_refuse_constant)


def _refuse_value(value: object) -> "NoReturn":
    raise CodecError(f"{type(value).__name__} has no JSON form")


def _take_c_halves() -> "tuple[Callable[[object], Iterable[str]], Scan, Scan]":
    """Return what encodes a value into pieces of text, what scans one value of a text from a position, and that for answers."""
    try:
        from _json import encode_basestring_ascii, make_encoder, make_scanner

        encoder = make_encoder(None, _refuse_value, encode_basestring_ascii, None, ":", ",", False, False, False)
        scanner = make_scanner(_Reading)  # type: ignore[arg-type]
        if "".join(encoder({"a": [1, None]}, 0)) == '{"a":[1,null]}' and scanner('["b"]', 0) == (["b"], 5):
            return lambda value: encoder(value, 0), scanner, make_scanner(_PlainReading)  # type: ignore[arg-type]
    except (ImportError, TypeError, ValueError):
        pass  # another Python than CPython, or one of another mind
    import json

    return json.JSONEncoder(allow_nan=False, separators=(",", ":")).iterencode, _scan_nothing, _scan_nothing


def _scan_nothing(_text: str, _start: int) -> "tuple[object, int]":
    return None, -1


_encode, _scan, _scan_plain = _take_c_halves()


def _raise_with_path(text: str) -> "NoReturn":
    def mark_object(pairs: list[tuple[str, object]]) -> object:
        repeated = _find_repeated(pairs)
        return dict(pairs) if repeated is None else _Fault("a key that stands there twice", repeated)

    def mark_int(digits: str) -> object:
        try:
            return _read_int(digits)
        except _FaultError:
            return _Fault("an integer beyond 64 bits")

    def mark_float(digits: str) -> object:
        try:
            return _read_float(digits)
        except _FaultError:
            return _Fault("not a finite number")

    import json

    marking = json.JSONDecoder(
        object_pairs_hook=mark_object,
        parse_int=mark_int,
        parse_float=mark_float,
        parse_constant=lambda _name: _Fault("not a finite number"),
    )
    try:
        marked: object = marking.decode(text)
    except (ValueError, RecursionError) as error:
        raise CodecError(_describe_syntax(error)) from None
    _raise_at_fault(marked, [])
    raise CodecError("not JSON")


def _raise_at_fault(value: object, path: list[str]) -> None:
    if isinstance(value, _Fault):
        raise CodecError(value.reason, _format_path([*path, f".{value.key}"] if value.key else path))
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in members:
        _raise_at_fault(item, [*path, f"[{key}]" if isinstance(value, list) else f".{key}"])
