"""The order of the queue: Slurm's numbers, and the promise that waiting never lowers a job's chance."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from sshq.core.priority import display_priority, queue_key


@dataclass(frozen=True)
class Waiting:
    order: int
    nice: int = 0
    priority: int | None = None

    @property
    def key(self) -> tuple[int, int]:
        return queue_key(priority=self.priority, nice=self.nice, order=self.order)

    @property
    def shown(self) -> int:
        return display_priority(priority=self.priority, nice=self.nice, order=self.order)


def ranked(jobs: list[Waiting]) -> list[int]:
    return [job.order for job in sorted(jobs, key=lambda job: job.key)]


def test_the_first_job_has_slurms_number_and_the_next_one_less() -> None:
    assert [Waiting(order).shown for order in (1, 2, 3)] == [4294901759, 4294901758, 4294901757]


def test_a_held_job_shows_zero_and_no_other_does() -> None:
    assert display_priority(priority=None, nice=0, order=5, held=True) == 0
    assert display_priority(priority=77, nice=0, order=5, held=True) == 0
    assert display_priority(priority=None, nice=2147483645, order=2**32, held=False) == 1


def test_a_number_given_by_an_operator_stands_on_the_same_scale() -> None:
    jobs = [Waiting(1), Waiting(2, priority=4294901761), Waiting(3, priority=999999), Waiting(4)]
    assert ranked(jobs) == [2, 1, 4, 3]
    assert jobs[2].shown == 999999  # scontrol update priority=999999, recorded


def test_equal_numbers_go_by_the_place_in_line() -> None:
    assert ranked([Waiting(3, priority=5), Waiting(1, priority=5), Waiting(2, priority=5)]) == [1, 2, 3]


def test_nice_counts_in_submissions() -> None:
    # Order 1 with nice 2 has the number of order 3; of equal numbers the earlier goes first.
    assert ranked([Waiting(1, nice=2), *(Waiting(order) for order in range(2, 6))]) == [2, 1, 3, 4, 5]


_jobs = st.lists(
    st.tuples(st.integers(-50, 50), st.one_of(st.none(), st.integers(1, 2**32 - 2))), min_size=1, max_size=30
)


def _line(parts: list[tuple[int, int | None]]) -> list[Waiting]:
    return [Waiting(order, nice=nice, priority=priority) for order, (nice, priority) in enumerate(parts, 1)]


@settings(max_examples=80)
@given(_jobs, _jobs)
def test_waiting_never_lowers_a_jobs_chance(
    there: list[tuple[int, int | None]], newcomers: list[tuple[int, int | None]]
) -> None:
    everybody = _line([*there, *newcomers])
    before, after = everybody[: len(there)], everybody
    # Among those who wait nothing ever changes ...
    assert [order for order in ranked(after) if order <= len(there)] == ranked(before)
    for job in before:
        passed_by = [new for new in everybody[len(there) :] if new.key < job.key]
        # ... and only an operator's word or a lower nice value brings a newcomer past a job.
        assert all(
            new.priority is not None or job.priority is not None or new.nice < job.nice for new in passed_by
        )


@settings(max_examples=60)
@given(st.integers(0, 40), st.integers(1, 120))
def test_a_job_of_nice_n_is_passed_by_at_most_n_newcomers(nice: int, newcomers: int) -> None:
    patient = Waiting(1, nice=nice)
    passed_by = [Waiting(order) for order in range(2, 2 + newcomers) if Waiting(order).key < patient.key]
    assert len(passed_by) <= nice


@settings(max_examples=60)
@given(_jobs)
def test_what_is_shown_is_what_is_scheduled(parts: list[tuple[int, int | None]]) -> None:
    shown = [job.shown for job in sorted(_line(parts), key=lambda job: job.key)]
    assert shown == sorted(shown, reverse=True)


def test_a_retried_job_goes_behind_all_of_its_class() -> None:
    line = [Waiting(order) for order in range(1, 5)]
    retried = Waiting(5)  # was order 1
    assert ranked([*line[1:], retried]) == [2, 3, 4, 5]
