"""Lists of names: `node[1-3,07-09],x` and back, and the ranges of Ansible inventories (`ws[01:12]`).

The rules are Slurm's (scontrol show hostnames, show hostlist): a bracket holds numbers and ranges, zero
padding is kept, several brackets multiply, the last one running fastest; a fold joins names that differ in
the number they end in.  Order and repetitions survive expanding.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Final

MAX_NAMES: "Final" = 65536  # Slurm's own bound for one range


class HostlistError(ValueError):
    """A list that cannot be read; `position` counts characters from 1."""

    def __init__(self, text: str, position: int, reason: str) -> None:
        super().__init__(f"{text}: {reason} at character {position}")
        self.text, self.position, self.reason = text, position, reason


def expand_hostlist(text: str, *, max_names: int = MAX_NAMES) -> list[str]:
    """Return every name a list stands for, in its order, repetitions kept; an empty list for an empty text.

    Items are separated by commas or blanks; empty items are skipped, as Slurm does.

    Raises:
        HostlistError: brackets do not match, nest, are empty or hold no numbers; a range runs backwards; more
            than `max_names` names.

    """
    names: list[str] = []
    for start, item in _split_items(text):
        produced = [""]
        for position, part, bracketed in _split_brackets(text, start, item):
            choices = _expand_bracket(text, position, part, max_names) if bracketed else [part]
            if len(names) + len(produced) * len(choices) > max_names:
                raise HostlistError(text, position + 1, f"more than {max_names} names")
            produced = [head + choice for head in produced for choice in choices]
        names += produced
        if len(names) > max_names:
            raise HostlistError(text, start + 1, f"more than {max_names} names")
    return names


def fold_hostlist(names: "Iterable[str]", *, sort: bool = True) -> str:
    """Return names as Slurm prints them: n[1-3,10],x.

    With `sort` each name counts once and stands in natural order (n2 before n10): what Slurm prints of nodes,
    and `scontrol show hostlistsorted`.  Without it order and repetitions stay and only neighbours join, as in
    `scontrol show hostlist`.  Names must be free of commas, blanks and brackets.
    """
    groups: list[tuple[str, list[str]]] = []  # a prefix, and what its bracket would hold
    last_digits = run_first = ""
    for prefix, digits in _split_sorted(names) if sort else map(_split_number, names):
        if not groups or groups[-1][0] != prefix or not digits or not last_digits:
            groups.append((prefix, [digits]))
            run_first = digits
        elif str(int(last_digits) + 1).zfill(len(run_first)) == digits:
            groups[-1][1][-1] = f"{run_first}-{digits}"
        else:
            groups[-1][1].append(digits)
            run_first = digits
        last_digits = digits
    return ",".join(
        prefix + (parts[0] if len(parts) == 1 and "-" not in parts[0] else f"[{','.join(parts)}]")
        for prefix, parts in groups
    )


def expand_ansible_range(text: str, *, max_names: int = MAX_NAMES) -> list[str]:
    """Return the hosts of one inventory key: ws[01:12], db-[a:f], n[1:9:2], [:3] from 0, or a plain name.

    Both ends are included; the number of digits of the start is kept; several ranges multiply.

    Raises:
        HostlistError: the bracket is not a range, runs backwards, mixes letters and numbers, is padded to
            different widths, or yields more than `max_names` names.

    """
    names, rest, offset = [""], text, 0
    while "[" in rest:
        head, _, tail = rest.partition("[")
        body, closing, after = tail.partition("]")
        position = offset + len(head) + 1
        if not closing:
            raise HostlistError(text, position, "no closing bracket")
        choices = _expand_ansible_bracket(text, position + 1, body, max_names)
        if len(names) * len(choices) > max_names:
            raise HostlistError(text, position, f"more than {max_names} names")
        names = [name + head + choice for name in names for choice in choices]
        offset += len(head) + len(body) + 2
        rest = after
    if "]" in rest:
        raise HostlistError(text, offset + rest.index("]") + 1, "no opening bracket")
    return [name + rest for name in names]


def _split_items(text: str) -> "Iterator[tuple[int, str]]":
    """Yield (index, item) at commas and blanks outside brackets; nesting is refused here."""
    start, opened = 0, -1
    for index, letter in enumerate(text):
        if letter == "[":
            if opened >= 0:
                raise HostlistError(text, index + 1, "a bracket inside a bracket")
            opened = index
        elif letter == "]":
            if opened < 0:
                raise HostlistError(text, index + 1, "no opening bracket")
            opened = -1
        elif opened < 0 and letter in ", \t\n":
            if index > start:
                yield start, text[start:index]
            start = index + 1
    if opened >= 0:
        raise HostlistError(text, opened + 1, "no closing bracket")
    if len(text) > start:
        yield start, text[start:]


def _split_brackets(text: str, start: int, item: str) -> "Iterator[tuple[int, str, bool]]":
    """Yield (index in text, part, whether it stood in a bracket); the brackets are known to match."""
    index = 0
    while index < len(item):
        opening = item.find("[", index)
        if opening < 0:
            yield start + index, item[index:], False
            return
        if opening > index:
            yield start + index, item[index:opening], False
        closing = item.index("]", opening)
        if closing == opening + 1:
            raise HostlistError(text, start + opening + 1, "an empty bracket")
        yield start + opening + 1, item[opening + 1 : closing], True
        index = closing + 1


def _expand_bracket(text: str, index: int, body: str, max_names: int) -> list[str]:
    numbers: list[str] = []
    for part in body.split(","):
        low, dash, high = part.partition("-")
        if not dash:
            high = low
        if not (_are_digits(low) and _are_digits(high)):
            raise HostlistError(text, index + 1, f"{part!r} is not a number or a range")
        first, last, width = int(low), int(high), len(low)
        if last < first:
            raise HostlistError(text, index + 1, f"the range {part} runs backwards")
        if len(numbers) + last - first >= max_names:
            raise HostlistError(text, index + 1, f"more than {max_names} names")
        numbers += [str(number).zfill(width) for number in range(first, last + 1)]
        index += len(part) + 1
    return numbers


def _expand_ansible_bracket(text: str, position: int, body: str, max_names: int) -> list[str]:
    bounds = body.split(":")
    if len(bounds) not in (2, 3):
        raise HostlistError(text, position, f"[{body}] is not a range START:END or START:END:STEP")
    low, high = bounds[0] or "0", bounds[1]
    step_text = bounds[2] if len(bounds) == 3 else "1"
    if not _are_digits(step_text) or int(step_text) == 0:
        raise HostlistError(text, position, f"the step {step_text!r} is not a positive number")
    step = int(step_text)
    if _are_digits(low) and _are_digits(high):
        if len(low) > 1 and low[0] == "0" and len(low) != len(high):
            raise HostlistError(text, position, f"{low} and {high} are padded to different widths")
        if int(high) < int(low):
            raise HostlistError(text, position, f"the range {body} runs backwards")
        numbers = range(int(low), int(high) + 1, step)
        if len(numbers) > max_names:
            raise HostlistError(text, position, f"more than {max_names} names")
        width = len(low) if low[0] == "0" else 0
        return [str(number).zfill(width) for number in numbers]
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"  # Ansible's order: a:C runs through z
    if len(low) != 1 or len(high) != 1 or low not in letters or high not in letters:
        raise HostlistError(text, position, f"[{body}] is a range of neither numbers nor single letters")
    if letters.index(high) < letters.index(low):
        raise HostlistError(text, position, f"the range {body} runs backwards")
    return list(letters[letters.index(low) : letters.index(high) + 1 : step])


def _are_digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18


def _split_number(name: str) -> tuple[str, str]:
    """Split a name before the number it ends in; "" if there is none, or too long to count with."""
    prefix = name.rstrip("0123456789")
    digits = name[len(prefix) :]
    return (prefix, digits) if len(digits) <= 18 else (name, "")


def _split_sorted(names: "Iterable[str]") -> list[tuple[str, str]]:
    # By number of digits, then number: natural order, and padded names (08, 09, 10) still stand side by side.
    return sorted({_split_number(name) for name in names}, key=lambda part: (part[0], len(part[1]), part[1]))
