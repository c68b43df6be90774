"""Array task indices: reading --array, keeping the tasks not yet started, writing them as Slurm does.

An `IndexSet` is a sorted list of ranges, so an array of a million tasks costs as much as its gaps.  Its text
(`format_indices`) is what squeue shows in the brackets, what the store keeps and what `parse_indices` reads.
"""

from bisect import bisect_right

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Final, Self

# Slurm's own bound: MaxArraySize may be set to 4 000 001 at most, which is one more than the largest index.
# (Its default is 1001; sshq has no reason to be that small.)
ARRAY_SIZE_MAX: "Final" = 4_000_001
INVALID_ARRAY: "Final" = "Invalid job array specification"

Range = tuple[int, int, int]  # first, last (included), step


class IndexSet:
    """A mutable set of whole numbers from 0 up, kept as sorted ranges that neither touch nor overlap."""

    __slots__ = ("_count", "_firsts", "_lasts")

    def __init__(self, indices: "Iterable[int]" = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self._count = 0
        for index in indices:
            self.add(index)

    @classmethod
    def from_ranges(cls, ranges: "Iterable[Range]") -> "Self":
        """Return the union of ranges (first, last included, step), in any order, overlapping or not."""
        made = cls()
        plain: list[tuple[int, int]] = []
        for first, last, step in ranges:
            if step == 1:
                plain.append((first, last))
            else:
                plain.extend((index, index) for index in range(first, last + 1, step))
        plain.sort()
        for first, last in plain:
            made._append_range(first, last)
        return made

    def add(self, index: int) -> bool:
        """Add one index; False if it was there."""
        if index < 0:
            raise ValueError(f"an array index cannot be {index}")
        at = bisect_right(self._firsts, index)  # the first range that starts behind it
        if at and index <= self._lasts[at - 1]:
            return False
        joins_left = at > 0 and self._lasts[at - 1] == index - 1
        joins_right = at < len(self._firsts) and self._firsts[at] == index + 1
        if joins_left and joins_right:
            self._lasts[at - 1] = self._lasts.pop(at)
            del self._firsts[at]
        elif joins_left:
            self._lasts[at - 1] = index
        elif joins_right:
            self._firsts[at] = index
        else:
            self._firsts.insert(at, index)
            self._lasts.insert(at, index)
        self._count += 1
        return True

    def remove(self, index: int) -> bool:
        """Take one index out; False if it was not there."""
        at = bisect_right(self._firsts, index) - 1
        if at < 0 or index > self._lasts[at]:
            return False
        first, last = self._firsts[at], self._lasts[at]
        if first == last:
            del self._firsts[at], self._lasts[at]
        elif index == first:
            self._firsts[at] = index + 1
        elif index == last:
            self._lasts[at] = index - 1
        else:
            self._lasts[at] = index - 1
            self._firsts.insert(at + 1, index + 1)
            self._lasts.insert(at + 1, last)
        self._count -= 1
        return True

    def pop_first(self) -> int:
        """Take out the smallest index and return it.

        Raises:
            KeyError: the set is empty.

        """
        if not self._firsts:
            raise KeyError("an empty set of array indices")
        index = self._firsts[0]
        self.remove(index)
        return index

    def first(self) -> int | None:
        """Return the smallest index, None of an empty set."""
        return self._firsts[0] if self._firsts else None

    def last(self) -> int | None:
        """Return the largest index, None of an empty set."""
        return self._lasts[-1] if self._lasts else None

    def ranges(self) -> "Iterator[tuple[int, int]]":
        """Yield (first, last included) in ascending order."""
        return zip(self._firsts, self._lasts, strict=True)

    def copy(self) -> "IndexSet":
        """Return an independent set of the same indices."""
        other = IndexSet()
        other._firsts, other._lasts, other._count = self._firsts[:], self._lasts[:], self._count
        return other

    def _append_range(self, first: int, last: int) -> None:
        # Ranges come sorted by their first index, so only the last one kept can touch.
        if self._lasts and first <= self._lasts[-1] + 1:
            if last > self._lasts[-1]:
                self._count += last - self._lasts[-1]
                self._lasts[-1] = last
            return
        self._firsts.append(first)
        self._lasts.append(last)
        self._count += last - first + 1

    def __contains__(self, index: object) -> bool:
        if not isinstance(index, int):
            return False
        at = bisect_right(self._firsts, index) - 1
        return at >= 0 and index <= self._lasts[at]

    def __iter__(self) -> "Iterator[int]":
        for first, last in zip(self._firsts[:], self._lasts[:], strict=True):
            yield from range(first, last + 1)

    def __len__(self) -> int:
        return self._count

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IndexSet):
            return NotImplemented
        return self._firsts == other._firsts and self._lasts == other._lasts

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"IndexSet({format_indices(self)!r})"


class ArraySpec:
    """What --array asked for: ranges as given (they may overlap), and how many tasks may run at once.

    A plain class, as sbatch needs it, to which dataclasses would cost as much as all else together.
    """

    __slots__ = ("limit", "ranges")

    def __init__(self, *, ranges: tuple[Range, ...], limit: int | None = None) -> None:
        self.ranges = ranges
        self.limit = limit  # %N; None for no limit

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ArraySpec) and (self.ranges, self.limit) == (other.ranges, other.limit)

    def __hash__(self) -> int:
        return hash((self.ranges, self.limit))

    def __repr__(self) -> str:
        return f"ArraySpec(ranges={self.ranges!r}, limit={self.limit!r})"

    def index_set(self) -> IndexSet:
        """Return the tasks, each once."""
        return IndexSet.from_ranges(self.ranges)

    def expand(self) -> list[int]:
        """Return every task index, ascending, each once."""
        return list(self.index_set())

    @property
    def count(self) -> int:
        return len(self.index_set())

    @property
    def first(self) -> int:
        return min(first for first, _, _ in self.ranges)

    @property
    def last(self) -> int:
        return max(last - (last - first) % step for first, last, step in self.ranges)

    @property
    def step(self) -> int:
        """SLURM_ARRAY_TASK_STEP: the step of a single range, else 1."""
        return self.ranges[0][2] if len(self.ranges) == 1 else 1


def parse_array(text: str, *, array_size_max: int = ARRAY_SIZE_MAX) -> ArraySpec:
    """Return what --array means: 5, 0-9, 1-10:2, 0,5-7, each with %N behind for N at once (%0: no limit).

    Args:
        text: the option's value; indices are whole numbers from 0 up, repetitions count once.
        array_size_max: indices must be smaller than this (Slurm: MaxArraySize).

    Raises:
        ValueError: Slurm's text, "Invalid job array specification", whatever is wrong; the controller says no
            more than that, and scripts match it.

    """
    body, percent, limit_text = text.strip().partition("%")
    if percent and not _are_digits(limit_text):
        raise ValueError(INVALID_ARRAY)
    ranges = tuple(_parse_range(part, array_size_max) for part in body.split(","))
    return ArraySpec(ranges=ranges, limit=(int(limit_text) or None) if percent else None)


def parse_indices(text: str, *, array_size_max: int = ARRAY_SIZE_MAX) -> IndexSet:
    """Return the set a text of `format_indices` stands for; a %N behind is dropped, "" is the empty set.

    Raises:
        ValueError: as `parse_array`.

    """
    return parse_array(text, array_size_max=array_size_max).index_set() if text else IndexSet()


def format_indices(indices: "Iterable[int]", *, limit: int | None = None, width: int = 0) -> str:
    """Return indices as squeue shows them between its brackets: 0-9, 1-3,7, 0-98:2, 3-4%2; "" for none.

    Slurm writes a step only for a whole set of one stride that spans more than ten; else it lists: 0,2,4,6,8.

    Args:
        indices: an `IndexSet`, or any iterable of indices in any order.
        limit: tasks at once, written as %N; None or 0 for none.
        width: longest text without the limit; what is over is cut at a comma and shown as three dots
            (squeue's default is 64).  0 for all of it.

    """
    chosen = indices if isinstance(indices, IndexSet) else IndexSet(indices)
    text = _format_stride(chosen) or ",".join(
        str(first) if first == last else f"{first}-{last}" for first, last in chosen.ranges()
    )
    if width and len(text) > width:
        text = text[: text.rfind(",", 0, width - 2) + 1] + "..."
    return f"{text}%{limit}" if limit else text


def _format_stride(chosen: IndexSet) -> str:
    first, last = chosen.first(), chosen.last()
    if first is None or last is None or last - first <= 10:
        return ""
    step, rest = divmod(last - first, len(chosen) - 1)
    if rest or step == 1:
        return ""
    # Count and ends fit one stride; they all do if each index stands alone and a step behind the one before.
    before = first - step
    for start, end in chosen.ranges():
        if start != end or start != before + step:
            return ""
        before = start
    return f"{first}-{last}:{step}"


def _parse_range(text: str, array_size_max: int) -> Range:
    bounds, colon, step_text = text.partition(":")
    first_text, dash, last_text = bounds.partition("-")
    if not dash:
        last_text = first_text
    fields = (first_text, last_text, step_text if colon else "1")
    if not all(_are_digits(field) for field in fields) or (colon and not dash):
        raise ValueError(INVALID_ARRAY)
    first, last, step = (int(field) for field in fields)
    if last < first or last >= array_size_max or step == 0:
        raise ValueError(INVALID_ARRAY)
    return first, last, step


def _are_digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 12
