"""Rows of sbatch, srun and salloc about GPUs."""

from sshq.slurm.options import HONOURED as H
from sshq.slurm.options import Option

GPUS: tuple[Option, ...] = (
    Option("--cpus-per-gpu", "N", "SBATCH_CPUS_PER_GPU", "cpus_per_gpu", "positive", H, "CPUs for each GPU"),
    Option("-G --gpus", "[TYPE:]N", "SBATCH_GPUS", "gpus", "gpus", H, "GPUs of the job, over all its nodes: 2, a100:2"),
    Option("--gpus-per-node", "[TYPE:]N", "SBATCH_GPUS_PER_NODE", "gpus_per_node", "gpus", H, "GPUs of each node"),
    Option("--gpus-per-task", "[TYPE:]N", "SBATCH_GPUS_PER_TASK", "gpus_per_task", "gpus", H, "GPUs of each task"),
    Option("--gres", "gpu[:TYPE][:N]", "SBATCH_GRES", "gres", "gres", H, "GPUs of each node: gpu:2, gpu:a100:1, none"),
    Option("--mem-per-gpu", "SIZE", "SBATCH_MEM_PER_GPU", "memory_per_gpu_mib", "memory", H, "memory for each GPU"),
    Option("--ntasks-per-gpu", "N", "", "ntasks_per_gpu", "positive", H, "tasks for each GPU"),
)  # fmt: skip
