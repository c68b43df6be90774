"""What a transport is: bytes to a host and back.  It knows nothing of jobs.

`Transport` → `Connection` → `Channel`, the same for ssh and for this machine itself.  Silence is never an outcome: a
channel that ends without an exit status says `None`, and `None` is never success.  Nothing here imports asyncssh.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from sshq.errors import NodeError, NoReplyError

MAX_CHANNELS = 8  # sshd's default MaxSessions is 10, and it frees a place only after we have seen the channel close
STDERR_KEPT = 16 * 1024
_FEED_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """How to reach one host, as the inventory has it; what is None is left to ssh's own configuration."""

    name: str  # the inventory name: host keys are pinned to it and every error carries it
    address: str
    port: int | None = None
    account: str | None = None
    identity_files: tuple[str, ...] = ()
    proxy_jump: str | None = None  # "user@gate:2222,gate2"; "none" = straight, whatever ssh's configuration says
    options: tuple[tuple[str, str], ...] = ()  # the inventory's other `-o KEY=VALUE`
    connection: Literal["ssh", "local"] = "ssh"
    ssh_config: str | None = None  # as `ssh -F`; None = the user's and the machine's own files, "none" = no file
    channels_max: int = MAX_CHANNELS  # on one connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Seconds a whole operation may take; waiting for one's turn among other hosts does not count."""

    connect_s: float = 20.0
    login_s: float = 30.0
    open_s: float = 20.0
    drain_s: float = 60.0
    close_s: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """What a channel's terminal is at its start; its stderr is its stdout then."""

    term: str = "dumb"
    rows: int = 24
    columns: int = 80


@dataclass(slots=True)
class Counters:
    """What one host and account costs its node, over all connections: the etiquette figures."""

    connections_opened: int = 0
    connections_open: int = 0
    channels_opened: int = 0
    channels_open: int = 0
    channels_peak: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    logins_refused: int = 0

    def count_channel(self) -> None:
        """Note a channel just opened."""
        self.channels_opened += 1
        self.channels_open += 1
        self.channels_peak = max(self.channels_peak, self.channels_open)


class ChannelRefusedError(NodeError):
    """One channel was refused, the connection lives on.

    `by` is "host" (MaxSessions, no exec allowed) or "budget" (our own eight are in use).
    """

    def __init__(
        self, message: str, *, by: Literal["host", "budget"], host: str = "", detail: tuple[str, ...] = (),
        hint: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message, host=host, detail=detail, hint=hint)
        self.by = by


class Channel(Protocol):
    """One command on a host: its stdin, stdout, stderr and exit status."""

    @property
    def command(self) -> str:
        """The command asked for."""

    @property
    def stderr(self) -> bytes:
        """The last `STDERR_KEPT` bytes of stderr so far."""

    @property
    def exit_signal(self) -> str | None:
        """Name of the signal that ended the command, if the host said so."""

    def write(self, data: bytes) -> None:
        """Send to stdin.  Nobody there any more: dropped, since `read`, `wait_closed` and `lost` already tell."""

    async def drain(self, deadline_s: float | None = None) -> None:
        """Wait until the host has taken enough that writing may go on."""

    async def pace(self) -> None:
        """As `drain`, for bulk: wait until so little is under way that others on the line need not wait long behind it."""

    def write_eof(self) -> None:
        """Close stdin after what was written."""

    async def read(self, max_bytes: int = 65536, deadline_s: float | None = None) -> bytes:
        """Return what has come on stdout, at least a byte; b"" = end or loss."""

    async def read_pieces(self, max_bytes: int, deadline_s: float | None = None) -> list[bytes]:
        """As `read`, in the pieces in which it came; none = end or loss."""

    def take_pieces(self, max_bytes: int) -> list[bytes]:
        """Return what is here already, without waiting; none = nothing, or the end."""

    async def wait_closed(self, deadline_s: float | None = None) -> int | None:
        """Wait for the end; None = the host gave no exit status, which is never success."""

    def resize(self, rows: int, columns: int) -> None:
        """Tell the terminal its new size; without a terminal nothing happens."""

    def close(self) -> None:
        """Let go of the channel.  That does not kill the command, unless it has a terminal: then it hangs up on it."""


class Connection(Protocol):
    """One login on a host, with at most as many channels as its target allows."""

    @property
    def target(self) -> Target:
        """Whom it reaches."""

    @property
    def counters(self) -> Counters:
        """The transport's figures."""

    @property
    def lost(self) -> "asyncio.Future[NodeError | None]":
        """Resolves once: with the reason when the connection was lost, with None when we closed it."""

    @property
    def rtt_s(self) -> float | None:
        """Round-trip time as far as known."""

    @property
    def moved_bytes(self) -> int:
        """What has passed both ways so far: a line that is merely slow is known by it."""

    @property
    def channels_free(self) -> int:
        """How many more channels `open` would allow."""

    @property
    def greeting(self) -> str:
        """Server version and banner, for `sshq doctor`."""

    async def open(self, command: str = "exec /bin/sh", *, bulk: bool = False, terminal: Terminal | None = None) -> Channel:
        """Start a command.  `bulk`: large receive window, and no place of its own among the machine's scopes."""

    async def close(self) -> None:
        """End the connection within the deadline; nothing on the host is killed."""


class Transport(Protocol):
    """The way to one host and account."""

    @property
    def target(self) -> Target:
        """Whom it reaches."""

    @property
    def counters(self) -> Counters:
        """The figures of all its connections."""

    async def connect(self) -> Connection:
        """Log in.  Raises one of the NodeErrors; may be called again for a second connection."""


TransportFactory = Callable[[Target], Transport]


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """What came of one bounded exchange."""

    stdout: bytes
    stderr: bytes
    exit_code: int | None
    truncated: bool


async def run(
    connection: Connection, command: str, *, stdin: bytes = b"", max_bytes: int = 256 * 1024, deadline_s: float = 30.0,
    bulk: bool = False,
) -> Completed:  # fmt: skip
    """Run one command on a channel of its own and return what it said, up to `max_bytes`."""
    channel: Channel | None = None
    try:
        async with asyncio.timeout(deadline_s):
            channel = await connection.open(command, bulk=bulk)
            writing = asyncio.ensure_future(_feed(channel, stdin))
            try:
                return await _collect(channel, max_bytes)
            finally:
                writing.cancel()
    except TimeoutError:
        message = f"{connection.target.name}: no end of `{command}` within {deadline_s:g} s"
        raise NoReplyError(message, host=connection.target.name, hint=f"sshq doctor {connection.target.name}") from None
    finally:
        if channel is not None:
            channel.close()


async def _feed(channel: Channel, data: bytes) -> None:
    try:
        for start in range(0, len(data), _FEED_BYTES):
            channel.write(data[start : start + _FEED_BYTES])
            await channel.drain()
        channel.write_eof()
    except NodeError:
        pass  # the reading side meets the same loss and tells


async def _collect(channel: Channel, max_bytes: int) -> Completed:
    kept = bytearray()
    truncated = False
    while data := await channel.read():
        room = max_bytes - len(kept)
        kept += data[:room]
        if len(data) > room:  # a flood: what is left is not worth waiting for
            truncated = True
            break
    code = None if truncated else await channel.wait_closed()
    return Completed(stdout=bytes(kept), stderr=channel.stderr, exit_code=code, truncated=truncated)
