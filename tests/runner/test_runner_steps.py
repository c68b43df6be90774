"""srun inside a job on one node: what a runner puts on the job's PATH, under every shell.  Texts are those of transcripts."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
from shell_node import Node, Runner, wait_until

TASK_ENV = {"SLURMD_NODENAME": "node3", "SLURM_JOB_NODELIST": "node3", "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_USER": "anna"}


def step_env(runner: Runner, cpus: int = 4, **more: str) -> dict[str, str]:
    path = {"PATH": runner.node.env["PATH"], "SLURM_JOB_CPUS_PER_NODE": str(cpus), "SLURM_CPUS_ON_NODE": str(cpus)}
    return TASK_ENV | path | {"SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "env"} | more


def launch(runner: Runner, folder: Path, script: str, cpus: int = 4, **more: str):
    fields = {"work_dir": str(folder), "stdout": "out", "stderr": "err", "environ": step_env(runner, cpus, **more)}
    return runner.launch(script=b"#!/bin/sh\n" + script.encode(), **fields)


def run(runner: Runner, folder: Path, script: str, cpus: int = 4, **more: str) -> tuple[int | None, str, str]:
    """Exit code, stdout, stderr of a batch script."""
    record = runner.wait_end(launch(runner, folder, script, cpus, **more).id)
    return record.code, (folder / "out").read_text(), (folder / "err").read_text()


def test_tasks_have_ranks_and_labels(shared, tmp_path):
    code, out, err = run(shared, tmp_path, 'srun -n2 -l sh -c "echo \\$SLURM_STEP_ID \\$SLURM_PROCID/\\$SLURM_NTASKS \\$SLURM_LOCALID"')
    assert (code, sorted(out.splitlines()), err) == (0, ["0: 0 0/2 0", "1: 0 1/2 1"], "")


def test_the_highest_code_of_the_tasks_is_the_steps(shared, tmp_path):
    script = "srun -n2 sh -c 'exit $((SLURM_PROCID+1))'; echo rc=$?; srun -n 3 sh -c 'exit 5'; exit $?"
    assert run(shared, tmp_path, script) == (
        5, "rc=2\n",
        "srun: error: node3: task 0: Exited with exit code 1\nsrun: error: node3: task 1: Exited with exit code 2\n"
        "srun: error: node3: tasks 0-2: Exited with exit code 5\n",
    )  # fmt: skip


def test_a_killed_task(shared, tmp_path):
    assert run(shared, tmp_path, "srun sh -c 'kill -9 $$'; echo rc=$?") == (
        0, "rc=137\n", "srun: error: node3: task 0: Killed\nsrun: Force Terminated StepId=77.0\n",
    )  # fmt: skip


def test_a_command_that_is_not_there(shared, tmp_path):
    code, _, err = run(shared, tmp_path, "srun no-such-command-here")
    assert code == 2
    assert sorted(err.splitlines()) == [
        "slurmstepd-node3: error: execve(): no-such-command-here: No such file or directory",
        "srun: error: node3: task 0: Exited with exit code 2",
    ]


def test_input_goes_to_every_task(shared, tmp_path):
    assert run(shared, tmp_path, "echo in | srun -n2 cat; echo one | srun cat; srun -n2 cat") == (0, "in\nin\none\n", "")
    (tmp_path / "given").write_text("from a file\n")
    assert run(shared, tmp_path, "srun -n2 -i given cat")[1] == "from a file\n" * 2
    assert run(shared, tmp_path, "echo in | srun -n2 -i1 sh -c 'cat; exit 0'")[1] == "in\n"


@pytest.mark.parametrize(("variable", "value"), [
    ("SLURM_PROCID", "0"), ("SLURM_LOCALID", "0"), ("SLURM_NODEID", "0"), ("SLURM_NTASKS", "2"), ("SLURM_NPROCS", "2"),
    ("SLURM_STEP_ID", "0"), ("SLURM_STEPID", "0"), ("SLURM_STEP_NODELIST", "node3"), ("SLURM_STEP_NUM_NODES", "1"),
    ("SLURM_STEP_NUM_TASKS", "2"), ("SLURM_STEP_TASKS_PER_NODE", "2"), ("SLURM_TASKS_PER_NODE", "2"), ("SLURM_GTIDS", "0,1"),
    ("SLURM_UMASK", "0022"), ("SLURM_LAUNCH_NODE_IPADDR", "127.0.0.1"), ("SLURM_CPUS_ON_NODE", "4"), ("MINE", "a  b'c"),
])  # fmt: skip
def test_the_environment_of_a_step(shared, tmp_path, variable, value):
    code, out, err = run(shared, tmp_path, f"srun -n2 -o 0 printenv {variable}", MINE="a  b'c")
    assert (code, err) == (0, "")
    assert out.rstrip("\n") == value


def test_each_task_knows_its_pid(shared, tmp_path):
    _, out, _ = run(shared, tmp_path, "srun sh -c 'echo $$ $SLURM_TASK_PID'")
    assert len(set(out.split())) == 1


@pytest.mark.parametrize(("pattern", "names"), [
    ("log-%j_%t.txt", ["log-77_0.txt", "log-77_1.txt"]),
    ("%x.%N.%2t", ["env.node3.00", "env.node3.01"]),
    ("%J.out", ["77.0.out"]),
    ("%q%%", ["%q%"]),
    ("a\\%t", ["a%t"]),
])  # fmt: skip
def test_names_of_output_files(shared, tmp_path, pattern, names):
    folder = tmp_path / "w"
    folder.mkdir()
    assert run(shared, folder, f"srun -n2 --output '{pattern}' sh -c 'echo $SLURM_PROCID; echo oops >&2'") == (0, "", "")
    written = {p.name: p.read_text() for p in folder.iterdir() if p.name not in ("out", "err")}
    assert sorted(written) == sorted(names)
    assert sorted("".join(written.values()).split()) == ["0", "1", "oops", "oops"]


def test_output_and_errors_apart_appended_or_begun_anew(shared, tmp_path):
    script = "for i in 1 2; do srun $MODE --output=o.%t --error=e.%t sh -c 'echo out; echo err >&2'; done"
    assert run(shared, tmp_path, script)[0] == 0
    assert [(tmp_path / n).read_text() for n in ("o.0", "e.0")] == ["out\n", "err\n"]
    run(shared, tmp_path, script, MODE="--open-mode=append")
    assert (tmp_path / "o.0").read_text() == "out\n" * 3
    run(shared, tmp_path, script, SLURM_OPEN_MODE="a")
    assert (tmp_path / "e.0").read_text() == "err\n" * 5
    assert run(shared, tmp_path, "srun -o none -e all sh -c 'echo gone; echo kept >&2'") == (0, "", "kept\n")
    assert run(shared, tmp_path, "srun -o no/such true") == (1, "", "srun: error: Could not open stdout file no/such: No such file or directory\n")


def test_a_step_larger_than_its_job(shared, tmp_path):
    text = "srun: error: Unable to create step for job 77: More processors requested than permitted\n"
    for words in ("-n3", "-n2 -c2", "--ntasks-per-node=4"):
        assert run(shared, tmp_path, f"srun {words} true", cpus=2) == (1, "", text), words
    assert run(shared, tmp_path, "srun -O -n3 echo x", cpus=2)[1] == "x\n" * 3


@pytest.mark.parametrize(("words", "text"), [
    ("--no-such true", "srun: unrecognized option '--no-such'\nTry \"srun --help\" for more information\n"),
    ("-y true", "srun: invalid option -- 'y'\nTry \"srun --help\" for more information\n"),
    ("--ntasks", "srun: option '--ntasks' requires an argument\nTry \"srun --help\" for more information\n"),
    ("-n", "srun: option requires an argument -- 'n'\nTry \"srun --help\" for more information\n"),
    ("--label=2 true", "srun: option '--label' doesn't allow an argument\nTry \"srun --help\" for more information\n"),
    ("-n x true", 'srun: error: Invalid numeric value "x" for -n.\n'),
    ("-N2 true", "srun: error: Only allocated 1 nodes asked for 2\n"),
    ("-w other true", "srun: error: Unable to create step for job 77: Requested node configuration is not available\n"),
    ("", "srun: fatal: No command given to execute.\n"),
    ("-l", "srun: fatal: No command given to execute.\n"),
])  # fmt: skip
def test_bad_options(shared, tmp_path, words, text):
    assert run(shared, tmp_path, f"srun {words}") == (1, "", text)


def test_options_that_would_change_what_runs_are_refused(shared, tmp_path):
    for words in ("--task-prolog=x", "--bcast"):
        code, out, err = run(shared, tmp_path, f"srun {words} true")
        assert (code, out) == (1, "")
        assert "is not supported by sshq in a step" in err
    assert run(shared, tmp_path, "srun --gres=none --exclusive --overlap -u -p lab --mem=1G --unbuff --cpus-per-t 1 --job-name=x echo ok") == (0, "ok\n", "")


def test_abbreviations_clusters_and_what_follows_the_command(shared, tmp_path):
    out = run(shared, tmp_path, "srun -ln2 --chdi=/ -- echo x --ntasks=3")[1]
    assert sorted(out.splitlines()) == ["0: x --ntasks=3", "1: x --ntasks=3"]
    code, _, err = run(shared, tmp_path, "srun --ntasks-per true")
    assert code == 1
    assert "is ambiguous; possibilities: '--ntasks-per-node'" in err


def test_variables_stand_behind_the_command_line(shared, tmp_path):
    labelled = run(shared, tmp_path, "srun echo x", SLURM_NTASKS="3", SLURM_LABELIO="1")[1]
    assert sorted(labelled.splitlines()) == ["0: x", "1: x", "2: x"]
    assert run(shared, tmp_path, "srun echo x", SLURM_NTASKS="3")[1] == "x\n" * 3
    assert run(shared, tmp_path, "srun -n1 echo x", SLURM_NTASKS="3")[1] == "x\n"
    assert run(shared, tmp_path, "srun --ntasks-per-node=2 echo x")[1] == "x\n" * 2


def test_chdir_and_export(shared, tmp_path):
    assert run(shared, tmp_path, "srun -D /usr pwd")[1] == "/usr\n"
    _, out, err = run(shared, tmp_path, "srun -D /no/such pwd")
    assert (out, err) == ("/tmp\n", "slurmstepd-node3: error: couldn't chdir to `/no/such': No such file or directory: going to /tmp instead\n")
    show = 'sh -c \'echo "${MINE-none} ${OTHER-none} ${SLURM_JOB_ID-none} ${X-none}"\''
    for export, expected in {
        "ALL": "a b o 77 none", "NONE": "none none 77 none", "MINE": "a b none 77 none", "ALL,X=1": "a b o 77 1",
        "X='1,2',OTHER": "none o 77 1,2",
    }.items():  # fmt: skip
        assert run(shared, tmp_path, f'srun --export="{export}" {show}', MINE="a b", OTHER="o")[1] == f"{expected}\n", export


def test_a_step_whose_file_is_just_being_written_holds_its_cpus(shared, tmp_path):
    script = """
        mkdir "$SSHQ_DIR.steps" && : >"$SSHQ_DIR.steps/0"
        srun -n1 sh -c 'echo second >>log' & srun=$!
        until [ -e "$SSHQ_DIR.steps/1" ]; do :; done
        read -r stat </proc/$$/stat; set -- ${stat##*) }; shift 19
        sleep 0.3; echo first >>log; printf '1 %s %s 1 run\\n' $$ $1 >"$SSHQ_DIR.steps/0"
        sleep 0.5; echo over >>log; printf '1 1 1 1 done 0\\n' >"$SSHQ_DIR.steps/0"
        wait $srun"""
    assert run(shared, tmp_path, script, cpus=1)[0] == 0
    assert (tmp_path / "log").read_text().split() == ["first", "over", "second"]


def test_steps_share_the_jobs_cpus(shared, tmp_path):
    script = 'for i in 1 2 3; do srun -n1 sh -c "echo in >>log; sleep 0.4; echo out >>log" & done; wait'
    code, _, err = run(shared, tmp_path, script, cpus=1)
    assert (code, (tmp_path / "log").read_text().split()) == (0, ["in", "out"] * 3)
    assert "srun: Job 77 step creation temporarily disabled, retrying (Requested nodes are busy)\n" in err
    assert re.search(r"srun: Step created for StepId=77\.[12]\n", err)
    together = "echo in >>met; until [ $(wc -l <met) = 3 ]; do sleep 0.05; done"
    assert run(shared, tmp_path, f"for i in 1 2 3; do srun --overlap -n1 sh -c '{together}' & done; wait", cpus=1) == (0, "", "")
    _, _, err = run(shared, tmp_path, "srun sleep 1 & sleep 0.4; srun -I true; wait", cpus=1)
    assert err == "srun: error: Unable to create step for job 77: Requested nodes are busy\n"
    assert run(shared, tmp_path, "srun srun echo within", cpus=1) == (0, "within\n", "")


def test_the_first_bad_exit_ends_the_step_if_asked(shared, tmp_path):
    began = time.monotonic()
    _, out, err = run(shared, tmp_path, "srun -K -n2 sh -c '[ $SLURM_PROCID = 1 ] && exit 3; exec sleep 60'; echo rc=$?")
    assert time.monotonic() - began < 10
    lines = ["srun: error: node3: task 1: Exited with exit code 3", "srun: error: node3: task 0: Terminated"]
    assert (out, err.splitlines()[-2:]) == ("rc=143\n", lines)
    _, _, err = run(shared, tmp_path, "srun --wait=1 -n2 sh -c '[ $SLURM_PROCID = 1 ] || exec sleep 60'")
    assert "srun: First task exited 1s ago\n" in err


def test_a_signal_to_srun_reaches_its_tasks_once(shared, tmp_path):
    task = """trap 'echo got' USR1; echo ready >ready; while [ ! -e go ]; do sleep 0.05; done"""
    (tmp_path / "task").write_text(task)
    call = launch(shared, tmp_path, "srun sh task & echo $! >pid; trap : USR1; wait; wait; wait")
    wait_until(lambda: (tmp_path / "ready").exists())
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGUSR1)
    wait_until(lambda: "got" in (tmp_path / "out").read_text())
    (tmp_path / "go").touch()
    assert shared.wait_end(call.id).code == 0
    assert (tmp_path / "out").read_text() == "got\n"


def test_term_to_srun_ends_its_tasks_as_slurms(shared, tmp_path):
    call = launch(shared, tmp_path, "srun sh -c 'echo $$ >ready; exec sleep 60' & echo $! >pid; wait $!; echo rc=$?")
    wait_until(lambda: (tmp_path / "ready").exists() and (tmp_path / "ready").read_text())
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
    assert shared.wait_end(call.id).code == 0
    assert (tmp_path / "out").read_text() == "rc=137\n"
    assert (tmp_path / "err").read_text() == "srun: forcing job termination\nsrun: error: node3: task 0: Killed\n"


TRAPPER = "trap 'echo task got it' USR1; echo r >>ready; while [ ! -e go ]; do sleep 0.05; done"


@pytest.mark.parametrize(("mode", "out"), [
    ("signal", ["task got it"] * 2), ("signal-batch", ["script got it"]),
    ("signal-full", ["script got it", "task got it", "task got it"]),
])  # fmt: skip
def test_a_signal_to_the_job_is_for_its_steps(runner, tmp_path, mode, out):
    from sshq.runner import protocol as p

    (tmp_path / "task").write_text(TRAPPER)
    call = launch(runner, tmp_path, "trap 'echo script got it' USR1; srun -n2 sh task & while [ ! -e go ]; do sleep 0.05; done; wait")
    wait_until(lambda: (tmp_path / "ready").exists() and len((tmp_path / "ready").read_text()) == 4)
    step = runner.node.spool / "a" / f"{call.id}.steps" / "0"
    wait_until(lambda: step.read_text().count("\nt ") == 2, what="its srun has written down both tasks")
    runner.send(*[p.encode_kill(id=call.id, seq=call.seq, mode=mode, signal="USR1")])
    wait_until(lambda: len((tmp_path / "out").read_text().splitlines()) >= len(out))
    runner.ping()
    (tmp_path / "go").touch()
    assert runner.wait_end(call.id).code == 0
    assert sorted((tmp_path / "out").read_text().splitlines()) == out


def test_cancel_ends_steps_running_and_waiting(runner, tmp_path):
    from sshq.runner import protocol as p

    call = launch(runner, tmp_path, "srun sh -c 'echo r >ready; exec sleep 60' & sleep 0.3; srun sleep 61 & wait", cpus=1)
    wait_until(lambda: (tmp_path / "ready").exists() and "retrying" in (tmp_path / "err").read_text())
    runner.send(p.encode_kill(id=call.id, seq=call.seq, mode="cancel", signal="TERM", grace_s=5))
    record = runner.wait_end(call.id)
    assert (record.how, record.survivors, "KILL" in record.sent) == ("cancel", (), False)


def test_the_end_of_the_script_is_the_end_of_its_steps(runner, tmp_path):
    call = launch(runner, tmp_path, "srun sh -c 'echo $$ >pid; exec sleep 60' & while [ ! -s pid ]; do sleep 0.05; done")
    assert runner.wait_end(call.id).code == 0
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not Path(f"/proc/{pid}").exists() or ") Z " in Path(f"/proc/{pid}/stat").read_text())


def test_nothing_of_a_step_is_left_after_the_acknowledgement(runner, tmp_path):
    from sshq.runner import protocol as p

    call = launch(runner, tmp_path, "srun -l -n2 true")
    runner.wait_end(call.id)
    assert (runner.node.spool / "a" / f"{call.id}.steps").is_dir()
    runner.send(p.encode_ack(tag="t", high=call.seq, open_seqs=(), ids=[call.id]))
    runner.wait(p.Acked)
    assert not list((runner.node.spool / "a").iterdir())


def test_the_command_is_written_once_and_anew_when_it_changed(node: Node):
    node.connect().close()
    place = node.spool / "bin" / "srun"
    before = place.stat()
    node.connect().close()
    assert place.stat().st_ino == before.st_ino
    place.write_text("#!/bin/sh\n# older\n")
    node.connect().close()
    assert "s_main" in place.read_text()
    assert place.stat().st_mode & 0o777 == 0o700
