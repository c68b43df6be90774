"""Which Python a call needs, and whether one of those that a node has will do.

A need travels as text (JSON, sorted), so that equal needs are one question to a node: asked at most once a connection, and
only for jobs that have one.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

OLDEST = (3, 8)  # what the stub is written for
REQUIRES_MAX = 50
CANDIDATES_MAX = 6
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(.*)", re.DOTALL)
_CLAUSE = re.compile(r"\s*(>=|<=|==|!=|~=|>|<)\s*([A-Za-z0-9.!+_-]+?)(\.\*)?\s*")
_VERSION = re.compile(
    r"v?(?:(\d+)!)?(\d+(?:\.\d+)*)(?:[-_.]?(a|b|c|rc|alpha|beta|pre|preview)[-_.]?(\d*))?"
    r"(?:[-_.]?(?:post|rev|r)[-_.]?(\d*)|-(\d+))?(?:[-_.]?dev[-_.]?(\d*))?(?:\+[a-z0-9._-]+)?"
)
_STAGES = {"a": 0, "alpha": 0, "b": 1, "beta": 1, "c": 2, "rc": 2, "pre": 2, "preview": 2}
_NONE = 1 << 60
Key = tuple[int, tuple[int, ...], tuple[int, int], int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a call asks of an interpreter.

    Attributes:
        version: "3.11": this minor version; None: any from 3.8 on.
        implementation: "cpython", "pypy"; "" any.
        candidates: paths or names, the first that fits is taken; "" stands for the host's own (`sshq_python`).
        requires: distributions that must be installed: "numpy", "numpy>=1.20,<3".

    """

    version: str | None = None
    implementation: str = ""
    candidates: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()

    def __str__(self) -> str:
        maker = {"": "Python", "cpython": "Python", "pypy": "PyPy"}.get(self.implementation, self.implementation)
        text = f"{maker} {self.version}" if self.version else f"{maker} {OLDEST[0]}.{OLDEST[1]} or newer"
        if len(self.candidates) == 1 and self.candidates[0]:
            text += f" at {self.candidates[0]}"
        return text + (f" with {' and '.join(self.requires)}" if self.requires else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One interpreter that a node has; `version` is "" where it did not say, `packages` has None for one that is absent."""

    path: str
    version: str = ""
    implementation: str = ""
    packages: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonAnswer:
    """What a node's interpreters are for one need: the one that fits, or in words why none does."""

    path: str | None
    detail: str = ""
    at: float = 0.0  # seconds since the epoch


def write_need(need: Need) -> str:
    """Return the one text of a need."""
    given = {
        "version": need.version, "implementation": need.implementation, "candidates": list(need.candidates),
        "requires": list(need.requires),
    }  # fmt: skip
    return json.dumps(given, sort_keys=True, separators=(",", ":"))


def read_need(text: str) -> Need:
    """Return the need of a text.

    Raises:
        ValueError: it is none; the message says what is wrong.

    """
    try:
        given = json.loads(text)
    except ValueError:
        raise ValueError("python is no need that sshq wrote") from None
    if not isinstance(given, dict) or set(given) != {"version", "implementation", "candidates", "requires"}:
        raise ValueError("python is no need that sshq wrote")
    version, implementation = given["version"], given["implementation"]
    candidates, requires = given["candidates"], given["requires"]
    if version is not None and not (isinstance(version, str) and re.fullmatch(r"\d{1,3}\.\d{1,3}", version)):
        raise ValueError(f"not a version of Python: {version!r}")
    if not isinstance(implementation, str) or not re.fullmatch(r"[a-z]{0,20}", implementation):
        raise ValueError(f"not an implementation of Python: {implementation!r}")
    for words, most in ((candidates, CANDIDATES_MAX), (requires, REQUIRES_MAX)):
        if not isinstance(words, list) or len(words) > most or not all(isinstance(one, str) for one in words):
            raise ValueError(f"a need has at most {most} texts of a kind")
    for one in candidates:
        if len(one) > 1024 or any(letter < " " or letter == "\x7f" for letter in one):
            raise ValueError(f"not a path of an interpreter: {one[:80]!r}")
    for one in requires:
        read_requirement(one)
    return Need(version=version, implementation=implementation, candidates=tuple(candidates), requires=tuple(requires))


def read_requirement(text: str) -> tuple[str, tuple[tuple[str, str, bool], ...]]:
    """Return name and clauses (operator, version, whether it ends in .*) of "numpy>=1.20,<3".

    Raises:
        ValueError: it is no requirement of this simple kind (no extras, markers or addresses).

    """
    found = _REQUIREMENT.fullmatch(text)
    if found is None or len(text) > 200:
        raise ValueError(f"not a requirement: {text[:80]!r} (a name, or a name and versions: numpy>=1.20,<3)")
    name, rest = found[1], found[2].strip()
    clauses = []
    for part in rest.split(",") if rest else ():
        clause = _CLAUSE.fullmatch(part)
        if clause is None or version_key(clause[2]) is None or (clause[3] and clause[1] not in ("==", "!=")):
            raise ValueError(f"not a requirement: {text[:80]!r} (a name, or a name and versions: numpy>=1.20,<3)")
        clauses.append((clause[1], clause[2], bool(clause[3])))
    return name, tuple(clauses)


def choose(need: Need, found: Sequence[Found]) -> PythonAnswer:
    """Return the first interpreter that will do, or why none does; `found` are those there, in the order of the candidates."""
    near: list[str] = []  # of those that have the version: what they lack
    others: list[str] = []
    for one in found:
        if not _has_version(need, one):
            text = f"{_name(one)} ({one.path})"
            if text not in others:
                others.append(text)
            continue
        lack = _lacks(need, one)
        if lack is None:
            return PythonAnswer(path=one.path)
        near.append(f"{one.path} ({one.version}) {lack}")
    if near:
        return PythonAnswer(path=None, detail=near[0])
    if others:
        return PythonAnswer(path=None, detail="has " + ", ".join(others[:4]))
    return PythonAnswer(path=None, detail="has none")


def _name(one: Found) -> str:
    return one.version if one.implementation in ("", "cpython") else f"{one.implementation} {one.version}"


def _has_version(need: Need, one: Found) -> bool:
    numbers = one.version.split(".")
    if len(numbers) < 2 or not all(number.isascii() and number.isdecimal() for number in numbers[:2]):
        return False
    if need.implementation and one.implementation != need.implementation:
        return False
    if need.version is not None:
        return need.version == ".".join(numbers[:2])
    return (int(numbers[0]), int(numbers[1])) >= OLDEST


def _lacks(need: Need, one: Found) -> str | None:
    for text in need.requires:
        name, clauses = read_requirement(text)
        version = one.packages.get(name)
        if version is None:
            return f"lacks {name}"
        if not all(fulfils(version, *clause) for clause in clauses):
            return f"has {name} {version}"
    return None


def fulfils(version: str, operator: str, wanted: str, any_below: bool = False) -> bool:
    """Whether a version of a distribution is what one clause asks; one that cannot be read fulfils nothing but no clause."""
    found, key = version_key(version), version_key(wanted)
    if found is None or key is None:
        return operator == "==" and version == wanted
    same = _release(wanted)
    if any_below:
        inside = _release(version, len(same)) == same
        return inside if operator == "==" else not inside
    match operator:
        case "==":
            return found == key
        case "!=":
            return found != key
        case ">=":
            return found >= key
        case "<=":
            return found <= key
        case ">":
            return found > key and found[1] != key[1]
        case "<":
            return found < key and (found[1] != key[1] or key[2][0] != _NONE)
    return found >= key and len(same) > 1 and _release(version, len(same) - 1) == same[:-1]  # ~=


def _release(version: str, count: int = 0) -> tuple[int, ...]:
    found = _VERSION.fullmatch(version.lower())
    numbers = tuple(int(one) for one in found[2].split(".")) if found else ()
    return (numbers + (0,) * count)[:count] if count else numbers


def version_key(version: str) -> Key | None:
    """Return what versions are ordered by (those of PEP 440), None for another text."""
    found = _VERSION.fullmatch(version.lower()) if len(version) <= 100 else None
    if found is None:
        return None
    epoch, release, stage, number, post, dash, dev = found.groups()
    numbers = [int(one) for one in release.split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    after = post if post is not None else dash
    has_dev = dev is not None
    first = (-1, 0) if has_dev and after is None else (_NONE, 0)
    if stage is not None:
        first = _STAGES[stage], int(number or 0)
    return int(epoch or 0), tuple(numbers), first, -1 if after is None else int(after or 0), int(dev or 0) if has_dev else _NONE
