"""Submissions taken together: numbers in a row, each judged first, and a refusal of one changes nothing at all."""

from dataclasses import replace

import pytest
from scenario import Scenario, make_spec

from sshq.core import events as ev
from sshq.core.model import Job, ScriptBlob, SubmitToken
from sshq.core.together import RefusedTogetherError
from sshq.errors import RefusedError


def small() -> Scenario:
    return Scenario().nodes("n[1-2]", cpus=4)


def member(shared, script: bytes = b"#!/bin/sh\n", **given) -> ev.Member:
    kept = {key: given.pop(key) for key in ("held", "array") if key in given}
    return ev.Member(shared=shared, own={"script": script.hex(), **given}, script=script, **kept)


def together(s: Scenario, *members: ev.Member, token: str | None = "t1") -> int:
    s.feed(ev.SubmittedTogether(now=s.now, members=members, token=token))
    return s.last.result


def test_they_are_jobs_as_if_submitted_one_by_one() -> None:
    s, one_by_one = small(), small()
    spec = make_spec("shared", time_limit_s=600)
    first = together(s, member(spec, name="a"), member(spec, name="b", args=("x",)), member(spec, array="0-9", held=True))
    assert first == 1
    for name, own in (("a", {}), ("b", {"args": ("x",)}), ("shared", {})):
        script = member(spec).own["script"]
        alone = make_spec("shared", time_limit_s=600, script=script, **own)
        array = {"array": "0-9", "held": True} if name == "shared" else {}
        one_by_one.feed(ev.Submitted(now=s.now, spec=replace(alone, name=name), script=b"#!/bin/sh\n", **array))
    assert [s.cluster.jobs[n] for n in (1, 2, 3)] == [one_by_one.cluster.jobs[n] for n in (1, 2, 3)]
    assert set(s.plan()) == set(one_by_one.plan())


def test_one_token_and_each_script_once_are_stored() -> None:
    s = small()
    together(s, *(member(make_spec("shared"), name=f"j{n}") for n in range(5)))
    tokens = [row for row in s.last.rows if isinstance(row, SubmitToken)]
    assert [(token.token, token.job_id) for token in tokens] == [("t1", 1)]
    assert len({row.digest for row in s.last.rows if isinstance(row, ScriptBlob)}) == 1
    assert len({row.job_id for row in s.last.rows if isinstance(row, Job)}) == 5


def test_a_refusal_names_each_that_is_to_blame_and_changes_nothing() -> None:
    s = small()
    good, bad = make_spec("good"), make_spec("bad", partitions=("nowhere",))
    with pytest.raises(RefusedTogetherError) as refused:
        together(s, member(good), member(bad), member(good), member(bad))
    assert list(refused.value.refusals) == [1, 3]
    assert "invalid partition" in refused.value.message
    assert not s.cluster.jobs
    assert not len(s.cluster.pending)
    assert together(s, member(good)) == 1


def test_a_queue_without_room_for_all_takes_none() -> None:
    s = small()
    s.cluster.jobs_max = 4
    with pytest.raises(RefusedError, match="temporarily unable"):
        together(s, *(member(make_spec("good")) for _ in range(5)))
    assert not s.cluster.jobs
    assert together(s, *(member(make_spec("good")) for _ in range(4))) == 1
