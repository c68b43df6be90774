"""One controller a state directory: a lock the kernel lets go of when its holder dies."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from sshq.errors import ControllerError


@contextlib.contextmanager
def take_lock(path: Path) -> Iterator[None]:
    """Hold the lock for as long as the block runs.

    Raises:
        ControllerError: another process holds it (the message names its pid), or it cannot be made.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ControllerError(
            f"the state directory {path.parent} cannot be written to: {error.strerror}", hint="sshq up --state DIR"
        ) from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise ControllerError(
                f"a controller is already running here: pid {holder}",
                detail=(f"it holds {path}",),
                hint="sshq status, or sshq down to stop it (jobs run on)",
            ) from None
        with contextlib.suppress(OSError):  # a full disk: the lock is held, only its holder's name is missing
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)
