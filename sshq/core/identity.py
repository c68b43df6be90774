"""Which machine it is that answers: the one that had the name before, one of another name, or a stranger.

A spool's id names one account's spool on one machine, the boot tag one life of a kernel, the machine id an installation.
Asked before anything is changed there.
"""

from sshq.core.cluster import Cluster
from sshq.core.nodes import Node


def find_twin(cluster: Cluster, name: str, spool_id: str, *, displaced: bool) -> str | None:
    """Return the node that already is the machine with this spool; `displaced`: our runner has just ended another's.

    Of two names the one with launches there has it, then the one that had it before, then the first, so that they do not
    end each other's runner for ever.
    """

    def rank(node: Node) -> tuple[bool, bool, str]:
        launches = any(cluster.launches[i].spool_id == spool_id for i in cluster.node_launches.get(node.name, ()))
        return not launches, node.record.spool_id != spool_id, node.name

    me = cluster.nodes.get(name)
    for other in sorted(cluster.nodes.values(), key=rank):
        if other.name == name or other.record.spool_id != spool_id:
            continue
        holds = other.connected or displaced or not rank(other)[0]
        if holds and (me is None or other.removed or rank(other) < rank(me)):
            return other.name
    return None


def find_stranger(cluster: Cluster, name: str, *, spool_id: str, boot: str, machine_id: str) -> str | None:
    """Return why what answers in the name of a node is not the machine that its launches are on; None: it may be.

    Only where something is at stake: without launches there a name is free to mean another machine.  An empty
    `machine_id` is not known (yet).
    """
    node = cluster.nodes.get(name)
    if node is None or not (cluster.node_launches.get(name) or node.record.condemned):
        return None
    record = node.record
    if not record.spool_id or spool_id == record.accepted_spool:
        return None
    if spool_id != record.spool_id:
        others = (n.name for n in sorted(cluster.nodes.values(), key=lambda n: n.name) if n is not node)
        other = next((n for n in others if cluster.nodes[n].record.spool_id == spool_id), None)
        if other is not None:
            return f"the machine that is {other} answers"
    if boot == record.boot or machine_id in ("", record.machine_id) or not record.machine_id:
        return None
    if spool_id == record.spool_id:
        return "another machine answers, with a copy of its disk"
    return "another machine answers"
