"""--json: Slurm's documents (OpenAPI v0.0.38, the one of 22.05), filled from the views.

The keys programs read are there under Slurm's names; what sshq has no counterpart of is empty, 0 or null, as it is
in Slurm.  What only sshq knows stands under one key, `sshq`.
"""

from sshq.core.hostlist import fold_hostlist
from sshq.core.units import format_memory
from sshq.slurm.messages import SLURM_VERSION
from sshq.slurm.views import View, describe_tres, int_of, int_or_none, names_of, text_of, time_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

Document = dict[str, object]

# What sshq has no counterpart of, as Slurm shows it where it is not configured or not asked for.
_JOB_ABSENT = dict.fromkeys(
    ("admin_comment", "batch_features", "burst_buffer", "burst_buffer_state", "cluster_features", "container", "cpus_per_tres",
     "federation_origin", "federation_siblings_active", "federation_siblings_viable", "het_job_id_set", "mcs_label",
     "memory_per_tres", "prefer", "resv_name", "system_comment", "tres_bind", "tres_freq", "tres_per_job", "tres_per_node",
     "tres_per_socket", "tres_per_task"), ""
) | dict.fromkeys(
    ("association_id", "delay_boot", "het_job_id", "het_job_offset", "max_cpus", "minimum_tmp_disk_per_node", "pre_sus_time",
     "preempt_time", "resize_time", "sockets_per_board", "tasks_per_board", "time_minimum"), 0
) | dict.fromkeys(
    ("core_spec", "cores_per_socket", "cpu_frequency_governor", "cpu_frequency_maximum", "cpu_frequency_minimum", "profile",
     "sockets_per_node", "tasks_per_core", "tasks_per_socket", "thread_spec", "threads_per_core"), None
)  # fmt: skip
_NODE_ABSENT: Document = {
    "boards": 1, "burstbuffer_network_address": "", "comment": "", "cpu_binding": 0, "extra": "", "gres_drained": "N/A",
    "mcs_label": "", "next_state_after_reboot": "invalid", "next_state_after_reboot_flags": [], "owner": None,
    "tres_weighted": 0.0,
}  # fmt: skip

JOB_EXTRAS = ("kind", "attempt", "retries", "note", "private_dir", "survivors", "held", "cpu_time_s", "max_rss_kib")
_NODE_EXTRAS = ("slots", "slots_used", "unreachable", "drain", "note", "account", "transport", "jobs")


def squeue_document(jobs: "Iterable[View]") -> Document:
    """Return what `squeue --json` prints, to be dumped."""
    return {**head_document("openapi"), "jobs": [_describe_job(job) for job in jobs]}


def sinfo_document(nodes: "Iterable[View]") -> Document:
    """Return what `sinfo --json` prints: nodes, whatever format was asked for."""
    return {**head_document("openapi"), "nodes": [_describe_node(node) for node in nodes]}


def head_document(plugin: str) -> Document:
    """Return the parts of a document that say who wrote it."""
    major, minor, micro = (int(part) for part in SLURM_VERSION.split("."))
    return {
        "meta": {
            "plugin": {
                "type": f"{plugin}{'' if plugin.endswith('db') else '/'}v0.0.38",
                "name": f"Slurm OpenAPI {'DB ' if plugin.endswith('db') else ''}v0.0.38",
            },
            "Slurm": {"version": {"major": major, "micro": micro, "minor": minor}, "release": SLURM_VERSION},
        },
        "errors": [],
    }


def _seconds(view: View, key: str) -> int:
    return int(time_of(view, key) or 0)


def pick_extras(view: View, keys: "Iterable[str]") -> Document:
    """Return what only sshq knows."""
    return {key: view.get(key) for key in keys}


def _describe_request(job: View) -> Document:
    """Return what is only repeated: names and texts of the submission."""
    return {
        "account": text_of(job, "account"),
        "command": text_of(job, "command").removeprefix("(null)"),
        "comment": text_of(job, "comment"),
        "current_working_directory": text_of(job, "work_dir"),
        "dependency": text_of(job, "dependency"),
        "excluded_nodes": fold_hostlist(names_of(job, "exc_nodes")),
        "features": text_of(job, "features"),
        "group_id": int_of(job, "gid"),
        "group_name": text_of(job, "group"),
        "licenses": text_of(job, "licenses"),
        "name": text_of(job, "name"),
        "partition": text_of(job, "partition"),
        "qos": text_of(job, "qos", "normal"),
        "required_nodes": fold_hostlist(names_of(job, "req_nodes")),
        "standard_error": text_of(job, "std_err") or text_of(job, "std_out"),
        "standard_input": text_of(job, "std_in", "/dev/null"),
        "standard_output": text_of(job, "std_out"),
        **{key: text_of(job, key) for key in ("tres_per_job", "tres_per_node", "tres_per_task")},
        "user_id": int_of(job, "uid"),
        "user_name": text_of(job, "user"),
    }


def _describe_job(job: View) -> Document:
    tasks = text_of(job, "array_tasks")
    limit_s = int_or_none(job, "time_limit_s")
    pending = job.get("state") == "PENDING"
    nodes = [] if pending else names_of(job, "nodes")
    start, submitted, eligible = time_of(job, "start_at"), _seconds(job, "submit_at"), _seconds(job, "eligible_at")
    if start is None and pending:
        start = time_of(job, "begin_at")
    return {
        **_JOB_ABSENT,
        **{key: text_of(job, key) for key in ("tres_per_job", "tres_per_node", "tres_per_task")},
        **_describe_request(job),
        "accrue_time": _seconds(job, "eligible_at"),
        "array_job_id": int_of(job, "array_job_id"),
        "array_max_tasks": int(tasks.partition("%")[2] or 0),
        "array_task_id": int_or_none(job, "array_task_id"),
        "array_task_string": tasks,
        "batch_flag": job.get("batch_flag") is not False,
        "batch_host": text_of(job, "batch_host", nodes[0] if nodes else ""),
        "billable_tres": float(int_of(job, "cpus", 1)) if nodes else None,
        "cluster": "sshq",
        "contiguous": False,
        "cpus": int_of(job, "cpus", 1),
        "cpus_per_task": int_of(job, "cpus_per_task", 1) if job.get("cpus_per_task_given") else None,
        "deadline": _seconds(job, "deadline_at"),
        "derived_exit_code": 0,
        "eligible_time": _seconds(job, "eligible_at"),
        "end_time": _seconds(job, "end_at"),
        "exit_code": int_of(job, "exit_code") << 8 | int_of(job, "exit_signal"),
        "flags": [],
        "gres_detail": names_of(job, "gres_detail"),
        "job_id": int_of(job, "job_id"),
        "job_resources": {"nodes": fold_hostlist(nodes), "allocated_cpus": int_of(job, "cpus", 1)} if nodes else {},
        "job_state": text_of(job, "state"),
        "last_sched_evaluation": max(submitted, eligible) if eligible <= (start or eligible) else submitted,
        "max_nodes": int_of(job, "max_nodes"),
        "memory_per_cpu": int_or_none(job, "memory_per_cpu_mib"),
        "memory_per_node": int_or_none(job, "memory_mib"),
        "minimum_cpus_per_node": int_of(job, "cpus_per_task", 1),
        "nice": int_or_none(job, "nice") or None,
        "node_count": int_of(job, "num_nodes", 1),
        "nodes": fold_hostlist(nodes),
        "priority": int_of(job, "priority"),
        "reboot": False,
        "requeue": bool(job.get("requeue")),
        "restart_cnt": int_of(job, "restarts"),
        "shared": "none" if job.get("exclusive") else None,
        "show_flags": ["SHOW_ALL", "SHOW_DETAIL", "SHOW_LOCAL"],
        "start_time": int(start or 0),
        "state_description": text_of(job, "note"),
        "state_reason": text_of(job, "reason", "None"),
        "submit_time": submitted,
        "suspend_time": 0,
        "tasks": int_of(job, "num_tasks", 1),
        "tasks_per_node": int_of(job, "ntasks_per_node"),
        "time_limit": None if limit_s is None else limit_s // 60,
        "tres_alloc_str": "" if pending else describe_tres(job),
        "tres_req_str": describe_tres(job),
        "wckey": "",
        "sshq": pick_extras(job, JOB_EXTRAS),
    }


def _count_gpus(node: View, key: str) -> str:
    count = int_of(node, key)
    return f",gres/gpu={count}" if count else ""


def _describe_node(node: View) -> Document:
    cpus, used = int_of(node, "cpus"), int_of(node, "cpus_alloc")
    words = (("drain", "DRAIN"), ("unreachable", "NOT_RESPONDING"), ("planned", "PLANNED"))
    flags = [word for key, word in words if node.get(key) and (key != "planned" or node.get("state") == "IDLE")]
    memory, taken = int_of(node, "memory_mib"), int_of(node, "memory_alloc_mib")
    gpus_used = _count_gpus(node, "gpus_alloc")
    load = time_of(node, "load")
    features = ",".join(names_of(node, "features"))
    return {
        **_NODE_ABSENT,
        "active_features": features,
        "address": text_of(node, "address"),
        "alloc_cpus": used,
        "alloc_memory": taken,
        "architecture": text_of(node, "arch"),
        "boot_time": _seconds(node, "boot_at"),
        "cores": int_of(node, "cores", 1),
        "cpu_load": None if load is None else round(load * 100),
        "cpus": cpus,
        "features": features,
        "free_memory": int_or_none(node, "memory_free_mib"),
        "gres": text_of(node, "gres"),
        "gres_used": text_of(node, "gres_used", "gpu:0"),
        "hostname": text_of(node, "name"),
        "idle_cpus": cpus - used,
        "last_busy": _seconds(node, "last_busy_at"),
        "name": text_of(node, "name"),
        "operating_system": " ".join(filter(None, ("Linux", text_of(node, "kernel")))),
        "partitions": names_of(node, "partitions"),
        "port": int_of(node, "port", 22),
        "real_memory": memory,
        "reason": text_of(node, "reason") or text_of(node, "note"),
        "reason_changed_at": _seconds(node, "reason_at"),
        "reason_set_by_user": text_of(node, "reason_user") or None,
        "slurmd_start_time": _seconds(node, "since_at"),
        "slurmd_version": SLURM_VERSION,
        "sockets": int_of(node, "sockets", 1),
        "state": text_of(node, "state", "UNKNOWN").lower(),
        "state_flags": flags,
        "temporary_disk": int_of(node, "tmp_disk_mib"),
        "threads": int_of(node, "threads", 1),
        "tres": f"cpu={cpus},mem={format_memory(memory)},billing={cpus}" + _count_gpus(node, "gpus"),
        "tres_used": f"cpu={used}{f',mem={format_memory(taken)}' if taken else ''}{gpus_used}" if used else None,
        "weight": int_of(node, "weight", 1),
        "sshq": pick_extras(node, _NODE_EXTRAS),
    }
