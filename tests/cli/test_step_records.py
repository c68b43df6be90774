"""Steps from end to end: srun in a job, and what sacct, scancel and the controller know of it then and later."""

from pathlib import Path

import pytest

FIELDS = "JobID,JobName,State,ExitCode,DerivedExitCode,NTasks,NNodes,NodeList,AllocCPUS,SubmitLine"


@pytest.fixture
def up(instance):
    done = instance.up()
    assert done.returncode == 0, done.stderr
    return instance


def rows(up, job: int, fields: str = FIELDS, *more: str) -> list[str]:
    return up.out("sacct", "-n", "-P", "-j", str(job), "-o", fields, *more).splitlines()


def test_steps_are_recorded_as_slurm_records_them(up):
    up.run("sbatch", "-W", "-c2", "-o", "/dev/null", "--wrap", "srun -n1 true; srun sh -c 'exit 3'; srun sh -c 'kill -9 $$'; true")
    job, *steps = rows(up, 1)
    assert job.startswith("1|wrap|COMPLETED|0:0|3:0||1|localhost|2|sbatch -W -c2 ")
    assert steps == [
        "1.batch|batch|COMPLETED|0:0||1|1|localhost|2|",
        "1.0|true|COMPLETED|0:0||1|1|localhost|2|srun -n1 true",
        "1.1|sh|FAILED|3:0||1|1|localhost|2|srun sh -c exit 3",
        "1.2|sh|CANCELLED|0:9||1|1|localhost|2|srun sh -c kill -9 $$",
    ]
    assert rows(up, 1, "JobID", "-X") == ["1"]
    assert up.out("sacct", "-n", "-P", "-j", "1.1,1.batch", "-o", "JobID").splitlines() == ["1.batch", "1.1"]
    (started, ended), *steps = [line.split("|") for line in rows(up, 1, "Start,End")]
    assert all(started <= start <= end <= ended for start, end in steps)
    up.run("sbatch", "-W", "-a", "3", "-o", "/dev/null", "--wrap", "srun true")
    assert rows(up, 2, "JobID,State") == ["2_3|COMPLETED", "2_3.batch|COMPLETED", "2_3.0|COMPLETED"]


def test_a_running_step_is_shown_and_cancelled_alone(up):
    job = up.wrap("srun sleep 300; echo rc=$? >> told; sleep 300", "-o", "out")
    up.wait_for(lambda: any(f"{job}.0|RUNNING" in row for row in rows(up, job, "JobID,State")))
    steps = up.out("squeue", "-h", "-s").split("\n")
    assert [line.split()[:2] for line in steps if line] == [[f"{job}.batch", "batch"], [f"{job}.0", "sleep"]]
    used = up.out("sstat", "-n", "-P", "-o", "JobID,NTasks,Nodelist,MaxRSS", "-j", str(job)).strip().split("|")
    assert used[:3] == [f"{job}.0", "1", "localhost"]
    assert int(used[3].rstrip("K")) > 0
    assert up.out("scontrol", "show", "step", f"{job}.0").startswith(f"StepId={job}.0 UserId=")
    assert up.run("scontrol", "show", "steps", f"{job}.9").returncode == 1
    for entity in ("licenses", "topology", "assoc_mgr", "federation", "slurmd", "daemons"):
        assert up.out("scontrol", "show", entity)
    up.wrap("true", "-H", "-J", "later")
    assert up.out("sprio", "-h", "-o", "%i %r %Y").split()[1:] == ["lab", "0"]
    assert up.run("scancel", f"{job}.7").returncode == 0
    assert up.run("scancel", f"{job}.0").returncode == 0
    up.wait_for(lambda: up.read("told") == "rc=143\n")
    assert rows(up, job, "JobID,State,ExitCode")[1:] == [f"{job}.batch|RUNNING|0:0", f"{job}.0|CANCELLED|0:15"]
    up.out("scancel", str(job))


def test_nothing_is_lost_while_the_controller_is_away(up):
    job = up.wrap('touch begun; while [ ! -e go ]; do sleep 0.05; done; for i in 0 1 2 3; do srun sh -c "exit $i"; done; true')
    up.wait_for(lambda: Path(up.work, "begun").exists())
    up.kill9()
    Path(up.work, "go").touch()
    up.wait_for(lambda: any("how=exit" in record.read_text() for record in Path(up.dir).glob("**/a/*.exit")))
    up.up()
    up.until_state(job, "COMPLETED")
    assert rows(up, job, "JobID,ExitCode,DerivedExitCode") == [
        f"{job}|0:0|3:0", f"{job}.batch|0:0|", f"{job}.0|0:0|", f"{job}.1|1:0|", f"{job}.2|2:0|", f"{job}.3|3:0|",
    ]  # fmt: skip
