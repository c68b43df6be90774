"""What a kind hands to the runner: a script, how to run it, and nothing about where."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """`interpreter` is run with the script's path and `args` behind it; the script itself is never exec'ed.

    So a spool on a file system mounted noexec works, and no other process can hold it open for writing (ETXTBSY).
    """

    interpreter: tuple[str, ...]
    script: bytes
    args: tuple[str, ...] = ()
    own_environ: bool = False  # the job's environment is in the script: the process itself gets the account's alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What is known of a launch's node when its payload is made, for kinds that wrap their script there."""

    node: str
    engine: str = ""  # what runs containers there
    nice: int = 0
    gpu_vendor: str = ""
    gpu_ids: tuple[str, ...] = ()
    environ: Mapping[str, str]  # of the job; names that any sh takes
