"""Processes we start on this machine: noticing their end without a thread, and a ProxyCommand as a socket."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable

from sshq.transport.flow import Tail

_ERRORS_KEPT = 2048


def watch_process(process: "subprocess.Popen[bytes]", on_exit: Callable[[int], None]) -> None:
    """Call `on_exit` with the exit code (negative: the signal) when the process is over; it is reaped then."""
    loop = asyncio.get_running_loop()
    watch = os.pidfd_open(process.pid)

    def reap() -> None:
        loop.remove_reader(watch)
        os.close(watch)
        on_exit(process.wait())

    loop.add_reader(watch, reap)


class Proxy:
    """A running ProxyCommand; `sock` is its standard input and output.

    asyncssh's own would mix the proxy's standard error into the SSH stream.
    """

    def __init__(self, command: str) -> None:
        """As OpenSSH: run by the shell, in place of the shell, in a session of its own."""
        self.sock, theirs = socket.socketpair()
        self.sock.setblocking(False)
        self._errors = Tail(_ERRORS_KEPT)
        self._over = False
        with theirs:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        watch_process(self._process, self._on_exit)
        pipe = self._process.stderr
        if pipe is not None:  # it always is: we asked for one
            os.set_blocking(pipe.fileno(), False)
            asyncio.get_running_loop().add_reader(pipe, self._read_errors)

    @property
    def said(self) -> str:
        """The last line of its standard error."""
        self._read_errors()
        lines = self._errors.data.decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""

    def end(self) -> None:
        """Hang up on it, as ssh does."""
        if not self._over:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGHUP)
        self._drop_errors()

    def _on_exit(self, code: int) -> None:  # noqa: ARG002
        self._over = True
        self._read_errors()

    def _read_errors(self) -> None:
        pipe = self._process.stderr
        if pipe is None or pipe.closed:
            return
        try:
            data = os.read(pipe.fileno(), 65536)
        except BlockingIOError:
            return
        if data:
            self._errors.feed(data)
        else:
            self._drop_errors()

    def _drop_errors(self) -> None:
        pipe = self._process.stderr
        if pipe is not None and not pipe.closed:
            asyncio.get_running_loop().remove_reader(pipe)
            pipe.close()
