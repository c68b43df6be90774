"""How times are written: in local time, and as SLURM_TIME_FORMAT says (standard, relative, a strftime format)."""

import time

STANDARD = "%Y-%m-%dT%H:%M:%S"
DAY_S = 86400


def format_local(at: float, style: str = "", now: float | None = None) -> str:
    """Return a time as squeue, sinfo and sacct show it.

    Args:
        at: seconds since the epoch.
        style: SLURM_TIME_FORMAT: "" or "standard", "relative", or a strftime format.
        now: for "relative".
    """
    local = time.localtime(int(at // 1))
    if style in ("", "standard"):
        return time.strftime(STANDARD, local)
    if style != "relative" or now is None:
        return time.strftime(style if "%" in style else STANDARD, local)
    today = time.localtime(now)
    days = _day_number(local) - _day_number(today)
    if days == 0:
        return time.strftime("%H:%M:%S", local)
    if days in (-1, 1):
        return time.strftime("Tomorr %H:%M" if days == 1 else "Ystday %H:%M", local)
    if 1 < days < 7:
        return time.strftime("%a %H:%M", local)
    if local.tm_year == today.tm_year:
        return time.strftime("%-d %b %H:%M", local)
    return time.strftime("%-d %b %Y", local)


def format_banner(at: float) -> str:
    """Return the line above long listings: Sun Nov 22 17:09:54 2026."""
    return time.asctime(time.localtime(at))


def _day_number(local: time.struct_time) -> int:
    return int(time.mktime((local.tm_year, local.tm_mon, local.tm_mday, 12, 0, 0, 0, 0, -1)) // DAY_S)
