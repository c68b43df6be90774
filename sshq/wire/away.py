"""From another machine: the controller's socket over the system's own ssh, and what else is asked of the head on the way.

`ssh HEAD sshq relay` is one session.  It greets, does small things with files of the user's there (one line of JSON each way),
and with `connect` becomes the controller's Unix socket, byte for byte.  ssh is the user's: configuration, agent, jump hosts,
touch keys, ControlMaster, and its prompts on the terminal.
"""

import _socket as socket
import _thread
import os
import time

from sshq.errors import ControllerError, SshqError, UnreachableError
from sshq.wire.client import Client
from sshq.wire.codec import CodecError, decode_json, encode_json
from sshq.wire.headssh import SSH_FAILED, USUAL, Head, end_child, reap, start_command, wait_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RELAY = 1  # version of the lines; both ends say theirs
MARK = b"sshq-relay "
NOISE_BYTES_MAX = 256 << 10  # what a login shell may print before us
LINE_BYTES_MAX = 1 << 20
ERRORS_BYTES_MAX = 64 << 10
RESTS_S = 5.0
KEPT_S, KEPT_MAX = 20.0, 4  # how long a connection may lie idle, and how many
NOT_FOUND, OLD = 127, 2
UNABLE = "Unable to contact slurm controller (connect failure)"
_reached: set[str] = set()  # heads that answered this process once: a failure is then a cut, and worth waiting for
_rests: dict[str, float] = {}  # of a head that was lost: seconds before the next try
_idle: "list[Session]" = []
_connected: list[tuple[str, int, float, socket.socket]] = []  # of which head, whose, since when, to the controller
_starting = _thread.RLock()  # one login of this process at a time: sshd drops some of many, and one prompt is enough


class HeadError(ControllerError):
    """The head cannot be asked, and trying again would not help."""


class LostHeadError(UnreachableError):
    """The head answered this process before and does not now."""

    def __init__(self, head: "Head", detail: tuple[str, ...]) -> None:
        super().__init__(head.name)
        self.detail = (*detail, "Jobs already running go on without it; nothing is lost.")
        self.hint = f"ssh {head.name} true"


# ---- sessions ------------------------------------------------------------------------------------------------


class Session:
    """One `sshq relay` on the head.  `about` is known after the first answer: its home, its place for our directories."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self.about: dict[str, Any] = {}
        self.owner = os.getpid()
        self.stream, self._pid, self._errors = start_command(head, ["relay"])

    def ask(self, op: str, **words: object) -> "dict[str, Any]":
        """Send one line and return the answer's.

        Raises:
            HeadError: there is no relay.
            UnreachableError: it was lost.

        """
        self.send(op, **words)
        return self.answer()

    def is_for(self, head: Head) -> bool:
        """Return whether it leads to this head."""
        return (self.head.name, self.head.command, self.head.ssh) == (head.name, head.command, head.ssh)

    def send(self, op: str, **words: object) -> None:
        """Send one line; the answer is read by `answer`."""
        try:
            self.stream.sendall(encode_json({"relay": RELAY, "op": op, **words}) + b"\n")
        except OSError:
            pass  # why it is gone is told by what can be read

    def answer(self) -> "dict[str, Any]":
        """Return the next answer."""
        if not self.about:
            self._greet()
        answer = self._read_json(self._read_line())
        if answer.get("error") == "version":
            raise self._refuse_version(answer)
        return answer

    def receive(self, count: int) -> bytes:
        """Return exactly so many bytes."""
        parts = bytearray()
        while len(parts) < count:
            part = self._receive(min(count - len(parts), 1 << 20))
            if not part:
                raise self._explain_end()
            parts += part
        return bytes(parts)

    def close(self) -> None:
        """Let go of it: the relay ends when it finds nobody there."""
        self.stream.close()
        self.detach()

    def detach(self) -> None:
        """Let go of all but the stream."""
        if self._errors is not None:
            os.close(self._errors)
            self._errors = None
        reap()

    def _greet(self) -> None:
        noise = 0
        try:
            while True:
                line = self._read_line()
                if line.startswith(MARK):
                    break
                noise += len(line)
                if noise > NOISE_BYTES_MAX:
                    raise HeadError(UNABLE, detail=(f"{self.head.name} answers with something else than sshq's relay",))
        except BaseException:
            end_child(self._pid)  # it may wait for a password that nobody will type
            raise
        about = self._read_json(line[len(MARK) :])
        if about.get("error") == "not_found":
            raise self._refuse_missing()
        if about.get("relay") != RELAY:
            raise self._refuse_version(about)
        self.about = about
        _reached.add(self.head.name)
        _rests.pop(self.head.name, None)

    def _read_line(self) -> bytes:
        """Return a line; what follows it stays unread, for it may belong to the controller's stream."""
        line = bytearray()
        while not line.endswith(b"\n"):
            seen = self._receive(4096, peek=True)
            if not seen:
                raise self._explain_end()
            end = seen.find(b"\n")
            line += self._receive(len(seen) if end < 0 else end + 1)
            if len(line) > LINE_BYTES_MAX:
                raise HeadError(UNABLE, detail=(f"{self.head.name} answers with something else than sshq's relay",))
        return bytes(line)

    def _receive(self, count: int, *, peek: bool = False) -> bytes:
        try:
            return self.stream.recv(count, socket.MSG_PEEK if peek else 0)
        except OSError:
            return b""

    def _read_json(self, line: bytes) -> "dict[str, Any]":
        try:
            return decode_json(line)
        except CodecError:
            what = f"the relay on {self.head.name} said what cannot be understood: {line[:80]!r}"
            raise HeadError(UNABLE, detail=(what,)) from None

    # ---- what is wrong ---------------------------------------------------------------------------------------

    def _explain_end(self) -> SshqError:
        status = wait_for(self._pid)
        words = self._read_errors()
        name = self.head.name
        if status == NOT_FOUND and not self.about:
            return self._refuse_missing(words)
        if status == OLD and not self.about:
            detail = (f"sshq on {name} is too old to be asked from here", *words)
            return HeadError(UNABLE, detail=detail, hint=f"upgrade sshq on {name}")
        if status == SSH_FAILED:
            said = words or ("its own words stand above",)
            detail = (f"ssh {name} failed:", *(f"  {line}" for line in said))
        else:
            detail = (f"the relay on {name} ended with status {status}", *words)
        if name in _reached:
            _rests[name] = min(RESTS_S, 2 * _rests.get(name, 0.1))
            time.sleep(_rests[name])  # whoever waits asks again at once, and ssh is no small thing
            return LostHeadError(self.head, detail)
        return HeadError(UNABLE, detail=detail, hint=f"{self.head.ssh} {name} true" + _advise(words))

    def _read_errors(self) -> tuple[str, ...]:
        if self._errors is None:
            return ()
        text = os.pread(self._errors, 4096, 0).decode("utf-8", "replace")
        return tuple(line.rstrip() for line in text.splitlines() if line.strip())[-8:]

    def _refuse_missing(self, words: tuple[str, ...] = ()) -> HeadError:
        name, command = self.head.name, self.head.command
        program = self.head.ssh.split()[0]
        if _is_missing(program):  # here, and nothing was asked of the head
            hint = "SSHQ_SSH, or `ssh:` in client.yaml, is the ssh to use; ssh if it says nothing"
            return HeadError(UNABLE, detail=(f"{program} is no program of this machine", *words), hint=hint)
        if command:
            return HeadError(
                UNABLE, detail=(f"{name} cannot run `{command}`", *words),
                hint=f"ssh {name} '{command} version'; SSHQ_HEAD_COMMAND says where sshq is there",
            )  # fmt: skip
        return HeadError(
            UNABLE,
            detail=(f"sshq was not found on {name}: not on the PATH of a command run by ssh,", f"nor as {', '.join(USUAL[1:])}"),
            hint="export SSHQ_HEAD_COMMAND=/path/there/to/sshq",
        )  # fmt: skip

    def _refuse_version(self, about: "dict[str, Any]") -> HeadError:
        version, relay = about.get("version"), about.get("relay")
        what = f"sshq on {self.head.name} is {version}, and its relay speaks version {relay}, not {RELAY}"
        return HeadError(UNABLE, detail=(what,), hint="install the same release on both machines")


def borrow(head: Head) -> Session:
    """Return a session that nobody uses, greeted; a new one if there is none."""
    with _starting:
        while _idle:
            session = _idle.pop()
            if session.owner == os.getpid() and session.is_for(head) and _is_alive(session.stream):
                break
            session.close()
        else:
            session = Session(head)
        if not session.about:
            try:
                session.ask("hello")
            except BaseException:
                session.close()
                raise
        return session


def give_back(session: Session) -> None:
    """Keep a session whose last answer was read for the next who needs one."""
    _idle.append(session)


def ask_head(head: Head, op: str, **words: object) -> "dict[str, Any]":
    """Ask what may be asked twice; a session that was lost while it lay idle is replaced."""
    for last in (False, True):
        session = borrow(head)
        try:
            answer = session.ask(op, **words)
        except UnreachableError:
            session.close()
            if last:
                raise
        else:
            break
    answer["about"] = session.about
    give_back(session)
    return answer


def connect_away(head: Head) -> Client:
    """Return a connection to the controller on the head.

    Raises:
        HeadError: ssh or sshq there fails, and has not worked in this process yet.
        UnreachableError: no controller listens there, or the head was lost.

    """
    return Client(head.name, dial=lambda: _dial(head))


def keep_connection(name: str, stream: socket.socket) -> None:
    """Take over a connection to a controller whose last answer was read."""
    _connected.append((name, os.getpid(), time.time(), stream))
    while len(_connected) > KEPT_MAX:
        _connected.pop(0)[-1].close()
    reap()


def drop_idle() -> None:
    """Let go of all that lies idle."""
    while _connected:
        _connected.pop()[-1].close()
    while _idle:
        _idle.pop().close()


def _find_connected(name: str) -> socket.socket | None:
    while _connected:
        head, owner, since, stream = _connected.pop()
        # By the clock on the wall: it goes on while a laptop sleeps, and its connections die.
        if head == name and owner == os.getpid() and 0 <= time.time() - since < KEPT_S and _is_alive(stream):
            return stream
        stream.close()
    return None


def _is_alive(stream: socket.socket) -> bool:
    stream.settimeout(0)
    try:
        stream.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        pass
    finally:
        stream.settimeout(None)
    return False  # it has ended, or says what nobody asked for


def _dial(head: Head) -> socket.socket:
    kept = _find_connected(head.name)
    if kept is not None:
        return kept
    with _starting:
        session = _idle.pop() if _idle else Session(head)
        if session.owner != os.getpid() or not session.is_for(head) or (session.about and not _is_alive(session.stream)):
            session.close()
            session = Session(head)
        try:
            answer = session.ask("connect")  # of a new session this goes out before its greeting is here
        except BaseException:
            session.close()
            raise
    if "error" not in answer:
        session.detach()
        return session.stream
    give_back(session)
    if answer["error"] == "unreachable":
        raise UnreachableError(f"{head.name}:{answer.get('socket')}")
    raise ControllerError(f"on {head.name}: {answer.get('message')}", hint=str(answer["hint"]) if answer.get("hint") else None)


def _is_missing(program: str) -> bool:
    """Whether a plain word names no program here; of what only a shell can read nothing is said."""
    if not program.replace("/", "").replace("-", "").replace("_", "").replace(".", "").isalnum():
        return False
    places = [program] if "/" in program else [f"{folder}/{program}" for folder in os.environ.get("PATH", os.defpath).split(":")]
    return not any(os.access(place, os.X_OK) for place in places)


def _advise(words: tuple[str, ...]) -> str:
    unknown = any("Host key verification failed" in line for line in words)
    return "  # once, in a terminal: it shows the host key and asks" if unknown else ""
