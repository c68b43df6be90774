"""Long answers over a real socket: passed on to a pipe or a file, and readers that are slow, wait, or go away."""

import asyncio
import os
import socket
import threading

import pytest

from sshq.cli.copying import copy_output
from sshq.wire.channel import Channel, ClosedError, Request, StreamOut
from sshq.wire.client import Client, LostReplyError
from sshq.wire.codec import decode_json
from sshq.wire.protocol import DATA_FRAME

from .conftest import raw, read_bytes, read_frame, request, until


def test_a_handler_waits_for_a_client_that_reads_slowly(start, path):
    running = start(stall_s=60)
    with raw(path) as connection:
        connection.sendall(request("jobs", {"count": 100_000, "step": 100, "pad": "x" * 1000}))
        read_frame(connection)
        until(lambda: running.service.sent > 0)
        # What is on its way is bounded: the kernel's buffer and 256 KiB and a chunk, not 100 MB.
        seen = -1
        while seen != running.service.sent:
            seen = running.service.sent
            threading.Event().wait(0.1)
        assert seen < 5000
        count = 100
        while count < 100_000:
            count += len(read_frame(connection)["items"])
        assert read_frame(connection)["result"] == {"count": 100_000}


def test_a_client_that_reads_nothing_is_dropped(start, path):
    running = start(stall_s=0.2)
    with raw(path) as connection, Client(path) as bystander:
        connection.sendall(request("jobs", {"count": 100_000, "step": 100, "pad": "x" * 1000}))
        assert running.service.running.wait(10)
        assert bystander.call("ping")["version"] == "0"
        until(lambda: running.server.connections == 1)


def test_a_client_that_reads_slowly_is_not_dropped(start, path):
    start(stall_s=1.5)
    with raw(path) as connection:
        connection.sendall(request("logs", {"size": 1 << 20, "step": 4096}))
        received, slow_until = 0, 300 << 10  # the kernel wants more room than this before it takes more of us
        while received < 1 << 20:
            header = read_bytes(connection, 5)
            left = int.from_bytes(header[:4], "big")
            received += left
            while left:
                left -= len(read_bytes(connection, min(left, 4096)))
                if received < slow_until:
                    threading.Event().wait(0.05)
        assert read_frame(connection)["ok"] is True


def test_what_is_given_up_amid_a_frame_does_not_garble_the_answer(start, path):
    running = start(stall_s=60)
    with raw(path) as connection:
        connection.sendall(request("logs", {"size": 4 << 20, "step": 8192, "patience_s": 0.05}))
        assert running.service.gave_up.wait(10)
        received = b""
        while (header := read_bytes(connection, 5))[4] == DATA_FRAME:
            received += read_bytes(connection, int.from_bytes(header[:4], "big"))
        answer = decode_json(read_bytes(connection, int.from_bytes(header[:4], "big")))
        assert (answer["ok"], answer["error"]["code"]) == (False, "not_now")
        assert received == (bytes(range(256)) * (16 << 10))[: len(received)]


@pytest.mark.parametrize(
    "size,step", [(0, 1), (256, 1), (3 << 20, 3 << 20), (3 << 20, 32_768), (1 << 20, 700), (1 << 20, 262_145)]
)
@pytest.mark.parametrize("timeout_s", [None, 60])
def test_data_is_passed_on_whole_to_a_pipe_and_to_a_file(running, path, tmp_path, size, step, timeout_s):
    whole = bytes(range(256)) * (size // 256)
    reading, writing = os.pipe()
    got = []

    def drain():
        with open(reading, "rb") as pipe:
            got.append(pipe.read())

    thread = threading.Thread(target=drain)
    thread.start()
    with Client(path) as client, open(tmp_path / "out", "wb") as file:
        for out in (writing, file.fileno()):
            stream = client.data("logs", {"size": size, "step": step}, timeout_s=timeout_s)
            assert sum(stream.copy_to(out)) == size
            assert stream.result == {"offset": size}
    os.close(writing)
    thread.join()
    assert got == [whole]
    assert (tmp_path / "out").read_bytes() == whole


def test_a_pager_that_waits_until_the_controller_hangs_up_gets_the_rest_all_the_same(start, path, monkeypatch):
    running = start(stall_s=0.2)
    monkeypatch.setenv("SSHQ_HOME", os.path.dirname(path))
    reading, writing = os.pipe()
    params = {"size": 4 << 20, "step": 8192}

    def copy():
        try:
            results.append(copy_output(params, writing, follow=False))
        finally:
            os.close(writing)

    results = []
    thread = threading.Thread(target=copy)
    thread.start()
    until(lambda: running.server.connections == 1)
    until(lambda: running.server.connections == 0)
    with open(reading, "rb") as pipe:
        assert pipe.read() == bytes(range(256)) * (16 << 10)
    thread.join()
    assert results == [{"offset": 4 << 20}]


def test_a_pipe_that_does_not_wait_gets_all_the_same(running, path):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    got = []

    def drain():
        with open(reading, "rb") as pipe:
            got.append(pipe.read())

    with Client(path) as client:
        moved = client.data("logs", {"size": 16 << 20}, timeout_s=60).copy_to(writing)
        total = next(moved)  # of the pipe's 64 KiB: it is full before anybody reads
        thread = threading.Thread(target=drain)
        thread.start()
        total += sum(moved)
    os.close(writing)
    thread.join()
    assert total == len(got[0]) == 16 << 20
    assert got == [bytes(range(256)) * (64 << 10)]


def test_data_for_a_connection_that_is_closed_is_no_bug():
    async def send():
        here, there = socket.socketpair()
        reader, writer = await asyncio.open_unix_connection(sock=here)
        with there:
            writer.transport.abort()
            await writer.wait_closed()
            stream = StreamOut(Channel(reader, writer, stall_s=1), Request(id=1, method="logs", params={}))
            with pytest.raises(ClosedError):
                await stream.data(b"x")

    asyncio.run(send())


def test_a_pipe_that_nobody_reads_any_more_is_the_pipes_error(running, path):
    reading, writing = os.pipe()
    os.close(reading)
    with Client(path) as client, pytest.raises(BrokenPipeError):
        list(client.data("logs", {"size": 1 << 20}).copy_to(writing))
    os.close(writing)


def test_a_controller_that_goes_away_amid_data_is_lost_for_a_pipe_too(running, path):
    reading, writing = os.pipe()
    with Client(path) as client:
        moved = client.data("logs", {"size": 16 << 20}, timeout_s=None).copy_to(writing)
        assert next(moved) > 0
        client.hang_up()
        with pytest.raises(LostReplyError):
            while True:
                os.read(reading, 1 << 20)
                next(moved)
    os.close(reading)
    os.close(writing)
