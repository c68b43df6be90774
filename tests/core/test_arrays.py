"""Array specifications and index sets; texts as recorded from real Slurm (group arrays)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sshq.core.arrays import ARRAY_SIZE_MAX, IndexSet, format_indices, parse_array, parse_indices


@pytest.mark.parametrize(
    ("text", "indices", "shown"),
    [
        ("0-9", range(10), "0-9"),
        ("0-9:2", [0, 2, 4, 6, 8], "0,2,4,6,8"),
        ("1,3,5%2", [1, 3, 5], "1,3,5%2"),
        ("1-3,7,10-14:2", [1, 2, 3, 7, 10, 12, 14], "1-3,7,10,12,14"),
        ("5", [5], "5"),
        ("0-3%1", range(4), "0-3%1"),
        ("1,1,2", [1, 2], "1-2"),
        ("1-10:2%3", [1, 3, 5, 7, 9], "1,3,5,7,9%3"),
        ("0,5-7", [0, 5, 6, 7], "0,5-7"),
        ("5-7,1-6", range(1, 8), "1-7"),
        ("0-10:2", range(0, 11, 2), "0,2,4,6,8,10"),  # a step shows from a span of eleven on
        ("0-98:2", range(0, 99, 2), "0-98:2"),
        ("0-11:11", [0, 11], "0-11:11"),
        ("0,20,10", [0, 10, 20], "0-20:10"),
        ("0,10,21", [0, 10, 21], "0,10,21"),
        ("0-3%0", range(4), "0-3"),
        ("0-100:3", range(0, 101, 3), "0-99:3"),
    ],
)
def test_an_array_is_read_and_shown_as_squeue_does(text: str, indices: object, shown: str) -> None:
    spec = parse_array(text)
    assert spec.expand() == list(indices)  # type: ignore[call-overload]
    assert spec.count == len(spec.expand())
    assert (spec.first, spec.last) == (spec.expand()[0], spec.expand()[-1])
    assert format_indices(spec.index_set(), limit=spec.limit) == shown


@pytest.mark.parametrize(
    "text",
    ["", "x", "5-2", "0-99999999", "1-", "-1", "1,,2", "1,", "1-2-3", "1-9:0", "1-9:x", "1-9:", "5:2", "1%", "1%x", "1%2%3", "1 2", "٣", "1.5"],
)  # fmt: skip
def test_a_bad_array_is_refused_in_slurms_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"^Invalid job array specification$"):
        parse_array(text)


def test_the_size_of_an_array_is_bounded_by_its_largest_index() -> None:
    assert parse_array("4000000").expand() == [4_000_000]
    assert parse_array("1000", array_size_max=1001).count == 1
    for text, size in (("4000001", ARRAY_SIZE_MAX), ("0-1001", 1001), ("1001", 1001)):
        with pytest.raises(ValueError, match="array"):
            parse_array(text, array_size_max=size)


def test_a_limit_of_zero_is_no_limit() -> None:
    assert [parse_array(text).limit for text in ("1-3", "1-3%0", "1-3%2")] == [None, None, 2]


def test_the_step_of_the_job_environment_is_that_of_a_single_range() -> None:
    assert parse_array("2-6:2%2").step == 2
    assert parse_array("1-3,7").step == 1


def test_a_million_tasks_are_one_range() -> None:
    tasks = parse_array("1-1000000").index_set()
    assert (len(tasks), list(tasks.ranges())) == (1_000_000, [(1, 1_000_000)])
    assert [tasks.pop_first() for _ in range(3)] == [1, 2, 3]
    assert tasks.remove(500_000)
    assert format_indices(tasks) == "4-499999,500001-1000000"


def test_a_long_text_is_cut_at_a_comma() -> None:
    text = format_indices(range(0, 200, 2), width=64)
    assert text == "0-198:2"
    text = format_indices([i for i in range(200) if i % 3], limit=4, width=64)
    assert text.startswith("1-2,4-5,")
    assert text.endswith(",...%4")
    assert len(text) <= 64 + len("%4")


def test_an_empty_set_says_so() -> None:
    empty = parse_indices("")
    assert (len(empty), empty.first(), empty.last(), format_indices(empty), bool(empty)) == (
        0,
        None,
        None,
        "",
        False,
    )
    with pytest.raises(KeyError):
        empty.pop_first()


def test_a_negative_index_is_not_taken() -> None:
    with pytest.raises(ValueError, match="-1"):
        IndexSet([-1])


_moves = st.lists(st.tuples(st.sampled_from(["add", "remove", "pop"]), st.integers(0, 25)), max_size=60)


@settings(max_examples=60)
@given(_moves)
def test_an_index_set_is_a_set(moves: list[tuple[str, int]]) -> None:
    ours, model = IndexSet(), set[int]()
    for move, index in moves:
        if move == "add":
            assert ours.add(index) == (index not in model)
            model.add(index)
        elif move == "remove":
            assert ours.remove(index) == (index in model)
            model.discard(index)
        elif model:
            assert ours.pop_first() == min(model)
            model.remove(min(model))
        assert list(ours) == sorted(model)
        assert len(ours) == len(model)
        assert [i in ours for i in range(-1, 27)] == [i in model for i in range(-1, 27)]
    ranges = list(ours.ranges())
    assert all(last + 1 < first for (_, last), (first, _) in zip(ranges, ranges[1:], strict=False))


@settings(max_examples=60)
@given(st.sets(st.integers(0, 60)), st.one_of(st.none(), st.integers(1, 9)))
def test_the_text_of_a_set_reads_back_as_the_set(indices: set[int], limit: int | None) -> None:
    text = format_indices(indices, limit=limit if indices else None)
    assert parse_indices(text) == IndexSet(indices)
    if indices:
        assert parse_array(text).limit == limit


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20), st.integers(1, 5)), max_size=5))
def test_ranges_may_overlap_in_any_order(parts: list[tuple[int, int, int]]) -> None:
    ranges = [(first, first + span, step) for first, span, step in parts]
    wanted = {index for first, last, step in ranges for index in range(first, last + 1, step)}
    made = IndexSet.from_ranges(ranges)
    assert list(made) == sorted(wanted)
    assert made == IndexSet(wanted)


def test_a_copy_is_independent_and_a_loop_survives_changes() -> None:
    tasks = IndexSet(range(5))
    twin = tasks.copy()
    for index in tasks:
        tasks.remove(index)
    assert (len(tasks), list(twin)) == (0, [0, 1, 2, 3, 4])
