"""Which files a tree leaves out: the rules of .gitignore, as git reads them, and of .sshqignore, which are the same and stronger.

Pure: names are bytes, as the file system has them.
"""

import re
from collections.abc import Iterable
from typing import Final

GITS, OURS = b".gitignore", b".sshqignore"
FILES: Final = (GITS, OURS)  # of one directory, the weaker first

_CLASSES: Final = {
    b"alnum": b"0-9A-Za-z", b"alpha": b"A-Za-z", b"blank": b" \\t", b"cntrl": b"\\x00-\\x1f\\x7f", b"digit": b"0-9",
    b"graph": b"\\x21-\\x7e", b"lower": b"a-z", b"print": b"\\x20-\\x7e", b"punct": b"!-/:-@\\[-`{-~", b"space": b" \\t-\\r",
    b"upper": b"A-Z", b"xdigit": b"0-9A-Fa-f",
}  # fmt: skip
_NOTHING: Final = b"(?!)"


class Rule:
    """One line: what it matches, whether it takes back what an earlier one left out, and whether it is git's."""

    __slots__ = ("anchored", "directories_only", "git", "matches", "negated")

    def __init__(self, pattern: bytes, *, git: bool) -> None:
        self.git = git
        self.negated = pattern.startswith(b"!")
        pattern = pattern.removeprefix(b"!")
        self.directories_only = pattern.endswith(b"/")
        if self.directories_only:
            pattern = pattern[:-1]
        self.anchored = b"/" in pattern
        text = pattern.removeprefix(b"/")
        self.matches = re.compile(_translate(text, paths=self.anchored), re.DOTALL).fullmatch


class Rules:
    """The lines of one directory's files, in their order; `below` is its path in the tree with a slash, b"" for the top."""

    __slots__ = ("_rules", "below")

    def __init__(self, below: bytes, texts: Iterable[tuple[bytes, bytes]]) -> None:
        self.below = below
        self._rules = [Rule(line, git=name != OURS) for name, text in texts for line in _read_lines(text)]

    def __bool__(self) -> bool:
        return bool(self._rules)

    def judge(self, path: bytes, *, is_dir: bool, tracked: bool = False) -> Rule | None:
        """Return the line that decides of a path below the directory: the last that speaks of it, None if none does.

        What git tracks, no line of git's leaves out.
        """
        relative = path[len(self.below) :]
        name = path.rpartition(b"/")[2]
        for rule in reversed(self._rules):
            if tracked and rule.git and not rule.negated:
                continue
            if (is_dir or not rule.directories_only) and rule.matches(relative if rule.anchored else name):
                return rule
        return None


def find_rule(levels: Iterable[Rules], path: bytes, *, is_dir: bool, tracked: bool = False) -> Rule | None:
    """Return the line that leaves a path out, of the rules of the directories above it, given innermost first; None: it is taken.

    What lies in a directory that is left out is not asked for: nothing brings it back.
    """
    for rules in levels:
        rule = rules.judge(path, is_dir=is_dir, tracked=tracked)
        if rule is not None:
            return None if rule.negated else rule
    return None


def _read_lines(text: bytes) -> Iterable[bytes]:
    for line in text.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        if line.startswith(b"#"):
            continue
        pattern = _strip_blanks(line.removesuffix(b"\r"))
        if pattern not in (b"", b"!", b"/", b"!/"):
            yield pattern


def _strip_blanks(line: bytes) -> bytes:
    """Drop blanks at the end, unless a backslash stands before them."""
    end = at = 0
    while at < len(line):
        if line[at : at + 1] == b"\\":
            at += 2
            end = min(at, len(line))
        else:
            at += 1
            end = end if line[at - 1 : at] == b" " else at
    return line[:end]


def _translate(pattern: bytes, *, paths: bool) -> bytes:
    """Return a regular expression; in `paths`, `*` stays within a name and `**` between slashes does not."""
    out, at, size = [], 0, len(pattern)
    begins = re.search(rb"[*?\[\\]|$", pattern)  # git compares what stands before it by itself: there `**` stands at a beginning
    start = begins.start() if begins else 0
    one = b"[^/]" if paths else b"."
    while at < size:
        char = pattern[at : at + 1]
        if char == b"*":
            end = at
            while pattern[end : end + 1] == b"*":
                end += 1
            before, after = at == start or pattern[at - 1 : at] == b"/", pattern[end : end + 1]
            if not paths or end - at < 2 or not before or after not in (b"", b"/"):
                out.append(one + b"*")
                at = end
            elif after:  # "**/" is any number of directories, none too
                out.append(b"(?:.*/)?")
                at = end + 1
            else:
                out.append(b".*")
                at = end
        elif char == b"?":
            out.append(one)
            at += 1
        elif char == b"[":
            expression, at = _translate_set(pattern, at + 1, paths=paths)
            out.append(expression)
        elif char == b"\\":
            if at + 1 == size:
                return _NOTHING
            out.append(re.escape(pattern[at + 1 : at + 2]))
            at += 2
        else:
            out.append(re.escape(char))
            at += 1
    return b"".join(out)


def _translate_set(pattern: bytes, at: int, *, paths: bool) -> tuple[bytes, int]:
    """Return the expression of what stands in brackets and where it ends; one that is never closed matches nothing."""
    size = len(pattern)
    negated = pattern[at : at + 1] in (b"!", b"^")
    at += negated
    chosen: list[bytes] = []
    low: int | None = None  # what a `-` would begin a range from
    first = True
    while at < size and (first or pattern[at : at + 1] != b"]"):
        first = False
        char = pattern[at : at + 1]
        if char == b"[" and pattern[at + 1 : at + 2] == b":":
            end = pattern.find(b"]", at + 2)
            if end < 0:
                return _NOTHING, size
            if end > at + 2 and pattern[end - 1 : end] == b":":
                name = pattern[at + 2 : end - 1]
                if name not in _CLASSES:
                    return _NOTHING, size
                chosen.append(_CLASSES[name])
                low, at = None, end + 1
                continue
        if char == b"-" and low is not None and at + 1 < size and pattern[at + 1 : at + 2] != b"]":
            at += 1
            if pattern[at : at + 1] == b"\\":
                at += 1
                if at == size:
                    return _NOTHING, size
            if low <= pattern[at]:
                chosen.append(_byte(low) + b"-" + _byte(pattern[at]))
            low, at = None, at + 1
            continue
        if char == b"\\":
            at += 1
            if at == size:
                return _NOTHING, size
        low = pattern[at]
        chosen.append(_byte(low))
        at += 1
    if at >= size:
        return _NOTHING, size
    members = b"".join(chosen)
    slash = b"(?!/)" if paths else b""
    if not members:
        return (slash + b"." if negated else _NOTHING), at + 1
    return slash + b"[" + (b"^" if negated else b"") + members + b"]", at + 1


def _byte(value: int) -> bytes:
    return b"\\x%02x" % value
