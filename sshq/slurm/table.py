"""Tables as sacct and sstat lay them out: `JobID%20,State%-8`, cut with a plus sign at the end, or delimited."""

from sshq.slurm.getopt import Parsed
from sshq.slurm.messages import ExactError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

WIDTH_MAX = 4096  # of a column of a quick line: beyond some limit `%` takes no width
Columns = tuple[tuple[str, int], ...]  # name and width; a minus sign of the width is "to the left"


def find_column(name: str, fields: "Iterable[tuple[str, int]]") -> tuple[str, int] | None:
    """Return a field's own name and width; any case, and any beginning of it that comes first, as in Slurm."""
    lower = name.lower()
    known = tuple(fields)
    exact = next((pair for pair in known if pair[0].lower() == lower), None)
    if exact is not None or not lower:
        return exact
    return next((pair for pair in known if pair[0].lower().startswith(lower)), None)


def read_columns(text: str, fields: "Sequence[tuple[str, int]]", program: str) -> Columns:
    """Return (name, width) of each field of a list.

    Raises:
        ExactError: an unknown field, in the words of `program`.
    """
    columns: list[tuple[str, int]] = []
    for item in text.split(","):
        name, percent, size = item.strip().partition("%")
        if not name:
            continue
        if name.lower() == "all":
            columns.extend(fields)
            continue
        found = find_column(name, fields)
        if found is None:
            raise ExactError((f'{program}: error: Invalid field requested: "{name}"',), hint=f"{program} --helpformat")
        digits = size.removeprefix("-")
        width = int(size) if percent and digits.isascii() and digits.isdigit() else found[1]
        columns.append((found[0], width))
    return tuple(columns)


def choose_delimiter(parsed: Parsed) -> str | None:
    """Return what stands between the cells, None for aligned columns."""
    if parsed.has("parsable") or parsed.has("parsable2"):
        return parsed.value("delimiter") or "|"
    return None


def join_cells(cells: "Sequence[str]", columns: Columns, parsed: Parsed) -> str:
    """Return one line."""
    delimiter = choose_delimiter(parsed)
    if delimiter is not None:
        return delimiter.join(cells) + (delimiter if not parsed.has("parsable2") else "")
    return "".join(f"{_fit(cell, width)} " for cell, (_, width) in zip(cells, columns, strict=True))


def make_joiner(columns: Columns, parsed: Parsed) -> "Callable[[Sequence[str]], str | None]":
    """Return what makes one line as `join_cells` does, or None for one with a cell to be cut: several times as fast."""
    delimiter = choose_delimiter(parsed)
    if delimiter is not None:
        end = "" if parsed.has("parsable2") else delimiter
        return lambda cells: delimiter.join(cells) + end
    if any(abs(width) > WIDTH_MAX for _, width in columns):
        return lambda _: None
    template = "".join([f"%{width or ''}s " for _, width in columns])  # a minus sign means the same to both
    size = sum(abs(width) + 1 for _, width in columns)

    def join(cells: "Sequence[str]") -> str | None:
        line = template % tuple(cells)
        return line if len(line) == size else None

    return join


def list_header(columns: Columns, parsed: Parsed) -> list[str]:
    """Return the header, and the dashes below it where columns are aligned."""
    if parsed.has("noheader"):
        return []
    lines = [join_cells([name for name, _ in columns], columns, parsed)]
    if choose_delimiter(parsed) is None:
        lines.append(join_cells(["-" * abs(width) for _, width in columns], columns, parsed))
    return lines


def render_fields(names: "Iterable[str]") -> str:
    """Return what --helpformat prints."""
    padded = [name.ljust(19) for name in names]
    return "".join(" ".join(padded[at : at + 4]) + "\n" for at in range(0, len(padded), 4))


def _fit(text: str, width: int) -> str:
    size = abs(width)
    if len(text) > size:
        text = text[: max(0, size - 1)] + "+"
    return text.ljust(size) if width < 0 else text.rjust(size)
