"""A HOME of one's own, servers that end with the test, and async tests run to their end within a deadline."""

import asyncio
import inspect
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sshq.transport.base import Deadlines, Target
from sshq.transport.pool import Transports

from .sshd import SSHD, USER, SshdHost, make_key

QUICK = Deadlines(connect_s=5, login_s=8, open_s=5, drain_s=5, close_s=2)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run coroutine tests; nothing may hang."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    given = {name: pyfuncitem.funcargs[name] for name in names}

    async def scenario() -> None:
        async with asyncio.timeout(40):
            await pyfuncitem.obj(**given)

    asyncio.run(scenario())
    return True


@pytest.fixture(scope="session")
def client_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not SSHD:
        pytest.skip("apt-get install openssh-server")
    return make_key(tmp_path_factory.mktemp("keys") / "id_ed25519")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nobody's own keys, agent or configuration take part."""
    folder = tmp_path / "head-home"
    (folder / ".ssh").mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return folder


@pytest.fixture
def sshd(tmp_path: Path, client_key: Path) -> Iterator[Callable[..., SshdHost]]:
    """`sshd("MaxSessions 1")` starts one more server."""
    made: list[SshdHost] = []

    def start(*config: str, key: Path = client_key) -> SshdHost:
        host = SshdHost(tmp_path / f"sshd{len(made)}", key, *config)
        made.append(host)
        return host.start()

    yield start
    for host in made:
        host.stop()


@pytest.fixture
def transports(tmp_path: Path) -> Transports:
    return Transports(known_hosts=str(tmp_path / "state" / "known_hosts"), deadlines=QUICK)


@pytest.fixture
def known(home: Path) -> Callable[..., Path]:
    """Append lines to the user's known_hosts."""
    path = home / ".ssh" / "known_hosts"

    def add(*lines: str) -> Path:
        with path.open("a") as file:
            file.writelines(line if line.endswith("\n") else line + "\n" for line in lines)
        return path

    return add


@pytest.fixture
def reach(client_key: Path, known: Callable[..., Path]) -> Callable[..., Target]:
    """A target for a server, its host key known to the user."""

    def make(host: SshdHost, *, name: str = "ws01", known_key: bool = True, **kwargs: object) -> Target:
        if known_key:
            known(host.known_line())
        given = {"account": USER, "identity_files": (str(client_key),), "address": host.address, "port": host.port, **kwargs}
        return Target(name=name, **given)

    return make


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """`agent()` starts an ssh-agent and points SSH_AUTH_SOCK at it."""
    started: list[subprocess.Popen[bytes]] = []
    path = tmp_path / "agent"

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        started.append(process)
        from bed.odd import is_listening

        from .sshd import wait_until

        wait_until(lambda: is_listening(str(path)), "ssh-agent")
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
