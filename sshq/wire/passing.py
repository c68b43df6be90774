"""Data that a client only passes on, from the controller's socket to a file descriptor: what `sshq logs` and `srun` print.

Where the descriptor is a pipe the kernel moves the data by itself and not a byte of it comes here.
"""

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_BUFFER_BYTES = 256 << 10


class Passing:
    """From one socket to one descriptor."""

    def __init__(self, connection: int, receive_into: "Callable[[memoryview], int]", out: int) -> None:
        """`receive_into` receives from `connection` at least a byte, or raises."""
        self._connection, self._receive_into, self._out = connection, receive_into, out
        self._splices = hasattr(os, "splice") and stat.S_ISFIFO(os.fstat(out).st_mode)
        self._buffer = memoryview(b"")

    def move(self, count: int) -> int:
        """Pass on at least one and at most `count` bytes; return how many.

        Raises:
            OSError: from the descriptor.
            And what `receive_into` raises.

        """
        if self._splices:
            try:
                moved = os.splice(self._connection, self._out, count)
            except BrokenPipeError:
                raise
            except BlockingIOError:
                moved = 0  # nothing is here yet, and the socket has a deadline
            except OSError:  # this kernel does not do it, or the connection has an error, which receiving tells
                moved, self._splices = 0, False
            if moved:
                return moved
        if not self._buffer:
            self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        part = self._buffer[: self._receive_into(self._buffer[:count])]
        count = len(part)
        write_all(self._out, part)
        return count


def write_all(out: int, data: "bytes | memoryview") -> None:
    """Write bytes as they are to a file descriptor.

    Also to one that does not wait for room: whoever shares it may have made it so, as ssh does.

    Raises:
        OSError: from the descriptor.

    """
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(out, view) :]
        except BlockingIOError:
            import select

            waiting = select.poll()
            waiting.register(out, select.POLLOUT)
            waiting.poll()
