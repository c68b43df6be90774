"""sshq relay: what `ssh HEAD sshq relay` runs for sshq on another machine (`sshq/wire/away.py`), with the rights of that login.

It reads lines of JSON from its input and answers each on its output.  After `connect` it carries bytes between both and the
controller's socket, and ends when either side does.  Nothing listens, and who asks is who logged in.
"""

import _thread
import os
import stat
import sys

from sshq import __version__
from sshq.errors import ControllerError, UnreachableError
from sshq.wire.client import connect, own_socket
from sshq.wire.codec import CodecError, decode_json, encode_json
from sshq.wire.protocol import PROTOCOL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Answer = dict[str, Any]

RELAY = 1
CHUNK_BYTES = 256 << 10
LISTED_AT_ONCE = 100
OURS = (".sshq-srun-", ".sshq-nonce-")

HELP = """\
Usage: sshq relay

What sshq on another machine (SSHQ_HEAD=user@this-machine) starts here over ssh; not for hands.
"""


def run(argv: "Sequence[str]") -> int:
    """Serve one session on standard input and output."""
    if argv:
        sys.stdout.write(HELP)
        return 0 if argv[0] in ("-h", "--help") else 2
    os.environ["SSHQ_HEAD"] = ""  # this machine is the head, whatever a home that it shares with others says
    relay = Relay()
    try:
        relay.serve()
    except BrokenPipeError:
        pass
    finally:
        relay.hide_nonces()
    sys.stdout.flush()
    os._exit(0)  # a thread may still wait for input


class Relay:
    """One session: the other machine asks, this one does it as the user who logged in."""

    def __init__(self) -> None:
        self.root = os.path.realpath(os.path.join(_find_base(), "away"))
        self._nonces: list[dict[str, object]] = []
        self._ops: dict[str, Callable[[Answer], Answer]] = {
            "hello": self._hello, "sees": self._sees, "directory": self._directory, "nonce": self._nonce, "hide": self._hide,
            "read": self._read, "write": self._write, "remove": self._remove, "list": self._list,
            "lacking": self._tree, "chunks": self._tree, "manifest": self._tree,
        }  # fmt: skip

    def serve(self) -> None:
        about = {"relay": RELAY, "version": __version__, "protocol": PROTOCOL, "away": self.root, "host": os.uname().nodename}
        _write_all(1, b"\nsshq-relay " + encode_json(about) + b"\n")
        while True:
            line = _read_line()
            if not line:
                return
            try:
                request = decode_json(line)
            except CodecError as error:
                self._say({"error": f"no line of sshq: {error}", "errno": 22})
                return
            if request.get("relay") != RELAY:
                self._say({"error": "version", **about})
            elif request.get("op") == "connect":
                if self._connect():
                    return
            else:
                self._say(self._do(request))

    def _do(self, request: "Answer") -> "Answer":
        op = self._ops.get(str(request.get("op")))
        if op is None:
            return {"error": f"the relay knows no `{request.get('op')}`"}
        try:
            return op(request)
        except OSError as error:
            return {"error": error.strerror or str(error), "errno": error.errno}
        except (KeyError, TypeError, ValueError) as error:
            return {"error": f"{request.get('op')} was asked for with wrong words: {error!r}", "errno": 22}

    def _say(self, answer: "Answer") -> None:
        _write_all(1, encode_json(answer) + b"\n")

    # ---- the controller --------------------------------------------------------------------------------------

    def _connect(self) -> bool:
        try:
            stream = connect(os.environ).detach()
        except UnreachableError as error:
            self._say({"error": "unreachable", "socket": error.socket})
            return False
        except ControllerError as error:
            self._say({"error": "refused", "message": error.message, "hint": error.hint})
            return False
        stream.settimeout(None)
        self._say({"ok": True})
        here = stream.fileno()
        _thread.start_new_thread(_pass_input, (stream,))
        while data := os.read(here, CHUNK_BYTES):
            _write_all(1, data)
        return True

    # ---- directories -----------------------------------------------------------------------------------------

    def _hello(self, request: "Answer") -> "Answer":
        path = request.get("path")
        return {"exists": isinstance(path, str) and os.path.isdir(path)}

    def _sees(self, request: "Answer") -> "Answer":
        """Whether a nonce file of the other machine shows here, by the same name and with the same content: of us alone."""
        if not os.path.basename(str(request["nonce_path"])).startswith(".sshq-nonce-"):
            return {"sees": False}
        try:
            file = os.open(str(request["nonce_path"]), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return {"sees": False}
        try:
            mine = os.fstat(file).st_uid == os.geteuid()
            return {"sees": mine and os.read(file, 256) == str(request["nonce"]).encode()}
        finally:
            os.close(file)

    def _directory(self, request: "Answer") -> "Answer":
        """What a submission says of its directory; ours are made, with those that its output will lie in."""
        path = str(request["path"])
        for one in (path, *request.get("make", ())):
            if self._is_ours(one):
                os.makedirs(one, mode=0o700, exist_ok=True)
        real = os.path.realpath(path)
        try:
            found = os.stat(real)
        except OSError:
            return {"proof": None}
        if not os.path.isdir(real):
            return {"proof": None}
        return {"proof": {"path": real, "dev": found.st_dev, "ino": found.st_ino, "nonce_path": None, "nonce": None}}

    def _nonce(self, request: "Answer") -> "Answer":
        from sshq.api.proof import show_nonce

        shown = show_nonce(request["proof"])
        if shown is not None:
            self._nonces.append(shown)
        return {"proof": shown}

    def _hide(self, _request: "Answer") -> "Answer":
        self.hide_nonces()
        return {}

    def hide_nonces(self) -> None:
        """Remove the nonce files of this session."""
        from sshq.api.proof import hide_nonce

        while self._nonces:
            hide_nonce(self._nonces.pop())

    def _is_ours(self, path: str) -> bool:
        return os.path.normpath(path) == path and path.startswith(self.root + "/")

    # ---- files -----------------------------------------------------------------------------------------------

    def _read(self, request: "Answer") -> "Answer":
        """Send a file from `offset` on in chunks, each after its length in four bytes; the sum is of all of it."""
        from hashlib import sha256

        path, offset = str(request["path"]), int(request["offset"])
        with open(path, "rb", buffering=0) as file:
            found = os.fstat(file.fileno())
            if not os.path.isfile(path):
                return {"error": "Not a regular file", "errno": 22}
            if found.st_size == request.get("size") and found.st_mtime_ns == request.get("mtime_ns"):
                return {"same": True}
            self._say({"size": found.st_size, "mtime_ns": found.st_mtime_ns, "mode": found.st_mode & 0o777})
            digest, at = sha256(), 0
            while at < found.st_size and (data := file.read(min(CHUNK_BYTES, found.st_size - at))):
                digest.update(data)
                fresh = data[max(0, offset - at) :]
                at += len(data)
                if fresh:
                    _write_all(1, len(fresh).to_bytes(4, "big") + fresh)
            _write_all(1, bytes(4))
        return {"sha256": digest.hexdigest(), "size": at}

    def _list(self, request: "Answer") -> "Answer":
        """Send the regular files below a directory of ours, by their names from it, some a line; hidden ones are left out."""
        top = str(request["path"])
        if not self._is_ours(top):
            return {"error": "Not one of the directories of sshq", "errno": 13}
        files: list[list[object]] = []
        for folder, folders, names in os.walk(top):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                path = os.path.join(folder, name)
                found = os.lstat(path)
                if stat.S_ISREG(found.st_mode) and not name.startswith("."):
                    files.append([os.path.relpath(path, top), found.st_size, found.st_mtime_ns])
                if len(files) == LISTED_AT_ONCE:
                    self._say({"files": files})
                    files = []
        self._say({"files": files})
        return {"end": True}

    def _write(self, request: "Answer") -> "Answer":
        """Take in a new file for the user alone, in chunks as `read` sends them."""
        from hashlib import sha256

        path = str(request["path"])
        fault: OSError | None = None
        file = -1
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            fault = error
        digest = sha256()
        while length := int.from_bytes(_read_exactly(4), "big"):
            data = _read_exactly(min(length, CHUNK_BYTES * 4))
            digest.update(data)
            if fault is None:
                try:
                    _write_all(file, data)
                except OSError as error:
                    fault = error
        if file >= 0:
            if fault is None:
                os.fsync(file)
            else:
                os.unlink(path)
            os.close(file)
        if fault is not None:
            raise fault
        return {"sha256": digest.hexdigest()}

    def _tree(self, request: "Answer") -> "Answer":
        from sshq.cli import relaychunks

        if request["op"] == "lacking":
            return relaychunks.find_lacking(request)
        take = relaychunks.take_chunks if request["op"] == "chunks" else relaychunks.take_manifest
        return take(request, _read_exactly)

    def _remove(self, request: "Answer") -> "Answer":
        """Remove files of ours below our directories; what is not there is no error."""
        for path in request["paths"]:
            own = os.path.basename(path).startswith(OURS) or os.path.basename(os.path.dirname(path)) == ".sshq"
            if self._is_ours(path) and own:
                try:
                    os.unlink(path)
                except FileNotFoundError:
                    pass
        return {}


def _find_base() -> str:
    home = os.environ.get("SSHQ_HOME")
    return os.path.abspath(home) if home else os.path.dirname(os.path.dirname(own_socket(os.environ)))


def _pass_input(stream: "Any") -> None:
    """Carry input to the controller; its end is told, and what is still on the way back arrives."""
    try:
        while data := os.read(0, CHUNK_BYTES):
            stream.sendall(data)
        stream.shutdown(1)
    except OSError:
        pass  # the controller went away: whoever reads from it sees that


def _read_line() -> bytes:
    """Return a line of input without reading beyond it: what follows may be the controller's."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return b""
        line += byte
    return bytes(line)


def _read_exactly(count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = os.read(0, count - len(parts))
        if not part:
            os._exit(1)  # cut off: an unfinished file is found by its missing sum, and never named to anybody
        parts += part
    return bytes(parts)


def _write_all(out: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(out, view) :]
