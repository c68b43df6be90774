"""A job of the past as a submission: what `submit` would have to be told for the same spec."""

from sshq.core.model import JobSpec

_REQUEUE = {"yes": True, "no": False, "always": "always"}
_REPEATABLE = ("script", "container")
# Fields that are told under their own names, as they are.
_PLAIN = (
    "kind", "name", "command", "work_dir", "submit_dir", "std_out", "std_err", "std_in", "open_mode", "umask", "export",
    "num_nodes", "nodes_given", "num_tasks", "ntasks_given", "ntasks_per_node", "cpus_per_task", "cpus_per_task_given",
    "memory_mib", "memory_per_cpu_mib", "features", "exclusive", "nice", "priority", "retries", "lease_s", "comment", "account",
    "qos", "min_cpus", "tmp_disk_mib", "prefer", "overcommit", "licenses", "gpus_per_node", "gpus_by_gres", "gpus_total",
    "gpus_per_task", "ntasks_per_gpu", "cpus_per_gpu", "memory_per_gpu_mib", "python", "tree", "tree_below", "frozen",
    "anywhere", "container", "container_workdir", "container_pull",
)  # fmt: skip


def refuse_again(spec: JobSpec) -> str | None:
    """Return why such a job cannot be submitted once more, None where it can."""
    program = spec.submit_line.partition(" ")[0]
    if spec.kind == "callable":
        return "it is the call of a Python function, whose result goes to the program that called it: run that again"
    if spec.kind not in _REPEATABLE or program in ("srun", "salloc"):
        return f"it lived with the command that was typed: {spec.submit_line or spec.kind}"
    if spec.seen_from is not None:
        return f"it was submitted inside a job, from a directory of {spec.seen_from}"
    return None


def describe_again(spec: JobSpec, script: bytes, task: int | None) -> dict[str, object]:
    """Return the description.

    What belongs to one moment is not in it: dependency, begin, deadline, a hold.

    Args:
        spec: of a job that `refuse_again` lets pass.
        script: its bytes.
        task: of an array, the one task that is meant; None for all.
    """
    described: dict[str, object] = {name: getattr(spec, name) for name in _PLAIN}
    described |= {
        "script": script.decode("utf-8", "surrogateescape"),
        "args": list(spec.args),
        "partition": list(spec.partitions),
        "time_limit_s": -1 if spec.time_limit_s is None else spec.time_limit_s,
        "req_nodes": ",".join(spec.req_nodes) or None,
        "exc_nodes": ",".join(spec.exc_nodes) or None,
        "requeue": _REQUEUE[spec.requeue],
        "signal": list(spec.signal) if spec.signal is not None else None,
        "reservation": ",".join(spec.reservations) or None,
        "limits": dict(spec.limits) or None,
        "stage_out": list(spec.stage_out),
        "container_mounts": [list(mount) for mount in spec.container_mounts] or None,
        "container_env": list(spec.container_env) or None,
    }
    if spec.container is None:
        described |= {"container_pull": None, "container_workdir": None}
    if spec.array_text is not None:
        described |= {"array": str(task), "array_limit": None} if task is not None else {
            "array": spec.array_text.partition("%")[0], "array_limit": spec.array_limit,
        }  # fmt: skip
    return {name: value for name, value in described.items() if value is not None}


def left_out(spec: JobSpec) -> list[str]:
    """Return the options that are not repeated, as a user would have typed them."""
    lines = [f"--dependency={spec.dependency}"] if spec.dependency else []
    lines += ["--begin"] if spec.begin_at is not None else []
    return lines + (["--deadline"] if spec.deadline_at is not None else [])
