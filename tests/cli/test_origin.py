"""What a submission tells of where it comes from, and that a controller of an earlier release is served all the same."""

import os
import subprocess

import pytest

from sshq import __version__
from sshq.errors import RefusedError

GIT = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@x", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@x", "HOME": "/nonexistent"}


@pytest.fixture
def commit(place):
    """The commit that the directory of the commands is at."""

    def git(*words):
        return subprocess.run(["git", *words], cwd=place.work, env=os.environ | GIT, capture_output=True, text=True, check=True).stdout

    place.write("job.sh", "#!/bin/sh\ntrue\n", 0o755)
    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-qm", "first")
    return git("rev-parse", "HEAD").strip()


def refuse_newer(reply):
    """Answer as a controller does that does not know what is told of the origin: in its own words, for each request."""

    def answer(params, _stream):
        for place, described in [("description", params.get("description")), ("common", params.get("common"))]:
            if described and "origin" in described:
                raise RefusedError(f"unknown parameter '{place}.origin'", code="bad_request")
        for number, described in enumerate(params.get("descriptions") or ()):
            if "origin" in described:
                raise RefusedError(f"unknown parameter 'descriptions[{number}].origin'", code="bad_request")
        return reply

    return answer


def test_sbatch_tells_commit_branch_state_and_version(controller, sshq, commit):
    controller.answers["submit"] = {"job_id": 1, "notes": []}
    assert sshq("sbatch", "job.sh").returncode == 0
    (params,) = controller.params("submit")
    origin = params["description"]["origin"]
    assert origin.pop("files")
    assert origin.pop("top").endswith("/w")
    assert origin == {"version": __version__, "commit": commit, "branch": "main", "state": "clean"}


def test_outside_of_a_repository_only_the_version_is_told(controller, sshq):
    controller.answers["submit"] = {"job_id": 1, "notes": []}
    sshq("sbatch", "--wrap", "true")
    (params,) = controller.params("submit")
    assert params["description"]["origin"] == {"version": __version__}


def test_an_older_controller_takes_the_same_submission_without_it(controller, sshq, commit):
    assert commit
    controller.answers["submit"] = refuse_newer({"job_id": 7, "notes": []})
    done = sshq("sbatch", "job.sh")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Submitted batch job 7\n", "")
    first, second = controller.params("submit")
    assert first["token"] == second["token"]
    assert first["description"].pop("origin")
    assert first.pop("fresh")  # which is as new
    assert first == second


def test_an_older_controller_takes_many_without_it(controller, sshq, commit):
    assert commit
    controller.answers["submit_many"] = refuse_newer({"first_job_id": 7, "notes": []})
    done = sshq("submit", "job.sh", "job.sh")
    assert (done.returncode, done.stderr) == (0, "")
    first, second = controller.params("submit_many")
    assert "origin" in first["common"]
    assert "origin" not in second["common"]
    assert first["token"] == second["token"]


def test_another_refusal_is_told_and_not_tried_again(controller, sshq):
    controller.answers["submit"] = RefusedError("unknown parameter 'description.colour'", code="bad_request")
    done = sshq("sbatch", "--wrap", "true")
    assert (done.returncode, done.stdout) == (1, "")
    assert "unknown parameter 'description.colour'" in done.stderr
    assert len(controller.params("submit")) == 1
