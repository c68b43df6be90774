"""What a tree holds: regular files, directories, symbolic links that stay inside it.

Nothing else is taken, and nothing that was asked for is passed over in silence.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from sshq.errors import OptionError
from sshq.tree.gitindex import Tracked
from sshq.tree.ignore import FILES, Rule, Rules, find_rule

SHOWN_MAX: Final = 8  # names of one error
_RULES_BYTES_MAX: Final = 1 << 20
GIT: Final = b".git"
_KINDS: Final = (
    (stat.S_ISFIFO, "is a FIFO"), (stat.S_ISSOCK, "is a socket"), (stat.S_ISBLK, "is a block device"),
    (stat.S_ISCHR, "is a character device"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One member: where it stands in the tree, where it is now, and what it was when it was looked at."""

    path: bytes
    source: bytes
    mode: int  # type and permissions
    size: int
    mtime_ns: int
    ctime_ns: int
    ino: int
    dev: int
    target: bytes = b""  # of a symbolic link

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)


class _Findings:
    """What cannot be taken along; told all at once."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, path: bytes, what: str) -> None:
        self.lines.append(f"{show(path)} {what}")

    def raise_any(self, option: str) -> None:
        if not self.lines:
            return
        shown = self.lines[:SHOWN_MAX]
        if len(self.lines) > SHOWN_MAX:
            shown.append(f"… and {len(self.lines) - SHOWN_MAX} more")
        count = "one of its members" if len(self.lines) == 1 else f"{len(self.lines)} of its members"
        hint = "name them in .sshqignore, or copy what they lead to into the directory" if option == "--sync" else None
        raise OptionError(f"{option}: {count} cannot be taken along", detail=tuple(shown), source=option, hint=hint)


def walk_sync(top: bytes) -> list[Entry]:
    """Return all that a directory holds but what its ignore files leave out, in canonical order.

    What git tracks travels also where .gitignore names it, as it is a part of the repository to git; .sshqignore leaves it out.

    Raises:
        OptionError: what cannot be read, leads out of it, or is neither file, directory nor symbolic link.
    """
    if not os.path.isdir(top):
        raise OptionError(f"--sync: {show(top)} is not a directory", source="--sync")
    findings = _Findings()
    top = os.path.realpath(top)
    entries = list(_walk(top, b"", top, _outer_rules(top), findings, sieve=_Sieve(_outer_index(top))))
    findings.raise_any("--sync")
    return sorted(entries, key=_order)


def find_below(top: bytes, home: bytes) -> tuple[bytes, bytes]:
    """Return the directory that places in the tree are told from, and the way from there to the working directory.

    They are the top of `--sync` if the working directory is below it, else that one itself.
    """
    real_top, real_home = os.path.realpath(top), os.path.realpath(home)
    if os.path.isdir(real_home) and real_home.startswith(real_top.rstrip(b"/") + b"/"):
        return real_top, os.path.relpath(real_home, real_top)
    return real_home, b""


def way_to(below: bytes, top: bytes) -> list[Entry]:
    """Return the directories that lead to one in the tree, and itself."""
    return list(_parents(below + b"/", top, top)) if below else []


def walk_files(paths: Iterable[bytes], home: bytes, *, top: bytes | None = None, below: bytes = b"") -> list[Entry]:
    """Return what `--stage-in` names: what lies below `top` keeps its place there, all else comes to `below` under its last name.

    Paths begin at `home`, which is `below` in the tree; without `top`, the tree is that of `home` itself.  Directories come
    whole, and ignore files say nothing here: it was asked for by name.

    Raises:
        OptionError: as for `walk_sync`; and for two that would have one place.
    """
    findings, places = _Findings(), dict[bytes, Entry]()
    home = os.path.realpath(home)
    base = home if top is None else top
    for given in paths:
        place = _place_of(given, home, base, below)
        full = os.path.join(home, given)
        try:
            found = os.stat(full)
        except OSError as error:
            raise OptionError(f"--stage-in: {show(given)}: {error.strerror}", source="--stage-in") from None
        real = os.path.realpath(full)
        made = [_make_entry(place, real, found)] if place else []
        if stat.S_ISDIR(found.st_mode):
            made += _walk(real, place, real, [], findings)
        elif not stat.S_ISREG(found.st_mode):
            findings.add(given, _name_kind(found.st_mode))
        for entry in (*_parents(place, base, real), *made):
            before = places.setdefault(entry.path, entry)
            if before.source != entry.source and not (before.is_dir and entry.is_dir):
                raise OptionError(
                    f"--stage-in: two would be {show(entry.path)} in the job's directory", source="--stage-in",
                    detail=(show(before.source), show(entry.source)),
                )  # fmt: skip
    findings.raise_any("--stage-in")
    return sorted(places.values(), key=_order)


def merge(sync: list[Entry], files: list[Entry]) -> list[Entry]:
    """Return both together; what was named is there whatever the ignore files say."""
    places = {entry.path: entry for entry in sync}
    for entry in files:
        before = places.setdefault(entry.path, entry)
        if before.source != entry.source and not (before.is_dir and entry.is_dir):
            raise OptionError(
                f"--stage-in: {show(entry.path)} is in the tree of --sync already", source="--stage-in",
                detail=(show(before.source), show(entry.source)),
            )  # fmt: skip
    for path in list(places):
        parent = path.rpartition(b"/")[0]
        if parent and parent in places and not places[parent].is_dir:
            raise OptionError(f"--stage-in: {show(parent)} is no directory in the tree of --sync", source="--stage-in")
    return sorted(places.values(), key=_order)


def show(path: bytes) -> str:
    """Return a name for people: one line, nothing that steers a terminal."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _order(entry: Entry) -> tuple[bytes, ...]:
    return tuple(entry.path.split(b"/"))


def _walk(
    directory: bytes, below: bytes, top: bytes, outer: list[Rules], findings: _Findings, *, sieve: "_Sieve | None" = None
) -> Iterator[Entry]:
    """Yield what lies in a directory, depth first; without recursion, for a tree may be deeper than Python's stack."""
    levels = [_list(directory, below, top, outer, findings, sieve=sieve)]
    while levels:
        for entry, inner in levels[-1]:
            yield entry
            if inner is not None:
                levels.append(inner)
                break
        else:
            levels.pop()


_Listing = Iterator[tuple[Entry, "_Listing | None"]]


def _list(
    directory: bytes, below: bytes, top: bytes, outer: list[Rules], findings: _Findings, *, sieve: "_Sieve | None"
) -> _Listing:
    """Yield the members of one directory, each with the listing of what it holds if it is one itself."""
    try:
        with os.scandir(directory) as found:
            names = sorted(found, key=lambda one: one.name)
    except OSError as error:
        findings.add(directory, f"cannot be read: {error.strerror}")
        return
    prefix = below + b"/" if below else b""
    levels = [_read_rules(directory, prefix, names), *outer] if sieve else []
    if sieve and prefix and any(one.name == GIT for one in names):
        sieve = sieve.enter(os.path.join(directory, GIT), prefix)
    for one in names:
        path, inner = prefix + one.name, sieve
        if sieve and one.name == GIT:
            continue
        try:
            is_dir = one.is_dir(follow_symlinks=False)
            if sieve and (inner := sieve.judge(levels, path, is_dir=is_dir)) is None:
                continue
            looked = one.stat(follow_symlinks=False)
            target = os.readlink(one.path) if stat.S_ISLNK(looked.st_mode) else b""
        except OSError as error:
            findings.add(path, f"cannot be read: {error.strerror}")
            continue
        if target and (why := _leads_out(directory, target, top)):
            findings.add(path, why)
        elif is_dir:
            yield _make_entry(path, one.path, looked), _list(one.path, path, top, levels, findings, sieve=inner)
        elif stat.S_ISREG(looked.st_mode) or target:
            yield _make_entry(path, one.path, looked, target), None
        else:
            findings.add(path, _name_kind(looked.st_mode))


class _Sieve:
    """What of a directory is taken: all that no rule leaves out, or, in one that git's rules leave out, what git tracks."""

    __slots__ = ("_index", "_only_tracked")

    def __init__(self, index: Tracked | None, *, only_tracked: bool = False) -> None:
        self._index = index
        self._only_tracked = only_tracked

    def enter(self, git: bytes, prefix: bytes) -> "_Sieve":
        """Return the sieve of a repository in the tree."""
        return _Sieve(Tracked(git, below=prefix), only_tracked=self._only_tracked)

    def judge(self, levels: list[Rules], path: bytes, *, is_dir: bool) -> "_Sieve | None":
        """Return None for what is left out, else the sieve for what it holds."""
        rule: Rule | None = None
        if not self._only_tracked:
            rule = find_rule(levels, path, is_dir=is_dir)
            if rule is None:
                return self
            if not rule.git:
                return None
        if self._index is None or not self._index.holds(path, is_dir=is_dir):
            return None
        if find_rule(levels, path, is_dir=is_dir, tracked=True) is not None:
            return None
        return self if self._only_tracked else _Sieve(self._index, only_tracked=True)


def _make_entry(path: bytes, source: bytes, found: os.stat_result, target: bytes = b"") -> Entry:
    return Entry(
        path, source, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev, target
    )


def _read_rules(directory: bytes, prefix: bytes, names: list["os.DirEntry[bytes]"]) -> Rules:
    present = {one.name for one in names if one.name in FILES and one.is_file(follow_symlinks=False)}
    return Rules(prefix, [(name, _read_text(os.path.join(directory, name))) for name in FILES if name in present])


def _read_text(path: bytes) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_RULES_BYTES_MAX)
    except OSError as error:
        raise OptionError(f"{show(path)}: {error.strerror}", source="--sync") from None


def _outer_rules(top: bytes) -> list[Rules]:
    """Return the rules of the repository that the directory is a part of, innermost first.

    They are anchored where they stand, so each is asked for paths as seen from there: `_Outer` puts the way down before them.
    """
    levels: list[Rules] = []
    directory, way = top, b""
    while True:
        paths = [(name, os.path.join(directory, name)) for name in FILES] if directory != top else []
        texts = [(name, _read_text(path)) for name, path in paths if os.path.isfile(path)]
        inside = os.path.exists(os.path.join(directory, GIT))
        exclude = os.path.join(directory, GIT, b"info", b"exclude")
        if texts:
            levels.append(_Outer(way, texts))
        if inside:
            if os.path.isfile(exclude):
                levels.append(_Outer(way, [(b"exclude", _read_text(exclude))]))
            return levels
        parent = os.path.dirname(directory)
        if parent == directory:
            return []  # no repository: what stands above is nobody's business
        way = os.path.basename(directory) + (b"/" + way if way else b"")
        directory = parent


class _Outer(Rules):
    """Rules of a directory above the tree; `way` leads from there to its top."""

    __slots__ = ("_way",)

    def __init__(self, way: bytes, texts: Iterable[tuple[bytes, bytes]]) -> None:
        super().__init__(b"", texts)
        self._way = way + b"/" if way else b""

    def judge(self, path: bytes, *, is_dir: bool, tracked: bool = False) -> Rule | None:
        return super().judge(self._way + path, is_dir=is_dir, tracked=tracked)


def _outer_index(top: bytes) -> Tracked | None:
    """Return what the repository tracks that the directory is, or is a part of."""
    directory, way = top, b""
    while not os.path.lexists(git := os.path.join(directory, GIT)):
        parent = os.path.dirname(directory)
        if parent == directory:
            return None
        way = os.path.basename(directory) + (b"/" + way if way else b"")
        directory = parent
    return Tracked(git, way=way)


def _leads_out(directory: bytes, target: bytes, top: bytes) -> str:
    """Say what is wrong with a symbolic link; one that leads nowhere, but not out, is kept as it is."""
    if target.startswith(b"/"):
        return f"is a symbolic link to an absolute path, {show(target)}"
    depth = len([part for part in os.path.relpath(directory, top).split(b"/") if part != b"."])
    for part in target.split(b"/"):
        depth += 0 if part in (b"", b".") else -1 if part == b".." else 1
        if depth < 0:
            return f"is a symbolic link that leads out of the tree, to {show(target)}"
    real = os.path.realpath(os.path.join(directory, target))
    if real != top and not real.startswith(top.rstrip(b"/") + b"/"):
        return f"is a symbolic link that leads out of the tree, to {show(real)}"
    return ""


def _name_kind(mode: int) -> str:
    return next((text for is_kind, text in _KINDS if is_kind(mode)), "is no file, directory or symbolic link")


def _place_of(given: bytes, home: bytes, top: bytes, below: bytes) -> bytes:
    """Return where a path that was named goes: b"" for the top of the tree itself."""
    lexical = os.path.normpath(os.path.join(home, given))
    parent = os.path.realpath(os.path.dirname(lexical))
    real = os.path.join(parent, os.path.basename(lexical)) if lexical != b"/" else lexical
    if real == top:
        return b""
    if real.startswith(top.rstrip(b"/") + b"/"):
        return os.path.relpath(real, top)
    name = os.path.basename(real)
    if not name:
        raise OptionError(f"--stage-in: {show(given)} has no name to go by", source="--stage-in")
    return below + b"/" + name if below else name


def _parents(place: bytes, top: bytes, real: bytes) -> Iterator[Entry]:
    """Yield the directories that lead to a place below `top`."""
    parts = place.split(b"/")[:-1]
    for count in range(1, len(parts) + 1):
        path = b"/".join(parts[:count])
        source = os.path.join(top, path)
        try:
            yield _make_entry(path, source, os.stat(source))
        except OSError as error:
            raise OptionError(f"--stage-in: {show(real)}: {error.strerror}", source="--stage-in") from None
