"""The GPU options of a submission, settled: what they say about tasks, CPUs and memory, and over how many nodes they go."""

from collections.abc import Sequence
from dataclasses import replace

from sshq.core.gpus import count_of, parse_gpus
from sshq.core.model import JobSpec
from sshq.core.nodes import Node


def settle_tasks(spec: JobSpec) -> JobSpec:
    """Return the spec with the numbers of tasks and nodes that its GPU options imply.

    Raises:
        ValueError: an option is malformed.
    """
    total, per_node = count_of(parse_gpus(spec.gpus_total or "0")), count_of(parse_gpus(spec.gpus_per_node or "0"))
    per_task = count_of(parse_gpus(spec.gpus_per_task or "0"))
    if total and per_node and not spec.nodes_given:
        spec = replace(spec, num_nodes=-(-total // per_node), nodes_given=True)
    if spec.ntasks_per_gpu and not spec.ntasks_given:
        gpus = total or per_node * spec.num_nodes
        spec = replace(spec, num_tasks=max(1, spec.ntasks_per_gpu * gpus), ntasks_given=bool(gpus))
    elif spec.ntasks_per_gpu and not (total or per_node or per_task):
        spec = replace(spec, gpus_total=str(-(-spec.num_tasks // spec.ntasks_per_gpu)))
    if total and per_task and not spec.ntasks_given:
        spec = replace(spec, num_tasks=-(-total // per_task), ntasks_given=True)
    return spec


def settle_shares(spec: JobSpec) -> JobSpec:
    """Return the spec with the CPUs and the memory that go with its GPUs, once the number of its nodes is known."""
    per_node, everywhere = gpus_of(spec)
    if spec.cpus_per_gpu and everywhere and not spec.cpus_per_task_given:
        spec = replace(spec, cpus_per_task=max(1, -(-spec.cpus_per_gpu * everywhere // spec.num_tasks)))
    if spec.memory_per_gpu_mib and everywhere:
        spec = replace(spec, memory_mib=spec.memory_per_gpu_mib * per_node, memory_per_cpu_mib=None)
    return spec


def gpus_of(spec: JobSpec) -> tuple[int, int]:
    """Return how many GPUs a job asks for: the most on one of its nodes, and on all together."""
    if spec.gpus_per_node:
        count = count_of(parse_gpus(spec.gpus_per_node))
        return count, count * spec.num_nodes
    if spec.gpus_per_task:
        count = count_of(parse_gpus(spec.gpus_per_task)) * spec.num_tasks
    else:
        count = count_of(parse_gpus(spec.gpus_total or "0"))
    return -(-count // spec.num_nodes), count


def nodes_for_total(spec: JobSpec, nodes: Sequence[Node]) -> int:
    """Return over how few nodes the GPUs of --gpus go; 1 where no number of them does."""
    if not spec.gpus_total or spec.gpus_per_node or spec.gpus_per_task:
        return 1
    wanted = count_of(parse_gpus(spec.gpus_total))
    there = sorted((len(node.gpus) for node in nodes), reverse=True)
    fitting = (count for count, least in enumerate(there, 1) if least >= -(-wanted // count))
    return next(fitting, 1)
