"""What a job is made of: JobSpec to Payload, pure.  A new kind is one file here and one line in `KINDS`."""

from collections.abc import Callable
from dataclasses import dataclass

from sshq.core.model import JobSpec
from sshq.core.payload import Payload, Site
from sshq.kinds import allocation, command, container, script
from sshq.kinds import callable as callable_


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of job.

    `about` is one line, for `squeue --type=help`.  `enclose` wraps the payload on its node, where more is known;
    `disclose` returns the script and the environment that it wrapped.
    """

    payload: Callable[[JobSpec, bytes], Payload]
    about: str
    enclose: Callable[[JobSpec, Payload, Site], Payload] | None = None
    disclose: Callable[[bytes], tuple[bytes, dict[str, str]]] | None = None


KINDS: dict[str, Kind] = {
    "script": Kind(script.payload, "a batch script (sbatch)"),
    "command": Kind(command.payload, "one command (srun)"),
    "allocation": Kind(allocation.hold_payload, "nodes that are held for what comes later (salloc, sshq.Pool)"),
    "attended": Kind(allocation.attended_payload, "one command that reads the input of the srun that started it"),
    "callable": Kind(callable_.payload, "a call of a Python function (sshq.Executor, @sshq.job)"),
    "container": Kind(
        container.payload, "a script or command in a container (--container)", container.enclose, container.disclose
    ),
}


def payload_of(spec: JobSpec, script_bytes: bytes, site: Site | None = None) -> Payload:
    """Return what the runner is given for a job; without a site, as the kind itself has it.

    Raises:
        KeyError: the kind is not one of `KINDS`; the controller checks at submission.
    """
    kind = KINDS[spec.kind]
    made = kind.payload(spec, script_bytes)
    return kind.enclose(spec, made, site) if kind.enclose and site else made


def disclose(kind: str, sent: bytes) -> tuple[bytes, dict[str, str]]:
    """Return the script as it was submitted, and the environment where it was in what the node was sent."""
    opened = KINDS[kind].disclose if kind in KINDS else None
    return opened(sent) if opened else (sent, {})


def describe_kinds() -> list[str]:
    """Return a line for each kind, as `squeue --type=help` shows them."""
    return [f"{name:<12}{kind.about}" for name, kind in KINDS.items()]
