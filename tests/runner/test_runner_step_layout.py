"""Steps over several nodes, as the srun of each node lays them out: under every shell, without a controller.

What a node other than the first is asked to run is this very program with the same words (`SLURM_SSHQ_PART`): so it can be seen here
which tasks it takes to be its own.
"""

from pathlib import Path

import pytest
from test_runner_steps import run

NODES = "node[08-10],x"
CPUS = "4,2(x3)"
NAMES = ("node08", "node09", "node10", "x")


def ranks(runner, folder: Path, words: str, node: str, **more: str) -> str:
    """What the tasks of `node` say of themselves: rank.local, in order of their ranks."""
    script = f"SLURM_SSHQ_PART=7 SLURMD_NODENAME={node} srun {words} sh -c 'echo $SLURM_PROCID.$SLURM_LOCALID'"
    environ = {"SLURM_JOB_NODELIST": NODES, "SLURM_JOB_CPUS_PER_NODE": CPUS, "SLURM_JOB_NUM_NODES": "4"} | more
    code, out, err = run(runner, folder, script, **environ)
    assert (code, err) == (0, ""), (words, node)
    return " ".join(sorted(out.split(), key=lambda word: int(word.split(".")[0])))


@pytest.mark.parametrize(("words", "laid_out"), [
    ("", ["0.0", "1.0", "2.0", "3.0"]),
    ("-n10", ["0.0 1.1 2.2 3.3", "4.0 5.1", "6.0 7.1", "8.0 9.1"]),
    ("-n6", ["0.0 1.1", "2.0 3.1", "4.0", "5.0"]),
    ("-n6 -m cyclic", ["0.0 4.1", "1.0 5.1", "2.0", "3.0"]),
    ("-n10 --distribution=cyclic", ["0.0 4.1 8.2 9.3", "1.0 5.1", "2.0 6.1", "3.0 7.1"]),
    ("-N2 -n3", ["0.0 1.1", "2.0", None, None]),
    ("-N3 --ntasks-per-node=2", ["0.0 1.1", "2.0 3.1", "4.0 5.1", None]),
    ("-n4 -c2 -w node08,node10,x", ["0.0 1.1", None, "2.0", "3.0"]),
    ("-n2 -w x,node09", [None, "0.0", None, "1.0"]),
    ("-n2 -x node08,node09", [None, None, "0.0", "1.0"]),
    ("-O -n9 -N2", ["0.0 1.1 2.2 3.3 4.4", "5.0 6.1 7.2 8.3", None, None]),
])  # fmt: skip
def test_which_tasks_run_where(shared, tmp_path, words, laid_out):
    for node, told in zip(NAMES, laid_out, strict=True):
        if told is not None:
            assert ranks(shared, tmp_path, words, node) == told


def test_what_tasks_are_told_of_their_step(shared, tmp_path):
    names = "STEP_NODELIST STEP_NUM_NODES STEP_NUM_TASKS STEP_TASKS_PER_NODE NODEID GTIDS NTASKS NNODES STEP_ID"
    script = f"SLURM_SSHQ_PART=7 SLURMD_NODENAME=node10 srun -n7 sh -c 'for n in {names}; do eval echo $n=\\$SLURM_$n; done'"
    more = {"SLURM_JOB_NODELIST": NODES, "SLURM_JOB_CPUS_PER_NODE": CPUS, "SLURM_JOB_NUM_NODES": "4"}
    assert sorted(run(shared, tmp_path, script, **more)[1].split()) == sorted([
        f"STEP_NODELIST={NODES}", "STEP_NUM_NODES=4", "STEP_NUM_TASKS=7", "STEP_TASKS_PER_NODE=2(x3),1", "NODEID=2", "GTIDS=4,5",
        "NTASKS=7", "NNODES=4", "STEP_ID=7",
    ] * 2)  # fmt: skip


def test_too_many_tasks_and_nodes_that_are_not_there(shared, tmp_path):
    more = {"SLURM_JOB_NODELIST": NODES, "SLURM_JOB_CPUS_PER_NODE": CPUS, "SLURM_JOB_NUM_NODES": "4", "SLURMD_NODENAME": "node08"}
    for words, text in (
        ("-n11", "More processors requested than permitted"), ("-N5", "Only allocated 4 nodes asked for 5"),
        ("-w y", "Requested node configuration is not available"), ("-x " + NODES, "Requested node configuration is not available"),
    ):  # fmt: skip
        code, out, err = run(shared, tmp_path, f"srun {words} true", **more)
        assert (code, out) == (1, "")
        assert text in err
    code, out, err = run(shared, tmp_path, "srun -n1 echo here", **more)
    assert (code, out, err) == (0, "here\n", "srun: Warning: can't run 1 processes on 4 nodes, setting nnodes to 1\n")


def test_a_step_that_begins_on_another_node_than_the_first_runs_there_alone(shared, tmp_path):
    more = {"SLURM_JOB_NODELIST": NODES, "SLURM_JOB_CPUS_PER_NODE": CPUS, "SLURM_JOB_NUM_NODES": "4", "SLURM_NTASKS": "10",
            "SLURMD_NODENAME": "node09"}  # fmt: skip
    say = "sh -c 'echo $SLURM_PROCID.$SLURM_NTASKS.$SLURM_NODEID'"
    assert run(shared, tmp_path, f"srun {say}; srun -n2 {say} | sort; srun -w node09 {say}", **more) == (
        0, "0.1.0\n0.2.0\n1.2.0\n0.1.0\n", "",
    )  # fmt: skip
    for words in ("-N2", "-w x"):
        code, _, err = run(shared, tmp_path, f"srun {words} true", **more)
        assert code == 1
        assert "a step that begins on node09 runs there alone: only node08, the first node of the job" in err


def test_several_programs_of_one_step(shared, tmp_path):
    lines = ["# a remark", "0 echo 'a  b' %t.%o it''s", "1-2\techo \"q'q\" %t.%o", "* echo other %t %o", ""]
    (tmp_path / "programs").write_text("\n".join(lines))
    code, out, err = run(shared, tmp_path, "srun -n4 --multi-prog programs")
    assert (code, err) == (0, "")
    assert sorted(out.splitlines()) == ["a  b 0.0 its", "other 3 3", "q'q 1.0", "q'q 2.1"]
    code, _, err = run(shared, tmp_path, "srun -n2 --multi-prog nowhere")
    assert (code, err) == (1, "srun: error: Unable to open configuration file nowhere\n")


def test_cpus_by_their_names(shared, tmp_path):
    if not Path("/usr/bin/taskset").exists():
        pytest.skip("apt-get install util-linux")
    out = run(shared, tmp_path, "srun -n3 -l --cpu-bind=map_cpu:0,1 sh -c 'grep Cpus_allowed_list /proc/self/status'")[1]
    assert sorted(line.split()[-1] for line in out.splitlines()) == ["0", "0", "1"]
    assert run(shared, tmp_path, "srun --cpu-bind=cores echo x") == (0, "x\n", "")
