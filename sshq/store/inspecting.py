"""The look at a store's file before it is opened, begun early: of a long queue it takes as long as loading the program.

It reads and changes nothing, and nobody else writes meanwhile: the caller holds the lock on the directory.
"""

import os
from pathlib import Path
from threading import Thread

from sshq.errors import StoreError
from sshq.store.database import NAME, SCHEMA, Looked, look_at
from sshq.store.files import refuse_shared


class Inspection:
    """`look_at` in a thread of its own; called, it returns or raises what that does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: Looked | BaseException | None = None
        self._thread = Thread(target=self._look, name="inspection", daemon=True)  # who ends meanwhile does not wait for it
        self._thread.start()

    def _look(self) -> None:
        try:
            self._found = look_at(self._path, SCHEMA)
        except BaseException as error:
            self._found = error  # for who asks

    def __call__(self) -> Looked:
        self._thread.join()
        if isinstance(self._found, Looked):
            return self._found
        raise self._found or RuntimeError("the inspection was cut short")


def begin_inspection(directory: Path, mountinfo: str | None = None) -> Inspection | None:
    """Begin to look at the store in `directory`.

    None where there is none, where it has to be rolled back to be read, and where opening may refuse the directory: who only
    reads still writes SQLite's index, which on a network file system another head may be using, whatever the lock says.
    """
    path = directory / NAME
    if not path.is_file() or path.with_name(f"{NAME}-journal").exists() or directory.stat().st_uid != os.geteuid():
        return None
    try:
        refuse_shared(directory, mountinfo)  # that it is allowed would stand in the configuration, which is not read yet
    except StoreError:
        return None
    return Inspection(path)
