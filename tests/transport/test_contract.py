"""What every transport promises: the same tests over sshd and on this machine itself."""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sshq.errors import NoReplyError, UnreachableHostError
from sshq.transport.base import MAX_CHANNELS, Channel, ChannelRefusedError, Target, Terminal, Transport, run
from sshq.transport.local import LocalTransport
from sshq.transport.pool import Transports


@pytest.fixture(params=["ssh", "local"])
def transport(request: pytest.FixtureRequest, transports: Transports) -> Transport:
    if request.param == "local":
        return transports.transport(Target(name="here", address="localhost", connection="local"))
    sshd, reach = request.getfixturevalue("sshd"), request.getfixturevalue("reach")
    return transports.transport(reach(sshd("MaxSessions 100")))


async def test_lines_go_out_and_come_back_on_one_channel(transport: Transport) -> None:
    connection = await transport.connect()
    channel = await connection.open()
    for word in (b"one", b"two"):
        channel.write(b"echo " + word + b"\n")
        assert await channel.read() == word + b"\n"
    channel.write(b"exit 7\n")
    assert await channel.read() == b""
    assert await channel.wait_closed() == 7
    await connection.close()
    assert connection.lost.result() is None


async def test_stderr_is_kept_apart_and_bounded(transport: Transport) -> None:
    connection = await transport.connect()
    done = await run(
        connection, "echo out; i=0; while [ $i -lt 3000 ]; do echo 'err err err' >&2; i=$((i+1)); done; echo last >&2"
    )
    assert done.stdout == b"out\n"
    assert done.stderr.endswith(b"last\n")
    assert len(done.stderr) == 16 * 1024
    assert done.exit_code == 0
    await connection.close()


@pytest.mark.parametrize(("command", "code"), [("true", 0), ("exit 255", 255), ("exec /nonexistent", 127)])
async def test_the_exit_status_is_the_commands_own(transport: Transport, command: str, code: int) -> None:
    connection = await transport.connect()
    assert (await run(connection, command)).exit_code == code
    await connection.close()


async def test_a_command_ended_by_a_signal_has_no_exit_status(transport: Transport) -> None:
    connection = await transport.connect()
    channel = await connection.open("exec /bin/sh -c 'kill -s TERM $$'")
    assert await channel.read() == b""
    assert await channel.wait_closed() is None
    assert channel.exit_signal == "TERM"
    await connection.close()


async def test_bytes_pass_unchanged_and_in_order_both_ways(transport: Transport) -> None:
    connection = await transport.connect()
    sent = bytes(range(256)) * 12_000  # 3 MB: above the window and all high waters
    done = await run(connection, "cat", stdin=sent, max_bytes=len(sent), bulk=True)
    assert done.stdout == sent
    assert not done.truncated
    assert transport.counters.bytes_out == transport.counters.bytes_in == len(sent)
    await connection.close()


async def test_what_is_not_read_is_not_swallowed_without_bound(transport: Transport) -> None:
    connection = await transport.connect()
    channel = await connection.open("head -c 50000000 /dev/zero")
    assert await channel.read(10) == b"\0" * 10
    before = -1
    while transport.counters.bytes_in != before:  # until the flow stands still
        before = transport.counters.bytes_in
        await asyncio.sleep(0.2)
    assert before < 8_000_000
    got = 10
    while data := await channel.read(1 << 20):
        got += len(data)
    assert got == 50_000_000
    assert await channel.wait_closed() == 0
    await connection.close()


async def test_writing_to_one_who_does_not_read_waits(transport: Transport) -> None:
    connection = await transport.connect()
    channel = await connection.open("exec sleep 30")
    with pytest.raises(UnreachableHostError, match="took no more input"):
        for _ in range(20):
            channel.write(b"x" * 1_000_000)
            await channel.drain(deadline_s=0.3)
    channel.close()
    await connection.close()


async def test_output_beyond_the_limit_is_cut_and_says_so(transport: Transport) -> None:
    connection = await transport.connect()
    done = await run(connection, "head -c 1000000 /dev/zero", max_bytes=1000)
    assert (len(done.stdout), done.truncated, done.exit_code) == (1000, True, None)
    await connection.close()


async def test_silence_has_a_deadline_of_its_own(transport: Transport) -> None:
    connection = await transport.connect()
    with pytest.raises(NoReplyError, match="no end of `sleep 20` within 0.3 s"):
        await run(connection, "sleep 20", deadline_s=0.3)
    channel = await connection.open("exec sleep 20")
    with pytest.raises(NoReplyError, match="said nothing"):
        await channel.read(deadline_s=0.1)
    with pytest.raises(NoReplyError, match="did not end"):
        await channel.wait_closed(deadline_s=0.1)
    await connection.close()


async def test_a_host_may_allow_fewer_channels(transport: Transport, transports: Transports) -> None:
    connection = await transports.transport(replace(transport.target, channels_max=2)).connect()
    channels = [await connection.open("exec cat") for _ in range(2)]
    with pytest.raises(ChannelRefusedError, match="all 2 channels") as refused:
        await connection.open()
    assert refused.value.by == "budget"
    for channel in channels:
        channel.write_eof()
        assert await channel.wait_closed() == 0
    await connection.close()


async def test_the_ninth_channel_is_refused_and_a_closed_one_makes_room(transport: Transport) -> None:
    connection = await transport.connect()
    channels = [await connection.open("exec cat") for _ in range(MAX_CHANNELS)]
    assert connection.channels_free == 0
    with pytest.raises(ChannelRefusedError) as refused:
        await connection.open()
    assert refused.value.by == "budget"
    channels[0].write_eof()
    assert await channels[0].wait_closed() == 0
    assert connection.channels_free == 1
    await (await connection.open("exec cat")).drain()
    counters = transport.counters
    assert (counters.channels_opened, counters.channels_peak, counters.connections_opened) == (9, 8, 1)
    await connection.close()
    await wait_for(lambda: counters.channels_open == 0 and counters.connections_open == 0)


async def test_closing_kills_nothing(transport: Transport, tmp_path: Path) -> None:
    connection = await transport.connect()
    channel = await connection.open()
    ready, done = tmp_path / "ready", tmp_path / "done"
    script = f"(setsid sh -c 'echo $$ >{ready}; sleep 0.5; echo yes >{done}' </dev/null >/dev/null 2>&1 &)\n"
    channel.write(script.encode())
    await wait_for(lambda: ready.exists() and ready.read_text())
    await connection.close()
    await wait_for(lambda: done.exists() and done.read_text() == "yes\n")


async def test_the_command_has_a_clean_environment(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSHQ_HOME", "/must/not/leak")
    monkeypatch.setenv("SOME_SECRET", "must not leak")
    connection = await transport.connect()
    done = await run(connection, "env; pwd; ps -o sid=,pid= -p $$ 2>/dev/null || cat /proc/self/stat")
    assert b"SSHQ_" not in done.stdout
    assert b"SOME_SECRET" not in done.stdout
    assert b"HOME=" in done.stdout
    await connection.close()


async def test_after_closing_nothing_can_be_opened(transport: Transport) -> None:
    connection = await transport.connect()
    channel = await connection.open("exec cat")
    await connection.close()
    await connection.close()
    channel.write(b"nobody reads this\n")
    await channel.drain()
    assert await channel.read() == b""
    with pytest.raises(UnreachableHostError):
        await connection.open()


async def test_a_cancelled_opening_gives_its_place_back(transport: Transport) -> None:
    connection = await transport.connect()
    for _ in range(12):
        opening = asyncio.ensure_future(connection.open("exec cat"))
        await asyncio.sleep(0)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        if not opening.cancelled():
            opening.result().close()
        await wait_for(lambda: connection.channels_free == MAX_CHANNELS)
    assert (await run(connection, "echo still here")).stdout == b"still here\n"
    await connection.close()


async def test_two_connections_of_one_transport_are_independent(transport: Transport) -> None:
    first, second = await transport.connect(), await transport.connect()
    await first.close()
    assert (await run(second, "echo alive")).stdout == b"alive\n"
    assert transport.counters.connections_opened == 2
    await second.close()


async def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    ends_at = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < ends_at, "condition not met"
        await asyncio.sleep(0.01)


def test_a_local_channel_is_a_session_leader_and_is_reaped(transports: Transports) -> None:
    async def scenario() -> None:
        connection = await transports.transport(Target(name="here", address="", connection="local")).connect()
        channel = await connection.open()
        channel.write(b"echo $$\n")
        pid = int(await channel.read())
        assert os.getsid(pid) == pid
        os.kill(pid, signal.SIGKILL)
        assert await channel.wait_closed() is None
        assert channel.exit_signal == "KILL"
        assert not Path(f"/proc/{pid}").exists()
        await connection.close()

    asyncio.run(scenario())


async def test_where_scopes_work_a_local_channel_runs_in_one(
    transports: Transports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for systemd-run, which test machines seldom have running: it must get our words and be obeyed."""
    target = Target(name="here", address="", connection="local")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    stand_in = tmp_path / "systemd-run"
    stand_in.write_text("#!/bin/sh\nexit 1\n")
    stand_in.chmod(0o755)
    assert (await LocalTransport(target, use_scope=True).connect()).scope == ()
    stand_in.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done; shift; IN_SCOPE=yes exec "$@"\n')
    connection = await LocalTransport(target, use_scope=True).connect()
    assert (await run(connection, "echo $IN_SCOPE")).stdout == b"yes\n"
    assert (await run(connection, "echo $IN_SCOPE", bulk=True)).stdout == b"\n"
    await connection.close()


async def read_until(channel: Channel, text: bytes) -> bytes:
    seen = b""
    while text not in seen:
        data = await channel.read(deadline_s=20)
        assert data, seen
        seen += data
    return seen


async def test_a_terminal_has_a_size_and_hangs_up_with_its_channel(transport: Transport, tmp_path: Path) -> None:
    connection = await transport.connect()
    channel = await connection.open("exec /bin/sh", terminal=Terminal(term="vt52", rows=33, columns=77))
    channel.write(b"stty -echo; PS1=; stty size; echo $TERM; tty; echo en''d\n")
    seen = await read_until(channel, b"end\r\n")
    assert b"33 77\r\n" in seen
    assert b"vt52\r\n/dev/" in seen
    channel.resize(44, 88)
    channel.write(b"stty size; echo mo''re >&2; sh -c 'echo beg''un; exec sleep 1000'\n")
    assert b"44 88\r\n" in await read_until(channel, b"begun")
    channel.write(b"\x03")
    waits = f"trap 'echo hung up >{tmp_path}/told; exit' HUP; echo ready; while :; do sleep 0.05; done"
    Path(tmp_path, "waits").write_text(waits)
    channel.write(f"exec sh {tmp_path}/waits\n".encode())
    await read_until(channel, b"ready")
    channel.close()
    for _ in range(200):
        if (tmp_path / "told").exists():
            break
        await asyncio.sleep(0.05)
    assert (tmp_path / "told").read_text() == "hung up\n"
    ended = await connection.open("exec /bin/sh", terminal=Terminal())
    ended.write(b"exit 7\n")
    while await ended.read():
        pass
    assert await ended.wait_closed(20) == 7
    await connection.close()


async def test_a_terminal_waits_for_who_reads_and_loses_nothing(transport: Transport) -> None:
    connection = await transport.connect()
    channel = await connection.open("stty raw -echo; exec seq 1 500000", terminal=Terminal())
    await asyncio.sleep(0.2)
    seen = bytearray()
    while data := await channel.read():
        seen += data
    assert seen.replace(b"\r", b"") == b"".join(b"%d\n" % n for n in range(1, 500_001))
    assert await channel.wait_closed(20) == 0
    await connection.close()


async def test_a_slow_reader_is_sent_no_more_than_it_can_be_kept(transport: Transport) -> None:
    """By itself asyncssh opens its window again with each piece that is handed over, and keeps all that comes."""

    def resident_kib() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 10

    size = 96 << 20
    connection = await transport.connect()
    channel = await connection.open(f"head -c {size} /dev/zero", bulk=True)
    before, most, got = resident_kib(), 0, 0
    while data := await channel.read(256 << 10):
        got += len(data)
        most = max(most, resident_kib() - before)
        await asyncio.sleep(0.002)  # slower than what comes
    assert got == size
    assert most < 32 << 10
    await connection.close()
