"""From another machine: what `--stage-out` names, once a job is over, in the directory on the head that stands for ours.

They lie there whether they were brought home from a private directory or written there by a job whose host shares it; so they are
found by the patterns, not by what was copied.
"""

import os
from fnmatch import fnmatchcase

from sshq.api.away import bring_output, list_files, to_head, to_here
from sshq.slurm.views import ENDED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from sshq.wire.headssh import Head


Left = tuple[str, str, int, int]  # path on the head, path here, size in bytes, time in ns


def list_left(head: "Head", folder: str, below: str = "") -> "list[Left]":
    """Return what lies in the directory that stands for one of ours, or below it; nothing where there is none.

    Raises:
        OSError: it cannot be read.
        UnreachableError: the head was lost.

    """
    top = os.path.join(folder, below) if below else folder
    there = to_head(head, folder) + (f"/{below}" if below else "")
    try:
        files = list_files(head, there)
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = []
    for name, size, mtime_ns in files:
        if name.startswith("/") or any(part.startswith(".") for part in name.split("/")):
            continue  # no relay of ours says so
        found.append((f"{there}/{name}", os.path.join(top, name), size, mtime_ns))
    return found


def list_staged(head: "Head", view: "Mapping[str, Any]") -> "list[Left]":
    """Return the files that the patterns of a job that is over name; nothing if it was not submitted from this machine.

    Raises:
        OSError: they cannot be listed.
        UnreachableError: the head was lost.

    """
    patterns, work_dir = view.get("stage_out"), view.get("work_dir")
    folder = to_here(head, work_dir) if patterns and isinstance(work_dir, str) else None
    if folder is None or not isinstance(patterns, list) or view.get("state") not in ENDED or view.get("completing"):
        return []
    split = [[part for part in str(pattern).split("/") if part not in ("", ".")] for pattern in patterns]
    found: dict[str, Left] = {}
    for place in sorted({_find_place(parts) for parts in split}):
        for left in list_left(head, folder, place):
            if matches(os.path.relpath(left[1], folder).split("/"), split):
                found[left[1]] = left
    return list(found.values())


def _find_place(parts: "list[str]") -> str:
    """Return the directory below which all lies that a pattern can mean."""
    plain = []
    for part in parts[:-1]:
        if any(letter in part for letter in "*?[\\") or part.startswith("."):
            break
        plain.append(part)
    return "/".join(plain)


def matches(name: "list[str]", patterns: "Iterable[list[str]]") -> bool:
    """Return whether one of some patterns means a file, or a directory that it is in, as a shell would have it."""
    return any(len(parts) <= len(name) and all(map(_is_one, name, parts)) for parts in patterns)


def _is_one(name: str, pattern: str) -> bool:
    return fnmatchcase(name, "".join([_ESCAPE.get(word, word) for word in _split_escapes(pattern)]))


_ESCAPE = {"\\*": "[*]", "\\?": "[?]", "\\[": "[[]", "[^": "[!"}  # to a shell; to fnmatch


def _split_escapes(pattern: str) -> "Iterator[str]":
    at = 0
    while at < len(pattern):
        if pattern[at] == "\\" and at + 1 < len(pattern):
            yield pattern[at : at + 2] if pattern[at + 1] in "*?[" else pattern[at + 1]
            at += 2
        elif pattern.startswith("[^", at):
            yield "[^"
            at += 2
        else:
            yield pattern[at]
            at += 1


def is_newer_here(left: "Left") -> bool:
    """Return whether what is here is younger than what lies there: then it stays."""
    try:
        return os.stat(left[1]).st_mtime_ns > left[3]
    except OSError:
        return False


def bring_staged(head: "Head", view: "Mapping[str, Any]") -> None:
    """Bring the files of a job that is over here, but for what is newer here.

    Raises:
        OSError: one cannot be read there, or written here.
        UnreachableError: the head was lost.
        UserError: a place is none for files from there.

    """
    for left in list_staged(head, view):
        if not is_newer_here(left):
            os.makedirs(os.path.dirname(left[1]), exist_ok=True)
            bring_output(head, left[0], left[1])
