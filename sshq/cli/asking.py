"""What every command does around a question to the controller: patience, and Slurm's words when nobody answers."""

import os

from sshq.errors import SshqError, UnreachableError
from sshq.wire.client import Client, LostReplyError, connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Object = dict[str, object]

# What Slurm puts before "Unable to contact slurm controller (connect failure)": some print the program, some the call.
UNREACHABLE_PREFIX = {
    "sbatch": "sbatch: error: Batch job submission failed: ",
    "srun": "srun: error: Unable to allocate resources: ",
    "salloc": "salloc: error: Job submit/allocate failed: ",
    "squeue": "slurm_load_jobs error: ",
    "sinfo": "slurm_load_partitions: ",
    "scontrol": "slurm_load_jobs error: ",
    "scancel": "scancel: error: ",
    "sacct": "sacct: error: ",
    "sstat": "slurm_load_jobs error: ",
    "sprio": "slurm_load_jobs error: ",
}


class NoAnswerError(UnreachableError):
    """Nobody answers a Slurm verb: Slurm's first line, then ours."""

    def __init__(self, cause: UnreachableError, prefix: str) -> None:
        super().__init__(cause.socket)
        self.detail, self.hint = cause.detail, cause.hint
        self._prefix = prefix

    def render(self, program: str) -> str:
        """Return the text for stderr, its first line as the Slurm command has it."""
        _, _, rest = super().render(program).partition("\n")
        return f"{self._prefix}{self.message}\n{rest}"


def open_controller(program: str) -> Client:
    """Return a connection for a Slurm verb; raise NoAnswerError in its words."""
    try:
        return connect(os.environ)
    except UnreachableError as error:
        raise NoAnswerError(error, UNREACHABLE_PREFIX[program]) from None


def ask_controller(program: str, method: str, params: "Mapping[str, object]", *, repeatable: bool = True) -> Object:
    """Ask one question for a Slurm verb; one that may be repeated is, when its answer is lost."""
    try:
        with open_controller(program) as client:
            return client.call(method, params)
    except LostReplyError as error:
        if not repeatable:
            raise NoAnswerError(error, UNREACHABLE_PREFIX[program]) from None
    return _ask_again(program, method, params)


def list_items(program: str, method: str, params: "Mapping[str, object]") -> tuple[list[Object], Object]:
    """Ask for a listing; return all items and the result."""
    try:
        with open_controller(program) as client:
            stream = client.stream(method, params)
            return list(stream), stream.result
    except LostReplyError as error:
        raise NoAnswerError(error, UNREACHABLE_PREFIX[program]) from None


def stream_items(program: str, method: str, params: "Mapping[str, object]") -> "Iterator[Object]":
    """Ask for a listing; yield each item as soon as it is here."""
    try:
        with open_controller(program) as client:
            yield from client.stream(method, params)
    except LostReplyError as error:
        raise NoAnswerError(error, UNREACHABLE_PREFIX[program]) from None


def _ask_again(program: str, method: str, params: "Mapping[str, object]", *, patience_s: float = 10.0) -> Object:
    # A controller that is being restarted is back in a second or two.
    import time

    ends_at = time.monotonic() + patience_s
    while True:
        time.sleep(0.2)
        try:
            with connect(os.environ) as client:
                return client.call(method, params)
        except UnreachableError as error:
            if time.monotonic() > ends_at:
                raise NoAnswerError(error, UNREACHABLE_PREFIX[program]) from None


def read_items(value: object) -> list[Object]:
    """Return the objects of a list in a reply; an empty list for anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def read_text(item: "Mapping[str, object]", key: str, default: str = "") -> str:
    """Return a text of a reply."""
    value = item.get(key)
    return default if value is None else str(value)


def read_int(item: "Mapping[str, object]", key: str, default: int = 0) -> int:
    """Return a number of a reply."""
    value = item.get(key)
    return value if isinstance(value, int) else default


def read_number(item: "Mapping[str, object]", key: str) -> float | None:
    """Return a number of a reply, None where it is absent."""
    value = item.get(key)
    return float(value) if isinstance(value, (int, float)) else None


def exit_worst(errors: list[SshqError]) -> int:
    """Return the status for several errors that were shown one by one."""
    return max((error.exit_code for error in errors), default=0)
