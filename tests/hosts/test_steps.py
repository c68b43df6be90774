"""Steps on real hosts that have nothing of ours: srun inside a job, and srun that is a job of its own."""

import pytest


@pytest.fixture
def up(hosts, instance):
    """An instance over one host, ready: `up()`, or an odd one, `up("fish")`."""

    def start(kind: str = ""):
        made = [hosts.odd(kind)] if kind else hosts(1)
        instance.use(made, sshq_slots=4, sshq_cpus=4)
        instance.up()
        instance.ready()
        return made

    return start


def output(instance, *words: str) -> tuple[str, str]:
    """State and output of a job."""
    done = instance.run("sbatch", "--parsable", "--wait", *words)
    job = done.stdout.strip()
    return instance.state(job), instance.read(f"slurm-{job}.out")


STEP = "srun -n2 -l sh -c 'echo $SLURM_STEP_ID.$SLURM_PROCID of $SLURM_NTASKS; exit $SLURM_PROCID'; echo rc=$?"
SAID = ["0: 0.0 of 2", "1: 0.1 of 2", "rc=1"]


def check_a_step(instance) -> None:
    state, text = output(instance, "-n2", "--wrap", STEP)
    lines = sorted(text.splitlines())
    assert (state, [line for line in lines if not line.startswith("srun:")]) == ("COMPLETED", SAID)
    (told,) = [line for line in lines if line.startswith("srun:")]
    assert told.endswith(": task 1: Exited with exit code 1")


@pytest.mark.parametrize("kind", ["busybox", "tcsh", "fish", "noisy_bashrc", "noexec_tmp"])
def test_a_step_runs_on_odd_nodes(up, instance, kind):
    up(kind)
    check_a_step(instance)


def test_a_signal_goes_to_the_steps_and_with_b_to_the_script(up, instance):
    (host,) = up()
    task = 'trap "echo task" USR1; touch $HOME/ready; until [ -e $HOME/go ]; do sleep 0.05; done'
    job = instance.wrap(f"trap 'echo script' USR1\nsrun sh -c '{task}' &\nuntil [ -e $HOME/go ]; do sleep 0.05; done; wait")
    instance.wait_for(lambda: host.exists(f"{host.home}/ready"), 10, "the task runs")
    said = []
    for words, line in ((), "task"), (("-b",), "script"), (("--full",), "task"):
        said.append(line)
        instance.run("scancel", "-s", "USR1", *words, str(job), check=True)
        instance.wait_for(lambda: instance.out("logs", str(job)).splitlines().count(line) >= said.count(line), 10, f"{line} heard it")
    host.sh(f"touch {host.home}/go")
    instance.until_state(job, "COMPLETED")
    instance.wait_for(lambda: instance.read(f"slurm-{job}.out"), 5, "output came home")
    lines = instance.read(f"slurm-{job}.out").splitlines()
    assert sorted(line for line in lines if line in ("script", "task")) == ["script", "script", "task", "task"]


def test_a_cancelled_job_is_shown_so_at_once_and_ends_with_its_steps(up, instance):
    instance.write_config("kill_wait: 2s\n")
    (host,) = up()
    job = instance.wrap("srun sh -c 'trap \"\" TERM; touch $HOME/ready; while :; do sleep 0.1013; done'")
    instance.wait_for(lambda: host.exists(f"{host.home}/ready"), 10, "the task runs")
    instance.run("scancel", str(job), check=True)
    assert instance.out("squeue", "-h", "-j", str(job), "-o", "%t") == "CG\n"
    assert instance.out("squeue", "-h", "-j", str(job), "-t", "RUNNING") == ""
    assert instance.out("sacct", "-X", "-n", "-P", "-o", "State", "-j", str(job)) == "CANCELLED by 0\n"
    instance.until_state(job, "CANCELLED", timeout_s=10)
    assert instance.out("squeue", "-h", "-j", str(job)) == ""
    assert "sleep 0.1013" not in host.sh("ps axo args 2>/dev/null || ps").stdout


def test_several_tasks_of_an_srun_of_its_own(up, instance):
    up()
    done = instance.run("srun", "-n3", "-l", "sh", "-c", "echo $SLURM_PROCID; [ $SLURM_PROCID != 2 ] || exit 5")
    assert (done.returncode, sorted(done.stdout.splitlines())) == (5, ["0: 0", "1: 1", "2: 2"])
    assert done.stderr.split(": ", 2)[0] == "srun"
    assert done.stderr.endswith(": task 2: Exited with exit code 5\n")
    killed = instance.run("srun", "sh", "-c", "kill -9 $$")
    assert killed.returncode == 137
    assert killed.stderr.splitlines()[1:] == ["srun: Force Terminated StepId=2.0"]


def test_the_environment_says_how_output_files_are_opened(up, instance):
    up()
    assert output(instance, "--open-mode=append", "--wrap", "echo $SLURM_OPEN_MODE")[1] == "a\n"
    assert output(instance, "--wrap", 'echo "${SLURM_OPEN_MODE-none}"')[1] == "none\n"
