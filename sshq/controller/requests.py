"""What each request may carry: one table of parameters, checked whole before a desk sees any of it.

A request comes from anybody who may connect, so every value is checked here for its type and its bound, and the desks and
the core may rely on both: a number that no job can have would otherwise meet arithmetic, a database column or a node's
shell.  A key that is not in the table is refused, unless it asks for nothing (null or false): a newer client asks for
something that this controller would leave out in silence.
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Final, NoReturn

from sshq.controller.historyrows import COLUMNS as HISTORY_COLUMNS
from sshq.controller.listing import describe_fault, read_asked
from sshq.controller.rowviews import COLUMNS
from sshq.core.dependency import parse_dependency
from sshq.core.stagenames import PATTERN_BYTES_MAX, PATTERNS_MAX
from sshq.errors import RefusedError
from sshq.slurm.squeue_columns import FORMAT_BYTES_MAX

Check = Callable[[object, str], None]  # raises RefusedError, naming the place

TOO_LONG: Final = "Pathname of a file, directory or other parameter too long"  # Slurm's words
INT_MAX: Final = (1 << 63) - 1
COUNT_MAX: Final = (1 << 31) - 1
UID_MAX: Final = (1 << 32) - 1
LABEL_BYTES_MAX: Final = 1024  # Slurm's: name, comment, account, qos, constraint, partition
PATH_BYTES_MAX: Final = 4095  # Linux's PATH_MAX without the NUL
WORD_BYTES_MAX: Final = (128 << 10) - 1  # of one argument or variable: a longer one no kernel takes (MAX_ARG_STRLEN)
ARGS_BYTES_MAX: Final = 1 << 20
ARRAY_BYTES_MAX: Final = 64 << 10
DEPENDENCY_BYTES_MAX: Final = 128 << 10  # Slurm's
DEPENDENCY_TERMS_MAX: Final = 1000
LIMIT_S_MAX: Final = 0xFFFFFFFD * 60  # Slurm's: 32-bit minutes
MEMORY_MIB_MAX: Final = 1 << 53
NICE_MAX: Final = 2_147_483_645  # Slurm's
PRIORITY_MAX: Final = (1 << 32) - 1
TIME_MAX: Final = 253_402_214_400  # the last day of the year 9999, anywhere
RETRIES_MAX: Final = 999_999_999
SIGNAL_MAX: Final = 31  # those that have a name, the same on all machines
SIGNAL_BEFORE_S_MAX: Final = 0xFFFF
REFS_MAX: Final = 100_000
MANY_MAX: Final = 1000  # submissions of one request
TASKS_MAX: Final = 4_000_001
NAMES_MAX: Final = 65_536
LINES_MAX: Final = 1_000_000
ORIGIN_KEYS_MAX: Final = 64


def check_request(method: str, params: Mapping[str, object]) -> None:
    """Refuse a request that carries what it cannot mean.

    Raises:
        RefusedError: "bad_request" or "too_large", naming the parameter and what it may be.

    """
    table = PARAMETERS.get(method)
    if table is None:
        raise RefusedError(f"no such request: {method!r:.80}", code="bad_request")
    _object(table)(params, "")


def _bad(place: str, what: str) -> NoReturn:
    raise RefusedError(f"{place} is not {what}", code="bad_request")


def _too_long(place: str, size: int, bound: int, unit: str = "bytes") -> NoReturn:
    raise RefusedError(TOO_LONG, code="too_large", detail=(f"{place} has {size} {unit}, {bound} are allowed",))


# ---- of what the table is made ------------------------------------------------------------------------------------


def _flag(value: object, place: str) -> None:
    if not isinstance(value, bool):
        _bad(place, "true or false")


def _whole(low: int, high: int) -> Check:
    def check(value: object, place: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            _bad(place, f"a whole number from {low} to {high}")

    return check


def _number(low: float, high: float) -> Check:
    def check(value: object, place: str) -> None:
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            _bad(place, f"a number from {low:.0f} to {high:.0f}")

    return check


def _text(bytes_max: int = LABEL_BYTES_MAX, *, pattern: str = "", what: str = "") -> Check:
    fits = re.compile(pattern, re.DOTALL).fullmatch if pattern else None

    def check(value: object, place: str) -> None:
        if not isinstance(value, str) or "\0" in value:
            _bad(place, "a text" if not isinstance(value, str) else "a text without NUL bytes")
        if len(value) * 3 > bytes_max and (size := len(value.encode("utf-8", "surrogateescape"))) > bytes_max:
            _too_long(place, size, bytes_max)
        if fits is not None and not fits(value):
            _bad(place, what)

    return check


def _list(member: Check, count_max: int, *, bytes_max: int | None = None) -> Check:
    def check(value: object, place: str) -> None:
        if not isinstance(value, list):
            _bad(place, "a list")
        if len(value) > count_max:
            _too_long(place, len(value), count_max, "members")
        for number, one in enumerate(value):
            member(one, f"{place}[{number}]")
        if bytes_max is not None:
            size = sum(len(one.encode("utf-8", "surrogateescape")) + 1 for one in value)
            if size > bytes_max:
                _too_long(place, size, bytes_max)

    return check


def _object(table: Mapping[str, Check], *, never_null: frozenset[str] = frozenset()) -> Check:
    def check(value: object, place: str) -> None:
        if not isinstance(value, dict):
            _bad(place or "params", "an object")
        for key, one in value.items():
            where = f"{place}.{key}" if place else key
            known = table.get(key)
            if known is not None and (one is not None or key in never_null):
                known(one, where)
            elif known is None and one is not None and one is not False:
                raise RefusedError(
                    f"unknown parameter {where[:200]!r}", code="bad_request",
                    detail=("a newer sshq may know it; nothing was done, so that nothing it asks for is left out",),
                    hint="sshq down && sshq up starts the controller of the installed release",
                )  # fmt: skip

    return check


def _either(what: str, *choices: Check) -> Check:
    def check(value: object, place: str) -> None:
        for choice in choices:
            try:
                choice(value, place)
            except RefusedError as error:
                if error.code == "too_large":
                    raise
            else:
                return
        _bad(place, what)

    return check


def _one_of(*words: object) -> Check:
    def check(value: object, place: str) -> None:
        if not any(value is word or (isinstance(word, str) and value == word) for word in words):
            _bad(place, "one of " + ", ".join(str(word).lower() for word in words))

    return check


# ---- what takes more than a type -----------------------------------------------------------------------------------


def _ref(value: object, place: str) -> None:
    """[job], [job, null], [job, task] or [job, [task, ...]]."""
    if not isinstance(value, list) or not 1 <= len(value) <= 2:
        raise RefusedError("Invalid job id specified", code="bad_request", detail=(f"{place} is not [job, task]",))
    _whole(0, INT_MAX)(value[0], f"{place}[0]")
    if len(value) == 2 and value[1] is not None:
        tasks = _either("a task or a list of tasks", _whole(0, INT_MAX), _list(_whole(0, INT_MAX), TASKS_MAX))
        tasks(value[1], f"{place}[1]")


def _step(value: object, place: str) -> None:
    """[job, task or null, number of the step]."""
    if not isinstance(value, list) or len(value) != 3:
        raise RefusedError("Invalid job id specified", code="bad_request", detail=(f"{place} is not [job, task, step]",))
    _ref(value[:2], place)
    if isinstance(value[1], list):
        _bad(f"{place}[1]", "a task")
    _whole(0, INT_MAX)(value[2], f"{place}[2]")


def _origin(value: object, place: str) -> None:
    """What a client tells of itself.  Keys that are not known here are no request, so a newer client may tell more."""
    if not isinstance(value, dict):
        _bad(place, "an object")
    if len(value) > ORIGIN_KEYS_MAX:
        _too_long(place, len(value), ORIGIN_KEYS_MAX, "members")
    for key, one in value.items():
        _text(PATH_BYTES_MAX)(one, f"{place}.{key[:64]}")


def _warning_signal(value: object, place: str) -> None:
    if not isinstance(value, list) or len(value) != 3:
        _bad(place, "[signal, seconds before the limit, batch script only]")
    _whole(1, SIGNAL_MAX)(value[0], f"{place}[0]")
    _whole(0, SIGNAL_BEFORE_S_MAX)(value[1], f"{place}[1]")
    _flag(value[2], f"{place}[2]")


def _dependency(value: object, place: str) -> None:
    _text(DEPENDENCY_BYTES_MAX)(value, place)
    try:
        count = len(parse_dependency(str(value)).terms)
    except ValueError:
        return  # refused by the core, in Slurm's words
    if count > DEPENDENCY_TERMS_MAX:
        _too_long(place, count, DEPENDENCY_TERMS_MAX, "jobs")


def _columns(known: Collection[str]) -> Check:
    def check(value: object, place: str) -> None:
        if not isinstance(value, list) or not value or len(value) > len(known):
            _bad(place, "a list of columns")
        for name in value:
            if not isinstance(name, str) or name not in known:
                _bad(place, f"columns among {', '.join(known)}")

    return check


def _listing(value: object, place: str) -> None:
    _object({
        "format": _text(FORMAT_BYTES_MAX), "long": _flag, "sort": _text(256), "states": _list(_text(32), 64), "nodes": _names,
    })(value, place)  # fmt: skip
    if (fault := describe_fault(read_asked(value))) is not None:  # type: ignore[arg-type]  # it is an object
        _bad(place, f"one that can be made: {fault}")


def _environ(value: object, place: str) -> None:
    if not isinstance(value, dict):
        _bad(place, "an object")
    for name, content in value.items():
        where = f"{place}.{name[:64]}"
        if not name or "=" in name or "\0" in name or not isinstance(content, str) or "\0" in content:
            _bad(where, "a variable: a name without = and a text, both without NUL bytes")
        size = len(name.encode("utf-8", "surrogateescape")) + len(content.encode("utf-8", "surrogateescape")) + 1
        if size > WORD_BYTES_MAX:
            raise RefusedError(
                TOO_LONG, code="too_large", detail=(f"the variable {where} has {size} bytes, {WORD_BYTES_MAX} are allowed",),
                hint="no program can be started with it; sbatch --export=NONE, or name those you need",
            )  # fmt: skip


_nice = _whole(-NICE_MAX, NICE_MAX)
_time = _number(0, TIME_MAX)
_count = _whole(1, COUNT_MAX)
_names = _list(_text(), NAMES_MAX)
_refs = _list(_ref, REFS_MAX)
_path = _text(PATH_BYTES_MAX)
_absolute = _text(PATH_BYTES_MAX, pattern="/.*", what="an absolute path")

_FILTER: Final[Mapping[str, Check]] = {
    "refs": _refs, "users": _names, "uids": _list(_whole(0, UID_MAX), NAMES_MAX), "states": _names, "partitions": _names,
    "names": _names, "nodes": _names, "kinds": _names, "accounts": _names, "qos": _names,
}  # fmt: skip

_DESCRIPTION: Final[Mapping[str, Check]] = {
    "kind": _text(64), "name": _text(), "command": _text(PATH_BYTES_MAX + 1 + ARGS_BYTES_MAX),
    "script": _text(64 << 20),  # config.yaml has the bound
    "args": _list(_text(WORD_BYTES_MAX), ARGS_BYTES_MAX, bytes_max=ARGS_BYTES_MAX),
    "work_dir": _absolute, "submit_dir": _absolute, "submit_host": _text(255), "submit_line": _text(4096),
    "std_out": _path, "std_err": _path, "std_in": _path, "result": _path,
    "open_mode": _one_of("append", "truncate"),
    "umask": _whole(0, 0o777), "export": _text(ARRAY_BYTES_MAX),
    "partition": _list(_text(), LABEL_BYTES_MAX, bytes_max=LABEL_BYTES_MAX),
    "time_limit_s": _whole(-1, LIMIT_S_MAX), "num_nodes": _count, "nodes_given": _flag, "num_tasks": _count,
    "ntasks_given": _flag, "ntasks_per_node": _whole(0, COUNT_MAX), "cpus_per_task": _count, "cpus_per_task_given": _flag,
    "memory_mib": _whole(0, MEMORY_MIB_MAX), "memory_per_cpu_mib": _whole(0, MEMORY_MIB_MAX),
    "req_nodes": _text(ARRAY_BYTES_MAX), "exc_nodes": _text(ARRAY_BYTES_MAX), "features": _text(), "exclusive": _flag,
    "nice": _nice, "priority": _whole(0, PRIORITY_MAX), "held": _flag, "begin_at": _time, "deadline_at": _time,
    "dependency": _dependency, "kill_on_invalid_dep": _flag, "requeue": _one_of(True, False, "always"),
    "retries": _whole(0, RETRIES_MAX), "lease_s": _whole(1, LIMIT_S_MAX),
    "signal": _warning_signal, "comment": _text(), "account": _text(), "qos": _text(),
    "min_cpus": _whole(0, COUNT_MAX), "tmp_disk_mib": _whole(0, MEMORY_MIB_MAX), "prefer": _text(), "overcommit": _flag,
    "licenses": _text(), "reservation": _text(),
    "gpus_per_node": _text(), "gpus_by_gres": _flag, "gpus_total": _text(), "gpus_per_task": _text(),
    "ntasks_per_gpu": _whole(0, COUNT_MAX), "cpus_per_gpu": _whole(0, COUNT_MAX), "memory_per_gpu_mib": _whole(0, MEMORY_MIB_MAX),
    "limits": _object(dict.fromkeys(
        ("AS", "CORE", "CPU", "DATA", "FSIZE", "MEMLOCK", "NOFILE", "NPROC", "RSS", "STACK"), _whole(-1, INT_MAX),
    )),
    "stage_out": _list(_text(PATTERN_BYTES_MAX), PATTERNS_MAX),
    "python": _text(16 << 10),
    "tree": _text(64, pattern=r"[0-9a-f]{64}", what="the name of a tree"), "tree_below": _path, "frozen": _flag,
    "container": _path, "container_mounts": _list(_list(_either("a path or a flag", _path, _flag), 3), NAMES_MAX),
    "container_workdir": _absolute, "container_pull": _one_of("never", "missing", "always"), "container_env": _names,
    "origin": _origin, "anywhere": _flag, "array": _text(ARRAY_BYTES_MAX), "array_limit": _whole(0, COUNT_MAX),
}  # fmt: skip

_CHANGES: Final[Mapping[str, Check]] = {
    "name": _text(), "partition": _either("a partition or a list of them", _text(), _DESCRIPTION["partition"]),
    "time_limit_s": _DESCRIPTION["time_limit_s"], "nice": _nice, "priority": _DESCRIPTION["priority"], "comment": _text(),
    "begin_at": _time, "deadline_at": _time, "end_at": _time, "dependency": _dependency, "features": _text(),
    "req_nodes": _names, "exc_nodes": _names, "requeue": _flag, "array_limit": _whole(0, COUNT_MAX), "num_tasks": _count,
    "num_nodes": _count, "num_cpus": _count, "cpus_per_task": _count, "ntasks_per_node": _count,
    "memory_mib": _DESCRIPTION["memory_mib"], "memory_per_cpu_mib": _DESCRIPTION["memory_per_cpu_mib"],
    "min_cpus": _DESCRIPTION["min_cpus"], "tmp_disk_mib": _DESCRIPTION["tmp_disk_mib"], "prefer": _text(),
    "licenses": _text(), "reservation": _text(),
    "account": _text(), "qos": _text(), "std_out": _path, "work_dir": _absolute, "exclusive": _flag,
    "hold": _flag, "held": _flag,
}  # fmt: skip
_CHANGES_NEVER_NULL: Final = frozenset(_CHANGES) - {"time_limit_s", "begin_at", "deadline_at", "priority", "memory_mib",
                                                    "comment", "dependency", "features"}  # fmt: skip

_filter = _object(_FILTER)
_token = _text(40, pattern="[A-Za-z0-9]+", what="a word of letters and digits")
_data = _text(64 << 10)  # base64
_size = _whole(0, 65535)
_PART: Final[Mapping[str, Check]] = {
    "ref": _ref, "token": _token, "argv": _list(_text(WORD_BYTES_MAX), ARGS_BYTES_MAX, bytes_max=ARGS_BYTES_MAX),
    "environ": _environ, "work_dir": _absolute, "umask": _whole(0, 0o777), "step": _flag, "main": _flag,
}  # fmt: skip

_DIRECTORY: Final = _object({
    "path": _absolute, "dev": _whole(0, INT_MAX), "ino": _whole(0, INT_MAX), "nonce_path": _path, "nonce": _text(64),
    "seen_from": _text(255), "final": _flag,
})  # fmt: skip

PARAMETERS: Final[Mapping[str, Mapping[str, Check]]] = {
    "ping": {}, "info": {}, "hosts": {}, "status": {}, "stats": {}, "reload": {}, "down": {},
    "submit_many": {
        "descriptions": _list(_object(_DESCRIPTION), MANY_MAX), "common": _object(_DESCRIPTION), "environ": _environ,
        "token": _text(64, pattern="[0-9a-f]{8,64}", what="a token of 8 to 64 hexadecimal digits"), "directory": _DIRECTORY,
        "at": _whole(0, COUNT_MAX), "more": _flag,
    },
    "submit": {
        "description": _object(_DESCRIPTION), "environ": _environ, "token": _text(64), "fresh": _flag, "test_only": _flag,
        "directory": _DIRECTORY,
    },
    "jobs": {"filter": _filter, "finished": _flag, "columns": _columns(COLUMNS), "listing": _listing},
    "wait": {"ids": _list(_whole(0, INT_MAX), REFS_MAX), "staging": _text(5, pattern="also|alone", what="also or alone")},
    "events": {"filter": _filter, "count": _whole(0, INT_MAX), "brief": _flag},
    "steps": {"filter": _filter},
    "cancel_steps": {"steps": _list(_step, REFS_MAX), "signal": _whole(1, SIGNAL_MAX)},
    "history": {
        "filter": _filter, "steps": _flag, "start_at": _number(-TIME_MAX, TIME_MAX), "end_at": _number(-TIME_MAX, TIME_MAX),
        "columns": _columns(HISTORY_COLUMNS),
    },
    "why": {"ref": _ref},
    "provenance": {"ref": _ref, "environ": _environ, "again": _flag},
    "script": {"ref": _ref},
    "logs": {
        "ref": _ref, "stream": _one_of("out", "err"), "follow": _flag, "offset": _whole(0, INT_MAX),
        "attempt": _whole(0, INT_MAX),
    },
    "cancel": {"filter": _filter, "signal": _whole(1, SIGNAL_MAX), "batch": _flag, "full": _flag, "hurry": _flag},
    "hold": {"refs": _refs, "user": _flag},
    "release": {"refs": _refs},
    "requeue": {"refs": _refs, "hold": _flag},
    "top": {"refs": _refs},
    "suspend": {"refs": _refs},
    "resume": {"refs": _refs},
    "update_job": {"refs": _refs, "changes": _object(_CHANGES, never_null=_CHANGES_NEVER_NULL)},
    "purge": {"older_than_s": _number(0, TIME_MAX), "refs": _refs},
    "update_node": {
        "names": _names, "state": _text(64), "reason": _text(), "weight": _whole(0, COUNT_MAX), "features": _names,
        "comment": _text(),
    },
    "update_partition": {
        "names": _names, "state": _text(64), "max_time_s": _whole(-1, LIMIT_S_MAX), "default_time_s": _whole(-1, LIMIT_S_MAX),
        "default": _flag, "hidden": _flag, "priority_tier": _whole(0, 65533),
    },
    "reservation": {
        "verb": _one_of("create", "update", "delete"), "name": _text(),
        "changes": _object({
            "start_at": _time, "end_at": _time, "duration_s": _whole(1, LIMIT_S_MAX), "nodes": _names, "node_count": _count,
            "users": _names, "accounts": _names, "flags": _names, "partition": _text(), "comment": _text(),
        }),
    },
    "hosts_retry": {"names": _names},
    "hosts_accept": {"names": _names},
    "hosts_remove": {"name": _text(), "purge": _flag, "force": _flag},
    "doctor": {"names": _names},
    "shared": {"path": _absolute, "directory": _DIRECTORY},
    "follow_job": {"ref": _ref},
    "part_start": {**_PART, "input": _flag},
    "part_output": {"ref": _ref, "token": _token, "stream": _one_of("out", "err"), "offset": _whole(0, INT_MAX)},
    "part_input": {"ref": _ref, "token": _token, "number": _whole(0, INT_MAX), "data": _data},
    "part_signal": {"ref": _ref, "token": _token, "signal": _whole(1, SIGNAL_MAX)},
    "finish": {"ref": _ref, "code": _whole(0, 255)},
    "attach": {**_PART, "term": _text(64, pattern="[!-~]*", what="a terminal's name"), "rows": _size, "columns": _size},
    "attach_input": {"token": _token, "data": _data, "rows": _size, "columns": _size},
    "job_files": {"ref": _ref, "path": _path},
    "job_file": {"ref": _ref, "name": _path, "size": _whole(0, INT_MAX), "offset": _whole(0, INT_MAX)},
    "controller_log": {"lines": _whole(0, LINES_MAX), "follow": _flag},
}  # fmt: skip
