"""Every `sshq_*` key: its type, what it means, an example, and where it is read.

The table is the documentation (`inventory.example.yaml` and the README are checked against it), the parser,
and the source of the suggestion when a key is unknown.  Adding a key is one row here and one field in
model.py.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from sshq.errors import InventoryError
from sshq.inventory.document import Entry, closest
from sshq.inventory.values import (
    Reader,
    read_account,
    read_boolean,
    read_choice,
    read_directories,
    read_directory,
    read_environment,
    read_gpus,
    read_integer,
    read_memory,
    read_size,
    read_time,
    read_words,
    refuse_template,
)


class Where(Enum):
    """Where a key is read."""

    HOST = "a host, or a group for its hosts"
    PARTITION = "a group's own vars, as a partition"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One row; `field` is the attribute of Host or Partition."""

    name: str
    read: Reader
    field: str
    kind: str
    meaning: str
    example: str
    where: Where = Where.HOST


_HOST_ROWS: Final = (
    Key(name="sshq_use", field="use", read=read_boolean, kind="boolean", example="false",
        meaning="false: takes no part, whatever else applies to it"),
    Key(name="sshq_user", field="account", read=read_account, kind="text", example="lab",
        meaning="the account jobs run as; wins over ansible_user"),
    Key(name="sshq_slots", field="slots", read=read_integer(1, 4096), kind="number", example="4",
        meaning="at most this many tasks at once; default: the machine's CPUs"),
    Key(name="sshq_cpus", field="cpus", read=read_integer(1, 65536), kind="number", example="8",
        meaning="CPUs to hand out; default: what the machine has"),
    Key(name="sshq_memory", field="memory_mib", read=read_memory, kind="memory", example="60G",
        meaning="memory to hand out; default: what the machine has"),
    Key(name="sshq_gpus", field="gpus", read=read_gpus, kind="number, TYPE:number, {TYPE: number} or list", example="a100:2",
        meaning="GPUs to hand out: how many, how many of a type, or which (UUIDs or indices); default: all there are"),
    Key(name="sshq_gpu_idle_memory", field="gpu_idle_mib", read=read_memory, kind="memory", example="1G",
        meaning="a GPU with no process and no more than this in use counts as free (a desktop has some); default 512M"),
    Key(name="sshq_features", field="features", read=read_words, kind="list of words",
        example="[avx2, bigdisk]", meaning="what sbatch --constraint may ask for"),
    Key(name="sshq_weight", field="weight", read=read_integer(0, 1_000_000), kind="number", example="10",
        meaning="hosts of lower weight are filled first; default 1"),
    Key(name="sshq_nice", field="nice", read=read_integer(0, 19), kind="number", example="5",
        meaning="niceness of jobs, so that the machine's owner comes first; default 10"),
    Key(name="sshq_spool", field="spool", read=read_directory, kind="directory", example="/scratch/sshq",
        meaning="where jobs' files stand; default: in the home if that is local, else in /var/tmp"),
    Key(name="sshq_spool_forced", field="spool_forced", read=read_boolean, kind="boolean", example="true",
        meaning="true: take the spool although it is not on a local file system"),
    Key(name="sshq_shared", field="shared", read=read_directories, kind="list of directories",
        example="[/home, /data]", meaning="directories that are the same there as on the head"),
    Key(name="sshq_environment", field="environment", read=read_environment, kind="mapping",
        example="{OMP_PROC_BIND: close}", meaning="variables added to the environment of jobs"),
    Key(name="sshq_python", field="python", read=read_directory, kind="path",
        example="/opt/py311/bin/python3", meaning="the Python that callables run under"),
    Key(name="sshq_container", field="container", kind="docker | podman | apptainer | singularity",
        read=read_choice("docker", "podman", "apptainer", "singularity"), example="podman",
        meaning="what runs containers; default: podman, apptainer, singularity or a rootless docker, the first that is there"),
    Key(name="sshq_cache_max", field="cache_max_bytes", read=read_size(1 << 20, 1 << 60), kind="size", example="50G",
        meaning="how much of the files that jobs brought along (sbatch --sync, --stage-in) is kept for the next; default 10G"),
    Key(name="sshq_channels_max", field="channels_max", read=read_integer(1, 8), kind="number", example="2",
        meaning="channels on the connection; for hosts with a low MaxSessions; default 8"),
)  # fmt: skip
_PARTITION_ROWS: Final = (
    Key(name="sshq_partition", field="partition", read=read_boolean, kind="boolean", example="false",
        meaning="false: this group is no partition", where=Where.PARTITION),
    Key(name="sshq_default", field="default", read=read_boolean, kind="boolean", example="true",
        meaning="true: jobs that name no partition run here instead of in lab", where=Where.PARTITION),
    Key(name="sshq_max_time", field="max_time_s", read=read_time, kind="time", example="2-00:00:00",
        meaning="the longest time limit a job may have", where=Where.PARTITION),
    Key(name="sshq_default_time", field="default_time_s", read=read_time, kind="time", example="1:00:00",
        meaning="the time limit of a job that asks for none", where=Where.PARTITION),
    Key(name="sshq_state", field="state", read=read_choice("UP", "DOWN"), kind="UP | DOWN", example="DOWN",
        meaning="DOWN: jobs may be submitted but none starts", where=Where.PARTITION),
    Key(name="sshq_priority_tier", field="priority_tier", read=read_integer(0, 65533), kind="number",
        example="2", meaning="partitions of a higher tier go first; default 1", where=Where.PARTITION),
    Key(name="sshq_hidden", field="hidden", read=read_boolean, kind="boolean", example="true",
        meaning="true: sinfo and squeue show it only when asked", where=Where.PARTITION),
)  # fmt: skip
_PREFIX: Final = "sshq_"
KEYS: Final[dict[str, Key]] = {key.name: key for key in _HOST_ROWS + _PARTITION_ROWS}


def find_key(entry: Entry) -> Key | None:
    """Return the row of a variable, None if it is not ours; a misspelt one of ours is an error."""
    name = entry.name
    if name in KEYS:
        return KEYS[name]
    folded = name.lower().replace("-", "_")
    if folded.startswith(_PREFIX):
        rest = closest(folded.removeprefix(_PREFIX), [known.removeprefix(_PREFIX) for known in KEYS], cutoff=0.6)
        near = _PREFIX + rest if rest else None
    else:
        # A typo in the prefix would leave the machine out without a word.
        near = closest(folded, KEYS, cutoff=0.9) if len(name) > 8 else None
        if near is None:
            return None
    hint = None if near else "sshq inventory --keys"
    raise entry.key.place.error(f"unknown key `{entry.key.text}`", suggestion=near, hint=hint)


def read_entry(key: Key, entry: Entry) -> object:
    """Return the value of one of our variables, or raise InventoryError with its place."""
    refuse_template(key.name, entry.value)
    return key.read(key.name, entry.value)


def explain_misplaced(key: Key, entry: Entry, host: str) -> InventoryError:
    """Return the error of a partition's key on a host."""
    message = f"`{key.name}` is about a partition: it belongs in a group's vars, not in those of `{host}`"
    return entry.key.place.error(message)


def format_keys() -> str:
    """Return the table as `sshq inventory --keys` prints it."""
    lines: list[str] = []
    for where in Where:
        lines.append(f"In the vars of {where.value}:")
        for key in KEYS.values():
            if key.where is where:
                lines.append(f"  {key.name}: {key.example}  ({key.kind})")
                lines.append(f"      {key.meaning}")
    return "\n".join(lines) + "\n"
