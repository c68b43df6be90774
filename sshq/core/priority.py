"""Who comes first: one number a job, fixed when it is queued, higher first, shown by squeue %Q.

The number is Slurm's of priority/basic: a constant, less one for each submission that came before, less the
nice value.  So age is counted in submissions: whoever waits keeps its place while newcomers start further
down, and `--nice=100` means "after the next hundred submissions".  A number given by an operator (--priority,
scontrol update Priority=) stands instead, on the same scale, so that what is shown is what is scheduled.

Two consequences, both tested: waiting never lowers a job's chance (no newcomer of the same or a higher nice
value ever passes it), and a job of nice N is passed by at most N newcomers.  A job that is retried or
requeued takes a new place, after all of its class that were there; a job that a node refused keeps its own.
"""

from typing import Final

PRIORITY_FIRST: Final = 4294901759  # what real Slurm showed for the first job of an empty controller
PRIORITY_MAX: Final = 4294967294  # Slurm's largest; one more means "not set"


def queue_key(*, priority: int | None, nice: int, order: int) -> tuple[int, int]:
    """Return a sort key of a pending job: the smallest is the one to start first.

    Args:
        priority: what an operator gave, None for the usual.
        nice: 0 by default, positive to yield.
        order: place in line, from 1 up; smaller was there first.  Having had to wait for a begin time or a
            dependency does not change it.

    """
    return -_number(priority, nice, order), order


def display_priority(*, priority: int | None, nice: int, order: int, held: bool = False) -> int:
    """Return what squeue %Q shows: 4294901759 for the first job, one less for the next, 0 if held."""
    return 0 if held else min(PRIORITY_MAX, max(1, _number(priority, nice, order)))


def _number(priority: int | None, nice: int, order: int) -> int:
    return PRIORITY_FIRST + 1 - order - nice if priority is None else priority
