"""scontrol's words on reservations: the pairs of `create` and `update`, and how one is shown.

Texts of errors are Slurm's; a key that sshq cannot honour is refused, never dropped.
"""

import time
from collections.abc import Mapping, Sequence

from sshq.errors import OptionError
from sshq.slurm.messages import ExactError

KEYS = ("reservationname", "reservation")
_FLAGS = ("MAINT", "IGNORE_JOBS", "OVERLAP", "SPEC_NODES", "ALL_NODES", "ANY_NODES")
_NOT_CREATED = "  No reservation created."


class ReservationWords:
    """What `create` or `update` of a reservation asks for: its name, None if one is to be made, and the changes."""

    __slots__ = ("changes", "name")

    def __init__(self, name: str | None, changes: dict[str, object]) -> None:
        self.name = name
        self.changes = changes


def parse_reservation(words: Sequence[str], now: float, *, update: bool = False) -> ReservationWords:
    """Return what the words behind `scontrol create reservation`, or `update reservationname=…`, ask for.

    Raises:
        OptionError: in Slurm's words.
    """
    tail = "  Reservation not updated." if update else _NOT_CREATED
    name: str | None = None
    changes: dict[str, object] = {}
    for word in words:
        key, equals, value = word.partition("=")
        lower = key.lower()
        if not equals and lower in KEYS:
            continue
        if not equals:
            raise OptionError(f"Unknown parameter {word}.{tail}")
        if lower in KEYS:
            name = value
            continue
        reader = next((reader for known, reader in _READERS.items() if len(lower) >= 3 and known.startswith(lower)), None)
        if reader is None:
            raise OptionError(f"Unknown parameter {word}.{tail}")
        changes |= reader(value, now, tail)
    if not update:
        _check_new(changes)
    return ReservationWords(name, changes)


def _check_new(changes: Mapping[str, object]) -> None:
    start, end, length = changes.get("start_at"), changes.get("end_at"), changes.get("duration_s")
    if start is None:
        raise OptionError(f"A start time must be given.{_NOT_CREATED}", hint="StartTime=now Duration=2:00:00")
    if end is None and length is None:
        raise OptionError(f"An end time or duration must be given.{_NOT_CREATED}", hint="Duration=2:00:00")
    if isinstance(start, (int, float)) and isinstance(end, (int, float)):
        if start > end:
            raise OptionError(f"Start time cannot be after end time.{_NOT_CREATED}")
        if isinstance(length, int) and start + length != end:
            raise OptionError(f"StartTime + Duration does not equal EndTime.{_NOT_CREATED}")
    if not {"nodes", "node_count", "partition"} & set(changes):
        raise OptionError(f"CoreCnt, Nodes, NodeCnt, TRES or Watts must be specified.{_NOT_CREATED}", hint="Nodes=ALL")
    if not changes.get("users") and not changes.get("accounts"):
        raise OptionError(f"Either Users/Groups and/or Accounts must be specified.{_NOT_CREATED}", hint="Users=root")


def _read_at(field: str, what: str) -> "Reader":
    def read(value: str, now: float, tail: str) -> dict[str, object]:
        from sshq.core.times import parse_begin

        try:
            return {field: parse_begin(value, now, lambda at: time.localtime(at).tm_gmtoff)}
        except ValueError:
            raise OptionError(f"Invalid {what} time {value}.{tail}") from None

    return read


def _read_duration(value: str, _now: float, tail: str) -> dict[str, object]:
    from sshq.core.units import parse_time_limit

    try:
        length_s = parse_time_limit(value)
    except ValueError:
        raise OptionError(f"Invalid duration {value}.{tail}") from None
    return {"duration_s": 365 * 86400 if length_s is None else length_s}  # Slurm's for an unlimited one


def _read_nodes(value: str, _now: float, tail: str) -> dict[str, object]:
    from sshq.core.hostlist import expand_hostlist

    if value.upper() == "ALL":
        return {"nodes": ["ALL"]}
    try:
        return {"nodes": expand_hostlist(value)}
    except ValueError:
        raise OptionError(f"Invalid node list {value}.{tail}") from None


def _read_count(value: str, _now: float, tail: str) -> dict[str, object]:
    if not (value.isascii() and value.isdigit() and len(value) < 7 and int(value)):
        raise OptionError(f"Invalid node count {value}.{tail}")
    return {"node_count": int(value)}


def _read_names(field: str) -> "Reader":
    def read(value: str, _now: float, tail: str) -> dict[str, object]:
        names = [name for name in value.split(",") if name]
        if any(name[0] in "+-" for name in names):
            raise OptionError(f"Invalid {field} {value}.{tail}", detail=("sshq takes the whole list, not + and -",))
        return {field: names}

    return read


def _read_flags(value: str, _now: float, tail: str) -> dict[str, object]:
    flags = []
    for word in (word.strip().upper() for word in value.split(",") if word.strip()):
        found = next((flag for flag in _FLAGS if flag.startswith(word) and len(word) >= 3), None)
        if found is None:
            raise OptionError(f"Error parsing flags {value}.{tail}", detail=(f"flags are {', '.join(_FLAGS)}",))
        flags.append(found)
    return {"flags": flags}


def _read_text(field: str) -> "Reader":
    def read(value: str, _now: float, tail: str) -> dict[str, object]:  # noqa: ARG001
        return {field: value}

    return read


TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Reader = Callable[[str, float, str], dict[str, object]]

_READERS: "dict[str, Reader]" = {
    "starttime": _read_at("start_at", "start"),
    "endtime": _read_at("end_at", "end"),
    "duration": _read_duration,
    "nodes": _read_nodes,
    "nodecnt": _read_count,
    "users": _read_names("users"),
    "accounts": _read_names("accounts"),
    "flags": _read_flags,
    "partitionname": _read_text("partition"),
    "comment": _read_text("comment"),
}


def read_deleted(words: Sequence[str]) -> str:
    """Return the name that `scontrol delete reservation…` means.

    Raises:
        ExactError: it names something else.
    """
    key, equals, value = words[0].partition("=") if words else ("", "", "")
    if key.lower() in KEYS and (equals or len(words) == 2):
        return value or words[1]
    if key.lower() == "partitionname" and equals:
        hint = "partitions are groups of the inventory"
        raise ExactError((f"delete_partition {words[0]}: Access/permission denied",), hint=hint)
    raise ExactError((f"Invalid option: {words[0]}" if words else "too few arguments for keyword:delete",))


def render_reservation(one: Mapping[str, object], now: float, *, oneline: bool = False) -> str:
    """Return a reservation as `scontrol show reservation` prints it, with the blank line behind."""
    start, end = _number(one, "start_at"), _number(one, "end_at")
    from sshq.core.units import format_elapsed_padded

    state = "ACTIVE" if start <= now < end else "INACTIVE"
    nodes = one.get("nodes")
    count = len(nodes) if isinstance(nodes, list) else 0
    features = f"Features=(null) PartitionName={one.get('partition') or '(null)'} Flags={_join(one, 'flags', '')}"
    whose = f"Users={_join(one, 'users')} Groups=(null) Accounts={_join(one, 'accounts')} Licenses=(null)"
    length = format_elapsed_padded(end - start)
    lines = (
        f"ReservationName={one.get('name')} StartTime={_format(start)} EndTime={_format(end)} Duration={length}",
        f"Nodes={one.get('node_list')} NodeCnt={count} CoreCnt={one.get('cpus')} {features}",
        f"TRES=cpu={one.get('cpus')}",
        f"{whose} State={state} BurstBuffer=(null) Watts=n/a",
        "MaxStartDelay=(null)",
        *([f"Comment={one['comment']}"] if one.get("comment") else []),
    )
    return (" " if oneline else "\n   ").join(lines) + ("\n" if oneline else "\n\n")


def _join(one: Mapping[str, object], key: str, none: str = "(null)") -> str:
    value = one.get(key)
    return ",".join(map(str, value)) if isinstance(value, list) and value else none


def _number(one: Mapping[str, object], key: str) -> float:
    value = one.get(key)
    return float(value) if isinstance(value, (int, float)) else 0.0


def _format(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(at))
