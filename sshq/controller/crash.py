"""Named crash points: `SSHQ_CRASH=point` or `point:N` ends the process with SIGKILL the first or Nth time it gets there.

For tests of what survives; without the variable a point costs one call of an empty function.
"""

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

# Every point in the code; a test checks that this list and the calls agree.
POINTS = (
    "submit.before_commit",
    "submit.after_commit",
    "mailbox.before_commit",
    "mailbox.after_commit",
    "store.before_commit",
    "store.after_commit",
    "hosts.before_send",
    "hosts.after_send",
    "hosts.started",
    "hosts.ended",
    "hosts.before_ack",
    "fleet.before_swap",
    "fleet.after_swap",
)


def crash_hook(wanted: str, state_dir: Path) -> Callable[[str], None]:
    """Return the function the named points call.  A file `crashed` in the state directory says that it was reached."""
    if not wanted:
        return _go_on
    point, _, count = wanted.partition(":")
    if point not in POINTS:
        raise ValueError(f"no such crash point: {point}")
    left = Counter({point: int(count or 1)})

    def maybe_crash(name: str) -> None:
        if name != point:
            return
        left[name] -= 1
        if left[name] == 0:
            (state_dir / "crashed").write_text(f"{point}\n")
            os.kill(os.getpid(), signal.SIGKILL)

    return maybe_crash


def _go_on(_name: str) -> None:
    """Nothing is to crash."""
