"""Commands inside jobs, on nodes that have nothing of sshq: the same words, output and status as on the head."""

import os
import textwrap
from pathlib import Path

import pytest


@pytest.fixture
def shared(loopback, instance):
    """Two hosts that share the submit directory."""
    instance.use(loopback.hosts[:2], sshq_slots=4)
    instance.up()
    instance.ready()
    return instance


def run(instance, script: str, *args: str, state: str = "COMPLETED") -> tuple[int, str]:
    """Submit a script, wait until it is over; its number and what it said."""
    job = instance.submit(*args, input="#!/bin/sh\n" + textwrap.dedent(script))
    instance.until_state(job, state)
    instance.wait_for(lambda: Path(instance.work, f"slurm-{job}.out").exists(), 10, "its output")
    return job, instance.read(f"slurm-{job}.out")


def test_each_command_answers_as_on_the_head(shared):
    script = """
        squeue -h -o '%i %j %T' --me
        scontrol show job "$SLURM_JOB_ID" | sed -n 's/.*JobState=\\([A-Z]*\\).*/state \\1/p'
        sinfo -h -o '%P %D'
        sacct -n -X -P -o jobid,state -j "$SLURM_JOB_ID"
        scontrol show hostnames 'n[1-3]'
        sstat -j "$SLURM_JOB_ID" >/dev/null; echo "rc=$?"
        sprio; echo "rc=$?"
        squeue --no-such; echo "rc=$?"
        scancel 99999; echo "rc=$?"
        sbatch --mem=nonsense x; echo "rc=$?"
        sbatch /no/such/script; echo "rc=$?"
        sbatch /dev/zero 2>&1 | grep -c .; head -c 7000000 /dev/zero >large; sbatch large 2>&1 | grep -c 'bug'
        scontrol show job 99999; echo "rc=$?"
        """
    job, said = run(shared, script, "-J", "outer")
    head = [
        shared.run("sprio"), shared.run("squeue", "--no-such"), shared.run("scancel", "99999"), shared.run("sbatch", "--mem=nonsense", "x"),
        shared.run("sbatch", "/no/such/script"), shared.run("scontrol", "show", "job", "99999"),
    ]  # fmt: skip
    partitions = shared.out("sinfo", "-h", "-o", "%P %D")
    expected = f"{job} outer RUNNING\nstate RUNNING\n{partitions}{job}|RUNNING\nn1\nn2\nn3\nrc=0\n"
    head_said = [f"{one.stderr}{one.stdout}rc={one.returncode}\n" for one in head]
    expected += "".join([*head_said[:5], "2\n0\n", *head_said[5:]])
    assert said.splitlines() == expected.splitlines()


def test_a_job_submits_jobs(shared):
    Path(shared.work, "sub dir").mkdir()
    Path(shared.work, "sub dir", "child.sh").write_text('#!/bin/sh\n#SBATCH -J child -n2\necho "$MINE $SLURM_NTASKS $1"; pwd\n')
    script = """
        cd 'sub dir'
        export MINE="two
        lines"
        id=$(sbatch --parsable child.sh 'an argument')
        echo "child $id"
        printf '#!/bin/sh\\necho from stdin; exit 3\\n' | sbatch --wait -o stdin.out; echo "waited $?"
        for i in 1 2; do sbatch -o "loop-$i.out" <<END
        #!/bin/sh
        echo heredoc $i
        END
        done
        sbatch --wrap 'echo "$SLURM_SUBMIT_HOST $SLURM_SUBMIT_DIR"' -d afterany:$id -o wrap.out
        """
    job, said = run(shared, script)
    node = shared.out("sacct", "-nXP", "-o", "nodelist", "-j", str(job)).strip()
    assert said == f"child {job + 1}\nSubmitted batch job {job + 2}\nwaited 3\n" + "".join(
        f"Submitted batch job {job + n}\n" for n in (3, 4, 5)
    )
    for n in (1, 3, 4, 5):
        shared.until_state(job + n, "COMPLETED")
    folder = Path(shared.work, "sub dir")
    assert (folder / f"slurm-{job + 1}.out").read_text() == f"two\nlines 2 an argument\n{folder}\n"
    assert (folder / "stdin.out").read_text() == "from stdin\n"
    assert (folder / "loop-2.out").read_text() == "heredoc 2\n"
    assert (folder / "wrap.out").read_text() == f"{node} {folder}\n"
    assert not [name for name in os.listdir(folder) if name.startswith(".sshq")]


@pytest.mark.parametrize("point", ["upcall.before_command", "submit.before_commit:2", "submit.after_commit:2", "upcall.command_ended",
                                   "upcall.answered"])  # fmt: skip
def test_a_controller_killed_at_any_point_of_a_call_makes_one_job(loopback, instance, point):
    instance.use(loopback.hosts[:1], sshq_slots=4)
    instance.write_config("keepalive_interval: 1s\n")
    controller = instance.start_controller(point)
    instance.wait_for(instance.status, 30, "a controller")
    job = instance.submit("-n", "1", "--wrap", "echo line; sbatch -J child --wrap 'echo once'; echo rc=$?")
    controller.wait(30)
    assert instance.crashed_at() == point.partition(":")[0]
    instance.up()
    instance.until_state(job, "COMPLETED")
    said = instance.read(f"slurm-{job}.out").splitlines()
    assert [line for line in said if "does not answer" not in line] == ["line", f"Submitted batch job {job + 1}", "rc=0"]
    instance.until_state(job + 1, "COMPLETED")
    assert instance.out("sacct", "-nXP", "-o", "jobid,jobname").split() == [f"{job}|wrap", f"{job + 1}|child"]


@pytest.mark.slow
def test_commands_wait_for_a_controller_that_is_away(shared):
    script = "touch started; until [ -e go ]; do sleep 0.05; done; squeue -h -o %i; echo rc=$?"
    job = shared.submit("--wrap", script)
    shared.wait_for(lambda: Path(shared.work, "started").exists(), 10, "the job runs")
    shared.down()
    Path(shared.work, "go").touch()
    shared.wait_for(lambda: "waiting" in shared.read(f"slurm-{job}.out"), 20, "the command says that it waits")
    shared.up()
    shared.until_state(job, "COMPLETED")
    said = "squeue: the controller does not answer, waiting for it\n"
    assert shared.read(f"slurm-{job}.out") == f"{said}{job}\nrc=0\n"


def test_what_jobs_do_to_themselves_and_each_other(shared):
    """A chain that submits itself, a requeue in a trap with a checkpoint, a job that cancels itself, one that holds another."""
    chain = """
        n=${1:-1}
        echo "link $n"
        [ "$n" -ge 3 ] || sbatch --dependency=afterok:$SLURM_JOB_ID -J chain -o "chain-$((n+1)).out" chain.sh $((n+1))
        """
    Path(shared.work, "chain.sh").write_text("#!/bin/sh\n" + textwrap.dedent(chain))
    requeue = """
        trap 'echo checkpoint >state; scontrol requeue $SLURM_JOB_ID; sleep 60' USR1
        if [ -e state ]; then echo "resumed, $SLURM_RESTART_COUNT"; exit 0; fi
        touch ready
        while :; do sleep 0.1; done
        """
    first = shared.submit("-J", "chain", "chain.sh")
    again = shared.submit("--open-mode=append", input="#!/bin/sh\n" + textwrap.dedent(requeue))
    itself = shared.wrap("scancel $SLURM_JOB_ID; sleep 60; echo survived")
    held = shared.wrap("echo never", "--hold")
    change = f"scontrol update jobid={held} name=renamed && scontrol release {held} && echo done"
    changer = shared.wrap(change)
    shared.wait_for(lambda: Path(shared.work, "ready").exists(), 20, "the job that is requeued runs")
    shared.run("scancel", "-b", "-s", "USR1", str(again), check=True)
    shared.until_state(itself, "CANCELLED")
    shared.until_state(changer, "COMPLETED")
    shared.until_state(held, "COMPLETED")
    shared.until_state(again, "COMPLETED")
    assert "resumed, 1" in shared.read(f"slurm-{again}.out")
    assert "survived" not in shared.read(f"slurm-{itself}.out")
    assert shared.out("sacct", "-nXP", "-o", "jobname", "-j", str(held)).strip() == "renamed"
    shared.wait_for(lambda: shared.out("sacct", "-nXP", "-o", "state", "--name=chain").split() == ["COMPLETED"] * 3, 30, "the chain")
    assert shared.read("chain-3.out") == "link 3\n"
    assert shared.read(f"slurm-{first}.out").startswith("link 1\nSubmitted batch job ")


@pytest.mark.slow
def test_waiting_submissions_keep_no_place_from_others(shared):
    """More `sbatch --wait` at once than a job may have commands that run."""
    script = """
        i=0; while [ $i -lt 40 ]; do sbatch -Q --wait -o /dev/null -J gated --hold --wrap true & i=$((i+1)); done
        until [ "$(squeue -h -n gated -o %i | wc -l)" -eq 40 ]; do sleep 0.5; done
        scontrol release $(squeue -h -n gated -o %i)
        wait; echo "all over"
        """
    _, said = run(shared, script, "-n1")
    assert said == "all over\n"
    assert shared.out("sacct", "-nXP", "-o", "state", "--name=gated").split() == ["COMPLETED"] * 40


def test_a_flood_of_calls_that_are_none_holds_up_nobody(shared):
    script = """
        call=$SSHQ_DIR.calls/22222222222222222222222222222222
        mkdir -p $call
        head -c 5000000 /dev/zero >$call/request
        echo "1 $$ $(cut -d' ' -f22 /proc/$$/stat)" >$call/ready
        echo "U $SSHQ_ATTEMPT 22222222222222222222222222222222 new" >"${SSHQ_DIR%/a/*}/bell"
        until grep -q '^1 1 [.]' $call/state; do sleep 0.1; done 2>/dev/null
        i=0
        while [ $i -lt 4000 ]; do
            printf 'U %s %08x000000000000000000000000 new\\n' "$SSHQ_ATTEMPT" $i
            i=$((i+1))
        done >"${SSHQ_DIR%/a/*}/bell"
        echo "U 00000000000000000000000000000000 11111111111111111111111111111111 new" >"${SSHQ_DIR%/a/*}/bell"
        squeue -h -o %T -j $SLURM_JOB_ID
        """
    _, said = run(shared, script)
    assert said == "RUNNING\n"
    assert "malformed upcall 2222" in shared.logs()


def test_a_wait_outlives_controller_and_connection(shared):
    """Killed in the middle of `sbatch --wait`: the next one goes on, and nothing is said twice."""
    waiter = shared.wrap("sbatch --wait -o child.out --wrap 'until [ -e go ]; do sleep 0.05; done; exit 3'; echo rc=$?")
    out = f"slurm-{waiter}.out"
    shared.wait_for(lambda: Path(shared.work, out).exists() and "Submitted" in shared.read(out), 20, "it waits")
    shared.kill9()
    shared.up()
    shared.ready()
    Path(shared.work, "go").touch()
    shared.until_state(waiter, "COMPLETED")
    assert shared.read(out) == f"Submitted batch job {waiter + 1}\nrc=3\n"
    assert shared.out("sacct", "-nXP", "-o", "jobid").split() == [str(waiter), str(waiter + 1)]


def test_a_command_that_is_killed_asks_no_more(shared):
    """`timeout squeue -i`, and a cancelled job that waits: no process is left on the head, no file on the node."""
    script = """
        timeout 2 squeue -h -o %T -i 1 >seen; echo "rc=$?"
        sbatch -Q --wait --hold -o /dev/null -J held --wrap true & wait $!
        """
    job = shared.submit("-J", "outer", input="#!/bin/sh\n" + textwrap.dedent(script))
    shared.wait_for(lambda: "held" in shared.out("squeue", "-h", "-o", "%j"), 20, "the held job is submitted")
    assert "rc=124" in shared.read(f"slurm-{job}.out")
    assert "RUNNING" in shared.read("seen")
    shared.run("scancel", "-n", "outer", check=True)
    shared.until_state(job, "CANCELLED")
    children = Path(f"/proc/{shared.pid()}/task/{shared.pid()}/children")
    shared.wait_for(lambda: not children.read_text().split(), 10, "no process is left on the head")
    spools = Path(shared.sshq_home).parent.parent.glob("loop*/l*/home/spool/spool/*/a/*.calls")
    shared.wait_for(lambda: not list(spools), 20, "the files of its calls to go")
