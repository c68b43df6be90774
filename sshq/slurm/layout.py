"""Tables as squeue and sinfo lay them out: `%.18i %9P`, and the long form `jobid:18,name:.10`.

Seen on 22.05: `%.8i` is right, `%8i` left, both cut at the width; what is not understood (`%-10j`, `%!`) stays as it
is in header and rows, with a message and exit 0; an unknown name of the long form is left out, with a message.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Generic, TypeVar

    Row = TypeVar("Row")
else:  # `typing` would cost each command 5 ms

    class Generic:
        """Stands for typing's."""

        def __class_getitem__(cls, _: object) -> type:
            return cls

    Row = object

LONG_WIDTH = 20  # of a column of the long form
WIDTH_MAX = 4096  # of any column: a format cannot ask for gigabytes


def keep_on_line(text: str) -> str:
    """Return a value so that it cannot begin a line of its own, which would look like another row."""
    return text.replace("\n", "\\n") if "\n" in text else text


class Field(Generic[Row]):
    """One field: its letter ("" if only a name has it), its names, its header, and how a row shows it.

    A field that is not `cut` runs over its width, as Slurm's times do.  One that keeps its star loses the letter
    before it instead: the default partition is `debu*`.
    """

    __slots__ = ("cut", "getter", "header", "keeps_star", "letter", "names")

    def __init__(
        self, letter: str, names: str, header: str, getter: "Callable[[Row], str]", *, cut: bool = True, keeps_star: bool = False
    ) -> None:
        self.letter = letter
        self.names = tuple(name.lower() for name in names.split())
        self.header = header
        self.getter = getter
        self.cut = cut
        self.keeps_star = keeps_star


class Column(Generic[Row]):
    """A field with its width (0: as wide as its text) and side, or literal text if there is no field."""

    __slots__ = ("field", "right", "suffix", "width")

    def __init__(self, field: Field[Row] | None, width: int, right: bool, suffix: str) -> None:
        self.field = field
        self.width = width
        self.right = right
        self.suffix = suffix

    def show_header(self) -> str:
        """Return the header, which is always cut, and the literal text behind it."""
        return self.suffix if self.field is None else self._place(self._cut(self.field.header)) + self.suffix

    def show(self, row: Row) -> str:
        """Return one cell and the literal text behind it."""
        field = self.field
        if field is None:
            return self.suffix
        text = keep_on_line(field.getter(row))
        if self.width and field.cut and len(text) > self.width:
            text = text[: self.width - 1] + "*" if field.keeps_star and text.endswith("*") else self._cut(text)
        return self._place(text) + self.suffix

    def template(self) -> str:
        """Return what `%` makes the same cell of, with the literal text behind it."""
        suffix = self.suffix.replace("%", "%%")
        if self.field is None:
            return suffix
        if not self.width:
            return f"%s{suffix}"
        cut = f".{self.width}" if self.field.cut else ""
        return f"%{'' if self.right else '-'}{self.width}{cut}s{suffix}"

    def _cut(self, text: str) -> str:
        return text[: self.width] if self.width else text

    def _place(self, text: str) -> str:
        return text.rjust(self.width) if self.right else text.ljust(self.width)


class Layout(Generic[Row]):
    """Columns, the text before them, and what was wrong in the format (`%c` or a name, each as given)."""

    __slots__ = ("columns", "faults", "prefix")

    def __init__(self, prefix: str, columns: "Sequence[Column[Row]]", faults: "Sequence[str]") -> None:
        self.prefix = prefix
        self.columns = tuple(columns)
        self.faults = tuple(faults)

    def header(self) -> str:
        return self.prefix + "".join(column.show_header() for column in self.columns)

    def line(self, row: Row) -> str:
        return self.prefix + "".join(column.show(row) for column in self.columns)

    def lines(self, rows: "Iterable[Row]") -> "Iterator[str]":
        """Yield the lines of many rows: as `line` makes them, several times as fast."""
        columns = [column for column in self.columns if column.field is not None]
        getters = [column.field.getter for column in columns if column.field is not None]
        if any(column.field is not None and column.field.keeps_star for column in columns):
            yield from map(self.line, rows)
            return
        text = self.prefix.replace("%", "%%") + "".join(column.template() for column in self.columns)
        own_newlines = "\n" in text
        for row in rows:
            line = text % tuple([get(row) for get in getters])
            yield self.line(row) if own_newlines or "\n" in line else line

    def letters(self) -> frozenset[str]:
        """Return the letters, or first names, of the fields in use."""
        return frozenset(column.field.letter or column.field.names[0] for column in self.columns if column.field is not None)


class Output:
    """What a listing prints: lines for stdout, whole lines for stderr, the exit status."""

    __slots__ = ("exit_code", "lines", "messages")

    def __init__(self, lines: "Iterable[str]", messages: "Sequence[str]" = (), exit_code: int = 0) -> None:
        self.lines: Iterator[str] = iter(lines)
        self.messages = list(messages)
        self.exit_code = exit_code


def read_interval(text: str) -> int | None:
    """Return the seconds of --iterate, None for what is no number above 0."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 and int(text) else None


def read_format(text: str, fields: "Iterable[Field[Row]]") -> Layout[Row]:
    """Return the layout of a -o format; it never fails, what is not understood is literal and a fault."""
    known = {field.letter: field for field in fields if field.letter}
    head, *parts = text.split("%")
    columns: list[Column[Row]] = []
    faults: list[str] = []
    for part in parts:
        if not part:
            continue  # %% : Slurm's reader drops empty parts, which leaves one percent sign with the next
        right = part.startswith(".")
        at = 1 if right else 0
        end = at
        while end < len(part) and part[end].isdecimal():
            end += 1
        field = known.get(part[end : end + 1])
        if field is None:
            faults.append(part[end : end + 1])
            columns.append(Column(None, 0, False, "%" + part))
        else:
            columns.append(Column(field, _read_width(part[at:end]), right, part[end + 1 :]))
    return Layout(head, columns, faults)


def read_long_format(text: str, fields: "Iterable[Field[Row]]") -> Layout[Row]:
    """Return the layout of a -O format: names with :width, :.width (right) and text behind."""
    known = {name: field for field in fields for name in field.names}
    columns: list[Column[Row]] = []
    faults: list[str] = []
    for item in text.split(","):
        name, colon, size = item.partition(":")
        field = known.get(name.strip().lower())
        if field is None:
            faults.append(name)
            continue
        right = size.startswith(".")
        digits = size[1:] if right else size
        end = 0
        while end < len(digits) and digits[end].isdecimal():
            end += 1
        columns.append(Column(field, _read_width(digits[:end]) or LONG_WIDTH, right, digits[end:] if colon else ""))
    return Layout("", columns, faults)


def show_all_format(fields: "Iterable[Field[Row]]") -> str:
    """Return the format of `%all`: every lettered field, between bars."""
    return "|".join(f"%{field.letter}" for field in fields if field.letter)


def _read_width(digits: str) -> int:
    return min(int(digits[:9] or 0), WIDTH_MAX)
