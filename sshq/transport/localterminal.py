"""A channel of this machine with a terminal: a pair of pseudo terminals, a session of its own on the other end."""

import asyncio
import errno
import fcntl
import os
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Mapping

from sshq.transport.base import Counters, Deadlines, Terminal
from sshq.transport.flow import ChannelFlow
from sshq.transport.process import watch_process

_BLOCK = 65536
_UNSENT_MAX = 256 * 1024
_LAST_WORDS_S = 0.3  # what was written before the end is there at once; others may hold the terminal open for ever
# Opened anew by the leader of the session, it becomes the session's own.
_ADOPT = 'exec <"$0" >"$0" 2>&1 && exec /bin/sh -c "$1"'


class LocalTerminal(ChannelFlow):
    """One process of this machine on a terminal; over when it has exited."""

    def __init__(self, host: str, command: str, counters: Counters, deadlines: Deadlines, on_end: Callable[[], None]) -> None:
        super().__init__(host, command, counters, deadlines, on_end)
        self._fd = -1
        self._unsent = bytearray()
        self._reading = False
        self._exited = False

    def start(self, terminal: Terminal, *, cwd: str, environ: Mapping[str, str]) -> None:
        """Start the process on a new terminal.  Raises OSError."""
        self._fd, slave = os.openpty()
        try:
            self.resize(terminal.rows, terminal.columns)
            os.set_blocking(self._fd, False)
            process = subprocess.Popen(
                ["/bin/sh", "-c", _ADOPT, os.ttyname(slave), self.command],
                stdin=slave, stdout=slave, stderr=slave, cwd=cwd, env={**environ, "TERM": terminal.term}, start_new_session=True,
            )  # fmt: skip
        except BaseException:
            self._close_fd()
            raise
        finally:
            os.close(slave)
        self._counters.count_channel()
        watch_process(process, self._on_exit)
        self._resume()

    def write(self, data: bytes) -> None:
        """Send to the terminal."""
        if self._fd < 0 or not data:
            return
        self._counters.bytes_out += len(data)
        self._unsent += data
        self._write_some()

    def write_eof(self) -> None:
        """A terminal has no end of input but the character for it, which is the sender's business."""

    def resize(self, rows: int, columns: int) -> None:
        """Tell the terminal its new size."""
        if self._fd >= 0:
            fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close(self) -> None:
        """Hang up."""
        if self._fd >= 0:
            self._close_fd()
            self._counters.channels_open -= 1
        self._end()

    def _write_some(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._unsent:
                del self._unsent[: os.write(self._fd, self._unsent[:_BLOCK])]
        except BlockingIOError:
            loop.add_writer(self._fd, self._write_some)
            if len(self._unsent) > _UNSENT_MAX:
                self._outflow.pause()
            return
        except OSError:
            self._unsent.clear()  # the reading side tells
        loop.remove_writer(self._fd)
        self._outflow.resume()

    def _read_some(self) -> None:
        try:
            data = os.read(self._fd, _BLOCK)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""
        if data:
            self._receive(data)
            return
        # Nobody has it open: so for the moment between our start and the process's, and at the end.
        self._pause()
        if self._exited:
            self.close()
        else:
            asyncio.get_running_loop().call_later(0.02, self._resume)

    def _on_exit(self, code: int) -> None:
        if code >= 0:
            self._exit_code = code
        else:
            self.exit_signal = signal.Signals(-code).name.removeprefix("SIG")
        self._exited = True
        asyncio.get_running_loop().call_later(_LAST_WORDS_S, self._close_when_read)

    def _close_when_read(self) -> None:
        """Not while whoever reads is behind: what is held back is still in the terminal."""
        if self._fd < 0:
            return
        if self._reading:
            self.close()
        else:
            asyncio.get_running_loop().call_later(_LAST_WORDS_S, self._close_when_read)

    def _pause(self) -> None:
        if self._fd >= 0 and self._reading:
            self._reading = False
            asyncio.get_running_loop().remove_reader(self._fd)

    def _resume(self) -> None:
        if self._fd >= 0 and not self._reading:
            self._reading = True
            asyncio.get_running_loop().add_reader(self._fd, self._read_some)

    def _close_fd(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            loop = asyncio.get_running_loop()
            loop.remove_reader(fd)
            loop.remove_writer(fd)
            os.close(fd)
