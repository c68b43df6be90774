"""Getting in, or a plain word on why not: keys, agents, refusals, dead and silent ports, cut connections."""

import asyncio
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sshq.errors import AgentError, LoginError, NodeError, UnreachableHostError
from sshq.transport.base import ChannelRefusedError, Deadlines, Target, run
from sshq.transport.pool import Transports

from .sshd import USER, SshdHost, free_port, make_key, wait_until
from .test_contract import wait_for

Start = Callable[..., SshdHost]
Reach = Callable[..., Target]


async def fail(transports: Transports, target: Target) -> NodeError:
    with pytest.raises(NodeError) as caught:
        await transports.transport(target).connect()
    assert caught.value.host == target.name
    assert caught.value.message.startswith(f"{target.name}: ")
    assert caught.value.hint
    return caught.value


async def works(transports: Transports, target: Target) -> None:
    connection = await transports.transport(target).connect()
    assert (await run(connection, "echo in")).stdout == b"in\n"
    await connection.close()


# -- channels refused, connections cut


async def test_max_sessions_refuses_the_channel_and_the_connection_lives_on(
    sshd: Start, reach: Reach, transports: Transports
) -> None:
    connection = await transports.transport(reach(sshd("MaxSessions 1"))).connect()
    first = await connection.open("exec cat")
    with pytest.raises(ChannelRefusedError) as refused:
        await connection.open()
    assert refused.value.by == "host"
    assert "MaxSessions" in "\n".join(refused.value.detail)
    first.write(b"still here\n")
    assert await first.read() == b"still here\n"
    await wait_for(lambda: connection.channels_free == 7)
    await connection.close()


async def test_max_sessions_one_is_worked_around_by_a_second_connection(
    sshd: Start, reach: Reach, transports: Transports
) -> None:
    transport = transports.transport(reach(sshd("MaxSessions 1")))
    first, second = await transport.connect(), await transport.connect()
    await first.open("exec cat")
    assert (await run(second, "echo second")).stdout == b"second\n"
    await first.close()
    await second.close()


async def test_a_forced_command_answers_instead_of_ours(sshd: Start, reach: Reach, transports: Transports) -> None:
    connection = await transports.transport(reach(sshd("ForceCommand echo go away"))).connect()
    assert (await run(connection, "exec /bin/sh", stdin=b"echo ours\n")).stdout == b"go away\n"
    await connection.close()


async def test_a_cut_connection_ends_reading_and_is_never_success(sshd: Start, reach: Reach, transports: Transports) -> None:
    host = sshd()
    transport = transports.transport(reach(host))
    connection = await transport.connect()
    channel = await connection.open("echo started; exec sleep 60")
    assert await channel.read() == b"started\n"
    host.kill_sessions()
    assert await channel.read() == b""
    assert await channel.wait_closed() is None
    reason = await asyncio.shield(connection.lost)
    assert isinstance(reason, UnreachableHostError)
    assert "ws01" in reason.message
    with pytest.raises(UnreachableHostError):
        await connection.open()
    await connection.close()
    assert (transport.counters.connections_open, transport.counters.channels_open) == (0, 0)
    await works(transports, reach(host, known_key=False))


async def test_a_peer_that_falls_silent_is_found_by_keepalives(sshd: Start, reach: Reach, tmp_path: Path) -> None:
    host = sshd()
    transports = Transports(known_hosts=str(tmp_path / "kh"), keepalive_s=0.2, keepalive_count=2)
    connection = await transports.transport(reach(host)).connect()
    for pid in host.sessions():
        os.kill(pid, 19)  # SIGSTOP: the TCP connection stands, nobody speaks
    reason = await asyncio.wait_for(asyncio.shield(connection.lost), 20)
    assert reason is not None
    assert "stopped answering" in reason.message
    for pid in host.sessions():
        os.kill(pid, 18)
    await connection.close()


async def test_many_connections_ask_less_often_and_the_kernel_asks_for_all(sshd: Start, reach: Reach, tmp_path: Path) -> None:
    transports = Transports(known_hosts=str(tmp_path / "kh"), keepalive_s=2, keepalive_count=2)
    keepalives, target = transports._shared.keepalives, reach(sshd())
    keepalives.a_second = 0.5
    connections = [await transports.transport(target).connect() for _ in range(3)]
    assert keepalives.interval_s == 6
    sock = connections[0]._connection.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 2
    assert [4 < one._connection._keepalive_interval < 8 for one in connections] == [True] * 3
    for one in connections[1:]:
        await one.close()
    assert keepalives.interval_s == 2
    assert connections[0]._connection._keepalive_interval == 2
    await connections[0].close()


async def test_it_is_known_whether_a_line_is_busy(sshd: Start, reach: Reach, transports: Transports) -> None:
    connection = await transports.transport(reach(sshd())).connect()
    before = connection.moved_bytes
    assert before > 1000
    await run(connection, "cat >/dev/null", stdin=bytes(300_000))
    sent = connection.moved_bytes
    assert sent - before >= 300_000
    await run(connection, "head -c 300000 /dev/zero", max_bytes=10**6)
    assert connection.moved_bytes - sent >= 300_000
    await connection.close()
    assert connection.moved_bytes >= 0


async def test_round_trip_and_greeting_are_known(sshd: Start, reach: Reach, transports: Transports, tmp_path: Path) -> None:
    banner = tmp_path / "banner"
    banner.write_bytes(b"Authorised users only \xff\n")
    connection = await transports.transport(reach(sshd(f"Banner {banner}"))).connect()
    assert connection.rtt_s is not None
    assert 0 < connection.rtt_s < 1
    assert connection.greeting.startswith("SSH-2.0-OpenSSH")
    assert "Authorised users only" in connection.greeting
    await connection.close()


async def test_new_session_keys_in_mid_stream_lose_nothing(sshd: Start, reach: Reach, transports: Transports) -> None:
    connection = await transports.transport(reach(sshd("RekeyLimit 64K"))).connect()
    sent = os.urandom(2_000_000)
    done = await run(connection, "cat", stdin=sent, max_bytes=len(sent))
    assert done.stdout == sent
    await connection.close()


# -- keys


async def test_a_wrong_key_is_a_refused_login_and_names_the_key(
    sshd: Start, reach: Reach, transports: Transports, tmp_path: Path
) -> None:
    stranger = make_key(tmp_path / "stranger")
    host = sshd()
    transport = transports.transport(reach(host, identity_files=(str(stranger),)))
    with pytest.raises(LoginError) as caught:
        await transport.connect()
    error = caught.value
    assert f"login as {USER} on 127.0.0.1:{host.port} refused" in error.message
    assert any("offered" in line and str(stranger) in line and "SHA256:" in line for line in error.detail)
    assert error.hint is not None
    assert f"-p {host.port} {USER}@127.0.0.1" in error.hint
    assert transport.counters.logins_refused == 1


async def test_a_locked_key_without_agent_costs_the_host_nothing(
    sshd: Start, reach: Reach, transports: Transports, tmp_path: Path
) -> None:
    locked = make_key(tmp_path / "locked", passphrase="secret")
    host = sshd(key=locked)
    error = await fail(transports, reach(host, identity_files=(str(locked),)))
    assert isinstance(error, AgentError)
    assert "key is locked" in error.message
    assert str(locked) in error.message
    assert error.hint == f"ssh-add {locked}"
    assert not host.was_knocked_at()


@pytest.mark.parametrize("pem", [False, True])
async def test_a_locked_key_is_offered_through_the_agent_that_holds_it(
    sshd: Start, reach: Reach, transports: Transports, tmp_path: Path, agent: Callable[..., object], pem: bool
) -> None:
    locked = make_key(tmp_path / "locked", kind="ecdsa" if pem else "ed25519")
    agent()
    subprocess.run(["ssh-add", "-q", locked], check=True)
    style = ["-m", "PEM"] if pem else []
    subprocess.run(
        ["ssh-keygen", "-q", "-p", *style, "-P", "", "-N", "secret", "-f", locked], check=True, stdout=subprocess.DEVNULL
    )
    await works(transports, reach(sshd(key=locked), identity_files=(str(locked),)))


async def test_a_key_that_only_the_agent_has_is_enough(
    sshd: Start, reach: Reach, transports: Transports, tmp_path: Path, agent: Callable[..., object]
) -> None:
    key = make_key(tmp_path / "in-agent")
    agent()
    subprocess.run(["ssh-add", "-q", key], check=True)
    key.unlink()
    await works(transports, reach(sshd(key=key), identity_files=()))
    await works(
        transports, reach(sshd(key=key), name="ws02", identity_files=(f"{key}.pub",), options=(("IdentitiesOnly", "yes"),))
    )


async def test_an_agent_that_is_gone_is_no_refused_login(
    sshd: Start, reach: Reach, transports: Transports, agent: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = agent()
    process.kill()
    process.wait()
    host = sshd()
    error = await fail(transports, reach(host, identity_files=()))
    assert isinstance(error, AgentError)
    assert "agent is gone" in error.message
    assert os.environ["SSH_AUTH_SOCK"] in "\n".join(error.detail)
    assert not host.was_knocked_at()


async def test_an_agent_gone_does_not_matter_where_a_key_file_works(
    sshd: Start, reach: Reach, transports: Transports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/nonexistent/agent")
    await works(transports, reach(sshd()))


async def test_no_key_at_all_is_said_so(sshd: Start, reach: Reach, transports: Transports) -> None:
    error = await fail(transports, reach(sshd(), identity_files=()))
    assert isinstance(error, AgentError)
    assert "no key to offer" in error.message
    assert "ssh-copy-id" in (error.hint or "")


async def test_a_missing_key_file_is_named_with_what_was_tried_instead(
    sshd: Start, reach: Reach, transports: Transports, tmp_path: Path
) -> None:
    error = await fail(transports, reach(sshd(), identity_files=(str(tmp_path / "nowhere"),)))
    assert isinstance(error, AgentError)
    assert any("nowhere: No such file" in line for line in error.detail)


async def test_the_usual_keys_are_tried_when_nobody_names_one(
    sshd: Start, reach: Reach, transports: Transports, home: Path
) -> None:
    usual = make_key(home / ".ssh" / "id_ed25519")
    await works(transports, reach(sshd(key=usual), identity_files=()))


async def test_the_inventorys_key_goes_first(
    sshd: Start, reach: Reach, transports: Transports, home: Path, tmp_path: Path
) -> None:
    """A host that allows one try only lets us in with the key the inventory names."""
    wanted = make_key(tmp_path / "wanted")
    other = make_key(tmp_path / "other")
    (home / ".ssh" / "config").write_text(f"IdentityFile {other}\n")
    await works(transports, reach(sshd("MaxAuthTries 2", key=wanted), identity_files=(str(wanted),)))


async def test_too_many_keys_is_explained(
    sshd: Start, reach: Reach, transports: Transports, tmp_path: Path, agent: Callable[..., object]
) -> None:
    agent()
    for number in range(4):
        subprocess.run(["ssh-add", "-q", make_key(tmp_path / f"many{number}")], check=True)
    error = await fail(transports, reach(sshd("MaxAuthTries 2"), identity_files=()))
    assert isinstance(error, LoginError)
    assert any("IdentitiesOnly" in line for line in error.detail)


async def test_a_user_certificate_beside_the_key_is_used(
    sshd: Start, reach: Reach, transports: Transports, tmp_path: Path
) -> None:
    authority, key = make_key(tmp_path / "ca"), make_key(tmp_path / "certified")
    subprocess.run(["ssh-keygen", "-q", "-s", authority, "-I", "id", "-n", USER, f"{key}.pub"], check=True)
    host = sshd(f"TrustedUserCAKeys {authority}.pub", key=make_key(tmp_path / "unused"))
    await works(transports, reach(host, identity_files=(str(key),)))


# -- addresses


async def test_a_dead_port_refuses(reach: Reach, transports: Transports, client_key: Path, known: Callable[..., Path]) -> None:
    port = free_port()
    known(f"[127.0.0.1]:{port} {Path(f'{client_key}.pub').read_text()}")
    error = await fail(transports, Target(name="dead", address="127.0.0.1", port=port, identity_files=(str(client_key),)))
    assert isinstance(error, UnreachableHostError)
    assert f"127.0.0.1:{port} refuses connections" in error.message
    assert error.unheard, "a try costs nobody anything"


async def test_an_unknown_name_is_said_so(transports: Transports, client_key: Path, known: Callable[..., Path]) -> None:
    known(f"no-such-host.invalid {Path(f'{client_key}.pub').read_text()}")
    error = await fail(transports, Target(name="nn", address="no-such-host.invalid", identity_files=(str(client_key),)))
    assert isinstance(error, UnreachableHostError)
    assert "has no address" in error.message or "cannot be looked up" in error.message


async def test_a_server_that_never_speaks_hits_the_deadline(tmp_path: Path, client_key: Path, known: Callable[..., Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        known(f"[127.0.0.1]:{port} {Path(f'{client_key}.pub').read_text()}")
        transports = Transports(known_hosts=str(tmp_path / "kh"), deadlines=Deadlines(connect_s=0.4, login_s=0.4))
        began_at = asyncio.get_running_loop().time()
        error = await fail(transports, Target(name="mute", address="127.0.0.1", port=port, identity_files=(str(client_key),)))
        assert asyncio.get_running_loop().time() - began_at < 15
    assert isinstance(error, UnreachableHostError)
    assert not error.unheard, "somebody there has taken the connection"
    assert "never speaks within 0.4 s" in error.message


async def test_a_server_stopped_in_mid_login_hits_the_deadline(
    tmp_path: Path, client_key: Path, known: Callable[..., Path]
) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-half\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    known(f"[127.0.0.1]:{port} {Path(f'{client_key}.pub').read_text()}")
    transports = Transports(known_hosts=str(tmp_path / "kh"), deadlines=Deadlines(connect_s=3, login_s=0.4))
    error = await fail(transports, Target(name="half", address="127.0.0.1", port=port, identity_files=(str(client_key),)))
    assert isinstance(error, UnreachableHostError)
    assert "did not finish the login within 0.4 s" in error.message
    server.close()


async def test_dead_hosts_do_not_hold_up_the_living(
    sshd: Start, reach: Reach, tmp_path: Path, client_key: Path, known: Callable[..., Path]
) -> None:
    """Twenty mute ports, many more than there are turns for handshakes; the live host comes in at once."""
    transports = Transports(known_hosts=str(tmp_path / "kh"), deadlines=Deadlines(connect_s=60))
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        port = silent.getsockname()[1]
        known(*(f"[127.0.1.{n}]:{port} {Path(f'{client_key}.pub').read_text()}" for n in range(1, 2)))
        known(f"[127.0.0.1]:{port} {Path(f'{client_key}.pub').read_text()}")
        mute = Target(name="mute", address="127.0.0.1", port=port, identity_files=(str(client_key),))
        waiting = [asyncio.ensure_future(transports.transport(mute).connect()) for _ in range(20)]
        await asyncio.sleep(0.05)
        await asyncio.wait_for(works(transports, reach(sshd())), 20)
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_cancelled_login_leaves_nothing_behind(sshd: Start, reach: Reach, transports: Transports) -> None:
    host = sshd()
    target = reach(host)
    for wait_s in (0, 0.002, 0.01, 0.03, 0.05):
        connecting = asyncio.ensure_future(transports.transport(target).connect())
        await asyncio.sleep(wait_s)
        connecting.cancel()
        (outcome,) = await asyncio.gather(connecting, return_exceptions=True)
        if not isinstance(outcome, BaseException):
            await outcome.close()
    await asyncio.get_running_loop().run_in_executor(None, lambda: wait_until(lambda: not host.sessions(), "sessions end"))


# -- ssh's own configuration


async def test_the_users_configuration_gives_what_the_inventory_leaves_open(
    sshd: Start, transports: Transports, home: Path, client_key: Path, known: Callable[..., Path]
) -> None:
    host = sshd()
    known(host.known_line())
    (home / ".ssh" / "conf.d").mkdir()
    (home / ".ssh" / "config").write_text("Include conf.d/*.conf\nHost *\n  User nobody-at-all\n  Port 1\n")
    (home / ".ssh" / "conf.d" / "lab.conf").write_text(
        f"Host alias\n  HostName 127.0.0.1\n  Port {host.port}\n  User {USER}\n  IdentityFile {client_key}\n"
    )
    await works(transports, Target(name="ws01", address="alias"))


async def test_the_inventory_wins_over_the_configuration(sshd: Start, reach: Reach, transports: Transports, home: Path) -> None:
    (home / ".ssh" / "config").write_text(
        "Host *\n  User nobody-at-all\n  Port 1\n  RemoteCommand false\n  RequestTTY force\n  Compression yes\n"
        "  UserKnownHostsFile ~/.ssh/known_hosts\n  StrictHostKeyChecking no\n  ForwardAgent yes\n  SendEnv *\n"
    )
    await works(transports, reach(sshd()))


async def test_options_of_the_inventory_are_read_as_ssh_reads_them(
    sshd: Start, transports: Transports, client_key: Path, known: Callable[..., Path]
) -> None:
    host = sshd()
    known(host.known_line(name="the-alias"))
    options = (("HostKeyAlias", "the-alias"), ("Port", str(host.port)), ("IdentityFile", str(client_key)), ("User", USER))
    await works(transports, Target(name="ws01", address="127.0.0.1", options=options))


async def test_a_proxy_command_is_run_by_the_shell(
    sshd: Start, reach: Reach, transports: Transports, home: Path, need_nc: str
) -> None:
    command = f"sh -c 'echo noise >&2; exec {need_nc} %h %p' 2>/dev/null"
    (home / ".ssh" / "config").write_text(f"ProxyCommand {command}\n")
    await works(transports, reach(sshd()))


async def test_a_proxy_command_may_speak_on_standard_error(
    sshd: Start, reach: Reach, transports: Transports, need_nc: str
) -> None:
    options = (("ProxyCommand", f"sh -c 'echo noise >&2; exec {need_nc} %h %p'"),)
    await works(transports, reach(sshd(), options=options))


async def test_a_proxy_command_that_gives_up_is_quoted(sshd: Start, reach: Reach, transports: Transports) -> None:
    error = await fail(transports, reach(sshd(), options=(("ProxyCommand", "sh -c 'echo no way >&2; exit 1'"),)))
    assert isinstance(error, UnreachableHostError)
    assert any("no way" in line for line in error.detail)


async def test_a_fault_in_the_configuration_is_told_with_its_line(
    reach: Reach, sshd: Start, transports: Transports, home: Path
) -> None:
    config = home / ".ssh" / "config"
    config.write_text("Host *\n  Port many\n")
    error = await fail(transports, reach(sshd()))
    assert isinstance(error, UnreachableHostError)
    assert f"{config} line 2" in error.message


@pytest.fixture
def need_nc(tmp_path: Path) -> str:
    """A stand-in for nc: connect standard input and output to HOST PORT."""
    script = tmp_path / "connect.py"
    script.write_text(
        "import os, select, socket, sys\n"
        "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "while True:\n"
        "    for r in select.select([0, s], [], [])[0]:\n"
        "        data = os.read(0, 65536) if r == 0 else s.recv(65536)\n"
        "        if not data: sys.exit()\n"
        "        s.sendall(data) if r == 0 else os.write(1, data)\n"
    )
    import sys

    return f"{sys.executable} -I -S {script}"
