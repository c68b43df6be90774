"""A job as it goes on: each change of its state, pushed by the controller, across its restarts."""

import os
import time

from sshq.cli.asking import UNREACHABLE_PREFIX, NoAnswerError, Object
from sshq.cli.printing import print_messages
from sshq.errors import RefusedError, UnreachableError
from sshq.wire.client import connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 60.0  # for a controller that is away; jobs run on without it
FINAL = frozenset(
    ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "DEADLINE", "BOOT_FAIL")
)  # fmt: skip


def follow_job(program: str, job_id: int, *, patience_s: float | None = PATIENCE_S) -> "Iterator[Object]":
    """Yield a job as it is, then at each change, until it is over.

    Args:
        program: in whose words it is said that the controller is away.
        job_id: a job of its own, no array.
        patience_s: how long the controller may be away; None: as long as it takes.

    Raises:
        NoAnswerError: the controller stayed away too long.
        RefusedError: it does not know the job.

    """
    ends_at: float | None = None
    told = False
    while True:
        try:
            with connect(os.environ) as client:
                ends_at = None
                if told:
                    print_messages([f"{program}: the controller is back"])
                    told = False
                yield from client.stream("follow_job", {"ref": [job_id, None]}, timeout_s=None)
                return
        except UnreachableError as error:
            now = time.monotonic()
            if ends_at is None:
                ends_at = now + (patience_s or 0)
            elif not told and now > ends_at - (patience_s or 0) + 2:
                print_messages([f"{program}: the controller is away, waiting for it"])
                told = True
            if patience_s is not None and now > ends_at:
                raise NoAnswerError(error, UNREACHABLE_PREFIX[program]) from None
        except RefusedError as error:
            if error.code != "not_now":
                raise
        time.sleep(0.3)


def ask_patiently(method: str, params: Object, *, patience_s: float = PATIENCE_S, timeout_s: float | None = 60.0) -> Object:
    """Ask what may be repeated, until it is answered; a host or controller that is away is waited for.

    Raises:
        RefusedError: refused for good, or the host stayed away.
        UnreachableError: the controller stayed away.

    """
    ends_at = time.monotonic() + patience_s
    while True:
        try:
            with connect(os.environ) as client:
                return client.call(method, params, timeout_s=timeout_s)
        except UnreachableError:
            if time.monotonic() > ends_at:
                raise
        except RefusedError as error:
            if error.code not in ("internal", "not_now") or time.monotonic() > ends_at:
                raise
        time.sleep(0.2)


def is_over(job: Object) -> bool:
    """Return whether a job will not go on: ended, or being cancelled."""
    return job.get("state") in FINAL
