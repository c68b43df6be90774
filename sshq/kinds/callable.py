"""The kind "callable": a call of a Python function, as `sshq.api` writes it; it leaves its result in $SSHQ_RESULT.

To the controller it is a script like another: the call is opaque bytes in it, which only its owner's processes unpickle.
"""

from sshq.core.model import JobSpec
from sshq.core.payload import Payload


def payload(spec: JobSpec, script: bytes) -> Payload:
    return Payload(interpreter=("/bin/sh",), script=script, args=spec.args)
