"""The controller's log: key=value lines, rotating, 0600; control characters of hosts and users are escaped."""

import logging
import logging.handlers
import os
import sys
from pathlib import Path

from sshq.inventory.config import Config


class EscapingFormatter(logging.Formatter):
    """Nobody's job name writes a second line or colours the admin's terminal."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if record.exc_info:
            return text  # our own traceback
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def start_logging(path: Path, config: Config, *, foreground: bool) -> None:
    """Log to `path`, and with `foreground` to stderr as well."""
    root = logging.getLogger()
    root.setLevel(config.log_level.upper())
    logging.raiseExceptions = False  # a full disk is no reason for a traceback a line
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    os.close(fd)
    formatter = EscapingFormatter("%(asctime)s.%(msecs)03d %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    rotating = logging.handlers.RotatingFileHandler(
        path, maxBytes=config.log_size_mib * 1024 * 1024, backupCount=config.log_files
    )
    handlers: list[logging.Handler] = [rotating]
    if foreground:
        handlers.append(logging.StreamHandler(sys.stderr))
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
    logging.getLogger("asyncssh").setLevel(logging.WARNING)
