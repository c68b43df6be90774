"""Environments of submitted jobs: 0600 files named by their content, never in the database or its backups.

They hold secrets, so they live apart and go when their job is over.  `put` returns when the file and its
name are on the disk: the job that refers to it may then be accepted.
"""

import hashlib
import os
import re
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from sshq.errors import StoreError
from sshq.store.database import FatalStoreError
from sshq.store.files import is_full, make_private, sync_directory, write_durably

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class Environments:
    """May be used from several threads at once."""

    def __init__(self, directory: str | Path) -> None:
        self._directory = Path(directory).absolute()
        self._lock = threading.Lock()
        make_private(self._directory)
        for leftover in self._directory.glob(".new.*"):
            leftover.unlink(missing_ok=True)
        sync_directory(self._directory)  # a name that came just before a crash: from here on all are durable

    def put(self, data: bytes) -> str:
        """Keep `data` and return its digest.  The same bytes are kept once."""
        digest = hashlib.sha256(data).hexdigest()
        path = self._path(digest)
        try:
            with self._lock:  # else a second caller would see the name before it is synced
                if not path.exists():
                    write_durably(path, data)
        except OSError as error:
            if is_full(error):
                raise StoreError(f"no space left in {self._directory}", hint=f"df -h {self._directory}") from error
            raise FatalStoreError(f"{path} cannot be written: {error.strerror}") from error
        return digest

    def get(self, digest: str) -> bytes:
        """Return the bytes.  Raises StoreError where they are gone or not what was kept."""
        path = self._path(digest)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StoreError(f"the environment {path} cannot be read: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise StoreError(f"the environment {path} is damaged")
        return data

    def touch(self, digest: str) -> None:
        """Note that it was used until now; of no consequence where that fails."""
        with suppress(OSError):
            os.utime(self._path(digest))

    def used_at(self, digest: str) -> float:
        """Return when it was made or last used, in seconds since the epoch; 0 where it is not there."""
        try:
            return os.stat(self._path(digest)).st_mtime
        except OSError:
            return 0.0

    def remove(self, digest: str) -> None:
        """Delete it, if it is there."""
        try:
            self._path(digest).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"the environment {digest} cannot be removed: {error.strerror}") from error

    def list(self) -> frozenset[str]:
        """Return the digests of all that are kept."""
        return frozenset(name for name in os.listdir(self._directory) if _DIGEST.fullmatch(name))

    def _path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise StoreError(f"not the digest of an environment: {digest!r}")
        return self._directory / digest
