"""GPUs of steps, under every shell: a step that asks for some has them to itself; one that does not sees all of the job's."""

import pytest
from test_runner_steps import run

NVIDIA = {"SLURM_JOB_GPUS": "1,3", "CUDA_VISIBLE_DEVICES": "1,3", "GPU_DEVICE_ORDINAL": "1,3", "SLURM_GPUS_ON_NODE": "2"}
AMD = {"SLURM_JOB_GPUS": "1,3", "ROCR_VISIBLE_DEVICES": "1,3", "HIP_VISIBLE_DEVICES": "0,1", "CUDA_VISIBLE_DEVICES": "0,1"}
SAY = "sh -c 'echo $SLURM_PROCID $CUDA_VISIBLE_DEVICES $SLURM_STEP_GPUS $SLURM_GPUS_ON_NODE'"


def test_steps_get_what_they_ask_for(shared, tmp_path):
    script = f"srun {SAY}; srun --gres=gpu:1 {SAY}; srun --gpus=a100:2 {SAY}; srun --gres=none {SAY}; srun -n2 --gpus-per-task=1 -l {SAY}"
    code, out, err = run(shared, tmp_path, script, **NVIDIA)
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[:4] == ["0 1,3 1,3 2", "0 1 1 1", "0 1,3 1,3 2", "0 -1 0"]
    assert sorted(lines[4:]) == ["0: 0 1 1 1", "1: 1 3 3 1"]


def test_two_steps_at_once_never_share_one(shared, tmp_path):
    wait = "sh -c 'echo $CUDA_VISIBLE_DEVICES; until [ -e go ]; do sleep 0.05; done'"
    script = (
        f'for i in 1 2; do srun --gres=gpu:1 {wait} & done\nuntil [ "$(wc -l <out)" -ge 2 ]; do sleep 0.05; done\n'
        f"srun --gres=gpu:1 {SAY} & sleep 0.5; wc -l <out; touch go; wait"
    )
    code, out, err = run(shared, tmp_path, script, **NVIDIA)
    lines = out.splitlines()
    assert code == 0 and "Requested nodes are busy" in err
    assert sorted(lines[:2]) == ["1", "3"] and lines[2].strip() == "2", "the third waits for one of them"
    assert lines[3] in ("0 1 1 1", "0 3 3 1")


def test_amd_counts_anew(shared, tmp_path):
    script = "srun --gpus=1 sh -c 'echo $ROCR_VISIBLE_DEVICES $HIP_VISIBLE_DEVICES $CUDA_VISIBLE_DEVICES'; srun -n2 -l --gpus-per-task=1 "
    script += "sh -c 'echo $ROCR_VISIBLE_DEVICES $HIP_VISIBLE_DEVICES'"
    code, out, err = run(shared, tmp_path, script, **AMD)
    assert (code, err, sorted(out.splitlines())) == (0, "", ["0: 1 0", "1 0 0", "1: 3 0"])


@pytest.mark.parametrize(
    ("option", "why"),
    [("--gres=gpu:3", "Requested node configuration is not available"), ("--gres=nosuch:1", "Invalid generic resource (gres) specification")],
)
def test_more_than_the_job_has_is_refused(shared, tmp_path, option, why):
    code, out, err = run(shared, tmp_path, f"srun {option} true", **NVIDIA)
    assert (code, out, err) == (1, "", f"srun: error: Unable to create step for job 77: {why}\n")


def test_a_job_without_gpus(shared, tmp_path):
    assert run(shared, tmp_path, "srun sh -c 'echo ${SLURM_STEP_GPUS-unset} $CUDA_VISIBLE_DEVICES'", CUDA_VISIBLE_DEVICES="-1")[1] == "unset -1\n"
