"""The runner's lines, read: bytes of the channel -> replies.  Calls and reply classes are re-exported here.

What a node says is hostile input: every line is capped, matched whole and converted strictly; what does not fit is a
Malformed reply, never an exception.  Before the line that carries our nonce there may be anything (a login shell's chatter):
its first 4 KB are kept for `sshq doctor`.

    first word   reply                 first word   reply
    SSHQ, h      Hello, Unusable       C  Acked           O  Load
    F            FactsReply            R  Reserved        P  Pong
    S  X  N  Q   Started Ended         D  SharedResult    T  Reaped
                 Refused Known         W  Swept           Z  Purged
    A  K         FenceResult           L  Listing         E  CallFailed
                 KillResult            Y  PartAnswer      U  Upcall
                                       V  PartNews        G  Steps
                                                          B  Answered
"""

from collections.abc import Callable
from typing import Final

from sshq.runner.calls import (
    INLINE_MAX,
    KILL_MODES,
    PART_MAX,
    PROTOCOL,
    LaunchCall,
    dropped_names,
    encode_ack,
    encode_bootstrap,
    encode_end_step,
    encode_fence,
    encode_kill,
    encode_launch,
    encode_limit,
    encode_list,
    encode_load,
    encode_ping,
    encode_probe,
    encode_purge,
    encode_read,
    encode_reap,
    encode_renew,
    encode_reserve,
    encode_shared,
    encode_steps,
    encode_sweep,
    out_path,
    program,
    quote,
    signal_name,
    work_path,
)  # fmt: skip
from sshq.runner.parts import read_part_answer, read_part_news
from sshq.runner.records import code_and_signal, read_usual_record
from sshq.runner.replies import (
    Acked,
    CallFailed,
    Ended,
    Entry,
    ExitRecord,
    FactsReply,
    FenceResult,
    Floor,
    Hello,
    KillResult,
    Known,
    Listing,
    Load,
    Malformed,
    Pong,
    Purged,
    ReadHead,
    Reaped,
    Refused,
    Reply,
    Reserved,
    SharedResult,
    Started,
    StepEntry,
    Steps,
    Swept,
    Unusable,
    Upcall,
)  # fmt: skip
from sshq.runner.steps import read_step
from sshq.runner.upcalls import read_answered
from sshq.runner.words import INT as _INT
from sshq.runner.words import WORD as _WORD
from sshq.runner.words import BadLineError as _BadLine
from sshq.runner.words import cpu_s_of as _cpu_s
from sshq.runner.words import flag_of as _flag
from sshq.runner.words import id_of as _id
from sshq.runner.words import int_of as _int
from sshq.runner.words import list_of as _list
from sshq.runner.words import plain_of as _plain
from sshq.runner.words import real_of as _real

__all__ = [
    "INLINE_MAX", "KILL_MODES", "PART_MAX", "PROTOCOL", "Acked", "CallFailed", "Ended", "Entry", "ExitRecord", "FactsReply",
    "FenceResult", "Floor", "Hello", "KillResult", "Known", "LaunchCall", "Listing", "Load", "Malformed", "Pong", "Purged",
    "ReadHead", "Reaped", "Refused", "Reply", "ReplyParser", "Reserved", "SharedResult", "Started", "StepEntry", "Steps",
    "Swept", "Unusable", "Upcall", "dropped_names", "encode_ack", "encode_bootstrap", "encode_end_step", "encode_fence",
    "encode_kill", "encode_launch", "encode_limit", "encode_list", "encode_load", "encode_ping", "encode_probe",
    "encode_purge", "encode_read", "encode_reap", "encode_renew", "encode_reserve", "encode_shared", "encode_steps",
    "encode_sweep", "out_path", "parse_entry", "parse_read_head", "parse_record", "program", "quote", "signal_name", "work_path",
]  # fmt: skip

LINE_MAX: Final = 4096
NOISE_MAX: Final = 4096
LISTING_ENTRIES_MAX: Final = 20_000
FACTS_MAX: Final = 400

_HOWS = ("exit", "signal", "cancel", "timeout", "lease", "never", "output")


def parse_record(text: str) -> ExitRecord | None:
    """Return the record of one line (a node shows only one that stood there twice), or None if it is not one of ours.

    Keys it does not know are skipped, so that a newer supervisor's record can still be read by an older controller.
    """
    if (usual := read_usual_record(text)) is not None:
        return usual
    version, _, rest = text.partition(" ")
    launch_id, _, rest = rest.partition(" ")
    fields: dict[str, str] = {}
    for word in rest.split(" "):
        key, separator, value = word.partition("=")
        if not separator or key in fields:
            return None
        fields[key] = value
    try:
        if version != "1" or fields["how"] not in _HOWS:
            return None
        return _record(_id(launch_id), fields)
    except (_BadLine, KeyError):
        return None


def _record(launch_id: str, fields: dict[str, str]) -> ExitRecord:
    how = fields["how"]
    status = None if fields["status"] == "-" else _int(fields["status"])
    code, signal, sure = code_and_signal(status)
    if how == "signal" and signal is None:
        how = "exit"
    return ExitRecord(
        id=launch_id, how=how, status=status, code=code, signal=signal, sure=sure,
        reason="" if fields["why"] == "-" else _plain(fields["why"]), sent=_list(fields["sent"]),
        terminated=_flag(fields["term"]), start_uptime_s=_real(fields["start"]), end_uptime_s=_real(fields["end"]),
        start_at=_int(fields["began"]), end_at=_int(fields["ended"]), user_s=_cpu_s(fields["user"]),
        system_s=_cpu_s(fields["sys"]), boot=_plain_or_long(fields["boot"]), survivors=_list(fields["left"]),
        oom=fields.get("oom") == "1", steps=fields.get("steps") == "1",
        image=_plain(fields["image"]) if "image" in fields else "",
    )  # fmt: skip


def _plain_or_long(word: str) -> str:
    if not word.isascii() or not word.isprintable() or len(word) > 128:
        raise _BadLine("not a boot tag")
    return word


def parse_entry(text: str) -> Entry | None:
    """Return one launch as listings and answers show it, or None."""
    try:
        return _entry(text)
    except _BadLine:
        return None


def _entry(text: str) -> Entry:
    words = text.split(" ", 11)
    if len(words) != 12 or words[5] not in ("none", "file", "directory"):
        raise _BadLine("not an entry")
    launch_id, seq, job, attempt, claimed, go, supervisor, alive, pid, start, since, last = words
    record = parse_record(last) if last not in ("-", "!") else None
    return Entry(
        id=_id(launch_id), seq=_int(seq), job_id=_int(job), attempt=_int(attempt), claimed=_flag(claimed), go=go,
        supervisor=_flag(supervisor), alive=_flag(alive), pid=_int(pid), start=_int(start),
        started_uptime_s=None if since == "-" else _real(since), record=record if record and record.id == launch_id else None,
        damaged=last != "-" and (record is None or record.id != launch_id),
    )  # fmt: skip


def parse_read_head(data: bytes, nonce: str) -> ReadHead | None:
    """Return the head of a reading channel once it is whole; what stands before it is noise.

    A head that is there but not well formed comes back with `error` "malformed".
    """
    mark = b"SSHQ-READ " + nonce.encode() + b" "
    at = data.find(mark)
    end = data.find(b"\n", at)
    if at < 0 or end < 0:
        return None
    words = data[at + len(mark) : end].decode("ascii", "replace").split()
    if len(words) == 2 and words[0] == "error" and words[1] in ("missing", "unreadable"):
        return ReadHead(error=words[1], body_at=end + 1)
    if len(words) == 3 and all(_INT.fullmatch(w) for w in words):
        return ReadHead(pid=int(words[0]), start=int(words[1]), size=int(words[2]), body_at=end + 1)
    return ReadHead(error="malformed", body_at=end + 1)


class ReplyParser:
    """Reads one runner channel.  `feed` takes bytes as they come and returns what they complete; it never raises."""

    def __init__(self, nonce: str) -> None:
        self._nonce = nonce
        self._mark = b"SSHQ " + nonce.encode() + b" "
        self._buffer = b""
        self._skipping = False  # inside a line that was too long
        self._greeted = False
        self._hello: dict[str, str] | None = None
        self._open: list[str] = []
        self._hello_lines = 0
        self._facts: dict[str, list[tuple[str, str]]] = {}
        self._listings: dict[str, list[Entry] | None] = {}  # None: something in it was not well formed
        self._steps: dict[str, list[StepEntry]] = {}
        self._noise = b""

    @property
    def noise(self) -> bytes:
        """What came before the greeting, to the last byte so far."""
        return self._noise if self._greeted else (self._noise + self._buffer)[:NOISE_MAX]

    def feed(self, data: bytes) -> list[Reply]:
        self._buffer += data
        replies: list[Reply] = []
        if not self._greeted and not self._find_greeting():
            return replies
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = rest
        for line in lines:
            if self._skipping:
                self._skipping = False
            elif len(line) >= LINE_MAX:
                replies.append(Malformed(line=line[:256], why="line too long"))
            else:
                replies += self._read(line)
        if len(rest) >= LINE_MAX:
            if not self._skipping:
                replies.append(Malformed(line=rest[:256], why="line too long"))
            self._skipping, self._buffer = True, b""
        return replies

    def _find_greeting(self) -> bool:
        at = self._buffer.find(self._mark)
        self._greeted = at >= 0
        cut = at if at >= 0 else max(0, len(self._buffer) - len(self._mark))
        self._noise = (self._noise + self._buffer[:cut])[:NOISE_MAX]
        self._buffer = self._buffer[cut:]
        return self._greeted

    def _read(self, line: bytes) -> list[Reply]:
        text = line.decode("utf-8", "surrogateescape")
        word, _, rest = text.partition(" ")
        reader = _READERS.get(word)
        try:
            if reader is None:
                raise _BadLine("no such reply")
            reply = reader(self, rest)
        except (_BadLine, ValueError) as bad:
            return [Malformed(line=line[:256], why=str(bad))]
        return [] if reply is None else [reply]

    # ------------------------------------------------------------ replies of several lines

    def _greeting(self, rest: str) -> Reply | None:
        nonce, _, rest = rest.partition(" ")
        kind, _, rest = rest.partition(" ")
        if nonce != self._nonce:
            raise _BadLine("another nonce")
        if kind == "unusable":
            why, _, text = rest.partition(" ")
            return Unusable(nonce=nonce, why=_plain(why), text=text)
        if kind != "hello" or self._hello is not None:
            raise _BadLine("no such greeting")
        self._hello = {"protocol": str(_int(rest))}
        return None

    def _hello_line(self, rest: str) -> Reply | None:
        key, _, value = rest.partition(" ")
        if self._hello is None or self._hello_lines > FACTS_MAX + 1000:
            raise _BadLine("no hello before it")
        if key == ".":
            complete = _int(value) == self._hello_lines
            fields, self._hello, self._hello_lines = self._hello, {}, 1 << 30
            if not complete:
                raise _BadLine("lines of the hello are missing")
            return self._whole_hello(fields)
        self._hello_lines += 1
        if key == "open":
            self._open.append(value)
        elif key in self._hello:
            raise _BadLine("said twice")
        else:
            self._hello[key] = value
        return None

    def _whole_hello(self, f: dict[str, str]) -> Hello:
        try:
            return Hello(
                nonce=self._nonce, protocol=_int(f["protocol"]), spool_version=_int(f["version"]), boot=_plain_or_long(f["boot"]),
                uid=_int(f["uid"]), user=f["user"], home=f["home"], shell=f["shell"], spool=f["spool"],
                spool_id=_plain(f["spool_id"]), fs=_plain(f["fs"]), gen=_int(f["gen"]),
                floor=Floor(high=_int(f["floor"]), open_seqs=frozenset(map(_int, self._open))), pid=_int(f["pid"]),
                start=_int(f["start"]), uptime_s=_real(f["uptime"]), clock_at=_int(f["clock"]), signals=_plain(f["signals"]),
                setsid=_plain(f["setsid"]), took_over=_flag(f["took_over"]), scope=f.get("scope", "") == "1",
            )  # fmt: skip
        except KeyError as missing:
            raise _BadLine(f"the hello lacks {missing}") from None

    def _fact(self, rest: str) -> Reply | None:
        tag, _, rest = rest.partition(" ")
        key, _, value = rest.partition(" ")
        facts = self._facts.setdefault(_plain(tag), [])
        if key == ".":
            del self._facts[tag]
            if _int(value) != len(facts):
                raise _BadLine("facts are missing")
            return FactsReply(tag=tag, facts=tuple(facts))
        if len(facts) >= FACTS_MAX or len(self._facts) > 16:
            del self._facts[tag]
            raise _BadLine("too many facts")
        facts.append((_plain(key), value))
        return None

    def _step(self, rest: str) -> Reply | None:
        tag, _, rest = rest.partition(" ")
        steps = self._steps.setdefault(_plain(tag), [])
        if rest.startswith(". "):
            # What cannot be read of them, a job wrote itself: it is passed over, for nobody may wait for better.
            del self._steps[tag]
            return Steps(tag=tag, entries=tuple(steps))
        if len(steps) >= LISTING_ENTRIES_MAX or len(self._steps) > 16:
            del self._steps[tag]
            raise _BadLine("too many steps")
        steps.append(read_step(rest))
        return None

    def _listing(self, rest: str) -> Reply | None:
        nonce, _, rest = rest.partition(" ")
        kind, _, rest = rest.partition(" ")
        if kind == "begin":
            if rest != "1" or len(self._listings) >= 16:
                raise _BadLine("not a listing of this version")
            self._listings[_plain(nonce)] = []
            return None
        if nonce not in self._listings:
            raise _BadLine("no listing begun")
        entries = self._listings[nonce]
        if kind == "entry":
            entry = parse_entry(rest)
            if entry is None or entries is None or len(entries) >= LISTING_ENTRIES_MAX:
                self._listings[nonce] = None
                raise _BadLine("not an entry, or too many")
            entries.append(entry)
            return None
        del self._listings[nonce]
        if kind != "end" or entries is None or _int(rest) != len(entries):
            raise _BadLine("the listing is not complete")
        return Listing(nonce=nonce, entries=tuple(entries))


def _words(rest: str, count: int) -> list[str]:
    words = rest.split(" ")
    if len(words) != count:
        raise _BadLine("words are missing, or too many")
    return words


def _started(_: ReplyParser, rest: str) -> Reply:
    launch_id, pid, start, uptime = _words(rest, 4)
    return Started(id=_id(launch_id), pid=_int(pid), start=_int(start), uptime_s=_real(uptime))


def _ended(_: ReplyParser, rest: str) -> Reply:
    record = parse_record(rest)
    if record is None:
        raise _BadLine("not a record")
    return Ended(id=record.id, record=record)


def _refused(_: ReplyParser, rest: str) -> Reply:
    launch_id, _sep, rest = rest.partition(" ")
    why, _sep, text = rest.partition(" ")
    return Refused(id=_id(launch_id), why=_plain(why), text=text)


def _known(_: ReplyParser, rest: str) -> Reply:
    return Known(entry=_entry(rest))


def _fenced(_: ReplyParser, rest: str) -> Reply:
    launch_id, _sep, rest = rest.partition(" ")
    result, _sep, rest = rest.partition(" ")
    if result not in ("won", "lost", "lost-forgotten"):
        raise _BadLine("no such result")
    entry = _entry(rest) if result == "lost" else None
    if entry is not None and entry.id != launch_id:
        raise _BadLine("an entry of another launch")
    return FenceResult(id=_id(launch_id), result=result, entry=entry)


def _killed(_: ReplyParser, rest: str) -> Reply:
    launch_id, _sep, rest = rest.partition(" ")
    result, _sep, survivors = rest.partition(" ")
    if result not in ("asked", "signalled", "never", "forgotten", "killing", "killed", "gone") or " " in survivors:
        raise _BadLine("no such result")
    return KillResult(id=_id(launch_id), result=result, survivors=_list(survivors or "-"))


def _acked(_: ReplyParser, rest: str) -> Reply:
    tag, ok = _words(rest, 2)
    return Acked(tag=_plain(tag), ok=_flag(ok))


def _reserved(_: ReplyParser, rest: str) -> Reply:
    tag, ok, gen, high = _words(rest, 4)
    return Reserved(tag=_plain(tag), ok=_flag(ok), gen=_int(gen), floor_high=_int(high))


def _swept(_: ReplyParser, rest: str) -> Reply:
    tag, killed, survivors = _words(rest, 3)
    return Swept(tag=_plain(tag), killed=_int(killed), survivors=_list(survivors))


def _shared(_: ReplyParser, rest: str) -> Reply:
    tag, present, directory, writable = _words(rest, 4)
    return SharedResult(tag=_plain(tag), present=_flag(present), directory=_flag(directory), writable=_flag(writable))


def _load(_: ReplyParser, rest: str) -> Reply:
    tag, load1, free, uptime, room = _words(rest, 5)
    free_mib = None if free == "-" else _int(free) // 1024
    return Load(tag=_plain(tag), load1=_real(load1), free_mib=free_mib, uptime_s=_real(uptime), room=_plain(room))


def _pong(_: ReplyParser, rest: str) -> Reply:
    tag, uptime = _words(rest, 2)
    return Pong(tag=_plain(tag), uptime_s=_real(uptime))


def _reaped(_: ReplyParser, rest: str) -> Reply:
    pid, ok = _words(rest, 2)
    return Reaped(pid=_int(pid), ok=_flag(ok))


def _purged(_: ReplyParser, rest: str) -> Reply:
    tag, ok, alive = _words(rest, 3)
    return Purged(tag=_plain(tag), ok=_flag(ok), alive=_int(alive))


def _failed(_: ReplyParser, rest: str) -> Reply:
    tag, _sep, rest = rest.partition(" ")
    call, _sep, text = rest.partition(" ")
    return CallFailed(tag=_plain(tag), call=_plain(call), text=text)


def _upcall(_: ReplyParser, rest: str) -> Reply:
    launch_id, *words = rest.split(" ")
    if not words or not all(_WORD.fullmatch(w) for w in words):
        raise _BadLine("not an upcall")
    return Upcall(id=_id(launch_id), words=tuple(words))


_READERS: Final[dict[str, Callable[[ReplyParser, str], Reply | None]]] = {
    "SSHQ": ReplyParser._greeting, "h": ReplyParser._hello_line, "F": ReplyParser._fact, "L": ReplyParser._listing,  # noqa: SLF001
    "S": _started, "X": _ended, "N": _refused, "Q": _known, "A": _fenced, "K": _killed, "C": _acked, "R": _reserved,
    "W": _swept, "D": _shared, "O": _load, "P": _pong, "T": _reaped, "Z": _purged, "E": _failed, "U": _upcall,
    "Y": lambda _, rest: read_part_answer(rest), "V": lambda _, rest: read_part_news(rest),
    "G": ReplyParser._step, "B": lambda _, rest: read_answered(rest),  # noqa: SLF001
}  # fmt: skip
