"""Orders to the outside.  Each is safe to repeat, names its launch, and leaves only after the commit that ordered it."""

from collections.abc import Sequence
from dataclasses import dataclass

from sshq.core.model import Job, Launch, Row
from sshq.core.replacing import quick


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class StartLaunch:
    """Send the launch to its node; dropped if the node has taken a new generation since."""

    node: str
    launch: Launch
    job: Job
    engine: str = ""  # what runs its container there


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceLaunch:
    """Ask the arbiter: never, or already started?"""

    node: str
    launch_id: str
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KillLaunch:
    """Signal what the launch runs.  `cancel`: TERM, grace, KILL, strays too, and the record says cancelled."""

    node: str
    launch_id: str
    seq: int
    signal: int
    cancel: bool = True
    requeue: bool = False  # the cancel is for its job to run again
    batch_only: bool = False
    whole: bool = False
    tasks_only: bool = False  # of its steps: who holds the place for them does not get it


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLimit:
    """Tell the supervisor of a launch its time limit in seconds, None for none."""

    node: str
    launch_id: str
    seq: int
    limit_s: int | None


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class AckLaunches:
    """Raise the node's floor to `high` with `open_seqs` still open, then remove the directories of `launch_ids`."""

    node: str
    high: int
    open_seqs: tuple[int, ...]
    launch_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepLaunches:
    """Kill whatever still carries the cookie of these dead launches, and say by `LaunchesSwept` that nothing is left."""

    node: str
    launch_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BringOutput:
    """Copy a private directory's output to the submit directory, as the submitter; then say so by `OutputReturned`."""

    node: str
    job: Job
    launch_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProveDirectories:
    """Ask a node that just connected about the directories pending jobs wait in."""

    node: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskPythons:
    """Ask a node which interpreters it has for the calls that wait."""

    node: str
    needs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DropEnvironment:
    """No job needs this environment file any more."""

    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """A line for the audit file: who did what to what."""

    verb: str
    uid: int
    target: str
    result: str
    detail: str = ""


Effect = (
    StartLaunch | FenceLaunch | KillLaunch | SetLimit | AckLaunches | SweepLaunches | BringOutput | ProveDirectories
    | AskPythons | DropEnvironment | Audit
)  # fmt: skip


@dataclass(slots=True)
class Changes:
    """What one event did: rows to commit, then effects to carry out, and the answer to who asked."""

    rows: list[Row]
    effects: list[Effect]
    result: object = None
    arrived: Sequence[Job] = ()  # new in the queue and stored before: no rows, but news for who watches jobs
