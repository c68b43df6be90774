"""Jobs over several real hosts: what their scripts see, and what the loss of a host does."""

import os
import signal
from pathlib import Path

import pytest

from bed.session import is_zombie

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def lab(loopback, instance):
    instance.write_config("kill_wait: 2s\n")
    instance.use(loopback.hosts, sshq_slots=4, sshq_cpus=4, sshq_memory="4G")
    instance.up()
    instance.ready()
    return instance


def test_a_job_on_two_nodes_has_slurms_variables(lab):
    names = ("JOB_NODELIST", "JOB_NUM_NODES", "NNODES", "NTASKS", "NPROCS", "TASKS_PER_NODE", "JOB_CPUS_PER_NODE", "CPUS_ON_NODE",
             "CPUS_PER_TASK", "NODEID", "PROCID")  # fmt: skip
    script = "; ".join(f"echo {name}=$SLURM_{name}" for name in names)
    lab.out("sbatch", "--wait", "-N2", "-n3", "-c2", "-o", "out", "--wrap", script)
    assert lab.read("out").split() == [
        f"JOB_NODELIST={lab.out('scontrol', 'show', 'hostlist', ','.join(lab.nodes[:2])).strip()}", "JOB_NUM_NODES=2", "NNODES=2",
        "NTASKS=3", "NPROCS=3", "TASKS_PER_NODE=2,1", "JOB_CPUS_PER_NODE=4,2", "CPUS_ON_NODE=4",
        "CPUS_PER_TASK=2", "NODEID=0", "PROCID=0",
    ]  # fmt: skip


def test_its_nodes_are_taken_and_shown(lab):
    job = lab.submit("-N3", "--wrap", "sleep 60")
    lab.until_state(job, "RUNNING")
    three = lab.out("scontrol", "show", "hostlist", ",".join(lab.nodes[:3])).strip()
    assert lab.out("squeue", "-h", "-j", str(job), "-o", "%N %D %C").split() == [three, "3", "3"]
    assert lab.out("sinfo", "-h", "-t", "mixed", "-o", "%N").strip() == three
    assert f"NodeList={three}\n" in lab.out("scontrol", "show", "job", str(job))
    lab.out("scancel", str(job))
    lab.until_state(job, "CANCELLED")
    lab.wait_for(lambda: lab.out("sinfo", "-h", "-t", "mixed", "-o", "%N").strip() == "", 10, "all are given back")
    assert lab.out("sacct", "-X", "-n", "-P", "-j", str(job), "-o", "NodeList,NNodes,NCPUS").strip() == f"{three}|3|3"


def holders_of(name: str) -> list[int]:
    """Processes that hold the other nodes of the job of that name."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environ = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        mine = f"SLURM_JOB_NAME={name}".encode() in environ and b"SLURM_NODEID=0" not in environ
        if mine and not is_zombie(int(process.name)):
            found.append(int(process.name))
    return found


def test_a_launch_on_each_node_and_the_loss_of_one_ends_the_job(lab):
    job = lab.submit("-N3", "-J", "held-here", "--no-requeue", "--wrap", "sleep 60")
    lab.until_state(job, "RUNNING")
    assert len(holders_of("held-here")) == 2, "the script begins when the others are there"
    os.kill(holders_of("held-here")[0], signal.SIGKILL)
    lab.until_state(job, "NODE_FAIL")
    lab.wait_for(lambda: not holders_of("held-here"), 10, "the others end with it")
    lab.out("sbatch", "--wait", "-N2", "-J", "ends-well", "-o", "out", "--wrap", "true")
    assert not holders_of("ends-well"), "they are gone when sshq says that the job is over"
    assert lab.out("sacct", "-D", "-n", "-P", "-j", f"{job},{job + 1}", "-o", "JobID,State").split() == [
        f"{job}|NODE_FAIL", f"{job}.batch|NODE_FAIL", f"{job + 1}|COMPLETED", f"{job + 1}.batch|COMPLETED",
    ]  # fmt: skip


def test_tasks_that_no_node_holds_are_spread(lab):
    lab.out("sbatch", "--wait", "-n6", "-o", "out", "--wrap", "echo $SLURM_NNODES $SLURM_TASKS_PER_NODE; scontrol show hostnames || :")
    assert lab.read("out").split()[:2] == ["2", "4,2"]


def test_more_nodes_than_there_are_wait_as_on_slurm(lab):
    count = len(lab.nodes)
    job = lab.submit(f"-N{count + 1}", "--wrap", "true")
    lab.wait_for(lambda: lab.out("squeue", "-h", "-j", str(job), "-o", "%r").strip() == "PartitionConfig", 10, "reason")
    assert f"PartitionConfig: {count + 1} hosts asked, {count} in its partitions, {count} could take a part now" in lab.out("why", str(job))


def test_much_that_tasks_on_other_nodes_write_comes_whole(lab):
    """It comes in more than one piece where it comes faster than it is passed on."""
    lines = 40_000
    lab.out("sbatch", "--wait", "-N2", "-n2", "-o", "out", "--wrap", f"srun sh -c 'seq {lines}; echo $SLURM_PROCID >&2'")
    whole = [str(n) for n in range(1, lines + 1)] * 2
    assert sorted(lab.read("out").split(), key=int) == sorted(["0", "1", *whole], key=int)
