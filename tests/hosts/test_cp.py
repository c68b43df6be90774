"""sshq cp: files out of the directory of a job that runs, or has ended and is still on its host; nothing outside of it."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from bed import Cut, Cutter

FILES = "mkdir -p out/deep; echo one >out/a.csv; echo two >out/b.csv; echo three >out/deep/c; chmod 700 out/b.csv; ln -s /etc/passwd out/link"
UNTIL_GO = 'until [ -e "$HOME/go" ]; do sleep 0.1; done'


@pytest.fixture
def running(hosts, instance):
    """A job in a private directory with some files, until its host has ~/go."""
    (host,) = hosts(1)
    instance.use([host], sshq_slots=4)
    instance.up()
    instance.ready()
    job = instance.submit("--stage-out", "kept", "--wrap", f"{FILES}; echo k >kept; touch ready; {UNTIL_GO}")
    instance.wait_for(lambda: instance.run("cp", f"{job}:ready", "-").returncode == 0, 20, "the files to be there")
    return host, job


def refused(instance, *args: str, status: int = 1) -> str:
    done = instance.run("cp", *args)
    assert done.returncode == status, done.stdout + done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def test_what_is_copied_out_of_a_running_job_and_where_to(running, instance):
    host, job = running
    work = Path(instance.work)
    assert instance.out("cp", f"{job}:out/a.csv", "-") == "one\n"
    assert instance.out("cp", f"{job}:out/a.csv", ".") == ""
    assert (work / "a.csv").read_text() == "one\n"
    instance.out("cp", f"{job}:out/b.csv", "renamed")
    assert os.stat(work / "renamed").st_mode & 0o777 == 0o700
    (work / "into").mkdir()
    instance.out("cp", f"{job}:out/*.csv", "into")
    assert sorted(os.listdir(work / "into")) == ["a.csv", "b.csv"]
    whole = instance.run("cp", f"{job}:out/", ".")
    assert (whole.returncode, whole.stderr) == (1, f"sshq: {job}:out/link was not copied: a symbolic link\n")
    assert sorted(os.listdir(work / "out")) == ["a.csv", "b.csv", "deep"]
    assert instance.run("cp", "-r", f"{job}:out", "other").returncode == 1
    assert (work / "other/deep/c").read_text() == "three\n"
    assert instance.run("cp", f"{job}:", "all").returncode == 1
    assert sorted(os.listdir(work / "all")) == ["kept", "out", "ready"]
    instance.out("cp", f"{job}:{instance.work}/out/a.csv", "absolute")  # as a path below the submit directory
    assert (work / "absolute").read_text() == "one\n"


def test_what_is_refused_says_why_and_writes_nothing(running, instance):
    host, job = running
    before = sorted(os.listdir(instance.work))
    assert f"{job}:out is a directory" in refused(instance, f"{job}:out", ".")
    assert "no such file or directory in the job's directory" in refused(instance, f"{job}:none", ".")
    assert "`..` leads out of the job's directory" in refused(instance, f"{job}:../../floor", "-")
    assert "/etc/passwd is not below the job's directory" in refused(instance, f"{job}:/etc/passwd", "-")
    assert "is not one regular file" in refused(instance, f"{job}:out/link", "-")
    assert "is not one regular file" in refused(instance, f"{job}:out/*.csv", "-")
    assert "nodir/ is not a directory" in refused(instance, f"{job}:out/a.csv", "nodir/")
    assert "Invalid job id specified" in refused(instance, "999:x", ".")
    assert "names no job" in refused(instance, "out/a.csv", ".", status=2)
    assert "files are copied from jobs only" in refused(instance, "x", f"{job}:x", status=2)
    assert sorted(os.listdir(instance.work)) == before
    Path(instance.work, "a.csv").symlink_to("/tmp/nowhere-of-this-test")
    assert "there is a symbolic link of that name here" in refused(instance, f"{job}:out/a.csv", ".")
    assert not os.path.exists("/tmp/nowhere-of-this-test")
    pending = instance.submit("--hold", "--wrap", "true")
    assert "has not started" in refused(instance, f"{pending}:x", ".")
    for place, why in (("/no/such/x", "No such file or directory"), ("/proc/", "No such file or directory"), ("taken/x", "Not a directory")):
        Path(instance.work, "taken").touch()
        assert refused(instance, f"{job}:out/a.csv", place) == f"sshq: error: {place}: {why}\n"


def test_after_the_end_what_stayed_on_the_host_can_be_fetched_and_else_it_says_what_to_do(running, instance):
    host, job = running
    Path(instance.work, "kept").symlink_to("/tmp/nowhere-of-this-test")  # stands in the way of what comes back
    host.sh(f"touch {host.home}/go")
    instance.until_state(job, "COMPLETED")
    instance.wait_for(lambda: not instance.out("squeue", "-h"), 20, "the end")
    assert f"sshq cp {job}:kept" in instance.out("scontrol", "show", "job", str(job))
    instance.out("cp", f"{job}:kept", "fetched")
    assert instance.read("fetched") == "k\n"
    gone = instance.wrap("echo x >f")
    instance.until_state(gone, "COMPLETED")
    instance.wait_for(lambda: "are gone" in instance.run("cp", f"{gone}:f", ".").stderr, 15, "its directory to be removed")
    said = refused(instance, f"{gone}:f", ".")
    assert said == (
        f"sshq: error: the files of job {gone} are gone: its private directory on {host.name} was removed with its end\n"
        "    hint: submit with --stage-out what is to be kept\n"
    )


def test_a_file_that_the_job_goes_on_writing_comes_as_it_was(hosts, instance):
    (host,) = hosts(1)
    instance.use([host])
    instance.up()
    instance.ready()
    job = instance.submit("--wrap", f"while :; do echo line >>log; done & {UNTIL_GO}; kill $!")
    instance.wait_for(lambda: instance.run("cp", f"{job}:log", "-").returncode == 0, 20, "the file to be there")
    instance.out("cp", f"{job}:log", "copy")
    assert set(instance.read("copy").splitlines()[:-1]) == {"line"}
    instance.out("scancel", str(job))


@pytest.mark.slow
def test_100_mb_over_a_line_that_is_cut_twice(hosts, instance):
    (node,) = hosts()
    plans = [Cut("down", 40_000_000, "fin"), Cut("down", 50_000_000, "rst")]  # the last one first
    with Cutter(node, lambda: plans.pop() if plans else None) as cutter:
        instance.use([node])
        instance.up()
        instance.ready()
        job = instance.submit("--wrap", f"head -c 100000000 /dev/urandom >big; sha256sum <big >sum; {UNTIL_GO}")
        instance.wait_for(lambda: len(instance.run("cp", f"{job}:sum", "-").stdout) > 64, 30, "the file to be there")
        instance.out("cp", f"{job}:big", "copy")
        expected = instance.out("cp", f"{job}:sum", "-").split()[0]
        assert len(cutter.made) == 2
    with open(f"{instance.work}/copy", "rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == expected
    assert os.listdir(instance.work) == ["copy"]


def test_progress_is_for_terminals_alone(hosts, instance):
    (host,) = hosts(1)
    instance.use([host])
    instance.up()
    instance.ready()
    job = instance.submit("--wrap", f"head -c 20000000 /dev/zero >big; touch ready; {UNTIL_GO}")
    instance.wait_for(lambda: instance.run("cp", f"{job}:ready", "-").returncode == 0, 20, "the file to be there")
    quiet = instance.run("cp", f"{job}:big", "copy")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    main, side = os.openpty()
    argv = instance.argv("cp", f"{job}:big", "copy")
    done = subprocess.run(argv, cwd=instance.work, env=instance.env, stdin=subprocess.DEVNULL, stderr=side, timeout=60, check=True)
    assert done.returncode == 0
    os.close(side)
    said = os.read(main, 65536)
    os.close(main)
    assert b"big  [" in said and b"/19 MiB" in said and said.endswith(b"\r\x1b[K")
