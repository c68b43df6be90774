r"""Drives the real runner over a pipe, under any shell: what the tests of the runner, and others, use instead of a host.

    with Node(tmp_path, shell="dash") as node:
        runner = node.connect()
        runner.reserve()
        call = runner.launch(script=b"exit 3\n")
        assert runner.wait_end(call.id).record.code == 3

`Node` is an account on a host (a spool); `Runner` is one connection to it.  All waits are on conditions, with a deadline.
"""

import os
import secrets
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sshq.runner import protocol as p

SHELLS = {
    "dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"], "ksh": ["ksh93"],
    "zsh": ["zsh", "--emulate", "sh"],
}  # fmt: skip
PATIENCE_S = 60  # conditions come in a second or two; a machine that is busy with thirty other things may take its time
REQUIRED = "shells" in os.environ.get("SSHQ_REQUIRE_TIERS", "").replace(",", " ").split()  # a missing shell is a failure then


def present_shells() -> list[str]:
    return [name for name, argv in SHELLS.items() if shutil.which(argv[0])]


def need_shell(name: str) -> str:
    if not shutil.which(SHELLS[name][0]):
        if REQUIRED:
            pytest.fail(f"{SHELLS[name][0]} is required here: apt-get install {name}")
        pytest.skip(f"apt-get install {name}")
    return name


def new_id() -> str:
    return secrets.token_hex(16)


class Node:
    def __init__(self, root: Path, shell: str = "dash", base: Path | None = None, env: dict[str, str] | None = None) -> None:
        self.shell = SHELLS[shell]
        self.home = root / "home"
        self.home.mkdir(exist_ok=True)
        self.base = root / "base" if base is None else base
        self.env = {"PATH": os.environ["PATH"], "HOME": str(self.home), "SHELL": "/bin/bash", "SSH_CONNECTION": "login"} | (
            env or {}
        )
        self.runners: list[Runner] = []

    def __enter__(self) -> "Node":
        return self

    def __exit__(self, *_: object) -> None:
        for runner in self.runners:
            runner.close()
        self.kill_all()

    @property
    def spool(self) -> Path:
        return self.base / "spool" / "test"

    def start(self, **boot: object) -> "Runner":
        """A connection whose hello has not been waited for."""
        runner = Runner(self, boot)
        self.runners.append(runner)
        return runner

    def connect(self, **boot: object) -> "Runner":
        runner = self.start(**boot)
        runner.hello = runner.wait(p.Hello)
        return runner

    def kill_all(self) -> None:
        """End what tests left: whoever was started below this spool, by its own files or cookie, until nobody is found."""
        ids = {f.name.split(".")[0] for f in self.spool.glob("a/*")}
        for _ in range(50):
            if not [pid for pid in self._left(ids) if self._kill(pid)]:
                break
            time.sleep(0.01)
        shutil.rmtree(self.base, ignore_errors=True)

    def _left(self, ids: set[str]) -> list[int]:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                environ = (process / "environ").read_bytes()
                inside = os.readlink(process / "cwd").startswith(str(self.spool))
            except OSError:
                continue
            if inside or any(f"SSHQ_ATTEMPT={i}".encode() in environ for i in ids):
                found.append(int(process.name))
        return [pid for pid in found if pid != os.getpid() and is_alive(pid)]

    @staticmethod
    def _kill(pid: int) -> bool:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            return False
        return True


class Runner:
    hello: p.Hello

    def __init__(self, node: Node, boot: dict[str, object]) -> None:
        self.node = node
        self.nonce = secrets.token_hex(8)
        self.parser = p.ReplyParser(self.nonce)
        self.process = subprocess.Popen(
            node.shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=node.env, cwd="/", start_new_session=True
        )
        self.replies: list[p.Reply] = []
        self.raw = b""
        self.gen = 0
        self.n = 0
        arguments = {"store_id": "test", "base": str(node.base), "shell": " ".join(node.shell)} | boot
        self.send(p.encode_bootstrap(nonce=self.nonce, **arguments))

    def send(self, *calls: bytes) -> None:
        for call in calls:
            self.process.stdin.write(call)
        self.process.stdin.flush()

    def pump(self, timeout_s: float = 0.1) -> bool:
        """Read what is there; False at the end of the channel."""
        ready, _, _ = select.select([self.process.stdout], [], [], timeout_s)
        if ready:
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            self.raw += data
            self.replies += self.parser.feed(data)
            return bool(data)
        return True

    def wait(self, kind: type, match: Callable[[object], bool] = lambda _: True, patience_s: float = PATIENCE_S):
        """The first reply of that kind that matches, taken out of `replies`."""
        deadline = time.monotonic() + patience_s
        while True:
            for reply in self.replies:
                if isinstance(reply, kind) and match(reply):
                    self.replies.remove(reply)
                    return reply
            assert time.monotonic() < deadline, f"no {kind.__name__}: {self.replies}; raw {self.raw[-600:]!r}"
            assert self.pump(), f"the runner went away: {self.replies}; raw {self.raw[-600:]!r}"

    def reserve(self, old: int | None = None, open_seqs: tuple[int, ...] = ()) -> p.Reserved:
        old = self.hello.gen if old is None else old
        tag = secrets.token_hex(4)
        self.send(p.encode_reserve(tag=tag, old_gen=old, new_gen=old + 1, high=(old + 1) * 1_000_000, open_seqs=open_seqs))
        reply = self.wait(p.Reserved, lambda r: r.tag == tag)
        self.gen = reply.gen
        return reply

    def call(self, script: bytes = b"", **fields: object) -> p.LaunchCall:
        self.n += 1
        defaults = {
            "id": new_id(), "job_id": 100 + self.n, "attempt": 1, "seq": self.gen * 1_000_000 + self.n, "epoch": 1,
            "uid": os.getuid(), "boot": self.hello.boot, "node": "node3", "script": script,
            "environ": {"PATH": self.node.env["PATH"]},
        }  # fmt: skip
        return p.LaunchCall(**(defaults | fields))

    def launch(self, script: bytes = b"", **fields: object) -> p.LaunchCall:
        call = self.call(script, **fields)
        self.send(*p.encode_launch(call))
        return call

    def wait_start(self, launch_id: str) -> p.Started:
        return self.wait(p.Started, lambda r: r.id == launch_id)

    def wait_end(self, launch_id: str, patience_s: float = PATIENCE_S) -> p.ExitRecord:
        return self.wait(p.Ended, lambda r: r.id == launch_id, patience_s).record

    def list(self) -> dict[str, p.Entry]:
        nonce = secrets.token_hex(4)
        self.send(p.encode_list(nonce=nonce))
        return {e.id: e for e in self.wait(p.Listing, lambda r: r.nonce == nonce).entries}

    def ping(self) -> p.Pong:
        tag = secrets.token_hex(4)
        self.send(p.encode_ping(tag=tag))
        return self.wait(p.Pong, lambda r: r.tag == tag)

    def kill_process(self) -> None:
        """As a cut connection: the runner's shell is gone at once."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        if self.process.stdin and not self.process.stdin.closed:
            try:
                self.process.stdin.close()
            except OSError:
                pass
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def wait_until(condition: Callable[[], object], patience_s: float = PATIENCE_S, what: str = "condition") -> object:
    deadline = time.monotonic() + patience_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} never came true"
        time.sleep(0.01)
    return value


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] not in "ZX"
    except OSError:
        return False
