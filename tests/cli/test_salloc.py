"""salloc and srun --pty, whole, on this machine: what a terminal sees, what squeue and sacct show, what is left afterwards."""

import os
import signal

import pytest

from bed.screen import Screen


@pytest.fixture
def up(instance):
    assert instance.up().returncode == 0
    instance.ready("localhost")
    return instance


def gone(up):
    up.wait_for(lambda: up.out("squeue", "-h") == "", 30, "nothing is left in the queue")


def test_an_allocation_has_the_commands_status_and_slurms_words_and_variables(up):
    done = up.run("salloc", "-n1", "-t", "10", "-J", "hold", "sh", "-c", "env; exit 3")
    assert (done.returncode, done.stderr) == (3, "salloc: Granted job allocation 1\nsalloc: Relinquishing job allocation 1\n")
    variables = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    assert {name: variables.get(name) for name in ("SLURM_JOB_ID", "SLURM_JOBID", "SLURM_NNODES", "SLURM_NTASKS")} == {
        "SLURM_JOB_ID": "1", "SLURM_JOBID": "1", "SLURM_NNODES": "1", "SLURM_NTASKS": "1",
    }  # fmt: skip
    assert variables["SLURM_JOB_NODELIST"] == variables["SLURM_NODELIST"] == "localhost"
    assert (variables["SLURM_JOB_NAME"], variables["SLURM_SUBMIT_DIR"]) == ("hold", up.work)
    assert not {"SLURM_PROCID", "SLURMD_NODENAME", "ENVIRONMENT", "SSHQ_ATTEMPT"} & variables.keys()
    gone(up)
    assert up.out("sacct", "-n", "-P", "-o", "JobName,State,ExitCode") == "hold|FAILED|3:0\n"  # no line of a batch script
    assert "BatchFlag=0" in up.out("scontrol", "show", "job", "1")
    missing = up.run("salloc", "no-such-command")
    assert missing.returncode == 1
    assert 'salloc: error: _fork_command: Unable to find command "no-such-command"\n' in missing.stderr
    assert up.run("salloc", "-Q", "true").stderr == ""
    wrong = up.run("salloc", "-p", "nosuch", "true")
    assert wrong.returncode == 1
    assert "salloc: error: Job submit/allocate failed: Invalid partition name specified\n" in wrong.stderr
    assert os.listdir(up.work) == []


def test_sruns_in_an_allocation_are_its_steps(up):
    srun = " ".join(up.argv("srun"))
    script = f"""
        echo in | {srun} -n1 cat
        {srun} -n2 -l sh -c 'echo $SLURM_STEP_ID.$SLURM_PROCID; echo wrong >&2; exit $SLURM_PROCID'; echo rc=$?
        MINE='a  b' {srun} --overlap -n1 sh -c 'echo "$MINE $PWD"'
        {srun} -n1 no-such-command; echo rc=$?
        head -c 100000 /dev/zero | {srun} -n1 wc -c"""
    done = up.run("salloc", "-n2", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "in"
    assert sorted(lines[1:3]) == ["0: 1.0", "1: 1.1"]
    assert lines[3:] == ["rc=1", f"a  b {up.work}", "rc=2", "100000"]
    errors = done.stderr.splitlines()
    assert errors[0] == "salloc: Granted job allocation 1"
    assert {"0: wrong", "1: wrong", "srun: error: localhost: task 1: Exited with exit code 1"} <= set(errors)
    assert "slurmstepd-localhost: error: execve(): no-such-command: No such file or directory" in errors
    gone(up)


def test_no_shell_holds_until_it_is_cancelled_and_others_wait(up):
    slots = str(os.cpu_count() or 1)
    assert up.run("salloc", "--no-shell", "-n", slots).stderr == "salloc: Granted job allocation 1\n"
    assert up.out("squeue", "-h", "-o", "%i %j %t").split() == ["1", "interactive", "R"]
    done = up.run("srun", "--jobid=1", "-n1", "sh", "-c", "echo $SLURM_JOB_ID")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    for command in ("salloc", "srun"):
        busy = up.run(command, "-I", "-n1", "true")
        assert (busy.returncode, busy.stderr) == (1, f"{command}: error: Unable to allocate resources: Requested nodes are busy\n")
    waiting = up.start("salloc", "-n1", "true")
    assert [waiting.stderr.readline() for _ in range(2)] == [
        "salloc: Pending job allocation 4\n", "salloc: job 4 queued and waiting for resources\n",
    ]  # fmt: skip
    waiting.send_signal(signal.SIGINT)
    assert waiting.communicate(timeout=30)[1] == "salloc: Job allocation 4 has been revoked.\nsalloc: Job aborted due to signal\n"
    assert waiting.returncode == 1
    granted = up.start("salloc", "-n1", "echo", "mine")
    assert [granted.stderr.readline() for _ in range(2)] == [
        "salloc: Pending job allocation 5\n", "salloc: job 5 queued and waiting for resources\n",
    ]  # fmt: skip
    assert up.out("scancel", "1") == ""
    stdout, stderr = granted.communicate(timeout=30)
    assert (granted.returncode, stdout) == (0, "mine\n")
    assert stderr == (
        "salloc: job 5 has been allocated resources\n"
        "salloc: Granted job allocation 5\nsalloc: Relinquishing job allocation 5\n"
    )
    gone(up)


def test_a_revoked_allocation_tells_the_command(up):
    process = up.start("salloc", "-K", "sh", "-c", "trap 'echo told; exit 5' TERM; echo ready; while :; do sleep 0.05; done")
    assert process.stdout.readline() == "ready\n"
    up.out("scancel", "1")
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (5, "told\n")
    assert stderr == "salloc: Granted job allocation 1\nsalloc: Job allocation 1 has been revoked.\n"


def test_the_shell_of_an_allocation_is_hung_up_on_when_it_is_revoked(up):
    with Screen(up, "salloc", "-t", "0:01", "sh") as screen:
        screen.read_until("Granted job allocation 1")
        screen.send("echo rea''dy $SLURM_JOB_ID\n")
        screen.read_until("ready 1")
        screen.send("sleep 1000\n")
        screen.read_until("sleep 1000")
        assert up.out("scancel", "1") == ""
        screen.read_until("salloc: Job allocation 1 has been revoked.")
        assert screen.wait() == 0
        assert screen.restored
    gone(up)


def test_a_terminal_on_the_node(up):
    with Screen(up, "srun", "--pty", "bash", "--norc", "--noprofile") as screen:
        screen.send("stty size; tty; echo $TERM $SLURM_JOB_ID.$SLURM_STEP_ID; echo en''d\n")
        said = screen.read_until("end\r\n").replace("\r", "")
        assert "40 100\n/dev/" in said
        assert "\nvt100 1.0\n" in said
        screen.resize(50, 120)
        screen.process.send_signal(signal.SIGWINCH)
        screen.insist("stty size\n", "50 120")
        screen.send("sh -c 'echo beg''un; exec sleep 1000'\n")
        screen.read_until("begun")
        screen.send("\x03")
        screen.insist("echo co''de $?\n", "code 130")
        screen.send("sh -c 'echo beg''un; exec sleep 1000'\n")
        screen.read_until("begun")
        screen.send("\x1a")
        screen.read_until("Stopped")
        screen.send("kill -9 %1; wait; echo go''ne\n")
        screen.read_until("gone")
        screen.send("exec sh -c 'exit 7'\n")  # bash may not have seen yet that its job was killed
        assert screen.wait() == 7
        assert screen.restored
    gone(up)
    assert up.out("sacct", "-n", "-P", "-X", "-o", "JobName,State,ExitCode") == "bash|FAILED|7:0\n"


def test_a_terminal_ends_with_ctrl_d_and_with_whoever_holds_it(up):
    with Screen(up, "srun", "--pty", "cat") as screen:
        screen.send("typed\n")
        screen.read_until("typed\r\ntyped\r\n")
        screen.send("\x04")
        assert (screen.wait(), screen.restored) == (0, True)
    with Screen(up, "srun", "--pty", "sh", "-c", "echo rea''dy; exec sleep 1000") as screen:
        screen.read_until("ready")
        screen.process.terminate()
        assert screen.wait() == 130
        assert screen.restored
    gone(up)
    with Screen(up, "srun", "--pty", "sh", "-c", "echo rea''dy; exec sleep 1000") as screen:
        screen.read_until("ready")
        screen.process.kill()
    gone(up)
    with Screen(up, "srun", "--pty", "sh", "-c", "echo rea''dy; exec sleep 1000") as screen:
        screen.read_until("ready")
        job = up.out("squeue", "-h", "-o", "%i").strip()
        up.out("scancel", job)
        assert screen.wait() != 0
        assert screen.restored
    gone(up)
    with Screen(up, "srun", "--pty", "no-such-command") as screen:
        screen.read_until("execve(): no-such-command: No such file or directory")
        assert screen.wait() == 2
    gone(up)


def test_a_terminal_beside_a_running_script(up):
    job = up.wrap("while :; do sleep 0.1; done", "-J", "long")
    up.until_state(job, "RUNNING")
    refused = up.run("srun", f"--jobid={job}", "true")
    assert refused.returncode == 1
    assert "steps of a batch job are started by its script\n    hint: srun --jobid=1 --overlap --pty COMMAND works in it\n" in refused.stderr
    with Screen(up, "srun", f"--jobid={job}", "--overlap", "--pty", "sh") as screen:
        screen.send("echo $SLURM_JOB_NAME $SLURM_JOB_ID en''d\n")
        screen.read_until("long 1 end")
        screen.send("exit 6\n")
        assert (screen.wait(), screen.restored) == (6, True)
    assert up.state(job) == "RUNNING"
    with Screen(up, "srun", f"--jobid={job}", "--overlap", "--pty", "sh", "-c", "echo rea''dy; exec sleep 1000") as screen:
        screen.read_until("ready")
        up.out("scancel", str(job))
        assert screen.wait() != 0
    gone(up)


def test_much_passes_a_terminal_unharmed_and_a_second_one_beside_it(up):
    with Screen(up, "salloc", "-n1", "sh") as shell:
        shell.read_until("Granted job allocation 1")
        words = ("srun", "--jobid=1", "--overlap", "--pty", "sh")
        with Screen(up, *words) as one, Screen(up, *words) as two:
            one.send("stty -onlcr; seq 1 100000; echo en''d\n")
            two.send("echo her''e\n")
            two.read_until("here")
            numbers = one.read_until("end\n").partition("1\n2\n")[2].splitlines()
            assert numbers[:1] == ["3"]
            assert numbers[-2:] == ["100000", "end"]
            assert len(numbers) == 99_999
            for screen in (one, two):
                screen.send("exit 0\n")
                assert screen.wait() == 0
        shell.send("exit 4\n")
        assert shell.wait() == 4
        assert shell.restored
    gone(up)
