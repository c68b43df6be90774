"""The kind "command": an argument list, run as it is (`srun CMD`, `sshq submit -- CMD`)."""

from sshq.core.model import JobSpec
from sshq.core.payload import Payload

EXEC_ARGUMENTS = b'#!/bin/sh\nexec "$@"\n'


def payload(spec: JobSpec, script: bytes) -> Payload:
    return Payload(interpreter=("/bin/sh",), script=script or EXEC_ARGUMENTS, args=spec.args)
