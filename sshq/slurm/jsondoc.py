"""--json: Slurm's documents (OpenAPI v0.0.38, the one of 22.05), filled from the views.

The keys programs read are there under Slurm's names; what sshq has no counterpart of is empty, 0 or null, as it is
in Slurm.  What only sshq knows stands under one key, `sshq`.
"""

from collections.abc import Iterable

from sshq.core.hostlist import fold_hostlist
from sshq.slurm.messages import SLURM_VERSION
from sshq.slurm.views import View, describe_tres, has_ended, int_of, int_or_none, names_of, text_of, time_of, views_of

Document = dict[str, object]

_JOB_EXTRAS = ("kind", "attempt", "retries", "note", "private_dir", "survivors", "held", "cpu_time_s", "max_rss_kib")
_NODE_EXTRAS = ("slots", "slots_used", "unreachable", "drain", "note", "account", "transport", "jobs")


def squeue_document(jobs: Iterable[View]) -> Document:
    """Return what `squeue --json` prints, to be dumped."""
    return {**_head("openapi"), "jobs": [_describe_job(job) for job in jobs]}


def sinfo_document(nodes: Iterable[View]) -> Document:
    """Return what `sinfo --json` prints: nodes, whatever format was asked for."""
    return {**_head("openapi"), "nodes": [_describe_node(node) for node in nodes]}


def sacct_document(rows: Iterable[View]) -> Document:
    """Return what `sacct --json` prints."""
    return {**_head("openapi/db"), "jobs": [_describe_account(row) for row in rows]}


def _head(plugin: str) -> Document:
    major, minor, micro = (int(part) for part in SLURM_VERSION.split("."))
    return {
        "meta": {
            "plugin": {"type": f"{plugin}{'' if plugin.endswith('db') else '/'}v0.0.38", "name": "Slurm OpenAPI v0.0.38"},
            "Slurm": {"version": {"major": major, "micro": micro, "minor": minor}, "release": SLURM_VERSION},
        },
        "errors": [],
    }


def _seconds(view: View, key: str) -> int:
    return int(time_of(view, key) or 0)


def _extras(view: View, keys: Iterable[str]) -> Document:
    return {key: view.get(key) for key in keys}


def _describe_job(job: View) -> Document:
    tasks = text_of(job, "array_tasks")
    limit_s = int_or_none(job, "time_limit_s")
    pending = job.get("state") == "PENDING"
    nodes = [] if pending else names_of(job, "nodes")
    return {
        "account": text_of(job, "account"),
        "accrue_time": _seconds(job, "eligible_at"),
        "array_job_id": int_of(job, "array_job_id"),
        "array_max_tasks": int(tasks.partition("%")[2] or 0),
        "array_task_id": int_or_none(job, "array_task_id"),
        "array_task_string": tasks,
        "batch_flag": True,
        "batch_host": text_of(job, "batch_host", nodes[0] if nodes else ""),
        "cluster": "sshq",
        "command": text_of(job, "command"),
        "comment": text_of(job, "comment"),
        "contiguous": False,
        "cpus": int_of(job, "cpus", 1),
        "cpus_per_task": int_of(job, "cpus_per_task", 1) if job.get("cpus_per_task_given") else None,
        "current_working_directory": text_of(job, "work_dir"),
        "deadline": _seconds(job, "deadline_at"),
        "dependency": text_of(job, "dependency"),
        "derived_exit_code": 0,
        "eligible_time": _seconds(job, "eligible_at"),
        "end_time": _seconds(job, "end_at"),
        "excluded_nodes": fold_hostlist(names_of(job, "exc_nodes")),
        "exit_code": int_of(job, "exit_code") << 8 | int_of(job, "exit_signal"),
        "features": text_of(job, "features"),
        "flags": [],
        "group_id": int_of(job, "gid"),
        "group_name": text_of(job, "group"),
        "job_id": int_of(job, "job_id"),
        "job_resources": {"nodes": fold_hostlist(nodes), "allocated_cpus": int_of(job, "cpus", 1)} if nodes else {},
        "job_state": text_of(job, "state"),
        "licenses": text_of(job, "licenses"),
        "memory_per_cpu": int_or_none(job, "memory_per_cpu_mib"),
        "memory_per_node": int_or_none(job, "memory_mib"),
        "minimum_cpus_per_node": int_of(job, "cpus_per_task", 1),
        "name": text_of(job, "name"),
        "nice": int_of(job, "nice"),
        "node_count": int_of(job, "num_nodes", 1),
        "nodes": fold_hostlist(nodes),
        "partition": text_of(job, "partition"),
        "priority": int_of(job, "priority"),
        "qos": text_of(job, "qos", "normal"),
        "reboot": False,
        "requeue": bool(job.get("requeue")),
        "required_nodes": fold_hostlist(names_of(job, "req_nodes")),
        "restart_cnt": int_of(job, "restarts"),
        "standard_error": text_of(job, "std_err") or text_of(job, "std_out"),
        "standard_input": text_of(job, "std_in", "/dev/null"),
        "standard_output": text_of(job, "std_out"),
        "start_time": _seconds(job, "start_at"),
        "state_description": text_of(job, "note"),
        "state_reason": text_of(job, "reason", "None"),
        "submit_time": _seconds(job, "submit_at"),
        "suspend_time": 0,
        "tasks": int_of(job, "num_tasks", 1),
        "time_limit": None if limit_s is None else limit_s // 60,
        "tres_alloc_str": "" if pending else describe_tres(job),
        "tres_req_str": describe_tres(job),
        "user_id": int_of(job, "uid"),
        "user_name": text_of(job, "user"),
        "wckey": "",
        "sshq": _extras(job, _JOB_EXTRAS),
    }


def _describe_node(node: View) -> Document:
    cpus, used = int_of(node, "cpus"), int_of(node, "cpus_alloc")
    flags = [word for key, word in (("drain", "DRAIN"), ("unreachable", "NOT_RESPONDING")) if node.get(key)]
    load = time_of(node, "load")
    features = ",".join(names_of(node, "features"))
    return {
        "active_features": features,
        "address": text_of(node, "address"),
        "alloc_cpus": used,
        "alloc_memory": int_of(node, "memory_alloc_mib"),
        "architecture": text_of(node, "arch"),
        "boot_time": _seconds(node, "boot_at"),
        "cores": int_of(node, "cores", 1),
        "cpu_load": None if load is None else round(load * 100),
        "cpus": cpus,
        "features": features,
        "free_memory": int_or_none(node, "memory_free_mib"),
        "gres": text_of(node, "gres"),
        "hostname": text_of(node, "name"),
        "idle_cpus": cpus - used,
        "last_busy": _seconds(node, "last_busy_at"),
        "name": text_of(node, "name"),
        "operating_system": " ".join(filter(None, (text_of(node, "os"), text_of(node, "kernel")))),
        "partitions": names_of(node, "partitions"),
        "port": int_of(node, "port", 22),
        "real_memory": int_of(node, "memory_mib"),
        "reason": text_of(node, "reason") or text_of(node, "note"),
        "reason_changed_at": _seconds(node, "reason_at"),
        "reason_set_by_user": text_of(node, "reason_user") or None,
        "sockets": int_of(node, "sockets", 1),
        "state": text_of(node, "state", "UNKNOWN").lower(),
        "state_flags": flags,
        "temporary_disk": int_of(node, "tmp_disk_mib"),
        "threads": int_of(node, "threads", 1),
        "weight": int_of(node, "weight", 1),
        "sshq": _extras(node, _NODE_EXTRAS),
    }


def _describe_exit(view: View) -> Document:
    code, signal = int_of(view, "exit_code"), int_of(view, "exit_signal")
    status = "PENDING" if not has_ended(view) else "SIGNALED" if signal else "ERROR" if code else "SUCCESS"
    document: Document = {"status": status, "return_code": code}
    return document | ({"signal": {"signal_id": signal}} if signal else {})


def _describe_account(row: View) -> Document:
    limit_s = int_or_none(row, "time_limit_s")
    start, end = time_of(row, "start_at"), time_of(row, "end_at") if has_ended(row) else None
    return {
        "account": text_of(row, "account"),
        "allocation_nodes": len(names_of(row, "nodes")),
        "array": {"job_id": int_of(row, "array_job_id"), "task": text_of(row, "array_tasks") or None,
                  "task_id": int_or_none(row, "array_task_id")},
        "cluster": "sshq",
        "comment": {"administrator": None, "job": text_of(row, "comment") or None, "system": None},
        "constraints": text_of(row, "features"),
        "derived_exit_code": {"status": "SUCCESS", "return_code": 0},
        "exit_code": _describe_exit(row),
        "group": text_of(row, "group"),
        "job_id": int_of(row, "job_id"),
        "kill_request_user": int_or_none(row, "cancelled_by"),
        "name": text_of(row, "name"),
        "nodes": fold_hostlist(names_of(row, "nodes")) or "None assigned",
        "partition": text_of(row, "partition"),
        "priority": int_of(row, "priority"),
        "qos": text_of(row, "qos", "normal"),
        "required": {"CPUs": int_of(row, "cpus", 1),
                     "memory": int_or_none(row, "memory_per_cpu_mib") or int_of(row, "memory_mib")},
        "state": {"current": text_of(row, "state"), "reason": text_of(row, "reason", "None")},
        "time": {
            "elapsed": int(end - start) if start is not None and end is not None else 0,
            "eligible": _seconds(row, "eligible_at"),
            "end": int(end or 0),
            "limit": None if limit_s is None else limit_s // 60,
            "start": int(start or 0),
            "submission": _seconds(row, "submit_at"),
        },
        "user": text_of(row, "user"),
        "working_directory": text_of(row, "work_dir"),
        "sshq": {**_extras(row, _JOB_EXTRAS), "attempts": [dict(one) for one in views_of(row, "attempts")]},
    }  # fmt: skip
