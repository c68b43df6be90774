"""The controller's own settings: `config.yaml`, read with the same care and the same messages as the
inventory.

One flat mapping; every key is a row of `CONFIG_KEYS`, which is its documentation, its type and its default.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Final

from sshq.errors import InventoryError
from sshq.inventory.ansible import Files, OsFiles, explain_os_error
from sshq.inventory.composer import parse_document
from sshq.inventory.document import Map, closest, describe
from sshq.inventory.report import format_value
from sshq.inventory.values import (
    Reader,
    format_duration,
    read_boolean,
    read_choice,
    read_duration,
    read_integer,
    read_license_counts,
    read_local_path,
    read_memory,
    read_size,
    read_time,
)

KIB: Final = 1024
MIB: Final = 1024 * KIB
MINUTE_S: Final = 60
HOUR_S: Final = 3600
DAY_S: Final = 86400
SYSTEM_DIRECTORY: Final = "/etc/sshq"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings with their defaults; None of a path means the place design.md section 8 gives it."""

    state_dir: str | None = None
    socket: str | None = None
    state_on_network: bool = False
    spool_base: str | None = None
    log_level: str = "info"
    log_size_mib: int = 10
    log_files: int = 5
    audit: bool = True
    finished_keep_s: int = DAY_S
    finished_keep_count: int = 10_000
    history_keep_s: int | None = None
    default_time_s: int | None = None
    default_memory_mib: int | None = None
    kill_wait_s: int = 30  # Slurm's KillWait
    over_time_limit_s: int = 0  # Slurm's OverTimeLimit
    backup_interval_s: int | None = HOUR_S
    backup_keep: int = 7
    others_may_list: bool = False
    script_bytes_max: int = 4 * MIB  # Slurm's max_script_size
    environment_bytes_max: int = MIB
    array_size_max: int = 100_001  # Slurm's MaxArraySize is 1001; an array is one record here until its tasks start
    jobs_max: int = 100_000
    objects_bytes_max: int = 20 * 1024 * MIB
    objects_keep_s: int = 7 * DAY_S
    scripts_bytes_max: int = 100 * MIB
    environments_keep_s: int = 0
    licenses: str | None = None
    connect_timeout_s: int = 20
    keepalive_interval_s: int = 15
    keepalive_count: int = 3  # a dead peer is found within a minute
    reconcile_interval_s: int = 45
    inventory_poll_s: int = 1
    lease_min_s: int = 300  # a restart of the controller takes seconds, one of its machine minutes
    path: str | None = None
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigKey:
    """One row; `field` is the attribute of Config."""

    name: str
    field: str
    read: Reader
    kind: str
    meaning: str


def _row(name: str, read: Reader, kind: str, meaning: str) -> ConfigKey:
    # Units stand in the fields' names; in the file they stand in the value.
    suffixes = ("", "_s", "_mib", "_bytes")
    known = {row.name for row in fields(Config)}
    attribute = next((name + suffix for suffix in suffixes if name + suffix in known), name.replace("_max", "_bytes_max"))
    return ConfigKey(name=name, field=attribute, read=read, kind=kind, meaning=meaning)


_ROWS: Final = (
    _row("state_dir", read_local_path, "path", "the controller's database and logs; a local file system"),
    _row("state_on_network", read_boolean, "boolean", "take the risk of a state directory on a network file system"),
    _row("socket", read_local_path, "path", "where commands find the controller"),
    _row("spool_base", read_local_path, "path", "where jobs' files stand on this machine"),
    _row("log_level", read_choice("debug", "info", "warning", "error"), "word", "the least that is logged"),
    _row("log_size", read_size(MIB, 1024 * MIB, unit=MIB), "size", "a log file is rotated at this size"),
    _row("log_files", read_integer(1, 100), "number", "this many rotated log files are kept"),
    _row("audit", read_boolean, "boolean", "write every verb that changes something to audit.jsonl"),
    _row("finished_keep", read_duration(300, 365 * DAY_S), "duration",
         "squeue -t all shows ended jobs till then"),
    _row("finished_keep_count", read_integer(0, 1_000_000), "number", "and at most this many of them"),
    _row("history_keep", read_duration(DAY_S, 36500 * DAY_S, never=True), "duration or never",
         "rows of sacct are removed after this time; never keeps them"),
    _row("default_time", read_time, "time", "the time limit where neither job nor partition has one"),
    _row("default_memory", read_memory, "memory", "memory of a job that asks for none"),
    _row("kill_wait", read_duration(1, HOUR_S), "duration", "from TERM to KILL at a time limit or scancel"),
    _row("over_time_limit", read_duration(0, 30 * DAY_S), "duration", "how long a job may run beyond its time limit"),
    _row("backup_interval", read_duration(MINUTE_S, 30 * DAY_S, never=True), "duration or never",
         "how often the database is copied beside itself"),
    _row("backup_keep", read_integer(1, 1000), "number", "this many copies are kept"),
    _row("others_may_list", read_boolean, "boolean", "other users of this machine may see the queue"),
    _row("script_max", read_size(KIB, 64 * MIB), "size", "the longest batch script"),
    _row("environment_max", read_size(KIB, 16 * MIB), "size", "the largest environment of a job"),
    _row("array_size_max", read_integer(1, 4_000_001), "number", "array indices are below this"),
    _row("jobs_max", read_integer(1, 10_000_000), "number", "jobs in the queue at once"),
    _row("environments_keep", read_duration(0, 3650 * DAY_S), "duration",
         "environments of past jobs are kept so long, to submit them again; they hold secrets"),
    _row("scripts_max", read_size(0, 1 << 50), "size", "scripts of past jobs, kept to submit them again, go beyond this"),
    _row("objects_max", read_size(MIB, 1 << 60), "size", "files of --sync and --stage-in that no job needs go beyond this"),
    _row("objects_keep", read_duration(HOUR_S, 3650 * DAY_S), "duration", "and those that were not used for so long"),
    _row("licenses", read_license_counts, "list", "what `sbatch -L` may hold, and how many of each: matlab:4,fluent"),
    _row("connect_timeout", read_duration(1, 600), "duration", "a host that takes longer to log in is away"),
    _row("keepalive_interval", read_duration(1, 600), "duration", "a silent host is asked if it lives"),
    _row("keepalive_count", read_integer(1, 20), "number", "signs missed until the connection is dead"),
    _row("reconcile_interval", read_duration(5, HOUR_S), "duration", "a host's jobs are listed and compared"),
    _row("lease_min", read_duration(5, DAY_S), "duration", "the shortest `sbatch --lease`"),
    _row("inventory_poll", read_duration(1, 60), "duration", "the inventory is looked at for changes"),
)  # fmt: skip
CONFIG_KEYS: Final[dict[str, ConfigKey]] = {key.name: key for key in _ROWS}


def find_config(environ: Mapping[str, str], home: str) -> str | None:
    """Return the file to read: $SSHQ_HOME's alone if that is set, else the user's, then /etc/sshq's."""
    base = environ.get("SSHQ_HOME")
    places = [base] if base else [os.path.join(home, ".config", "sshq"), SYSTEM_DIRECTORY]
    return next((path for place in places if os.path.exists(path := os.path.join(place, "config.yaml"))), None)


def load_config(path: str | None, *, files: Files | None = None) -> Config:
    """Return the settings of a file, the defaults for None; raise InventoryError for the first fault."""
    if path is None:
        return Config()
    try:
        data = (files or OsFiles()).read(path)
    except (OSError, ValueError) as error:
        raise explain_os_error(path, error) from None
    return parse_config(data, path)


def parse_config(data: bytes, path: str) -> Config:
    """Return the settings that the bytes of a file hold; an empty file holds the defaults."""
    root = parse_document(data, name=path, label=os.path.basename(path))
    if root is None:
        return Config(path=path)
    if not isinstance(root, Map):
        raise root.place.error(f"settings are a mapping, not {describe(root)}", suggestion="log_level: info")
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    for entry in root.entries:
        key = CONFIG_KEYS.get(entry.name)
        if key is None:
            near = closest(entry.name, CONFIG_KEYS, cutoff=0.6)
            hint = None if near else "sshq config --keys"
            raise entry.key.place.error(f"unknown setting `{entry.key.text}`", suggestion=near, hint=hint)
        values[key.field] = key.read(key.name, entry.value)
        origins[key.field] = str(entry.key.place)
    socket = values.get("socket")
    if isinstance(socket, str) and len(os.fsencode(socket)) > 107:
        entry = next(entry for entry in root.entries if entry.name == "socket")
        raise entry.value.place.error("the path of a socket has at most 107 bytes", hint="choose a shorter one")
    build: type = Config
    config = build(path=path, origins=origins, **values)
    if not isinstance(config, Config):
        raise InventoryError("not a configuration", file=path)
    return config


def format_config(config: Config) -> str:
    """Return every setting with its value and the line that says so, as `sshq config` prints it."""
    rows = [(key.name, _show(key, getattr(config, key.field)), config.origins.get(key.field, "default")) for key in _ROWS]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return "".join(f"{name.ljust(widths[0])} = {value.ljust(widths[1])}   {origin}\n" for name, value, origin in rows)


def format_config_keys() -> str:
    """Return the table of settings as `sshq config --keys` prints it."""
    default = Config()
    lines: list[str] = []
    for key in _ROWS:
        lines += [
            f"{key.name}: {_show(key, getattr(default, key.field))}  ({key.kind})",
            f"    {key.meaning}",
        ]
    return "\n".join(lines) + "\n"


def _show(key: ConfigKey, value: object) -> str:
    if key.kind.startswith("duration") and (value is None or isinstance(value, int)):
        return format_duration(value)
    if key.kind == "size" and isinstance(value, int):
        amount = value * MIB if key.field.endswith("_mib") else value
        return f"{amount // MIB}M" if amount >= MIB else f"{amount // KIB}K"
    if value is None:
        return {"time": "unlimited", "path": "the usual place"}.get(key.kind, "none")
    return format_value(key.field, value)
