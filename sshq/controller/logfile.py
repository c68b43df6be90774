"""The controller's log: key=value lines, rotating, 0600; control characters of hosts and users are escaped."""

import logging
import logging.handlers
import os
import sys
from pathlib import Path

from sshq.inventory.config import Config


class EscapingFormatter(logging.Formatter):
    """Nobody's job name writes a second line or colours the admin's terminal."""

    def __init__(self, layout: str, times: str) -> None:
        super().__init__(layout, times)
        self._second = (-1, "")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        """As the parent, but the words of a second are made once."""
        second = int(record.created)
        if second != self._second[0]:
            self._second = (second, super().formatTime(record, datefmt))
        return self._second[1]

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if record.exc_info or text.isprintable():  # our own traceback
            return text
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class RotatingLog(logging.handlers.RotatingFileHandler):
    """Rotates by the size of the file: the parent formats each line a second time to know it beforehand."""

    def shouldRollover(self, record: logging.LogRecord) -> int:  # noqa: ARG002, N802 - logging's name
        """Return whether the file is as large as it may be."""
        if self.stream is None:
            self.stream = self._open()
        return int(0 < self.maxBytes <= os.fstat(self.stream.fileno()).st_size)


def start_logging(path: Path, config: Config, *, foreground: bool) -> None:
    """Log to `path`, and with `foreground` to stderr as well."""
    root = logging.getLogger()
    root.setLevel(config.log_level.upper())
    # Nobody prints where in the source a line was logged, by which thread, task or process: not asked for, it costs nothing.
    logging._srcfile = None # noqa: SLF001 - as the manual of logging has it
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.raiseExceptions = False  # a full disk is no reason for a traceback a line
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    os.close(fd)
    formatter = EscapingFormatter("%(asctime)s.%(msecs)03d %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    rotating = RotatingLog(path, maxBytes=config.log_size_mib * 1024 * 1024, backupCount=config.log_files)
    handlers: list[logging.Handler] = [rotating]
    if foreground:
        handlers.append(logging.StreamHandler(sys.stderr))
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
    logging.getLogger("asyncssh").setLevel(logging.WARNING)
