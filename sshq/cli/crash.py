"""Where the traceback of a bug goes: a file of the user's own, so that the terminal shows one line."""

import os
import time
import traceback

SIZE_MAX = 1 << 20


def record_crash(error: BaseException) -> str | None:
    """Append a traceback to the crash log and return its path; None if it cannot be written."""
    home = os.environ.get("SSHQ_HOME")
    directory = home or os.path.join(os.path.expanduser("~"), ".local/state/sshq")
    path = os.path.join(directory, "crash.log")
    text = "".join(traceback.format_exception(error))
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        if os.path.lexists(path) and os.lstat(path).st_size > SIZE_MAX:
            flags |= os.O_TRUNC
        file = os.open(path, flags, 0o600)
        with os.fdopen(file, "w", encoding="utf-8", errors="backslashreplace") as log:
            log.write(f"--- {time.strftime('%Y-%m-%dT%H:%M:%S%z')} pid {os.getpid()}\n{text}\n")
    except OSError:
        return None
    return path
