"""A job as a future: `concurrent.futures.Future` with a number, a state and an output."""

import concurrent.futures
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from sshq.errors import SshqError

if TYPE_CHECKING:
    from sshq.api.client import Client

Object = dict[str, object]
STARTED = ("RUNNING", "SUSPENDED", "COMPLETING")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a job ended; times are seconds since the epoch, UTC."""

    job_id: int
    array_task_id: int | None
    state: str  # Slurm's word: COMPLETED, FAILED, TIMEOUT, …
    exit_code: int
    exit_signal: int
    reason: str
    node: str | None
    submit_at: float
    start_at: float | None
    end_at: float | None
    std_out: str  # path on the machine of the controller, or here if it was brought from there
    std_err: str
    restarts: int
    note: str | None

    @classmethod
    def of(cls, view: Mapping[str, Any]) -> "Ending":
        """Return the ending that a view of the controller tells."""
        nodes = view.get("nodes") or []
        return cls(
            job_id=int(view["job_id"]), array_task_id=view.get("array_task_id"), state=str(view["state"]),
            exit_code=int(view.get("exit_code") or 0), exit_signal=int(view.get("exit_signal") or 0),
            reason=str(view.get("reason") or ""), node=str(nodes[0]) if nodes else None,
            submit_at=float(view.get("submit_at") or 0), start_at=view.get("start_at"), end_at=view.get("end_at"),
            std_out=str(view.get("std_out") or ""), std_err=str(view.get("std_err") or ""),
            restarts=int(view.get("restarts") or 0), note=view.get("note"),
        )  # fmt: skip


class JobFailedError(SshqError):
    """The job did not complete; `ending` says how it ended."""

    why = ""

    def __init__(self, ending: Ending, last_words: str = "") -> None:
        how = f" {ending.exit_code}:{ending.exit_signal}" if ending.exit_code or ending.exit_signal else ""
        how += f" ({_name_signal(ending.exit_signal)})" if ending.exit_signal and ending.state == "FAILED" else ""
        where = f" on {ending.node}" if ending.node else ""
        label = name_job(ending.job_id, ending.array_task_id)
        lines = tuple(last_words.splitlines()[-10:])
        why = self.why + (f", {ending.note}" if ending.note and ending.state == "NODE_FAIL" else "")
        super().__init__(f"job {label} is {ending.state}{how}{where}{why}", detail=lines, hint=f"sshq logs {label}")
        self.ending = ending

    def __str__(self) -> str:
        return "\n".join([self.message, *self.detail])

    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]
        return super().__notes__[len(self.detail) :]  # the job's last words stand in the message


class TimeLimitError(JobFailedError):
    """The job's time limit ended it."""

    why = ": its time limit ended it"


class OutOfMemoryError(JobFailedError):
    """The kernel killed it for want of memory."""

    why = ": the kernel killed it for want of memory"


class NodeLostError(JobFailedError):
    """Its node was lost with it: the function may have run, wholly or in part."""

    why = ": its node was lost, it may have run"


_KINDS: dict[str, type[JobFailedError]] = {
    "TIMEOUT": TimeLimitError, "DEADLINE": TimeLimitError, "OUT_OF_MEMORY": OutOfMemoryError, "NODE_FAIL": NodeLostError,
}  # fmt: skip


def failure_of(ending: Ending, last_words: str = "") -> JobFailedError:
    """Return the exception for a job that did not complete, of the type that says why."""
    return _KINDS.get(ending.state, JobFailedError)(ending, last_words)


def _name_signal(number: int) -> str:
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"killed by signal {number}"


def name_job(job_id: int, task: int | None) -> str:
    """Return 12, or 12_4 for a task of an array."""
    return str(job_id) if task is None else f"{job_id}_{task}"


# Called with the final view; returns the future's result, or raises what it shall raise.
Finisher = Callable[["Job", Ending], object]


class Job(concurrent.futures.Future[Any]):
    """One job, or one task of an array; made by `Client.submit` and `Executor.submit`, never directly.

    Its result is its `Ending` (of a call: what the function returned).  A cancelled job raises `CancelledError` there, one that
    did not complete `JobFailedError`.

    Attributes:
        job_id: the number that `sbatch` would print; of an array, the array's.
        array_task_id: None if it is no task of an array.

    """

    def __init__(self, client: "Client", job_id: int, task: int | None = None, *, finish: Finisher | None = None) -> None:
        super().__init__()
        self.job_id = job_id
        self.array_task_id = task
        self._client = client
        self._finish = finish
        self._view: Mapping[str, Any] = {"state": "PENDING"}
        self._begun = threading.Event()

    def __repr__(self) -> str:
        return f"<sshq.Job {name_job(self.job_id, self.array_task_id)} {self.state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a job cannot travel: pass what its result() returns, or its job_id")

    # ---- what is known ---------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """Slurm's word for its state, as the controller told it last (it tells each change at once)."""
        return str(self._view.get("state", "PENDING"))

    @property
    def node(self) -> str | None:
        """Where it runs or ran; None before."""
        nodes = self._view.get("nodes")
        return str(nodes[0]) if isinstance(nodes, list) and nodes else None

    @property
    def reason(self) -> str:
        """Why it waits, or what ended it: Slurm's word."""
        return str(self._view.get("reason") or "None")

    def running(self) -> bool:
        """Whether it runs now."""
        return not self.done() and self.state in ("RUNNING", "SUSPENDED", "COMPLETING")

    def stdout(self, *, timeout: float | None = 60.0) -> str:
        """Return its standard output so far, whole: live from its host, or from where it was brought.

        Raises:
            RefusedError: it cannot be read now.

        """
        return self._client.read_output(self.job_id, self.array_task_id, "out", timeout_s=timeout)

    def stderr(self, *, timeout: float | None = 60.0) -> str:
        """Return its standard error so far; the same as `stdout()` where both go to one file."""
        return self._client.read_output(self.job_id, self.array_task_id, "err", timeout_s=timeout)

    # ---- what may be done ------------------------------------------------------------------------------------

    def cancel(self) -> bool:
        """Ask for its end (TERM, after the grace KILL) and return whether it was not over yet.

        The future is done when the job's processes are gone, not before: `result()` then raises `CancelledError`.
        """
        if self.done():
            return False
        self._client.cancel([self])
        return True

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is over, `timeout` seconds at most; return whether it is."""
        return bool(concurrent.futures.wait([self], timeout).done)

    def wait_start(self, timeout: float | None = None) -> bool:
        """Wait until it has started (or is over), `timeout` seconds at most; return whether it has."""
        return self._begun.wait(timeout)

    # ---- the watcher's side ----------------------------------------------------------------------------------

    def take(self, view: Mapping[str, Any]) -> None:
        """Take in a change that the controller told."""
        self._view = view
        if self.state in STARTED:
            self._begun.set()

    def end(self, view: Mapping[str, Any]) -> None:
        """Take in its end and wake whoever waits."""
        if self.done():
            return
        if self._finish is None:
            view = self._client.bring_output(view)
        self._view = view
        self._begun.set()
        ending = Ending.of(view)
        if ending.state == "CANCELLED":
            super().cancel()
            self.set_running_or_notify_cancel()
            return
        try:
            result: object = ending
            if self._finish is not None:
                result = self._finish(self, ending)
            elif ending.state != "COMPLETED":
                raise failure_of(ending, self._last_words())
        except BaseException as error:
            self.set_exception(error)
        else:
            self.set_result(result)

    def _last_words(self) -> str:
        try:
            return self.stderr(timeout=10.0)[-4000:]
        except SshqError:
            return ""
