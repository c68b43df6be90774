"""What sacct finds: each condition against the plain definition, by an index, and never more than was asked."""

from array import array
from dataclasses import replace

import pytest

from sshq.core.lifecycle import State
from sshq.core.model import Purged, Step
from sshq.errors import StoreError
from sshq.store.database import FatalStoreError
from sshq.store.history import PORTION, HistoryFilter, HistoryReader, _conditions
from store.build import make_job, make_launch, make_spec, settle_launch

ANNA, BEN = (
    make_spec(name="train", partitions=("lab", "gpu")),
    make_spec(name="a\udcff", user="ben", uid=1001, partitions=("lab",)),
)


@pytest.fixture
def filled(store):
    """1 ended on n1 · 2 retried: n1, then n2 · 3 runs on n3 · 4 pends · array 5 with task 6 (index 3), all purged but 3, 4."""
    jobs = [
        make_job(1, spec=ANNA, state=State.COMPLETED, submit_at=0.0, end_at=100.0),
        make_job(2, spec=BEN, state=State.FAILED, submit_at=50.0, end_at=200.0, attempt=2),
        make_job(3, spec=ANNA, state=State.RUNNING, submit_at=60.0, eligible_at=150.0),
        make_job(4, spec=BEN, submit_at=300.0),
        make_job(5, array_job_id=5, array_tasks="1-2", state=State.CANCELLED, submit_at=400.0, end_at=500.0),
        make_job(6, array_job_id=5, array_task_id=3, state=State.COMPLETED, submit_at=400.0, end_at=450.0),
    ]
    launches = [
        *settle_launch(1, end_at=100.0), *settle_launch(2, node="n2", attempt=2, end_at=200.0, state=State.FAILED),
        *settle_launch(2, end_at=150.0, state=State.NODE_FAIL), make_launch(3, node="n3"), *settle_launch(6, node="näh"),
    ]  # fmt: skip
    store.commit([*jobs, *launches, *(Purged(job_id=n) for n in (1, 2, 5, 6))], 7)
    return store


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"job_ids": (5,)}, [5, 6]),  # an array's id means its tasks
        ({"job_ids": (6, 1, 99)}, [1, 6]),
        ({"array_tasks": ((5, 3), (5, 4))}, [6]),
        ({"array_tasks": ((5, 3),), "job_ids": (4,)}, [4, 6]),
        ({"uids": (1001,)}, [2, 4]),
        ({"users": ("ben", "nobody")}, [2, 4]),
        ({"names": ("a\udcff",)}, [2, 4]),
        ({"partitions": ("gpu",)}, [1, 3]),
        ({"partitions": ("gpu", "lab")}, [1, 2, 3, 4]),
        ({"states": (State.RUNNING, State.FAILED)}, [2, 3]),
        ({"nodes": ("n1",)}, [1, 2]),  # any node an attempt was on
        ({"nodes": ("n3", "näh")}, [3, 6]),
        ({"start_at": 150.0}, [2, 3, 4, 5, 6]),  # not ended before
        ({"end_at": 149.0}, [1, 2]),  # eligible by then
        ({"start_at": 101.0, "end_at": 200.0}, [2, 3]),
        ({"uids": (1000,), "nodes": ("n1",), "limit": 5}, [1]),
        ({"start_at": 0.0, "nodes": ("n3", "näh")}, [3, 6]),
        ({"limit": 2}, [1, 2]),
        ({"job_ids": (5,), "states": (State.PENDING,)}, []),
    ],
    ids=str,
)
def test_each_condition_finds_its_jobs(filled, wanted, ids):
    assert [found.job.job_id for found in filled.history(HistoryFilter(**wanted))] == ids


def test_a_retried_job_shows_every_attempt_in_order(filled):
    (found,) = filled.history(HistoryFilter(job_ids=(2,)))
    assert [(row.attempt, row.node, row.state) for row in found.accounting] == [
        (1, "n1", State.NODE_FAIL),
        (2, "n2", State.FAILED),
    ]
    assert found.job.spec == BEN


INDEXED = ["job_ids", "array_tasks", "users", "nodes"]


@pytest.mark.parametrize("condition", INDEXED)
def test_a_condition_that_names_few_jobs_reads_few_rows(filled, condition):
    wanted = {"job_ids": (1,), "array_tasks": ((1, 2),), "users": ("anna",), "nodes": ("n",)}[condition]
    where, values = _conditions(HistoryFilter(**{condition: wanted}))
    plan = filled._connection.execute(f"EXPLAIN QUERY PLAN SELECT job_id FROM job WHERE {where[0]} ORDER BY job_id", values)
    steps = [step[3] for step in plan]
    assert not [step for step in steps if step.startswith("SCAN") and "json_each" not in step]


WINDOWED = {"users": ("anna",), "partitions": ("lab",), "nodes": ("n1",), "states": (State.FAILED,), "names": ("train",)}


@pytest.mark.parametrize("condition", WINDOWED)
def test_what_is_asked_of_a_day_reads_the_jobs_of_a_day(filled, condition):
    """By partition or node alone it would be a good part of all there ever was."""
    where, values = _conditions(HistoryFilter(start_at=100.0, **{condition: WINDOWED[condition]}))
    plan = filled._connection.execute(f"EXPLAIN QUERY PLAN SELECT job_id FROM job WHERE {' AND '.join(where)}", values)
    first = next(step[3] for step in plan)
    assert first.startswith("SEARCH job USING")
    assert "until_at>" in first


def test_a_reader_beside_the_store_reads_what_was_stored_and_leaves_the_log_to_it(filled):
    reader = HistoryReader(filled.path)
    wanted = HistoryFilter(users=("ben",))
    ids = reader.find(wanted)
    assert list(ids) == [2, 4]
    assert reader.read(ids, wanted) == list(filled.history(wanted))
    filled.commit([make_job(7, spec=BEN)], 8)
    assert list(reader.find(wanted)) == [2, 4, 7]
    filled._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert filled.path.with_name("sshq.db-wal").stat().st_size == 0


def test_what_a_reader_asks_in_one_go_is_of_one_moment(filled):
    def read(select):
        before = list(select("SELECT state FROM job WHERE job_id = 3"))
        filled.commit([make_job(3, spec=ANNA, state=State.COMPLETED, end_at=600.0), *settle_launch(3, node="n3")], 7)
        return before, list(select("SELECT job_id FROM accounting WHERE job_id = 3"))

    reader = HistoryReader(filled.path)
    assert reader.ask(read) == ([("RUNNING",)], [])
    (found,) = reader.read(array("q", [3]), HistoryFilter())
    assert (found.job.state, len(found.accounting)) == (State.COMPLETED, 1)


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def test_a_reader_that_was_stopped_answers_nothing_long(filled):
    reader = HistoryReader(filled.path)
    reader.stop()
    with pytest.raises(StoreError):
        reader.ask(lambda select: list(select(ENDLESS)))


def test_what_a_reader_cannot_open_is_not_the_end_of_the_store(filled, tmp_path):
    with pytest.raises(StoreError) as caught:
        HistoryReader(tmp_path / "gone.db").find(HistoryFilter())
    assert not isinstance(caught.value, FatalStoreError)


def test_damage_that_a_reader_meets_is_fatal(filled):
    filled.commit([], 8)
    filled._connection.execute("UPDATE job SET user = CAST(x'ff' AS TEXT), record = CAST(x'ff' AS TEXT) WHERE job_id = 1")
    with pytest.raises(FatalStoreError):
        HistoryReader(filled.path).read(array("q", [1]), HistoryFilter())


def test_a_long_answer_may_be_read_while_jobs_change_and_go(store):
    count = 2 * PORTION + 10
    store.commit([make_job(n, state=State.COMPLETED, end_at=float(n)) for n in range(1, count + 1)], count + 1)
    store.commit([Purged(job_id=n) for n in range(1, count + 1)], count + 1)
    answer = store.history(HistoryFilter())
    first = next(answer)
    assert store.forget_before(float(count), at_most=count) == count - 1
    store.commit([replace(first.job, end_at=None)], count + 1)
    rest = [found.job.job_id for found in answer]
    assert rest == [*range(2, PORTION + 1), count]  # a portion already read, then what is left
    store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert store.path.with_name("sshq.db-wal").stat().st_size == 0  # no statement stayed open


def test_forgetting_takes_what_is_old_and_purged_with_all_that_hangs_on_it(filled):
    assert filled.forget_before(1000.0, at_most=3) == 3
    assert filled.forget_before(1000.0, at_most=3) == 1
    assert [found.job.job_id for found in filled.history(HistoryFilter())] == [3, 4]
    counts = [
        filled._connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("accounting", "launch", "spec")
    ]
    assert counts == [0, 1, 2]
    filled.commit([make_job(7)], 8)  # its spec was forgotten with 5 and 6
    assert [job.job_id for job in filled.load().jobs] == [3, 4, 7]


def test_what_ended_later_or_is_still_queued_is_kept(filled):
    assert filled.forget_before(200.0) == 1
    assert [found.job.job_id for found in filled.history(HistoryFilter())] == [2, 3, 4, 5, 6]


def test_attempts_are_read_where_nothing_else_tells_of_them(store) -> None:
    jobs = [make_job(1, start_at=200.0), make_job(2), make_job(3)]
    step = Step(launch_id=f"{1:024x}{1:08x}", number=0, job_id=1, attempt=1, state=State.COMPLETED)
    store.commit([*jobs, *settle_launch(1), *settle_launch(2), step], 4)
    all_of_it = list(store.history(HistoryFilter()))
    little = list(store.history(HistoryFilter(all_attempts=False, with_steps=False)))
    assert [one.job for one in little] == [one.job for one in all_of_it]
    assert [len(one.accounting) for one in all_of_it] == [1, 1, 0]
    assert [len(one.accounting) for one in little] == [0, 1, 0]
    assert [len(one.steps) for one in all_of_it + little] == [1, 0, 0, 0, 0, 0]
