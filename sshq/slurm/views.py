"""Typed reading of the views the controller sends: JSON objects whose absent values are None.

A wrong type counts as absent: what a listing cannot show must not end the listing.

A job of `history` has `steps`, those that its attempts ran; the request `steps` streams the running ones of the jobs its
filter means, each job's batch step first, with the job's own view under `job`.  A step has:

    step_id      "0", "1", …, or "batch"        name        its command, or --job-name
    job_id       raw id of its job              attempt     number of the job's attempt
    state        RUNNING, COMPLETED, FAILED, CANCELLED
    start_at     UTC seconds                    end_at      null while it runs
    exit_code    exit_signal                    cpus        given to it, over all its nodes
    num_tasks    num_nodes                      nodes       names
    user_s       system_s     cpu_time_s        max_rss_kib of its largest task: while it runs, else null
    submit_line  as it was typed                (those of a running step are asked of its node at that moment)
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    View = Mapping[str, object]
else:
    View = dict  # what a reply's objects are; `collections.abc` would cost each command 3 ms
ENDED = frozenset((
    "COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE", "OUT_OF_MEMORY",
))  # fmt: skip


def text_of(view: View, key: str, default: str = "") -> str:
    """Return a text, `default` if there is none or it is empty."""
    value = view.get(key)
    return value if isinstance(value, str) and value else default


def int_of(view: View, key: str, default: int = 0) -> int:
    value = view.get(key)
    return int(value) if isinstance(value, (int, float)) else default


def int_or_none(view: View, key: str) -> int | None:
    value = view.get(key)
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def time_of(view: View, key: str) -> float | None:
    """Return a time, or a number that may be fractional; None if there is none."""
    value = view.get(key)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def names_of(view: View, key: str) -> list[str]:
    value = view.get(key)
    return [item for item in value if isinstance(item, str)] if isinstance(value, (list, tuple)) else []


def views_of(view: View, key: str) -> list[View]:
    """Return a list of objects within a view."""
    value = view.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, (list, tuple)) else []


def has_ended(view: View) -> bool:
    return view.get("state") in ENDED


def elapsed_of(view: View, now: float) -> float:
    """Return how long a job, or an attempt, has run: to its end, or until now; 0 before its start."""
    start_at = time_of(view, "start_at")
    if start_at is None or view.get("state") in ("PENDING", "CONFIGURING"):
        return 0
    # end_at of a running job is when its limit will end it.
    end_at = time_of(view, "end_at") if has_ended(view) else now
    return max(0.0, (end_at if end_at is not None else now) - start_at)


def job_of(step: View) -> View:
    """Return the job of a running step's view."""
    job = step.get("job")
    return job if isinstance(job, dict) else step


def job_label(view: View) -> str:
    """Return a job's id as people write it: 12, 12_3 for an array task, 12_[3-9%2] for tasks not started."""
    array_id = int_or_none(view, "array_job_id")
    tasks = text_of(view, "array_tasks")
    if array_id is not None and tasks:
        return f"{array_id}_[{tasks}]"
    task = int_or_none(view, "array_task_id")
    if array_id is not None and task is not None:
        return f"{array_id}_{task}"
    return str(int_of(view, "job_id"))


def describe_tres(view: View, *, with_billing: bool = True) -> str:
    """Return what a job asked for or has, as Slurm writes trackable resources: cpu=2,mem=200M,node=1,billing=2."""
    from sshq.core.units import format_memory

    cpus = int_of(view, "cpus", 1)
    memory = memory_of(view)
    parts = [f"cpu={cpus}"]
    if memory:
        parts.append(f"mem={format_memory(memory)}")
    parts.append(f"node={int_of(view, 'num_nodes', 1)}")
    if with_billing:
        parts.append(f"billing={cpus}")
    if gpus := int_of(view, "gpus"):
        parts.append(f"gres/gpu={gpus}")
    return ",".join(parts)


def memory_of(view: View) -> int | None:
    """Return a job's memory in MiB over all its CPUs, None if none was asked for."""
    per_cpu = int_or_none(view, "memory_per_cpu_mib")
    if per_cpu is not None:
        return per_cpu * int_of(view, "cpus", 1)
    per_node = int_or_none(view, "memory_mib")
    return per_node * int_of(view, "num_nodes", 1) if per_node is not None else None


def is_uid(word: str) -> bool:
    """Whether a word that a user typed is a number of a user, which no user may have."""
    return word.isascii() and word.isdigit() and len(word) <= 20


def read_rows(items: "Iterable[Mapping[str, object]]", columns: "list[str]") -> "Iterator[dict[str, object]]":
    """Yield the jobs of a listing by columns, each with those alone; whole jobs, of a controller without columns, as they are."""
    for item in items:
        rows = item.get("rows")
        if isinstance(rows, list):
            for row in rows:
                yield dict(zip(columns, row))  # noqa: B905 - a hundred thousand times, and both are as long
        else:
            yield dict(item)
