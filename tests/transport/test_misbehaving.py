"""A second SSH implementation on the other side, one that breaks the rules: nothing of it may look like success."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest

from sshq.errors import LoginError, NodeError, UnreachableHostError
from sshq.transport.base import ChannelRefusedError, Target, run
from sshq.transport.pool import Transports

from .sshd import fingerprint, make_key, public_half
from .test_logins import fail

Act = Callable[[paramiko.Channel, paramiko.Transport], None]


class Rude(paramiko.ServerInterface):
    """Lets everybody in who has a key, then does `act` with each command."""

    def __init__(self, act: Act, transport: paramiko.Transport, *, exec_ok: bool = True, login_ok: bool = True) -> None:
        self.act, self.transport, self.exec_ok, self.login_ok = act, transport, exec_ok, login_ok

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.AUTH_SUCCESSFUL if self.login_ok else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        if self.exec_ok:
            threading.Thread(target=self.act, args=(channel, self.transport), daemon=True).start()
        return self.exec_ok


class RudeServer:
    def __init__(self, folder: Path) -> None:
        self.key = make_key(folder / "rude_key", kind="ecdsa")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.act: Act = lambda channel, transport: None
        self.exec_ok = self.login_ok = True
        self.transports: list[paramiko.Transport] = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(sock)
            transport.add_server_key(paramiko.ECDSAKey.from_private_key_file(str(self.key)))
            self.transports.append(transport)
            with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
                transport.start_server(
                    event=threading.Event(), server=Rude(self.act, transport, exec_ok=self.exec_ok, login_ok=self.login_ok)
                )

    def close(self) -> None:
        self.listener.close()
        for transport in self.transports:
            transport.close()


@pytest.fixture
def rude(tmp_path: Path) -> Iterator[RudeServer]:
    server = RudeServer(tmp_path)
    yield server
    server.close()


@pytest.fixture
def target(rude: RudeServer, known: Callable[..., Path], client_key: Path) -> Target:
    known(f"[127.0.0.1]:{rude.port} {public_half(rude.key)}")
    return Target(name="rude", address="127.0.0.1", port=rude.port, account="anna", identity_files=(str(client_key),))


def close_without_status(channel: paramiko.Channel, transport: paramiko.Transport) -> None:
    channel.sendall(b"half a line")
    channel.close()


def drop_everything(channel: paramiko.Channel, transport: paramiko.Transport) -> None:
    channel.sendall(b"half a line")
    transport.close()


async def test_a_channel_closed_without_status_is_never_success(rude: RudeServer, target: Target, transports: Transports) -> None:
    rude.act = close_without_status
    connection = await transports.transport(target).connect()
    done = await run(connection, "true")
    assert (done.stdout, done.exit_code) == (b"half a line", None)
    await connection.close()


async def test_a_connection_dropped_at_once_is_an_error_or_no_status(
    rude: RudeServer, target: Target, transports: Transports
) -> None:
    rude.act = drop_everything
    connection = await transports.transport(target).connect()
    with contextlib.suppress(UnreachableHostError):  # dropped before the answer to exec came through
        assert (await run(connection, "true")).exit_code is None
    assert isinstance(await asyncio.shield(connection.lost), UnreachableHostError)
    await connection.close()


async def test_the_key_of_the_other_implementation_is_checked_too(
    rude: RudeServer, target: Target, transports: Transports
) -> None:
    connection = await transports.transport(target).connect()
    (pinned,) = transports.host_keys.pinned("rude")
    assert pinned.fingerprint == fingerprint(rude.key)
    await connection.close()


async def test_refusing_every_command_is_a_refused_channel(rude: RudeServer, target: Target, transports: Transports) -> None:
    rude.exec_ok = False
    connection = await transports.transport(target).connect()
    for _ in range(12):  # more than there are places: each refusal gives its place back
        with pytest.raises(ChannelRefusedError):
            await connection.open()
    await connection.close()


async def test_a_refused_login_is_told_from_the_other_implementation_too(
    rude: RudeServer, target: Target, transports: Transports
) -> None:
    rude.login_ok = False
    assert isinstance(await fail(transports, target), LoginError)


async def test_an_exec_that_is_never_answered_hits_the_deadline(
    rude: RudeServer, target: Target, transports: Transports, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = threading.Event()
    monkeypatch.setattr(Rude, "check_channel_exec_request", lambda *_: stuck.wait(30))
    connection = await transports.transport(target).connect()
    connection._deadlines = type(connection._deadlines)(open_s=0.3, close_s=0.3)
    with pytest.raises(UnreachableHostError, match="did not start a command"):
        await connection.open()
    await connection.close()
    stuck.set()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it said: HTTP/1.1 400 Bad Request"),
        (b"Not allowed at this time\r\n", "it said: Not allowed at this time"),
        (b"\x1b[31mred\x07\n", "it said: ?[31mred?"),
        (b"SSH-1.5-old\r\n", ""),
        (b"SSH-2.0-\xff\xfe\r\n", ""),
        (b"x" * 100_000, "it said: xxxx"),
        (b"", ""),
    ],
    ids=["http", "penalty", "escapes", "ssh1", "not-ascii", "endless", "nothing"],
)
async def test_a_port_that_speaks_something_else_is_unreachable(
    transports: Transports, known: Callable[..., Path], client_key: Path, said: bytes, told: str
) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def speak() -> None:
        with contextlib.suppress(OSError):
            sock, _ = listener.accept()
            sock.sendall(said)
            sock.shutdown(socket.SHUT_WR)
            sock.recv(1 << 16)
            sock.close()

    thread = threading.Thread(target=speak, daemon=True)
    thread.start()
    known(f"[127.0.0.1]:{port} {public_half(client_key)}")
    error: NodeError = await fail(
        transports, Target(name="odd", address="127.0.0.1", port=port, identity_files=(str(client_key),))
    )
    assert isinstance(error, UnreachableHostError)
    assert told in error.message
    assert "\x1b" not in error.render("sshq")
    thread.join(2)
    listener.close()
