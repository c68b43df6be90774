"""What doctor finds of a host's GPUs: what is handed out, and what is not as it should be."""

from sshq.controller.doctor_checks import Check, format_size
from sshq.controller.gpuwatch import GpuLook
from sshq.core.gpus import Gpu, format_gpus, tally_gpus, usable_gpus
from sshq.inventory.model import Host


def judge_gpus(look: GpuLook | None, host: Host) -> list[Check]:
    """Nothing where there are none and none were promised."""
    if look is None:
        return [Check(check="gpus", verdict="warn", detail="the node did not tell of its GPUs in time")]
    answer = look.answer
    if answer.problem:
        hint = f"ssh {host.address} {answer.tool}    # must list its GPUs" if answer.tool else None
        detail = f"{answer.problem}; GPU jobs wait, other jobs run"
        return [Check(check="gpus", verdict="fail" if host.gpus is not None else "warn", detail=detail, hint=hint)]
    usable, complaint = usable_gpus(answer.gpus, answer.devices, host.gpus, bool(answer.tool))
    checks = []
    if complaint:
        place = host.origins.get("gpus")
        detail = f"{complaint}{f' ({place})' if place else ''}"
        checks.append(Check(check="gpus", verdict="warn", detail=detail))
    if usable:
        lines = [f"{format_gpus(tally_gpus(usable))} to hand out", *(_describe(gpu) for gpu in usable)]
        checks.append(Check(check="gpus", verdict="ok", detail="\n".join(lines)))
    by_id = {gpu.id: gpu for gpu in answer.gpus}
    taken = [f"GPU {by_id[use.id].index} is in use outside sshq: {use}" for use in look.uses if use.id in by_id]
    cut = [f"GPU {gpu.index} is in MIG mode and not handed out" for gpu in answer.gpus if gpu.mig]
    if taken or cut:
        checks.append(Check(check="gpus", verdict="warn", detail="\n".join((*taken, *cut))))
    return checks


def _describe(gpu: Gpu) -> str:
    memory = format_size(gpu.memory_mib) if gpu.memory_mib else ""
    return ", ".join(filter(None, (f"GPU {gpu.index}: {gpu.name or gpu.type or 'counted'}", memory, gpu.bus, gpu.id)))
