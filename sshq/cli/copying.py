"""A job's output, copied to a file descriptor as it comes; for `srun` too, so it needs the standard library alone."""

import os
import time

from sshq.errors import UnreachableError
from sshq.wire.client import LostReplyError, connect

PATIENCE_S = 60.0  # while following, for a controller that is away


def copy_output(params: dict[str, object], out: int, *, follow: bool) -> dict[str, object]:
    """Copy a job's output to a file descriptor; once some of it is there, or while following, across restarts of the controller.

    It is asked again as well when the controller has hung up on us, since a pager that waits made us read nothing.

    Raises:
        UnreachableError: nobody answers, or not again in time.

    """
    offset = 0
    ends_at: float | None = None
    while True:
        try:
            with connect(os.environ) as client:
                stream = client.data("logs", params | {"offset": offset}, timeout_s=None if follow else 60.0)
                for count in stream.copy_to(out):
                    offset += count
                    ends_at = None
                return stream.result
        except UnreachableError as error:
            now = time.monotonic()
            begun = follow or offset > 0
            if not begun or (ends_at is None and not isinstance(error, LostReplyError)) or (ends_at and now > ends_at):
                raise
            ends_at = ends_at or now + PATIENCE_S
        time.sleep(0.3)
