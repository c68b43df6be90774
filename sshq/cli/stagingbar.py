"""Taking files along, as a command does it: a bar on a terminal while it takes long, and one line of what was taken."""

import os
import sys
import time

from sshq.api.staging import stage_files

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

    def show(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._began < PATIENCE_S or now - self._shown < STEP_S:
            return
        self._shown, self._is_there = now, True
        filled = WIDTH * done // max(total, 1)
        sys.stderr.write(f"\rreading files [{'#' * filled}{' ' * (WIDTH - filled)}] {done >> 20} of {total >> 20} MiB ")
        sys.stderr.flush()

    def end(self) -> None:
        if self._is_there:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()


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
