"""What no client can do to the controller: stop it, fill it, or keep it from the others.

A campaign: SSHQ_FUZZ_FRAMES=1000000 SSHQ_FUZZ_SEED=n pytest tests/daemon/test_bounds.py -k fuzzed
"""

import os
import re
import resource
import socket
import struct
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from sshq.errors import RefusedError
from sshq.wire.client import Client
from sshq.wire.codec import decode_json, frame_json
from sshq.wire.protocol import METHODS

from .hostile_frames import DESCRIPTION, Hostile

FRAMES = int(os.environ.get("SSHQ_FUZZ_FRAMES", "10000"))
SEED = int(os.environ.get("SSHQ_FUZZ_SEED", "20260"))
WARM_UP = 1500  # frames until what Python keeps for good is there
GROWTH_KIB = 10 << 10
# May have no end, or ask the host: not waited for.
UNREAD = {"wait", "events", "logs", "controller_log", "doctor", "shared", "hosts_remove", "follow_job", "attach", "attach_input", "job_files",
          "job_file"}


@pytest.fixture
def controller(instance, loopback):
    """A controller with one connected host, whose partition is down: what is submitted is judged, and never starts."""
    instance.use(loopback.hosts[:1], sshq_state="down")
    instance.write_config("jobs_max: 3000\naudit: true\nlog_level: debug\n")
    instance.up()
    instance.ready()
    return instance


def socket_of(instance) -> str:
    return f"{instance.sshq_home}/sock"


def raw(instance, timeout_s=30.0) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(socket_of(instance))
    connection.settimeout(timeout_s)
    return connection


def read_bytes(connection, count) -> bytes:
    data = b""
    while len(data) < count and (part := connection.recv(count - len(data))):
        data += part
    return data


def read_reply(connection) -> dict[str, object] | None:
    """The message that ends an answer; None where the connection ends first."""
    while True:
        header = read_bytes(connection, 5)
        if len(header) < 5:
            return None
        length, kind = struct.unpack(">IB", header)
        body = read_bytes(connection, length)
        if kind == ord("J") and "items" not in (message := decode_json(body)):
            return message


def private_kib(pid: int) -> int:
    return int(re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])


def faults_in(instance) -> list[str]:
    """Lines of the controller's log that tell of a bug of ours."""
    lines = [line for path in sorted(Path(instance.sshq_home, "state").glob("controller.log*")) for line in path.read_text().splitlines()]
    return [line for line in lines if re.search(r"Traceback| (ERROR|CRITICAL) ", line)]


class Bystander(threading.Thread):
    """Another client, who only wants to be served: one question after the other, now and then on a new connection."""

    def __init__(self, instance) -> None:
        super().__init__(daemon=True)
        self.path, self.served, self.worst_s, self.failed = socket_of(instance), 0, 0.0, None
        self.over = threading.Event()

    def run(self) -> None:
        try:
            while not self.over.wait(0.03):
                with Client(self.path) as client:
                    for method in ("ping", "status", "info", "jobs"):
                        began = time.monotonic()
                        client.call(method, {"filter": {"refs": [[1, None]]}} if method == "jobs" else {}, timeout_s=60)
                        self.worst_s = max(self.worst_s, time.monotonic() - began)
                        self.served += 1
        except Exception as error:
            self.failed = error

    def __enter__(self) -> "Bystander":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join(90)


def send_all(instance, hostile, count) -> Counter:
    """Send `count` frames, read what is answered, and begin again on a new connection where one was closed."""
    connection, outcomes = None, Counter()
    for _ in range(count):
        frame, method = hostile.frame()
        connection = connection or raw(instance)
        try:
            connection.sendall(frame)
            if method in UNREAD or method is None:
                connection.shutdown(socket.SHUT_WR)
                answered = None
                while connection.recv(1 << 16):
                    pass
            else:
                answered = read_reply(connection)
        except ConnectionError:
            answered = None  # refused without being read
        except TimeoutError:
            raise AssertionError(f"seed {hostile.seed}, frame {hostile.sent}: no answer to {frame[:300]!r}") from None
        outcomes[method, answered and answered.get("ok")] += 1
        if answered is None or (answered.get("ok") is False and answered["id"] is None):
            connection.close()
            connection = None
        elif answered.get("ok") is False:
            assert answered["error"]["code"] != "internal", (hostile.seed, hostile.sent, frame[:2000], answered)
    if connection is not None:
        connection.close()
    return outcomes


@pytest.mark.slow
@pytest.mark.timeout(300 + FRAMES // 100)
def test_fuzzed_frames_stop_nothing_and_leave_nothing_behind(controller):
    print(f"SSHQ_FUZZ_SEED={SEED} SSHQ_FUZZ_FRAMES={FRAMES}")
    pid, hostile = controller.pid(), Hostile(SEED)
    with Client(socket_of(controller)) as client:
        for _ in range(hostile.jobs):
            client.call("submit", {"description": DESCRIPTION, "environ": {}})
    with Bystander(controller) as bystander:
        send_all(controller, hostile, WARM_UP)
        before = private_kib(pid)
        outcomes = send_all(controller, hostile, FRAMES - WARM_UP)
        after = private_kib(pid)
    print(f"{hostile.sent} frames; others were served {bystander.served} times, at worst in {bystander.worst_s:.2f} s; {before} → {after} KiB")
    assert bystander.failed is None, f"seed {SEED}: {bystander.failed!r}"
    assert bystander.served > 100
    for answer, least in ((True, 12), (False, 15)):  # most methods were both granted and refused, or nothing was tried
        assert len({m for m in METHODS if outcomes[m, answer]}) >= least, (answer, outcomes)
    assert controller.pid() == pid
    assert not faults_in(controller), f"seed {SEED}"
    assert after - before < GROWTH_KIB, f"seed {SEED}"


# ---- clients that are slow, silent, or many ----------------------------------------------------------------------------


def ask(instance, method="ping", **params) -> dict[str, object]:
    with Client(socket_of(instance)) as client:
        return client.call(method, params, timeout_s=60)


def request(method="ping", **params) -> bytes:
    return frame_json({"v": 1, "id": 1, "method": method, "params": params})


@pytest.mark.slow
def test_clients_that_never_read_or_hardly_write_keep_nobody_waiting(controller):
    """A hundred that ask for long lists and read nothing, a hundred that send half a frame a byte at a time, a hundred mute."""
    for number in range(40):
        ask(controller, "submit", description=DESCRIPTION | {"comment": f"{number} " + "x" * 1000}, environ={})
    pid = controller.pid()
    before = private_kib(pid)
    deaf, slow, mute = ([raw(controller) for _ in range(100)] for _ in range(3))
    try:
        for connection in deaf:
            connection.sendall(request("jobs") * 40)  # about 4 MiB of answers each
        for connection in slow:
            connection.sendall(struct.pack(">I", 5 << 20) + b"J" + b'{"v":')
        for _ in range(5):  # each round others are served, and each of the slow sends one byte
            for connection in slow:
                connection.send(b" ")
            assert ask(controller)["version"]
            assert len(controller.out("squeue", "-h").splitlines()) == 40
        # What is on its way to a client that reads nothing is bounded, and so is what is half received.
        assert private_kib(pid) - before < 300 * 1024
    finally:
        for connection in (*deaf, *slow, *mute):
            connection.close()
    assert ask(controller)["version"]
    assert not faults_in(controller)


def files_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.slow
def test_a_thousand_connections_at_once_are_served_or_told_why_not(instance, loopback):
    """With room for 1024 files, as most logins have: some stay for hosts and store, silence makes room for those who ask."""
    instance.use(loopback.hosts[:1])
    argv = instance.argv

    def limited(*args):
        return ["sh", "-c", 'ulimit -n 1024 && exec "$@"', "sh", *argv(*args)]

    instance.argv = limited
    instance.up()
    instance.ready()
    instance.argv = argv
    pid = instance.pid()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    crowd = []
    try:
        asking = [raw(instance) for _ in range(300)]
        crowd += asking
        for connection in asking:  # these are at work, and are never shown the door
            connection.sendall(request("controller_log", follow=True))
        crowd += [raw(instance) for _ in range(900)]
        assert files_of(pid) <= 1024
        # Whoever asks is served as soon as the silent ones have been silent for a while.
        answers = []

        def served() -> bool:
            try:
                answers.append(ask(instance)["version"])
            except RefusedError as error:
                assert (error.code, error.message) == ("crowded", "too many connections to the controller")
                answers.append(None)
            return len([a for a in answers if a]) >= 20

        instance.wait_for(served, 60, "twenty clients were served")
        assert files_of(pid) <= 1024
        job = instance.wrap("true")  # and there are files left for hosts and store
        instance.until_state(job, "COMPLETED")
    finally:
        for connection in crowd:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    instance.wait_for(lambda: files_of(pid) < 200, 30, "all is let go")
    assert not faults_in(instance)
