"""The blocking end of the socket: what every command imports, so nothing but small standard modules.

A client asks one thing at a time.  It believes only a controller of its own uid or root's (or, at the system-wide
path, of whoever owns that directory): a socket left by a stranger gets nothing, least of all an environment.
"""

import _socket as socket  # what `socket` wraps; the wrapper alone takes 5 of the 25 ms that a command may take
import os
import sys

from sshq.errors import ControllerError, RefusedError, UnreachableError, VersionMismatchError
from sshq.wire.codec import CodecError, decode_answer, frame_json, parse_header
from sshq.wire.protocol import (
    DATA_BYTES_MAX,
    DATA_FRAME,
    HEADER_BYTES,
    JSON_BYTES_MAX,
    PROTOCOL,
    SOCKET_PATH_BYTES_MAX,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sshq.wire.headssh import Head

only_socket: str | None = None  # of a process that one controller started: nobody else is asked
SYSTEM_SOCKET = "/run/sshq/sock"
CALL_TIMEOUT_S = 60.0  # between two frames of an answer; following and waiting have none
_CONNECT_TIMEOUT_S = 10
_CREDENTIALS_BYTES = 12  # struct ucred: pid, uid, gid of 4 bytes each


class LostReplyError(UnreachableError):
    """The controller took the request and went away, or fell silent, before it answered: ask again."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path)
        self.detail = (f"The controller on {path} {why}", "Jobs already running go on without it; nothing is lost.")
        self.hint = "sshq status"


class Stream:
    """The items a method sends, one by one; `result` is its reply, known when the iteration has ended."""

    def __init__(self, parts: "Iterator[dict[str, object] | bytes | int | _Reply]") -> None:
        self._parts = parts
        self.result: dict[str, object] = {}

    def __iter__(self) -> "Iterator[dict[str, object]]":
        for part in self._parts:
            if isinstance(part, _Reply):
                self.result = part.result
            elif isinstance(part, dict):
                yield part


class DataStream:
    """The data a method sends, piece by piece; `result` as for `Stream`."""

    def __init__(self, parts: "Callable[[int | None], Iterator[dict[str, object] | bytes | int | _Reply]]") -> None:
        self._parts = parts
        self.result: dict[str, object] = {}

    def __iter__(self) -> "Iterator[bytes]":
        for part in self._parts(None):
            if isinstance(part, _Reply):
                self.result = part.result
            elif isinstance(part, bytes):
                yield part

    def copy_to(self, out: int) -> "Iterator[int]":
        """Write the data to a file descriptor, instead of handing it out; yields how many bytes are there, each time some are.

        Raises:
            OSError: from the descriptor.

        """
        for part in self._parts(out):
            if isinstance(part, _Reply):
                self.result = part.result
            elif isinstance(part, int):
                yield part


class _Reply:
    def __init__(self, result: dict[str, object]) -> None:
        self.result = result


class Client:
    """One connection to the controller that listens on `path`; `dial` makes it where that is on another machine."""

    def __init__(self, path: str, *, dial: "Callable[[], socket.socket] | None" = None) -> None:
        self.path = path
        self._last_id = 0
        self._asking = False
        self._dial = dial
        self._socket = _connect(path) if dial is None else dial()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; whatever the controller was doing for it ends."""
        if self._dial is None or self._asking:
            self._socket.close()
        else:  # one over ssh is worth keeping for the next question
            from sshq.wire.away import keep_connection

            keep_connection(self.path, self._socket)

    def hang_up(self) -> None:
        """End the connection under a thread that waits for an answer; it meets LostReplyError."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is over already

    def detach(self) -> socket.socket:
        """Return the connected socket, which is the caller's from now on."""
        return self._socket

    def call(
        self, method: str, params: "Mapping[str, object] | None" = None, *, timeout_s: float | None = CALL_TIMEOUT_S
    ) -> dict[str, object]:
        """Ask and return the result; items a method sends on the way are dropped."""
        for part in self._ask(method, params, timeout_s):
            if isinstance(part, _Reply):
                return part.result
        raise LostReplyError(self.path, "sent no reply")  # not reached: _ask ends in a reply or raises

    def call_ahead(
        self, method: str, params: "Mapping[str, object]", *, timeout_s: float | None = CALL_TIMEOUT_S
    ) -> "Callable[[], dict[str, object]]":
        """Ask, and return what waits for the result; nothing else may be asked before that was called."""
        self._send(method, params, timeout_s)

        def wait() -> dict[str, object]:
            for part in self._read_answer():
                if isinstance(part, _Reply):
                    return part.result
            raise LostReplyError(self.path, "sent no reply")  # not reached

        return wait

    def stream(
        self, method: str, params: "Mapping[str, object] | None" = None, *, timeout_s: float | None = CALL_TIMEOUT_S
    ) -> Stream:
        """Ask and return the items, each as soon as it is here."""
        return Stream(self._ask(method, params, timeout_s))

    def data(
        self, method: str, params: "Mapping[str, object] | None" = None, *, timeout_s: float | None = CALL_TIMEOUT_S
    ) -> DataStream:
        """Ask and return the data, piece by piece."""
        return DataStream(lambda out: self._ask(method, params, timeout_s, out))

    def _ask(
        self, method: str, params: "Mapping[str, object] | None", timeout_s: float | None, out: int | None = None
    ) -> "Iterator[dict[str, object] | bytes | int | _Reply]":
        self._send(method, params, timeout_s)
        yield from self._read_answer(out)

    def _send(self, method: str, params: "Mapping[str, object] | None", timeout_s: float | None) -> None:
        if self._asking:  # the last answer was not read to its end: a new connection also ends it over there
            self._socket.close()
            self._socket = _connect(self.path) if self._dial is None else self._dial()
        self._last_id += 1
        request = {"v": PROTOCOL, "id": self._last_id, "method": method, "params": dict(params or {})}
        frame = frame_json(request)
        if len(frame) - HEADER_BYTES > JSON_BYTES_MAX:
            raise RefusedError(f"the request is larger than {JSON_BYTES_MAX} bytes", code="too_large")
        self._socket.settimeout(timeout_s)
        self._asking = True
        try:
            self._socket.sendall(frame)
        except OSError:
            # A controller that refuses a request without reading it has already said why.
            pass

    def _read_answer(self, out: int | None = None) -> "Iterator[dict[str, object] | bytes | int | _Reply]":
        passing = None
        while True:
            kind, length = self._receive_header()
            if kind == DATA_FRAME and out is not None:
                if passing is None:
                    from sshq.wire.passing import Passing

                    passing = Passing(self._socket.fileno(), self._receive_into, out)
                while length:
                    moved = passing.move(length)
                    length -= moved
                    yield moved
                continue
            body = self._receive_bytes(length)
            if kind == DATA_FRAME:
                yield body
                continue
            message = self._decode(body)
            if "items" in message:
                yield from _read_items(message)
            else:
                self._asking = False
                yield _Reply(_read_reply(message, self.path))
                return

    def _receive_header(self) -> tuple[int, int]:
        header = self._receive_bytes(HEADER_BYTES)
        try:
            kind, length = parse_header(header)
        except CodecError as error:
            raise _distrust(self.path, str(error)) from None
        if length > (DATA_BYTES_MAX if kind == DATA_FRAME else JSON_BYTES_MAX):
            raise _distrust(self.path, f"a frame of {length} bytes")
        return kind, length

    def _receive_bytes(self, count: int) -> bytes:
        whole = bytearray(count)
        view, at = memoryview(whole), 0
        while at < count:
            at += self._receive_into(view[at : at + (1 << 20)])
        return bytes(whole)

    def _receive_into(self, view: memoryview) -> int:
        try:
            count = self._socket.recv_into(view)
        except TimeoutError:
            raise LostReplyError(self.path, "does not answer.") from None
        except OSError as error:
            raise LostReplyError(self.path, f"went away: {error.strerror}.") from None
        if not count:
            raise LostReplyError(self.path, "closed the connection before it answered.")
        return count

    def _decode(self, body: bytes) -> dict[str, object]:
        try:
            return decode_answer(body)
        except CodecError as error:
            raise _distrust(self.path, str(error)) from None


def connect(environ: "Mapping[str, str]" = os.environ) -> Client:
    """Return a connection to the controller in reach: of SSHQ_HEAD, else SSHQ_HOME's, the user's own, or the system-wide one."""
    head = find_head(environ)
    if head is not None:
        from sshq.wire.away import connect_away

        return connect_away(head)
    paths = list_sockets(environ)
    for path in paths:
        if os.path.lexists(path):
            try:
                return Client(path)
            except UnreachableError:
                continue  # a controller that was killed leaves its socket behind
    raise UnreachableError(paths[0])


def find_head(environ: "Mapping[str, str]") -> "Head | None":
    """Return where the controller is if that is another machine: $SSHQ_HEAD, else `head:` in client.yaml.  Raises UserError."""
    if only_socket is not None or environ.get("SSHQ_HEAD") == "":
        return None
    if "SSHQ_HEAD" not in environ and not any(os.path.exists(path) for path in list_client_files(environ)):
        return None
    from sshq.wire.headssh import read_head

    return read_head(environ)


def list_client_files(environ: "Mapping[str, str]") -> list[str]:
    """Return where it may be written down which head is meant; nowhere where SSHQ_HOME names an instance of this machine."""
    if environ.get("SSHQ_HOME"):
        return []
    home = environ.get("HOME") or os.path.expanduser("~")
    return [os.path.join(home, ".config/sshq/client.yaml"), "/etc/sshq/client.yaml"]


def list_sockets(environ: "Mapping[str, str]") -> list[str]:
    """Return where a controller may listen, in the order in which they are tried."""
    home = environ.get("SSHQ_HOME")
    if only_socket is not None:
        return [only_socket]
    if home:
        return [os.path.join(os.path.abspath(home), "sock")]
    return [own_socket(environ), SYSTEM_SOCKET]


def own_socket(environ: "Mapping[str, str]") -> str:
    """Return where the user's own controller listens when SSHQ_HOME is not set."""
    home = environ.get("HOME") or os.path.expanduser("~")
    return os.path.join(home, ".local/state/sshq/controller/sock")


def _connect(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Not settimeout: a connect that must not block fails at once where more clients wait than the controller has taken.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _encode_timeval(_CONNECT_TIMEOUT_S))
        _connect_any_length(connection, path)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _encode_timeval(0))
        _check_controller(connection, path)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError, TimeoutError, BlockingIOError):
        connection.close()
        raise UnreachableError(path) from None
    except OSError as error:
        connection.close()
        unreachable = UnreachableError(path)
        unreachable.detail = (f"{path}: {error.strerror}",)
        unreachable.hint = None
        raise unreachable from None
    except ControllerError:
        connection.close()
        raise
    return connection


def _encode_timeval(seconds: int) -> bytes:
    size = 8 if sys.maxsize > 1 << 32 else 4
    return seconds.to_bytes(size, sys.byteorder) + bytes(size)


def _connect_any_length(connection: socket.socket, path: str) -> None:
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        connection.connect(path)
        return
    # The kernel's limit is on the text, not on the place: go there by the directory's descriptor.
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
    finally:
        os.close(directory)


def _check_controller(connection: socket.socket, path: str) -> None:
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS_BYTES)
    uid = int.from_bytes(peer[4:8], sys.byteorder)
    trusted = {0, os.geteuid()}
    if path == SYSTEM_SOCKET:
        trusted.add(os.stat(os.path.dirname(path)).st_uid)
    if uid not in trusted:
        raise ControllerError(
            f"{path} belongs to a process of uid {uid}, which is neither root nor you; nothing was sent to it",
            hint="unset SSHQ_HOME, or run this as that user",
        )


def _distrust(path: str, what: str) -> ControllerError:
    return ControllerError(
        "Zero Bytes were transmitted or received",  # Slurm's words for an answer that cannot be read
        detail=(f"{path} does not speak sshq's protocol: {what}",),
        hint="sshq status",
    )


def _read_items(message: dict[str, object]) -> "Iterator[dict[str, object]]":
    items = message["items"]
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict):
            yield item


def _read_reply(message: dict[str, object], path: str) -> dict[str, object]:
    result, fault = message.get("result"), message.get("error")
    if message.get("ok") is True and isinstance(result, dict):
        return result
    if not isinstance(fault, dict):
        raise _distrust(path, "a reply that is neither a result nor an error")
    text = str(fault.get("message", "the controller gave no reason"))
    lines = fault.get("detail")
    detail = tuple(str(line) for line in lines) if isinstance(lines, list) else ()
    hint = str(fault["hint"]) if fault.get("hint") else None
    code = str(fault.get("code", "internal"))
    if code == "version":
        raise VersionMismatchError(text, detail=detail, hint=hint)
    refusal = RefusedError(text, code=code, detail=detail, hint=hint)
    status = fault.get("exit")
    if isinstance(status, int) and 0 < status < 256:
        refusal.exit_code = status
    raise refusal
