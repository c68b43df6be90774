"""The kinds "allocation" and "attended": a node held for what is started on it later, and a command whose input comes from afar.

An allocation's job is `holder.sh`, which starts parts on request; an attended command reads its standard input from what
the controller passes on (`sshq/runner/parts.py` writes the requests of both).
"""

from functools import cache
from pathlib import Path

from sshq.core.model import JobSpec
from sshq.core.payload import Payload

_HOLD = b'[ -n "${SSHQ_DIR:-}" ] && h_hold\nexit 1\n'
# By sh, as the spool may lie where nothing can be executed.
_RUN_FED = b'h_run_fed /bin/sh "${SSHQ_DIR%/a/*}/bin/srun" "$@"\n'


@cache
def holder_program() -> bytes:
    """Return the functions of `holder.sh` without comment and blank lines; read once in the life of the process."""
    lines = Path(__file__).with_name("holder.sh").read_bytes().split(b"\n")
    return b"".join(line + b"\n" for line in lines if line.strip() and not line.lstrip().startswith(b"#"))


def hold_payload(spec: JobSpec, script: bytes) -> Payload:
    """Return the holder; what the submitter sent as a script is only shown."""
    del spec, script
    return Payload(interpreter=("/bin/sh",), script=b"#!/bin/sh\n" + holder_program() + _HOLD, args=())


def attended_payload(spec: JobSpec, script: bytes) -> Payload:
    """Return the node's srun with the job's words, its input fed in pieces."""
    del script
    return Payload(interpreter=("/bin/sh",), script=b"#!/bin/sh\n" + holder_program() + _RUN_FED, args=spec.args)
