"""What an environment held, so that a difference can be named: names of variables, and of each value a keyed digest.

The values are secrets: they are in no database.  A digest without a key could be guessed at (a token of six digits), so there
is a key, in a file that no backup has.  Where it is lost nothing can be compared with what was noted before, and that is said.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

from sshq.errors import StoreError
from sshq.store.files import write_durably

KEY_BYTES: Final = 32
_DIGEST_BYTES: Final = 6  # of a value: enough to see a change by
FILE: Final = "variables_key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """By name, sorted."""

    changed: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    new: tuple[str, ...] = ()


class Variables:
    """Makes and compares these notes, with the key of one state directory."""

    def __init__(self, state_dir: Path) -> None:
        """Read the key, or make one.  Raises StoreError."""
        path = state_dir / FILE
        try:
            try:
                self._key = path.read_bytes()
            except FileNotFoundError:
                self._key = os.urandom(KEY_BYTES)
                write_durably(path, self._key)
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from error
        if len(self._key) != KEY_BYTES:
            raise StoreError(f"{path} is damaged", hint=f"rm {path}: environments of earlier jobs can then not be compared")
        self._name = blake2b(b"name", key=self._key, digest_size=4).hexdigest()

    def describe(self, environ: Mapping[str, str]) -> str:
        """Return the note of an environment."""
        return json.dumps({"key": self._name, "values": self._digests(environ)}, separators=(",", ":"))

    def compare(self, text: str, environ: Mapping[str, str]) -> Difference | None:
        """Return how an environment differs from the one that was noted; None where that cannot be said."""
        noted = json.loads(text)
        if noted.get("key") != self._name:
            return None
        before, now = noted["values"], self._digests(environ)
        return Difference(
            changed=tuple(sorted(name for name in before.keys() & now.keys() if before[name] != now[name])),
            gone=tuple(sorted(before.keys() - now.keys())),
            new=tuple(sorted(now.keys() - before.keys())),
        )

    def _digests(self, environ: Mapping[str, str]) -> dict[str, str]:
        def digest(name: str, value: str) -> str:
            whole = f"{name}={value}".encode("utf-8", "surrogatepass")
            return blake2b(whole, key=self._key, digest_size=_DIGEST_BYTES).hexdigest()

        return {name: digest(name, value) for name, value in environ.items()}


def names_of(text: str) -> list[str]:
    """Return the names of the variables of a note."""
    return sorted(json.loads(text)["values"])
