"""A real server on a real socket, in a thread of its own, with handlers that show each way to answer."""

import asyncio
import os
import socket
import threading
import time

import pytest

from sshq.errors import BugError, OptionError, RefusedError
from sshq.wire.codec import decode_json, frame_json
from sshq.wire.server import Server


class Service:
    """Handlers by method; what they saw is kept for the test."""

    def __init__(self):
        self.peers = []
        self.bugs = []
        self.cancelled = threading.Event()
        self.gave_up = threading.Event()
        self.running = threading.Event()
        self.sent = 0

    async def dispatch(self, peer, method, params, stream):
        self.peers.append(peer)
        self.running.set()
        try:
            return await getattr(self, f"do_{method}")(params, stream)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def do_ping(self, params, stream):
        return {"version": "0", "echo": params}

    async def do_jobs(self, params, stream):
        for start in range(0, params["count"], params.get("step", 1000)):
            rows = [{"job_id": start + i, "pad": params.get("pad", "")} for i in range(params.get("step", 1000))]
            await stream.items(rows[: params["count"] - start])
            self.sent += len(rows)
        return {"count": params["count"]}

    async def do_logs(self, params, stream):
        data, step = bytes(range(256)) * (params["size"] // 256), params.get("step", params["size"])
        try:
            async with asyncio.timeout(params.get("patience_s")):
                await stream.data(*[data[at : at + step] for at in range(params.get("offset", 0), len(data), step)])
        except TimeoutError:
            self.gave_up.set()
            raise RefusedError("nobody reads", code="not_now") from None
        return {"offset": params["size"]}

    async def do_wait(self, params, stream):
        await asyncio.sleep(3600)

    async def do_cancel(self, params, stream):
        raise RefusedError("Access/permission denied", code="denied", detail=("why",), hint="be root")

    async def do_hold(self, params, stream):
        raise OptionError("no such thing", exit_code=255)

    async def do_stats(self, params, stream):
        raise ZeroDivisionError

    async def do_why(self, params, stream):
        return {"not json": {1, 2}}

    async def do_status(self, params, stream):
        raise BugError("secret context")

    async def do_script(self, params, stream):
        return {"script": "x" * params["size"]}

    async def do_info(self, params, stream):
        await stream.items([{}])
        return {}


class Running:
    """The server's thread: call its coroutines from a test with `run`."""

    def __init__(self, path, **settings):
        self.service = Service()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        on_bug = lambda error, _peer, method: self.service.bugs.append((type(error).__name__, method))
        self.server = Server(path, self.service.dispatch, on_bug=on_bug, **settings)
        self.run(self.server.start())

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    def stop(self):
        self.run(self.server.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "sock")


@pytest.fixture
def start(path):
    """Start servers; each is stopped at the end."""
    started = []

    def start_one(at=path, **settings):
        started.append(Running(at, **settings))
        return started[-1]

    yield start_one
    for running in started:
        if not running.loop.is_closed():
            running.stop()


@pytest.fixture
def running(start):
    return start()


def until(condition, timeout_s=10.0):
    """Wait for a condition with a deadline."""
    ends_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_at, "waited in vain"
        time.sleep(0.005)


def open_files():
    return len(os.listdir("/proc/self/fd"))


def raw(path):
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(path)
    return connection


def read_bytes(connection, count):
    data = b""
    while len(data) < count and (part := connection.recv(count - len(data))):
        data += part
    return data


def read_frame(connection):
    header = read_bytes(connection, 5)
    return decode_json(read_bytes(connection, int.from_bytes(header[:4], "big"))) if header else None


def request(method="ping", params=None, **others):
    return frame_json({"v": 1, "id": 1, "method": method, "params": params or {}} | others)
