"""A node as the launch protocol has it, small enough to read: directories with an exclusive `go`, a floor, generations."""

from collections import deque
from dataclasses import dataclass, field

from hypothesis import strategies as st

from sshq.core import events as ev
from sshq.core.effects import Effect, StartLaunch

REQUESTS = st.fixed_dictionaries(
    {
        "name": st.sampled_from("abc"), "tasks": st.integers(1, 2), "nodes": st.sampled_from([1, 1, 1, 2]),
        "memory": st.sampled_from([None, 400, 900]), "array": st.sampled_from([0, 0, 1, 3, 5]), "limit": st.sampled_from([None, 1, 2]), "retries": st.sampled_from([0, 1]),
        "requeue": st.sampled_from(["yes", "no"]), "held": st.sampled_from([False, False, False, True]),
        "exclusive": st.sampled_from([False, False, False, True]), "begin": st.sampled_from([None, None, None, 50]),
        "priority": st.sampled_from([None, None, 5]), "back": st.integers(1, 3), "kill": st.booleans(),
        "relation": st.sampled_from([None, None, None, None, "afterok", "afterany", "afternotok", "after", "singleton"]),
    }
)  # fmt: skip


@dataclass
class Directory:
    seq: int
    job_id: int = 0
    attempt: int = 0
    rank: int = 0
    go: str = ""
    alive: bool = False
    record: ev.EndRecord | None = None


@dataclass
class ModelNode:
    """A host: its spool outlives connections, its processes die with its boot."""

    name: str
    boot: int = 1
    generation: int = 0
    floor: int = 0
    floor_open: frozenset[int] = frozenset()
    refusing: bool = False
    connected: bool = False
    directories: dict[str, Directory] = field(default_factory=dict)
    orders: deque[Effect] = field(default_factory=deque)  # on this connection, not arrived yet
    late: list[StartLaunch] = field(default_factory=list)  # written to an earlier connection, may arrive at any time
    news: deque[ev.Event] = field(default_factory=deque)
    sent: set[str] = field(default_factory=set)

    def is_settled(self, seq: int) -> bool:
        return seq <= self.floor and seq not in self.floor_open

    def raise_floor(self, high: int, open_seqs: frozenset[int]) -> None:
        """As the runner does: what was settled stays settled, whatever is asked."""
        kept = {seq for seq in open_seqs if not self.is_settled(seq)}
        self.floor_open = frozenset(seq for seq in kept if seq <= max(self.floor, high))
        self.floor = max(self.floor, high)

    def entries(self) -> tuple[ev.NodeEntry, ...]:
        return tuple(self.entry(i) for i in self.directories)

    def entry(self, launch_id: str) -> ev.NodeEntry:
        d = self.directories[launch_id]
        return ev.NodeEntry(
            launch_id=launch_id, seq=d.seq, job_id=d.job_id, attempt=d.attempt, rank=d.rank, go=d.go, supervisor_alive=d.alive,
            job_alive=d.alive, record=d.record,
        )  # fmt: skip
