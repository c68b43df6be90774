"""The pure core at scale: no store, no socket, no host.  Times are CPU times of the process, so other load hardly shows."""

import gc
import itertools
import random
import resource
import statistics
import time
from collections.abc import Callable, Iterable

from sshq.core import events as ev
from sshq.core.cluster import Cluster
from sshq.core.model import Job, JobSpec, NodeConfig, NodeFacts, PartitionConfig
from sshq.core.replacing import replace
from sshq.core.restoring import restore_jobs
from sshq.core.schedule import schedule

HOSTS, SLOTS, SHAPES, USERS = 1000, 16, 50, 20
SUBMITTED_MAX = 100_000  # of a longer queue the rest is entered at once
ENDS_A_BATCH = 8  # jobs that end between two passes, in the steady state
NOW = 1_000_000.0
PASSES = itertools.count()


def percentile(values: Iterable[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def timed(work: Callable[[], object]) -> float:
    """Milliseconds of a call."""
    before = time.process_time()
    work()
    return (time.process_time() - before) * 1e3


def row(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "p99": percentile(values, 0.99), "worst": max(values)}


def show(label: str, found: dict[str, float]) -> None:
    print(f"  {label:<34} {found['median']:9.3f}  p99 {found['p99']:9.3f}  worst {found['worst']:9.3f} ms", flush=True)


def make_cluster() -> Cluster:
    cluster = Cluster(store_id="bench", epoch=1)
    cluster.jobs_max = 10_000_000
    names = [f"n{i}" for i in range(HOSTS)]
    nodes = tuple(
        NodeConfig(
            name=name, cpus=SLOTS, slots=SLOTS, memory_mib=64_000, partitions=("lab", "big") if i % 4 == 0 else ("lab",),
            features=("ssd",) if i % 3 == 0 else (), weight=1 + i % 2,
        )
        for i, name in enumerate(names)
    )  # fmt: skip
    partitions = (
        PartitionConfig(name="lab", nodes=tuple(names), default=True),
        PartitionConfig(name="big", nodes=tuple(names[::4]), default_time_s=7200),
    )
    cluster.apply(ev.InventoryLoaded(now=NOW, nodes=nodes, partitions=partitions))
    facts = NodeFacts(cpus=SLOTS, memory_mib=64_000, tmp_disk_mib=100_000)
    for name in names:
        cluster.apply(
            ev.NodeConnected(
                now=NOW, name=name, generation=1, boot="b", spool_id=f"s-{name}", machine_id=name, uid=0, facts=facts, facts_json=""
            )
        )
    return cluster


def make_shapes(seed: int = 1) -> list[JobSpec]:
    """Fifty things to ask for, by twenty users: most small, some that take half a host, some for few hosts only."""
    pick = random.Random(seed)
    shapes = []
    for i in range(SHAPES):
        user = i % USERS
        shapes.append(
            JobSpec(
                name=f"shape{i}", uid=1000 + user, user=f"user{user}", gid=100, group="lab", script=f"{i:032x}",
                environ=f"{user:032x}", work_dir=f"/home/user{user}/run", command=f"/home/user{user}/run/job.sh",
                submit_line=f"sbatch job.sh {i}", submit_host="head",
                partitions=("big",) if i % 10 == 9 else ("lab",),
                cpus_per_task=pick.choice([1, 1, 1, 1, 2, 4, 8, 16]), memory_mib=pick.choice([None, 500, 2000, 8000, 30_000]),
                time_limit_s=600 * (i + 1), features="ssd" if i % 7 == 0 else None,
            )
        )  # fmt: skip
    return shapes


def submit(cluster: Cluster, spec: JobSpec, number: int, **more: object) -> None:
    one = replace(spec, name=f"{spec.name}-{number}", submit_line=f"sbatch job.sh {number}")  # as a loop submits: all differ
    cluster.apply(ev.Submitted(now=NOW, spec=one, script=b"#!/bin/sh\ntrue\n", **more))


def enter(cluster: Cluster, shapes: list[JobSpec], count: int) -> None:
    """Enter so many pending jobs as a start does: submitting a million takes a quarter of an hour, and shows nothing more."""
    jobs = []
    for n in range(count):
        shape = shapes[n % SHAPES]
        spec = replace(shape, name=f"{shape.name}-{n}", submit_line=f"sbatch job.sh {n}")
        jobs.append(Job(job_id=n + 1, spec=spec, spec_id=n + 1, submit_at=NOW, eligible_at=NOW, order=n + 1))
    before = time.process_time()
    restore_jobs(cluster, jobs, NOW)
    print(f"  {count} jobs entered at a start: {time.process_time() - before:.1f} s CPU", flush=True)
    cluster.next_job_id, cluster.next_order = count + 1, count + 1


def run_pass(cluster: Cluster) -> tuple[float, list[ev.Start]]:
    """One pass as the mailbox makes it; returns milliseconds of the pass alone and what started."""
    before = time.process_time()
    plan = schedule(cluster, NOW)
    spent = (time.process_time() - before) * 1e3
    if plan.starts:
        cluster.apply(ev.Planned(now=NOW, starts=plan.starts, random=next(PASSES).to_bytes(16, "big")))
    return spent, list(plan.starts)


def end_jobs(cluster: Cluster, launches: list[str]) -> list[float]:
    spent = []
    record = ev.EndRecord(how="exit", code=0, duration_s=1.0)
    for launch_id in launches:
        cluster.apply(ev.LaunchStarted(now=NOW, launch_id=launch_id, pid=1))
        spent.append(timed(lambda launch_id=launch_id: cluster.apply(ev.LaunchEnded(now=NOW, launch_id=launch_id, record=record))))
    return spent


def measure_queue(pending: int) -> dict[str, object]:
    """All figures for one length of the queue."""
    cluster, shapes, pick = make_cluster(), make_shapes(), random.Random(2)
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    filling = HOSTS * SLOTS // 2
    at_once = max(0, pending - SUBMITTED_MAX)
    if at_once:
        enter(cluster, shapes, at_once)
    submits = [timed(lambda n=n: submit(cluster, pick.choice(shapes), n)) for n in range(at_once, pending + filling)]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held
    gc.collect()
    gc.freeze()  # as a controller that has loaded its queue
    fill = []
    while True:
        spent, starts = run_pass(cluster)
        fill.append(spent)
        if not starts:
            break
    steady, ends = [], []
    for _ in range(200):
        ends += end_jobs(cluster, pick.sample(sorted(cluster.launches), ENDS_A_BATCH))
        steady.append(run_pass(cluster)[0])
    later = [timed(lambda n=n: submit(cluster, pick.choice(shapes), n)) for n in range(500)]
    idle = [timed(lambda: schedule(cluster, NOW)) for _ in range(50)]
    print(f"{pending} pending ({len(cluster.pending)} left, {len(cluster.launches)} running)", flush=True)
    found = {
        "pass while filling": row(fill), "pass after 8 ends": row(steady), "pass with nothing new": row(idle),
        "submit, filling": row(submits), "submit": row(later), "end of a job": row(ends),
    }  # fmt: skip
    for label, values in found.items():
        show(label, values)
    per_job = grown * 1024 / (pending + filling)
    print(f"  {'memory a pending job':<34} {per_job:9.0f} bytes", flush=True)
    gc.unfreeze()
    return {**found, "bytes a job": per_job}


def measure_arrays(tasks: int = 100_000) -> float:
    """Bytes a pending task, of one array; and of 100 arrays of 1 000."""
    cluster, shapes = make_cluster(), make_shapes()
    gc.collect()
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for n in range(tasks // 1000):
        submit(cluster, shapes[n % SHAPES], n, array="0-999")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held
    per_task = grown * 1024 / tasks
    print(f"  {'memory a pending array task':<34} {per_task:9.1f} bytes (arrays of 1 000)", flush=True)
    return per_task


def measure_core(lengths: list[int]) -> dict[str, object]:
    print(f"core: {HOSTS} hosts x {SLOTS} slots, {SHAPES} shapes, {USERS} users")
    found: dict[str, object] = {"bytes an array task": measure_arrays()}
    for pending in lengths:
        found[str(pending)] = measure_queue(pending)
        gc.collect()
    return found
