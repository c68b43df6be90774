"""Proving directories for hosts that connect while jobs wait: the controller makes the nonce, for its own uid only."""

import asyncio
import contextlib
import logging
import os
import secrets

from sshq.controller.submission import DirectoryProver
from sshq.core.effects import ProveDirectories

log = logging.getLogger("sshq.proving")
WRITE_S = 5.0  # a hanging network file system must not hang the controller


class DirectoryKeeper:
    """Carries out `ProveDirectories`."""

    def __init__(self, prover: DirectoryProver) -> None:
        self._prover = prover
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, effect: ProveDirectories) -> None:
        task = asyncio.create_task(self._prove_all(effect))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _prove_all(self, effect: ProveDirectories) -> None:
        for path in effect.paths:
            if not self._prover.take_declared(path, [effect.node]):
                continue
            name, nonce = f".sshq-nonce-{secrets.token_hex(8)}", secrets.token_hex(16)
            try:
                async with asyncio.timeout(WRITE_S):
                    await asyncio.to_thread(_write_nonce, path, name, nonce)
            except (OSError, TimeoutError) as error:
                log.info("host=%s cannot be asked about %s: %s", effect.node, path, error)
                continue
            try:
                await self._prover.ask(path, [effect.node], name, nonce)
            finally:
                with contextlib.suppress(OSError):
                    await asyncio.to_thread(os.unlink, os.path.join(path, name))


def _write_nonce(path: str, name: str, nonce: str) -> None:
    fd = os.open(os.path.join(path, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, nonce.encode())
    finally:
        os.close(fd)
