"""A node as the scheduler sees it: its size, what is taken, whether it may be used, and why not.

Unreachable is a flag of the node, never a verdict on its jobs: their slots stay taken until evidence comes.
"""

from dataclasses import dataclass, field
from itertools import count

from sshq.core.engines import ImageForm, choose_engine
from sshq.core.gpus import Gpu, GpuUse, usable_gpus
from sshq.core.model import SEQ_PER_GENERATION, NodeConfig, NodeFacts, NodeRecord, Share
from sshq.core.pythons import PythonAnswer

_STAMPS = count(1)
_set_quietly = object.__setattr__
# What the scheduler does not look at: a report of load every few seconds is no reason to judge a node anew.
_OF_NO_MATTER = frozenset({"load", "memory_free_mib", "last_busy_at", "since_at", "note", "listed", "stamp"})


@dataclass(slots=True)
class Node:
    """The one mutable record of the core: it is rebuilt at each start from the inventory, the store and the jobs.

    `stamp` is another one after each field that was set: who changes what a field holds (slots, jobs) sets one too.
    """

    config: NodeConfig
    record: NodeRecord
    facts: NodeFacts | None = None
    connected: bool = False
    listed: bool = False
    removed: bool = False  # gone from the inventory, still holding jobs: it drains, then it is forgotten
    note: str = "not connected yet"
    since_at: float = 0.0
    load: float | None = None
    memory_free_mib: int | None = None
    trouble: str = ""  # why it takes no launch although it answers; ends by itself, with a report that all is well
    last_busy_at: float | None = None
    next_n: int = 1
    slots_taken: set[int] = field(default_factory=set)
    cpus_taken: int = 0
    memory_taken_mib: int = 0
    gpus_taken: set[str] = field(default_factory=set)  # ids
    gpu_uses: dict[str, GpuUse] = field(default_factory=dict)  # by id: in use outside the queue, at the last look
    pythons: dict[str, PythonAnswer] = field(default_factory=dict)  # by need; of this connection
    pythons_asked: set[str] = field(default_factory=set)
    exclusive: bool = False
    jobs: set[int] = field(default_factory=set)
    stamp: int = field(default_factory=lambda: next(_STAMPS), compare=False)  # never the same twice, over all nodes

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)
        if name not in _OF_NO_MATTER:
            object.__setattr__(self, "stamp", next(_STAMPS))

    def hold(self, job_id: int, share: Share, *, exclusive: bool) -> None:
        """Enter what a job has of it."""
        self.jobs.add(job_id)
        self.slots_taken.update(share.slots)
        if share.gpus:
            self.gpus_taken.update(gpu[0] for gpu in share.gpus)
        _set_quietly(self, "cpus_taken", self.cpus_taken + share.cpus)
        _set_quietly(self, "memory_taken_mib", self.memory_taken_mib + share.memory_mib)
        self.exclusive = self.exclusive or exclusive  # with a new stamp

    def give_back(self, job_id: int, share: Share, *, exclusive: bool, now: float) -> None:
        """Take out what a job had of it."""
        self.jobs.discard(job_id)
        self.slots_taken.difference_update(share.slots)
        if share.gpus:
            self.gpus_taken.difference_update(gpu[0] for gpu in share.gpus)
        _set_quietly(self, "cpus_taken", self.cpus_taken - share.cpus)
        _set_quietly(self, "memory_taken_mib", self.memory_taken_mib - share.memory_mib)
        _set_quietly(self, "last_busy_at", now)
        self.exclusive = self.exclusive and not exclusive  # with a new stamp

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def slots(self) -> int:
        """Places for tasks: `sshq_slots`, else as many as CPUs."""
        return self.config.slots if self.config.slots is not None else self.cpus

    @property
    def cpus(self) -> int:
        """CPUs to give away: `sshq_cpus`, else the probe's, and never fewer than the slots the inventory promises."""
        if self.config.cpus is not None:
            return self.config.cpus
        probed = self.facts.cpus if self.facts else 0
        return max(probed, self.config.slots or 0)

    @property
    def memory_mib(self) -> int:
        """Memory to give away in MiB; 0 while unknown."""
        if self.config.memory_mib is not None:
            return self.config.memory_mib
        return self.facts.memory_mib if self.facts else 0

    @property
    def weight(self) -> int:
        return self.config.weight if self.record.weight is None else self.record.weight

    @property
    def features(self) -> frozenset[str]:
        if self.record.features is not None:
            return frozenset(self.record.features)
        return frozenset(self.config.features) | frozenset(self.facts.features if self.facts else ())

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """GPUs to hand out: those the probe found, as far as `sshq_gpus` allows; without a tool, those it counts."""
        return self._gpus[0]

    @property
    def gpu_complaint(self) -> str:
        """Where inventory and machine disagree about GPUs, or why they cannot be used; "" if all is well."""
        if self.facts is None:
            return ""
        return self.gpu_problem or self._gpus[1]

    @property
    def gpu_problem(self) -> str:
        """Why no GPU of it may be used now: its tool does not answer."""
        return self.facts.gpu_problem if self.facts else ""

    @property
    def _gpus(self) -> tuple[tuple[Gpu, ...], str]:
        if self.facts is None:
            return (), ""
        told = bool(self.facts.gpu_tool) and not self.facts.gpu_problem
        return usable_gpus(self.facts.gpus, self.facts.gpu_devices, self.config.gpus, told)

    def choose_engine(self, form: ImageForm) -> tuple[str, str]:
        """Return what runs images of a form there, and "" or why nothing does."""
        if self.facts is None:
            return "", "not known yet whether it runs containers"
        facts = self.facts
        return choose_engine(form, asked=self.config.container, present=facts.engines, own_account=facts.own_account)

    def free_gpus(self) -> list[Gpu]:
        """Those that no job holds and nobody else has in use."""
        if self.gpu_problem:
            return []
        return [gpu for gpu in self.gpus if gpu.id not in self.gpus_taken and gpu.id not in self.gpu_uses]

    @property
    def known(self) -> bool:
        """Whether its size is known: it has answered a probe at least once."""
        return self.facts is not None

    @property
    def reclaiming(self) -> str:
        """Why it takes nothing yet: what was declared dead there has not been proved gone."""
        count = len(self.record.condemned)
        return f"{count} {'launch' if count == 1 else 'launches'} declared dead, not yet proved gone" if count else ""

    @property
    def usable(self) -> bool:
        ready = self.connected and not self.removed and not self.record.drain_reason and not self.record.down_asserted
        ready = ready and not self.trouble
        ready = ready and not self.reclaiming
        return ready and self.next_n < SEQ_PER_GENERATION  # beyond that, launch numbers would run into the next generation

    @property
    def free_slots(self) -> int:
        return self.slots - len(self.slots_taken)

    def lowest_free_slots(self, count: int) -> list[int]:
        return [i for i in range(self.slots) if i not in self.slots_taken][:count]

    def state_name(self) -> str:
        """IDLE, MIXED, ALLOCATED, DOWN or UNKNOWN, without flags."""
        if self.record.down_asserted:
            return "DOWN"
        if not self.known:
            return "UNKNOWN"
        if not self.jobs:
            return "IDLE"
        full = self.cpus_taken >= self.cpus or self.free_slots <= 0 or self.exclusive
        return "ALLOCATED" if full else "MIXED"
