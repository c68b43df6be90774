"""What an inventory says, resolved: hosts, partitions, and who takes no part.

Only data.  None always means "not said": the machine's own answer (slots, cpus, memory) or ~/.ssh/config's
(port, account, keys) is taken then.  `origins` names the line that decided a field; it is not compared, so
that a comment added above a host does not make it another host.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from sshq.core.gpus import GpuLimit

DEFAULT_PARTITION: Final = "lab"  # holds every host that takes part
NICE_DEFAULT: Final = 10
GPU_IDLE_MIB_DEFAULT: Final = 512  # what a desktop, or a driver alone, has of a GPU's memory
CACHE_BYTES_DEFAULT: Final = 10 << 30
CHANNELS_MAX: Final = 8  # on one connection; sshd's MaxSessions is 10, and two are left to the user


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """How to reach one machine and what it offers."""

    name: str
    address: str  # ansible_host, else the name, so that `Host NAME` of ~/.ssh/config applies
    port: int | None = None
    account: str | None = None
    identity_files: tuple[str, ...] = ()  # ~ is expanded for the controller's account
    connection: Literal["ssh", "local"] = "ssh"
    proxy_jump: str | None = None  # as for ssh -J; "none" forbids one
    ssh_options: tuple[tuple[str, str], ...] = ()  # other options of ssh_config(5), in its spelling, sorted
    slots: int | None = None
    cpus: int | None = None
    memory_mib: int | None = None
    gpus: GpuLimit | None = None  # which may be handed out; None: all there are
    gpu_idle_mib: int = GPU_IDLE_MIB_DEFAULT
    features: tuple[str, ...] = ()
    weight: int = 1
    spool: str | None = None  # on the node: absolute or ~/…
    spool_forced: bool = False  # take the spool although its file system is not local
    shared: tuple[str, ...] = ()
    nice: int = NICE_DEFAULT
    python: str | None = None
    container: str | None = None
    environment: tuple[tuple[str, str], ...] = ()
    cache_max_bytes: int = CACHE_BYTES_DEFAULT  # of files that jobs brought along
    channels_max: int = CHANNELS_MAX
    groups: tuple[str, ...] = ()  # Ansible's, sorted, without `all`
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)  # field -> "file:line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A group of hosts that jobs can ask for."""

    name: str
    hosts: tuple[str, ...]
    default: bool = False
    max_time_s: int | None = None
    default_time_s: int | None = None
    state: Literal["UP", "DOWN"] = "UP"
    priority_tier: int = 1
    hidden: bool = False
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Excluded:
    """A host of the inventory that takes no part, and why."""

    name: str
    reason: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """A whole inventory; immutable, swapped as one when the file changes."""

    hosts: Mapping[str, Host]  # in the order of the file
    partitions: Mapping[str, Partition]  # `lab` first, then in the order of the file
    excluded: tuple[Excluded, ...] = ()
    warnings: tuple[str, ...] = ()
    path: str | None = None  # None: the embedded default
    digest: str = ""  # SHA-256 over every file read
    sources: tuple[str, ...] = ()  # files that were read
    watched: tuple[str, ...] = ()  # files and directories whose change may change the result

    @property
    def default_partition(self) -> str | None:
        """The partition of a job that names none."""
        return next((partition.name for partition in self.partitions.values() if partition.default), None)

    def partitions_of(self, host: str) -> tuple[str, ...]:
        """Return the names of the partitions a host is in."""
        return tuple(name for name, partition in self.partitions.items() if host in partition.hosts)
