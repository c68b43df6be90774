"""Leases (`sbatch --lease`): jobs that end by themselves on a node that has not heard from us for long, and run again elsewhere.

The node counts a lease on its own clock, from a moment of that clock which we had read there before we named it in a launch or
a renewal.  We count on ours from the moment when we heard of it, which is later, and longer: by a tenth, for clocks that differ
in speed, and by what it takes to end a job.  So when our count is over, the node's has been over long enough for the job to be
gone, whatever became of the renewals that are still on their way.  Only then the launch is settled without hearing from the node
(LEASE_ENDED); it is condemned, as one that was declared dead: should something of it live all the same, that is killed before
any slot of its node opens.  What this does not cover stands in ARCHITECTURE.md, section 4.
"""

from typing import TYPE_CHECKING

from sshq.core.events import LeasesEnded
from sshq.core.leftovers import condemn
from sshq.core.model import Outcome

if TYPE_CHECKING:
    from sshq.core.cluster import Cluster

GRACE_MAX_S = 30
SLACK_S = 10
WHY = "not heard from for as long as its lease"


def grace_s(lease_s: int) -> int:
    """Return how long the node lets a job end after TERM: of the lease alone, so that no later configuration can lengthen it."""
    return max(2, min(GRACE_MAX_S, lease_s // 10))


def hold_s(lease_s: int) -> float:
    """Return how long after we last heard of a moment to count from a launch may live."""
    return lease_s * 1.1 + grace_s(lease_s) + SLACK_S


def has_leases(cluster: "Cluster", name: str) -> bool:
    """Whether a launch is open on the node whose job has a lease."""
    return any(_lease_of(cluster, launch_id) for launch_id in cluster.node_launches.get(name, ()))


def leased_away(cluster: "Cluster") -> list[tuple[str, str, int]]:
    """Return node, launch and lease of what is open on nodes that are not connected."""
    return [
        (name, launch_id, lease_s)
        for name, launch_ids in cluster.node_launches.items() if launch_ids and not _is_connected(cluster, name)
        for launch_id in launch_ids if (lease_s := _lease_of(cluster, launch_id))
    ]  # fmt: skip


def end_leases(cluster: "Cluster", event: LeasesEnded) -> None:
    """Settle launches whose leases are over, unless their node has come back: then its listing tells."""
    from sshq.core.settle import settle

    node = cluster.nodes.get(event.name)
    if node is None or node.connected:
        return
    over = [i for i in event.launch_ids if i in cluster.launches and _lease_of(cluster, i)]
    condemn(cluster, node, over)
    for launch_id in over:
        settle(cluster, cluster.launches[launch_id], Outcome.LEASE_ENDED, event.now, why=f"{event.name} was {WHY}")


def _lease_of(cluster: "Cluster", launch_id: str) -> int:
    launch = cluster.launches.get(launch_id)
    job = cluster.jobs.get(launch.job_id) if launch is not None else None
    return (job.spec.lease_s or 0) if job is not None else 0


def _is_connected(cluster: "Cluster", name: str) -> bool:
    node = cluster.nodes.get(name)
    return node is not None and node.connected
