"""The embedded default, whole: `sshq up` on this machine with no inventory, and every command against it."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from bed.session import is_zombie

HEADER = "             JOBID PARTITION     NAME     USER ST       TIME  NODES NODELIST(REASON)\n"


@pytest.fixture
def up(instance):
    done = instance.up()
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "no inventory: this machine alone" in done.stdout
    assert done.stdout.splitlines()[-1].split()[:1] == ["localhost"]
    return instance


def test_up_and_a_waited_job_in_two_commands(up):
    done = up.run("sbatch", "--wait", "--wrap", "hostname; echo err >&2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Submitted batch job 1\n", "")
    assert up.read("slurm-1.out") == f"{os.uname().nodename}\nerr\n"
    assert up.out("logs", "1") == up.read("slurm-1.out")
    assert up.out("squeue") == HEADER
    assert up.out("squeue", "-h", "-t", "all", "-o", "%i %T") == "1 COMPLETED\n"
    assert up.out("sacct", "-n", "-P", "-X", "-o", "JobID,JobName,State,ExitCode") == "1|wrap|COMPLETED|0:0\n"
    assert up.out("why", "1").startswith("Job 1 (wrap) is over: COMPLETED")
    assert "JobState=COMPLETED" in up.out("scontrol", "show", "job", "1")


def test_exit_codes_and_signals_come_home(up):
    for command, status in (("exit 3", 3), ("exit 99", 99), ("kill -9 $$", 1)):
        assert up.run("sbatch", "--parsable", "-W", "-o", "/dev/null", "--wrap", command).returncode == status
    assert up.run("sbatch", "-W", "-a", "0-3", "-o", "/dev/null", "--wrap", "exit $SLURM_ARRAY_TASK_ID").returncode == 3
    rows = up.out("sacct", "-n", "-P", "-X", "-o", "ExitCode", "-j", "1,2,3").split()
    assert rows == ["3:0", "99:0", "0:9"]


def test_an_output_that_cannot_be_opened_is_named(up):
    """Slurm's FAILED 0:53 says nothing, and there is no output that would."""
    job = up.submit("-o", "/no/such/%j.out", "--wrap", "true")
    up.until_state(job, "FAILED")
    assert up.out("why", str(job)) == (
        f"Job {job} (wrap) is over: FAILED 0:53: /no/such/{job}.out could not be opened on localhost "
        "(no such directory, no right to write, no room?)\n"
    )


def test_a_job_lives_and_is_cancelled(up):
    job = up.wrap("echo begun; sleep 300", "-J", "long")
    up.until_state(job, "RUNNING")
    line = up.out("squeue", "-h", "-o", "%i %j %t %N")
    assert line == f"{job} long R localhost\n"
    assert up.out("sinfo", "-h", "-o", "%P %t %N").startswith("lab* mix") or "alloc" in up.out("sinfo")
    follower = up.start("logs", "-f", str(job))
    assert follower.stdout.readline() == "begun\n"
    waiter = up.start("wait", str(job))
    assert up.out("scancel", str(job)) == ""
    stdout, stderr = waiter.communicate(timeout=30)
    assert (waiter.returncode, stderr) == (1, "")
    assert stdout.startswith(f"{job} CANCELLED")
    stdout, stderr = follower.communicate(timeout=30)
    assert (follower.returncode, stderr) == (0, "")
    assert "CANCELLED" in stdout
    done = up.run("scancel", "-v", str(job))
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == (
        f"scancel: Terminating job {job}\n"
        f"scancel: error: Kill job error on job id {job}: Job/step already completing or completed\n"
    )


def test_a_cancel_that_is_under_way_is_told_as_such(up):
    """It read `is CANCELLED: it is RUNNING on localhost`."""
    job = up.wrap("trap '' TERM; echo begun; while :; do sleep 1; done", "-o", "out")
    up.wait_for(lambda: "begun" in up.read("out"))
    up.out("scancel", str(job))
    assert up.out("why", str(job)) == f"Job {job} (wrap) is being cancelled on localhost\n"
    up.out("scancel", "-s", "KILL", str(job))
    up.until_state(job, "CANCELLED")
    assert up.out("why", str(job)).startswith(f"Job {job} (wrap) is over: CANCELLED")


def test_down_leaves_jobs_running_and_up_takes_them_over(up):
    job = up.wrap("until [ -e go ]; do sleep 0.1; done; echo done", "-o", "out")
    up.until_state(job, "RUNNING")
    pid = up.pid()
    done = up.run("up")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"sshq: error: a controller is already running (pid {pid})\n")
    done = up.down()
    assert done.stdout == f"controller stopped (pid {pid})\n1 job runs on without it; the next `sshq up` takes over again\n"
    assert is_zombie(pid)  # gone, or nobody reaps here
    assert not os.path.exists(f"{up.sshq_home}/sock")
    assert up.run("status").returncode == 1
    assert up.up().returncode == 0
    Path(up.work, "go").touch()
    assert up.run("wait", str(job)).returncode == 0
    assert up.read("out") == "done\n"


def test_a_killed_controller_leaves_a_socket_that_is_nobody_and_up_replaces_it(up):
    up.kill9()
    assert os.path.exists(f"{up.sshq_home}/sock")
    assert up.run("squeue").stderr.startswith("slurm_load_jobs error: Unable to contact slurm controller")
    assert up.up().returncode == 0
    assert up.out("squeue") == HEADER


def test_a_waiting_sbatch_outlives_a_restart(up):
    process = up.start("sbatch", "--parsable", "-W", "-o", "/dev/null", "--wrap", "sleep 3; exit 5")
    job = int(process.stdout.readline())
    up.until_state(job, "RUNNING")
    up.restart()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 5
    assert stderr.splitlines()[0] == "sbatch: the controller is away, waiting for it"


def test_status_for_people_and_programs(up):
    status = json.loads(up.out("status", "--json"))
    assert {"pid", "uptime_s", "inventory", "hosts", "jobs"} <= status.keys()
    text = up.out("status")
    assert f"pid {status['pid']}" in text and "1 ready" in text
    assert json.loads(up.out("hosts", "--json"))["hosts"][0]["name"] == "localhost"


def test_stats_count_what_happened(up):
    job = up.wrap("true", "-W")
    stats = json.loads(up.out("stats", "--json"))
    assert stats["pid"] == up.pid() and stats["uptime_s"] > 0 and job
    assert stats["events"] >= 4 and stats["commits"]["count"] >= 3 and stats["passes"]["starts"] >= 1
    assert 0 < stats["commits"]["p50_s"] <= stats["commits"]["max_s"] < 60
    assert stats["requests"]["submit"]["count"] >= 1
    assert 1 << 20 < stats["memory"]["bytes"] <= stats["memory"]["peak_bytes"]
    assert stats["store"]["database_bytes"] > 4096 and stats["queue"]["clients"] >= 1
    (host,) = stats["hosts"].values()
    assert (host["state"], host["opened_today"], host["refused_today"]) == ("ready", 1, 0)
    assert host["bytes_in"] > 0 and host["channels_open"] >= 1


def test_the_controller_is_detached_private_and_without_our_variables(up):
    pid = up.pid()
    environment = open(f"/proc/{pid}/environ", "rb").read().split(b"\0")
    assert not [line for line in environment if line.startswith((b"SSHQ_", b"SLURM_", b"SBATCH_"))]
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.getsid(pid) not in (pid, os.getsid(0))
    assert os.stat(f"{up.sshq_home}/sock").st_mode & 0o777 == 0o600
    assert os.stat(f"{up.sshq_home}/state").st_mode & 0o777 == 0o700


def test_hold_release_requeue_and_update(up):
    job = up.wrap("true", "-H", "-J", "held")
    assert up.out("squeue", "-h", "-o", "%i %t %r") == f"{job} PD JobHeldUser\n"
    assert "JobHeldUser" in up.out("why", str(job))
    assert up.out("scontrol", "update", f"jobid={job}", "jobname=renamed", "TimeLimit=20", "Comment=hi") == ""
    assert up.out("squeue", "-h", "-o", "%j %l %k") == "renamed 20:00 hi\n"
    assert up.out("scontrol", "update", f"jobid={job}", "TimeLimit=+5") == ""
    assert up.out("squeue", "-h", "-o", "%l") == "25:00\n"
    script = up.out("scontrol", "write", "batch_script", str(job), "-")
    assert script == "#!/bin/sh\n# This script was created by sbatch --wrap.\n\ntrue\n"
    assert up.out("scontrol", "release", str(job)) == ""
    assert up.run("wait", str(job)).returncode == 0
    done = up.run("scontrol", "hold", "9999")
    assert (done.returncode, done.stderr) == (
        1, "Invalid job id specified for job 9999\nslurm_suspend error: Invalid job id specified\n",
    )  # fmt: skip


def test_a_node_is_drained_and_comes_back(up):
    assert up.out("scontrol", "update", "nodename=localhost", "state=drain", "reason=bad disk") == ""
    assert up.out("sinfo", "-h", "-N", "-o", "%N %T %E") == "localhost drained bad disk\n"
    job = up.wrap("true")
    up.wait_for(lambda: "ReqNodeNotAvail" in up.out("squeue", "-h", "-o", "%r"), 10, "the reason")
    assert up.out("scontrol", "update", "nodename=localhost", "state=resume") == ""
    assert up.run("wait", str(job)).returncode == 0


def test_srun_runs_here_and_leaves_nothing(up):
    done = up.run("srun", "sh", "-c", 'echo "$1"; echo err >&2; exit 4', "x", "a b")
    assert (done.returncode, done.stdout) == (4, "a b\n")
    assert sorted(done.stderr.splitlines()) == ["err", "srun: error: localhost: task 0: Exited with exit code 4"]
    assert os.listdir(up.work) == []
    process = up.start("srun", "sh", "-c", "echo begun; exec sleep 300")
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() == "srun: interrupt (one more within 1 sec to abort)\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    up.wait_for(lambda: up.out("squeue", "-h") == "", 30, "its job is gone")


def test_sruns_input_is_the_commands_byte_for_byte(up):
    data = bytes(range(256)) * 400 + b"no newline at the end"
    for words in (["cat"], ["sh", "-c", "cat; exit 3"]):
        done = subprocess.run(up.argv("srun", *words), input=data, cwd=up.work, env=up.env, capture_output=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (3 if len(words) > 1 else 0, data)
    assert up.run("srun", "-n2", "cat", input="in\n").stdout == "in\nin\n"
    assert up.run("srun", "true", input="x" * 200_000).returncode == 0
    pipe = f"{' '.join(up.argv('srun', 'yes'))} | head -1"
    done = subprocess.run(["/bin/sh", "-c", pipe], cwd=up.work, env=up.env, capture_output=True, timeout=60, check=False)
    assert done.stdout == b"y\n"
    up.wait_for(lambda: up.out("squeue", "-h") == "", 30, "what nobody reads is ended")


def test_shims_make_a_slurm_script_run_as_it_is(up):
    assert up.run("shims", "bin").returncode == 0
    script = "id=$(sbatch --parsable --wrap 'exit 2' -o /dev/null); sbatch -W -d afternotok:$id -o /dev/null --wrap true; squeue -h"
    done = subprocess.run(
        ["/bin/sh", "-c", script], cwd=up.work, env=up.env | {"PATH": f"{up.work}/bin:{up.env['PATH']}"}, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "Submitted batch job 2\n", "")


def test_purged_jobs_leave_the_queue_and_stay_in_the_history(up):
    assert up.run("sbatch", "-W", "-o", "/dev/null", "--wrap", "true").returncode == 0
    up.wait_for(lambda: up.out("purge") == "purged 1 ended job\n", 10, "the job can be purged")
    assert up.run("squeue", "-j", "1").returncode == 1
    assert up.state(1) == "COMPLETED"
    assert up.out("wait", "1").startswith("1 COMPLETED")


def test_in_the_foreground_it_is_the_same_process_and_ends_by_a_signal(instance):
    process = instance.start("up", "--foreground")
    instance.wait_for(lambda: instance.status().get("pid") == process.pid, 20, "the controller answers")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert instance.status() == {}


def test_a_state_elsewhere_is_found_without_being_told(instance):
    env = {"SSHQ_HOME": ""}
    elsewhere = f"{instance.dir}/elsewhere"
    done = instance.run("up", "--state", elsewhere, env=env)
    assert done.returncode == 0, done.stderr
    try:
        assert json.loads(instance.run("status", "--json", env=env).stdout)["state_dir"] == elsewhere
        assert instance.run("sbatch", "-W", "-o", "/dev/null", "--wrap", "true", env=env).returncode == 0
    finally:
        assert instance.run("down", env=env).returncode == 0


def test_the_log_of_the_controller_can_be_read(up):
    up.run("sbatch", "-W", "-o", "/dev/null", "--wrap", "true")
    assert "submitted" in up.out("logs", "--controller")


def test_sinfo_without_a_controller_asks_the_hosts_itself(instance):
    done = instance.run("sinfo", "-h", "-o", "%P %D %t %N")
    assert done.stderr.startswith(f"sinfo: no controller listens on {instance.sshq_home}/sock: asking the hosts themselves")
    assert (done.returncode, done.stdout) == (0, "lab* 1 idle localhost\n")
    assert json.loads(instance.run("sinfo", "--json").stdout)["nodes"][0]["name"] == "localhost"


def test_doctor_with_and_without_a_controller(instance):
    for prepare in (lambda: None, instance.up):
        prepare()
        done = instance.run("doctor")
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.startswith("localhost: usable\n")
