"""What a kind hands to the runner: a script, how to run it, and nothing about where."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """`interpreter` is run with the script's path and `args` behind it; the script itself is never exec'ed.

    So a spool on a file system mounted noexec works, and no other process can hold it open for writing (ETXTBSY).
    """

    interpreter: tuple[str, ...]
    script: bytes
    args: tuple[str, ...] = ()
