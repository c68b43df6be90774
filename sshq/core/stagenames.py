"""Names of files that are staged out: what a pattern may be, and what a name from a node must be before it means a file here.

Pure; both sides of the socket ask it, and the bringer of outputs for each name that a node says.
"""

from typing import Final

PATTERN_BYTES_MAX: Final = 4096
NAME_BYTES_MAX: Final = 255
PATH_BYTES_MAX: Final = 4095
DEPTH_MAX: Final = 200
PATTERNS_MAX: Final = 256


def check_pattern(text: str) -> str:
    """Return a pattern of `--stage-out` in its short form: `./out//*.csv` is `out/*.csv`, `.` and `./` are `./`.

    Raises:
        ValueError: what is wrong with it.
    """
    if not text or "\0" in text or "\n" in text:
        raise ValueError("it is empty, or holds a NUL byte or a line's end")
    if len(text.encode("utf-8", "surrogateescape")) > PATTERN_BYTES_MAX:
        raise ValueError(f"it is longer than {PATTERN_BYTES_MAX} bytes")
    if text.startswith("/"):
        raise ValueError("it is absolute")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError("`..` leads out of the job's directory")
    if any("**" in part for part in parts):
        raise ValueError("`**` is not known; a directory comes whole: results/")
    if not parts:
        return "./"
    return "/".join(parts) + ("/" if text.endswith(("/", "/.")) else "")


def split_name(name: bytes) -> tuple[bytes, ...] | None:
    """Return the parts of a relative path that a node names, None if it must not mean anything here.

    A part is a plain name: neither empty nor `.` nor `..`, without slash, NUL and line's end, at most 255 bytes.
    """
    parts = tuple(name.split(b"/"))
    if len(name) > PATH_BYTES_MAX or len(parts) > DEPTH_MAX:
        return None
    for part in parts:
        if part in (b"", b".", b"..") or len(part) > NAME_BYTES_MAX or b"\0" in part or b"\n" in part:
            return None
    return parts


def show_name(name: bytes) -> str:
    """Return a node's name for people: one line, nothing that steers a terminal, at most 80 characters."""
    text = name.decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= 80 else f"{text[:77]}..."
