"""Interpreters of a node: the question, and its answer read.  The other half is `pythons.sh`."""

import re
from collections.abc import Iterable, Sequence

from sshq.core.pythons import Found
from sshq.runner.calls import write_call

_TAG = re.compile(r"[!-~]{1,64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_MADE, _NUMBERS = re.compile(r"[a-z]{1,20}"), re.compile(r"[0-9.]{1,20}")
_TEXT_MAX = 60  # of a version


def encode_pythons(*, tag: str, names: Sequence[str], candidates: Sequence[str]) -> bytes:
    """Ask which of some interpreters are there, and what distributions they have; holds up nothing.  -> FactsReply"""
    if not _TAG.fullmatch(tag) or not all(_NAME.fullmatch(name) for name in names):
        raise ValueError("not a tag, or not a name of a distribution")
    return write_call("call_pythons", tag, len(names), *names, *candidates, end=tag)


def read_pythons(facts: Iterable[tuple[str, str]]) -> list[Found]:
    """Return what a node told, in the order of the candidates; what does not fit is left out."""
    paths: dict[str, str] = {}
    versions: dict[str, tuple[str, str]] = {}
    packages: dict[str, dict[str, str | None]] = {}
    for key, value in facts:
        if key.endswith(".path"):
            paths[key[:-5]] = value
            continue
        match value.split(" "):
            case ["sshq", "python", made, version] if _MADE.fullmatch(made) and _NUMBERS.fullmatch(version):
                versions[key] = made, version
            case ["sshq", "package", name, version] if version.isprintable():
                packages.setdefault(key, {})[name] = version[:_TEXT_MAX]
    found = []
    for key, path in paths.items():
        if not path.startswith("/") or not path.isprintable():
            continue
        made, version = versions.get(key, ("", ""))
        if version:
            found.append(Found(path=path, version=version, implementation=made, packages=packages.get(key, {})))
    return found
