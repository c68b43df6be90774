"""A channel over asyncssh, by its callbacks: no stream objects in between, a line costs some 65 µs of CPU."""

import asyncio
from collections.abc import Callable

import asyncssh

from sshq.transport.base import Counters, Deadlines
from sshq.transport.flow import ChannelFlow
from sshq.transport.pacing import Pacer

PAUSE_S = 0.005


class SshChannel(ChannelFlow, asyncssh.SSHClientSession[bytes]):
    """One command on a host."""

    def __init__(self, host: str, command: str, counters: Counters, deadlines: Deadlines, on_end: Callable[[], None]) -> None:
        super().__init__(host, command, counters, deadlines, on_end)
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._resuming = self._pause_due = False
        self._pacer: Pacer | None = None
        self._written = self._window = 0

    def write(self, data: bytes) -> None:
        """Send to stdin."""
        if self._channel is None or not data:
            return
        try:
            self._channel.write(data)
            self._counters.bytes_out += len(data)
            self._written += len(data)
        except OSError:
            pass  # closed under us: the reading side tells

    async def pace(self) -> None:
        """Wait until little of what was written is under way: what the host took, only its window tells."""
        await self.drain()
        loop = asyncio.get_running_loop()
        if self._pacer is None:
            if self._channel is None:
                return
            self._pacer = Pacer(loop.time())
            self._window = self._channel._send_window + max(0, self._written - self._channel.get_write_buffer_size())  # noqa: SLF001
        ends_at = loop.time() + self._deadlines.drain_s
        self._pacer.note_written(self._written, loop.time())
        while (channel := self._channel) is not None and not channel.is_closing():
            under_way = channel.get_write_buffer_size() + max(0, self._window - channel._send_window)  # noqa: SLF001
            self._pacer.note_taken(self._written - under_way, loop.time())
            if under_way < self._pacer.limit:
                return
            if loop.time() > ends_at:
                raise self._stuck(self._deadlines.drain_s)
            await asyncio.sleep(PAUSE_S)

    def write_eof(self) -> None:
        """Close stdin."""
        if self._channel is not None:
            self._channel.write_eof()

    def resize(self, rows: int, columns: int) -> None:
        """Tell the terminal its new size."""
        if self._channel is not None:
            try:
                self._channel.change_terminal_size(columns, rows)
            except OSError:
                pass  # closed under us

    def close(self) -> None:
        """Let go; input not yet sent still goes out for a moment, then no more."""
        if self._channel is not None:
            self._channel.close()
            asyncio.get_running_loop().call_later(self._deadlines.close_s, self._abort)

    def abandon(self, opening: "asyncio.Future[None]") -> None:
        """The opening that nobody waits for any more is over; opened after all = close it."""
        failed = opening.cancelled() or opening.exception() is not None
        if failed or self._channel is None:
            self._end()
        self._abort()

    def _abort(self) -> None:
        if self._channel is not None:
            self._channel.abort()

    # asyncssh opens the window again, whole, with the first piece that it hands over of those it had to keep, however many are
    # left: paused after some of them, it would be sent a window more each time, without bound.  So it hands over all or none.

    def _pause(self) -> None:
        if self._resuming:
            self._pause_due = True
        elif self._channel is not None:
            self._channel.pause_reading()

    def _resume(self) -> None:
        if self._channel is None:
            return
        self._resuming, self._pause_due = True, False
        try:
            self._channel.resume_reading()
        finally:
            self._resuming = False
        if self._pause_due:
            self._channel.pause_reading()

    # What asyncssh tells.

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """The host opened the channel."""
        self._channel = chan
        self._counters.count_channel()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Bytes came."""
        if datatype is None:
            self._receive(data)
        else:
            self._receive_error(data)

    def eof_received(self) -> bool:
        """No more output; input may go on."""
        self._inflow.end()
        return True

    def exit_status_received(self, status: int) -> None:
        """The command ended by itself."""
        self._exit_code = status

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:  # noqa: ARG002
        """The command ended by a signal."""
        self.exit_signal = signal

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The channel is gone, in order or not."""
        if self._channel is not None:
            self._counters.channels_open -= 1
            self._channel = None
        self._end()

    def pause_writing(self) -> None:
        """Too much waits to go out."""
        self._outflow.pause()

    def resume_writing(self) -> None:
        """Writing may go on."""
        self._outflow.resume()
