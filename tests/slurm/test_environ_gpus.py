"""Which GPUs a job is told of, by make of the GPUs, and that a job without any sees none."""

import pytest

from sshq.slurm.environ import filter_submitted_environment
from sshq.slurm.environ_gpus import gpu_variables


def facts(*indices: int, vendor: str = "nvidia", **more: object) -> dict[str, object]:
    return {"gpu_host": True, "gpu_vendor": vendor, "gpu_indices": list(indices), "gpu_ids": [f"GPU-{i}" for i in indices]} | more


def test_as_slurm_recorded_it_where_the_make_is_not_known() -> None:
    assert gpu_variables(facts(0, vendor="", gpus_by_gres=True, gpus_per_node="1")) == {
        "CUDA_VISIBLE_DEVICES": "0", "GPU_DEVICE_ORDINAL": "0", "ROCR_VISIBLE_DEVICES": "0", "SLURM_GPUS_ON_NODE": "1",
        "SLURM_JOB_GPUS": "0", "ZE_AFFINITY_MASK": "0",
    }  # fmt: skip


def test_nvidia_by_number_in_the_order_of_the_bus() -> None:
    assert gpu_variables(facts(1, 3)) == {
        "CUDA_VISIBLE_DEVICES": "1,3", "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "GPU_DEVICE_ORDINAL": "1,3", "SLURM_GPUS_ON_NODE": "2",
        "SLURM_JOB_GPUS": "1,3",
    }  # fmt: skip


def test_beside_mig_by_uuid() -> None:
    found = gpu_variables(facts(1, gpu_by_id=True))
    assert found["CUDA_VISIBLE_DEVICES"] == "GPU-1" and "CUDA_DEVICE_ORDER" not in found


def test_amd_hides_below_and_counts_anew_above() -> None:
    found = gpu_variables(facts(2, 3, vendor="amd"))
    assert found["ROCR_VISIBLE_DEVICES"] == "2,3"
    assert {found[name] for name in ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL")} == {"0,1"}


@pytest.mark.parametrize(
    ("vendor", "names"),
    [
        ("nvidia", {"CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"}),
        ("amd", {"ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"}),
        ("", {"CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"}),
    ],
)
def test_a_job_without_gpus_sees_none(vendor, names) -> None:
    assert gpu_variables(facts(vendor=vendor)) == dict.fromkeys(names, "-1")


def test_a_host_without_gpus_says_nothing() -> None:
    assert gpu_variables({"gpu_host": False, "gpu_indices": []}) == {}
    assert gpu_variables({"gpus_total": "2"}) == {"SLURM_GPUS": "2"}, "salloc's own command, on the head"


def test_what_was_asked() -> None:
    found = gpu_variables(
        facts(0, gpus_total="a100:1", gpus_per_node="1", gpus_per_task="1", ntasks_per_gpu=2, cpus_per_gpu=4, memory_per_gpu_mib=512)
    )
    assert {name: found[name] for name in found if name.startswith(("SLURM_GPUS", "SLURM_NTASKS", "SLURM_CPUS", "SLURM_MEM"))} == {
        "SLURM_GPUS": "a100:1", "SLURM_GPUS_ON_NODE": "1", "SLURM_GPUS_PER_NODE": "1", "SLURM_GPUS_PER_TASK": "1",
        "SLURM_NTASKS_PER_GPU": "2", "SLURM_CPUS_PER_GPU": "4", "SLURM_MEM_PER_GPU": "512",
    }  # fmt: skip


def test_an_outer_jobs_gpus_are_not_an_inner_jobs() -> None:
    outer = {"SLURM_JOB_GPUS": "0", "SLURM_GPUS_ON_NODE": "1", "SLURM_GPUS": "1", "SLURM_STEP_GPUS": "0", "SBATCH_GPUS": "2"}
    assert filter_submitted_environment(outer, None) == {"SBATCH_GPUS": "2"}
