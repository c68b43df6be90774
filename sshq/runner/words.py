"""Words of the runner's lines, converted strictly: what a node says is hostile input."""

import re

INT = re.compile(r"[0-9]{1,18}")
_REAL = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?")
_ID = re.compile(r"[0-9a-f]{32}")
WORD = re.compile(r"[!-~]{1,64}")
_CPU = re.compile(r"([0-9]{1,12})m([0-9]{1,3}(?:\.[0-9]{1,9})?)s")


class BadLineError(Exception):
    """A line is not well formed; `args[0]` says what about it."""


def int_of(word: str) -> int:
    if not INT.fullmatch(word):
        raise BadLineError("not a number")
    return int(word)


def real_of(word: str) -> float:
    if not _REAL.fullmatch(word):
        raise BadLineError("not a number")
    return float(word)


def flag_of(word: str) -> bool:
    if word not in ("0", "1"):
        raise BadLineError("neither 0 nor 1")
    return word == "1"


def id_of(word: str) -> str:
    if not _ID.fullmatch(word):
        raise BadLineError("not a launch id")
    return word


def plain_of(word: str) -> str:
    if not WORD.fullmatch(word):
        raise BadLineError("not a plain word")
    return word


def list_of(word: str) -> tuple[str, ...]:
    return () if word == "-" else tuple(w for w in word.split(",") if w)


def cpu_s_of(word: str) -> float | None:
    match = _CPU.fullmatch(word)
    return int(match[1]) * 60 + float(match[2]) if match else None
