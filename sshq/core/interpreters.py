"""Nodes asked for the interpreters that calls need: when, and what is made of the answers.  What fits: `pythons.py`."""

from dataclasses import replace

from sshq.core.cluster import Cluster
from sshq.core.effects import AskPythons
from sshq.core.events import PythonFound
from sshq.core.model import Job, JobSpec
from sshq.core.nodes import Node
from sshq.core.placement import Step, judge, request_of
from sshq.core.pythons import read_need

SHOWN_MAX = 12
NEGATIVE_KEPT_S = 60.0  # somebody may have installed it meanwhile


def note_python(cluster: Cluster, event: PythonFound) -> None:
    """Take in what a node answered."""
    node = cluster.nodes.get(event.node)
    if node is not None:
        # Another dict: the scheduler sees by the field that was set that there is something new.
        node.pythons = {**node.pythons, event.need: replace(event.answer, at=event.now)}
        cluster.schedule_wanted = True


def forget_pythons(node: Node) -> None:
    """An answer is worth as much as the connection it came over."""
    node.pythons = {}
    node.pythons_asked.clear()


def ask_newcomer(cluster: Cluster, node: Node) -> None:
    """Ask a node that has just connected for all jobs that may yet be launched."""
    forget_pythons(node)
    if cluster.index.pythons:
        node.pythons_asked |= cluster.index.pythons.keys()
        cluster.emit(AskPythons(node=node.name, needs=tuple(sorted(node.pythons_asked))))


def ask_everywhere(cluster: Cluster, spec: JobSpec) -> None:
    """Ask whoever has not been asked for a new job, nor has answered while it was submitted."""
    if spec.python is None:
        return
    for node in cluster.nodes.values():
        if node.connected and spec.python not in node.pythons and spec.python not in node.pythons_asked:
            node.pythons_asked.add(spec.python)
            cluster.emit(AskPythons(node=node.name, needs=(spec.python,)))


def nodes_to_ask(cluster: Cluster, spec: JobSpec, now: float) -> list[str]:
    """Return the connected nodes that may run a job and have not answered whether they have the Python it needs.

    Those that have it not are asked again after a while, and at once where no other node has it.
    """
    nodes = [node for node in _eligible(cluster, spec) if node.connected]
    answers = [(node.name, node.pythons.get(spec.python or "")) for node in nodes]
    kept_s = NEGATIVE_KEPT_S if any(answer is not None and answer.path is not None for _, answer in answers) else 0.0
    return [name for name, answer in answers if answer is None or (answer.path is None and not 0 <= now - answer.at < kept_s)]


def why_nowhere(cluster: Cluster, spec: JobSpec) -> tuple[str, bool]:
    """Say that no node has the Python a job needs, and whether that is certain: all that could run it have answered.

    Returns:
        "" and False where at least one has it.

    """
    if spec.python is None:
        return "", False
    lacking, silent = [], []
    for node in _eligible(cluster, spec):
        answer = node.pythons.get(spec.python)
        if answer is None:
            silent.append(node.name)
        elif answer.path is not None:
            return "", False
        else:
            lacking.append(f"{node.name} {answer.detail}")
    if not lacking:
        return "", False
    where = f"partition {','.join(spec.partitions)}" if spec.partitions else "the default partition"
    more = f", and {len(lacking) - SHOWN_MAX} more" if len(lacking) > SHOWN_MAX else ""
    text = f"no host of {where} has a {read_need(spec.python)}: {', '.join(lacking[:SHOWN_MAX])}{more}"
    if silent:
        text += f"; not asked yet: {cluster.fold(silent)}"
    return text, not silent


def _eligible(cluster: Cluster, spec: JobSpec) -> list[Node]:
    """Return the nodes that a job may go to as far as its partition, its lists of nodes, its features and its size say."""
    request = request_of(Job(job_id=0, spec=spec, spec_id=0, submit_at=0.0))
    found = []
    for node in cluster.nodes.values():
        rejection = judge(request, node, cluster.directories)
        if not node.removed and (rejection is None or rejection.step > Step.TOO_SMALL):
            found.append(node)
    return found
