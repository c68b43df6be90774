"""What a job is made of: JobSpec to Payload, pure.  A new kind is one file here and one line in `KINDS`."""

from collections.abc import Callable

from sshq.core.model import JobSpec
from sshq.core.payload import Payload
from sshq.kinds import allocation, command, script
from sshq.kinds import callable as callable_

KINDS: dict[str, Callable[[JobSpec, bytes], Payload]] = {
    "script": script.payload,
    "command": command.payload,
    "allocation": allocation.hold_payload,
    "attended": allocation.attended_payload,
    "callable": callable_.payload,
}


def payload_of(spec: JobSpec, script_bytes: bytes) -> Payload:
    """Return what the runner is given for a job.

    Raises:
        KeyError: the kind is not one of `KINDS`; the controller checks at submission.
    """
    return KINDS[spec.kind](spec, script_bytes)
