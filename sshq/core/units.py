"""Amounts as people write them and as Slurm prints them: time limits, elapsed time, memory, counts.

The rules are sbatch(1)'s and squeue(1)'s; what the manual leaves open (rounding, padding, when memory is
shown in G) was read off real Slurm 22.05.  Every `parse_x` raises ValueError with a short reason on a text it
does not know; no amount is ever guessed.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

MINUTE_S: "Final" = 60
HOUR_S: "Final" = 3600
DAY_S: "Final" = 86400

_UNLIMITED_WORDS: "Final" = ("-1", "infinite", "unlimited")
_TIME_FORMS: "Final" = "times are minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS"
# Slurm keeps limits as 32-bit minutes and reads two values at the top as "none" and "infinite".
_LIMIT_MAX_S: "Final" = 0xFFFFFFFD * MINUTE_S
_MEMORY_MAX_MIB: "Final" = 2**53  # JSON carries it exactly, and it is 8 ZiB


def parse_time_limit(text: str) -> int | None:
    """Return a time limit in seconds, None for no limit.

    Forms: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS; 0, -1, UNLIMITED, INFINITE for none.  Seconds
    round up to a whole minute.  As in Slurm a field may exceed its usual range: 90:00 is an hour and a half.

    Raises:
        ValueError: the text has another form, or is longer than 8 000 years.

    """
    word = text.strip()
    if word.lower() in _UNLIMITED_WORDS:
        return None
    days_text, dash, clock = word.partition("-")
    fields = (clock if dash else word).split(":")
    if len(fields) > 3:
        raise ValueError(f"{text!r}: {_TIME_FORMS}")
    try:
        days = _parse_digits(days_text) if dash else 0
        numbers = [_parse_digits(field) for field in fields]
    except ValueError:
        raise ValueError(f"{text!r}: {_TIME_FORMS}") from None
    if dash:
        numbers += [0] * (3 - len(numbers))  # the first field after the dash is hours
    elif len(numbers) == 1:
        numbers = [0, *numbers, 0]
    else:
        numbers = [0] * (3 - len(numbers)) + numbers
    hours, minutes, seconds = numbers
    total = days * DAY_S + hours * HOUR_S + minutes * MINUTE_S + seconds
    rounded = -(-total // MINUTE_S) * MINUTE_S
    if rounded > _LIMIT_MAX_S:
        raise ValueError(f"{text!r}: longer than Slurm's largest limit")
    return rounded or None


def suggest_time_limit(text: str) -> str | None:
    """Return how Slurm writes a limit given as 1h, 90m, 30s or 1d12h; None for any other text."""
    total, digits = 0, ""
    units = {"d": DAY_S, "h": HOUR_S, "m": MINUTE_S, "s": 1}
    for letter in text.strip().lower():
        if "0" <= letter <= "9":
            digits += letter
        elif letter in units and digits and len(digits) < 9:
            total += int(digits) * units[letter]
            digits = ""
        else:
            return None
    return format_time_limit(total) if total and not digits else None


def format_time_limit(limit_s: int | None, *, unlimited: str = "UNLIMITED") -> str:
    """Return a limit as squeue %l: 30:00, 1:00:00, 1-00:00:00; `unlimited` (sinfo: infinite) for None."""
    return unlimited if limit_s is None else format_elapsed(limit_s)


def format_time_limit_padded(limit_s: int | None) -> str:
    """Return a limit as scontrol and sacct show it: 00:30:00, 1-00:00:00, UNLIMITED."""
    return "UNLIMITED" if limit_s is None else format_elapsed_padded(limit_s)


def format_elapsed(elapsed_s: float) -> str:
    """Return whole seconds as squeue %M: 0:05, 1:02:03, 2-03:04:05; INVALID for negative time."""
    if elapsed_s < 0:
        return "INVALID"
    days, hours, minutes, seconds = _split_seconds(int(elapsed_s))
    if days:
        return f"{days}-{hours:02}:{minutes:02}:{seconds:02}"
    if hours:
        return f"{hours}:{minutes:02}:{seconds:02}"
    return f"{minutes}:{seconds:02}"


def format_elapsed_padded(elapsed_s: float) -> str:
    """Return whole seconds as sacct and scontrol: 00:00:05, 1-02:03:04; INVALID for negative time."""
    if elapsed_s < 0:
        return "INVALID"
    days, hours, minutes, seconds = _split_seconds(int(elapsed_s))
    clock = f"{hours:02}:{minutes:02}:{seconds:02}"
    return f"{days}-{clock}" if days else clock


def format_cpu_time(cpu_s: float) -> str:
    """Return CPU seconds as sacct's TotalCPU: 00:00.011 below an hour unless whole, else 01:02:03."""
    thousandths = round(cpu_s * 1000)
    seconds, rest = divmod(thousandths, 1000)
    if rest and 0 <= seconds < HOUR_S:
        return f"{seconds // MINUTE_S:02}:{seconds % MINUTE_S:02}.{rest:03}"
    return format_elapsed_padded(seconds)


def parse_memory(text: str) -> int:
    """Return memory in MiB: 100, 100M, 512K (rounded up), 2G, 1T, each letter also with a B behind.

    Zero is returned as 0: in Slurm --mem=0 asks for all memory of a node.

    Raises:
        ValueError: a fraction (1.5G), a sign, another unit, no number, or more than any machine has.

    """
    word = text.strip().lower()
    number = word.rstrip("kmgtb")
    unit = word[len(number) :]
    if unit not in ("", "k", "kb", "m", "mb", "g", "gb", "t", "tb"):
        raise ValueError(f"{text!r}: memory is a whole number and K, M, G or T")
    try:
        amount = _parse_digits(number)
    except ValueError:
        hint = ", no fractions" if "." in number else ""
        raise ValueError(f"{text!r}: memory is a whole number and K, M, G or T{hint}") from None
    scale = unit[:1] or "m"
    mib = -(-amount // 1024) if scale == "k" else amount << {"m": 0, "g": 10, "t": 20}[scale]
    if mib > _MEMORY_MAX_MIB:
        raise ValueError(f"{text!r}: more memory than any machine has")
    return mib


def format_memory(mib: int) -> str:
    """Return MiB as Slurm shows it: 0, 100M, 1G, 1.50G, 62.50G, 1T.

    Slurm goes up a unit as long as that leaves a whole or a half, so that nothing is lost: 1000M stays 1000M.
    `parse_memory` reads every answer back but the halves, which Slurm itself refuses as input.
    """
    if mib == 0:
        return "0"
    doubled, unit = mib * 2, 0  # in halves of the unit, to stay with whole numbers
    while doubled >= 2048 and doubled % 1024 == 0 and unit < 3:
        doubled //= 1024
        unit += 1
        if doubled % 2:
            return f"{doubled / 2:.2f}{'MGTP'[unit]}"
    return f"{doubled // 2}{'MGTP'[unit]}"


def parse_count(text: str) -> int:
    """Return a count as sbatch -N reads it: a whole number, K for 1024 of them, M for 1024 K.

    Raises:
        ValueError: anything else, a sign included.

    """
    word = text.strip()
    scale = {"k": 1024, "m": 1024 * 1024}.get(word[-1:].lower(), 1)
    try:
        count = _parse_digits(word if scale == 1 else word[:-1]) * scale
    except ValueError:
        raise ValueError(f"{text!r} is not a count") from None
    if count > 2**31 - 1:
        raise ValueError(f"{text!r} is too large a count")
    return count


def _parse_digits(text: str) -> int:
    # int() alone would take signs, blanks, underscores and the digits of other scripts.
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ValueError(text)
    return int(text)


def _split_seconds(total_s: int) -> tuple[int, int, int, int]:
    minutes, seconds = divmod(total_s, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return days, hours, minutes, seconds
