"""The fast `replace` against the ordinary one, for every field of the records that it is used for."""

import dataclasses

import pytest

from sshq.core import replacing
from sshq.core.model import Job, JobSpec, Launch

SPEC = JobSpec(name="a", uid=0, user="u", gid=0, group="g", script="s", environ="e")
RECORDS = (
    SPEC,
    Job(job_id=1, spec=SPEC, spec_id=1, submit_at=1.0, nodes=("n1",), slots=(2,), note="x"),
    Launch(id="0" * 32, job_id=1, attempt=1, node="n1", seq=5, epoch=1, boot="b", spool_id="s", decided_at=1.0, pid=9),
)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_equals_the_ordinary_one(record: object) -> None:
    kept = repr(record)
    for field in dataclasses.fields(record):  # type: ignore[arg-type]
        other = ("changed", field.name)
        made = replacing.replace(record, **{field.name: other})  # type: ignore[type-var]
        assert made == dataclasses.replace(record, **{field.name: other})  # type: ignore[type-var]
        assert getattr(made, field.name) == other
        assert made != record
    assert repr(record) == kept
    assert replacing.replace(record) == record  # type: ignore[type-var]


def test_refuses_what_is_no_field() -> None:
    with pytest.raises(TypeError, match="Job has no field 'colour'"):
        replacing.replace(RECORDS[1], colour="red")


def test_refuses_a_record_without_slots() -> None:
    @dataclasses.dataclass(frozen=True)
    class Plain:
        a: int = 1

    with pytest.raises(TypeError, match="no plain record"):
        replacing.replace(Plain(), a=2)
