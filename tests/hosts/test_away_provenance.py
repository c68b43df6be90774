"""`sshq show` and `sshq reproduce` from a machine whose files the head does not see, over a real ssh."""

import os
import re
import shutil
import subprocess

import pytest

GIT = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@x", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@x", "HOME": "/nonexistent"}


def git(folder, *words) -> str:
    done = subprocess.run(["git", "-C", folder, *words], env=os.environ | GIT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.slow
def test_frozen_files_of_a_laptop_once_more(laptop, tmp_path):
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "data.txt").write_text("old bytes\n")
    (tmp_path / "run.sh").write_text("#!/bin/sh\ncat data.txt\n")
    git(tmp_path, "add", "data.txt", "run.sh")
    git(tmp_path, "commit", "-qm", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    shutil.copytree(tmp_path, laptop.path("."), dirs_exist_ok=True)  # git itself is not at home in what a namespace shows
    first = laptop.run("sbatch", "--sync", "--wait", "--parsable", "run.sh").stdout.strip()
    assert laptop.path(f"slurm-{first}.out").read_text() == "old bytes\n"
    told = laptop.run("show", first, "--provenance").stdout
    assert f"    commit       {commit} on main: tracked files as committed\n" in told  # the laptop's, which the head never saw
    assert laptop.run("show", first).stdout.startswith(f"Job {first} (run.sh): COMPLETED, exit code 0:0\n")
    laptop.path("data.txt").write_text("new bytes\n")
    done = laptop.run("reproduce", first, "--wait")
    assert done.returncode == 0, done.stderr
    job = re.search(r"Submitted batch job (\d+)", done.stdout)[1]
    assert laptop.path(f"slurm-{job}.out").read_text() == "old bytes\n"
    assert "have changed since; the job's files are those of then\n" in done.stderr
    assert f"    reproduces   job {first}\n" in laptop.run("show", job, "--provenance").stdout
