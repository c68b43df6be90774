"""Steps over several real hosts: which tasks run where, and what becomes of their output, input, signals and codes."""

import os
import signal
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def lab(loopback, instance):
    instance.write_config("kill_wait: 2s\n")
    instance.use(loopback.hosts, sshq_slots=4, sshq_cpus=4, sshq_memory="4G")
    instance.up()
    instance.ready()
    return instance


def run(lab, script: str, *options: str) -> str:
    """A batch job of this script, waited for; returns its output."""
    lab.run("sbatch", "--wait", "-o", "out", *options, input=f"#!/bin/sh\n{script}\n")
    return lab.read("out")


def test_a_step_on_each_node_of_its_job(lab):
    one, two = lab.nodes[:2]
    out = run(lab, """srun sh -c 'echo $SLURM_PROCID $SLURM_NODEID $SLURM_LOCALID $SLURMD_NODENAME $SLURM_GTIDS'
        echo --; srun -l -n3 sh -c 'echo $SLURM_TASKS_PER_NODE $SLURM_STEP_NUM_NODES $SLURM_NTASKS'
        echo --; srun -m cyclic sh -c 'echo $SLURM_PROCID $SLURMD_NODENAME'
        echo --; srun -N1 -n1 -w $OTHER sh -c 'echo $SLURMD_NODENAME $SLURM_NODEID'; srun -N1 -n1 sh -c 'echo $SLURMD_NODENAME'
        echo --; MINE="a  b'c" srun -n2 printenv MINE; cd /; srun -n2 pwd
        echo --; echo hello | srun -n2 -l cat; echo hello | srun -n2 -l -i1 cat
        echo --; srun -n2 -o file.%t.%n.%N sh -c 'echo $SLURM_PROCID'; srun -n2 -o both sh -c 'echo $SLURM_PROCID'
        cd "$OLDPWD"; scontrol show hostnames""", "-N2", "-n4", f"--export=ALL,OTHER={two}")  # fmt: skip
    parts = [sorted(part.split("\n")) for part in out.replace("\n--\n", "\0").split("\0")]
    assert parts[0] == [f"0 0 0 {one} 0,1,2", f"1 0 1 {one} 0,1,2", f"2 0 2 {one} 0,1,2", f"3 1 0 {two} 3"]
    assert parts[1] == ["0: 2,1 2 3", "1: 2,1 2 3", "2: 2,1 2 3"]
    assert parts[2] == [f"0 {one}", f"1 {two}", f"2 {one}", f"3 {one}"]
    assert parts[3] == sorted([f"{two} 0", one])
    assert parts[4] == ["/", "/", "a  b'c", "a  b'c"]
    assert parts[5] == ["0: hello", "1: hello", "1: hello"]
    assert out.split("\n")[-3:] == [one, two, ""]


def test_the_worst_code_counts_and_each_node_tells_its_own(lab):
    one, two = lab.nodes[:2]
    out = run(lab, "srun sh -c 'exit $SLURM_PROCID'; echo rc=$?; srun -n2 sh -c 'kill -9 $$'; echo rc=$?", "-N2", "-n4")
    lines = out.splitlines()
    assert lines[:4] == sorted(lines[:3]) + ["rc=3"] or lines[3] == "rc=3"
    assert sorted(lines[:3]) == sorted([
        f"srun: error: {one}: task 1: Exited with exit code 1", f"srun: error: {one}: task 2: Exited with exit code 2",
        f"srun: error: {two}: task 3: Exited with exit code 3",
    ])  # fmt: skip
    assert sorted(lines[4:6]) == [f"srun: error: {one}: task 0: Killed", f"srun: error: {two}: task 1: Killed"]
    assert lines[6:] == ["srun: Force Terminated StepId=1.1", "rc=137"]
    assert lab.out("sacct", "-n", "-P", "-j", "1", "-o", "JobID,State,ExitCode,NTasks,NNodes,NodeList").splitlines()[2:] == [
        f"1.0|FAILED|3:0|4|2|{lab.out('scontrol', 'show', 'hostlist', f'{one},{two}').strip()}",
        f"1.1|CANCELLED|0:9|2|2|{lab.out('scontrol', 'show', 'hostlist', f'{one},{two}').strip()}",
    ]


def test_tasks_meet_at_the_first_node(lab):
    """As torchrun does it: the first listens, the others come to the address that the batch script found."""
    script = """export MASTER_ADDR=$SLURM_LAUNCH_NODE_IPADDR MASTER_PORT=$((20000 + $$ % 20000))
        srun python3 -c 'import os, socket, time
rank, place = int(os.environ["SLURM_PROCID"]), (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
if rank == 0:
    server = socket.create_server(("", place[1]))
    server.settimeout(30)
    print(sorted(int(server.accept()[0].recv(9)) for _ in range(2)), flush=True)
else:
    for _ in range(300):
        try:
            with socket.create_connection(place, 5) as peer: peer.sendall(str(rank).encode())
            break
        except OSError: time.sleep(0.1)'"""
    assert run(lab, script, "-N3", "-n3") == "[1, 2]\n"


def test_several_programs(lab):
    Path(lab.work, "programs").write_text("# ranks, program, words\n0 echo 'first of  %t'\n1-2 sh -c 'echo other %o'\n3 echo last\n")
    assert sorted(run(lab, "srun -l --multi-prog programs", "-N2", "-n4").splitlines()) == [
        "0: first of  0", "1: other 0", "2: other 1", "3: last",
    ]  # fmt: skip


def test_srun_and_salloc_typed_at_the_head(lab):
    one, two = lab.nodes[:2]
    done = lab.run("srun", "-N2", "-l", "sh", "-c", "echo $SLURMD_NODENAME; exit $SLURM_PROCID")
    assert (done.returncode, sorted(done.stdout.splitlines())) == (1, [f"0: {one}", f"1: {two}"])
    assert done.stderr == f"srun: error: {two}: task 1: Exited with exit code 1\n"
    done = lab.run("srun", "-N2", "-n2", "-l", "cat", input="hello\n")
    assert (done.returncode, sorted(done.stdout.splitlines()), done.stderr) == (0, ["0: hello", "1: hello"], "")
    script = "$0 -m sshq.cli.main srun sh -c 'echo $SLURMD_NODENAME'; echo rc=$?"
    done = lab.run("salloc", "-N2", "sh", "-c", script, sys.executable)
    assert sorted(done.stdout.splitlines()) == [one, two, "rc=0"]


def tasks_of(word: str) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cmdline").read_bytes().split(b"\0")[:2] == [b"sleep", word.encode()]:
                found.append(int(process.name))
        except OSError:
            continue
    return found


def test_what_ends_a_step_ends_it_on_all_nodes(lab):
    job = lab.submit("-N2", "-n4", "-o", "out", "--wrap", "srun sleep 4321; echo rc=$?; srun -K sh -c 'test $SLURM_PROCID = 0 || exec sleep 4322; exit 5'; echo rc=$?; srun sleep 4323")
    lab.wait_for(lambda: len(tasks_of("4321")) == 4, 20, "all tasks run")
    assert lab.run("scancel", f"{job}.0").returncode == 0
    lab.wait_for(lambda: not tasks_of("4321"), 20, "none of them runs")
    lab.wait_for(lambda: lab.read("out").count("rc=") == 2, 30, "one that fails ends the others")
    assert not tasks_of("4322")
    lab.wait_for(lambda: len(tasks_of("4323")) == 4, 20, "all tasks run")
    lab.out("scancel", str(job))
    lab.wait_for(lambda: lab.out("squeue", "-h") == "", 20, "it is over")  # until then it is CG
    assert not tasks_of("4323"), "what is cancelled is gone"


def test_a_controller_that_dies_ends_the_step_with_a_word_and_starts_nothing_twice(lab):
    job = lab.submit("-N2", "-o", "out", "--wrap", "srun sh -c 'echo $SLURM_PROCID >>begun; exec sleep 4324'; echo rc=$?")
    lab.wait_for(lambda: len(tasks_of("4324")) == 2, 20, "all tasks run")
    lab.kill9()
    lab.up()
    lab.wait_for(lambda: len(tasks_of("4324")) == 1, 30, "the tasks on the other node are ended")
    for pid in tasks_of("4324"):
        os.kill(pid, signal.SIGTERM)
    lab.until_state(job, "COMPLETED")
    assert sorted(lab.read("begun").split()) == ["0", "1"]
    assert "srun: error: the controller was restarted while StepId=1.0 ran on other nodes: its tasks there were ended\n" in lab.read("out")


def holder_of(name: str) -> int:
    """The process that holds the second node of the job of that name."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environ = (process / "environ").read_bytes().split(b"\0")
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if f"SLURM_JOB_NAME={name}".encode() in environ and b".script" in command and b"SLURM_NODEID=1" in environ:
            return int(process.name)
    raise AssertionError(name)


def test_the_loss_of_a_node_ends_the_step_and_the_job(lab):
    job = lab.submit("-N2", "-J", "lost-half", "--no-requeue", "-o", "out", "--wrap", "srun sleep 4325")
    lab.wait_for(lambda: len(tasks_of("4325")) == 2, 20, "all tasks run")
    os.kill(holder_of("lost-half"), signal.SIGKILL)
    lab.until_state(job, "NODE_FAIL")
    assert not tasks_of("4325")
