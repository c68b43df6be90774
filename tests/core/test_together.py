"""Submissions taken together: numbers in a row, each judged first, and a refusal of one changes nothing at all."""

from dataclasses import replace

import pytest
from scenario import Scenario, make_spec

from sshq.core import events as ev
from sshq.core.together import RefusedTogetherError
from sshq.errors import RefusedError


def small() -> Scenario:
    return Scenario().nodes("n[1-2]", cpus=4)


def member(shared, script: bytes = b"#!/bin/sh\n", **given) -> ev.Member:
    kept = {key: given.pop(key) for key in ("held", "array") if key in given}
    return ev.Member(shared=shared, own={"script": script.hex(), **given}, script=script, **kept)


def together(s: Scenario, *members: ev.Member) -> int:
    """As the desk does it: judged and numbered, made, stored, and then put into the queue two at a time."""
    s.feed(ev.SubmittedTogether(members=members))
    assert not s.last.rows
    numbered = s.last.result
    jobs = [job for at in range(0, len(members), 2) for job in numbered.make_jobs(members[at : at + 2], at, s.now)]
    assert not s.cluster.jobs.keys() & {job.job_id for job in jobs}  # nobody sees one before all are stored
    s.rows.jobs |= {job.job_id: job for job in jobs}
    for at in range(0, len(jobs), 2):
        s.feed(ev.StoredTogether(now=s.now, jobs=tuple(jobs[at : at + 2])))
        assert list(s.last.arrived) == jobs[at : at + 2]
    return numbered.first_job_id


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


def test_what_is_stored_of_them_is_what_they_are_in_the_queue() -> None:
    s = small()
    spec = make_spec("shared")
    together(s, member(spec, name="a"), member(spec, name="b", held=True), member(spec, array="0-9", held=True))
    assert s.rows.jobs == s.cluster.jobs
    late = make_spec("late", begin_at=s.now + 100)
    after = make_spec("after", dependency="afterok:1")
    together(s, member(late), member(after))
    assert s.rows.jobs == s.cluster.jobs  # these have been stored once more
    assert [s.cluster.jobs[n].reason for n in (1, 2, 3, 4, 5)] == ["None", "JobHeldUser", "JobHeldUser", "BeginTime", "Dependency"]


def test_others_may_be_numbered_while_they_are_being_stored() -> None:
    s = small()
    members = tuple(member(make_spec("shared"), name=f"j{n}") for n in range(3))
    s.feed(ev.SubmittedTogether(members=members))
    numbered = s.last.result
    alone = s.submit("alone")
    s.feed(ev.StoredTogether(now=s.now, jobs=tuple(numbered.make_jobs(members, 0, s.now))))
    assert numbered.first_job_id + 3 == alone
    assert sorted(s.cluster.jobs) == [1, 2, 3, 4]
    assert len({job.order for job in s.cluster.jobs.values()}) == 4


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
