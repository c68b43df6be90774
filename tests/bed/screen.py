"""A terminal in front of a command, as a user sits at one."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time

from bed.instance import Instance


class Screen:
    """A command on a terminal of its own, as a user's shell would start it."""

    def __init__(self, instance: Instance, *words: str) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(40, 100)
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(
            instance.argv(*words), cwd=instance.work, env=instance.env | {"TERM": "vt100"}, stdin=self.slave, stdout=self.slave,
            stderr=self.slave, start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        self.seen = b""

    def __enter__(self) -> "Screen":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def send(self, text: str) -> None:
        os.write(self.master, text.encode())

    def read_until(self, text: str, timeout_s: float = 30) -> str:
        """What came up to and with `text`, which is taken out."""
        ends_at = time.monotonic() + timeout_s
        while text.encode() not in self.seen:
            assert time.monotonic() < ends_at, f"no {text!r} in {self.seen!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                self.seen += os.read(self.master, 65536)
        before, _, self.seen = self.seen.partition(text.encode())
        return before.decode() + text

    def insist(self, text: str, answer: str, timeout_s: float = 30) -> str:
        """Type `text` until `answer` comes: what is typed while a program in front ends is thrown away."""
        ends_at = time.monotonic() + timeout_s
        while True:
            self.send(text)
            try:
                return self.read_until(answer, 1)
            except AssertionError:
                assert time.monotonic() < ends_at, self.seen

    def wait(self, timeout_s: float = 30) -> int:
        """Its status; what it says meanwhile is read, or it would hang."""
        ends_at = time.monotonic() + timeout_s
        while self.process.poll() is None:
            assert time.monotonic() < ends_at, self.seen
            if select.select([self.master], [], [], 0.05)[0]:
                self.seen += os.read(self.master, 65536)
        return int(self.process.returncode)

    @property
    def restored(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before
