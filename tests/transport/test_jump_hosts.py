"""Through other hosts: each checked by its own key, one connection for all behind it, circles and refusals told."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from sshq.errors import HostKeyError, LoginError, UnreachableHostError
from sshq.transport.base import Target, run
from sshq.transport.options import parse_jump
from sshq.transport.pool import Transports

from .sshd import USER, SshdHost, fingerprint, free_port, make_key
from .test_contract import wait_for
from .test_logins import fail, works

Start = Callable[..., SshdHost]
Reach = Callable[..., Target]
Known = Callable[..., Path]


@pytest.fixture
def gate(sshd: Start, home: Path, client_key: Path, known: Known) -> SshdHost:
    """A jump host that ssh's configuration calls `gate`."""
    host = sshd("AllowTcpForwarding yes")
    (home / ".ssh" / "config").write_text(
        f"Host gate\n  HostName 127.0.0.1\n  Port {host.port}\n  User {USER}\n  IdentityFile {client_key}\n"
    )
    known(host.known_line())
    return host


async def test_a_host_is_reached_through_its_jump_host(gate: SshdHost, sshd: Start, reach: Reach, transports: Transports) -> None:
    host = sshd()
    connection = await transports.transport(reach(host, proxy_jump="gate")).connect()
    done = await run(connection, "echo $SSH_CLIENT")
    assert done.exit_code == 0
    assert (gate.count_logins(), host.count_logins()) == (1, 1)
    assert connection.rtt_s is not None
    assert transports.host_keys.pinned("gate")
    assert transports.host_keys.pinned("ws01")
    await connection.close()
    await wait_for(lambda: not gate.sessions())


async def test_the_jump_host_may_stand_in_the_configuration(
    gate: SshdHost, sshd: Start, reach: Reach, transports: Transports, home: Path
) -> None:
    host = sshd()
    with (home / ".ssh" / "config").open("a") as file:
        file.write("Host 127.0.0.1\n  ProxyJump gate\n")
    await works(transports, reach(host))
    assert gate.count_logins() == 1
    await works(transports, reach(host, known_key=False, proxy_jump="none"))
    assert gate.count_logins() == 1


async def test_hosts_behind_one_jump_host_share_one_connection_to_it(
    gate: SshdHost, sshd: Start, reach: Reach, transports: Transports
) -> None:
    host = sshd()
    target = reach(host, proxy_jump="gate")
    connections = await asyncio.gather(*(transports.transport(target).connect() for _ in range(6)))
    assert (gate.count_logins(), host.count_logins()) == (1, 6)
    for connection in connections[:-1]:
        await connection.close()
    assert (await run(connections[-1], "echo on")).stdout == b"on\n"
    await connections[-1].close()
    await wait_for(lambda: not gate.sessions())


async def test_a_row_of_jump_hosts(
    gate: SshdHost, sshd: Start, reach: Reach, transports: Transports, client_key: Path, home: Path, known: Known
) -> None:
    second = sshd("AllowTcpForwarding yes")
    known(second.known_line())
    with (home / ".ssh" / "config").open("a") as file:
        file.write(f"Host 127.0.0.1\n  IdentityFile {client_key}\n")
    target = reach(sshd(), proxy_jump=f"gate,{USER}@127.0.0.1:{second.port}")
    assert [jump.name for jump in transports.bastions(target)] == ["gate", f"127.0.0.1:{second.port}"]
    await works(transports, target)
    assert (gate.count_logins(), second.count_logins()) == (1, 1)


async def test_an_unknown_jump_host_is_not_used_and_is_named_in_the_hint(
    sshd: Start, reach: Reach, transports: Transports
) -> None:
    gate, host = sshd(), sshd()
    name = f"127.0.0.1:{gate.port}"
    target = reach(host, proxy_jump=name)
    error = await fail(transports, target)
    assert isinstance(error, HostKeyError)
    assert error.kind == "unknown"
    assert error.message.startswith(f"ws01: jump host {name}: ")
    assert error.hint == f"sshq hosts trust {name}"
    assert not gate.was_knocked_at()
    (bastion,) = transports.bastions(target)
    keys = await transports.fetch_host_keys(bastion)
    assert keys[0].fingerprint == fingerprint(gate.host_key)


async def test_keys_can_be_fetched_through_a_trusted_jump_host(
    gate: SshdHost, sshd: Start, reach: Reach, transports: Transports
) -> None:
    host = sshd()
    keys = await transports.fetch_host_keys(reach(host, known_key=False, proxy_jump="gate"))
    assert [key.fingerprint for key in keys] == [fingerprint(host.host_key)]
    assert gate.count_logins() == 1


async def test_a_jump_host_with_a_changed_key_is_refused(
    gate: SshdHost, sshd: Start, reach: Reach, transports: Transports
) -> None:
    target = reach(sshd(), proxy_jump="gate")
    await works(transports, target)
    gate.change_host_key()
    error = await fail(transports, target)
    assert isinstance(error, HostKeyError)
    assert error.kind == "changed"
    assert "jump host gate" in error.message


async def test_a_jump_host_that_refuses_us_is_asked_once_for_many(
    gate: SshdHost, sshd: Start, reach: Reach, transports: Transports, tmp_path: Path
) -> None:
    gate.authorize(make_key(tmp_path / "somebody-else"))
    target = reach(sshd(), proxy_jump="gate")
    outcomes = await asyncio.gather(*(transports.transport(target).connect() for _ in range(8)), return_exceptions=True)
    assert all(isinstance(outcome, LoginError) for outcome in outcomes)
    assert gate.log().count("Connection from") == 1


async def test_a_jump_host_that_forbids_forwarding_is_told(
    home: Path, sshd: Start, reach: Reach, transports: Transports, client_key: Path, known: Known
) -> None:
    gate = sshd("AllowTcpForwarding no")
    known(gate.known_line())
    (home / ".ssh" / "config").write_text(f"IdentityFile {client_key}\n")
    error = await fail(transports, reach(sshd(), proxy_jump=f"127.0.0.1:{gate.port}"))
    assert isinstance(error, UnreachableHostError)
    assert any("forbids forwarding" in line for line in error.detail)


async def test_a_dead_host_behind_a_jump_host_is_told(
    gate: SshdHost, transports: Transports, client_key: Path, known: Known
) -> None:
    port = free_port()
    known(gate.known_line(name=f"[127.0.0.1]:{port}"))
    target = Target(name="dead", address="127.0.0.1", port=port, proxy_jump="gate", identity_files=(str(client_key),))
    error = await fail(transports, target)
    assert isinstance(error, UnreachableHostError)
    assert any("gate got no connection to it" in line for line in error.detail)


async def test_a_jump_host_that_dies_takes_its_hosts_along_and_they_come_back(
    gate: SshdHost, sshd: Start, reach: Reach, transports: Transports
) -> None:
    target = reach(sshd(), proxy_jump="gate")
    connection = await transports.transport(target).connect()
    gate.kill_sessions()
    assert isinstance(await asyncio.shield(connection.lost), UnreachableHostError)
    await works(transports, target)
    assert gate.count_logins() == 2


async def test_jump_hosts_in_a_circle_are_told_not_followed(
    sshd: Start, reach: Reach, transports: Transports, home: Path
) -> None:
    host = sshd()
    (home / ".ssh" / "config").write_text("Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n")
    error = await fail(transports, reach(host, proxy_jump="a"))
    assert isinstance(error, UnreachableHostError)
    assert "circle" in error.message
    with pytest.raises(UnreachableHostError, match="circle"):
        transports.bastions(reach(host, known_key=False, proxy_jump="a"))


async def test_a_star_that_jumps_over_itself_is_told(sshd: Start, reach: Reach, transports: Transports, home: Path) -> None:
    (home / ".ssh" / "config").write_text("Host *\n  ProxyJump gate\n")
    assert "circle" in (await fail(transports, reach(sshd()))).message


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("gate", (None, "gate", None)),
        ("anna@gate:2222", ("anna", "gate", 2222)),
        ("anna@lab.de@gate", ("anna@lab.de", "gate", None)),
        ("[::1]:2222", (None, "::1", 2222)),
        ("::1", (None, "::1", None)),
        ("ssh://anna@gate:22/", ("anna", "gate", 22)),
    ],
)
def test_jump_hosts_are_parsed(text: str, parsed: tuple[str | None, str, int | None]) -> None:
    assert parse_jump(text) == parsed


@pytest.mark.parametrize("text", ["", "anna@", "gate:x", "[::1]:x", "ssh://"])
def test_what_is_no_jump_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a jump host"):
        parse_jump(text)
