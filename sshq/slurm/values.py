"""The values of sbatch's options: from the user's text to what the job description holds.

Each parser takes the text (None for an optional value left out) and returns the value, or raises ValueError; its
message, if any, tells what is expected.  `read_value` makes Slurm's error of it, with the place and a hint.
"""

from sshq.errors import OptionError
from sshq.slurm.getopt import Given
from sshq.slurm.messages import ExactError, exit_code_for_option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

TIME_UNLIMITED = -1  # of time_limit_s: no limit was asked for, which is not the same as nothing asked
DEFAULT_NICE = 100  # sbatch(1), --nice without a value
DEFAULT_SIGNAL_S = 60  # sbatch(1), --signal without a time
MAIL_TYPES = (
    "NONE", "BEGIN", "END", "FAIL", "REQUEUE", "ALL", "INVALID_DEPEND", "STAGE_OUT", "TIME_LIMIT", "TIME_LIMIT_90",
    "TIME_LIMIT_80", "TIME_LIMIT_50", "ARRAY_TASKS",
)  # fmt: skip
SIGNALS = {
    "HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "BUS": 7, "FPE": 8, "KILL": 9, "USR1": 10, "SEGV": 11,
    "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15, "STKFLT": 16, "CHLD": 17, "CONT": 18, "STOP": 19, "TSTP": 20,
    "TTIN": 21, "TTOU": 22, "URG": 23, "XCPU": 24, "XFSZ": 25, "VTALRM": 26, "PROF": 27, "WINCH": 28, "IO": 29, "PWR": 30,
    "SYS": 31,
}  # fmt: skip  # Linux's numbers, so that head and nodes agree whatever the head's own are
SIGNAL_MAX = 64
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}

EXPECTED = {
    "time": "Times are minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS.",
    "lease": "Leases are a whole number with s, m, h or d behind: 40m, 2h.",
    "memory": "Memory is a whole number of MiB, or one with K, M, G or T.",
    "begin": "Times are now, now+1hour, 16:00, tomorrow, MMDDYY, YYYY-MM-DD[THH:MM[:SS]].",
    "signal": "Signals are [{R|B}:]NAME or NUMBER, and @SECONDS before the time limit.",
    "open_mode": "append or truncate.",
    "nodes": "Nodes are N, or MIN-MAX.",
    "hosts": "Hosts are names and ranges: ws1,ws[3-5].",
    "stage_out": "Patterns are relative to the job's directory and stay below it: out/*.csv, or results/ for all of a directory.",
    "image": "Images are a name (busybox:1, docker.io/library/debian:12) or a file (/data/lab.sif), without blanks.",
    "mounts": "Mounts are SRC[:DST[:ro]], several by commas; DST is absolute, and neither / nor /.sshq.",
    "inner_path": "Directories in a container are absolute.",
    "pull_policy": "never, missing or always.",
    "variables": "Names of variables, by commas.",
    "mail_type": "Types are " + ",".join(MAIL_TYPES) + ".",
}


class Clock:
    """The time of the command and the zone it speaks: seconds since the epoch, and local minus UTC at a time."""

    __slots__ = ("now", "utc_offset_s")

    def __init__(self, now: float, utc_offset_s: "Callable[[float], int]") -> None:
        self.now = now
        self.utc_offset_s = utc_offset_s


def read_value(given: Given, clock: Clock, command: str = "sbatch") -> object:
    """Return the value of one option.

    Raises:
        OptionError: with Slurm's words and status, the place, what is expected and, where there is one, a hint.
    """
    parser = given.option.parser
    if parser == "begin":
        return _read_begin(given, clock, command)
    try:
        return PARSERS[parser](given.value)
    except ValueError as error:
        raise _bad_value(given, command, error) from None


def parse_signal_name(text: str) -> int:
    """Return the number of a signal: a name with or without SIG, or a number.

    Raises:
        ValueError: no such signal.
    """
    if text.isascii() and text.isdigit():
        number = int(text)
        if 1 <= number <= SIGNAL_MAX:
            return number
        raise ValueError(text)
    name = text.upper().removeprefix("SIG")
    if name not in SIGNALS:
        raise ValueError(text)
    return SIGNALS[name]


def _bad_value(given: Given, command: str, error: ValueError) -> OptionError:
    parser, value, code = given.option.parser, given.value or "", exit_code_for_option(command)
    detail: tuple[str, ...] = (given.text,)
    hint = None
    if parser in EXPECTED:
        detail = (*detail, EXPECTED[parser])
    if parser in ("stage_out", "stage_in", "directory"):
        detail = (*detail, f"{value!r}: {error}")
    if parser in ("positive", "count"):
        message, code = f'Invalid numeric value "{value}" for {given.option.name}.', 1
    elif parser == "array":  # Slurm's controller finds this one
        message, code = "Batch job submission failed: Invalid job array specification", 1
        detail = (*detail, "Arrays are 5, 0-9, 1,3,5, 0-99:10, and %N behind for N at once.")
    elif parser in ("gres", "gpus"):
        message, code = "Invalid generic resource (gres) specification", 1
        detail = (*detail, "GPUs are N, TYPE or TYPE:N, with --gres gpu, gpu:N, gpu:TYPE or gpu:TYPE:N; several by commas.")
    elif parser == "limits":
        lines = (f"{command}: error: Bad rlimit name: {error}", f"{command}: error: --propagate={value} is not valid.")
        limits = f"Limits are ALL, NONE, or {', '.join(LIMITS)}."
        return ExactError(lines, source=given.source, detail=(given.text, limits), exit_code=code)
    elif parser == "nodes":
        message = f'"{value}" is not a valid node count'
    elif parser == "hosts":
        message, code = "Batch job submission failed: Invalid node name specified", 1
        detail = (given.text, str(error))
    else:
        message = f"Invalid {given.option.name} specification"
    if parser == "time":
        from sshq.core.units import suggest_time_limit

        suggestion = suggest_time_limit(value)
        hint = f"--time={suggestion}" if suggestion else None
    return OptionError(message, source=given.source, detail=detail, hint=hint, exit_code=code)


def _read_begin(given: Given, clock: Clock, command: str) -> float:
    from sshq.core.times import parse_begin

    try:
        return parse_begin(given.value or "", clock.now, clock.utc_offset_s)
    except ValueError as error:
        lines = (str(error), f"{command}: error: Invalid {given.option.name} specification")
        raise ExactError(
            lines, source=given.source, detail=(given.text, EXPECTED["begin"]), exit_code=exit_code_for_option(command),
        ) from None  # fmt: skip


def _parse_text(text: str | None) -> str:
    return text or ""


def _parse_flag(text: str | None) -> bool:  # noqa: ARG001
    return True


def _skip(text: str | None) -> None:  # noqa: ARG001  # the value of an option that has no effect is not judged
    return None


def _parse_count(text: str | None) -> int:
    word = text or ""
    if not (word.isascii() and word.isdigit() and len(word) <= 9):
        raise ValueError(word)
    return int(word)


def _parse_positive(text: str | None) -> int:
    number = _parse_count(text)
    if number < 1:
        raise ValueError(text)
    return number


def _parse_gres(text: str | None) -> str:
    from sshq.core.gpus import format_gpus, parse_gres

    return format_gpus(parse_gres(text or ""))


def _parse_gpus(text: str | None) -> str:
    from sshq.core.gpus import format_gpus, parse_gpus

    return format_gpus(parse_gpus(text or ""))


def _parse_time(text: str | None) -> int:
    from sshq.core.units import parse_time_limit

    limit_s = parse_time_limit(text or "")
    return TIME_UNLIMITED if limit_s is None else limit_s


def _parse_lease(text: str | None) -> int:
    number, unit = (text or " ")[:-1], (text or " ")[-1]
    if unit not in _UNIT_S or not number.isascii() or not number.isdigit() or len(number) > 6 or not int(number):
        raise ValueError(text)
    return int(number) * _UNIT_S[unit]


def _parse_stage_out(text: str | None) -> str:
    from sshq.core.stagenames import check_pattern

    return check_pattern(text or "")


def _parse_stage_in(text: str | None) -> str:
    if not text or "\0" in text:
        raise ValueError("it is empty")
    return text


def _parse_directory(text: str | None) -> str:
    """No value is the directory itself."""
    if text == "":
        raise ValueError("it is empty")
    return text or "."


def _parse_memory(text: str | None) -> int:
    from sshq.core.units import parse_memory

    return parse_memory(text or "")


def _parse_nodes(text: str | None) -> int:
    from sshq.core.units import parse_count

    low, dash, high = (text or "").partition("-")
    least = parse_count(low)
    if least < 1 or (dash and parse_count(high) < least):
        raise ValueError(text)
    return least


def _parse_hosts(text: str | None) -> str:
    from sshq.core.hostlist import expand_hostlist

    if not expand_hostlist(text or ""):
        raise ValueError("the list is empty")
    return text or ""


def _parse_array(text: str | None) -> tuple[str, int | None]:
    from sshq.core.arrays import parse_array

    spec = parse_array(text or "")
    return (text or "").strip().partition("%")[0], spec.limit


def _parse_nice(text: str | None) -> int:
    if text is None:
        return DEFAULT_NICE
    sign = -1 if text.startswith("-") else 1
    digits = text.lstrip("+-")
    return sign * int(digits) if digits.isascii() and digits.isdigit() else 0  # Slurm takes --nice=abc as 0


def _parse_priority(text: str | None) -> int:
    word = text or ""
    if word.upper() == "TOP":
        return 2**32 - 2  # Slurm's NO_VAL - 1
    if not (word.isascii() and word.isdigit()) or int(word) >= 2**32 - 1:
        raise ValueError(word)
    return int(word)


def _parse_partitions(text: str | None) -> list[str]:
    return [name for name in (text or "").split(",") if name]


def _parse_yes_no(text: str | None) -> bool:
    word = (text or "").lower()
    if word not in ("yes", "no"):
        raise ValueError(word)
    return word == "yes"


def _parse_open_mode(text: str | None) -> str:
    word = (text or "").lower()
    for mode in ("append", "truncate"):
        if word and mode.startswith(word):
            return mode
    raise ValueError(word)


def _parse_requeue(text: str | None) -> bool | str:
    if text in (None, "", "yes"):
        return True
    if text == "always":
        return "always"
    raise ValueError(text)


def _parse_no_requeue(text: str | None) -> bool:  # noqa: ARG001
    return False


def _parse_signal(text: str | None) -> list[int | bool]:
    word = text or ""
    batch_only = False
    flags, colon, rest = word.partition(":")
    if colon:
        if not flags or set(flags.upper()) - set("RB"):
            raise ValueError(word)
        batch_only, word = "B" in flags.upper(), rest
    name, at, before = word.partition("@")
    before_s = _parse_count(before) if at else DEFAULT_SIGNAL_S
    if before_s > 0xFFFF:
        raise ValueError(text)
    return [parse_signal_name(name), before_s, batch_only]


def _parse_mail_type(text: str | None) -> None:
    for word in (text or "").split(","):
        if word.upper() not in MAIL_TYPES:
            raise ValueError(word)


LIMITS = ("AS", "CORE", "CPU", "DATA", "FSIZE", "MEMLOCK", "NOFILE", "NPROC", "RSS", "STACK")


def _parse_limits(text: str | None) -> list[str]:
    words = (text or "ALL").upper().split(",")
    if words == ["ALL"]:
        return list(LIMITS)
    if words == ["NONE"]:
        return []
    for word in words:
        if word.removeprefix("RLIMIT_") not in LIMITS:
            raise ValueError(word)
    return [word.removeprefix("RLIMIT_") for word in words]


def _parse_container(name: str) -> "Callable[[str | None], object]":
    def parse(text: str | None) -> object:
        from sshq.slurm import containers

        return containers.PARSERS[name](text)

    return parse


PARSERS: "dict[str, Callable[[str | None], object]]" = {
    "array": _parse_array,
    "count": _parse_count,
    "dependency": _parse_text,  # the controller reads it: it knows the jobs
    "flag": _parse_flag,
    "gpus": _parse_gpus,
    "gres": _parse_gres,
    "hosts": _parse_hosts,
    "image": _parse_container("image"),
    "inner_path": _parse_container("inner_path"),
    "lease": _parse_lease,
    "mail_type": _parse_mail_type,
    "limits": _parse_limits,
    "memory": _parse_memory,
    "mounts": _parse_container("mounts"),
    "nice": _parse_nice,
    "no_requeue": _parse_no_requeue,
    "nodes": _parse_nodes,
    "open_mode": _parse_open_mode,
    "partitions": _parse_partitions,
    "positive": _parse_positive,
    "priority": _parse_priority,
    "pull_policy": _parse_container("pull_policy"),
    "requeue": _parse_requeue,
    "signal": _parse_signal,
    "skip": _skip,
    "stage_out": _parse_stage_out,
    "stage_in": _parse_stage_in,
    "directory": _parse_directory,
    "text": _parse_text,
    "time": _parse_time,
    "variables": _parse_container("variables"),
    "yes_no": _parse_yes_no,
}
