"""A terminal here and one on a node: what is typed goes there as it is, what is shown there comes here, and so does its size."""

import os
import select
import signal
import sys
import termios
import threading
import tty

from sshq.cli.asking import Object
from sshq.errors import SshqError
from sshq.wire.client import Client, connect
from sshq.wire.passing import write_all

BLOCK = 16_384


class RawTerminal:
    """Our terminal in raw mode while in use; set back at any end that lets this process act."""

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor
        self._saved: list[object] | None = None

    def __enter__(self) -> "RawTerminal":
        if os.isatty(self._descriptor):
            self._saved = termios.tcgetattr(self._descriptor)
            tty.setraw(self._descriptor, termios.TCSADRAIN)
        return self

    def __exit__(self, *_: object) -> None:
        if self._saved is not None:
            # From the background this would stop us for ever.
            old = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            try:
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._saved)  # type: ignore[arg-type]
            except termios.error:
                pass  # it hung up
            signal.signal(signal.SIGTTOU, old)


class TerminalRelay:
    """One terminal of a job: `run` returns its exit status."""

    def __init__(self, params: Object) -> None:
        self._token = str(params["token"])
        size = find_size()
        self._params = params | {"term": os.environ.get("TERM", "dumb"), "rows": size[0], "columns": size[1]}
        self._waking, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._over = False

    def run(self) -> Object:
        """Relay until the terminal on the node has ended; the reply has its status.

        Raises:
            SshqError: it could not be opened, or the controller went away.
            KeyboardInterrupt: we were told to end.

        """
        old = {number: signal.signal(number, self._note) for number in (signal.SIGWINCH,)}
        for number in (signal.SIGTERM, signal.SIGHUP):
            old[number] = signal.signal(number, _end)
        typing = threading.Thread(target=self._type, daemon=True)
        try:
            with connect(os.environ) as client, RawTerminal():
                typing.start()
                stream = client.data("attach", self._params, timeout_s=None)
                for data in stream:
                    write_all(1, data)
                return stream.result
        finally:
            self._over = True
            self._note()
            for number, handler in old.items():
                signal.signal(number, handler)

    def _note(self, *_: object) -> None:
        try:
            os.write(self._wake, b"!")
        except BlockingIOError:
            pass

    def _type(self) -> None:
        try:
            with connect(os.environ) as client:
                self._type_on(client)
        except (SshqError, OSError):
            pass  # whoever reads meets the same

    def _type_on(self, client: Client) -> None:
        from binascii import b2a_base64

        descriptors = [0, self._waking]
        self._note()  # the size may have changed meanwhile
        while not self._over:
            ready, _, _ = select.select(descriptors, [], [])
            params: Object = {"token": self._token}
            if self._waking in ready:
                os.read(self._waking, 64)
                params["rows"], params["columns"] = find_size()
            if 0 in ready:
                data = _read_quietly()
                if not data:
                    descriptors.remove(0)
                    data = b"" if os.isatty(0) else b"\x04"  # the end of a file is a terminal's Ctrl-D
                params["data"] = b2a_base64(data, newline=False).decode()
            if self._over or client.call("attach_input", params, timeout_s=None).get("open") is not True:
                return


def find_size() -> tuple[int, int]:
    """Return rows and columns of our terminal; those of the oldest one where we have none."""
    for stream in (sys.__stdin__, sys.__stdout__, sys.__stderr__):
        try:
            size = os.get_terminal_size(stream.fileno())  # type: ignore[union-attr]
        except (OSError, ValueError, AttributeError):
            continue
        if size.lines and size.columns:
            return size.lines, size.columns
    return 24, 80


def _read_quietly() -> bytes:
    try:
        return os.read(0, BLOCK)
    except OSError:
        return b""


def _end(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt
