"""The kind "script": a batch script with an interpreter line, as sbatch takes it."""

from sshq.core.model import JobSpec
from sshq.core.payload import Payload

SHEBANG_BYTES_MAX = 256  # Linux reads no more of an interpreter line


def interpreter_of(script: bytes) -> tuple[str, ...]:
    """Return the interpreter line's words as the kernel splits them: the path, and all the rest as one argument."""
    if not script.startswith(b"#!"):
        return ("/bin/sh",)
    line = script[2:SHEBANG_BYTES_MAX].split(b"\n", 1)[0].strip(b" \t\r")
    path, _, argument = line.partition(b" ") if b" " in line else line.partition(b"\t")
    words = (path.decode("utf-8", "surrogateescape"), argument.strip(b" \t").decode("utf-8", "surrogateescape"))
    return words if words[1] else words[:1]


def payload(spec: JobSpec, script: bytes) -> Payload:
    return Payload(interpreter=interpreter_of(script), script=script, args=spec.args)
