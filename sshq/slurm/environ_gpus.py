"""The variables that tell a job which GPUs are its own, and hide the others.

Numbers, as Slurm's: programs read them as such (`int(os.environ["CUDA_VISIBLE_DEVICES"])`).  CUDA counts the fastest GPU
first unless told otherwise, so CUDA_DEVICE_ORDER=PCI_BUS_ID makes its numbers those of nvidia-smi, which the controller
has just compared with the UUIDs it allocated.  Only beside a GPU cut into MIG instances, where CUDA's numbers are others
again, UUIDs are given.

AMD: ROCR_VISIBLE_DEVICES hides GPUs below HIP, which then counts anew.  So the other variables, which HIP reads too, count
from 0 within those: the same numbers in both would leave nothing.

A job that asked for none on a host that has some gets -1 in each of them: CUDA, ROCr and HIP all stop at a number that is
none, where an empty text would be nothing to CUDA, and everything to HIP.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


NONE = "-1"
_SLURM = ("CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")  # whatever the make
_NVIDIA = ("CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL")  # ray, for one, fails where it finds ROCm's beside NVIDIA's
_ABOVE_ROCR = ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL")


def gpu_variables(facts: "Mapping[str, object]") -> dict[str, str]:
    """Return the variables of a job's GPUs on the node of its script; nothing on a host without any.

    Args:
        facts: `gpu_host` whether the host has GPUs, `gpu_vendor`, `gpu_indices` and `gpu_ids` of those allocated,
            `gpu_by_id` whether their numbers are no use; and what was asked.
    """
    indices = _texts(facts.get("gpu_indices"))
    if not facts.get("gpu_host") and not indices:
        return _asked_variables(facts)  # of an allocation, said where its command runs
    vendor = facts.get("gpu_vendor")
    if not indices:
        names = _NVIDIA if vendor == "nvidia" else ("ROCR_VISIBLE_DEVICES", *_ABOVE_ROCR) if vendor == "amd" else _SLURM
        return dict.fromkeys(names, NONE)
    numbers = ",".join(indices)
    variables = {"SLURM_JOB_GPUS": numbers, "SLURM_GPUS_ON_NODE": str(len(indices))} | _asked_variables(facts)
    if vendor == "nvidia":
        variables |= dict.fromkeys(_NVIDIA, numbers)
        if facts.get("gpu_by_id"):
            variables["CUDA_VISIBLE_DEVICES"] = ",".join(_texts(facts.get("gpu_ids")))
        else:
            variables["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    elif vendor == "amd":
        variables["ROCR_VISIBLE_DEVICES"] = numbers
        variables |= dict.fromkeys(_ABOVE_ROCR, ",".join(map(str, range(len(indices)))))
    else:
        variables |= dict.fromkeys(_SLURM, numbers)
    return variables


def _asked_variables(facts: "Mapping[str, object]") -> dict[str, str]:
    """What was asked, in the variables that sruns of the job read."""
    asked = {
        "SLURM_GPUS": facts.get("gpus_total"),
        "SLURM_GPUS_PER_NODE": None if facts.get("gpus_by_gres") else facts.get("gpus_per_node"),
        "SLURM_GPUS_PER_TASK": facts.get("gpus_per_task"),
        "SLURM_NTASKS_PER_GPU": facts.get("ntasks_per_gpu"),
        "SLURM_CPUS_PER_GPU": facts.get("cpus_per_gpu"),
        "SLURM_MEM_PER_GPU": facts.get("memory_per_gpu_mib"),
    }
    return {name: str(value) for name, value in asked.items() if value}


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, (list, tuple)) else []
