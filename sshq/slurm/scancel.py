"""scancel: which jobs, which signal, and what is said of each: nothing, unless asked or refused."""

from sshq.errors import OptionError
from sshq.slurm.getopt import Parsed, parse_options
from sshq.slurm.messages import ENDED_JOB, UNKNOWN_JOB, ExactError
from sshq.slurm.states import read_states
from sshq.slurm.values import parse_signal_name
from sshq.slurm.views import View, int_of, int_or_none, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CANCELLABLE = ("PENDING", "RUNNING", "SUSPENDED")
FILTER_FIELDS = ("account", "name", "nodes", "partition", "qos", "state", "user", "me")


class ScancelRequest:
    """What a call of scancel asked for."""

    def __init__(self, parsed: Parsed) -> None:
        self.parsed = parsed
        self.wants = parsed.wants
        self.warnings = parsed.warnings
        self.json = parsed.has("json")
        self.batch = parsed.has("batch")
        self.full = parsed.has("full")
        self.hurry = parsed.has("hurry")
        self.interactive = parsed.has("interactive")
        self.quiet = parsed.has("quiet")
        self.verbose = parsed.count("verbose")
        self.signal: int | None = None
        self.job_refs: tuple[tuple[int, tuple[int, ...] | None], ...] = ()
        self.job_texts: list[str] = []
        self.steps: list[tuple[int, int | None, int]] = []  # job, task of an array, number
        self.states: frozenset[str] | None = None
        self.users: list[str] | None = None
        self.nodes: list[str] | None = None

    @property
    def filter(self) -> dict[str, object]:
        """The jobs meant, for the controller."""
        parsed = self.parsed
        return {
            "refs": [[job, list(tasks) if tasks is not None else None] for job, tasks in self.job_refs] or None,
            "users": self.users,
            "states": sorted(self.states) if self.states is not None else None,
            "partitions": _one(parsed.value("partition")),
            "names": _one(parsed.value("name")),
            "nodes": self.nodes,
            "accounts": _one(parsed.value("account")),
            "qos": _one(parsed.value("qos")),
        }


def read_scancel_options(
    argv: "Sequence[str]", environ: "Mapping[str, str]", *, me: str, lookup_uid: "Callable[[str], int | None]"
) -> ScancelRequest:
    """Return what a call of scancel asks for.

    Raises:
        OptionError: with Slurm's text and status; nothing to go by is an error too.
    """
    parsed = parse_options("scancel", argv, environ)
    request = ScancelRequest(parsed)
    if request.wants:
        return request
    signal = parsed.value("signal")
    if signal is not None:
        try:
            request.signal = parse_signal_name(signal)
        except ValueError:
            raise ExactError((f"Unknown job signal: {signal}",), source="--signal") from None
    _read_state(request)
    user = parsed.value("user")
    if user is not None:
        if not user.isdigit() and lookup_uid(user) is None:
            raise OptionError(f"Invalid user name: {user}", source="--user")
        request.users = [user]
    if parsed.has("me"):
        request.users = [me]
    _read_jobs(request)
    if not request.job_refs and not request.steps and not any(parsed.has(field) for field in FILTER_FIELDS):
        raise OptionError("No job identification provided")
    return request


def describe_result(result: View, request: ScancelRequest, text: str = "") -> list[str]:
    """Return the lines for stderr that scancel prints of one job's outcome.

    Unknown and ended jobs are passed over in silence; -v names every job, and the errors then.  A refusal is
    always told, and so are processes that survived.

    Args:
        result: job_id, array_task_id, outcome ("cancelled", "signalled", "unknown", "ended", "denied"), message,
            survivors.
        request: for -v and -Q.
        text: how the user named the job, if so.
    """
    task = int_or_none(result, "array_task_id")
    step = int_or_none(result, "step")
    name = text or str(int_of(result, "job_id")) + (f"_{task}" if task is not None else "")
    name += f".{step}" if step is not None else ""
    outcome = text_of(result, "outcome")
    lines = []
    if request.verbose:
        if request.signal is None:
            lines.append(f"scancel: Terminating job {name}")
        else:
            lines.append(f"scancel: Signal {request.signal} to job {name}")
    default = {"unknown": UNKNOWN_JOB, "ended": ENDED_JOB, "denied": "Access/permission denied"}.get(outcome)
    message = text_of(result, "message") or default or ""
    told = outcome == "denied" or (outcome in ("unknown", "ended") and request.verbose and not request.quiet)
    if told:
        lines.append(f"scancel: error: Kill job error on job id {name}: {message}")
    survivors = result.get("survivors")
    if isinstance(survivors, (list, tuple)) and survivors:
        lines.append(f"scancel: error: job {name}: still alive: {', '.join(map(str, survivors))}")
    return lines


def exit_code_of(results: "Sequence[View]") -> int:
    """Return scancel's status: 1 if a job was refused, 0 also if none was there to cancel."""
    return 1 if any(text_of(result, "outcome") == "denied" for result in results) else 0


def _one(value: str | None) -> list[str] | None:
    return None if value is None else [word for word in value.split(",") if word]


def _read_state(request: ScancelRequest) -> None:
    text = request.parsed.value("state")
    if text is None:
        return
    try:
        states = read_states(text)
    except ValueError:
        states = frozenset(("",))
    if states is None or not states <= set(CANCELLABLE):
        lines = (f"Invalid job state specified: {text}", "Valid job states are PENDING, RUNNING, and SUSPENDED")
        raise ExactError(lines, source="--state")
    request.states = states


def _read_jobs(request: ScancelRequest) -> None:
    from sshq.core.ids import parse_job_id, split_job_list

    refs = []
    for argument in request.parsed.arguments:
        for item in split_job_list(argument):
            if not item.strip():
                continue
            try:
                ref = parse_job_id(item)
            except ValueError:
                hint = "job ids look like 12, 12_4 (array task) or 12_[1-5]"
                raise OptionError(f"Invalid job id {item}", hint=hint) from None
            if ref.step is not None and ref.step.isdigit() and (ref.tasks is None or len(ref.tasks) == 1):
                request.steps.append((ref.job_id, ref.tasks[0] if ref.tasks else None, int(ref.step)))
                continue
            if ref.step is not None and ref.step != "batch":
                raise OptionError(f"Invalid job id {item}")
            if ref.step == "batch":
                request.batch = True
            refs.append((ref.job_id, ref.tasks))
            request.job_texts.append(item)
    request.job_refs = tuple(refs)
    nodes = request.parsed.value("nodes")
    if nodes is not None:
        from sshq.core.hostlist import expand_hostlist

        try:
            request.nodes = expand_hostlist(nodes)
        except ValueError as error:
            raise OptionError(f"Invalid node list: {error}", source="--nodelist") from None
