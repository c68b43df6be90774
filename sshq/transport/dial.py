"""Getting a TCP connection on which the server has begun to speak.

Split from the login because the two cost differently: waiting for a dead host costs time only, a handshake costs CPU.
"""

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from sshq.transport.process import Proxy

_PEEK_BYTES = 512


@dataclass(slots=True)
class Dialled:
    """A connected socket, and the first bytes the server said on it, still unread."""

    sock: socket.socket
    first_bytes: bytes = b""
    proxy: Proxy | None = None

    def close(self) -> None:
        """Hang up."""
        self.sock.close()
        self.end_proxy()

    def end_proxy(self) -> None:
        """The socket is somebody else's by now, or closed; the proxy has nothing more to do."""
        if self.proxy is not None:
            self.proxy.end()
            self.proxy = None


class SilentServerError(ConnectionError):
    """The server closed without a word; `proxy_said` is the last word of the ProxyCommand before it."""

    def __init__(self, proxy_said: str = "") -> None:
        super().__init__("closed before the SSH greeting")
        self.proxy_said = proxy_said


class NoAnswerError(TimeoutError):
    """The deadline passed; `stage` says how far it got."""

    def __init__(self, stage: str, seconds: float) -> None:
        super().__init__(f"no answer within {seconds:g} s")
        self.stage = stage
        self.seconds = seconds


async def dial(
    host: str, port: int, *, deadline_s: float, family: int = 0, local_address: tuple[str, int] | None = None
) -> Dialled:
    """Connect to the first address that answers and wait for the server's first bytes, all within the deadline."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + deadline_s
    stage = "name"
    dialled: Dialled | None = None
    try:
        async with asyncio.timeout_at(ends_at):
            found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
            stage = "connect"
            dialled = Dialled(await _connect_first(found, ends_at, local_address))
            stage = "greeting"
            dialled.first_bytes = await _peek(dialled.sock)
            return dialled
    except BaseException as exc:
        if dialled is not None:
            dialled.close()
        if isinstance(exc, TimeoutError) and not exc.errno:  # the kernel's own ETIMEDOUT has a number
            raise NoAnswerError(stage, deadline_s) from None
        raise


async def dial_by_command(command: str, *, deadline_s: float) -> Dialled:
    """Let a ProxyCommand connect, and wait for the server's first bytes."""
    proxy = Proxy(command)
    dialled = Dialled(proxy.sock, proxy=proxy)
    try:
        async with asyncio.timeout(deadline_s):
            dialled.first_bytes = await _peek(dialled.sock)
            return dialled
    except BaseException as exc:
        dialled.close()
        if isinstance(exc, TimeoutError):
            raise NoAnswerError("greeting", deadline_s) from None
        if isinstance(exc, SilentServerError):
            raise SilentServerError(proxy.said) from None
        raise


_Address = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]


async def _connect_first(found: "Sequence[_Address]", ends_at: float, local_address: tuple[str, int] | None) -> socket.socket:
    """Try the addresses in turn; each but the last gets its share of the time, so that a dead IPv6 is no dead host."""
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    for index, (family, kind, protocol, _, address) in enumerate(found):
        share = (ends_at - loop.time()) / (len(found) - index)
        sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
        try:
            if local_address is not None:
                sock.bind(local_address)
            async with asyncio.timeout(share):
                await loop.sock_connect(sock, address)
            return sock
        except OSError as exc:  # TimeoutError is one
            sock.close()
            failure = exc
        except BaseException:
            sock.close()
            raise
    raise failure or OSError(f"no address for {host_of(found)}")


def host_of(found: "Sequence[_Address]") -> str:
    """Return the addresses found, for a message."""
    return ", ".join(str(entry[4][0]) for entry in found) or "this name"


async def _peek(sock: socket.socket) -> bytes:
    """Wait for the server's first bytes without taking them."""
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock.fileno(), _resolve, readable)
    try:
        await readable
    finally:
        loop.remove_reader(sock.fileno())
    first = sock.recv(_PEEK_BYTES, socket.MSG_PEEK)
    if not first:
        raise SilentServerError
    return first


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def read_round_trip_s(sock: socket.socket) -> float | None:
    """Return the kernel's smoothed round-trip time (tcp_info.tcpi_rtt, microseconds at offset 68)."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 72)
    except OSError:
        return None
    return int.from_bytes(info[68:72], "little" if _LITTLE else "big") / 1e6 if len(info) >= 72 else None


def read_moved_bytes(sock: socket.socket) -> int | None:
    """Return the bytes that the peer has acknowledged and sent (tcp_info.tcpi_bytes_acked and _received, from offset 120)."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 136)
    except OSError:  # a ProxyCommand's socket, or closed
        return None
    if len(info) < 136:
        return None
    return sum(int.from_bytes(info[at : at + 8], "little" if _LITTLE else "big") for at in (120, 128))


_LITTLE = socket.htons(1) != 1
