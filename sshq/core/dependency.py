"""When a job may start after others: reading --dependency, judging it, writing it as squeue %E does.

Kinds are Slurm's: after[+minutes], afterany (and afterburstbuffer, as no job has one), afterok,
afternotok, aftercorr, singleton; a bare id is
afterany.  Terms joined by `,` must all hold, by `?` any one is enough; the two do not mix.  What is known of
a job comes in as `JobFacts`: this file knows neither jobs nor a clock.

A job that is not known cannot satisfy anything, whatever the kind: Slurm accepts it and leaves the dependent
pending, and so does sshq, with DependencyNeverSatisfied to be seen.  (Who keeps history may know more than
the live queue: a `lookup` that still finds an ended job is what makes afterok of yesterday's job hold.)
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal

from sshq.core.arrays import ARRAY_SIZE_MAX

DEPENDENCY_PROBLEM: Final = "Job dependency problem"  # after "Batch job submission failed: "
SINGLETON: Final = "singleton"
KINDS: Final = ("after", "afterany", "afterburstbuffer", "afterok", "afternotok", "aftercorr")
_DELAY_MAX_MIN: Final = 100 * 366 * 24 * 60


class Verdict(Enum):
    """What a dependency comes to now.  The value is Slurm's word in squeue %E."""

    MET = "fulfilled"
    WAITING = "unfulfilled"
    NEVER = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One condition on one job, array or array task; of `singleton` only the kind counts."""

    kind: str  # one of KINDS, or SINGLETON
    job_id: int = 0
    task: int | Literal["all"] | None = None  # "all" was written 12_*; None: the job, or all of the array
    delay_min: int = 0  # `after` only: minutes since the start

    @property
    def delay_s(self) -> int:
        return self.delay_min * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """Terms in the order written; without any it holds at once."""

    terms: tuple[Term, ...] = ()
    any_of: bool = False

    @property
    def singleton(self) -> bool:
        return any(term.kind == SINGLETON for term in self.terms)

    @property
    def job_ids(self) -> frozenset[int]:
        """The jobs and arrays it names: whose start or end may change the verdict."""
        return frozenset(term.job_id for term in self.terms if term.kind != SINGLETON)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFacts:
    """What a term may know of what it names; an array counts as one, all of its tasks taken together.

    For `singleton`: `final` says that no job of that name and user is left that came earlier or has begun.
    """

    known: bool
    started_at: float | None = None  # None: not (all) started
    final: bool = False
    ok: bool = False  # final and COMPLETED with exit code 0
    array: bool = False  # only for showing it as 12_*


Lookup = Callable[[Term], JobFacts]


def parse_dependency(text: str) -> Dependency:
    """Return what --dependency means; an empty text is no dependency (scontrol update Dependency=).

    afterok:1:2 is two terms; after:1+5 counts five minutes from the start of 1.

    Raises:
        ValueError: why, in a few words; Slurm itself only says DEPENDENCY_PROBLEM.

    """
    if not text.strip():
        return Dependency()
    if "," in text and "?" in text:
        raise ValueError("`,` (all of) and `?` (any of) cannot be mixed")
    any_of = "?" in text
    terms: list[Term] = []
    for part in text.strip().split("?" if any_of else ","):
        terms += _parse_terms(part.strip())
    return Dependency(terms=tuple(dict.fromkeys(terms)), any_of=any_of)


def judge_term(term: Term, facts: JobFacts, now: float | None = None) -> Verdict:
    """Return what one term comes to.

    Args:
        term: the condition.
        facts: of the job it names.
        now: seconds since the epoch, for a delay after a start; with None such a term waits for ever.

    """
    if term.kind == SINGLETON:
        return Verdict.MET if facts.final else Verdict.WAITING
    if not facts.known:
        return Verdict.NEVER
    if term.kind == "after":
        return _judge_start(term, facts, now)
    if not facts.final:
        return Verdict.WAITING
    wanted = {"afterany": True, "afterburstbuffer": True, "afternotok": not facts.ok}.get(term.kind, facts.ok)
    return Verdict.MET if wanted else Verdict.NEVER


def evaluate(dependency: Dependency, lookup: Lookup, now: float | None = None) -> Verdict:
    """Return whether a job may start, has to wait, or can never start as things stand.

    All of: NEVER as soon as one term is, for waiting cannot mend it.  Any of: NEVER only when all are.  Ask
    again whenever a named job changes, after a NEVER too: a failed job may be requeued.

    Args:
        dependency: the terms.
        lookup: facts of what a term names; asked once for each term.
        now: as `judge_term`; `find_next_check` says when a delay is over.

    """
    verdicts = [judge_term(term, lookup(term), now) for term in dependency.terms]
    if not verdicts:
        return Verdict.MET
    decisive, opposite = (Verdict.MET, Verdict.NEVER) if dependency.any_of else (Verdict.NEVER, Verdict.MET)
    if decisive in verdicts:
        return decisive
    return opposite if all(verdict is opposite for verdict in verdicts) else Verdict.WAITING


def find_next_check(dependency: Dependency, lookup: Lookup, now: float) -> float | None:
    """Return when the next delay of an `after` term is over (epoch seconds); None if none is running."""
    due = [
        facts.started_at + term.delay_s
        for term in dependency.terms
        if term.delay_min and (facts := lookup(term)).started_at is not None
    ]
    return min((at for at in due if at > now), default=None)


def pin_to_task(dependency: Dependency, task: int) -> Dependency:
    """Return what a dependency means for one task of an array: aftercorr names the task of the same index."""
    return Dependency(
        terms=tuple(
            Term(kind=term.kind, job_id=term.job_id, task=task)
            if term.kind == "aftercorr" and not isinstance(term.task, int)
            else term
            for term in dependency.terms
        ),
        any_of=dependency.any_of,
    )


def format_dependency(dependency: Dependency, lookup: Lookup, now: float | None = None) -> str | None:
    """Return squeue's %E: afterok:103(unfulfilled),afterany:104_*(failed); None if nothing is left.

    Terms that hold are left out, as Slurm drops them.
    """
    shown = []
    for term in dependency.terms:
        facts = lookup(term)
        verdict = judge_term(term, facts, now)
        if verdict is Verdict.MET:
            if dependency.any_of:
                return None
            continue
        shown.append(f"{format_term(term, array=facts.array)}({verdict.value})")
    return ("?" if dependency.any_of else ",").join(shown) or None


def format_term(term: Term, *, array: bool = False) -> str:
    """Return a term as the user would write it, 12_* for a whole array."""
    if term.kind == SINGLETON:
        return SINGLETON
    whole_array = term.task == "all" or (array and term.task is None)
    task = "_*" if whole_array else "" if term.task is None else f"_{term.task}"
    return f"{term.kind}:{term.job_id}{task}" + (f"+{term.delay_min}" if term.delay_min else "")


def _judge_start(term: Term, facts: JobFacts, now: float | None) -> Verdict:
    if facts.started_at is None:
        # Cancelled before it ever started: no start is left to wait for.
        return Verdict.MET if facts.final else Verdict.WAITING
    if term.delay_min and (now is None or now < facts.started_at + term.delay_s):
        return Verdict.WAITING
    return Verdict.MET


def _parse_terms(part: str) -> list[Term]:
    kind, colon, ids = part.partition(":")
    if kind.lower() == SINGLETON:
        if colon:
            raise ValueError("singleton takes no job id")
        return [Term(kind=SINGLETON)]
    if not colon:
        return [_parse_term("afterany", kind)]
    if kind.lower() not in KINDS:
        raise ValueError(f"{kind!r} is not one of {', '.join(KINDS)}, {SINGLETON}")
    return [_parse_term(kind.lower(), job) for job in ids.split(":")]


def _parse_term(kind: str, text: str) -> Term:
    name, plus, delay_text = text.partition("+")
    job_text, underscore, task_text = name.partition("_")
    if not _are_digits(job_text) or not 0 < int(job_text) < 2**31:
        raise ValueError(f"{text!r} is not a job id")
    task: int | Literal["all"] | None = None
    if task_text == "*":
        task = "all"
    elif underscore:
        if not _are_digits(task_text) or int(task_text) >= ARRAY_SIZE_MAX:
            raise ValueError(f"{text!r} is not an array task")
        task = int(task_text)
    if plus and (kind != "after" or not _are_digits(delay_text) or int(delay_text) > _DELAY_MAX_MIN):
        raise ValueError(f"{text!r}: only after:ID+MINUTES has a delay")
    return Term(kind=kind, job_id=int(job_text), task=task, delay_min=int(delay_text) if plus else 0)


def _are_digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 12
