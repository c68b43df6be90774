"""Two thin lines at work, beside whatever else a test does for a minute: a slow one, and a long one that loses packets.

A script and an output of half a minute each pass over the slow line at once.  Neither line may be taken for a dead one,
though what is asked of the runner meanwhile is answered late.
"""

from .ledger import SIGN
from .test_network_faults import assert_exactly_once, flagged

KBIT = 512
SCRIPT = 1_500_000  # longer on its way than the runner may take to answer a question on an idle line
OUTPUT = 1_500_000


class ThinLines:
    """An instance of its own with two hosts; the default settings of keepalive, but more questions."""

    def __init__(self, instance, slow, lossy) -> None:
        self.instance, self.hosts = instance, [slow, lossy]
        instance.use(self.hosts)
        instance.write_config("reconcile_interval: 5s\n")
        instance.up()
        instance.ready(timeout_s=60)
        slow.rate(KBIT)
        lossy.shape(delay_ms=100, jitter_ms=10, loss=0.03)
        self.script = f"#!/bin/sh\n{SIGN}\nwc -c <$0\n"
        self.script += "# padding\n" * ((SCRIPT - len(self.script)) // 10)
        flood = f"{SIGN}; head -c {{}} /dev/zero | tr '\\0' x"
        self.jobs = [
            instance.submit("-w", slow.name, "-o", "script.out", input=self.script),
            instance.wrap(flood.format(OUTPUT), "-w", slow.name, "-o", "slow.out"),
            instance.wrap(flood.format(OUTPUT // 5), "-w", lossy.name, "-o", "lossy.out"),
            *(instance.wrap(SIGN, "-w", lossy.name) for _ in range(6)),
        ]

    def assert_alive(self) -> None:
        """Neither host was flagged."""
        assert flagged(self.instance) == set()

    def finish(self) -> None:
        """Everything arrives, once, over the first connections."""
        instance = self.instance

        def is_settled() -> bool:
            self.assert_alive()
            return not instance.out("squeue", "-h")

        instance.wait_for(is_settled, 150, lambda: instance.out("squeue"))
        assert instance.read("script.out").strip() == str(len(self.script))
        assert instance.read("slow.out") == "x" * OUTPUT
        assert instance.read("lossy.out") == "x" * (OUTPUT // 5)
        log = instance.logs(400)
        assert [log.count(f"host={node.name} ready generation=") for node in self.hosts] == [1, 1]
        assert_exactly_once(instance, self.hosts, self.jobs)
