"""The environment: what of the submitter's goes along (--export), and the SLURM_ variables of a job.

Which variable is present when is copied from recordings of Slurm 22.05: SLURM_NTASKS only if a number of tasks was
asked for, SLURM_CPUS_PER_TASK only with -c, SLURM_MEM_PER_CPU or SLURM_MEM_PER_NODE but never both.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# What would be wrong or harmful on another machine: agents and sessions of the login, temporary places, and the
# cookie by which sshq finds a job's processes (with it a cancel would find the controller).
DROPPED_PREFIXES = ("SSH_", "DBUS_", "XDG_", "SSHQ_")
DROPPED_NAMES = frozenset(("DISPLAY", "XAUTHORITY", "KRB5CCNAME", "TMPDIR"))
# The node's own, whatever the submitter's are.
NODE_NAMES = frozenset(("HOME", "USER", "SHELL", "LOGNAME"))
# A job submitted from inside a job must not take over the identity of the outer one.
_JOB_PREFIXES = ("SLURM_JOB", "SLURM_ARRAY_", "SLURM_STEP", "SLURM_TASK", "SLURM_NTASKS", "SLURM_CPUS_", "SLURM_MEM_",
                 "SLURM_GPU")  # fmt: skip
_STAYING_PREFIXES = (*DROPPED_PREFIXES, *_JOB_PREFIXES)
_JOB_NAMES = frozenset((
    "ENVIRONMENT", "SLURMD_NODENAME", "SLURM_CLUSTER_NAME", "SLURM_EXPORT_ENV", "SLURM_GTIDS", "SLURM_LOCALID",
    "SLURM_NNODES", "SLURM_NODEID", "SLURM_NODELIST", "SLURM_NODE_ALIASES", "SLURM_NPROCS", "SLURM_PRIO_PROCESS",
    "SLURM_PROCID", "SLURM_RESTART_COUNT", "SLURM_SUBMIT_DIR", "SLURM_SUBMIT_HOST", "SLURM_TOPOLOGY_ADDR",
    "SLURM_TOPOLOGY_ADDR_PATTERN",
))  # fmt: skip


def filter_submitted_environment(environ: "Mapping[str, str]", export: str | None) -> dict[str, str]:
    """Return what of the submitter's environment the job gets.

    Args:
        environ: of sbatch.
        export: the value of --export: None or ALL for all of it, NONE or NIL for nothing of it, else a list of
            names and NAME=value, with ALL among them for the rest too.  The environment wins over a value given
            for a name it has, as sbatch(1) says of ALL.
    """
    words = split_export(export) if export is not None else ["ALL"]
    upper = [word.upper() for word in words]
    if upper in (["NONE"], ["NIL"]):
        return {}
    asked: dict[str, str] = {}  # values written out: they go even where the name would stay behind
    passed: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if equals:
            asked[name] = value
        elif name in environ:
            passed[name] = environ[name]
    if "ALL" in upper:
        passed = dict(environ)
    else:  # a list passes Slurm's own settings too
        passed |= {name: value for name, value in environ.items() if name.startswith("SLURM_")}
    allowed = {name: value for name, value in passed.items() if _may_travel(name)}
    return {name: value for name, value in asked.items() if _may_be_set(name)} | allowed


def split_export(text: str) -> list[str]:
    """Return the items of an --export list; commas in single or double quotes do not split, the quotes go."""
    items: list[str] = []
    item: list[str] = []
    quote = ""
    for letter in text:
        if quote:
            if letter == quote:
                quote = ""
            else:
                item.append(letter)
        elif letter in "'\"":
            quote = letter
        elif letter == ",":
            items.append("".join(item))
            item = []
        else:
            item.append(letter)
    items.append("".join(item))
    return [item for item in items if item]


def read_export_file(content: str) -> dict[str, str]:
    """Return the variables of an --export-file: NAME=value, each ended by a NUL."""
    pairs = (entry.partition("=") for entry in content.split("\0"))
    return {name.lstrip("\n"): value for name, equals, value in pairs if equals and _may_travel(name.lstrip("\n"))}


def job_environment(facts: "Mapping[str, object]") -> dict[str, str]:
    """Return the variables Slurm sets for a batch job or array task, and ours.

    SLURM_TASK_PID and TMPDIR are the node's to add, as only it knows; there is no SLURM_CONF.

    Args:
        facts: a JOB view, and if known: cluster, slot, node (default the first of `nodes`), export (as given),
            ntasks_per_node, cpus_per_node (a list), submit_dir, array_task_min, array_task_max, array_task_step.
    """
    return common_environment(facts) | own_environment(facts)


def common_environment(facts: "Mapping[str, object]") -> dict[str, str]:
    """Return those of them that all tasks of an array have alike on one node: no number, slot or attempt is in them."""
    nodes = _names(facts.get("nodes"))
    node = _text(facts, "node") or (nodes[0] if nodes else "")
    nodes = nodes or [node]
    folded = _fold(nodes)
    cpus = _numbers(facts.get("cpus_per_node")) or [max(1, _number(facts, "cpus", 1) // len(nodes))]
    tasks = _number(facts, "num_tasks", 1)
    account = _text(facts, "account")
    from sshq.slurm.environ_gpus import gpu_variables  # here: sbatch, which needs the upper half of this file, starts without

    variables = {
        "ENVIRONMENT": "BATCH",
        "HOSTNAME": node,
        "SLURMD_NODENAME": node,
        "SLURM_CLUSTER_NAME": _text(facts, "cluster") or "sshq",
        "SLURM_CPUS_ON_NODE": str(cpus[0]),
        "SLURM_GTIDS": "0",
        "SLURM_JOB_CPUS_PER_NODE": fold_counts(cpus, len(nodes)),
        "SLURM_JOB_GID": str(_number(facts, "gid", 0)),
        "SLURM_JOB_NAME": _text(facts, "name"),
        "SLURM_JOB_NODELIST": folded,
        "SLURM_JOB_NUM_NODES": str(len(nodes)),
        "SLURM_JOB_PARTITION": _text(facts, "partition"),
        "SLURM_JOB_QOS": _text(facts, "qos") or "normal",
        "SLURM_JOB_UID": str(_number(facts, "uid", 0)),
        "SLURM_JOB_USER": _text(facts, "user"),
        "SLURM_LOCALID": "0",
        "SLURM_NNODES": str(len(nodes)),
        "SLURM_NODEID": "0",
        "SLURM_NODELIST": folded,
        "SLURM_NODE_ALIASES": "(null)",
        "SLURM_PRIO_PROCESS": "0",
        "SLURM_PROCID": "0",
        "SLURM_SUBMIT_DIR": _text(facts, "submit_dir") or _text(facts, "work_dir"),
        "SLURM_SUBMIT_HOST": _text(facts, "submit_host"),
        "SLURM_TASKS_PER_NODE": fold_counts(_spread_tasks(tasks, facts, cpus, len(nodes)), len(nodes)),
        "SLURM_TOPOLOGY_ADDR": node,
        "SLURM_TOPOLOGY_ADDR_PATTERN": "node",
    }
    if account:
        variables["SLURM_JOB_ACCOUNT"] = account
    return variables | _optional_variables(facts, tasks) | gpu_variables(facts)


def own_environment(facts: "Mapping[str, object]") -> dict[str, str]:
    """Return the variables that tell a job or task from the others of its kind.

    Args:
        facts: job_id, array_job_id, array_task_id, slot, attempt, restarts, and array_task_count, _min, _max, _step.
    """
    job_id = str(_number(facts, "job_id", 0))
    variables = {
        "SLURM_JOBID": job_id,
        "SLURM_JOB_ID": job_id,
        "SSHQ_ATTEMPT": str(_number(facts, "attempt", 1)),
        "SSHQ_SLOT": str(_number(facts, "slot", 0)),
    }
    if _number(facts, "restarts", 0):
        variables["SLURM_RESTART_COUNT"] = str(_number(facts, "restarts", 0))
    return variables | _array_variables(facts)


def fold_counts(counts: "Sequence[int]", nodes: int) -> str:
    """Return counts by node as Slurm writes them: 6,2 or 3(x2); one count stands for every node."""
    counts = list(counts) if len(counts) > 1 else list(counts) * nodes
    runs: list[list[int]] = []
    for count in counts:
        if runs and runs[-1][0] == count:
            runs[-1][1] += 1
        else:
            runs.append([count, 1])
    return ",".join(f"{count}(x{times})" if times > 1 else str(count) for count, times in runs)


def _optional_variables(facts: "Mapping[str, object]", tasks: int) -> dict[str, str]:
    variables: dict[str, str] = {}
    if facts.get("ntasks_given") or facts.get("ntasks_per_node"):
        variables |= {"SLURM_NPROCS": str(tasks), "SLURM_NTASKS": str(tasks)}
    if facts.get("ntasks_per_node"):
        variables["SLURM_NTASKS_PER_NODE"] = str(_number(facts, "ntasks_per_node", 1))
    if facts.get("cpus_per_task_given"):
        variables["SLURM_CPUS_PER_TASK"] = str(_number(facts, "cpus_per_task", 1))
    if isinstance(facts.get("memory_per_cpu_mib"), int):
        variables["SLURM_MEM_PER_CPU"] = str(facts["memory_per_cpu_mib"])
    elif isinstance(facts.get("memory_mib"), int):
        variables["SLURM_MEM_PER_NODE"] = str(facts["memory_mib"])
    if facts.get("open_mode"):  # for the sruns of the job: one that appends must not empty what the attempt before wrote
        variables["SLURM_OPEN_MODE"] = _text(facts, "open_mode")[:1]
    if facts.get("export") is not None:
        variables["SLURM_EXPORT_ENV"] = _text(facts, "export")
    return variables


def _array_variables(facts: "Mapping[str, object]") -> dict[str, str]:
    task = facts.get("array_task_id")
    if not isinstance(task, int):
        return {}
    return {
        "SLURM_ARRAY_JOB_ID": str(_number(facts, "array_job_id", 0)),
        "SLURM_ARRAY_TASK_COUNT": str(_number(facts, "array_task_count", 1)),
        "SLURM_ARRAY_TASK_ID": str(task),
        "SLURM_ARRAY_TASK_MAX": str(_number(facts, "array_task_max", task)),
        "SLURM_ARRAY_TASK_MIN": str(_number(facts, "array_task_min", task)),
        "SLURM_ARRAY_TASK_STEP": str(_number(facts, "array_task_step", 1)),
    }


def _spread_tasks(tasks: int, facts: "Mapping[str, object]", cpus: list[int], nodes: int) -> list[int]:
    if nodes == 1:
        return [tasks]
    if facts.get("ntasks_per_node"):
        return [_number(facts, "ntasks_per_node", 1)]
    each = max(1, _number(facts, "cpus_per_task", 1))
    return [max(1, count // each) for count in cpus] if len(cpus) > 1 else [max(1, tasks // nodes)]


def _may_travel(name: str) -> bool:
    if name in DROPPED_NAMES or name in NODE_NAMES or name in _JOB_NAMES or not name:
        return False
    return not name.startswith(_STAYING_PREFIXES)


def _may_be_set(name: str) -> bool:
    return bool(name) and name not in NODE_NAMES and not name.startswith("SSHQ_")


def _fold(nodes: "Iterable[str]") -> str:
    from sshq.core.hostlist import fold_hostlist

    return fold_hostlist(nodes)


def _text(facts: "Mapping[str, object]", key: str) -> str:
    value = facts.get(key)
    return value if isinstance(value, str) else ""


def _number(facts: "Mapping[str, object]", key: str, default: int) -> int:
    value = facts.get(key)
    return value if isinstance(value, int) else default


def _names(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, (list, tuple)) else []


def _numbers(value: object) -> list[int]:
    return [item for item in value if isinstance(item, int)] if isinstance(value, (list, tuple)) else []
