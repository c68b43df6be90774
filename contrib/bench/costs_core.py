"""What a job costs the core and the store alone: no socket, no host, no loop; repeatable to a per cent.

    python contrib/bench/costs_core.py [--jobs 2000] [--many] [--ends 2] [--profile]

Jobs that do nothing on four hosts of four slots, as the controller takes them under load: in each turn some launches end, those
that were sent start, a pass gives the free slots away, and one transaction stores it all.  Prints CPU a job of core, pass, rows made
text, and SQLite; --profile the functions.  `valgrind --tool=callgrind` counts instructions: run it twice and take the difference.
"""

import argparse
import cProfile
import os
import pstats
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from sshq.core import events as ev  # noqa: E402
from sshq.core.cluster import Cluster  # noqa: E402
from sshq.core.effects import StartLaunch  # noqa: E402
from sshq.core.model import JobSpec, NodeConfig, NodeFacts, PartitionConfig, Row  # noqa: E402
from sshq.core.replacing import replace  # noqa: E402
from sshq.core.schedule import schedule  # noqa: E402
from sshq.store.jobs import Store  # noqa: E402

HOSTS, SLOTS, NOW = 4, 4, 1_764_500_000.25
SPEC = JobSpec(
    name="true", uid=1000, user="user", gid=1000, group="user", script="0" * 32, environ="1" * 32, work_dir="/home/user/run",
    submit_dir="/home/user/run", submit_host="head", command="/home/user/run/true.sh", submit_line="sbatch true.sh",
    partitions=("lab",), std_out="/dev/null",
)  # fmt: skip
RECORD = ev.EndRecord(how="exit", code=0, duration_s=0.004, cpu_time_s=0.003, system_s=0.001)


def make_cluster(store: Store) -> Cluster:
    cluster = Cluster(store_id=store.store_id, epoch=1)
    names = [f"b{i}" for i in range(HOSTS)]
    nodes = tuple(NodeConfig(name=name, cpus=SLOTS, slots=SLOTS, memory_mib=64_000, partitions=("lab",)) for name in names)
    cluster.apply(ev.InventoryLoaded(now=NOW, nodes=nodes, partitions=(PartitionConfig(name="lab", nodes=tuple(names), default=True),)))
    facts = NodeFacts(cpus=SLOTS, memory_mib=64_000, tmp_disk_mib=100_000)
    for name in names:
        cluster.apply(
            ev.NodeConnected(
                now=NOW, name=name, generation=1, boot="b" * 32, spool_id=f"s-{name}", machine_id=name, uid=0, facts=facts, facts_json=""
            )
        )
        cluster.apply(ev.DirectoryProved(now=NOW, node=name, path=SPEC.work_dir, shared=True))
    return cluster


class Run:
    """One queue from its submission to its end."""

    def __init__(self, store: Store, ends: int) -> None:
        self.store, self.ends = store, ends
        self.cluster = make_cluster(store)
        self.rows: list[Row] = []
        self.sent: list[str] = []
        self.running: list[str] = []
        self.spent = {"core": 0.0, "pass": 0.0, "store": 0.0}
        self.now = NOW
        self.turns = 0

    def time(self, what: str, since: float) -> float:
        now = time.thread_time()
        self.spent[what] += now - since
        return now

    def apply(self, event: ev.Event) -> None:
        changes = self.cluster.apply(event)
        self.rows.extend(changes.rows)
        self.sent.extend(effect.launch.id for effect in changes.effects if isinstance(effect, StartLaunch))

    def turn(self) -> None:
        began = time.thread_time()
        self.now += 0.011
        self.turns += 1
        ending, self.running = self.running[: self.ends], self.running[self.ends :]
        for launch_id in ending:
            self.apply(ev.LaunchEnded(now=self.now, launch_id=launch_id, record=RECORD))
        starting, self.sent = self.sent, []
        for launch_id in starting:
            self.apply(ev.LaunchStarted(now=self.now, launch_id=launch_id, pid=12345))
        self.running += starting
        began = self.time("core", began)
        if self.cluster.schedule_wanted:
            self.cluster.schedule_wanted = False
            plan = schedule(self.cluster, self.now)
            began = self.time("pass", began)
            if plan.starts:
                self.apply(ev.Planned(now=self.now, starts=plan.starts, random=self.turns.to_bytes(16, "big")))
            self.cluster.schedule_wanted = plan.more
            began = self.time("core", began)
        self.commit(began)

    def commit(self, began: float) -> None:
        rows, self.rows = self.rows, []
        if rows:
            self.store.commit(rows, self.cluster.next_job_id)
            self.time("store", began)

    def submit(self, jobs: int, many: bool) -> None:
        for n in range(jobs if many else 1):
            array = None if many else f"1-{jobs}"
            spec = replace(SPEC, submit_line=f"sbatch true.sh {n}") if many else SPEC
            self.apply(ev.Submitted(now=NOW, spec=spec, script=b"#!/bin/sh\ntrue\n", array=array))
        self.commit(time.thread_time())
        self.spent = dict.fromkeys(self.spent, 0.0)

    def to_the_end(self) -> None:
        while self.sent or self.running or self.cluster.pending:
            self.turn()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--many", action="store_true", help="separate jobs, not one array")
    parser.add_argument("--ends", type=int, default=2, help="jobs that end in a turn")
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o700)
        store = Store.open(Path(folder) / "state", create=True)
        store.begin_epoch()
        run = Run(store, arguments.ends)
        run.submit(arguments.jobs, arguments.many)
        profile = cProfile.Profile()
        if arguments.profile:
            profile.enable()
        run.to_the_end()
        profile.disable()
        store.close()
    total = sum(run.spent.values())
    parts = ", ".join(f"{name} {seconds / arguments.jobs * 1e3:.3f}" for name, seconds in run.spent.items())
    print(f"{total / arguments.jobs * 1e3:.3f} ms of CPU a job: {parts}; {run.turns / arguments.jobs:.2f} transactions a job")
    if arguments.profile:
        pstats.Stats(profile).strip_dirs().sort_stats("tottime").print_stats(45)


if __name__ == "__main__":
    main()
