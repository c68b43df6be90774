"""What is printed steers no terminal: control characters of names, comments and hosts' words are shown, not sent.

Everything a command writes as text goes through here; only bytes that were asked for as they are (a job's output, a
script) are written past it.  Kept as they are: newline and tab, which lines and tables are made of.
"""

import os
import sys

TYPE_CHECKING = False  # `typing` alone would cost each command 5 ms
if TYPE_CHECKING:
    from typing import TextIO

# C0 and C1 controls, and the marks by which text is shown in another order than it stands.
_STEERING = (*range(0x20), *range(0x7F, 0xA0), 0x061C, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029)
_SHOWN = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _STEERING if chr(code) not in "\n\t"}


def show_controls(text: str) -> str:
    """Return the text with every steering character as its escape."""
    return text.translate(_SHOWN)


def show_controls_in_json(text: str) -> str:
    """Return a JSON text of the same meaning without steering characters; the only ones JSON leaves are in its strings."""
    return text.translate({code: f"\\u{code:04x}" for code in _SHOWN})


def guard_streams() -> None:
    """Let stdout and stderr show what would steer the terminal."""
    for stream in (sys.stdout, sys.stderr):
        if not getattr(stream, "shows_controls", False):
            _guard(stream)


def write_over(text: str) -> None:
    """Show a text of one line on the terminal that stderr is, in place of the one before it; "" takes that away.

    Raises nothing: a terminal that is gone shows nothing.
    """
    try:
        columns = max(20, os.get_terminal_size(2).columns)
    except OSError:
        columns = 80
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.write(2, f"\r{show_controls(text)[: columns - 1]}\033[K".encode("utf-8", "backslashreplace"))
    except OSError:
        pass


def _guard(stream: "TextIO") -> None:
    write = stream.write

    def write_shown(text: str) -> int:
        return write(show_controls(text))

    stream.write = write_shown  # type: ignore[method-assign]
    stream.shows_controls = True  # type: ignore[attr-defined]
