"""Parts of a launch: requests to its holder, input in pieces, terminals.

The other halves are `parts.sh`, `terminal.sh` and the holder (`sshq/kinds/holder.sh`).

A part is named by a token and made exclusively, so that a repeated call starts nothing again.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

from sshq.runner.calls import INLINE_MAX, dropped_names, quote, signal_name, write_call
from sshq.runner.commands import strip_comments
from sshq.runner.replies import PartAnswer, PartNews

CHUNK_BYTES: Final = 32_768  # of input: what is read at once
PIECE_BYTES: Final = 3_000  # of a chunk in one call, which may be four times as long

_ID = re.compile(r"[0-9a-f]{32}")
_TOKEN = re.compile(r"[A-Za-z0-9]{1,40}")
_NUMBER = re.compile(r"[0-9]{1,18}")
_TAG = re.compile(r"[!-~]{1,64}")
_ANSWERS: Final = frozenset(
    {"made", "known", "gone", "none", "started", "ended", "signalled", "ending", "took", "closed"}
)  # fmt: skip
_NEWS: Final = frozenset({"started", "ended", "took", "closed"})
_SAFE: Final = frozenset(b'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 _./:;,=+@~#&|<>()[]{}!?*$^"`\n\t')
_WRITTEN: Final = tuple(bytes([byte]) if byte in _SAFE else b"\\%03o" % byte for byte in range(256))


@dataclass(frozen=True, slots=True, kw_only=True)
class PartCall:
    """One part.  Strings may hold any bytes but NUL (as surrogate escapes).

    Attributes:
        id: the launch whose holder starts it.
        token: its name, letters and digits.
        argv: the command; it is looked for on the PATH of the part.
        environ: on top of the job's own.
        work_dir: "" is where the holder is; one that is not there is /tmp, said on standard error as Slurm does.
        stdout, stderr: absolute paths, appended to; "" a file of the part in the spool; stderr "-" is where stdout goes.
        stdin: an absolute path; "" is /dev/null, "feed" what `encode_input` brings.
        umask: None is the job's.
        terminal: it is started by `terminal_command` on a channel with a terminal; streams do not count.
        guest: a terminal in a launch that has no holder; the job's environment is in `environ` then.
        main: the launch ends with this part and its status.
    """

    id: str
    token: str
    argv: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=dict)
    work_dir: str = ""
    stdout: str = ""
    stderr: str = ""
    stdin: str = ""
    umask: int | None = None
    terminal: bool = False
    guest: bool = False
    main: bool = False


@cache
def terminal_program() -> bytes:
    """Return what stands below the request of a terminal; read once in the life of the process."""
    return strip_comments(Path(__file__).with_name("terminal.sh").read_bytes())


def _check(pattern: re.Pattern[str], value: str, what: str) -> str:
    if not pattern.fullmatch(value):
        raise ValueError(f"not a {what}: {value!r}")
    return value


def _request(call: PartCall) -> bytes:
    dropped = frozenset(dropped_names(call.environ))
    # Locales last: ksh refuses one it does not have, and reads no further.
    names = sorted((n for n in call.environ if n not in dropped), key=lambda n: n.startswith("LC_") or n == "LANG")
    exports = b"".join(b"export " + n.encode() + b"=" + quote(call.environ[n]) + b"\n" for n in names)
    values = {
        "part_work": call.work_dir, "part_out": call.stdout, "part_err": call.stderr, "part_in": call.stdin,
        "part_umask": "" if call.umask is None else f"{call.umask:04o}", "part_main": "1" if call.main else "",
    }  # fmt: skip
    head = b"".join(name.encode() + b"=" + quote(value) + b"\n" for name, value in values.items())
    words = b" ".join(map(quote, call.argv))
    body = b"part_environ() {\n:\n" + exports + b"}\n" + b'with_part() { "$@" ' + words + b"; }\npart_whole=1\n"
    return head + body + (terminal_program() if call.terminal else b"")


def encode_start_part(call: PartCall, *, tag: str) -> list[bytes]:
    """Return the writes that start a part, in order.  -> PartAnswer made, known or gone"""
    _check(_ID, call.id, "launch id")
    _check(_TOKEN, call.token, "token")
    if not call.argv or not call.argv[0]:
        raise ValueError("no command")
    text = _request(call)
    last = (int(call.terminal) + int(call.terminal and call.guest), int(call.main))
    if len(quote(text)) <= INLINE_MAX:
        return [write_call("call_start_part", tag, call.id, call.token, text, *last, end=tag)]
    pieces = [text[at : at + PIECE_BYTES] for at in range(0, len(text), PIECE_BYTES)]
    writes = [
        write_call("call_piece", call.id, call.token, int(number == 0), piece, end=call.token)
        for number, piece in enumerate(pieces)
    ]
    return [*writes, write_call("call_start_part", tag, call.id, call.token, "", *last, end=tag)]


def encode_ask_part(*, tag: str, id: str, token: str) -> bytes:  # noqa: A002 - the launch's own word for it
    """Ask what has become of a part.  -> PartAnswer none, made, started, ended or gone (with its launch)"""
    return write_call("call_ask_part", tag, _check(_ID, id, "launch id"), _check(_TOKEN, token, "token"), end=tag)


def encode_signal_part(*, tag: str, id: str, token: str, signal: int | str) -> bytes:  # noqa: A002
    """Signal a part's process group.  -> PartAnswer signalled or gone"""
    checked = _check(_ID, id, "launch id"), _check(_TOKEN, token, "token")
    return write_call("call_signal_part", tag, *checked, signal_name(signal), end=tag)


def encode_end_parts(*, tag: str, id: str, code: int) -> bytes:  # noqa: A002
    """Let a holder end, with its parts; the launch ends with `code`.  -> PartAnswer ending or gone"""
    if not 0 <= code <= 255:
        raise ValueError(f"not an exit status: {code}")
    return write_call("call_end_parts", tag, _check(_ID, id, "launch id"), code, end=tag)


def encode_input(*, tag: str, id: str, token: str, number: int, data: bytes) -> list[bytes]:  # noqa: A002
    """Return the writes that bring chunk `number` of a part's input; no data is the end.  -> PartAnswer took, closed or gone

    May be repeated: what was read already is not read again.  `took` says how many chunks have been read.
    """
    _check(_ID, id, "launch id")
    _check(_TOKEN, token, "token")
    if number < 0:
        raise ValueError(f"not a chunk: {number}")
    pieces = [data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)] or [b""]
    return [
        write_call(
            "call_input", tag, id, token, number, int(place == 0), int(place == len(pieces) - 1),
            b"".join(map(_WRITTEN.__getitem__, piece)), end=tag,
        )
        for place, piece in enumerate(pieces)
    ]  # fmt: skip


def part_dir(spool: str, id: str, token: str) -> str:  # noqa: A002
    """Return where a part's files lie: out, err."""
    return f"{spool}/a/{id}.parts/{token}"


def terminal_command(spool: str, id: str, token: str) -> str:  # noqa: A002
    """Return the command for a channel with a terminal; every login shell understands it.

    Raises:
        ValueError: the spool's path cannot be said in all of them.
    """
    path = f"{part_dir(spool, id, token)}/req"
    if "'" in path or "!" in path or "\\" in path or not path.isprintable():
        raise ValueError(f"a terminal cannot be opened below {spool!r}")
    return f"exec /bin/sh '{path}'"


def read_part_answer(rest: str) -> PartAnswer:
    """Read the words of a line Y.  ValueError for one that is not well formed."""
    tag, word, value = _split(rest.split(" "))
    if word not in _ANSWERS:
        raise ValueError("no such answer")
    return PartAnswer(tag=_check(_TAG, tag, "tag"), word=word, value=value)


def read_part_news(rest: str) -> PartNews:
    """Read the words of a line V, which a job's own process may have written.  ValueError for one that is not well formed."""
    launch_id, _, rest = rest.partition(" ")
    token, word, value = _split(rest.split(" "))
    if word not in _NEWS:
        raise ValueError("no such news")
    return PartNews(id=_check(_ID, launch_id, "launch id"), token=_check(_TOKEN, token, "token"), word=word, value=value)


def _split(words: list[str]) -> tuple[str, str, int | None]:
    if not 2 <= len(words) <= 3:
        raise ValueError("words are missing, or too many")
    return words[0], words[1], int(_check(_NUMBER, words[2], "number")) if len(words) == 3 else None
