"""The controller's end of the socket: who asks, in what frames, and what nobody may make us keep.

Bounds, so that no client can harm another: one request at a time a connection, the next one read only when the last
is answered (at most one frame ahead); a handler waits for a client that reads slowly and is cancelled when it reads
nothing for `stall_s`; a stranger (neither root nor our uid) has few connections and small frames; when all places are
taken, whoever has been silent longest makes room, so that silence keeps nobody out.  A malformed frame closes only the
connection it came on, after saying why.  The controller's lock decides who may serve; the socket file never does, so
that a stale one is simply replaced.
"""

import asyncio
import contextlib
import os
import resource
import socket
import stat
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from sshq.wire.channel import LARGE_FRAMES_MAX, Channel, ClosedError, Request, RequestError, StreamOut, is_bug
from sshq.wire.protocol import JSON_BYTES_MAX, SOCKET_PATH_BYTES_MAX, STRANGER_BYTES_MAX

__all__ = ["Dispatch", "Peer", "Server", "StreamOut"]

_CREDENTIALS: Final = struct.Struct("3i")
_BACKLOG: Final = 512
_ACCEPTED_AT_ONCE: Final = 32
CONNECTIONS_MAX: Final = 4000
_STRANGER_CONNECTIONS_MAX: Final = 16
_FILES_KEPT: Final = 256  # for hosts, the store and logs, whatever clients do
_SILENCE_S: Final = 2.0  # a connection that has asked nothing for so long goes when its place is needed


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, by the kernel's word at the moment it connected."""

    uid: int
    gid: int
    pid: int


Dispatch = Callable[[Peer, str, dict[str, object], StreamOut], Awaitable[Mapping[str, object]]]
ReportBug = Callable[[BaseException, Peer, str], None]


class Server:
    """Listens on a Unix socket and hands each request to `dispatch`."""

    def __init__(
        self, path: str, dispatch: Dispatch, *,
        mode: int = 0o600, connections_max: int | None = None, on_bug: ReportBug | None = None, stall_s: float = 30.0,
    ) -> None:  # fmt: skip
        connections_max = allow_connections() if connections_max is None else connections_max
        if not 16 <= connections_max <= CONNECTIONS_MAX:
            raise ValueError(f"connections_max is {connections_max}, not 16 to {CONNECTIONS_MAX}")
        self.path = path
        self._dispatch = dispatch
        self._mode = mode
        self._connections_max = connections_max
        self._on_bug = on_bug
        self._stall_s = stall_s
        self._listener: asyncio.Server | None = None
        self._identity: tuple[int, int] | None = None
        self._connections: dict[asyncio.Task[None], int] = {}
        self._by_uid: Counter[int] = Counter()
        self._silent: dict[asyncio.Task[None], float] = {}  # since when, the longest first
        self._large = asyncio.Semaphore(LARGE_FRAMES_MAX)

    async def start(self) -> None:
        """Bind aside and rename into place, so that a client meets a listening socket or none."""
        listening = bind_socket(self.path, self._mode)
        found = os.stat(self.path)
        self._identity = (found.st_dev, found.st_ino)
        # asyncio takes as many at a time as it is told may wait, each with a file, before one of them can be refused.
        self._listener = await asyncio.start_unix_server(self._accept, sock=listening, limit=256 << 10, backlog=_ACCEPTED_AT_ONCE)
        listening.listen(_BACKLOG)

    async def close(self, grace_s: float = 1.0) -> None:
        """Stop listening, cancel what is running and hang up, and let go of the socket file if it is ours."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self._remove_socket()
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=grace_s)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    def _remove_socket(self) -> None:
        # A successor may have put its own there in the meantime.
        with contextlib.suppress(OSError):
            found = os.stat(self.path, follow_symlinks=False)
            if (found.st_dev, found.st_ino) == self._identity:
                os.unlink(self.path)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        channel = Channel(reader, writer, stall_s=self._stall_s, large=self._large)
        try:
            peer = read_peer(writer)
        except OSError:  # already gone
            writer.close()
            return
        stranger = peer.uid not in (0, os.geteuid())
        self._connections[task] = peer.uid
        self._by_uid[peer.uid] += 1
        try:
            full = len(self._connections) > self._connections_max and not self._make_room()
            if full or (stranger and self._by_uid[peer.uid] > _STRANGER_CONNECTIONS_MAX):
                await channel.refuse_connection("too many connections to the controller")
            else:
                channel.limit_frames(STRANGER_BYTES_MAX if stranger else JSON_BYTES_MAX)
                await self._serve(channel, peer)
        except (ClosedError, ConnectionError):
            pass
        except asyncio.CancelledError:
            # close().  No word to the client: what was under way may have been done, and a refusal would deny it.
            # A reply that is lost makes it ask again, with the same token, when the controller is back.
            pass
        finally:
            self._by_uid[peer.uid] -= 1
            if not self._by_uid[peer.uid]:
                del self._by_uid[peer.uid]
            del self._connections[task]
            channel.abort()

    def _make_room(self) -> bool:
        """Hang up on the connection that has been silent longest; it may come back when it has something to ask."""
        task, since = next(iter(self._silent.items()), (None, 0.0))
        if task is None or asyncio.get_running_loop().time() - since < _SILENCE_S:
            return False
        del self._silent[task]
        task.cancel()
        return True

    async def _next_request(self, channel: Channel) -> Request | None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        self._silent[task] = asyncio.get_running_loop().time()
        try:
            return await channel.read_request()
        finally:
            self._silent.pop(task, None)

    async def _serve(self, channel: Channel, peer: Peer) -> None:
        async with channel:
            while True:
                try:
                    request = await self._next_request(channel)
                except RequestError as error:
                    await channel.send_error(error.request_id, error)
                    if error.fatal:
                        return
                    continue
                if request is None:
                    return
                await self._answer(channel, peer, request)
                await asyncio.sleep(0)  # one who asks without end takes turns with the others

    async def _answer(self, channel: Channel, peer: Peer, request: Request) -> None:
        stream = StreamOut(channel, request)
        try:
            result = await channel.run_until_closed(self._dispatch(peer, request.method, request.params, stream))
            await channel.send_result(request.id, result)
        except (ClosedError, ConnectionError):
            raise
        except Exception as error:  # a handler's fault is one reply, not the end of the controller
            if self._on_bug is not None and is_bug(error):
                self._on_bug(error, peer, request.method)
            await channel.send_error(request.id, error)


def allow_connections() -> int:
    """Return how many clients may be connected, so that files are left for all else that needs them."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return max(16, min(CONNECTIONS_MAX, files - max(_FILES_KEPT, files // 4)))


def read_peer(writer: asyncio.StreamWriter) -> Peer:
    """Return the credentials the kernel noted when the other side connected."""
    connection: socket.socket = writer.get_extra_info("socket")
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return Peer(uid=uid, gid=gid, pid=pid)


def bind_socket(path: str, mode: int) -> socket.socket:
    """Return a listening socket at `path` that nobody outside `mode` could open for a moment.

    Raises:
        OSError: also when something that is not a socket stands there; it is left alone.

    """
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(path, follow_symlinks=False).st_mode):
            raise FileExistsError(17, "something that is not a socket stands in its place", path)
    directory = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    name = os.path.basename(path)
    aside = f".{name[:32]}-{os.getpid()}"
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside, dir_fd=directory)
        listening.setblocking(False)
        # On Linux bind() takes the mode from here, less the umask, which is the whole process's and not ours to set.
        os.fchmod(listening.fileno(), 0o600)
        listening.bind(_short_path(os.path.dirname(path), directory, aside))
        listening.listen(_BACKLOG)
        os.chmod(f"/proc/self/fd/{directory}/{aside}", mode)
        os.rename(aside, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        listening.close()
        with contextlib.suppress(OSError):
            os.unlink(aside, dir_fd=directory)
        raise
    finally:
        os.close(directory)
    return listening


def _short_path(directory_path: str, directory: int, name: str) -> str:
    path = os.path.join(directory_path, name)
    # The kernel's limit is on the text, not on the place.
    return path if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX else f"/proc/self/fd/{directory}/{name}"
