"""Room put aside, so that a full disk stops new work and not the work that is under way.

A file of 16 MiB lies beside the store.  A commit that finds the disk full deletes it and tries once more;
from then on submissions are refused, while cancels and ends of jobs still fit, until there is room to put
it back.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

SIZE: Final = 16 << 20


class Reserve:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / "reserve"

    @property
    def filled(self) -> bool:
        try:
            return self._path.stat().st_size >= SIZE
        except OSError:
            return False

    def fill(self) -> None:
        """Put the room aside; where there is none, leave nothing behind."""
        if self.filled:
            return
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                os.posix_fallocate(handle, 0, SIZE)
            finally:
                os.close(handle)
        except OSError:
            self.release()

    def release(self) -> bool:
        """Give the room back.  False where there was nothing to give."""
        filled = self.filled
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        return filled

    def short(self) -> bool:
        """Whether new submissions must be refused: nothing put aside, or less than the same again free."""
        try:
            found = os.statvfs(self._directory)
        except OSError:
            return True
        free = found.f_bavail * found.f_frsize
        if not self.filled and free >= 2 * SIZE:
            self.fill()
            free -= SIZE
        return not self.filled or free < SIZE
