"""Calls that a simulated node answers in one word: it has no GPUs, shares no directory, and nothing reads there."""

from .node import Node, Spool, Steps


class AsideCalls:
    node: Node

    @property
    def _spool(self) -> Spool:
        raise NotImplementedError

    def say(self, line: str) -> None:
        raise NotImplementedError

    def call_renew(self, tag: str, uptime: str) -> Steps:
        known, boot = self._spool.lease
        if boot != self.node.boot or int(uptime) > known:
            self._spool.lease = (int(uptime), self.node.boot)
        self.say(f"P {tag} {self.node.uptime_s:.2f}")
        yield 0.0

    def call_gpus(self, tag: str) -> Steps:
        self.say(f"F {tag} . 0")
        yield 0.0

    def call_shared(self, tag: str, path: str, name: str, content: str) -> Steps:
        self.say(f"D {tag} 0 0 0")
        yield 0.0

    def call_reap(self, pid: str, start: str) -> Steps:
        self.say(f"T {pid} 0")
        yield 0.0
