"""Licenses: things that are counted and not on any node, such as seats of a program (sbatch -L matlab:2,fluent).

The controller's configuration says how many there are; a job holds its own as long as it holds its nodes.
"""

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sshq.core.cluster import Cluster

Licenses = tuple[tuple[str, int], ...]
_ONE: Final = re.compile(r"([A-Za-z0-9_.@-]+)(?::([0-9]{1,9}))?")


@lru_cache(maxsize=1024)  # asked for each pending job, with few different texts
def parse_licenses(text: str) -> Licenses:
    """Return names with counts, in the order written; a name without a count is one, a repeated one adds up.

    Raises:
        ValueError: why; Slurm itself only says "Invalid license specification".
    """
    counts: dict[str, int] = {}
    for part in (part.strip() for part in text.replace(";", ",").split(",") if part.strip()):
        found = _ONE.fullmatch(part)
        if found is None:
            raise ValueError(f"{part!r} is not NAME or NAME:COUNT")
        counts[found[1]] = counts.get(found[1], 0) + int(found[2] or 1)
    return tuple((name, count) for name, count in counts.items() if count)


def free_licenses(cluster: "Cluster") -> dict[str, int]:
    """Return how many of each license are not held now."""
    free = dict(cluster.licenses)
    for job_id in cluster.license_holders:
        for name, count in parse_licenses(cluster.jobs[job_id].spec.licenses or ""):
            free[name] = free.get(name, 0) - count
    return free
