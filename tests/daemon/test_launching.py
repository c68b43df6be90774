"""What a launch is sent with: what many of them have in common is made once, and none has what is another's."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from sshq.controller.launching import Material, build_call, describe_gpus, describe_start
from sshq.core.lifecycle import State
from sshq.core.model import Job, JobSpec, Launch
from sshq.inventory.model import Host
from sshq.runner.protocol import encode_launch
from sshq.slurm.environ import job_environment

HELLO = SimpleNamespace(uid=0, spool="/spool", home="/root", shell="/bin/sh", user="root")
SPEC = JobSpec(name="n", uid=1, user="u", gid=1, group="g", script="s" * 64, environ="e" * 64, work_dir="/w", array_min=1, array_max=9)
MATERIAL = Material(script=b"#!/bin/sh\n", environ={"A": "submitted", "B": "it's", "SLURM_JOB_ID": "1", "LANG": "C"})


def start(number: int, spec: JobSpec = SPEC, **changes):
    job = Job(job_id=number, spec=spec, spec_id=3, submit_at=1.0, state=State.CONFIGURING, array_job_id=3, array_task_id=number, attempt=1)
    job = replace(job, nodes=("l1",), slots=(number,), **changes)
    node = job.nodes[number % len(job.nodes)]
    launch = Launch(
        id=f"{number:032x}", job_id=number, attempt=1, node=node, seq=1000000 + number, epoch=1, boot="b:1:2", spool_id="s",
        slot=number, decided_at=2.5,
    )  # fmt: skip
    return launch, job


@pytest.mark.parametrize("changes", [{}, {"restarts": 2}, {"nodes": ("l1", "l2"), "other_slots": ((0,),)}])
def test_each_task_has_its_own_variables_and_all_that_are_common(changes):
    host = Host(name="l1", address="l1", environment=(("A", "the host's"),))
    for number in (1, 2, 3, 1):
        launch, job = start(number)
        job = replace(job, **changes)
        call = build_call(launch, job, host=host, hello=HELLO, material=MATERIAL, grace_s=1)
        of_job = job_environment(describe_start(launch, job) | describe_gpus(launch, job, host, None))
        found = {**call.common, **call.environ}
        assert found == {**MATERIAL.environ, "A": "the host's", **of_job}
        assert (found["SLURM_ARRAY_TASK_ID"], found["SSHQ_SLOT"], found["SLURM_JOB_ID"]) == (str(number),) * 3
        [text] = encode_launch(call)
        assert f"SLURM_ARRAY_TASK_ID='\\''{number}'\\''".encode() in text and text.count(b"export SLURM_JOB_ID=") == 1
        assert text.index(b"SSHQ_WHOLE=1") < text.index(b"export LANG=") and text.count(b"export A=") == 1


def test_another_spec_or_environment_is_not_taken_for_the_one_before():
    host = Host(name="l1", address="l1")
    for name, value in (("one", "1"), ("two", "2"), ("one", "3")):
        launch, job = start(4, replace(SPEC, name=name, work_dir=f"/{name}"))
        material = Material(script=b"", environ={"A": value})
        [text] = encode_launch(build_call(launch, job, host=host, hello=HELLO, material=material, grace_s=1))
        assert f"export A='\\''{value}'\\''".encode() in text and f"SLURM_JOB_NAME='\\''{name}'\\''".encode() in text
        assert f"job_work='\\''/{name}'\\''".encode() in text
