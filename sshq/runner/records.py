"""Exit records as they mostly are: read in one go."""

import re
from typing import Final

from sshq.runner.replies import ExitRecord

# A record of a job that nobody meddled with, as nearly all are: judged in one go, by the rules of `protocol.parse_record`.
_USUAL: Final = re.compile(
    r"1 ([0-9a-f]{32}) how=(exit|signal) status=([0-9]{1,9}) why=- sent=- term=0 start=([0-9]{1,15}(?:\.[0-9]{1,9})?)"
    r" end=([0-9]{1,15}(?:\.[0-9]{1,9})?) began=([0-9]{1,18}) ended=([0-9]{1,18})"
    r" user=([0-9]{1,12})m([0-9]{1,3}(?:\.[0-9]{1,9})?)s sys=([0-9]{1,12})m([0-9]{1,3}(?:\.[0-9]{1,9})?)s"
    r" boot=([!-~]{1,128}) left=-"
)


def read_usual_record(text: str) -> ExitRecord | None:
    """Return the record of such a line; None for any other, which is to be judged word by word."""
    match = _USUAL.fullmatch(text)
    if match is None:
        return None
    launch_id, how, status, start, end, began, ended, user_min, user_s, sys_min, sys_s, boot = match.groups()
    code, signal, sure = code_and_signal(int(status))
    return ExitRecord(
        id=launch_id, how="exit" if signal is None else how, status=int(status), code=code, signal=signal, sure=sure,
        start_uptime_s=float(start), end_uptime_s=float(end), start_at=int(began), end_at=int(ended),
        user_s=int(user_min) * 60 + float(user_s), system_s=int(sys_min) * 60 + float(sys_s), boot=boot,
    )  # fmt: skip


def code_and_signal(status: int | None) -> tuple[int | None, int | None, bool]:
    """Sort a shell's status: ksh says 256+n for a signal, the others 128+n, which `exit 128+n` says as well."""
    if status is None:
        return None, None, True
    if 256 < status <= 256 + 64:
        return None, status - 256, True
    if 512 + 128 < status <= 512 + 192:
        return status - 512, None, True
    if 128 < status <= 128 + 64:
        return None, status - 128, False
    return status, None, True
