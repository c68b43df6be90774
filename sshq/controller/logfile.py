"""The controller's log: key=value lines, rotating, 0600; control characters of hosts and users are escaped."""

import logging
import logging.handlers
import os
import sys
from io import TextIOWrapper
from pathlib import Path

from sshq.inventory.config import Config

TIMES = "%Y-%m-%dT%H:%M:%S"


class Lines:
    """Several lines of one moment as the message of one record: each is a line of the log, for a third of what a record costs."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def __str__(self) -> str:
        return "\n".join(self.texts)


class EscapingFormatter(logging.Formatter):
    """Nobody's job name writes a second line or colours the admin's terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._second = (-1, "")

    def format(self, record: logging.LogRecord) -> str:
        """Put a line together by itself, which takes half of what the parent does; the words of a second are made once."""
        second = int(record.created)
        if second != self._second[0]:
            self._second = (second, self.formatTime(record, TIMES))
        head = f"{self._second[1]}.{int(record.msecs):03d} {record.levelname} {record.name} "
        if isinstance(record.msg, Lines):
            return "\n".join([_escape(head + text) for text in record.msg.texts])
        text = head + record.getMessage()
        if record.exc_info:
            return f"{text}\n{self.formatException(record.exc_info)}"  # our own traceback
        return _escape(text)


def _escape(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class RotatingLog(logging.handlers.RotatingFileHandler):
    """Writes a line by one call of the system, and rotates by the size of the file, which it counts."""

    _size = 0

    def _open(self) -> TextIOWrapper:
        stream = super()._open()
        self._size = os.fstat(stream.fileno()).st_size
        return stream

    def emit(self, record: logging.LogRecord) -> None:
        """As the parent, which formats each line twice and passes it through three buffers."""
        try:
            line = f"{self.format(record)}\n".encode("utf-8", "backslashreplace")
            if 0 < self.maxBytes <= self._size:
                self.doRollover()
            if self.stream is None:
                self.stream = self._open()
            self._size += os.write(self.stream.fileno(), line)
        except Exception:
            self.handleError(record)


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
    formatter = EscapingFormatter()
    rotating = RotatingLog(path, maxBytes=config.log_size_mib * 1024 * 1024, backupCount=config.log_files)
    handlers: list[logging.Handler] = [rotating]
    if foreground:
        handlers.append(logging.StreamHandler(sys.stderr))
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
    logging.getLogger("asyncssh").setLevel(logging.WARNING)
