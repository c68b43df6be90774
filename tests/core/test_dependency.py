"""Dependencies: texts as recorded from real Slurm (group dependencies), and every kind against every fate."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sshq.core.dependency import (
    KINDS,
    Dependency,
    JobFacts,
    Term,
    Verdict,
    evaluate,
    find_next_check,
    format_dependency,
    format_term,
    judge_term,
    parse_dependency,
    pin_to_task,
)

MET, WAITING, NEVER = Verdict.MET, Verdict.WAITING, Verdict.NEVER
PENDING = JobFacts(known=True)
RUNNING = JobFacts(known=True, started_at=1000.0)
DONE = JobFacts(known=True, started_at=1000.0, final=True, ok=True)
FAILED = JobFacts(known=True, started_at=1000.0, final=True)
UNSTARTED = JobFacts(known=True, final=True)  # cancelled while pending
UNKNOWN = JobFacts(known=False)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("afterok:22448", "afterok:22448(unfulfilled)"),
        ("afterany:22448", "afterany:22448(unfulfilled)"),
        ("afternotok:22448", "afternotok:22448(unfulfilled)"),
        ("after:22448", "after:22448(unfulfilled)"),
        ("after:22448+1", "after:22448+1(unfulfilled)"),
        ("afterok:22448,afterany:22449", "afterok:22448(unfulfilled),afterany:22449(unfulfilled)"),
        ("afterok:22449?afterany:22448", "afterok:22449(unfulfilled)?afterany:22448(unfulfilled)"),
        ("afterok:22448:22449", "afterok:22448(unfulfilled),afterok:22449(unfulfilled)"),
        ("aftercorr:22448", "aftercorr:22448(unfulfilled)"),
        ("22448", "afterany:22448(unfulfilled)"),
        ("singleton", "singleton(unfulfilled)"),
        ("singleton,afterok:22448", "singleton(unfulfilled),afterok:22448(unfulfilled)"),
        ("afterok:22468_2", "afterok:22468_2(unfulfilled)"),
        ("afterok:22468_*", "afterok:22468_*(unfulfilled)"),
        ("AfterOK:7", "afterok:7(unfulfilled)"),
        ("afterok:7:7", "afterok:7(unfulfilled)"),
        ("1?2", "afterany:1(unfulfilled)?afterany:2(unfulfilled)"),
    ],
)
def test_a_dependency_reads_and_shows_as_squeue_does(text: str, shown: str) -> None:
    assert format_dependency(parse_dependency(text), lambda _: PENDING) == shown


def test_a_whole_array_is_shown_with_a_star() -> None:
    array = JobFacts(known=True, array=True)
    assert (
        format_dependency(parse_dependency("afterok:22468"), lambda _: array)
        == "afterok:22468_*(unfulfilled)"
    )
    assert (
        format_dependency(parse_dependency("afterok:22468_2"), lambda _: array)
        == "afterok:22468_2(unfulfilled)"
    )


@pytest.mark.parametrize(
    "text",
    [
        "after0k:1", "afterok", "afterok:", "afterok:x", "afterok:0", "afterok:-1", "afterok:1,,afterok:2", "afterok:1,", "afterok:1?", "afterok:1,2?3",
        "singleton:1", "afterok:1+5", "after:1+", "after:1+x", "after:1+-1", "afterok:1_", "afterok:1_x", "afterok:1_[1-2]", "x", "1 2", "afterok: 1", "expand:1",
        "after:1+99999999999",
    ],
)  # fmt: skip
def test_a_bad_dependency_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_dependency(text)


def test_no_dependency_holds_at_once() -> None:
    assert parse_dependency(" ") == Dependency()
    assert evaluate(Dependency(), lambda _: UNKNOWN) is MET
    assert format_dependency(Dependency(), lambda _: UNKNOWN) is None


@pytest.mark.parametrize(
    ("kind", "pending", "running", "done", "failed", "unstarted", "unknown"),
    [
        ("after", WAITING, MET, MET, MET, MET, NEVER),
        ("afterany", WAITING, WAITING, MET, MET, MET, NEVER),
        ("afterok", WAITING, WAITING, MET, NEVER, NEVER, NEVER),
        ("aftercorr", WAITING, WAITING, MET, NEVER, NEVER, NEVER),
        ("afternotok", WAITING, WAITING, NEVER, MET, MET, NEVER),
        ("singleton", WAITING, WAITING, MET, MET, MET, WAITING),
    ],
)
def test_every_kind_against_every_fate(
    kind: str,
    pending: Verdict,
    running: Verdict,
    done: Verdict,
    failed: Verdict,
    unstarted: Verdict,
    unknown: Verdict,
) -> None:
    fates = (PENDING, RUNNING, DONE, FAILED, UNSTARTED, UNKNOWN)
    term = Term(kind=kind, job_id=1)
    assert [judge_term(term, facts) for facts in fates] == [
        pending,
        running,
        done,
        failed,
        unstarted,
        unknown,
    ]


def test_a_delay_counts_from_the_start() -> None:
    waits = parse_dependency("after:1+2")
    assert evaluate(waits, lambda _: PENDING, 5000.0) is WAITING
    assert evaluate(waits, lambda _: RUNNING, 1119.9) is WAITING
    assert evaluate(waits, lambda _: RUNNING, 1120.0) is MET
    assert evaluate(waits, lambda _: DONE, 1060.0) is WAITING  # its end does not shorten the delay
    assert evaluate(waits, lambda _: UNSTARTED, 0.0) is MET
    assert evaluate(waits, lambda _: RUNNING) is WAITING  # without a clock
    assert find_next_check(waits, lambda _: RUNNING, 1000.0) == 1120.0
    assert find_next_check(waits, lambda _: RUNNING, 1120.0) is None
    assert find_next_check(waits, lambda _: PENDING, 1000.0) is None
    assert find_next_check(parse_dependency("afterok:1"), lambda _: RUNNING, 1000.0) is None


def test_what_holds_is_left_out_and_what_failed_is_named() -> None:
    fates = {1: DONE, 2: FAILED, 3: PENDING}
    look = lambda term: fates[term.job_id]
    both = parse_dependency("afterok:1:2")
    assert (evaluate(both, look), format_dependency(both, look)) == (NEVER, "afterok:2(failed)")
    early = parse_dependency("afterok:3:2")
    assert (evaluate(early, look), format_dependency(early, look)) == (
        NEVER,
        "afterok:3(unfulfilled),afterok:2(failed)",
    )
    either = parse_dependency("afterok:2?afterany:3")
    assert (evaluate(either, look), format_dependency(either, look)) == (
        WAITING,
        "afterok:2(failed)?afterany:3(unfulfilled)",
    )
    met = parse_dependency("afterok:2?afterok:1")
    assert (evaluate(met, look), format_dependency(met, look)) == (MET, None)
    lost = parse_dependency("afterok:2?afternotok:1")
    assert evaluate(lost, look) is NEVER


def test_aftercorr_names_the_task_of_the_same_index_once_a_task_asks() -> None:
    dependency = parse_dependency("aftercorr:10,afterok:11,aftercorr:12_3")
    assert pin_to_task(dependency, 7) == parse_dependency("aftercorr:10_7,afterok:11,aftercorr:12_3")


def test_a_dependency_names_whom_it_waits_for() -> None:
    dependency = parse_dependency("singleton,afterok:5:6_1,after:7+1")
    assert dependency.job_ids == {5, 6, 7}
    assert dependency.singleton
    assert not parse_dependency("5").singleton


_terms = st.one_of(
    st.just(Term(kind="singleton")),
    st.builds(
        Term,
        kind=st.sampled_from(KINDS),
        job_id=st.integers(1, 99),
        task=st.one_of(st.none(), st.just("all"), st.integers(0, 9)),
    ),
    st.builds(Term, kind=st.just("after"), job_id=st.integers(1, 99), delay_min=st.integers(1, 600)),
)
_dependencies = st.builds(
    lambda terms, any_of: Dependency(
        terms=tuple(dict.fromkeys(terms)), any_of=any_of and len(set(terms)) > 1
    ),
    st.lists(_terms, min_size=1, max_size=5),
    st.booleans(),
)
_FATES = [PENDING, RUNNING, DONE, FAILED, UNSTARTED, UNKNOWN]


@settings(max_examples=60)
@given(_dependencies)
def test_what_is_written_reads_back(dependency: Dependency) -> None:
    text = ("?" if dependency.any_of else ",").join(format_term(term) for term in dependency.terms)
    assert parse_dependency(text) == dependency


@settings(max_examples=60)
@given(_dependencies, st.lists(st.sampled_from(_FATES), min_size=6, max_size=6))
def test_the_verdict_is_that_of_its_terms(dependency: Dependency, fates: list[JobFacts]) -> None:
    look = lambda term: fates[term.job_id % 6]
    single = {judge_term(term, look(term), 1e9) for term in dependency.terms}
    verdict = evaluate(dependency, look, 1e9)
    if dependency.any_of:
        wanted = MET if MET in single else WAITING if WAITING in single else NEVER
    else:
        wanted = NEVER if NEVER in single else WAITING if WAITING in single else MET
    assert verdict is wanted
    assert (format_dependency(dependency, look, 1e9) is None) == (verdict is MET)
