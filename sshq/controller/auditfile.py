"""The audit file: one JSON line for every verb that changes something, who did it, and what came of it."""

import errno
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

from sshq.core.effects import Audit

log = logging.getLogger("sshq.audit")


class AuditFile:
    """Appends; a line is one write, so that two never mix.

    A line that cannot be written goes to the log: what it tells of is stored already, and a full disk must not keep
    anybody from cancelling.
    """

    def __init__(self, path: Path, *, enabled: bool, clock: Callable[[], float]) -> None:
        self._path = path
        self._enabled = enabled
        self._clock = clock
        self._sequence = 0
        self._torn = False  # the last line may have no end

    def write(self, effect: Audit) -> None:
        if not self._enabled:
            return
        self._sequence += 1
        line = {
            "at": round(self._clock(), 3),
            "seq": self._sequence,
            "uid": effect.uid,
            "verb": effect.verb,
            "target": effect.target,
            "result": effect.result,
            "detail": effect.detail,
        }
        text = json.dumps(line)
        try:
            self._append(("\n" if self._torn else "") + text + "\n")
            self._torn = False
        except OSError as error:
            self._torn = True
            log.error("not written to %s (%s): %s", self._path, error.strerror, text)  # noqa: TRY400  # no traceback: it is full

    def _append(self, text: str) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            data = text.encode()
            if os.write(fd, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(fd)
