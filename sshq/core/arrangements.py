"""What administrators arrange with scontrol and the inventory does not say: changed partitions, and reservations.

Both outlive the controller.  A field of a partition's record that is None leaves the inventory's word in force.
"""

from dataclasses import dataclass
from typing import Final, Literal

UNLIMITED: Final = -1  # of a time in a PartitionRecord, where None means that nothing was said
PARTITION_STATES: Final = ("UP", "DOWN", "DRAIN", "INACTIVE")
FLAGS: Final = ("MAINT", "IGNORE_JOBS", "OVERLAP", "SPEC_NODES", "ALL_NODES", "ANY_NODES")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionRecord:
    """What scontrol update partitionname=… changed; it stands over the inventory until it is changed again."""

    name: str
    state: str | None = None  # one of PARTITION_STATES
    max_time_s: int | None = None
    default_time_s: int | None = None
    default: bool | None = None
    hidden: bool | None = None
    priority_tier: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Nodes kept for somebody, or for nobody, for some time."""

    name: str
    start_at: float
    end_at: float
    nodes: tuple[str, ...]
    users: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    partition: str | None = None
    comment: str | None = None

    def is_active(self, now: float) -> bool:
        return self.start_at <= now < self.end_at

    def overlaps(self, start_at: float, end_at: float) -> bool:
        return self.start_at < end_at and start_at < self.end_at

    def admits(self, user: str, account: str | None) -> bool:
        """Whether jobs of this user, or of this account, may use it."""
        return user in self.users or (account is not None and account in self.accounts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn:
    """The arrangement of that name is no more."""

    kind: Literal["partition", "reservation"]
    name: str
