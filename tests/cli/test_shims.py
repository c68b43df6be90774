"""Executables named like Slurm's: they run from anywhere, with hostile arguments, and nothing gets in between."""

import os
import subprocess
import sys

import pytest

from sshq.cli.main import SLURM_VERBS
from sshq.cli.shims import format_shim


@pytest.fixture
def shims(place, sshq):
    done = sshq("shims", "bin dir")
    assert (done.returncode, done.stderr) == (0, "")
    return f"{place.work}/bin dir"


def call(place, path, *words, **env):
    kept = {name: value for name, value in place.env.items() if name != "PYTHONPATH"}
    return subprocess.run([path, *words], cwd=place.work, env=kept | env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("verb", SLURM_VERBS)
def test_each_of_slurms_verbs_has_one(place, shims, verb):
    assert os.stat(f"{shims}/{verb}").st_mode & 0o777 == 0o755
    done = call(place, f"{shims}/{verb}", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, "slurm 22.05.8\n", "")


def test_arguments_arrive_as_they_are(place, controller, shims):
    controller.answers["submit"] = {"job_id": 5}
    words = ["", "a b", "*", "$HOME", "'\"", "-x", "--", "ü", "\n"]
    place.write("job.sh", "#!/bin/sh\n")
    done = call(place, f"{shims}/sbatch", "job.sh", *words)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Submitted batch job 5\n", "")
    assert controller.params("submit")[0]["description"]["args"] == words


def test_neither_the_working_directory_nor_variables_get_in_between(place, controller, shims):
    controller.answers["submit"] = {"job_id": 5}
    for name in ("json", "re", "sshq", "os", "enum", "sitecustomize"):
        place.write(f"{name}.py", "raise SystemExit('hijacked')\n")
    hostile = {"PYTHONPATH": place.work, "PYTHONSTARTUP": "json.py", "PYTHONHOME": "/nonexistent"}
    done = call(place, f"{shims}/sbatch", "--wrap", "true", **hostile)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Submitted batch job 5\n", "")


@pytest.mark.parametrize("name", ["with a blank", "long" * 40, "ü"])
def test_an_interpreter_that_no_first_line_can_name_is_started_all_the_same(place, controller, sshq, name, monkeypatch):
    controller.answers["submit"] = {"job_id": 5}
    os.makedirs(f"{place.work}/{name}")
    python = f"{place.work}/{name}/python3"
    place.write(f"{name}/python3", f'#!/bin/sh\nexec {sys.executable} "$@"\n', mode=0o755)
    monkeypatch.setattr(sys, "executable", python)
    monkeypatch.setenv("SSHQ_HOME", place.env["SSHQ_HOME"])
    place.write("shim", format_shim("sbatch"), mode=0o755)
    del place.env["SSHQ_HOME"]
    done = call(place, f"{place.work}/shim", "--wrap", "it's \"quoted\"")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Submitted batch job 5\n", "")
    assert controller.params("submit")[0]["description"]["script"].endswith("it's \"quoted\"\n")


def test_a_second_call_replaces_our_own_and_leaves_others_alone(place, sshq, shims):
    assert sshq("shims", "bin dir").returncode == 0
    place.write("bin dir/squeue", "#!/bin/sh\necho precious\n", mode=0o755)
    done = sshq("shims", "bin dir")
    assert done.returncode == 1
    assert done.stderr.startswith("sshq: error: bin dir/squeue exists and was not written by sshq\n")
    assert call(place, f"{shims}/squeue").stdout == "precious\n"
    assert sshq("shims", "--force", "bin dir").returncode == 0
    assert call(place, f"{shims}/squeue", "--version").stdout == "slurm 22.05.8\n"


def test_a_directory_that_cannot_be_made_is_named(place, sshq):
    place.write("file", "")
    done = sshq("shims", "file/bin")
    assert (done.returncode, done.stdout) == (1, "")
    assert "file/bin: Not a directory" in done.stderr


def test_they_speak_to_the_sshq_they_were_made_for_unless_another_is_named(place, controller, shims):
    controller.answers["submit"] = {"job_id": 5}
    del place.env["SSHQ_HOME"]  # as in a job, which gets no SSHQ_ variable of its submitter
    assert call(place, f"{shims}/sbatch", "--wrap", "true").stdout == "Submitted batch job 5\n"
    elsewhere = call(place, f"{shims}/sbatch", "--wrap", "true", SSHQ_HOME="/nonexistent")
    assert (elsewhere.returncode, elsewhere.stdout) == (1, "")
