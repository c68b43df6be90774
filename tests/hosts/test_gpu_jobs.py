"""GPU jobs on real hosts whose nvidia-smi says what real ones say: who gets which, who sees none, and who waits for a stranger."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bed.gpus import FakeNvidia, FakeRocm, FakeTool

pytestmark = [pytest.mark.timeout(120), pytest.mark.slow]
SHOW = "env | grep -E 'SLURM.*GPU|CUDA|GPU_|ROCR|HIP|ZE_' | sort"


class Lab:
    def __init__(self, instance, hosts, tools: dict[str, FakeTool]) -> None:
        self.sshq, self.hosts, self.tools = instance, hosts, tools
        self.one, self.two = hosts[0].name, hosts[1].name

    def reads(self, job: int, name: str) -> list[str]:
        self.sshq.until_state(job, "COMPLETED")
        return self.sshq.read(name).split()


@pytest.fixture
def lab(loopback, instance) -> Iterator[Lab]:
    hosts = loopback.hosts[:3]
    tools: dict[str, FakeTool] = {}
    for host, make in zip(hosts[:2], (FakeNvidia, FakeRocm), strict=True):
        directory = Path(host.dir, "tools")
        directory.mkdir(exist_ok=True)
        tools[host.name] = make(directory)
        Path(host.home, ".bashrc").write_text(f"PATH={directory}:$PATH\n")
    tools[hosts[0].name].gpus("NVIDIA A100-SXM4-80GB", "NVIDIA A100-SXM4-80GB")
    tools[hosts[1].name].gpus("AMD Instinct MI210", "AMD Instinct MI210")
    instance.write_config("kill_wait: 2s\nreconcile_interval: 5s\n")
    instance.use(hosts, sshq_slots=4, sshq_cpus=8, sshq_memory="4G")
    instance.up()
    instance.ready()
    yield Lab(instance, hosts, tools)
    for host in hosts[:2]:
        Path(host.home, ".bashrc").unlink()


def test_jobs_get_gpus_of_their_own_and_the_others_see_none(lab):
    sshq = lab.sshq
    first = sshq.submit("--gres=gpu:a100:1", "-o", "first", "--wrap", f"{SHOW}; until [ -e go ]; do sleep 0.1; done")
    second = sshq.submit("--gpus=a100:1", "-o", "second", "--wrap", SHOW)
    assert lab.reads(second, "second") == [
        "CUDA_DEVICE_ORDER=PCI_BUS_ID", "CUDA_VISIBLE_DEVICES=1", "GPU_DEVICE_ORDINAL=1", "SLURM_GPUS=a100:1",
        "SLURM_GPUS_ON_NODE=1", "SLURM_JOB_GPUS=1",
    ]  # fmt: skip
    plain = sshq.submit("-w", lab.one, "-o", "plain", "--wrap", SHOW)
    assert lab.reads(plain, "plain") == ["CUDA_VISIBLE_DEVICES=-1", "GPU_DEVICE_ORDINAL=-1"]
    amd = sshq.submit("--gres=gpu:mi210:2", "-o", "amd", "--wrap", SHOW)
    assert lab.reads(amd, "amd") == [
        "CUDA_VISIBLE_DEVICES=0,1", "GPU_DEVICE_ORDINAL=0,1", "HIP_VISIBLE_DEVICES=0,1", "ROCR_VISIBLE_DEVICES=0,1",
        "SLURM_GPUS_ON_NODE=2", "SLURM_JOB_GPUS=0,1",
    ]  # fmt: skip
    nowhere = sshq.submit("-w", lab.hosts[2].name, "-o", "nowhere", "--wrap", f"{SHOW}; :")
    assert lab.reads(nowhere, "nowhere") == []
    assert sshq.out("sinfo", "-h", "-N", "-n", lab.one, "-O", "Gres:20,GresUsed:30").split() == ["gpu:a100:2", "gpu:a100:1(IDX:0)"]
    assert sshq.out("squeue", "-h", "-j", str(first), "-o", "%b").strip() == "gres:gpu:a100:1"
    node = sshq.out("scontrol", "show", "node", lab.one)
    assert "Gres=gpu:a100:2" in node and ",gres/gpu=2" in node and "gres/gpu=1\n" in node
    shown = sshq.out("scontrol", "-d", "show", "job", str(first))
    assert "TresPerNode=gres:gpu:a100:1" in shown and "GRES=gpu:a100:1(IDX:0)" in shown and "gres/gpu=1" in shown
    tres = sshq.out("sacct", "-X", "-n", "-P", "-j", f"{first},{plain}", "-o", "AllocTRES,ReqTRES").splitlines()
    assert "gres/gpu=1" in tres[0] and "gres/gpu" not in tres[1]
    checks = sshq.run("doctor", "-v", lab.one).stdout
    assert "a100:2 to hand out" in checks and "GPU 1: NVIDIA A100-SXM4-80GB" in checks
    Path(sshq.work, "go").touch()
    assert "CUDA_VISIBLE_DEVICES=0" in lab.reads(first, "first")
    both = sshq.submit("-N2", "-w", f"{lab.one},{lab.two}", "--gpus-per-node=2", "-o", "both", "--wrap",
                       f"{SHOW}; srun -N2 -n2 sh -c 'echo $SLURM_NODEID:$CUDA_VISIBLE_DEVICES:$ROCR_VISIBLE_DEVICES'")  # fmt: skip
    said = lab.reads(both, "both")
    assert "SLURM_GPUS_PER_NODE=2" in said and {"0:0,1:", "1:0,1:0,1"} <= set(said)
    assert "gres/gpu=4" in sshq.out("sacct", "-X", "-n", "-P", "-j", str(both), "-o", "AllocTRES")
    step = sshq.submit("--gres=gpu:a100:2", "-o", "step", "--wrap", "srun --gres=gpu:1 sh -c 'echo $CUDA_VISIBLE_DEVICES'")
    assert lab.reads(step, "step") == ["0"]
    for argv, text in (
        (["--gres=gpu:3"], "Batch job submission failed: Requested node configuration is not available"),
        (["--gres=nosuch:1"], "sbatch: error: Invalid generic resource (gres) specification"),
    ):
        refused = sshq.run("sbatch", *argv, "--wrap", "true")
        assert refused.returncode == 1 and text in refused.stderr


def test_a_strangers_gpu_is_passed_over_and_named_until_it_is_free(lab):
    sshq, tool = lab.sshq, lab.tools[lab.one]
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        tool.use(0, pid=stranger.pid, mib=18000)
        # Nobody has looked since: the look before the start finds it.
        job = sshq.submit("--gres=gpu:a100:1", "-o", "one", "--wrap", "echo $CUDA_VISIBLE_DEVICES; until [ -e go ]; do sleep 0.1; done")
        sshq.wait_for(lambda: Path(sshq.work, "one").exists() and sshq.read("one") == "1\n", 20, "the other GPU")
        waiting = sshq.submit("--gres=gpu:a100:2", "-o", "two", "--wrap", "echo $CUDA_VISIBLE_DEVICES")
        holder = f"pid {stranger.pid}, 18000 MiB"
        why = sshq.wait_for(lambda: (text := sshq.out("why", str(waiting))) and holder in text and text, 20, "the holder's name")
        assert "too few GPUs" in why
        assert sshq.out("squeue", "-h", "-j", str(waiting), "-o", "%r").strip() == "Resources"
        assert holder in sshq.out("hosts")
        Path(sshq.work, "go").touch()
        sshq.until_state(job, "COMPLETED")
    finally:
        stranger.kill()
        stranger.wait()
    tool.free()
    assert lab.reads(waiting, "two") == ["0,1"]
    assert "MiB" not in sshq.out("hosts")


def test_a_jobs_own_processes_are_no_strangers_and_a_broken_tool_stops_gpu_jobs_only(lab):
    sshq, tool = lab.sshq, lab.tools[lab.one]
    job = sshq.submit("--gres=gpu:a100:1", "-o", "own", "--wrap", "echo $$; exec sleep 100")
    pid = sshq.wait_for(lambda: Path(sshq.work, "own").exists() and sshq.read("own").strip(), 20, "its pid")
    tool.use(0, pid=int(pid), mib=9000)
    sshq.wait_for(lambda: any("query-gpu" in call for call in tool.calls[-2:]), 20, "another look")
    assert "MiB" not in sshq.out("hosts")
    tool.fail("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n")
    sshq.wait_for(lambda: "couldn't communicate" in sshq.out("hosts"), 20, "what is wrong with it")
    waiting = sshq.submit("--gres=gpu:a100:1", "-o", "w", "--wrap", "echo $CUDA_VISIBLE_DEVICES")
    assert sshq.wait_for(lambda: sshq.out("squeue", "-h", "-j", str(waiting), "-o", "%r").strip(), 10, "reason").startswith("ReqNodeNotAvail")
    plain = sshq.submit("-w", lab.one, "-o", "p", "--wrap", "echo fine")
    assert lab.reads(plain, "p") == ["fine"]
    tool.fail(None)
    assert lab.reads(waiting, "w") == ["1"]
    sshq.out("scancel", str(job))
    assert os.path.exists(lab.hosts[0].home)
