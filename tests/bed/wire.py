"""A cable in user space with delay, jitter and loss: for kernels without netem.  `wire.py NETNS LINK CONTROL`.

Frames pass between two TAP devices in order.  CONTROL holds [delay_s, jitter_s, loss] and is read again on SIGHUP; each
reading is answered by a line on stdout.
"""

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import signal
import struct
import sys
import time

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
TAP_WITHOUT_HEADER = 0x0002 | 0x1000
FRAMES_A_TURN = 64


def open_tap(name: str, space: str | None = None) -> int:
    """A TAP device, in another network namespace if one is named."""
    libc = ctypes.CDLL(None, use_errno=True)
    here = os.open("/proc/self/ns/net", os.O_RDONLY)
    if space:
        there = os.open(f"/run/netns/{space}", os.O_RDONLY)
        if libc.setns(there, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(there)
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), TAP_WITHOUT_HEADER))
    if libc.setns(here, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
    os.close(here)
    return tap


class Wire:
    """Two ends, and the frames under way between them."""

    def __init__(self, near: int, far: int, control: str) -> None:
        self.other = {near: far, far: near}
        self.control = control
        self.under_way: list[tuple[float, int, int, bytes]] = []
        self.last_due = {near: 0.0, far: 0.0}
        self.count = 0
        self.load()

    def load(self, *_: object) -> None:
        with open(self.control, encoding="utf-8") as file:
            self.delay_s, self.jitter_s, self.loss = json.load(file)
        print("ready", flush=True)

    def take(self, end: int) -> None:
        """Read what waits at one end and decide when each frame arrives."""
        for _ in range(FRAMES_A_TURN):
            try:
                frame = os.read(end, 2048)
            except OSError:
                return
            if self.loss and random.random() < self.loss:
                continue
            due = max(time.monotonic() + self.delay_s + random.random() * self.jitter_s, self.last_due[end])
            self.last_due[end] = due
            self.count += 1
            heapq.heappush(self.under_way, (due, self.count, self.other[end], frame))

    def deliver(self) -> None:
        while self.under_way and self.under_way[0][0] <= time.monotonic():
            _, _, end, frame = heapq.heappop(self.under_way)
            try:
                os.write(end, frame)
            except OSError:
                continue

    def run(self) -> None:
        poller = select.poll()
        for end in self.other:
            poller.register(end, select.POLLIN)
        while True:
            wait_ms = max(0.5, (self.under_way[0][0] - time.monotonic()) * 1000) if self.under_way else 1000
            for end, _ in poller.poll(wait_ms):
                self.take(end)
            self.deliver()


def main(space: str, link: str, control: str) -> None:
    wire = Wire(open_tap("eth0", space), open_tap(link), control)
    signal.signal(signal.SIGHUP, wire.load)
    wire.run()


if __name__ == "__main__":
    main(*sys.argv[1:4])
