"""Staying until jobs are over, across restarts of the controller, and what their ends mean as an exit status."""

import time

from sshq.cli import here
from sshq.cli.asking import UNREACHABLE_PREFIX, NoAnswerError, read_int
from sshq.cli.printing import print_messages
from sshq.cli.stageline import StageLine
from sshq.errors import RefusedError, UnreachableError
from sshq.wire.client import connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PATIENCE_S = 60.0  # for a controller that is away; jobs run on without it
Job = dict[str, object]


def wait_for_jobs(
    program: str, job_ids: "Sequence[int]", environ: "Mapping[str, str]", *, unknown: list[int] | None = None
) -> "Iterator[Job]":
    """Yield the final view of each job (each task of an array) as soon as it is over and its output is home.

    Raises:
        NoAnswerError: the controller stayed away too long.

    """
    told: set[object] = set()
    ends_at: float | None = None
    line = StageLine(program)
    while True:
        try:
            with connect(environ) as client:
                if ends_at is not None:
                    print_messages([f"{program}: the controller is back"])
                    ends_at = None
                params: Job = {"ids": list(job_ids)} | ({"staging": "also"} if line.is_wanted else {})
                stream = client.stream("wait", params, timeout_s=None)
                for job in stream:
                    if line.take(job):
                        continue
                    line.clear()
                    key = job.get("job_id")
                    if key not in told:
                        told.add(key)
                        here.place.bring_home(program, job)
                        yield job
                missing = stream.result.get("unknown_ids")
                if unknown is not None and isinstance(missing, list):
                    unknown += [one for one in missing if isinstance(one, int)]
                return
        except RefusedError as error:
            if not line.is_wanted or "'staging'" not in error.message:
                raise
            line.is_wanted = False  # a controller of the release before, which does not tell of it
            continue
        except UnreachableError as error:
            line.clear()
            now = time.monotonic()
            if ends_at is None:
                ends_at = now + PATIENCE_S
                print_messages([f"{program}: the controller is away, waiting for it"])
            if now > ends_at:
                raise NoAnswerError(error, UNREACHABLE_PREFIX.get(program, f"{program}: error: ")) from None
        time.sleep(0.5)


def exit_status(job: "Mapping[str, object]") -> int:
    """Return what `sbatch --wait` exits with for one job: its exit code, 1 if a signal or sshq ended it.

    A job cancelled before it started counts as 0: seen with Slurm 22.05.
    """
    state = job.get("state")
    if state == "COMPLETED":
        return 0
    if state == "FAILED":
        return read_int(job, "exit_code") or 1
    if state == "CANCELLED":
        return 0 if job.get("start_at") is None else 1
    return 1
