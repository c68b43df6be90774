"""Looking at the spools of a host without being their runner, and removing one for good.  Shell side: survey.sh.

Both are one exchange with `exec /bin/sh`: `encode_...` is its whole stdin, `parse_...` reads its whole stdout.  What a node
says is hostile input: what does not fit is an error of the whole answer, never half of it, because what is missing here
would be taken for jobs that do not exist.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from sshq.runner.calls import ABOUT, program, quote
from sshq.runner.commands import strip_comments
from sshq.runner.protocol import parse_entry
from sshq.runner.replies import Entry

ANSWER_MAX: Final = 256 << 20  # a launch brings its script along, which may have 4 MiB

WHOLE: Final = b"SSHQ_WHOLE=1\n"  # stands behind all but the locales, of which a shell may refuse one

_NONCE = re.compile(r"[A-Za-z0-9]{8,64}")
_EXPORT = re.compile(rb"export ([A-Za-z_][A-Za-z0-9_]*)=((?:'[^']*'|\\')+)\n")
_ASSIGNMENT = re.compile(rb"^(job_[a-z_]+)=((?:'[^']*'|\\')+)$", re.MULTILINE)


class SurveyError(Exception):
    """The answer is not whole, or not one of ours; `args[0]` says what about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundLaunch:
    """One launch as its directory describes it."""

    entry: Entry
    boot: str  # of its processes, as far as they left a file; "" where not known
    request: bytes
    script: bytes
    environ: bytes  # only of one that never read it

    @property
    def about(self) -> str:
        """What the controller that sent it told of its job; "" from a release that did not."""
        lines = self.request.split(b"\n", 2)
        line = lines[1] if len(lines) > 1 else b""
        return line.removeprefix(ABOUT).decode("utf-8", "replace") if line.startswith(ABOUT) else ""

    def assigned(self, name: str) -> str:
        """Return one value of the request, "" where it is not there."""
        for found, value in _ASSIGNMENT.findall(self.request):
            if found.decode() == name:
                return unquote(value).decode("utf-8", "surrogateescape")
        return ""

    @property
    def epoch(self) -> int:
        words = self.request.split(b"\n", 1)[0].split()
        return int(words[5]) if len(words) == 6 and words[5].isdigit() and len(words[5]) < 16 else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSpool:
    """What lies of one store on one host.  `format` other than ours: nothing more is known of it."""

    store_id: str
    format: str
    spool_id: str
    generation: int
    runners: tuple[int, ...]  # pids of live runners: some controller of this store is, or was until its end unseen, connected
    path: str
    launches: tuple[FoundLaunch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Who and where the account is, and its spools."""

    uid: int
    gid: int
    user: str
    group: str
    uptime_s: float
    clock_at: int
    linger: bool
    boot: str
    spools: tuple[FoundSpool, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What became of the spools of one store.  `kept`: (why, figure or names, path); others are of other stores."""

    user: str
    linger: bool
    removed: tuple[str, ...]
    killed: int
    records: int  # launches whose files went with them
    kept: tuple[tuple[str, str, str], ...]
    others: tuple[str, ...]


@cache
def survey_program() -> bytes:
    """Return what is sent behind the program; read once in the life of the process."""
    return strip_comments(Path(__file__).with_name("survey.sh").read_bytes())


def encode_survey(*, nonce: str, bases: tuple[str, ...]) -> bytes:
    """Return the stdin of a survey of these places, or of the usual ones."""
    return _encode(b"survey", nonce, bases)


def encode_removal(*, nonce: str, store_id: str, force: bool, bases: tuple[str, ...]) -> bytes:
    """Return the stdin that removes the spools of `store_id` once nothing of them lives; `force`: whatever lies there."""
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", store_id):
        raise ValueError(f"not a store id: {store_id!r}")
    return _encode(b"remove_spool", nonce, (store_id, str(int(force)), *bases))


def _encode(call: bytes, nonce: str, words: tuple[str, ...]) -> bytes:
    if not _NONCE.fullmatch(nonce):
        raise ValueError(f"not a nonce: {nonce!r}")
    line = b" ".join([call, quote(nonce), *map(quote, words), quote(f"END-{nonce}")])
    return program() + b"\n" + survey_program() + b"\n" + line + b"\n"


# ---- answers -------------------------------------------------------------------------------------------------------


class _Reader:
    """Lines of ours, and the raw bytes some announce."""

    def __init__(self, data: bytes, nonce: str) -> None:
        self._data = data
        self._mark = f"SSHQ-V {nonce} ".encode()
        self._at = data.find(self._mark)
        if self._at < 0:
            raise SurveyError("no POSIX shell answered")

    def line(self) -> list[str]:
        end = self._data.find(b"\n", self._at)
        if end < 0 or not self._data.startswith(self._mark, self._at):
            raise SurveyError("its answer is not whole")
        words = self._data[self._at + len(self._mark) : end].decode("utf-8", "surrogateescape").split(" ")
        self._at = end + 1
        return words

    def raw(self, size: str) -> bytes:
        end = self._at + _number(size)
        if self._data[end : end + 1] != b"\n":
            raise SurveyError("its answer is not whole")
        found = self._data[self._at : end]
        self._at = end + 1
        return found


def _number(word: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) < 19):
        raise SurveyError(f"not a number: {word[:40]!r}")
    return int(word)


def _take(words: list[str], count: int) -> list[str]:
    """The words of a line, the last of which may hold blanks."""
    if len(words) < count:
        raise SurveyError("a line of its answer is too short")
    return [*words[: count - 1], " ".join(words[count - 1 :])]


def _begin(reader: _Reader) -> tuple[int, int, float, int, bool, str, str, str]:
    words = reader.line()
    if words[0] == "unusable":
        raise SurveyError(" ".join(words[1:]))
    if words[0] != "begin":
        raise SurveyError("its answer does not begin as one")
    _, uid, gid, uptime, clock, linger, boot, user, group = _take(words, 9)
    whole, _, part = uptime.partition(".")
    uptime_s = _number(whole) + _number(part or "0") / 10 ** len(part or "0")
    return _number(uid), _number(gid), uptime_s, _number(clock), linger == "1", boot, user, group


def parse_survey(data: bytes, nonce: str) -> Survey:
    """Read a whole answer.  Raises SurveyError."""
    reader = _Reader(data, nonce)
    uid, gid, uptime_s, clock_at, linger, boot, user, group = _begin(reader)
    spools = []
    while (words := reader.line())[0] != "over":
        if words[0] != "store":
            raise SurveyError(f"an unknown line: {words[0][:40]!r}")
        spools.append(_spool(reader, words))
    return Survey(
        uid=uid, gid=gid, user=user, group=group, uptime_s=uptime_s, clock_at=clock_at, linger=linger, boot=boot,
        spools=tuple(spools),
    )  # fmt: skip


def _spool(reader: _Reader, head: list[str]) -> FoundSpool:
    _, store_id, version, spool_id, generation, runners, path = _take(head, 7)
    launches: list[FoundLaunch] = []
    words = reader.line()
    while words[0] == "entry":
        launch, words = _launch(reader, words)
        launches.append(launch)
    if words[0] != "end" or len(words) != 2 or _number(words[1]) != len(launches):
        raise SurveyError("its list of launches is not whole")
    return FoundSpool(
        store_id=store_id, format=version, spool_id=spool_id, generation=_number(generation),
        runners=() if runners == "-" else tuple(map(_number, runners.split(","))), path=path, launches=tuple(launches),
    )  # fmt: skip


def _launch(reader: _Reader, head: list[str]) -> tuple[FoundLaunch, list[str]]:
    """Return a launch and the first line behind it."""
    entry = parse_entry(" ".join(head[2:]))
    if entry is None:
        raise SurveyError("an entry of its list is not well formed")
    files = {"req": b"", "script": b"", "env": b""}
    while (words := reader.line())[0] in files:
        files[words[0]] = reader.raw(words[-1])
    boot = "" if head[1] == "-" else head[1]
    if entry.record is not None:
        boot = entry.record.boot
    return FoundLaunch(entry=entry, boot=boot, request=files["req"], script=files["script"], environ=files["env"]), words


def parse_removal(data: bytes, nonce: str) -> Removal:
    """Read a whole answer.  Raises SurveyError."""
    reader = _Reader(data, nonce)
    _, _, _, _, linger, _, user, _ = _begin(reader)
    removed: list[str] = []
    kept: list[tuple[str, str, str]] = []
    others: list[str] = []
    killed = records = 0
    while (words := reader.line())[0] != "over":
        match words[0]:
            case "removed":
                _, ended, lost, path = _take(words, 4)
                removed.append(path)
                killed, records = killed + _number(ended), records + _number(lost)
            case "kept":
                why, *rest = words[1:]
                kept.append((why, rest[0] if len(rest) > 1 else "", " ".join(rest[1:] or rest)))
            case "other":
                others.append(" ".join(words[1:]))
            case other:
                raise SurveyError(f"an unknown line: {other[:40]!r}")
    return Removal(
        user=user, linger=linger, removed=tuple(removed), killed=killed, records=records, kept=tuple(kept), others=tuple(others)
    )


# ---- what `quote` wrote --------------------------------------------------------------------------------------------


def unquote(word: bytes) -> bytes:
    """Return the bytes of one word that `calls.quote` made: quoted pieces, and escaped quotes between them."""
    return word[1:-1].replace(b"'\\''", b"'")


def parse_exports(data: bytes) -> dict[str, str]:
    """Return the environment of a launch's file; empty for what is not one, or not all of one."""
    data, whole, locales = data.partition(WHOLE)
    if not whole:
        return {}
    data += locales
    found: dict[str, str] = {}
    at = 0
    while match := _EXPORT.match(data, at):
        found[match[1].decode()] = unquote(match[2]).decode("utf-8", "surrogateescape")
        at = match.end()
    return found if at == len(data) else {}
