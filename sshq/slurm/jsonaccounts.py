"""sacct --json: Slurm's document of accounting (OpenAPI dbv0.0.38, the one of 22.05), filled from the rows of history."""

from collections.abc import Iterable, Mapping

from sshq.core.hostlist import fold_hostlist
from sshq.slurm.jsondoc import JOB_EXTRAS, Document, head_document, pick_extras
from sshq.slurm.views import (
    View,
    elapsed_of,
    has_ended,
    int_of,
    int_or_none,
    memory_of,
    names_of,
    text_of,
    time_of,
    views_of,
)

_TRES_IDS = {"cpu": 1, "mem": 2, "node": 4, "billing": 5, "gres/gpu": 1001}  # Slurm's own; of its plugins the first is 1001
_SIGNAL_NAMES = {1: "HUP", 2: "INT", 3: "QUIT", 6: "ABRT", 9: "KILL", 10: "USR1", 11: "SEGV", 12: "USR2", 15: "TERM"}


def sacct_document(rows: Iterable[View], now: float) -> Document:
    """Return what `sacct --json` prints, to be dumped; `now` is for the time that running jobs have used."""
    return {**head_document("openapi/db"), "jobs": [_describe_account(row, now) for row in rows]}


def _seconds(view: View, key: str) -> int:
    return int(time_of(view, key) or 0)


def _describe_exit(view: View) -> Document:
    code, signal = int_of(view, "exit_code"), int_of(view, "exit_signal")
    status = "PENDING" if not has_ended(view) else "SIGNALED" if signal else "ERROR" if code else "SUCCESS"
    document: Document = {"status": status, "return_code": code}
    return document | ({"signal": {"signal_id": signal, "name": _SIGNAL_NAMES.get(signal, str(signal))}} if signal else {})


def _describe_tres(counts: Mapping[str, int]) -> list[Document]:
    parts = ((*kind.partition("/"), count) for kind, count in counts.items() if count)
    return [
        {"type": kind, "name": name or None, "id": _TRES_IDS[f"{kind}{slash}{name}"], "count": count}
        for kind, slash, name, count in parts
    ]


def _count_tres(row: View, cpus: int, nodes: int) -> dict[str, int]:
    return {"cpu": cpus, "mem": memory_of(row) or 0, "node": nodes}


def _clock(seconds: float) -> Document:
    return {"seconds": int(seconds), "microseconds": int(seconds % 1 * 1_000_000)}


def _describe_time(view: View, now: float) -> Document:
    user, system = time_of(view, "user_s") or 0.0, time_of(view, "system_s") or 0.0
    total = time_of(view, "cpu_time_s")
    return {
        "elapsed": int(elapsed_of(view, now)),
        "end": _seconds(view, "end_at") if has_ended(view) else 0,
        "start": _seconds(view, "start_at"),
        "suspended": 0,
        "system": _clock(system),
        "total": _clock(user + system if total is None else total),
        "user": _clock(user),
    }


def _describe_step(job: View, step: View, now: float) -> Document:
    """Return one step: of the views of `steps`, or the batch step, made from its job's own view."""
    nodes = names_of(step, "nodes")
    cpus = int_of(step, "cpus", 1)
    usage: Document = {"max": [], "min": [], "average": [], "total": []}
    return {
        "time": _describe_time(step, now),
        "exit_code": _describe_exit(step),
        "nodes": {"count": len(nodes), "range": fold_hostlist(nodes), "list": nodes},
        "tasks": {"count": int_of(step, "num_tasks", 1)},
        "pid": None,
        "CPU": {"requested_frequency": {"min": 0, "max": 0}, "governor": []},
        "kill_request_user": None,
        "state": text_of(step, "state"),
        "statistics": {"CPU": {"actual_frequency": 0}, "energy": {"consumed": 0}},
        "step": {
            "job_id": int_of(job, "job_id"),
            "het": {"component": None},
            "id": text_of(step, "step_id"),
            "name": text_of(step, "name"),
        },
        "task": {"distribution": "Unknown"},
        "tres": {
            "requested": usage,
            "consumed": usage,
            "allocated": _describe_tres(_count_tres(job, cpus, len(nodes))),
        },
    }


def _list_steps(row: View) -> list[View]:
    nodes = names_of(row, "nodes")
    if not nodes or time_of(row, "start_at") is None:
        return []
    batch = {**row, "step_id": "batch", "name": "batch", "nodes": nodes[:1], "num_tasks": 1}
    return [batch, *views_of(row, "steps")]


def _describe_account(row: View, now: float) -> Document:
    limit_s = int_or_none(row, "time_limit_s")
    nodes, cpus, count = names_of(row, "nodes"), int_of(row, "cpus", 1), int_of(row, "num_nodes", 1)
    account, partition = text_of(row, "account"), text_of(row, "partition")
    asked = _describe_tres({**_count_tres(row, cpus, count), "billing": cpus, "gres/gpu": int_of(row, "gpus")})
    array_id = int_of(row, "array_job_id")
    return {
        "account": account,
        "comment": {"administrator": None, "job": text_of(row, "comment") or None, "system": None},
        "allocation_nodes": len(nodes),
        "array": {
            "job_id": array_id,
            "limits": {"max": {"running": {"tasks": int_of(row, "array_limit")}}},
            "task": text_of(row, "array_tasks") or None,
            "task_id": int_or_none(row, "array_task_id"),
        },
        "association": {"account": account, "cluster": "sshq", "partition": None, "user": text_of(row, "user")},
        "cluster": "sshq",
        "constraints": text_of(row, "features"),
        "container": None,
        "derived_exit_code": {"status": "SUCCESS", "return_code": int_of(row, "derived_exit_code")},
        "time": {
            **_describe_time(row, now),
            "eligible": _seconds(row, "eligible_at"),
            "limit": None if limit_s is None else limit_s // 60,
            "submission": _seconds(row, "submit_at"),
        },
        "exit_code": _describe_exit(row),
        "flags": ["CLEAR_SCHEDULING", "STARTED_ON_SCHEDULE"] if nodes else ["CLEAR_SCHEDULING"],
        "group": text_of(row, "group"),
        "het": {"job_id": 0, "job_offset": None},
        "job_id": int_of(row, "job_id"),
        "name": text_of(row, "name"),
        "mcs": {"label": ""},
        "nodes": fold_hostlist(nodes) or "None assigned",
        "partition": partition,
        "priority": int_of(row, "priority"),
        "qos": text_of(row, "qos", "normal"),
        "required": {"CPUs": cpus, "memory": int_or_none(row, "memory_per_cpu_mib") or int_of(row, "memory_mib")},
        "kill_request_user": int_or_none(row, "cancelled_by"),
        "reservation": {"id": 0, "name": 0},
        "state": {"current": text_of(row, "state"), "reason": text_of(row, "reason", "None")},
        "steps": [_describe_step(row, step, now) for step in _list_steps(row)],
        "tres": {"allocated": asked if nodes else [], "requested": asked},
        "user": text_of(row, "user"),
        "wckey": {"wckey": "", "flags": []},
        "working_directory": text_of(row, "work_dir"),
        "sshq": {**pick_extras(row, JOB_EXTRAS), "attempts": [dict(one) for one in views_of(row, "attempts")]},
    }
