"""Taking files along, as a command does it: a bar on a terminal while it takes long, and one line of what was taken.

From another machine there are two: files are read, then what the head lacks is sent.
"""

import os
import time

from sshq.api.staging import stage_files
from sshq.cli.terminal import write_over

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sshq.slurm.submit import Submission
    from sshq.wire.client import Client

PATIENCE_S = 0.5  # before the bar is shown
STEP_S = 0.1
WIDTH = 30


class Bar:
    """One line that is written over."""

    def __init__(self) -> None:
        self._began = self._shown = time.monotonic()
        self._is_there = False

    def show(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._began < PATIENCE_S or now - self._shown < STEP_S:
            return
        self._shown, self._is_there = now, True
        filled = WIDTH * done // max(total, 1)
        write_over(f"{what} [{'#' * filled}{' ' * (WIDTH - filled)}] {done >> 20} of {total >> 20} MiB")

    def end(self) -> None:
        if self._is_there:
            write_over("")


def stage_with_bar(
    submission: "Submission", open_client: "Callable[[], Client]", environ: "Mapping[str, str]"
) -> "Sequence[str]":
    """Take the files along; returns what is to be said of it."""
    bar = Bar() if os.isatty(2) and not submission.quiet else None
    try:
        snapshot = stage_files(submission, open_client, environ, progress=bar.show if bar else None)
    finally:
        if bar:
            bar.end()
    return [f"{snapshot.files} files and directories go along, {snapshot.bytes} bytes ({snapshot.bytes_new} new)"]
