"""Where a job came from and where it ran, as the whole program tells it: `sshq show`, its --provenance, and `sshq reproduce`."""

import json
import os
import re
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

GIT = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@x", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@x", "HOME": "/nonexistent"}
WHEN = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


@pytest.fixture
def up(instance):
    """A controller with this machine alone."""
    done = instance.up()
    assert done.returncode == 0, done.stderr
    return instance


def git(folder, *words):
    done = subprocess.run(["git", "-C", folder, *words], env=os.environ | GIT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def make_repository(folder):
    git(folder, "init", "-q", "-b", "main")
    Path(folder, "job.sh").write_text("#!/bin/sh\n#SBATCH -J train\necho from $1\n")
    git(folder, "add", "job.sh")
    git(folder, "commit", "-qm", "first")
    return git(folder, "rev-parse", "HEAD")


def finish(instance, *words, **kwargs):
    """Submit and wait; the job's number."""
    done = instance.run("sbatch", "--wait", "--parsable", *words, **kwargs)
    return done.stdout.strip()


def test_a_job_on_one_page_in_the_queue_and_after_it_left(up):
    commit = make_repository(up.work)
    job = finish(up, "-c", "1", "--mem=64M", "job.sh", "there")
    page = up.out("show", job)
    host = os.uname().nodename
    assert re.fullmatch(
        rf"Job {job} \(train\): COMPLETED, exit code 0:0\n"
        rf"    user        \S+ \(uid {os.getuid()}\)\n"
        rf"    submitted   {WHEN} on {host}\n"
        r"    command     sbatch --wait --parsable -c 1 --mem=64M job.sh there\n"
        rf"    script      {up.work}/job.sh there\n"
        rf"    directory   {up.work}\n"
        r"    asked for   1 node, 1 task, 1 CPU, 64 MiB, partition lab\n"
        rf"    ran         {WHEN} to {WHEN} \(\d+ s\) on localhost\n"
        r"    used        \d+\.\d s of CPU(, [\d.]+ MB of memory)?\n"
        rf"    output      {up.work}/slurm-{job}.out\n",
        page,
    ), page
    up.out("purge", job)
    up.wait_for(lambda: not up.out("squeue", "-h", "-t", "all"), 20, "the job has left the queue")
    assert up.out("show", job) == page
    told = up.out("show", job, "--provenance")
    assert f"    commit       {commit} on main: tracked files as committed\n" in told
    assert f"    work tree    {up.work}\n" in told
    assert re.search(r"^    script       sha256 [0-9a-f]{64}, \d+ bytes, kept$", told, re.MULTILINE)
    assert re.search(r"^    tracked      sha256 [0-9a-f]{64} of all tracked files$", told, re.MULTILINE)
    assert re.search(rf"^    launched     {job} attempt 1 on localhost, {WHEN}, boot [0-9a-f-]{{36}}", told, re.MULTILINE)


def test_what_the_host_was_is_stored_once_for_all_its_launches(up):
    finish(up, "-a", "1-4", "--wrap", "true")
    job = finish(up, "--wrap", "true")
    told = json.loads(up.out("show", "1", "--provenance", "--json"))["provenance"]
    (digest,) = {launch["facts"] for launch in told["launches"]}
    facts = told["facts"][digest]
    assert (facts["kernel"], facts["arch"]) == (os.uname().release, os.uname().machine)
    assert facts["os"] and facts["memory_mib"] > 0 and facts["cpus"] == len(os.sched_getaffinity(0))
    assert list(json.loads(up.out("show", job, "--provenance", "--json"))["provenance"]["facts"]) == [digest]
    with closing(sqlite3.connect(f"file:{up.sshq_home}/state/sshq.db?mode=ro", uri=True)) as store:
        assert store.execute("SELECT count(*) FROM facts").fetchone() == (1,)
        assert store.execute("SELECT count(*) FROM launch WHERE facts IS NOT NULL").fetchone() == (5,)
    assert "(null)" not in up.out("show", job)  # there is no script, and nothing is said of it
    page = up.out("show", job, "--provenance")
    assert f"    host facts {digest[:12]}\n        kernel       {os.uname().release}\n" in page


def test_what_changed_since_the_commit_is_said(up):
    make_repository(up.work)
    Path(up.work, "job.sh").write_text("#!/bin/sh\necho changed\n")
    job = finish(up, "job.sh")
    assert "on main: tracked files changed since\n" in up.out("show", job, "--provenance")


def test_a_broken_repository_disturbs_no_submission(up):
    Path(up.work, ".git").write_text("gitdir: /nowhere\n")
    job = finish(up, "--wrap", "true")
    assert "    commit       no commit: /nowhere/HEAD: No such file or directory\n" in up.out("show", job, "--provenance")


def test_an_array_is_a_table_and_each_task_a_page(up):
    job = finish(up, "-a", "1-3", "-J", "sweep", "--wrap", "exit $((SLURM_ARRAY_TASK_ID == 2))")
    page = up.out("show", job)
    assert page.startswith(f"Job {job} (sweep): array 1-3: 2 COMPLETED, 1 FAILED\n")
    rows = [line.split()[:4] for line in page.splitlines() if line.startswith(f"    {job}_")]
    assert rows == [[f"{job}_1", "COMPLETED", "0:0", "localhost"], [f"{job}_2", "FAILED", "1:0", "localhost"],
                    [f"{job}_3", "COMPLETED", "0:0", "localhost"]]  # fmt: skip
    assert up.out("show", f"{job}_2").startswith(f"Job {job}_2 (sweep): FAILED, exit code 1:0\n")
    launched = re.findall(r"launched     (\S+) attempt 1", up.out("show", job, "--provenance"))
    assert sorted(launched) == [f"{job}_1", f"{job}_2", f"{job}_3"]


def test_each_attempt_is_told(up):
    job = finish(up, "--retries=1", "--wrap", "exit 3")
    page = up.out("show", job)
    assert re.search(r"^    attempts\n        1  localhost  FAILED 3:0 .*\n        2  localhost  FAILED 3:0 ", page, re.MULTILINE), page
    assert re.findall(r"attempt (\d)", up.out("show", job, "--provenance")) == ["1", "2"]


def test_as_json_all_of_it_and_never_a_value_of_a_variable(up):
    job = finish(up, "--wrap", "true", env={"SECRET_TOKEN": "hunter2-canary"})
    document = json.loads(up.out("show", job, "--provenance", "--json"))
    (view,) = document["jobs"]
    assert (view["job_id"], view["state"], view["attempts"][0]["node"]) == (int(job), "COMPLETED", "localhost")
    told = document["provenance"]
    assert "SECRET_TOKEN" in told["environ"]["names"]
    assert told["origin"]["version"]
    assert "hunter2-canary" not in json.dumps(document)
    assert "provenance" not in json.loads(up.out("show", job, "--json"))


@pytest.mark.parametrize(
    ("words", "status", "stderr"),
    [
        (["show", "99"], 1, "sshq: error: Invalid job id specified\n    99\n    hint: sshq sacct -X\n"),
        (["show", "x"], 1, "sshq: error: Invalid job id: x\n    hint: job ids look like 12 or 12_4 (array task)\n"),
        (["show"], 2, "sshq: error: Missing argument 'JOB'\n    hint: sshq show --help\n"),
        (["show", "--provenance", "99"], 1, "sshq: error: Invalid job id specified\n    hint: sshq sacct -X\n"),
    ],
)  # fmt: skip
def test_one_clear_error(up, words, status, stderr):
    done = up.run(*words)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", stderr)


def test_tasks_that_wait_are_told_of(up):
    job = up.submit("--hold", "-a", "4-6", "-J", "later", "--wrap", "true")
    assert up.out("show", str(job)).startswith(f"Job {job} (later): array 4-6: 3 PENDING\n")
    assert up.out("show", f"{job}_5").startswith(f"Job {job}_5 (later): ")
    assert "    It has not been launched.\n" in up.out("show", f"{job}_5", "--provenance")


# ---- once more -----------------------------------------------------------------------------------------------------------


def reproduce(instance, *words, **kwargs):
    """Submit once more and wait; the new job's number and what was said."""
    done = instance.run("reproduce", *words, **kwargs)
    assert done.returncode == 0, done.stderr
    job = re.fullmatch(r"Submitted batch job (\d+)\n", done.stdout)[1]
    instance.run("wait", job)
    return job, done.stderr


def test_once_more_with_the_script_of_then(up):
    make_repository(up.work)
    first = finish(up, "--comment=c", "-t", "7", "job.sh", "a b", "c", env={"TONE": "one"})
    up.out("purge", first)
    Path(up.work, "job.sh").write_text("#!/bin/sh\necho other\n")
    job, said = reproduce(up, first, env={"TONE": "two", "FRESH": "1"})
    assert up.read(f"slurm-{job}.out") == "from a b\n"
    assert f"reproduce: tracked files of {up.work} have changed since; the job finds the files of now\n" in said
    assert "reproduce: variables that have another value: TONE\n" in said
    assert "reproduce: variables that were not set then: FRESH\n" in said
    columns = ["squeue", "-h", "-t", "all", "-o", "%j|%l|%k|%o|%Z", "-j"]
    assert up.out(*columns, job) == f"train|7:00|c|{up.work}/job.sh a b c|{up.work}\n"
    told = up.out("show", job, "--provenance")
    assert f"    command      sshq reproduce {first}\n" in told
    assert f"    reproduces   job {first}\n" in told


def test_the_environment_of_a_job_that_is_not_over_is_the_same(up):
    done = up.run("sbatch", "--parsable", "--hold", "--wrap", 'echo "tone $TONE"', env={"TONE": "one"}, check=True)
    first = done.stdout.strip()
    job, said = reproduce(up, first, env={"TONE": "two"})
    assert said == ""
    assert up.read(f"slurm-{job}.out") == "tone one\n"
    assert up.state(first) == "PENDING"


def test_options_replace_those_of_then_and_nothing_else(up):
    first = finish(up, "-c", "2", "-t", "7", "--mem=64M", "-J", "old", "--wrap", "true")
    job, _ = reproduce(up, first, "-c", "1", "--job-name=new", "--mem-per-cpu", "32M")
    view = json.loads(up.out("show", job, "--json"))["jobs"][0]
    kept = {key: view[key] for key in ("name", "cpus_per_task", "time_limit_s", "memory_mib", "memory_per_cpu_mib")}
    assert kept == {"name": "new", "cpus_per_task": 1, "time_limit_s": 420, "memory_mib": None, "memory_per_cpu_mib": 32}
    assert "command     sshq reproduce 1 --cpus-per-task=1 --job-name=new --mem-per-cpu=32M\n" in up.out("show", job)


def test_arrays_and_single_tasks(up):
    first = finish(up, "-a", "1-5:2%2", "--wrap", "echo $SLURM_ARRAY_TASK_ID")
    job, _ = reproduce(up, first)
    page = up.out("show", job)
    assert page.startswith(f"Job {job} (wrap): array 1-5:2%2: 3 COMPLETED\n")
    for other in (f"{first}_2", f"{int(first) + 1}_3", f"{first}_99"):  # no task of it; its raw number is no array
        assert up.run("reproduce", other).stderr == "sshq: error: Invalid job id specified\n    hint: sshq sacct -X\n"
    task, _ = reproduce(up, f"{first}_3")
    assert up.read(f"slurm-{task}_3.out") == "3\n"
    assert not Path(up.work, f"slurm-{task}_1.out").exists()


def test_a_dry_run_submits_nothing(up):
    first = finish(up, "-d", f"afterok:{finish(up, '--wrap', 'true')}", "-J", "late", "--wrap", "true")
    done = up.run("reproduce", first, "--dry-run", "-t", "5")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"Job {first} can be reproduced"
    assert "    differs      --dependency=afterok:1 is not repeated" in lines
    assert "    replaced     --time=5" in lines
    assert len(up.out("sacct", "-X", "-n", "-P", "-o", "JobID").split()) == 2
    document = json.loads(up.out("reproduce", first, "--dry-run", "--json"))
    assert (document["description"]["name"], "dependency" in document["description"]) == ("late", False)


def test_a_script_that_is_gone_is_named(up):
    first = finish(up, "--wrap", "true")
    up.out("purge", first)
    up.down()
    with closing(sqlite3.connect(f"{up.sshq_home}/state/sshq.db")) as store:
        store.execute("DELETE FROM script")
        store.commit()
    up.up()
    done = up.run("reproduce", first)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        rf"sshq: error: job {first} cannot be reproduced: its script is no longer kept\n"
        r"    \(null\): sha256 [0-9a-f]{64}, no longer kept\n    scripts_max in config.yaml says how much is kept\n"
        rf"    hint: sshq show {first} --provenance\n",
        done.stderr,
    ), done.stderr


@pytest.mark.parametrize(
    ("words", "status", "stderr"),
    [
        (["99"], 1, "sshq: error: Invalid job id specified\n    hint: sshq sacct -X\n"),
        (["1", "--sync"], 2, "sshq: error: --sync would make it another job\n    hint: sbatch --sync\n"),
        (["1", "-t", "5", "job.sh"], 2, "sshq: error: only options go after JOB: its script and arguments are the recorded ones\n"
         "    hint: sbatch FILE ARGS submits another script\n"),
        (["1", "-q"], 255, "sbatch: option requires an argument -- 'q'\nTry \"sbatch --help\" for more information\n"),
        (["1_7"], 1, "sshq: error: Invalid job id specified\n    hint: sshq sacct -X\n"),
        (["1", "--json"], 2, "sshq: error: --json is for --dry-run\n    hint: sshq reproduce JOB --dry-run --json\n"),
        ([], 2, "sshq: error: Missing argument 'JOB'\n    hint: sshq reproduce --help\n"),
        (["2"], 1, "sshq: error: job 2 cannot be reproduced: it lived with the command that was typed: srun true\n"),
    ],
)  # fmt: skip
def test_what_cannot_be_reproduced_is_one_clear_error(up, words, status, stderr):
    finish(up, "--wrap", "true")
    up.out("srun", "true")
    done = up.run("reproduce", *words)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", stderr)


@pytest.mark.slow
def test_frozen_files_run_as_they_were_and_what_is_gone_is_named(instance, hosts):
    """The acceptance of the whole: a tree is submitted, changed, and reproduced on another file system: the old bytes run."""
    instance.use(hosts())
    instance.up()
    instance.ready()
    commit = make_repository(instance.work)
    Path(instance.work, "data.txt").write_text("old bytes\n")
    Path(instance.work, "run.sh").write_text("#!/bin/sh\ncat data.txt\n")
    first = finish(instance, "--sync", "run.sh")
    assert instance.read(f"slurm-{first}.out") == "old bytes\n"
    Path(instance.work, "data.txt").write_text("new bytes\n")
    Path(instance.work, "run.sh").write_text("#!/bin/sh\necho changed\n")
    git(instance.work, "commit", "-q", "--allow-empty", "-m", "second")
    instance.out("purge", first)
    job, said = reproduce(instance, first)
    assert instance.read(f"slurm-{job}.out") == "old bytes\n"
    now = git(instance.work, "rev-parse", "HEAD")
    assert f"is at {now[:12]} now, was at {commit[:12]}; the job's files are those of then\n" in said
    told = instance.out("show", job, "--provenance")
    assert f"    commit       {commit} on main" in told  # of the files that ran
    assert re.search(r"^    files        a frozen tree, sha256 [0-9a-f]{64}, \d+\.?\d* (bytes|KB), kept$", told, re.MULTILINE)
    assert re.search(r"^        kernel       \S+$", told, re.MULTILINE)
    objects = Path(instance.sshq_home, "state", "objects", "o")
    for chunk in objects.rglob("*"):
        if chunk.is_file():
            chunk.unlink()
    done = instance.run("reproduce", first)
    assert done.returncode == 1
    assert f"sshq: error: job {first} cannot be reproduced: the files that went along are no longer kept\n" in done.stderr
    assert "chunks of the job's files are not in" in done.stderr


def test_environments_are_kept_where_the_configuration_says_so(instance):
    instance.write_config("environments_keep: 1d\n")
    assert instance.up().returncode == 0
    first = finish(instance, "--wrap", 'echo "tone $TONE"', env={"TONE": "one"})
    instance.out("purge", first)
    instance.restart()
    job, said = reproduce(instance, first, env={"TONE": "two"})
    assert (instance.read(f"slurm-{job}.out"), said) == ("tone one\n", "")
    job, said = reproduce(instance, first, "--export=TONE", env={"TONE": "two"})
    assert instance.read(f"slurm-{job}.out") == "tone two\n"
    assert said == "reproduce: --export: the environment is the one of now\n"
    files = list(Path(instance.sshq_home, "state", "environments").iterdir())
    assert len(files) >= 2
    instance.out("purge")
    for file in files:
        os.utime(file, (1, 1))
    instance.down()
    instance.up()  # upkeep comes soon after a start
    instance.wait_for(lambda: not list(Path(instance.sshq_home, "state", "environments").iterdir()), 30, "what is too old is gone")
    assert "values no longer kept" in instance.out("show", first, "--provenance")
