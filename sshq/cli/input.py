"""Standard input on its way to a command on a node: in numbered chunks, each repeated until it has arrived."""

import os
import select
import threading

from sshq.cli.following import ask_patiently
from sshq.errors import SshqError

CHUNK_BYTES = 32_768
PATIENCE_S = 24 * 3600.0  # whoever waits for the end of the command decides, not this


class InputFeeder(threading.Thread):
    """Reads a descriptor to its end and brings it to a job, or to one of its parts ("main": to the job's own command)."""

    def __init__(self, job_id: int, token: str = "main", descriptor: int = 0) -> None:  # noqa: S107 - no password
        super().__init__(daemon=True)
        self._job_id = job_id
        self._token = token
        self._descriptor = descriptor
        self._over, self._stop = os.pipe()

    def run(self) -> None:
        number = 0
        while True:
            data = self._read()
            if data is None or not self._bring(number, data) or not data:
                return
            number += 1

    def close(self) -> None:
        """Read no more: the command has ended."""
        os.close(self._stop)

    def _read(self) -> bytes | None:
        """Return what is there, b"" at the end, None when it is over."""
        try:
            ready, _, _ = select.select([self._descriptor, self._over], [], [])
            return None if self._over in ready else os.read(self._descriptor, CHUNK_BYTES)
        except OSError:  # closed, or a terminal that hung up: an end all the same
            return b""

    def _bring(self, number: int, data: bytes) -> bool:
        from binascii import b2a_base64

        params: dict[str, object] = {
            "ref": [self._job_id, None], "token": self._token, "number": number, "data": b2a_base64(data, newline=False).decode(),
        }  # fmt: skip
        try:
            return ask_patiently("part_input", params, patience_s=PATIENCE_S, timeout_s=None).get("open") is True
        except SshqError:
            return False  # the job is over: whoever waits for it says so
