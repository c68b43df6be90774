"""What squeue needs of the controller: of a long queue lines, or rows of a few columns, and not whole jobs."""

from sshq.slurm.squeue import DEFAULT_FORMAT, LONG_FORMAT, SqueueOptions, choose_layout, read_sort, sort_text

_STATE = ("state", "completing")
_STARTED = ("start_at", "state", "begin_at")
VALUES: "dict[str, tuple[str, ...]]" = {
    "i": ("job_id", "array_job_id", "array_task_id", "array_tasks"), "A": ("job_id",), "F": ("job_id", "array_job_id"),
    "K": ("array_task_id", "array_tasks"), "P": ("partition",), "j": ("name",), "u": ("user",), "U": ("uid",), "g": ("group",),
    "t": _STATE, "T": _STATE, "M": ("start_at", "end_at", "state"), "l": ("time_limit_s",),
    "L": ("time_limit_s", "start_at", "end_at", "state"), "D": ("num_nodes",), "C": ("cpus",), "N": ("state", "nodes"),
    "R": (*_STATE, "reason", "nodes"), "r": ("reason",), "S": _STARTED, "Q": ("priority",), "p": ("priority",),
    "Y": (), "V": ("submit_at",), "y": ("nice",), "a": ("account",), "Z": ("work_dir",), "o": ("command",),
}  # fmt: skip
# To sort by `R` is to sort by the reason alone, and so on: what a field shows holds what it is sorted by.
_ALWAYS = (*VALUES["i"], *_STATE, "user", "uid", "partition", "nodes")
_NOT_HERE = ("accounts", "qos", "kinds", "licenses")  # chosen by what no column has
# Fields that the controller can lay out.  Not times of day: which they are here, and how they are written, it cannot know.
LISTED = frozenset(VALUES) - frozenset("SV")
FORMAT_BYTES_MAX = 1024  # of a format that it does so for
COLUMNS_MAX = 40
_FILTERS = ("users", "partitions", "names", "nodes", "states")  # an empty list means none of them here, and any over there
_CHOSEN_HERE = ("array", "priority", "jobs", "steps", *_NOT_HERE)


def choose_columns(options: SqueueOptions) -> "list[str] | None":
    """Return the columns that hold all a call needs; None where it needs whole jobs."""
    if options.is_document or any(options.words(field) is not None for field in _NOT_HERE):
        return None
    layout = choose_layout(options)
    sort = sort_text(options)
    letters = [column.field.letter for column in layout.columns if column.field is not None]
    letters += [letter for letter in sort if letter not in " ,+-"]
    if not all(letter in VALUES for letter in letters):
        return None
    names = [*_ALWAYS, *(name for letter in letters for name in VALUES[letter])]
    if options.words("names") is not None:
        names.append("name")
    return list(dict.fromkeys(names))


def choose_listing(options: SqueueOptions) -> "dict[str, object] | None":
    """Return the `listing` by which the controller makes the lines of this call; None where they are made here."""
    parsed = options.parsed
    if options.is_document or any(parsed.has(field) for field in _CHOSEN_HERE):
        return None
    if any(parsed.has(field) and not options.words(field) for field in _FILTERS) or options.users == []:
        return None
    layout, sort = choose_layout(options), sort_text(options)
    long_format = parsed.value("long_format")
    text = long_format if long_format is not None else parsed.value("format")
    if text is None or text.strip().lower() == "%all":
        text = LONG_FORMAT if parsed.has("long") else DEFAULT_FORMAT
    if layout.letters() - LISTED or not layout.columns or len(layout.columns) > COLUMNS_MAX:
        return None
    if "\n" in text or len(text.encode("utf-8", "surrogateescape")) > FORMAT_BYTES_MAX:
        return None
    try:
        if not all(letter in VALUES for letter, _ in read_sort(sort)):
            return None
    except ValueError:
        return None
    states, nodes = options.states, options.nodes
    return {
        "format": text, "long": long_format is not None, "sort": sort,
        "states": None if states is None else sorted(states), "nodes": nodes,
    }  # fmt: skip
