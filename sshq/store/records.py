"""Records and their text: frozen dataclasses of core.model to JSON and back.

A field that equals its default is left out, so a field added later (with a default) reads from old rows as
that default.  Hence two rules for the model: a new field has a default, and a default once stored never
changes (a test pins them).  Both directions check types: a row that could not be read back is refused when
it is written, while somebody can still be told, not at the next start.

Each text ends in a checksum of itself.  SQLite sees a page that makes no sense; it does not see the flipped bit that turns
an exit code of 1 into 0.
"""

import json
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar, get_type_hints

from sshq.core.replacing import draft_of
from sshq.errors import CheckFailedError, StoreError
from sshq.store.fieldtypes import Json, TypeMismatchError, plain_type, reader_of, writer_of, written_type
from sshq.store.writing import make_writer

VERSION: Final = 1  # of the text, not of the tables; a reader refuses a higher one

R = TypeVar("R")


def _make_format() -> Callable[[object], str]:
    """Return what makes JSON of plain values; the module's own `encode` builds its C half anew for each of them."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # another Python than CPython
        return json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
    pieces = make(None, _refuse_value, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, False)
    return lambda value: "".join(pieces(value, 0))


def _refuse_value(value: object) -> object:
    raise ValueError(f"no JSON for {type(value).__name__}")


format_json: Final = _make_format()
_scan_json: Final = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # of a value that begins where the text does
_REQUIRED: Final = object()
_SHAPES_MAX: Final = 1000
_SEAL_START: Final = ',"crc":"'
_SEAL: Final = _SEAL_START + '%08x"}'
_SEAL_LENGTH: Final = len(_SEAL % 0)


def seal(text: str) -> str:
    """Return a record's JSON with the checksum as its last key."""
    return f'{text[:-1]},"crc":"{zlib.crc32(text.encode()):08x}"}}'


def unseal(text: str) -> str:
    """Return the JSON that was sealed.  Raises ValueError where it is not what was sealed."""
    tail = text[-_SEAL_LENGTH:]
    if len(tail) < _SEAL_LENGTH or not tail.startswith(_SEAL_START) or not tail.endswith('"}'):
        raise ValueError("it has no checksum")
    body = text[:-_SEAL_LENGTH] + "}"
    if f"{zlib.crc32(body.encode('utf-8', 'surrogatepass')):08x}" != tail[len(_SEAL_START) : -2]:
        raise ValueError("its checksum is wrong")
    return body


def _read_all(texts: Sequence[str]) -> list[Any] | None:
    """Return the JSON of texts that were all sealed, as one text; None where there is anything to be said of one of them."""
    bodies = [f"{text[:-_SEAL_LENGTH]}}}" for text in texts]
    try:
        sums = map(zlib.crc32, map(str.encode, bodies))
        if [text[-_SEAL_LENGTH:] for text in texts] != [_SEAL % found for found in sums]:
            return None
        found = json.loads(f"[{','.join(bodies)}]")
    except ValueError:
        return None
    return found if len(found) == len(texts) else None


class Codec(Generic[R]):
    """Text of one dataclass.  `leave_out` names fields kept elsewhere: given back to `decode` by keyword.

    `repeated` names fields of texts that many records share: of those that are read together each is kept in memory once.
    """

    def __init__(self, record_type: type[R], *, leave_out: tuple[str, ...] = (), repeated: tuple[str, ...] = ()) -> None:
        hints = get_type_hints(record_type)
        kept = [f for f in fields(record_type) if f.name not in leave_out]  # type: ignore[arg-type]
        names = [f.name for f in kept]
        self._type = record_type
        self._values = attrgetter(*names) if len(names) > 1 else lambda record: (getattr(record, names[0]),)
        self._writers = [(f.name, _default_of(f), writer_of(hints[f.name])) for f in kept]
        named = [(name, default, written_type(hints[name]), write) for name, default, write in self._writers]
        self._write = make_writer(named, f'"v":{VERSION}', format_json)
        self._required = [f.name for f in fields(record_type) if f.default is MISSING]  # type: ignore[arg-type]
        self._fields = {f.name: f.default for f in fields(record_type)}  # type: ignore[arg-type]
        # A value of exactly this type needs no look; what may be anything else does.
        self._readers = {f.name: (plain_type(hints[f.name]), reader_of(hints[f.name])) for f in kept}
        self._repeated = frozenset(repeated)
        self._shared: dict[str, str] = {}  # while some are read; not `sys.intern`, which keeps them for ever in a Python 3.12.3
        self._draft = draft_of(record_type)  # type: ignore[arg-type]
        self._makers: dict[tuple[object, ...], Callable[..., R]] = {}

    def encode(self, record: R) -> str:
        """Return the record's text.  Raises CheckFailedError where a field holds what its type forbids."""
        return seal(self.write(record))

    def write(self, record: R) -> str:
        """As `encode`, without the checksum: for what is sealed as part of something else."""
        try:
            return self._write(record)
        except ValueError:
            return self.write_each(record)

    def write_each(self, record: R) -> str:
        """As `write`, field by field, so that it can say which one is wrong; a test compares the two."""
        out: dict[str, Json] = {"v": VERSION}
        name = ""
        try:
            for (name, default, write), value in zip(self._writers, self._values(record), strict=True):
                if value is not default and value != default:
                    out[name] = write(value)
            return format_json(out)
        except (TypeMismatchError, ValueError) as error:  # ValueError: a float that is not finite
            raise CheckFailedError(f"{self._type.__name__}.{name} cannot be stored: {error}") from None

    def decode(self, text: str, **given: object) -> R:
        """Return the record.  Raises StoreError, naming the field, where the text is not one of ours."""
        try:
            body = unseal(text)
        except ValueError as error:
            raise self._unreadable(str(error)) from None
        try:
            raw, end = _scan_json(body, 0)
        except (ValueError, StopIteration):
            raise self._unreadable("it is not JSON") from None
        if end != len(body):
            raise self._unreadable("it is not JSON")
        if not isinstance(raw, dict):
            raise self._unreadable("it is not an object")
        version = raw.pop("v", None)
        if version != VERSION:
            raise self._unreadable(f"version {version!r}, this sshq reads {VERSION}")
        values = raw.values()
        shape = (*raw, *map(type, values), *given)
        make = self._makers.get(shape) or self._make_maker(shape, raw, given)
        try:
            return make(*values, *given.values())
        except TypeMismatchError as error:
            raise self._unreadable(f"field {self._find_fault(raw)}: {error}") from None
        finally:
            self._shared.clear()

    def decode_many(self, texts: Sequence[str], **given: Sequence[object]) -> list[R]:
        """As `decode` of each text with its own of each of `given`, in half the time.  Raises StoreError as that does."""
        records: list[R] = []
        makers, names = self._makers, tuple(given)
        try:
            for raw, *rest in zip(_read_all(texts) or (), *given.values(), strict=False):
                if type(raw) is not dict or raw.pop("v", None) != VERSION:
                    break
                values = raw.values()
                shape = (*raw, *map(type, values), *names)
                make = makers.get(shape) or self._make_maker(shape, raw, names)
                records.append(make(*values, *rest))
        except TypeMismatchError:
            pass
        self._shared.clear()
        if len(records) == len(texts):
            return records
        # Some text is not as it should be: which one, and why, shows when each is read by itself.
        rows = zip(*given.values(), strict=True) if given else ((),) * len(texts)
        return [self.decode(text, **dict(zip(names, row, strict=True))) for text, row in zip(texts, rows, strict=True)]

    def _make_maker(self, shape: tuple[object, ...], raw: Mapping[str, object], given: Collection[str]) -> Callable[..., R]:
        """Return what makes a record of the values of such keys and types, and of those given; for the next such texts too.

        Most records of a store have one of a few shapes, and what is to be done for one is found out once.
        """
        for name in raw:
            if name not in self._readers:
                raise self._unreadable(f"unknown field {name}")
        if missing := [name for name in self._required if name not in raw and name not in given]:
            names = " and ".join(repr(name) for name in missing)
            raise self._unreadable(f"it lacks {names}")
        scope: dict[str, Any] = {"Draft": self._draft, "Kind": self._type, "share": self._shared.setdefault}
        lines = []
        for number, name in enumerate(self._fields):
            value = name
            if name in raw:
                kind, read = self._readers[name]
                if type(raw[name]) is not kind:
                    scope[f"read_{number}"], value = read, f"read_{number}({name})"
                elif kind is str and name in self._repeated:
                    value = f"share({name}, {name})"
            elif name not in given:
                scope[f"default_{number}"], value = self._fields[name], f"default_{number}"
            lines.append(f"    draft.{name} = {value}")
        head = f"def make({', '.join([*raw, *given])}):"
        body = "\n".join([head, "    draft = Draft()", *lines, "    draft.__class__ = Kind", "    return draft"])
        exec(body, scope)  # noqa: S102 - the names of our own fields, as in `core.replacing`
        if len(self._makers) >= _SHAPES_MAX:
            self._makers.clear()
        make: Callable[..., R] = scope["make"]
        self._makers[shape] = make
        return make

    def _find_fault(self, raw: Mapping[str, object]) -> str:
        for name, value in raw.items():
            try:
                self._readers[name][1](value)
            except TypeMismatchError:
                return name
        return ""

    def _unreadable(self, why: str) -> StoreError:
        return StoreError(f"a {self._type.__name__} record of the store cannot be read: {why}")


def _default_of(field: "Field[object]") -> object:
    return _REQUIRED if field.default is MISSING else field.default


def format_column(text: str) -> str:
    """Text for an indexed column: SQLite takes no lone surrogates (names that are not UTF-8)."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
