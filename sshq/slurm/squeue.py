"""squeue: which jobs, in which order, in which columns.

Answers to odd questions are Slurm's: one unknown id is an error, two are none; an unknown user gives a message and
exit 0; a job that has ended is known, but listed only if its state is asked for.
"""

from sshq.errors import OptionError
from sshq.slurm.clock import format_banner
from sshq.slurm.fields_squeue import JOB_FIELDS, JobRow, start_of, state_of
from sshq.slurm.getopt import Parsed, parse_options
from sshq.slurm.layout import Layout, Output, read_format, read_interval, read_long_format, show_all_format
from sshq.slurm.messages import UNKNOWN_JOB_LOAD, ExactError
from sshq.slurm.states import ACTIVE, ORDER, VALID_STATES, read_states
from sshq.slurm.views import View, elapsed_of, int_of, int_or_none, is_uid, job_of, names_of, text_of, time_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

DEFAULT_FORMAT = "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R"
LONG_FORMAT = "%.18i %.9P %.8j %.8u %.8T %.10M %.9l %.6D %R"
START_FORMAT = "%.18i %.9P %.8j %.8u %.2t %.19S %.6D %20Y %R"
UNKNOWN_STEP = "slurm_load_job_steps error: Invalid job id specified"
DEFAULT_SORT = "P,t,-p"
START_SORT = "S"
UID_MAX = 0xFFFFFFFF
JOB_ID_HINT = "job ids look like 12, 12_4 (array task) or 12_[1-5]"

Key = object  # of one type for each letter: a number, a text, or a tuple


class StrayWordError(OptionError):
    """A word that is no option: Slurm shows its usage, on stdout, before the message."""

    def __init__(self, word: str) -> None:
        super().__init__(f"Unrecognized option: {word}")


class SqueueOptions:
    """What a call of squeue asked for."""

    def __init__(self, parsed: Parsed, environ: "Mapping[str, str]") -> None:
        self.parsed = parsed
        self.wants = parsed.wants
        self.warnings = parsed.warnings
        self.is_document = parsed.has("json") or parsed.has("yaml")
        self.iterate_s: int | None = None
        self.finished = parsed.has("finished")
        self.time_style = environ.get("SLURM_TIME_FORMAT", "")
        self.messages: list[str] = []
        self.job_refs: tuple[tuple[int, tuple[int, ...] | None], ...] = ()
        self.step_refs: tuple[tuple[int, tuple[int, ...] | None, str | None], ...] = ()
        self.states: frozenset[str] | None = ACTIVE
        self.users: list[str] | None = None
        self.uids: list[int] | None = None
        self.nodes: list[str] | None = None

    def words(self, field: str) -> list[str] | None:
        """Return the items of a comma list, None if it was not given."""
        value = self.parsed.value(field)
        return None if value is None else [word for word in value.split(",") if word]

    @property
    def include_finished(self) -> bool:
        """Whether the controller must send ended jobs too; with ids, to tell an ended job from an unknown one."""
        return self.finished or bool(self.job_refs) or self.states is None or not self.states <= ACTIVE

    @property
    def filter(self) -> dict[str, object]:
        """What of the choice the controller can make; the rest is made here."""
        return {
            "refs": [[job, list(tasks) if tasks is not None else None] for job, tasks in self.job_refs] or None,
            "users": self.users,
            "uids": [uid for uid in self.uids if uid <= UID_MAX] if self.uids else None,
            "partitions": self.words("partitions"),
            "names": self.words("names"),
            "kinds": self.words("kinds"),
        }


def read_squeue_options(
    argv: "Sequence[str]", environ: "Mapping[str, str]", *, me: str, lookup_uid: "Callable[[str], int | None]"
) -> SqueueOptions:
    """Return what a call of squeue asks for.

    Args:
        argv: without the program's name.
        environ: for SQUEUE_ and SLURM_ variables.
        me: the caller's user name, for --me.
        lookup_uid: gives a user's number, None if there is no such user.

    Raises:
        OptionError: with Slurm's text and status.
    """
    parsed = parse_options("squeue", argv, environ)
    options = SqueueOptions(parsed, environ)
    if options.wants:
        return options
    if parsed.arguments:
        raise StrayWordError(parsed.arguments[0])
    if parsed.value("format") is not None and parsed.value("long_format") is not None:
        _drop_weaker_format(parsed)
    iterate = parsed.last("iterate")
    if iterate:
        options.iterate_s = read_interval(iterate.value or "")
        if options.iterate_s is None:
            raise OptionError(f"--iterate={iterate.value}", source=iterate.source)
    options.step_refs = read_step_refs(parsed.value("steps") or "")
    options.job_refs = read_job_refs(parsed.value("jobs") or "") or tuple((job, tasks) for job, tasks, _ in options.step_refs)
    _read_states(options)
    _read_users(options, me, lookup_uid)
    nodes = parsed.value("nodes")
    if nodes is not None:
        from sshq.core.hostlist import expand_hostlist

        try:
            options.nodes = expand_hostlist(nodes)
        except ValueError as error:
            raise OptionError(f"Invalid node list: {nodes}", detail=(str(error),)) from None
    return options


def read_job_refs(text: str, command: str = "squeue") -> tuple[tuple[int, tuple[int, ...] | None], ...]:
    """Return the jobs of a list as (id, array tasks or None).

    Raises:
        OptionError: not an id.
    """
    if not text:
        return ()
    from sshq.core.ids import parse_job_ids

    try:
        return tuple((ref.job_id, ref.tasks) for ref in parse_job_ids(text))
    except ValueError as error:
        message = f"{command}: error: {error}"
        raise ExactError((message,), source="--jobs", hint=JOB_ID_HINT) from None


def read_step_refs(text: str) -> tuple[tuple[int, tuple[int, ...] | None, str | None], ...]:
    """Return the jobs of a list with their steps, None for all of them: 12, 12.0, 12_4.batch.

    Raises:
        OptionError: not an id.
    """
    if not text:
        return ()
    from sshq.core.ids import parse_job_id, split_job_list

    try:
        refs = [parse_job_id(item) for item in split_job_list(text) if item.strip()]
    except ValueError as error:
        raise ExactError((f"squeue: error: {error}",), source="--steps", hint="steps look like 12.0 or 12.batch") from None
    return tuple((ref.job_id, ref.tasks, ref.step) for ref in refs)


def render_squeue(jobs: "Iterable[View]", options: SqueueOptions, now: float) -> Output:
    """Return what squeue prints for the views of all jobs, or of those that `options.filter` asked for."""
    known = list(jobs)
    if len(options.job_refs) == 1 and not any(_is_asked(job, options) for job in known):
        return Output((), (*options.messages, UNKNOWN_JOB_LOAD), 1)
    matches = _make_matcher(options)
    chosen = [job for job in known if matches(job)]
    if options.parsed.has("array"):
        chosen = [task for job in chosen for task in _split_array(job)]
    if options.parsed.has("priority"):
        chosen = [{**job, "partition": name} for job in chosen for name in text_of(job, "partition").split(",")]
    layout = choose_layout(options)
    head, messages = render_head(options, layout, now)
    rows = [JobRow(job, now, options.time_style, convert=not options.parsed.has("noconvert")) for job in chosen]
    try:
        rows = sort_rows(rows, sort_text(options))
    except ValueError as error:  # Slurm finds this after the header
        return Output(head, (*messages, f"squeue: error: Invalid sort specification: {error}"), 1)
    return Output(_concatenate(head, layout.lines(rows)), messages)


def render_head(options: SqueueOptions, layout: Layout[JobRow], now: float) -> tuple[list[str], list[str]]:
    """Return the lines above the jobs, and what is to be said on stderr."""
    banner = [format_banner(now)] if options.parsed.has("long") or options.iterate_s else []
    faults = [f"squeue: error: Invalid job format specification: {fault}" for fault in layout.faults]
    return [*banner, *([] if options.parsed.has("noheader") else [layout.header()])], [*options.messages, *faults]


def choose_layout(options: SqueueOptions) -> Layout[JobRow]:
    """Return the columns: asked for, or those of -l, --start, or the plain ones."""
    parsed = options.parsed
    long_format, short_format = parsed.value("long_format"), parsed.value("format")
    if long_format is not None:
        return read_long_format(long_format, JOB_FIELDS)
    if short_format is not None:
        text = show_all_format(JOB_FIELDS) if short_format.strip().lower() == "%all" else short_format
        return read_format(text, JOB_FIELDS)
    if parsed.has("start"):
        return read_format(START_FORMAT, JOB_FIELDS)
    return read_format(LONG_FORMAT if parsed.has("long") else DEFAULT_FORMAT, JOB_FIELDS)


def sort_rows(rows: "Sequence[JobRow]", text: str) -> list[JobRow]:
    """Return rows in the order of a sort text such as "P,t,-p"; the last key is applied first, as each sort is stable.

    Raises:
        ValueError: an unknown letter; the message is that letter.
    """
    ordered = sorted(rows, key=by_id)  # type: ignore[arg-type]
    for letter, downwards in reversed(read_sort(text)):
        ordered.sort(key=SORT_KEYS[letter], reverse=downwards)  # type: ignore[arg-type]  # keys of one letter are of one type
    return ordered


def read_sort(text: str) -> list[tuple[str, bool]]:
    """Return the letters of a sort text, the weightiest first, each with whether it sorts downwards.

    Raises:
        ValueError: an unknown letter; the message is that letter.
    """
    found: list[tuple[str, bool]] = []
    at = len(text) - 1
    while at >= 0:  # from the end, as Slurm reads it
        letter = text[at]
        at -= 1
        if letter in ", ":
            continue
        sign = text[at] if at >= 0 and text[at] in "+-" else ""
        at -= len(sign)
        if letter not in SORT_KEYS:
            raise ValueError(letter)
        found.append((letter, sign == "-"))
    found.reverse()
    return found


def _concatenate(head: list[str], lines: "Iterable[str]") -> "Iterator[str]":
    yield from head
    yield from lines


def _drop_weaker_format(parsed: Parsed) -> None:
    short, long = parsed.last("format"), parsed.last("long_format")
    if short is None or long is None:
        return
    if short.source.startswith("--") and long.source.startswith("--"):
        raise OptionError("-O (--Format) is incompatible with -o (--format)", detail=(short.text, long.text))
    weaker = min((short, long), key=lambda one: one.source.startswith("--"))
    parsed.given = [one for one in parsed.given if one.option is not weaker.option]


def _read_states(options: SqueueOptions) -> None:
    text = options.parsed.value("states")
    if text is None:
        options.states = None if options.finished else ACTIVE
        if options.parsed.has("start"):
            options.states = frozenset(("PENDING",))
        return
    try:
        options.states = read_states(text)
    except ValueError as error:
        given = options.parsed.last("states")
        raise ExactError(
            (f"squeue: error: Invalid job state specified: {error}",
             f"squeue: error: Valid job states include: {VALID_STATES}", ""),
            source=given.source if given else "",
        ) from None  # fmt: skip


def _read_users(options: SqueueOptions, me: str, lookup_uid: "Callable[[str], int | None]") -> None:
    names = options.words("users")
    if options.parsed.has("me"):
        names = [*(names or []), me]
    if names is None:
        return
    options.users, options.uids = [], []
    for name in names:
        uid = lookup_uid(name)
        if uid is None and is_uid(name):
            uid = int(name)
        if uid is None and name != me:
            options.messages += [f"squeue: error: Invalid user: {name}", ""]
            continue
        options.users.append(name)
        if uid is not None:
            options.uids.append(uid)


def _is_asked(job: View, options: SqueueOptions) -> bool:
    return not options.job_refs or any(_is_named(job, ref, tasks) for ref, tasks in options.job_refs)


def _is_named(job: View, job_id: int, tasks: tuple[int, ...] | None) -> bool:
    array_id = int_or_none(job, "array_job_id")
    if tasks is None:
        return job_id in (int_or_none(job, "job_id"), array_id)
    if array_id != job_id:
        return False
    pending = text_of(job, "array_tasks")
    if pending:
        from sshq.core.arrays import parse_indices

        waiting = parse_indices(pending)  # ranges: of a million tasks no list is made
        return any(task in waiting for task in tasks)
    return int_or_none(job, "array_task_id") in tasks


def _matches(job: "View", options: SqueueOptions) -> bool:
    return _make_matcher(options)(job)


def _make_matcher(options: SqueueOptions) -> "Callable[[View], bool]":
    """Return what says whether a job is one of those asked for; what was asked is read once, not for each of them."""
    states, users, uids, nodes = options.states, options.users, options.uids or (), options.nodes
    licenses, partitions = options.words("licenses"), options.words("partitions")
    chosen = [
        (key, words, "normal" if key == "qos" else "")
        for field, key in (("names", "name"), ("accounts", "account"), ("qos", "qos"), ("kinds", "kind"))
        if (words := options.words(field)) is not None
    ]

    def matches(job: "View") -> bool:
        if options.job_refs and not _is_asked(job, options):
            return False
        if states is not None and text_of(job, "state") not in states and state_of(job) not in states:
            return False
        if users is not None and text_of(job, "user") not in users and int_of(job, "uid", -1) not in uids:
            return False
        if nodes is not None and set(nodes).isdisjoint(names_of(job, "nodes")):
            return False
        if licenses is not None:
            held = {part.partition(":")[0] for part in text_of(job, "licenses").split(",")}
            if held.isdisjoint(licenses):
                return False
        if partitions is not None and set(partitions).isdisjoint(text_of(job, "partition").split(",")):
            return False
        return all(text_of(job, key, default) in words for key, words, default in chosen)

    return matches


def _split_array(job: View) -> list[View]:
    """Return one view for each task of a record that stands for tasks not yet started."""
    tasks = text_of(job, "array_tasks")
    if not tasks:
        return [job]
    from sshq.core.arrays import parse_indices

    return [{**job, "array_tasks": None, "array_task_id": task} for task in parse_indices(tasks)]


def render_steps(steps: "Iterable[View]", options: SqueueOptions, now: float) -> Output:
    """Return what `squeue -s` prints for the views of running steps, each with its job under `job`."""
    from sshq.slurm.steps import choose_step_layout, list_step_lines

    parsed = options.parsed
    layout = choose_step_layout(parsed.value("format"), parsed.value("long_format"))
    faults = [f"squeue: error: Invalid job step format specification: {fault}" for fault in layout.faults]
    messages = [*options.messages, *faults]
    banner = [format_banner(now)] if parsed.has("long") or options.iterate_s else []
    head = [*banner, *([] if parsed.has("noheader") else [layout.header()])]
    chosen = [step for step in steps if _matches(job_of(step), options) and _is_step_asked(step, options)]
    if not chosen and options.step_refs and all(step is not None for _, _, step in options.step_refs):
        return Output(head, (*messages, UNKNOWN_STEP), 1)
    return Output(_concatenate(head, list_step_lines(chosen, layout, now, options.time_style)), messages)


def _is_step_asked(step: View, options: SqueueOptions) -> bool:
    job = job_of(step)
    ids = (int_of(job, "job_id"), int_or_none(job, "array_job_id"))
    return not options.step_refs or any(ref in ids and name in (None, step.get("step_id")) for ref, _, name in options.step_refs)


def sort_text(options: SqueueOptions) -> str:
    """Return the sort text that was given, or that of the kind of listing."""
    given = options.parsed.value("sort")
    if given is not None:
        return given
    return START_SORT if options.parsed.has("start") else DEFAULT_SORT


def by_id(row: JobRow) -> Key:
    """Return where a job stands among those that a sort leaves alike."""
    array_id = int_or_none(row.view, "array_job_id")
    task = int_or_none(row.view, "array_task_id")
    # The record of tasks not yet started stands behind the started ones.
    return (array_id if array_id is not None else int_of(row.view, "job_id"), float("inf") if task is None else task)


def _by_number(get: "Callable[[JobRow], float | None]") -> "Callable[[JobRow], Key]":
    def key(row: JobRow) -> "Key":
        value = get(row)
        return float("inf") if value is None else value

    return key


def _by_text(get: "Callable[[JobRow], str]") -> "Callable[[JobRow], Key]":
    return get


def _by_view_text(name: str) -> "Callable[[JobRow], Key]":
    def key(row: JobRow) -> "Key":
        value = row.view.get(name)
        return value if isinstance(value, str) else ""

    return key


def _by_view_number(name: str) -> "Callable[[JobRow], Key]":
    return _by_number(lambda row: time_of(row.view, name))


SORT_KEYS: "dict[str, Callable[[JobRow], Key]]" = {
    "a": _by_view_text("account"), "A": _by_view_number("job_id"), "c": _by_view_number("cpus_per_task"),
    "b": _by_text(lambda _row: ""), "C": _by_view_number("cpus"), "d": _by_text(lambda _row: ""),
    "D": _by_view_number("num_nodes"), "e": _by_view_number("end_at"), "E": _by_view_text("dependency"),
    "f": _by_view_text("features"), "F": by_id, "g": _by_view_text("group"), "G": _by_view_number("gid"),
    "h": _by_view_number("exclusive"), "H": _by_text(lambda _row: ""), "i": by_id, "I": _by_text(lambda _row: ""),
    "j": _by_view_text("name"), "J": _by_text(lambda _row: ""), "k": _by_view_text("comment"),
    "K": _by_view_number("array_task_id"), "l": _by_view_number("time_limit_s"), "L": _by_view_number("time_limit_s"),
    "m": _by_view_number("memory_mib"), "M": _by_number(lambda row: elapsed_of(row.view, row.now)),
    "n": _by_text(lambda row: ",".join(names_of(row.view, "req_nodes"))),
    "N": _by_text(lambda row: ",".join(names_of(row.view, "nodes"))), "o": _by_view_text("command"),
    "O": _by_text(lambda _row: ""), "p": _by_view_number("priority"), "P": _by_view_text("partition"),
    "q": _by_view_text("qos"), "Q": _by_view_number("priority"), "r": _by_view_text("reason"),
    "R": _by_view_text("reason"), "S": _by_number(start_of),
    "t": _by_number(lambda row: ORDER.get(state_of(row.view), 99)),
    "T": _by_number(lambda row: ORDER.get(state_of(row.view), 99)), "u": _by_view_text("user"),
    "U": _by_view_number("uid"), "v": _by_text(lambda _row: ""), "V": _by_view_number("submit_at"),
    "w": _by_text(lambda _row: ""), "x": _by_text(lambda row: ",".join(names_of(row.view, "exc_nodes"))),
    "y": _by_view_number("nice"), "z": _by_text(lambda _row: ""), "Z": _by_view_text("work_dir"),
}  # fmt: skip
