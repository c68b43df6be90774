"""sacct: the rows of history, one line a job and one for its batch step, in aligned or delimited columns.

Its layout is not squeue's: each field as wide as Slurm's table says, cut with a plus sign at the end, a line of
dashes under the header.
"""

from sshq.errors import OptionError
from sshq.slurm.fields_sacct import FIELDS, GETTERS, AccountRow
from sshq.slurm.getopt import Parsed, parse_options
from sshq.slurm.layout import Output, keep_on_line
from sshq.slurm.messages import ExactError
from sshq.slurm.states import read_states
from sshq.slurm.table import join_cells, list_header, make_joiner, read_columns, render_fields
from sshq.slurm.views import View, int_of, int_or_none, is_uid, names_of, text_of, time_of, views_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

DEFAULT_FIELDS = "JobID,JobName,Partition,Account,AllocCPUS,State,ExitCode"
UID_MAX = 0xFFFFFFFF
UNLIMITED_S = 1 << 62  # a limit above all others
BRIEF_FIELDS = "JobID,State,ExitCode"
LONG_FIELDS = (
    "JobID,JobIDRaw,JobName,Partition,MaxVMSize,MaxVMSizeNode,MaxVMSizeTask,AveVMSize,MaxRSS,MaxRSSNode,MaxRSSTask,AveRSS,"
    "MaxPages,MaxPagesNode,MaxPagesTask,AvePages,MinCPU,MinCPUNode,MinCPUTask,AveCPU,NTasks,AllocCPUS,Elapsed,State,"
    "ExitCode,AveCPUFreq,ReqCPUFreqMin,ReqCPUFreqMax,ReqCPUFreqGov,ReqMem,ConsumedEnergy,MaxDiskRead,MaxDiskReadNode,"
    "MaxDiskReadTask,AveDiskRead,MaxDiskWrite,MaxDiskWriteNode,MaxDiskWriteTask,AveDiskWrite,ReqTRES,AllocTRES,"
    "TRESUsageInAve,TRESUsageInMax,TRESUsageInMaxNode,TRESUsageInMaxTask,TRESUsageInMin,TRESUsageInMinNode,"
    "TRESUsageInMinTask,TRESUsageInTot,TRESUsageOutMax,TRESUsageOutMaxNode,TRESUsageOutMaxTask,TRESUsageOutAve,"
    "TRESUsageOutTot"
)
# Options that list words, what of a job has to be among them, and what that is where it is empty.
WORDS = (
    ("names", "name", ""), ("accounts", "account", ""), ("partitions", "partition", ""), ("qos", "qos", "normal"),
    ("groups", "group", ""), ("reasons", "reason", "None"), ("constraints", "features", ""),
)  # fmt: skip


class SacctOptions:
    """What a call of sacct asked for."""

    def __init__(self, parsed: Parsed, environ: "Mapping[str, str]") -> None:
        self.parsed = parsed
        self.wants = parsed.wants
        self.warnings = parsed.warnings
        self.is_document = parsed.has("json") or parsed.has("yaml")
        self.helpformat = parsed.has("helpformat")
        self.batch_script = parsed.has("batch_script")
        self.time_style = environ.get("SLURM_TIME_FORMAT", "")
        self.start_at: float | None = None
        self.end_at: float | None = None
        self.refs: tuple[tuple[int, tuple[int, ...] | None, str | None], ...] = ()
        self.states: frozenset[str] | None = None
        self.users: list[str] | None = None
        self.columns: tuple[tuple[str, int], ...] = ()
        self.node_counts: tuple[int, int] | None = None
        self.cpu_counts: tuple[int, int] | None = None
        self.limits_s: tuple[int, int] | None = None
        self.nodes: frozenset[str] | None = None
        self._words: dict[str, list[str] | None] = {}

    def text(self, field: str) -> str | None:
        """Return a comma list, None if it was not given: unlike other options, these add up (`-j 12 -j 13`)."""
        given = [one.value or "" for one in self.parsed.given if one.option.field == field and one.source.startswith("-")]
        return ",".join(given) if given else self.parsed.value(field)

    def words(self, field: str) -> list[str] | None:
        """Return the items of a comma list, None if it was not given; it is asked for each job."""
        if field not in self._words:
            value = self.text(field)
            self._words[field] = None if value is None else [word for word in value.split(",") if word]
        return self._words[field]

    @property
    def filter(self) -> dict[str, object]:
        """What of the choice the controller can make; the rest is made here."""
        numbers = [name for name in self.users or () if is_uid(name)]
        return {
            "refs": [[job, list(tasks) if tasks is not None else None] for job, tasks, _ in self.refs] or None,
            "users": self.users if not numbers else None,
            # Of names and numbers together the choice is made here.
            "uids": [int(name) for name in numbers if int(name) <= UID_MAX] if numbers and numbers == self.users else None,
            "partitions": self.words("partitions"),
            "names": self.words("names"),
            "states": sorted(self.states) if self.states is not None else None,
            "nodes": sorted(self.nodes) if self.nodes is not None else None,
        }


def read_sacct_options(
    argv: "Sequence[str]", environ: "Mapping[str, str]", *, now: float, me: str,
    lookup_uid: "Callable[[str], int | None] | None" = None,
) -> SacctOptions:  # fmt: skip
    """Return what a call of sacct asks for.

    Args:
        argv: without the program's name.
        environ: for SACCT_ and SLURM_ variables.
        now: seconds since the epoch.
        me: the caller, whose jobs are shown unless others are asked for; root sees all.
        lookup_uid: gives a user's number, None for no such user; without it names are not checked.

    Raises:
        OptionError: with Slurm's text and status.
    """
    parsed = parse_options("sacct", argv, environ)
    options = SacctOptions(parsed, environ)
    if options.wants or options.helpformat:
        return options
    options.columns = read_columns(_choose_fields(options), FIELDS, "sacct")
    units = parsed.value("units")
    if units is not None and units.upper() not in tuple("KMGTP"):
        raise OptionError(f"Invalid units: {units}", detail=("K, M, G, T or P.",))
    options.refs = _read_refs(options.text("jobs") or "")
    states = options.text("states")
    if states is not None:
        try:
            options.states = read_states(states)
        except ValueError as error:
            raise ExactError((f"sacct: fatal: unrecognized job state value '{error}'",)) from None
    options.node_counts, options.cpu_counts = _read_range(options, "nnodes"), _read_range(options, "ncpus")
    options.limits_s = _read_limits(options)
    _read_window(options, now)
    _read_users(options, me, lookup_uid)
    nodes = options.text("nodes")
    if nodes is not None:
        from sshq.core.hostlist import expand_hostlist

        try:
            options.nodes = frozenset(expand_hostlist(nodes))
        except ValueError as error:
            raise OptionError(f"Invalid node list: {error}") from None
    return options


def render_sacct(rows: "Iterable[View]", options: SacctOptions, now: float) -> Output:
    """Return what sacct prints for rows of history, in their order."""
    return Output(_list_lines(rows, options, now))


def render_helpformat() -> str:
    """Return what --helpformat prints."""
    return render_fields(name for name, _ in FIELDS)


def choose_rows(rows: "Iterable[View]", options: SacctOptions) -> "Iterator[View]":
    """Return the rows of the jobs asked for."""
    checks = _list_checks(options)
    return (row for row in rows if all(check(row) for check in checks))


def _list_lines(rows: "Iterable[View]", options: SacctOptions, now: float) -> "Iterator[str]":
    columns, parsed = options.columns, options.parsed
    yield from list_header(columns, parsed)
    getters = [GETTERS.get(name, _show_nothing) for name, _ in columns]
    join = make_joiner(columns, parsed)
    splitter = _Splitter(options, now)
    for row in choose_rows(rows, options):
        for line in splitter.split(row):
            cells = [get(line) for get in getters]
            text = join(cells)
            if text is None or "\n" in text:
                text = join_cells([keep_on_line(cell) for cell in cells], columns, parsed)
            yield text


def _show_nothing(_row: AccountRow) -> str:
    """Stand for a field sshq knows nothing of."""
    return ""


def _choose_fields(options: SacctOptions) -> str:
    parsed = options.parsed
    chosen = parsed.last("format")
    if chosen is not None and (chosen.source.startswith("-") or not (parsed.has("brief") or parsed.has("long"))):
        return options.text("format") or ""
    if parsed.has("brief"):
        return BRIEF_FIELDS
    return LONG_FIELDS if parsed.has("long") else DEFAULT_FIELDS


class _Splitter:
    """Makes the lines of jobs; what the options say of them is read once."""

    def __init__(self, options: SacctOptions, now: float) -> None:
        parsed = options.parsed
        self._options, self._now, self._style, self._refs = options, now, options.time_style, options.refs
        self._truncates, self._duplicates = parsed.has("truncate"), parsed.has("duplicates")
        self._with_steps = not parsed.has("allocations")
        self._units = "" if parsed.has("noconvert") else (parsed.value("units") or "").upper()

    def split(self, job: View) -> list[AccountRow]:
        """Return a job's lines: itself, its batch step and its steps, for its last attempt, or for each with --duplicates."""
        if self._truncates:
            cut = [_truncate(one, self._options) for one in views_of(job, "attempts")]
            job = {**_truncate(job, self._options), "attempts": cut}
        attempts: list[View | None] = list(views_of(job, "attempts"))
        steps_asked: list[str] = []
        jobs_asked = True
        if self._refs:
            ids = _ids(job)
            steps_asked = [step for ref, _, step in self._refs if ref in ids and step]
            jobs_asked = any(ref in ids and not step for ref, _, step in self._refs)
        with_step = jobs_asked and self._with_steps
        started = bool(attempts) or time_of(job, "start_at") is not None or job.get("launched") is True
        never_ran = not started or job.get("state") == "PENDING" or not names_of(job, "nodes")
        lines: list[AccountRow] = []
        # Of the last attempt the job's own row says the same, and more.
        for attempt in attempts or [None] if self._duplicates else [None]:
            if jobs_asked:
                lines.append(self._make(job, attempt, is_step=False))
            if never_ran or not (with_step or steps_asked):
                continue
            if (with_step or "batch" in steps_asked) and job.get("batch_flag") is not False:
                lines.append(self._make(job, attempt, is_step=True))
            of_attempt = int_of(job if attempt is None else attempt, "attempt")
            for step in views_of(job, "steps"):
                if int_of(step, "attempt") == of_attempt and (with_step or text_of(step, "step_id") in steps_asked):
                    lines.append(self._make(job, None, is_step=True, step=step))  # noqa: PERF401 - clearer in a row with the others
        return lines

    def _make(self, job: View, attempt: View | None, *, is_step: bool, step: View | None = None) -> AccountRow:
        return AccountRow(job, attempt, is_step=is_step, now=self._now, time_style=self._style, units=self._units, step=step)


def _ids(job: View) -> tuple[int, int | None]:
    return int_of(job, "job_id"), int_or_none(job, "array_job_id")


def _list_checks(options: SacctOptions) -> "list[Callable[[View], bool]]":
    """Return what a job has to pass to be shown; of what was not asked for there is nothing."""
    checks: list[Callable[[View], bool]] = []
    refs, users, states, nodes = options.refs, options.users, options.states, options.nodes
    if refs:
        checks.append(lambda job: any(_is_named(job, ref, tasks) for ref, tasks, _ in refs))
    if users is not None:
        wanted = frozenset(users)
        checks.append(lambda job: text_of(job, "user") in wanted or str(int_of(job, "uid", -1)) in wanted)
    if states is not None:
        checks.append(lambda job: text_of(job, "state") in states)
    if nodes is not None:
        checks.append(lambda job: not nodes.isdisjoint(names_of(job, "nodes")))
    checks += [_check_word(key, default, words) for field, key, default in WORDS if (words := options.words(field)) is not None]
    if options.limits_s is not None:
        checks.append(lambda job: _is_between(_limit_of(job), options.limits_s))
    if options.node_counts is not None:
        checks.append(lambda job: _is_between(int_of(job, "num_nodes", 1), options.node_counts))
    if options.cpu_counts is not None:
        checks.append(lambda job: _is_between(int_of(job, "cpus", 1), options.cpu_counts))
    if options.start_at is not None or options.end_at is not None:
        checks.append(lambda job: _is_within(job, options))
    return checks


def _check_word(key: str, default: str, words: list[str]) -> "Callable[[View], bool]":
    return lambda job: text_of(job, key, default) in words


def _limit_of(job: View) -> int:
    limit_s = int_or_none(job, "time_limit_s")
    return UNLIMITED_S if limit_s is None else limit_s


def _is_within(job: View, options: SacctOptions) -> bool:
    """Return whether the job lived between --starttime and --endtime: submitted before the end, not over before it."""
    submit_at = time_of(job, "submit_at")
    end_at = time_of(job, "end_at") if job.get("state") not in ("PENDING", "RUNNING", "CONFIGURING", "SUSPENDED") else None
    if options.start_at is not None and end_at is not None and end_at < options.start_at:
        return False
    return options.end_at is None or submit_at is None or submit_at <= options.end_at


def _is_named(job: View, job_id: int, tasks: tuple[int, ...] | None) -> bool:
    raw, array_id = _ids(job)
    if tasks is None:
        return job_id in (raw, array_id)
    pending = text_of(job, "array_tasks")
    if array_id == job_id and pending:
        from sshq.core.arrays import parse_indices

        waiting = parse_indices(pending)
        return any(task in waiting for task in tasks)
    return array_id == job_id and int_or_none(job, "array_task_id") in tasks


def _read_refs(text: str) -> tuple[tuple[int, tuple[int, ...] | None, str | None], ...]:
    if not text:
        return ()
    from sshq.core.ids import parse_job_id, split_job_list

    refs = []
    for item in split_job_list(text):
        if not item.strip():
            continue
        try:
            ref = parse_job_id(item)
        except ValueError:
            message = f"sacct: fatal: Bad job/step specified: {item}"
            raise ExactError((message,), source="--jobs") from None
        refs.append((ref.job_id, ref.tasks, ref.step))
    return tuple(refs)


def _read_range(options: SacctOptions, field: str) -> tuple[int, int] | None:
    """Return the least and the greatest number of MIN[-MAX], which are the same where only one is given."""
    given = options.parsed.last(field)
    if given is None:
        return None
    low, dash, high = (given.value or "").partition("-")
    if not (low.isascii() and low.isdigit() and (not dash or (high.isascii() and high.isdigit()))):
        raise OptionError(f"Invalid range: {given.value}", source=given.source, detail=(given.text,))
    return int(low), int(high or low)


def _read_limits(options: SacctOptions) -> tuple[int, int] | None:
    from sshq.core.units import parse_time_limit

    low, high = options.parsed.last("timelimit_min"), options.parsed.last("timelimit_max")
    if low is None and high is None:
        return None
    if low is None:
        message = "sacct: fatal: Can't use --timelimit-max without also using --timelimit-min"
        raise ExactError((message,), source="--timelimit-max")
    seconds = []
    for given in (low, high or low):
        try:
            limit_s = parse_time_limit(given.value or "")
        except ValueError:
            raise ExactError((f"sacct: fatal: Invalid time limit: {given.value}",), source=given.source) from None
        seconds.append(UNLIMITED_S if limit_s is None else limit_s)
    if seconds[1] < seconds[0]:
        raise ExactError(("sacct: fatal: Maximum time limit is less than the minimum.",), source="--timelimit-max")
    return seconds[0], seconds[1]


def _is_between(number: int, span: tuple[int, int] | None) -> bool:
    return span is None or span[0] <= number <= span[1]


def _truncate(view: View, options: SacctOptions) -> View:
    """Return a job or an attempt with the part of its times that lies in the window (--truncate)."""
    changes = {}
    start_at, end_at = time_of(view, "start_at"), time_of(view, "end_at")
    if options.start_at is not None and start_at is not None and start_at < options.start_at:
        changes["start_at"] = options.start_at
    if options.end_at is not None and end_at is not None and end_at > options.end_at:
        changes["end_at"] = options.end_at
    return {**view, **changes} if changes else view


def _read_window(options: SacctOptions, now: float) -> None:
    """Set the window as sacct(1), DEFAULT TIME WINDOW: since midnight; all time with ids; now with states."""
    parsed = options.parsed
    start, end = parsed.value("start_at"), parsed.value("end_at")
    if start is not None:
        options.start_at = _parse_time(start, now)
    elif not parsed.has("jobs"):
        options.start_at = now if parsed.has("states") and end is None else _parse_time("00:00", now)
        if parsed.has("states") and end is not None:
            options.start_at = None
    if end is not None:
        options.end_at = _parse_time(end, now)
    if options.start_at is not None and options.end_at is not None and options.start_at > options.end_at:
        from sshq.slurm.clock import format_local

        begin, finish = format_local(options.start_at), format_local(options.end_at)
        message = f"sacct: fatal: Start time ({begin}) requested is after end time ({finish})."
        raise ExactError((message,))


def _parse_time(text: str, now: float) -> float:
    import time

    from sshq.core.times import parse_begin

    try:
        return parse_begin(text, now, lambda at: time.localtime(at).tm_gmtoff, past=True)
    except ValueError as error:
        raise ExactError((str(error),), source="--starttime") from None


def _read_users(options: SacctOptions, me: str, lookup_uid: "Callable[[str], int | None] | None") -> None:
    names = options.words("users")
    if names is None:
        everyone = options.parsed.has("allusers") or bool(options.refs) or me == "root"
        options.users = None if everyone else [me]
        return
    for name in names:
        if lookup_uid is not None and not is_uid(name) and lookup_uid(name) is None:
            raise OptionError(f"Invalid user id: {name}")
    options.users = names
