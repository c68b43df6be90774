"""What front ends are told of GPUs: those a job asked for and holds, those a node has, and who else uses them."""

from sshq.core.gpus import Gpu, GpuShare, fold_indices, format_gres, parse_gpus, tally, tally_gpus
from sshq.core.gpuspec import gpus_of
from sshq.core.model import Job
from sshq.core.nodes import Node


def job_gpus(job: Job) -> dict[str, object]:
    """Return the keys of a job's view that are about GPUs."""
    spec = job.spec
    held = [gpu for share in job.gpus for gpu in share]
    detail = [_with_indices(share) for share in job.gpus] if not job.released or job.start_at is not None else []
    return {
        "gpus": len(held) or gpus_of(spec)[1],
        "gres_detail": detail,
        "gpus_per_node": spec.gpus_per_node,
        "gpus_by_gres": spec.gpus_by_gres,
        "gpus_total": spec.gpus_total,
        "gpus_per_task": spec.gpus_per_task,
        "ntasks_per_gpu": spec.ntasks_per_gpu,
        "cpus_per_gpu": spec.cpus_per_gpu,
        "memory_per_gpu_mib": spec.memory_per_gpu_mib,
        "tres_per_node": _asked(spec.gpus_per_node),
        "tres_per_job": _asked(spec.gpus_total),
        "tres_per_task": _asked(spec.gpus_per_task),
    }


def _asked(text: str | None) -> str | None:
    """As squeue %b and scontrol show it: gres:gpu:a100:2."""
    return ",".join(f"gres:{part}" for part in format_gres(parse_gpus(text)).split(",")) if text else None


def _with_indices(share: GpuShare) -> str:
    parts = []
    for kind, count in tally(share):
        indices = fold_indices([index for _, index, of in share if of == kind])
        parts.append(f"{format_gres(((kind, count),))}(IDX:{indices})")
    return ",".join(parts)


def node_gpus(node: Node) -> dict[str, object]:
    """Return the keys of a node's view that are about GPUs."""
    gpus = node.gpus
    used = []
    for kind, _ in tally_gpus(gpus):
        taken = [gpu.index for gpu in gpus if gpu.type == kind and gpu.id in node.gpus_taken]
        used.append(f"{format_gres(((kind, len(taken)),))}(IDX:{fold_indices(taken) or 'N/A'})")
    return {
        "gres": format_gres(tally_gpus(gpus)),
        "gres_used": ",".join(used) or "gpu:0",
        "gpus": len(gpus),
        "gpus_alloc": len([gpu for gpu in gpus if gpu.id in node.gpus_taken]),
        "gpu_notes": _notes(node),
        "gpu_list": [_gpu(node, gpu) for gpu in gpus],
    }


def _gpu(node: Node, gpu: Gpu) -> dict[str, object]:
    use = node.gpu_uses.get(gpu.id)
    return {
        "index": gpu.index,
        "uuid": gpu.id,
        "type": gpu.type,
        "name": gpu.name,
        "bus": gpu.bus,
        "memory_mib": gpu.memory_mib,
        "allocated": gpu.id in node.gpus_taken,
        "in_use_by": None if use is None else {"user": use.user, "pid": use.pid, "memory_mib": use.memory_mib},
    }


def _notes(node: Node) -> list[str]:
    """What is to be said beside a node's name: strangers, instances that are not handed out, what is not as it should be."""
    found = node.facts.gpus if node.facts else ()
    notes = [node.gpu_complaint] if node.gpu_complaint else []
    if node.gpu_problem:
        return notes
    notes += [f"GPU {g.index} is in use outside sshq: {node.gpu_uses[g.id]}" for g in node.gpus if g.id in node.gpu_uses]
    for gpu in found:
        if gpu.mig:
            cut = ", ".join(gpu.instances) or "no instance yet"
            notes.append(f"GPU {gpu.index} is in MIG mode ({cut}) and not handed out")
    return notes
