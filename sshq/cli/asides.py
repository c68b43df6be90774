"""scontrol's lesser verbs: what is completing, which processes, waiting for a start; and what there is nothing to do for here."""

import os
import time
from collections.abc import Callable, Sequence

from sshq.cli.asking import Object, list_items
from sshq.cli.printing import print_lines
from sshq.core.ids import parse_job_id
from sshq.errors import OptionError
from sshq.slurm.getopt import Parsed
from sshq.slurm.messages import ERROR_NUMBERS, ExactError

POLL_S = 0.5
_DISABLED = "Requested operation is presently disabled"
_REFUSALS = {  # verb: Slurm's line, and what to do instead
    "cancel_reboot": ("scontrol: error: RebootProgram isn't defined", "sshq boots no hosts"),
    "notify": (f"job notify failure: {_DISABLED}", "sshq writes nothing into a job's output on behalf of others"),
    "pidinfo": (f"slurm_pid2jobid error: {_DISABLED}", "scontrol listpids lists the batch scripts' processes"),
    "reboot": ("scontrol: error: RebootProgram isn't defined", "sshq boots no hosts; drain it, then boot it yourself"),
    "schedloglevel": (f"slurm_set_schedlog_level error: {_DISABLED}", "log_level in config.yaml"),
    "setdebug": (f"slurm_set_debug_level error: {_DISABLED}", "log_level in config.yaml"),
    "shutdown": (f"slurm_shutdown error: {_DISABLED}", "sshq down stops the controller; jobs run on"),
    "takeover": (f"slurm_takeover error: {_DISABLED}", "there is one controller; sshq up starts it"),
    "token": (f"slurm_fetch_token error: {_DISABLED}", "who may ask is known by the user id; there are no tokens"),
}  # fmt: skip


def run_aside(verb: str, words: Sequence[str], parsed: Parsed) -> int:
    """Carry out one of these verbs; the result is the exit status."""
    if verb not in _REFUSALS and verb not in _ASIDES:
        raise OptionError(f"scontrol {verb} is not supported by sshq", hint="scontrol --help")
    least, most = _COUNTS.get(verb, (0, 9))
    if not least <= len(words) <= most:
        few = "few" if len(words) < least else "many"
        raise ExactError((f"too {few} arguments for keyword:{verb}",))
    if verb in _REFUSALS:
        line, hint = _REFUSALS[verb]
        raise ExactError((line,), hint=hint)
    return _ASIDES[verb](words, parsed)


def _completing(_words: Sequence[str], _parsed: Parsed) -> int:
    jobs, _ = list_items("scontrol", "jobs", {"filter": {}, "finished": True})
    for job in jobs:
        if job.get("completing"):
            nodes = ",".join(str(name) for name in _names(job))
            print(f"JobId={job.get('job_id')} EndTime={_format(job.get('end_at'))} Nodes(COMPLETING)={nodes}")
    return 0


def _errnumstr(words: Sequence[str], _parsed: Parsed) -> int:
    word = words[0]
    if not (word.lstrip("-").isdigit() and len(word) < 10):
        raise ExactError((f"Invalid error number: {word}",))
    print(ERROR_NUMBERS.get(int(word)) or os.strerror(abs(int(word))))
    return 0


def _listpids(words: Sequence[str], _parsed: Parsed) -> int:
    """The process of each batch script, as its node knows it; of what it started, only the node could tell."""
    wanted: Object = {}
    if words:
        wanted = {"refs": [_read_ref(words[0].partition(".")[0])]}
    jobs, _ = list_items("scontrol", "jobs", {"filter": wanted, "finished": False})
    node = words[1] if len(words) > 1 else None
    rows = [job for job in jobs if job.get("pid") and node in (None, job.get("batch_host"))]
    if words and not rows:
        raise ExactError((f"Job {words[0]} does not exist on this node.",), hint=f"scontrol show job {words[0]}")
    print("PID      JOBID    STEPID   LOCALID GLOBALID")
    print_lines(f"{job.get('pid')!s:<8} {job.get('job_id')!s:<8} {'batch':<8} {'0':<7} 0" for job in rows)
    return 0


def _wait_job(words: Sequence[str], _parsed: Parsed) -> int:
    """Wait until a job has its nodes, or has ended: then 0 and 1."""
    ref = _read_ref(words[0])
    while True:
        jobs, _ = list_items("scontrol", "jobs", {"filter": {"refs": [ref]}, "finished": True})
        if not jobs:
            raise ExactError(("slurm_job_node_ready error: Invalid job id specified",))
        states = {str(job.get("state")) for job in jobs}
        if states <= {"RUNNING", "SUSPENDED"}:
            return 0
        if not states & {"PENDING", "CONFIGURING", "RUNNING", "SUSPENDED"}:
            raise ExactError((f"Job {words[0]} no longer running",))
        time.sleep(POLL_S)


def _read_ref(word: str) -> list[object]:
    try:
        ref = parse_job_id(word)
    except ValueError:
        raise ExactError((f"Invalid job id {word}",)) from None
    return [ref.job_id, list(ref.tasks) if ref.tasks is not None else None]


def _names(job: Object) -> list[object]:
    nodes = job.get("nodes")
    return nodes if isinstance(nodes, list) else []


def _format(at: object) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(at)) if isinstance(at, (int, float)) else "Unknown"


_ASIDES: dict[str, Callable[[Sequence[str], Parsed], int]] = {
    "completing": _completing,
    "errnumstr": _errnumstr,
    "listpids": _listpids,
    "wait_job": _wait_job,
}
_COUNTS = {
    "completing": (0, 0), "errnumstr": (1, 1), "listpids": (0, 2), "notify": (2, 1000), "wait_job": (1, 1), "token": (0, 9),
}  # fmt: skip
