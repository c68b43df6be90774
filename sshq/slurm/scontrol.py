"""scontrol's words: the verbs, and the key=value pairs of `scontrol update`.

Keys are case-insensitive and may be shortened as Slurm allows; a key sshq cannot honour is refused in Slurm's words,
never dropped.
"""

from sshq.errors import OptionError
from sshq.slurm.getopt import Parsed, parse_options
from sshq.slurm.messages import ExactError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

VERBS = (
    "cancel_reboot", "completing", "config", "create", "delete", "errnumstr", "help", "hold", "listpids", "notify",
    "pidinfo", "ping", "quiet", "quit", "exit", "reboot", "reconfigure", "release", "requeue", "requeuehold", "resume",
    "schedloglevel", "setdebug", "show", "shutdown", "suspend", "takeover", "token", "top", "uhold", "update", "verbose",
    "version", "wait_job", "write",
)  # fmt: skip
SUPPORTED = (
    "completing", "create", "delete", "errnumstr", "exit", "help", "hold", "listpids", "ping", "quit", "reconfigure", "release",
    "requeue", "requeuehold", "resume", "show", "suspend", "top", "uhold", "update", "version", "wait_job", "write",
)  # fmt: skip
ENTITIES = (
    "aliases", "assoc_mgr", "bbstat", "burstbuffer", "config", "daemons", "dwstat", "federation", "hostlist",
    "hostlistsorted", "hostnames", "jobs", "licenses", "nodes", "partitions", "reservations", "slurmd", "steps", "topology",
)  # fmt: skip
VALID_NODE_STATES = "NoResp DRAIN FAIL FUTURE RESUME POWER_DOWN POWER_UP UNDRAIN"
NODE_STATES = {
    "drain": "drain", "resume": "resume", "undrain": "resume", "down": "down", "idle": "resume", "fail": "fail",
}  # fmt: skip
NAMED_ENTITIES = 'Input line must include "NodeName", "PartitionName", "JobId", or "Reservation"'
_LEAST_LETTERS = 3  # of a shortened verb or key; Slurm's own minimum differs by word


class Update:
    """One `scontrol update`: of what ("job", "node", "partition"), which ones, and the changes by our field names."""

    __slots__ = ("changes", "entity", "names")

    def __init__(self, entity: str, names: list[str], changes: dict[str, object]) -> None:
        self.entity = entity
        self.names = names
        self.changes = changes


def parse_scontrol(argv: "Sequence[str]", environ: "Mapping[str, str]") -> Parsed:
    """Return the options, and the words as `arguments`; options may stand anywhere."""
    return parse_options("scontrol", argv, environ)


def find_verb(word: str) -> str:
    """Return the verb a word stands for, in full.

    Raises:
        ExactError: no such verb.
    """
    found = _find(word, VERBS)
    if found is None:
        raise ExactError((f"invalid keyword: {word}",))
    return found


def find_entity(word: str) -> str:
    """Return what `scontrol show` shall show, in full: "jobs" for job, "nodes" for node, and so on.

    Raises:
        ExactError: no such thing.
    """
    found = _find(word, ENTITIES)
    if found is None:
        raise ExactError((f"invalid entity:{word} for keyword:show ",))
    return found


def parse_update(words: "Sequence[str]", now: float) -> Update:
    """Return what the words behind `scontrol update` ask for.

    `job 12 Nice=5` and `jobid=12 nice=5` mean the same.

    Raises:
        OptionError: a word that is no pair, an unknown key, or a bad value, in Slurm's words.
    """
    pairs = _read_pairs(words)
    if not pairs:
        raise ExactError(("No valid entity in update command", NAMED_ENTITIES))
    for (key, value, _), (entity, keys) in ((pair, kind) for pair in pairs for kind in _ENTITY_KEYS):
        if key in keys:
            rest = [pair for pair in pairs if pair[0] != key]
            return Update(entity, _split_names(entity, value), _READERS[entity](rest, now))
    raise ExactError((f"Update of this parameter is not supported: {pairs[0][2]}", "Request aborted"))


_ENTITY_KEYS = (
    ("job", ("jobid", "job")),
    ("node", ("nodename", "node")),
    ("partition", ("partitionname",)),
)


def _find(word: str, known: "Sequence[str]") -> str | None:
    lower = word.lower()
    if lower in known:
        return lower
    matches = [name for name in known if name.startswith(lower)]
    return matches[0] if matches and (len(lower) >= _LEAST_LETTERS or len(matches) == 1) else None


def _read_pairs(words: "Sequence[str]") -> list[tuple[str, str, str]]:
    """Return (key in small letters, value, as written) of each word; `job 12` counts as job=12."""
    pairs = []
    rest = iter(words)
    for word in rest:
        key, equals, value = word.partition("=")
        if not equals and key.lower() in ("job", "jobid", "node", "nodename", "partition", "partitionname"):
            value = next(rest, "")
            key = "partitionname" if key.lower() == "partition" else key
        elif not equals or key.endswith(("+", "-")):
            raise ExactError((f"Invalid input: {word}", "Request aborted"))
        pairs.append((key.lower(), value, word))
    return pairs


def _split_names(entity: str, value: str) -> list[str]:
    if entity == "node":
        from sshq.core.hostlist import expand_hostlist

        try:
            return expand_hostlist(value)
        except ValueError:
            raise ExactError(("slurm_update error: Invalid node name specified",)) from None
    if entity == "job":
        from sshq.core.ids import split_job_list

        return [name for name in split_job_list(value) if name]
    return [value]


def _read_job_changes(pairs: list[tuple[str, str, str]], now: float) -> dict[str, object]:
    changes: dict[str, object] = {}
    for key, value, written in pairs:
        reader = _JOB_KEYS.get(key)
        if reader is None:
            raise ExactError((f"Update of this parameter is not supported: {written}", "Request aborted"))
        field, read = reader
        changes[field] = read(value, now)
    return changes


def _read_node_changes(pairs: list[tuple[str, str, str]], now: float) -> dict[str, object]:  # noqa: ARG001
    changes: dict[str, object] = {}
    for key, value, written in pairs:
        if key == "state":
            state = NODE_STATES.get(value.lower())
            if state is None:
                raise ExactError((
                    f"Invalid input: {written}", "Request aborted", f"Valid states are: {VALID_NODE_STATES}",
                    "Not all states are valid given a node's prior state",
                ))  # fmt: skip
            changes["state"] = state
        elif key in ("reason", "comment"):
            changes[key] = value
        elif key == "weight" and value.isascii() and value.isdigit() and len(value) < 10:
            changes["weight"] = int(value)
        elif key in ("features", "availablefeatures", "activefeatures"):
            changes["features"] = [word for word in value.split(",") if word]
        else:
            raise ExactError((f"Update of this parameter is not supported: {written}", "Request aborted"))
    if changes.get("state") in ("drain", "down", "fail") and not changes.get("reason"):
        raise ExactError(("You must specify a reason when DOWNING or DRAINING a node. Request denied",))
    return changes


def _read_partition_changes(pairs: list[tuple[str, str, str]], now: float) -> dict[str, object]:
    changes: dict[str, object] = {}
    for key, value, written in pairs:
        if key == "state":
            changes["state"] = _read_word(value, written, "State", ("UP", "DOWN", "DRAIN", "INACTIVE"))
        elif key in ("maxtime", "defaulttime"):
            changes["max_time_s" if key == "maxtime" else "default_time_s"] = _read_limit(value, now)
        elif key in ("default", "hidden"):
            changes[key] = _read_word(value, written, key.title(), ("YES", "NO")) == "YES"
        elif key == "prioritytier" and value.isascii() and value.isdigit() and len(value) < 5:
            changes["priority_tier"] = int(value)
        else:
            hint = "hosts of a partition come from the inventory" if key == "nodes" else None
            raise ExactError((f"Update of this parameter is not supported: {written}", "Request aborted"), hint=hint)
    return changes


def _read_word(value: str, written: str, name: str, words: tuple[str, ...]) -> str:
    if value.upper() not in words:
        acceptable = f"Acceptable {name} values are {', '.join(words[:-1])}{',' if len(words) > 2 else ''} and {words[-1]}"
        raise ExactError((f"Invalid input: {written}", "Request aborted", acceptable))
    return value.upper()


def _read_limit(value: str, now: float) -> int:
    """Return seconds, -1 for none, of a time that is no change of another."""
    limit = None if value[:1] == "+" else _read_time_limit(value, now)
    if not isinstance(limit, int):
        raise OptionError("Invalid TimeLimit value", detail=(value,))
    return limit


def _read_time_limit(value: str, now: float) -> object:  # noqa: ARG001
    """Return seconds, -1 for none, or {"add_s": …} for +5 and -5 minutes."""
    from sshq.core.units import parse_time_limit

    sign = value[:1] if value[:1] in ("+", "-") and value != "-1" else ""
    try:
        limit_s = parse_time_limit(value[len(sign) :])
    except ValueError:
        raise OptionError("Invalid TimeLimit value", detail=(f"TimeLimit={value}",)) from None
    if sign:
        return {"add_s": (limit_s or 0) * (-1 if sign == "-" else 1)}
    return -1 if limit_s is None else limit_s


def _read_text(value: str, now: float) -> str:  # noqa: ARG001
    return value


def _read_count(name: str) -> "Callable[[str, float], int]":
    """Return the reader of a number; of a range MIN-MAX, the least."""

    def read(value: str, now: float) -> int:  # noqa: ARG001
        low, dash, high = value.partition("-")
        if not (low.isascii() and low.isdigit()) or len(low) > 9 or (dash and not high.isdigit()):
            raise OptionError(f"Invalid {name} value", detail=(f"{name}={value}",))
        return int(low)

    return read


def _read_memory(name: str) -> "Callable[[str, float], int]":
    def read(value: str, now: float) -> int:  # noqa: ARG001
        from sshq.core.units import parse_memory

        try:
            return parse_memory(value)
        except ValueError as error:
            raise OptionError(f"Invalid {name} value", detail=(f"{name}={value}", str(error))) from None

    return read


def _read_nice(value: str, now: float) -> int:  # noqa: ARG001
    sign = -1 if value.startswith("-") else 1
    digits = value.lstrip("+-")
    if value and not (digits.isascii() and digits.isdigit() and len(digits) < 11):
        raise OptionError("Invalid Nice value", detail=(f"Nice={value}", "Nice is a whole number."))
    return sign * int(digits) if digits else 100  # Slurm's for an empty one


def _read_priority(value: str, now: float) -> int:  # noqa: ARG001
    if not (value.isascii() and value.isdigit()) or int(value) > 0xFFFFFFFE:
        raise OptionError("Invalid Priority value", detail=(f"Priority={value}",))
    return int(value)


def _read_oversubscribe(value: str, now: float) -> bool:  # noqa: ARG001
    words = {"yes": False, "ok": False, "1": False, "user": True, "no": True, "0": True}
    if value.lower() not in words:
        raise OptionError("Invalid OverSubscribe value", detail=(f"OverSubscribe={value}", "yes or no."))
    return words[value.lower()]


def _read_begin(value: str, now: float) -> float:
    import time

    from sshq.core.times import parse_begin

    try:
        return parse_begin(value, now, lambda at: time.localtime(at).tm_gmtoff)
    except ValueError as error:
        raise ExactError((str(error), "Request aborted")) from None


def _read_yes(value: str, now: float) -> bool:  # noqa: ARG001
    if value.lower() not in ("0", "1", "yes", "no"):
        raise OptionError(f"Invalid Requeue value: {value}")
    return value.lower() in ("1", "yes")


def _read_hosts(value: str, now: float) -> list[str]:  # noqa: ARG001
    from sshq.core.hostlist import expand_hostlist

    try:
        return expand_hostlist(value) if value else []
    except ValueError:
        raise ExactError(("Invalid node name specified",)) from None


_JOB_KEYS: "dict[str, tuple[str, Callable[[str, float], object]]]" = {
    "account": ("account", _read_text),
    "arraytaskthrottle": ("array_limit", _read_count("ArrayTaskThrottle")),
    "comment": ("comment", _read_text),
    "cpuspertask": ("cpus_per_task", _read_count("CPUsPerTask")),
    "deadline": ("deadline_at", _read_begin),
    "dependency": ("dependency", _read_text),
    "eligibletime": ("begin_at", _read_begin),
    "endtime": ("end_at", _read_begin),
    "excnodelist": ("exc_nodes", _read_hosts),
    "features": ("features", _read_text),
    "jobname": ("name", _read_text),
    "licenses": ("licenses", _read_text),
    "mincpusnode": ("min_cpus", _read_count("MinCPUsNode")),
    "minmemorycpu": ("memory_per_cpu_mib", _read_memory("MinMemoryCPU")),
    "minmemorynode": ("memory_mib", _read_memory("MinMemoryNode")),
    "mintmpdisknode": ("tmp_disk_mib", _read_memory("MinTmpDiskNode")),
    "name": ("name", _read_text),
    "nice": ("nice", _read_nice),
    "nodelist": ("req_nodes", _read_hosts),
    "numcpus": ("num_cpus", _read_count("NumCPUs")),
    "numnodes": ("num_nodes", _read_count("NumNodes")),
    "numtasks": ("num_tasks", _read_count("NumTasks")),
    "oversubscribe": ("exclusive", _read_oversubscribe),
    "partition": ("partition", _read_text),
    "prefer": ("prefer", _read_text),
    "priority": ("priority", _read_priority),
    "qos": ("qos", _read_text),
    "reqcpus": ("num_cpus", _read_count("NumCPUs")),
    "reqnodelist": ("req_nodes", _read_hosts),
    "reqnodes": ("num_nodes", _read_count("NumNodes")),
    "reqprocs": ("num_cpus", _read_count("NumCPUs")),
    "requeue": ("requeue", _read_yes),
    "reservation": ("reservation", _read_text),
    "reservationname": ("reservation", _read_text),
    "shared": ("exclusive", _read_oversubscribe),
    "starttime": ("begin_at", _read_begin),
    "stdout": ("std_out", _read_text),
    "tasks": ("num_tasks", _read_count("NumTasks")),
    "tasksperjob": ("num_tasks", _read_count("NumTasks")),
    "taskspernode": ("ntasks_per_node", _read_count("TasksPerNode")),
    "timelimit": ("time_limit_s", _read_time_limit),
    "workdir": ("work_dir", _read_text),
}
_READERS = {"job": _read_job_changes, "node": _read_node_changes, "partition": _read_partition_changes}
