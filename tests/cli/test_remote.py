"""Whose directory a submission from inside a job means, and which variables of a node reach the process on the head."""


import pytest

from sshq.cli.remote import ZONE, RemotePlace
from sshq.errors import RefusedError

SHARED = {"private": False, "shared": True, "work_dir": "/lab/x", "private_dir": "/a/0f.d", "node": "n1", "head": "head"}
PRIVATE = SHARED | {"private": True, "shared": False, "real_cwd": "/spool/a/0f.d", "cwd": "/spool/a/0f.d"}


def place(request: dict, **more: object) -> RemotePlace:
    return RemotePlace(None, {"cwd": "/lab/x", "real_cwd": "/lab/x"} | request | more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("cwd", "output", "path", "seen_from"), [
    ("/lab/x", None, "/lab/x", None),
    ("/lab/x/sub", "logs/%j.out", "/lab/x/sub", None),
    ("/lab/x/sub", "/lab/x/y", "/lab/x/sub", None),
    ("/lab/x", "/etc/passwd", "/lab/x", "n1"),  # where nobody shares it any more it must not be brought to the head
    ("/lab/x", "../y", "/lab/x", "n1"),
    ("/lab/x", "/dev/null", "/lab/x", None),
    ("/lab/xy", None, "/lab/xy", "n1"),
    ("/tmp", None, "/tmp", "n1"),
])  # fmt: skip
def test_the_directory_of_a_job_that_shares_its_own(cwd, output, path, seen_from):
    here = place(SHARED, cwd=cwd, real_cwd=cwd)
    proof = here.describe_directory({"work_dir": cwd, "std_out": output})
    assert proof is not None
    assert (proof["path"], proof.get("seen_from")) == (path, seen_from)


def test_the_directory_of_a_job_that_was_given_another_one():
    proof = place(SHARED).describe_directory({"work_dir": "/else/where"})
    assert proof is not None
    assert (proof["path"], proof["seen_from"]) == ("/else/where", "n1")


def test_a_private_directory_stands_for_the_one_submitted_from():
    here = place(PRIVATE)
    assert here.find_cwd() == "/lab/x"
    proof = here.describe_directory({"work_dir": "/lab/x", "std_out": "a/%j"})
    assert proof is not None
    assert (proof["path"], proof.get("seen_from")) == ("/lab/x", None)
    for name in ("/etc/passwd", "../up", "/lab/x/../../etc", "/lab/xy"):
        with pytest.raises(RefusedError, match="Unable to open file"):
            here.describe_directory({"work_dir": "/lab/x", "std_err": name})


@pytest.mark.parametrize(("zone", "fine"), [
    ("Europe/Berlin", True), ("UTC", True), ("CET-1CEST,M3.5.0,M10.5.0/3", True), ("<+03>-3", True), (":/etc/passwd", False),
    ("/etc/passwd", False), ("../../etc/passwd", False), ("Europe/../../../etc/passwd", False), ("", False), ("A\n", False),
])  # fmt: skip
def test_a_time_zone_names_no_file_of_choice(zone, fine):
    assert bool(ZONE.fullmatch(zone)) is fine


