"""Names of jobs as users write them to squeue, scancel, sacct."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sshq.core.ids import JobRef, format_job_id, parse_job_id, parse_job_ids


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("12", JobRef(job_id=12)),
        ("12_4", JobRef(job_id=12, tasks=(4,))),
        ("12_0", JobRef(job_id=12, tasks=(0,))),
        ("12_[4]", JobRef(job_id=12, tasks=(4,))),
        ("12_[1-5,7]", JobRef(job_id=12, tasks=(1, 2, 3, 4, 5, 7))),
        ("12_[7,1-2,1]", JobRef(job_id=12, tasks=(1, 2, 7))),
        ("134_[3-4%2]", JobRef(job_id=134, tasks=(3, 4))),  # pasted from squeue
        ("12_*", JobRef(job_id=12)),  # pasted from %E
        ("12.0", JobRef(job_id=12, step="0")),
        ("12.batch", JobRef(job_id=12, step="batch")),
        ("12.extern", JobRef(job_id=12, step="extern")),
        ("12_4.batch", JobRef(job_id=12, tasks=(4,), step="batch")),
        (" 12 ", JobRef(job_id=12)),
        ("0012", JobRef(job_id=12)),
    ],
)
def test_an_id_is_read(text: str, ref: JobRef) -> None:
    assert parse_job_id(text) == ref


@pytest.mark.parametrize(
    "text",
    [
        "", "abc", "12x", "12+1", "-1", "+1", "0", "12_", "12_x", "12_[", "12_[]", "12_[1", "12_1]", "12_[5-2]", "12_[1,...]", "12_4_5",
        "12.", "12.x", "12.1.2", "12.-1", "1 2", "٣", "99999999999", "12_9999999", "_4", ".0", "12_**",
    ],
)  # fmt: skip
def test_a_bad_id_is_refused_in_squeues_words(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_job_id(text)
    assert str(caught.value) == f"Invalid job id: {text}"


def test_commas_split_a_list_outside_of_brackets_only() -> None:
    refs = parse_job_ids("12,13_[1-2,5],14.batch,,")
    assert refs == (JobRef(job_id=12), JobRef(job_id=13, tasks=(1, 2, 5)), JobRef(job_id=14, step="batch"))


@pytest.mark.parametrize("text", ["", ",", "12,x", "12,[1"])
def test_a_list_is_as_bad_as_its_first_bad_item(text: str) -> None:
    with pytest.raises(ValueError, match="Invalid job id: "):
        parse_job_ids(text)


_refs = st.builds(
    JobRef,
    job_id=st.integers(1, 2**31 - 1),
    tasks=st.one_of(
        st.none(), st.sets(st.integers(0, 50), min_size=1).map(lambda tasks: tuple(sorted(tasks)))
    ),
    step=st.one_of(
        st.none(), st.integers(0, 9).map(str), st.sampled_from(["batch", "extern", "interactive"])
    ),
)


@settings(max_examples=60)
@given(st.lists(_refs, min_size=1, max_size=4))
def test_what_is_written_reads_back(refs: list[JobRef]) -> None:
    assert [parse_job_id(format_job_id(ref)) for ref in refs] == refs
    assert list(parse_job_ids(",".join(map(format_job_id, refs)))) == refs


def test_one_task_is_written_without_brackets() -> None:
    assert format_job_id(JobRef(job_id=12, tasks=(4,), step="batch")) == "12_4.batch"
    assert format_job_id(JobRef(job_id=12, tasks=(3, 4))) == "12_[3-4]"
