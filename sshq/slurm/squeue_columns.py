"""Which values of a job a call of squeue needs, so that a long queue comes as rows of a few columns and not as whole jobs."""

from sshq.slurm.squeue import DEFAULT_SORT, START_SORT, SqueueOptions, choose_layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_STATE = ("state", "completing")
_STARTED = ("start_at", "state", "begin_at")
_LETTERS: "dict[str, tuple[str, ...]]" = {
    "i": ("job_id", "array_job_id", "array_task_id", "array_tasks"), "A": ("job_id",), "F": ("job_id", "array_job_id"),
    "K": ("array_task_id", "array_tasks"), "P": ("partition",), "j": ("name",), "u": ("user",), "U": ("uid",), "g": ("group",),
    "t": _STATE, "T": _STATE, "M": ("start_at", "end_at", "state"), "l": ("time_limit_s",),
    "L": ("time_limit_s", "start_at", "end_at", "state"), "D": ("num_nodes",), "C": ("cpus",), "N": ("state", "nodes"),
    "R": (*_STATE, "reason", "nodes"), "r": ("reason",), "S": _STARTED, "Q": ("priority",), "p": ("priority",),
    "Y": (), "V": ("submit_at",), "y": ("nice",), "a": ("account",), "Z": ("work_dir",), "o": ("command",),
}  # fmt: skip
# To sort by `R` is to sort by the reason alone, and so on: what a field shows holds what it is sorted by.
_ALWAYS = (*_LETTERS["i"], *_STATE, "user", "uid", "partition", "nodes")
_NOT_HERE = ("accounts", "qos", "kinds", "licenses")  # chosen by what no column has


def choose_columns(options: SqueueOptions) -> "list[str] | None":
    """Return the columns that hold all a call needs; None where it needs whole jobs."""
    parsed = options.parsed
    if options.is_document or any(options.words(field) is not None for field in _NOT_HERE):
        return None
    layout = choose_layout(options)
    sort = parsed.value("sort")
    sort = sort if sort is not None else START_SORT if parsed.has("start") else DEFAULT_SORT
    letters = [column.field.letter for column in layout.columns if column.field is not None]
    letters += [letter for letter in sort if letter not in " ,+-"]
    if not all(letter in _LETTERS for letter in letters):
        return None
    names = [*_ALWAYS, *(name for letter in letters for name in _LETTERS[letter])]
    if options.words("names") is not None:
        names.append("name")
    return list(dict.fromkeys(names))


def read_rows(items: "Iterable[Mapping[str, object]]", columns: "list[str]") -> "Iterator[dict[str, object]]":
    """Yield the jobs of a listing by columns, each with those alone."""
    for item in items:
        rows = item.get("rows")
        if isinstance(rows, list):
            for row in rows:
                yield dict(zip(columns, row))  # noqa: B905 - a hundred thousand times, and both are as long
        else:
            yield dict(item)
