"""Client and server over a real socket: answers, refusals, bounds, and what each side survives."""

import json
import os
import random
import resource
import socket
import stat
import struct
import tempfile
import threading

import pytest

from sshq.errors import ControllerError, RefusedError, UnreachableError, VersionMismatchError
from sshq.wire.client import Client, LostReplyError, connect, list_sockets
from sshq.wire.codec import frame_header, frame_json
from sshq.wire.protocol import DATA_FRAME
from sshq.wire.server import allow_connections

from .conftest import Running, open_files, raw, read_frame, request, until


def test_a_call_returns_the_result(running, path):
    with Client(path) as client:
        assert client.call("ping", {"a": [1, None, "ü\udcff"]})["echo"] == {"a": [1, None, "ü\udcff"]}
        assert client.call("ping")["version"] == "0"


def test_the_server_is_told_who_asks_by_the_kernel(running, path):
    with Client(path) as client:
        client.call("ping")
    peer = running.service.peers[0]
    assert (peer.uid, peer.gid, peer.pid) == (os.geteuid(), os.getegid(), os.getpid())


@pytest.mark.parametrize("count,step", [(0, 10), (1, 1), (499, 499), (500, 500), (501, 501), (2500, 1700)])
def test_a_stream_brings_each_item_once_and_then_the_result(running, path, count, step):
    with Client(path) as client:
        stream = client.stream("jobs", {"count": count, "step": step})
        assert [item["job_id"] for item in stream] == list(range(count))
        assert stream.result == {"count": count}


def test_items_too_large_for_one_frame_travel_in_several(running, path):
    with Client(path) as client:
        items = list(client.stream("jobs", {"count": 40, "step": 40, "pad": "x" * 700_000}))
        assert len(items) == 40
        assert all(len(item["pad"]) == 700_000 for item in items)


def test_data_arrives_whole(running, path):
    with Client(path) as client:
        stream = client.data("logs", {"size": 3 << 20})
        assert b"".join(stream) == bytes(range(256)) * (3 << 12)
        assert stream.result == {"offset": 3 << 20}


def test_a_result_of_four_mib_fits(running, path):
    with Client(path) as client:
        assert len(client.call("script", {"size": 4 << 20})["script"]) == 4 << 20


def test_a_result_too_large_for_a_frame_is_a_bug_and_not_a_hang(running, path):
    with Client(path) as client, pytest.raises(RefusedError) as caught:
        client.call("script", {"size": 9 << 20})
    assert caught.value.code == "internal"


def test_a_refusal_keeps_code_detail_hint_and_exit_status(running, path):
    with Client(path) as client:
        with pytest.raises(RefusedError) as caught:
            client.call("cancel")
        error = caught.value
        assert (error.message, error.code, error.detail, error.hint) == (
            "Access/permission denied", "denied", ("why",), "be root",
        )  # fmt: skip
        with pytest.raises(RefusedError) as caught:
            client.call("hold")
        assert (caught.value.code, caught.value.exit_code) == ("bad_request", 255)
        assert client.call("ping")["version"] == "0"  # a refusal does not end the connection


@pytest.mark.parametrize("method,bug", [("stats", "ZeroDivisionError"), ("why", "CodecError"), ("status", "BugError"), ("info", "BugError")])
def test_a_bug_is_reported_without_its_inside_and_the_connection_goes_on(running, path, method, bug):
    with Client(path) as client:
        with pytest.raises(RefusedError) as caught:
            client.call(method)
        assert (caught.value.code, caught.value.exit_code) == ("internal", 70)
        assert "secret" not in str(caught.value)
        assert running.service.bugs == [(bug, method)]
        assert client.call("ping")["version"] == "0"


@pytest.mark.parametrize(
    "frame,code,says",
    [
        (b"\0\0\0\x02X{}", "bad_request", "unknown kind 0x58"),
        (frame_header(DATA_FRAME, 3) + b"abc", "bad_request", "a client sends no data frames"),
        (struct.pack(">I", (8 << 20) + 1) + b"J", "too_large", "8388609 bytes"),
        (b"\xff\xff\xff\xffJ", "too_large", "4294967295 bytes"),
        (b"\0\0\0\x03J{}x", "bad_request", "not JSON at character 3"),
        (b'\0\0\0\x0dJ{"a":1,"a":2}', "bad_request", "a: a key that stands there twice"),
        (request("jobs", v=2), "version", "speaks 1, the client 2"),
        (request(v=True), "version", "the client True"),
        (frame_json({"hello": 2}), "version", "the client None"),
    ],
)
def test_a_malformed_frame_closes_its_own_connection_and_says_why(running, path, frame, code, says):
    with Client(path) as bystander, raw(path) as connection:
        connection.sendall(frame)
        fault = read_frame(connection)["error"]
        assert (fault["code"], says in fault["message"]) == (code, True), fault
        assert connection.recv(1) == b""
        assert bystander.call("ping")["version"] == "0"


@pytest.mark.parametrize(
    "changed,says",
    [
        ({"method": "nosuch"}, "no such method: 'nosuch'"),
        ({"method": 3}, "no such method: 3"),
        ({"params": []}, "params is an object"),
        ({"id": "x"}, "exactly v, id, method and params"),
        ({"extra": 1}, "exactly v, id, method and params"),
    ],
)
def test_a_request_of_the_wrong_shape_is_refused_and_the_connection_goes_on(running, path, changed, says):
    with raw(path) as connection:
        connection.sendall(frame_json({"v": 1, "id": 1, "method": "ping", "params": {}} | changed))
        assert says in read_frame(connection)["error"]["message"]
        connection.sendall(request())
        assert read_frame(connection)["ok"] is True


def test_requests_sent_ahead_are_answered_in_order(running, path):
    with raw(path) as connection:
        connection.sendall(b"".join(request(params={"n": n}, id=n) for n in range(50)))
        assert [read_frame(connection)["id"] for _ in range(50)] == list(range(50))


@pytest.mark.parametrize("cut", [1, 3, 5, 20])
def test_half_a_frame_and_a_close_harm_nobody(running, path, cut):
    with raw(path) as connection:
        connection.sendall(request()[:cut])
    until(lambda: running.server.connections == 0)
    with Client(path) as client:
        assert client.call("ping")["version"] == "0"


def test_a_handler_is_cancelled_when_its_client_goes_away(running, path):
    client = Client(path)
    threading.Timer(0.05, lambda: client._socket.shutdown(socket.SHUT_RDWR)).start()
    with pytest.raises(LostReplyError):
        client.call("wait")
    assert running.service.cancelled.wait(10)
    client.close()
    until(lambda: running.server.connections == 0)


def test_an_answer_not_read_to_its_end_is_left_behind(running, path):
    with Client(path) as client:
        stream = client.stream("jobs", {"count": 10**6, "step": 100})
        assert next(iter(stream))["job_id"] == 0
        assert client.call("ping")["version"] == "0"
        until(lambda: running.server.connections == 1)
    assert running.service.bugs == []


def test_one_who_asks_without_end_does_not_keep_others_waiting(running, path):
    with raw(path) as greedy, Client(path) as client:
        stop = threading.Event()

        def flood():
            while not stop.is_set():
                greedy.sendall(request() * 50)
                for _ in range(50):
                    read_frame(greedy)

        thread = threading.Thread(target=flood)
        thread.start()
        try:
            for _ in range(50):
                client.call("ping", timeout_s=5)
        finally:
            stop.set()
            thread.join()


def test_connections_beyond_the_bound_are_told_so(start, path):
    running = start(connections_max=16)
    clients = [Client(path) for _ in range(16)]
    try:
        assert all(client.call("ping") for client in clients)
        with Client(path) as late, pytest.raises(RefusedError) as caught:
            late.call("ping")
        assert (caught.value.code, "too many" in caught.value.message) == ("crowded", True)
        clients.pop().close()
        until(lambda: running.server.connections < 16)
        with Client(path) as client:
            assert client.call("ping")
    finally:
        for client in clients:
            client.close()


def test_a_thousand_connections_come_and_go_without_a_trace(start, path):
    running = start()
    before = open_files()
    for _ in range(20):
        clients = [Client(path) for _ in range(50)]
        for client in clients[::10]:
            client.call("ping")
        for client in clients:
            client.close()
    until(lambda: running.server.connections == 0 and open_files() <= before)


def test_more_clients_than_can_wait_in_line_are_all_served(path, monkeypatch):
    """The controller is busy for a moment, and the line at its door is full: whoever comes then waits as well."""
    monkeypatch.setattr("sshq.wire.server._BACKLOG", 4)
    busy, clients, failed = threading.Event(), [], []
    running = Running(path)
    running.loop.call_soon_threadsafe(busy.wait, 20)

    def connect_and_ask():
        try:
            with Client(path) as client:
                client.call("ping", timeout_s=20)
        except Exception as error:
            failed.append(error)

    try:
        clients = [threading.Thread(target=connect_and_ask) for _ in range(50)]
        for client in clients:
            client.start()
        threading.Event().wait(0.3)  # more of them could only come later, which is no harder
    finally:
        busy.set()
        for client in clients:
            client.join(30)
        running.stop()
    assert not failed


def test_silence_keeps_nobody_out(start, path, monkeypatch):
    monkeypatch.setattr("sshq.wire.server._SILENCE_S", 0.2)
    running = start(connections_max=16)
    busy = Client(path)
    thread = threading.Thread(target=lambda: pytest.raises(LostReplyError, busy.call, "wait"))
    thread.start()
    assert running.service.running.wait(10)
    silent = [raw(path) for _ in range(15)]
    silent[0].sendall(request()[:7])  # half a request is no request
    until(lambda: running.server.connections == 16)

    def served():
        try:
            with Client(path) as client:
                return client.call("ping")["version"] == "0"
        except RefusedError as error:
            assert error.code == "crowded"
            return False

    until(served)
    assert not running.service.cancelled.is_set()  # whoever waits for an answer keeps his place
    assert silent[0].recv(1) == b""  # the first one went
    running.run(running.server.close())
    thread.join(10)
    busy.close()
    for connection in silent:
        connection.close()


def test_large_frames_wait_for_their_turn_so_that_what_is_half_received_has_a_bound(start, path):
    running = start()
    slow = [raw(path) for _ in range(40)]
    try:
        for connection in slow:
            connection.sendall(struct.pack(">I", 8 << 20) + b"J")
        sent = [send_until_stuck(connection) for connection in slow]
        assert sum(sent) < (16 * 8 + 40 * 2) << 20
        with Client(path) as client:
            assert client.call("ping", {"small": "x" * 900_000})["version"] == "0"
    finally:
        for connection in slow:
            connection.close()
    until(lambda: running.server.connections == 0)
    with Client(path) as client:
        assert client.call("ping", {"large": "x" * (2 << 20)})["version"] == "0"


def send_until_stuck(connection):
    """All but the last byte of a frame of 8 MiB, as far as the other side takes it."""
    sent, connection_timeout = 0, connection.gettimeout()
    connection.settimeout(0.05)
    try:
        while sent < (8 << 20) - 1:
            sent += connection.send(b" " * min(1 << 18, (8 << 20) - 1 - sent))
    except TimeoutError:
        pass
    connection.settimeout(connection_timeout)
    return sent


def test_files_are_left_for_all_else_than_clients():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        for soft, allowed in ((300, 44), (256, 16), (1024, 768)):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
            assert allow_connections() == allowed
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_closing_hangs_up_so_that_clients_ask_again(running, path):
    with Client(path) as client:
        thread = threading.Thread(target=lambda: (running.service.running.wait(10), running.run(running.server.close())))
        thread.start()
        with pytest.raises(LostReplyError):
            client.call("wait")
        thread.join()
        assert running.service.cancelled.is_set()
        assert not os.path.exists(path)
    with pytest.raises(UnreachableError):
        Client(path)


def test_the_socket_is_only_its_owners(running, path):
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert os.listdir(os.path.dirname(path)) == ["sock"]


def test_a_stale_socket_is_replaced(start, path):
    left = socket.socket(socket.AF_UNIX)
    left.bind(path)
    left.close()
    with pytest.raises(UnreachableError):
        Client(path)
    start()
    with Client(path) as client:
        assert client.call("ping")


def test_what_is_not_a_socket_is_left_alone(path):
    with open(path, "w") as file:
        file.write("precious")
    with pytest.raises(FileExistsError):
        Running(path)
    assert open(path).read() == "precious"


def test_a_closing_server_leaves_its_successors_socket(start, path):
    old = start()
    new = start()
    old.stop()
    with Client(path) as client:
        client.call("ping")
    assert new.service.peers


def test_a_path_beyond_the_kernels_limit_works(start, tmp_path):
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    start(str(deep / "sock"))
    with Client(str(deep / "sock")) as client:
        assert client.call("ping")


def test_a_controller_that_falls_silent_is_reported_in_time(running, path):
    with Client(path) as client, pytest.raises(LostReplyError) as caught:
        client.call("wait", timeout_s=0.1)
    assert "does not answer" in caught.value.detail[0]


@pytest.mark.parametrize("answer", [b"garbage-garbage", b"\0\0\0\x02J[]", b"\0\0\0\x02J{}", b"\xff\xff\xff\xffD", b""])
def test_an_answer_that_is_none_is_an_error_and_not_a_traceback(path, answer):
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()

    def serve():
        connection, _ = listening.accept()
        connection.recv(65536)
        connection.sendall(answer)
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    with Client(path) as client, pytest.raises(ControllerError):
        client.call("ping")
    thread.join()
    listening.close()


def test_versions_that_differ_are_both_named(running, path, monkeypatch):
    monkeypatch.setattr("sshq.wire.client.PROTOCOL", 7)
    with Client(path) as client, pytest.raises(VersionMismatchError, match="speaks 1, the client 7") as refused:
        client.call("info")
    assert "sshq down && sshq up" in refused.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_strangers_socket_gets_nothing():
    with tempfile.TemporaryDirectory(dir="/tmp") as directory, socket.socket(socket.AF_UNIX) as listening:
        os.chmod(directory, 0o777)
        os.seteuid(65534)
        try:
            listening.bind(f"{directory}/sock")
            listening.listen()  # the kernel notes who listens here
        finally:
            os.seteuid(0)
        with pytest.raises(ControllerError, match="belongs to a process of uid 65534"):
            Client(f"{directory}/sock")


def test_the_home_variable_is_the_only_place_when_set(tmp_path):
    assert list_sockets({"SSHQ_HOME": str(tmp_path), "HOME": "/h"}) == [f"{tmp_path}/sock"]
    assert list_sockets({"HOME": "/h"}) == ["/h/.local/state/sshq/controller/sock", "/run/sshq/sock"]


def test_no_controller_names_the_first_place(tmp_path):
    with pytest.raises(UnreachableError) as caught:
        connect({"SSHQ_HOME": str(tmp_path)})
    assert caught.value.socket == f"{tmp_path}/sock"


def test_a_request_too_large_is_refused_before_it_is_sent(running, path):
    with Client(path) as client, pytest.raises(RefusedError) as caught:
        client.call("ping", {"x": "y" * (9 << 20)})
    assert caught.value.code == "too_large"


def test_frames_of_random_bytes_never_stop_the_server(running, path):
    randomness = random.Random(7)
    for _ in range(200):
        with raw(path) as connection:
            body = bytearray(request("jobs", {"count": 3}))
            for _ in range(randomness.randint(1, 5)):
                body[randomness.randrange(len(body))] = randomness.randrange(256)
            connection.sendall(body)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
    with Client(path) as client:
        assert client.call("ping")
    assert json.dumps(running.service.bugs).count("Bug") == 0
