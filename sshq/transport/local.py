"""The same interface on this machine itself (`ansible_connection: local`): `/bin/sh` in a session of its own.

As over ssh, closing a channel kills nothing, and jobs must outlive the controller.  The runner puts them into sessions
of their own; where `systemd-run --scope` works, the channel also leaves the controller's cgroup, so that a restart of the
service kills none of them.
"""

import asyncio
import functools
import os
import pwd
import signal
import subprocess
from collections.abc import Callable

from sshq.errors import NodeError, UnreachableHostError
from sshq.transport.base import ChannelRefusedError, Counters, Deadlines, Target, Terminal
from sshq.transport.flow import ChannelFlow
from sshq.transport.localterminal import LocalTerminal
from sshq.transport.process import watch_process

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT_VARIABLES = ("LANG", "LANGUAGE", "TZ", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")
_PROBE_DEADLINE_S = 5.0


class LocalTransport:
    """The way to this machine."""

    def __init__(self, target: Target, deadlines: Deadlines | None = None, *, use_scope: bool | None = None) -> None:
        """`use_scope`: None = where it works and there is a service to leave."""
        self.target = target
        self.counters = Counters()
        self._deadlines = deadlines or Deadlines()
        self._use_scope = use_scope

    async def connect(self) -> "LocalConnection":
        """Nothing to log in to; find out how a channel can leave our cgroup."""
        scope: tuple[str, ...] = ()
        if self._use_scope or (self._use_scope is None and is_in_systemd_unit()):
            scope = await find_scope_command()
        return LocalConnection(self.target, self.counters, self._deadlines, scope)


class LocalConnection:
    """A connection that is never lost."""

    def __init__(self, target: Target, counters: Counters, deadlines: Deadlines, scope: tuple[str, ...] = ()) -> None:
        self.target, self.counters, self.scope = target, counters, scope
        self.lost: asyncio.Future[NodeError | None] = asyncio.get_running_loop().create_future()
        self.rtt_s: float | None = 0.0
        self.moved_bytes = 0  # nothing between us is slow
        self._deadlines = deadlines
        self._channels: set[LocalChannel | LocalTerminal] = set()
        counters.connections_opened += 1
        counters.connections_open += 1

    @property
    def channels_free(self) -> int:
        """How many more channels `open` would allow."""
        return self.target.channels_max - len(self._channels)

    @property
    def greeting(self) -> str:
        """For `sshq doctor`."""
        return "this machine, no ssh" + (f"; channels run under {self.scope[0]}" if self.scope else "")

    async def open(
        self, command: str = "exec /bin/sh", *, bulk: bool = False, terminal: Terminal | None = None
    ) -> "LocalChannel | LocalTerminal":
        """Start a command."""
        name = self.target.name
        if self.lost.done():
            raise UnreachableHostError(f"{name}: the connection is closed", host=name)
        if len(self._channels) >= self.target.channels_max:
            message = f"{name}: all {self.target.channels_max} channels of this connection are in use"
            raise ChannelRefusedError(message, by="budget", host=name)
        make = LocalChannel if terminal is None else LocalTerminal
        channel = make(name, command, self.counters, self._deadlines, lambda: self._channels.discard(channel))
        self._channels.add(channel)
        try:
            if isinstance(channel, LocalChannel):
                await channel.start(() if bulk else self.scope)
            elif terminal is not None:
                channel.start(terminal, cwd=find_home(), environ=clean_environment())
        except OSError as exc:
            channel.close()
            message = f"{name}: cannot start a process: {exc.strerror}"
            raise ChannelRefusedError(message, by="host", host=name) from exc
        return channel

    async def close(self) -> None:
        """Let go of all channels; nothing is killed."""
        for channel in list(self._channels):
            channel.close()
        if not self.lost.done():
            self.counters.connections_open -= 1
            self.lost.set_result(None)


class LocalChannel(ChannelFlow):
    """One process of this machine; over when it has exited and both its outputs are closed."""

    def __init__(self, host: str, command: str, counters: Counters, deadlines: Deadlines, on_end: Callable[[], None]) -> None:
        super().__init__(host, command, counters, deadlines, on_end)
        self._parts = 3
        self._started = self._closed = False
        self._stdin: asyncio.WriteTransport | None = None
        self._outputs: list[asyncio.ReadTransport] = []

    async def start(self, scope: tuple[str, ...]) -> None:
        """Start the process and take its pipes into the loop."""
        process = subprocess.Popen(  # noqa: ASYNC220 - a fork, no waiting
            [*scope, "/bin/sh", "-c", self.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=find_home(),
            env=clean_environment(),
            start_new_session=True,
        )
        self._started = True
        self._counters.count_channel()
        watch_process(process, self._on_exit)
        try:
            await self._take_pipes(process)
        except BaseException:
            self.close()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
            raise

    async def _take_pipes(self, process: "subprocess.Popen[bytes]") -> None:
        loop = asyncio.get_running_loop()
        taker = _Taker(self._outflow.pause, self._outflow.resume)
        self._stdin = (await loop.connect_write_pipe(lambda: taker, process.stdin))[0]
        for pipe, feed, end in (
            (process.stdout, self._receive, self._end_output),
            (process.stderr, self._receive_error, self._end_part),
        ):
            make_giver = functools.partial(_Giver, feed, end)
            self._outputs.append((await loop.connect_read_pipe(make_giver, pipe))[0])

    def write(self, data: bytes) -> None:
        """Send to stdin."""
        if self._stdin is not None and not self._stdin.is_closing() and data:
            self._stdin.write(data)
            self._counters.bytes_out += len(data)

    def write_eof(self) -> None:
        """Close stdin after what was written."""
        if self._stdin is not None and not self._stdin.is_closing():
            self._stdin.write_eof()

    def resize(self, rows: int, columns: int) -> None:
        """It has no terminal."""

    def close(self) -> None:
        """Let go of the pipes; the process is not killed, and is still reaped when it ends."""
        if self._closed:
            return
        self._closed = True
        if self._started:
            self._counters.channels_open -= 1
        if self._stdin is not None:
            self._stdin.close()
        for output in self._outputs:
            output.close()
        if self._on_end is not None:
            self._on_end()
            self._on_end = None

    def _on_exit(self, code: int) -> None:
        if code >= 0:
            self._exit_code = code
        else:
            self.exit_signal = signal.Signals(-code).name.removeprefix("SIG")
        self._end_part()

    def _end_output(self) -> None:
        self._inflow.end()
        self._end_part()

    def _end_part(self) -> None:
        self._parts -= 1
        if self._parts == 0:
            self._end()
            self.close()

    def _pause(self) -> None:
        if self._outputs:
            self._outputs[0].pause_reading()

    def _resume(self) -> None:
        if self._outputs and not self._outputs[0].is_closing():
            self._outputs[0].resume_reading()


class _Giver(asyncio.Protocol):
    """The reading end of stdout or stderr."""

    def __init__(self, feed: Callable[[bytes], None], end: Callable[[], None]) -> None:
        self._feed, self._end = feed, end

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self._feed(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The other end closed, or we did."""
        self._end()


class _Taker(asyncio.Protocol):
    """The writing end of stdin."""

    def __init__(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._pause, self._resume = pause, resume

    def pause_writing(self) -> None:
        """Too much waits to go out."""
        self._pause()

    def resume_writing(self) -> None:
        """Writing may go on."""
        self._resume()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Nobody reads any more: nothing holds a writer up."""
        self._resume()


def find_home() -> str:
    """Return our home directory if it is there, else the root."""
    home = pwd.getpwuid(os.getuid()).pw_dir
    return home if os.path.isdir(home) else "/"


def clean_environment() -> dict[str, str]:
    """Return what a login would have: nothing of the controller's own, above all no `SSHQ_*`."""
    user = pwd.getpwuid(os.getuid())
    kept = {name: value for name, value in os.environ.items() if name in _KEPT_VARIABLES or name.startswith("LC_")}
    return {
        "PATH": os.environ.get("PATH") or _DEFAULT_PATH,
        **kept,
        "HOME": user.pw_dir,
        "USER": user.pw_name,
        "LOGNAME": user.pw_name,
        "SHELL": user.pw_shell or "/bin/sh",
    }


def is_in_systemd_unit() -> bool:
    """Whether we run in a service or session whose end would take our processes along."""
    if not os.path.isdir("/run/systemd/system"):
        return False
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            return any(line.rstrip().endswith((".service", ".scope")) for line in file)
    except OSError:
        return False


async def find_scope_command() -> tuple[str, ...]:
    """Return the words that start a command in a scope of its own, tried once; empty where that does not work."""
    user = () if os.getuid() == 0 else ("--user",)
    words = ("systemd-run", *user, "--scope", "--quiet", "--collect", "--")
    try:
        probe = await asyncio.create_subprocess_exec(
            *words,
            "true",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=clean_environment(),
        )
    except OSError:
        return ()
    try:
        async with asyncio.timeout(_PROBE_DEADLINE_S):
            return words if await probe.wait() == 0 else ()
    except TimeoutError:
        probe.kill()
        await probe.wait()
        return ()
