"""Commands inside jobs: what they write for the controller, and how they are answered.  The other half is `command.sh`, and
`answers.sh` of the runner.  What comes from a node is hostile input.
"""

import re
from dataclasses import dataclass
from typing import Final

from sshq.runner.calls import write_call
from sshq.runner.replies import Answered

REQUEST_MAX: Final = 4 << 20  # bytes of words and environment; Linux lets a process begin with 2 MiB, or 6 at most
GIVEN_MAX: Final = 6 << 20  # bytes of a file that is asked for; the controller's own bounds of a script are lower
ANSWER_MAX: Final = 8192  # bytes of one piece of an answer
ANSWER_KINDS: Final = ("out", "err", "-")
QUESTION_KINDS: Final = ("read", "stdin", "path", "data", "nonce")
TOKEN: Final = re.compile(r"[0-9a-f]{32}")
_TAG = re.compile(r"[A-Za-z0-9._-]{1,64}")
_VERB = re.compile(r"[a-z_]{1,32}")
_HEAD_WORDS = 6
_INTERPRETER_WORDS = 6  # before the words of the command: the interpreter, perhaps its argument, the command's path, the verb


@dataclass(frozen=True, slots=True, kw_only=True)
class UpcallRequest:
    """One command typed in a job.  Texts may hold any bytes but NUL, as surrogate escapes.

    Attributes:
        verb: its name.
        argv: its words, without the name.
        environ: its environment.
        cwd: its directory as it was named; `real_cwd` without links.  Empty where it is gone.
        umask: its umask.
        pid: on its node.
    """

    verb: str
    argv: tuple[str, ...]
    environ: dict[str, str]
    cwd: str
    real_cwd: str
    umask: int
    pid: int


class BadRequestError(ValueError):
    """The request is not one of ours, or not whole; the text says what is wrong."""


def parse_request(data: bytes) -> UpcallRequest:
    """Read the file `request` of a call.

    Raises:
        BadRequestError: it is malformed.
    """
    line, newline, rest = data.partition(b"\n")
    head = line.decode("ascii", "replace").split(" ")
    if not newline or len(head) != _HEAD_WORDS or head[0] != "1" or not _VERB.fullmatch(head[1]):
        raise BadRequestError("its first line is not one of this version")
    try:
        count, umask, pid = int(head[2]), int(head[3], 8), int(head[4])
    except ValueError:
        raise BadRequestError("its first line is malformed") from None
    if not rest.endswith(b"SSHQ-END") or not 0 <= umask <= 0o777 or not 0 <= count <= len(rest):
        raise BadRequestError("it is not whole")
    words = rest[: -len(b"SSHQ-END")].split(b"\0")
    for before in range(1, _INTERPRETER_WORDS):
        at = before + count
        if words[at : at + 1] == [b"SSHQ-CWD"] and words[at + 3 : at + 4] == [b"SSHQ-ENVIRON"]:
            break
    else:
        raise BadRequestError("its words are not where they should be")
    cwd, real_cwd = (_text(word) for word in words[at + 1 : at + 3])
    return UpcallRequest(
        verb=head[1],
        argv=tuple(_text(word) for word in words[before:at]),
        environ=_environ(words[at + 4 :]),
        cwd=cwd if cwd.startswith("/") else "",
        real_cwd=real_cwd if real_cwd.startswith("/") else "",
        umask=umask,
        pid=pid,
    )


def parse_given(data: bytes) -> tuple[bytes | None, str]:
    """Read a file QUESTION.in: (its bytes, "") or (None, why there are none)."""
    line, newline, rest = data.partition(b"\n")
    if newline and line == b"ok":
        return rest, ""
    if newline and line.startswith(b"error "):
        return None, line[6:262].decode("utf-8", "replace")
    return None, "Input/output error"


def encode_answer(
    *, tag: str, id: str, token: str, number: int, kind: str, data: bytes = b"", status: int | None = None, ask: bool = False,  # noqa: A002
) -> bytes:  # fmt: skip
    """Give piece `number` of the answer to a command inside a job; may be repeated as it is.  -> Answered

    Args:
        tag: of the question.
        id: the launch of the job.
        token: which of its calls.
        number: from 1 on; with kind "-" the number of pieces so far.
        kind: "out" and "err" are copied to its streams; "-" is no piece.
        data: at most ANSWER_MAX bytes.
        status: the exit status, with the last piece.
        ask: write nothing, only ask whether the command still waits.
    """
    if kind not in ANSWER_KINDS or len(data) > ANSWER_MAX or number < 0 or (status or 0) < 0:
        raise ValueError(f"not a piece of an answer: {kind!r}, {len(data)} bytes")
    said = "" if ask else "-" if status is None else str(status)
    words = (_check(_TAG, tag), _check(TOKEN, id), _check(TOKEN, token), number)
    return write_call("call_answer", *words, *_escape(kind, data), said, end=tag)


def encode_question(*, tag: str, id: str, token: str, question: str, kind: str, data: bytes = b"") -> bytes:  # noqa: A002
    """Ask a command inside a job for something; its answer is the file QUESTION.in of the call.  -> Answered

    Args:
        tag: of this asking; it may be asked again until it is given.
        id: the launch of the job.
        token: which of its calls.
        question: 32 hex digits; the same question is answered once.
        kind: "read" (a file's path), "stdin", "path" (a file is to be made), "data" (for that file), "nonce" (name, blank,
            content).
        data: what it is about, at most ANSWER_MAX bytes.
    """
    if kind not in QUESTION_KINDS or len(data) > ANSWER_MAX:
        raise ValueError(f"not a question: {kind!r}, {len(data)} bytes")
    words = (_check(_TAG, tag), _check(TOKEN, id), _check(TOKEN, token), _check(TOKEN, question))
    return write_call("call_question", *words, *_escape(kind, data), end=tag)


def _escape(kind: str, data: bytes) -> tuple[str, bytes]:
    if b"\0" not in data:
        return kind, data
    return f"b{kind}", data.replace(b"\\", b"\\\\").replace(b"\0", b"\\0000")  # no shell can hold a NUL


def read_answered(rest: str) -> Answered:
    """Read the words of a line B.  ValueError for one that is not well formed."""
    words = rest.split(" ")
    if len(words) != 3 or words[1] not in ("kept", "gone", "given") or not re.fullmatch(r"[0-9]{1,9}", words[2]):
        raise ValueError("not what came of an answer")
    return Answered(tag=_check(_TAG, words[0]), waits=words[1] != "gone", seen=int(words[2]), given=words[1] == "given")


def _check(pattern: re.Pattern[str], value: str) -> str:
    if not pattern.fullmatch(value):
        raise ValueError(f"malformed: {value!r}")
    return value


def _environ(words: list[bytes]) -> dict[str, str]:
    pairs = (_text(word).partition("=") for word in words)
    return {name: value for name, equals, value in pairs if name and equals}


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
