"""The audit file: one JSON line for every verb that changes something, who did it, and what came of it."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from sshq.core.effects import Audit


class AuditFile:
    """Appends; a line is one write, so that two never mix."""

    def __init__(self, path: Path, *, enabled: bool, clock: Callable[[], float]) -> None:
        self._path = path
        self._enabled = enabled
        self._clock = clock
        self._sequence = 0

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
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(fd, (json.dumps(line) + "\n").encode())
        finally:
            os.close(fd)
