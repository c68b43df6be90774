"""What front ends are told: jobs, nodes and partitions as plain JSON objects.

The keys are the protocol of the socket (`wire`), read by the columns of `slurm.fields`; times are UTC seconds.
"""

import time
from typing import Final

from sshq.controller.gpuviews import job_gpus, node_gpus
from sshq.core.arrangements import Reservation
from sshq.core.cluster import Cluster
from sshq.core.dependency import format_dependency, parse_dependency
from sshq.core.lifecycle import FINAL, State
from sshq.core.model import Job, JobSpec, PartitionConfig
from sshq.core.nodes import Node
from sshq.core.partitions import state_of
from sshq.core.priority import display_priority
from sshq.slurm.filename import default_output, expand_filename

View = dict[str, object]
_ALIVE = (State.CONFIGURING, State.RUNNING, State.SUSPENDED)
STAGING = "StageIn"  # no reason of Slurm's: the job has its node, and its files are on their way
BATCH_KINDS = ("script", "callable", "container")  # salloc's and srun's jobs have no batch script, and no line of one in sacct
NO_SUCH_ARRAY_TASK = 0xFFFFFFFE  # what Slurm prints for %a of a job that is no array task


def expand_output(spec: JobSpec, job: Job, pattern: str | None, node: str | None) -> str:
    """Return the absolute path a pattern of --output or --error stands for."""
    facts = {
        "job_id": job.job_id,
        "array_job_id": job.array_job_id,
        "array_task_id": job.array_task_id,
        "user": spec.user,
        "name": spec.name,
        "node": node,
    }
    path = expand_filename(pattern or default_output(array=job.array_job_id is not None), facts)
    return path if path.startswith("/") else f"{spec.work_dir.rstrip('/')}/{path}"


def pending_reason(cluster: Cluster, job: Job) -> str:
    """Slurm's word for why a job is pending: its own, or what its group met in the last pass; ours for files on their way."""
    if job.state is not State.PENDING or job.reason != "None":
        is_staged = job.state is State.CONFIGURING and job.private_dir and job.spec.tree is not None and job.reason == "None"
        return STAGING if is_staged else job.reason
    request = cluster.pending.request(job.job_id)
    if request is None:
        return "None"
    if job.is_array_record and job.spec.array_limit and cluster.array_running(job.job_id) >= job.spec.array_limit:
        return "JobArrayTaskLimit"
    blocked = cluster.pending.blocked(job.job_id)
    if blocked is None:
        return "Priority" if not cluster.pending.is_head(job.job_id) else "None"
    if blocked == "Resources" and not cluster.pending.is_head(job.job_id):
        return "Priority"
    return blocked


def live_job_view(cluster: Cluster, job: Job) -> View:
    """The view of a job in the live queue."""
    view = job_view(job, pending_reason(cluster, job))
    spec = job.spec
    launch = cluster.launches.get(job.launch_id or "")
    view["pid"] = launch.pid if launch is not None else None
    if spec.dependency and job.start_at is None:
        view["dependency"] = format_dependency(
            parse_dependency(spec.dependency), lambda term: cluster.dependency_facts(term, job)
        )
    if job.state is State.PENDING and job.eligible_at is None and job.held is None:
        view["eligible_at"] = spec.begin_at
    if job.is_array_record:
        view["array_task_count"] = cluster.array_left(job)
        if spec.array_limit:
            view["array_tasks"] = f"{job.array_tasks}%{spec.array_limit}"
    if job.state in (State.RUNNING, State.CONFIGURING, State.SUSPENDED) and job.nodes:
        node = cluster.nodes.get(job.nodes[0])
        if spec.time_limit_s is not None and job.start_at is not None and not is_cancelling(job):
            view["end_at"] = job.start_at + spec.time_limit_s
        if len(spec.partitions) > 1 and node is not None:
            view["partition"] = next((p for p in spec.partitions if p in node.config.partitions), spec.partitions[0])
        if node is not None and not node.connected:
            since = time.strftime("%H:%M", time.localtime(node.since_at))
            view["note"] = f"{node.name} unreachable since {since}: {node.note}"
    return view


def is_cancelling(job: Job) -> bool:
    """Whether a cancel was asked for and the job's processes are still ending.

    Shown as Slurm shows it, CANCELLED and completing: who cancels a job that ignores TERM need not wait for the KILL to
    learn that it is cancelled.  For the core it runs until there is evidence.
    """
    return job.cancel_uid is not None and job.state in _ALIVE and not job.requeue_asked


def job_view(job: Job, reason: str) -> View:
    """The view of a job without the live queue: history."""
    spec = job.spec
    node = job.nodes[0] if job.nodes else None
    # Slurm reads an error file only where one was asked for; else both streams share the output file.
    std_out = expand_output(spec, job, spec.std_out, node)
    std_err = expand_output(spec, job, spec.std_err, node) if spec.std_err else std_out
    cancelling = is_cancelling(job)
    view: View = {
        "job_id": job.job_id,
        "array_job_id": job.array_job_id,
        "array_task_id": job.array_task_id,
        "array_tasks": job.array_tasks,
        "array_task_count": 0,
        "partition": ",".join(spec.partitions),
        "state": "CANCELLED" if cancelling else job.state.name,
        "completing": cancelling or job.verdict is not None or (job.state in FINAL and (not job.released or job.output_pending)),
        "reason": reason,
        "priority": display_priority(priority=spec.priority, nice=spec.nice, order=job.order, held=job.held is not None),
        "held": job.held,
        "nodes": list(job.nodes) if job.state is not State.PENDING else [],
        "batch_host": node if job.state is not State.PENDING else None,
        "cpus": job.cpus,
        "batch_cpus": job.shares()[0].cpus if job.other_slots else job.cpus,
        "submit_at": job.submit_at,
        "eligible_at": job.eligible_at,
        "start_at": job.start_at,
        "end_at": job.end_at,
        "exit_code": job.exit_code,
        "exit_signal": job.exit_signal,
        "derived_exit_code": job.derived_code,
        "derived_exit_signal": job.derived_signal,
        "restarts": job.restarts,
        "attempt": job.attempt,
        "std_out": std_out,
        "std_err": std_err,
        "cpu_time_s": job.cpu_time_s,
        "system_s": job.system_s,
        "user_s": user_part(job.cpu_time_s, job.system_s),
        "max_rss_kib": job.max_rss_kib,
        "note": _note_of(job),
        "private_dir": job.private_dir,
        "survivors": list(job.survivors),
        "batch_flag": spec.kind in BATCH_KINDS,
        "oversubscribe": "NO" if spec.exclusive else "OK",
        "cancelled_by": job.cancel_uid if cancelling or job.state is State.CANCELLED else None,
        "slot": job.slots[0] if job.slots else None,
    }
    return view | spec_view(spec) | job_gpus(job)


def user_part(total_s: float | None, system_s: float | None) -> float | None:
    """Return the CPU seconds not spent in the kernel; None where only the sum is known, or nothing."""
    return None if total_s is None or system_s is None else max(0.0, total_s - system_s)


CONTAINER_LEFT: Final = "0:container"  # among survivors, by runner/box.sh


def _note_of(job: Job) -> str | None:
    """What is to be said of a job, processes that no signal could end before all else."""
    if not job.survivors:
        return job.note
    where = job.nodes[0] if job.nodes else "its host"
    alive = [word for word in job.survivors if word != CONTAINER_LEFT]
    told = [f"still alive on {where}, where they could not be killed: {' '.join(alive)}"] if alive else []
    if len(alive) < len(job.survivors):
        told.append(f"what runs containers on {where} does not say that its container is gone, and is asked again")
    survived = "; ".join(told)
    return f"{survived}; {job.note}" if job.note else survived


def spec_view(spec: JobSpec) -> View:
    """What was asked, under the names of the view."""
    return {
        "array_limit": spec.array_limit,
        "array_text": spec.array_text,
        "name": spec.name,
        "user": spec.user,
        "uid": spec.uid,
        "group": spec.group,
        "gid": spec.gid,
        "kind": spec.kind,
        "nice": spec.nice,
        "req_nodes": list(spec.req_nodes),
        "exc_nodes": list(spec.exc_nodes),
        "features": spec.features,
        "num_nodes": spec.num_nodes,
        "max_nodes": spec.num_nodes if spec.nodes_given and len(spec.req_nodes) < 2 else 0,  # as -N gave it
        "num_tasks": spec.num_tasks,
        "ntasks_given": spec.ntasks_given,
        "ntasks_per_node": spec.ntasks_per_node,
        "cpus_per_task": spec.cpus_per_task,
        "cpus_per_task_given": spec.cpus_per_task_given,
        "memory_mib": spec.memory_mib,
        "memory_per_cpu_mib": spec.memory_per_cpu_mib,
        "time_limit_s": spec.time_limit_s if spec.time_limit_s != -1 else None,
        "begin_at": spec.begin_at,
        "deadline_at": spec.deadline_at,
        "requeue": spec.requeue != "no",
        "retries": spec.retries,
        "dependency": None,  # of one that has started it was met
        "work_dir": spec.work_dir,
        "stage_out": list(spec.stage_out),
        "command": spec.command,
        "std_in": spec.std_in or "/dev/null",
        "open_mode": spec.open_mode,
        "comment": spec.comment,
        "account": spec.account,
        "qos": spec.qos,
        "submit_host": spec.submit_host,
        "submit_line": spec.submit_line,
        "exclusive": spec.exclusive,
        "licenses": spec.licenses,
        "reservation": ",".join(spec.reservations) or None,
        "min_cpus": spec.min_cpus,
        "tmp_disk_mib": spec.tmp_disk_mib,
        "prefer": spec.prefer,
        "overcommit": spec.overcommit,
    }


def history_view(job: Job, attempts: list[View], steps: list[View]) -> View:
    """A row of sacct: the job, each of its attempts, and their steps."""
    view = job_view(job, job.reason)
    if job.is_array_record and job.spec.array_limit:
        view["array_tasks"] = f"{job.array_tasks}%{job.spec.array_limit}"
    return view | {"attempts": attempts, "steps": steps}


def node_view(cluster: Cluster, node: Node) -> View:
    facts = node.facts
    record = node.record
    drained = bool(record.drain_reason and not record.down_asserted)  # down has its reason in the same place
    ailing = node.note or node.trouble or node.reclaiming or None
    sockets, cores, threads = (facts.sockets, facts.cores, facts.threads) if facts else (1, 1, 1)
    if sockets * cores * threads != node.cpus:  # the inventory says another number: as Slurm, so many sockets of one core
        sockets, cores, threads = node.cpus, 1, 1
    return {
        "name": node.name,
        "state": node.state_name(),
        "drain": node.removed or bool(node.trouble) or drained,
        "unreachable": not node.connected,
        "planned": node.state_name() == "IDLE" and cluster.pending.is_planned(node.name),
        "reason": record.drain_reason or ("removed from the inventory" if node.removed else ailing),
        "reason_user": record.drain_by or None,
        "reason_uid": record.drain_uid if record.drain_reason else None,
        "reason_at": record.drain_at or (node.since_at if node.note else None),
        "note": node.note or None,
        "since_at": node.since_at,
        "cpus": node.cpus,
        "cpus_alloc": node.cpus_taken,
        "slots": node.slots,
        "slots_used": len(node.slots_taken),
        "memory_mib": node.memory_mib,
        "memory_alloc_mib": node.memory_taken_mib,
        "memory_free_mib": node.memory_free_mib,
        "load": node.load,
        "features": sorted(node.features),
        "partitions": shown_partitions(cluster, node),
        "address": node.config.address,
        "port": node.config.port,
        "account": node.config.account,
        "os": facts.os if facts else None,
        "kernel": facts.kernel if facts else None,
        "arch": facts.arch if facts else None,
        "boot_at": facts.boot_at if facts else None,
        "last_busy_at": node.last_busy_at,
        "weight": node.weight,
        "comment": node.record.comment or None,
        "sockets": sockets,
        "cores": cores,
        "threads": threads,
        "tmp_disk_mib": facts.tmp_disk_mib if facts else 0,
        **node_gpus(node),
        "transport": node.config.transport,
        "jobs": sorted(node.jobs),
    }


def shown_partitions(cluster: Cluster, node: Node) -> list[str]:
    """The partitions a node is listed in: one that has left the inventory stays in view until its last job is over."""
    if not node.removed:
        return [p.name for p in cluster.partitions.values() if node.name in p.nodes]
    known = [p for p in node.config.partitions if p in cluster.partitions]
    return known or [cluster.default_partition or next(iter(cluster.partitions), "")]


def partition_view(cluster: Cluster, partition: PartitionConfig) -> View:
    nodes = [cluster.nodes[n] for n in partition.nodes if n in cluster.nodes]
    nodes += [n for n in cluster.nodes.values() if n.removed and partition.name in shown_partitions(cluster, n)]
    return {
        "name": partition.name,
        "default": partition.default,
        "nodes": [n.name for n in nodes],
        "max_time_s": partition.max_time_s,
        "default_time_s": partition.default_time_s,
        "state": state_of(partition),
        "inventory_state": state_of(cluster.inventory_partitions.get(partition.name, partition)),
        "cpus": sum(n.cpus for n in nodes),
        "priority_tier": partition.priority_tier,
        "hidden": partition.hidden,
    }


def reservation_view(cluster: Cluster, one: Reservation) -> View:
    nodes = [cluster.nodes[name] for name in one.nodes if name in cluster.nodes]
    return {
        "name": one.name,
        "start_at": one.start_at,
        "end_at": one.end_at,
        "nodes": list(one.nodes),
        "node_list": cluster.fold(list(one.nodes)),
        "cpus": sum(node.cpus for node in nodes),
        "users": list(one.users),
        "accounts": list(one.accounts),
        "flags": list(one.flags),
        "partition": one.partition,
        "comment": one.comment,
    }
