"""Three times that are promised: hosts back after a restart, a dead peer found, exits noticed after a reconnect."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bed import Instance, wait_until
from bed.netns import NetnsBed
from bed.oracle import SIGN, read_marks

QUICK = "keepalive_interval: 1s\nkeepalive_count: 2\nreconcile_interval: 5s\nkill_wait: 1s\nconnect_timeout: 5s\n"


@dataclass(frozen=True, slots=True)
class Figure:
    """What was promised, and what was seen."""

    what: str
    seconds: float
    most_s: float
    note: str = ""

    @property
    def holds(self) -> bool:
        return self.seconds <= self.most_s


def log_times(instance: Instance, pattern: str) -> list[tuple[float, tuple[str, ...]]]:
    """When the controller's log said so, with the groups of the pattern."""
    text = Path(instance.sshq_home, "state", "controller.log").read_text(errors="replace")
    return [
        (datetime.fromisoformat(line.split(" ", 1)[0]).timestamp(), found.groups())
        for line in text.splitlines() if (found := re.search(pattern, line))
    ]  # fmt: skip


def count_running(instance: Instance) -> int:
    return len(instance.out("squeue", "-h", "-t", "R", "-o", "%A").split())


def measure_all(bed: NetnsBed, say: Callable[[str], None], hosts: int = 50) -> list[Figure]:
    figures = []
    for measure in (lambda: readopt(bed, hosts), lambda: find_dead_peer(bed), lambda: notice_exits(bed)):
        figure = measure()
        say(f"{figure.what}: {figure.seconds:.1f} s (at most {figure.most_s:g} s) {figure.note}")
        figures.append(figure)
    return figures


def readopt(bed: NetnsBed, count: int) -> Figure:
    """Kill the controller of many hosts, each with a job; from its start until each job is adopted again."""
    hosts = bed.add(count)
    try:
        with Instance() as instance:
            instance.use(hosts, sshq_slots=1)
            instance.up()
            instance.ready(timeout_s=180)
            job = instance.submit(f"--array=1-{count}", "-o", "/dev/null", input=f"#!/bin/sh\n{SIGN}while :; do sleep 1; done\n")
            instance.wait_for(lambda: count_running(instance) == count, 120, "all to run")
            instance.kill9()
            start = time.time()
            controller = instance.start_controller()
            try:
                ready = lambda: {g for at, g in log_times(instance, r"host=(\S+) ready ") if at > start}
                wait_until(lambda: len(ready()) == count, 120, lambda: f"{len(ready())} of {count} hosts ready")
                last = max(at for at, _ in log_times(instance, r"host=(\S+) ready "))
                assert count_running(instance) == count
                starts = [mark for host in hosts for mark in read_marks(host) if mark.what == "start"]
                assert len(starts) == count
                instance.out("scancel", str(job))
            finally:
                controller.kill()
                controller.wait()
        return Figure(f"{count} hosts with a running job each adopted after a restart", last - start, 10.0, "no job was started again")
    finally:
        bed.remove(hosts)


def find_dead_peer(bed: NetnsBed) -> Figure:
    """With the settings as they come: from the silence of a host until it is shown as unreachable."""
    (host,) = bed.add(1)
    try:
        with Instance() as instance:
            instance.use([host])
            instance.up()
            instance.ready()
            start = time.time()
            host.nft("drop")
            instance.wait_for(lambda: instance.out("sinfo", "-h", "-N", "-o", "%T").strip().endswith("*"), 120, "the host flagged")
            return Figure("a peer that is silent found dead, settings as they come", time.time() - start, 60.0)
    finally:
        bed.remove([host])


def notice_exits(bed: NetnsBed, rounds: int = 5) -> Figure:
    """Jobs end while the cable is out; from the reconnect until the last of them is settled.  The worst of a few rounds."""
    (host,) = bed.add(1)
    worst = 0.0
    try:
        with Instance() as instance:
            instance.use([host], sshq_slots=8)
            instance.write_config(QUICK)
            instance.up()
            instance.ready()
            for turn in range(rounds):
                script = f'#!/bin/sh\n{SIGN}until [ -e "$HOME/go{turn}" ]; do sleep 0.1; done\n'
                job = instance.submit("--array=1-8", input=script)
                instance.wait_for(lambda: count_running(instance) == 8, 30, "all to run")
                host.cut()
                host.sh(f"touch {host.home}/go{turn}")
                ended = 8 * (turn + 1)
                wait_until(lambda: sum(mark.what == "end" for mark in read_marks(host)) == ended, 30, "the jobs to end")  # noqa: B023
                instance.wait_for(lambda: instance.out("sinfo", "-h", "-N", "-o", "%T").strip().endswith("*"), 30, "the host flagged")
                healed = time.time()
                host.heal()
                instance.until_state(job, "COMPLETED", timeout_s=60)
                instance.wait_for(lambda: not instance.out("squeue", "-h"), 30, "all settled")
                back = min(at for at, _ in log_times(instance, r"host=(\S+) ready ") if at > healed)
                last = max(at for at, _ in log_times(instance, r"job=(\d+) .* ended "))
                worst = max(worst, last - back)
        return Figure("exits during a cut known after the reconnect", worst, 2.0, f"worst of {rounds} rounds of 8 jobs")
    finally:
        bed.remove([host])
