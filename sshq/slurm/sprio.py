"""sprio: who comes first, and the one thing that moves a job from its place in line: --nice.

sshq's priority is Slurm's priority/basic: a number fixed at submission.  So no factor has a weight, and Slurm's own
layout for that case is used: job, partition, priority, site.
"""

from sshq.errors import OptionError
from sshq.slurm.getopt import Parsed, parse_options
from sshq.slurm.layout import Field, Output, read_format
from sshq.slurm.messages import ExactError
from sshq.slurm.squeue import read_job_refs
from sshq.slurm.views import View, int_of, int_or_none, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

DEFAULT_FORMAT = "%.15i %9r %.10Y %.10S"
LONG_FORMAT = "%.15i %9r %.8u %.8o %.10Y %.10S %.10A %.10B %.10F %.10J %.10P %.10n %.10Q %.11N %.20T"
NORM_FORMAT = "%.15i %9r %.10y"
WEIGHTS_LABEL = "Weights"
NOTHING_FOUND = "Unable to find jobs matching user/id(s) specified"
_MOST = 0xFFFFFFFF


def _zero(_job: View) -> str:
    return "0"


def _normal(_job: View) -> str:
    return "0.0000000"


def _text(key: str, missing: str = "") -> "Callable[[View], str]":
    return lambda job: text_of(job, key, missing)


FIELDS: tuple[Field[View], ...] = (
    Field("a", "", "AGE", _normal), Field("A", "", "AGE", _zero), Field("b", "", "ASSOC", _normal),
    Field("B", "", "ASSOC", _zero), Field("c", "", "CLUSTER", lambda _job: "sshq"),
    Field("f", "", "FAIRSHARE", _normal), Field("F", "", "FAIRSHARE", _zero),
    Field("i", "", "JOBID", lambda job: str(int_of(job, "job_id"))), Field("j", "", "JOBSIZE", _normal),
    Field("J", "", "JOBSIZE", _zero), Field("n", "", "QOSNAME", _text("qos", "normal")),
    Field("N", "", "NICE", lambda job: str(int_of(job, "nice"))), Field("o", "", "ACCOUNT", _text("account")),
    Field("p", "", "PARTITION", _normal), Field("P", "", "PARTITION", _zero), Field("q", "", "QOS", _normal),
    Field("Q", "", "QOS", _zero), Field("r", "", "PARTITION", _text("partition")), Field("S", "", "SITE", _zero),
    Field("t", "", "TRES", lambda _job: ""), Field("T", "", "TRES", lambda _job: ""), Field("u", "", "USER", _text("user")),
    Field("y", "", "PRIORITY", lambda job: f"{int_of(job, 'priority') / _MOST:.14f}"),
    Field("Y", "", "PRIORITY", lambda job: str(int_of(job, "priority"))),
)  # fmt: skip


class SprioOptions:
    """What a call of sprio asked for."""

    def __init__(self, parsed: Parsed) -> None:
        self.parsed = parsed
        self.wants = parsed.wants
        self.warnings = parsed.warnings
        self.refs: tuple[tuple[int, tuple[int, ...] | None], ...] = ()

    def words(self, field: str) -> list[str] | None:
        """Return the items of a comma list, None if it was not given."""
        value = self.parsed.value(field)
        return None if value is None else [word for word in value.split(",") if word]

    @property
    def filter(self) -> dict[str, object]:
        """What of the choice the controller can make."""
        refs = [[job, list(tasks) if tasks is not None else None] for job, tasks in self.refs]
        return {"refs": refs or None, "partitions": self.words("partitions"), "states": ["PENDING"]}


def read_sprio_options(
    argv: "Sequence[str]", environ: "Mapping[str, str]", *, lookup_uid: "Callable[[str], int | None]"
) -> SprioOptions:
    """Return what a call of sprio asks for; raises OptionError with Slurm's text and status."""
    parsed = parse_options("sprio", argv, environ)
    options = SprioOptions(parsed)
    if options.wants:
        return options
    if parsed.arguments:
        raise OptionError(f"Unrecognized option: {parsed.arguments[0]}")
    for name in options.words("users") or ():
        if not name.isdigit() and lookup_uid(name) is None:
            raise OptionError(f"Invalid user: {name}", source="--user")
    options.refs = read_job_refs(parsed.value("jobs") or "", "sprio")
    return options


def render_sprio(jobs: "Iterable[View]", options: SprioOptions) -> Output:
    """Return what sprio prints for the views of pending jobs."""
    parsed = options.parsed
    plain = NORM_FORMAT if parsed.has("norm") else DEFAULT_FORMAT
    text = parsed.value("format") or (LONG_FORMAT if parsed.has("long") else plain)
    layout = read_format(text, FIELDS)
    messages = [f"sprio: error: Invalid job format specification: {fault}" for fault in layout.faults]
    head = [] if parsed.has("noheader") else [layout.header()]
    if parsed.has("weights"):
        return Output([*head, read_format(text, _weights()).line({})], messages)
    users = options.words("users")
    chosen = [job for job in jobs if users is None or {text_of(job, "user"), str(int_of(job, "uid", -1))} & set(users)]
    if not chosen:
        return Output([NOTHING_FOUND], messages)
    lines = [layout.line(job) for job in _sort(chosen, parsed.value("sort") or "i")]
    return Output([*head, *lines], messages)


def _weights() -> tuple[Field[View], ...]:
    """The fields as the line of the weights shows them: no factor has any but the site's, which is 1."""

    def show(letter: str) -> "Callable[[View], str]":
        text = {"i": WEIGHTS_LABEL, "S": "1"}.get(letter, "0" if letter in "AaBbFfJjPpQq" else "")
        return lambda _job: text

    return tuple(Field(field.letter, "", field.header, show(field.letter)) for field in FIELDS)


def _sort(jobs: list[View], text: str) -> list[View]:
    getters = {field.letter: field.getter for field in FIELDS}
    ordered = jobs
    for word in reversed([word for word in text.split(",") if word]):
        letter = word.lstrip("+-")
        getter = getters.get(letter)
        if getter is None:
            raise ExactError((f"sprio: error: Invalid sort specification: {word}",), source="--sort")
        ordered = sorted(ordered, key=_sort_key(letter, getter), reverse=word.startswith("-"))
    return ordered


def _sort_key(letter: str, getter: "Callable[[View], str]") -> "Callable[[View], tuple[float, str]]":
    key = {"i": "job_id", "N": "nice", "Y": "priority", "y": "priority"}.get(letter)
    if key is not None:
        return lambda job: (float(int_or_none(job, key) or 0), "")
    return lambda job: (0, getter(job))
