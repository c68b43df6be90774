"""What is committed is found again; what contradicts the store, or comes from a controller of before, is not."""

import sqlite3
import tracemalloc
from dataclasses import replace
from functools import partial
from threading import Timer

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sshq.core.lifecycle import State
from sshq.core.model import Job, LaunchState, NodeRecord, Outcome, Purged, ScriptBlob, SubmitToken
from sshq.errors import CheckFailedError, StoreError
from sshq.store.database import FatalStoreError
from sshq.store.history import HistoryFilter
from sshq.store.jobs import Store
from store.build import SPEC, make_job, make_launch, make_spec, records_of, settle_launch

INT64 = {"job_id": st.integers(1, 2**62)}


def reopen(store):
    store.close()
    found = Store.open(store.path.parent, create=False)
    found.begin_epoch()
    return found


def accounting_of(store, job_id):
    return [row for found in store.history(HistoryFilter(job_ids=(job_id,))) for row in found.accounting]


def columns_of(store):
    return sqlite3.connect(store.path).execute("SELECT * FROM job ORDER BY job_id").fetchall()


CHANGES = (
    {"state": State.CONFIGURING, "attempt": 1}, {"state": State.RUNNING, "start_at": 9.0}, {"eligible_at": 3.0},
    {"spec": make_spec(name="other")}, {"spec": SPEC}, {"array_job_id": 2, "array_task_id": 5}, {"note": "x"},
    {"state": State.FAILED, "end_at": 300.0}, {"state": State.PENDING, "end_at": None},
)  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(picks=st.lists(st.sampled_from([*CHANGES, "purge", "sweep", "together"]), max_size=8))
def test_a_row_changed_step_by_step_is_the_one_written_at_once(tmp_path_factory, picks):
    stepwise, at_once = (Store.open(tmp_path_factory.mktemp("s"), create=True) for _ in range(2))
    job, purged, commit = make_job(7), False, stepwise.commit
    for store in (stepwise, at_once):
        store.begin_epoch()
    stepwise.commit([job], 8)
    for pick in picks:
        if pick == "purge":
            stepwise.commit([Purged(job_id=7)], 8)
            purged = True
        elif pick == "sweep":
            stepwise.sweep(0.0, scripts_bytes_max=1 << 20)
        elif pick == "together":  # the next change is stored with jobs that were staged
            commit = partial(stepwise.commit_staged, 1)
        else:
            job, purged = replace(job, **pick), False
            commit([job], 8)
            commit = stepwise.commit
    at_once.commit([job], 8)
    if purged:
        at_once.commit([Purged(job_id=7)], 8)
    assert columns_of(stepwise) == columns_of(at_once)
    for store in (stepwise, at_once):
        store.close()


def test_a_running_job_whose_row_is_gone_is_an_error_not_a_silent_loss(store):
    store.commit([make_job(7, state=State.RUNNING)], 8)
    other = sqlite3.connect(store.path)
    other.execute("DELETE FROM job")
    other.commit()
    other.close()
    with pytest.raises(CheckFailedError, match="no longer in the store"):
        store.commit([make_job(7, state=State.RUNNING, note="x")], 8)


# ---- many at once ----------------------------------------------------------------------------------------------------


def stage(store, key, *numbers):
    jobs = [make_job(number, spec=make_spec(name=f"j{number}", script=f"{number:064d}")) for number in numbers]
    store.stage(key, [*jobs, *(ScriptBlob(digest=job.spec.script, data=b"#!/bin/sh") for job in jobs)])
    return jobs


def test_staged_jobs_are_stored_all_at_once_or_not_at_all(store):
    jobs = stage(store, 1, 1, 2) + stage(store, 1, 3)
    stage(store, 7, 7)
    assert list(store.history(HistoryFilter())) == []
    store.commit_staged(1, [SubmitToken(token="abc", uid=7, job_id=1, at=0.0)], 10)
    store.drop_staged(1)
    store = reopen(store)
    loaded = store.load()
    assert (loaded.jobs, loaded.next_job_id) == (jobs, 10)
    assert store.token("abc", 7) == 1
    assert store.script(jobs[2].spec.script) == b"#!/bin/sh"
    store.commit_staged(7, [], 10)  # what was staged before the restart is gone
    assert store.load().jobs == jobs


def test_batches_side_by_side_leave_each_other_alone_and_no_memory_behind(store):
    jobs = stage(store, 1, 1, 2)
    (other,) = stage(store, 7, 7)
    store.drop_staged(1)
    store.commit_staged(1, [], 8)
    assert store.load().jobs == []
    store.commit_staged(7, [], 8)
    store.drop_staged(7)
    assert store.load().jobs == [other]
    assert [name for _, name, _ in store._connection.execute("PRAGMA database_list")] == ["main"]
    assert stage(store, 1, 1, 2) == jobs
    store.commit_staged(1, [], 8)
    assert store.load().jobs == [*jobs, other]


def test_a_sweep_between_staging_and_storing_takes_nothing_away(store):
    (job,) = stage(store, 1, 1)
    store.sweep(0.0, scripts_bytes_max=0)
    store.commit_staged(1, [], 2)
    store = reopen(store)
    assert store.load().jobs == [job]
    assert store.script(job.spec.script) == b"#!/bin/sh"


# ---- round trip ----------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    jobs=st.lists(records_of(Job, **INT64), max_size=4, unique_by=lambda job: job.job_id),
    nodes=st.lists(records_of(NodeRecord), max_size=3, unique_by=lambda node: node.name),
)
def test_whatever_is_committed_is_loaded_after_a_restart(tmp_path_factory, jobs, nodes):
    store = Store.open(tmp_path_factory.mktemp("any"), create=True)
    store.begin_epoch()
    store.commit([*jobs, *nodes], 2**62 + 1)
    store = reopen(store)
    loaded = store.load()
    assert loaded.jobs == sorted(jobs, key=lambda job: job.job_id)
    assert {node.name: node for node in loaded.nodes} == {node.name: node for node in nodes}
    assert loaded.max_order == max((job.order for job in jobs), default=0)
    assert [found.job for found in store.history(HistoryFilter())] == sorted(jobs, key=place_in_history)
    store.close()


def place_in_history(job):
    """By id; the tasks of an array stand together, by index, where its id is."""
    task = -(2**64) if job.array_task_id is None else job.array_task_id
    return (job.job_id if job.array_job_id is None else job.array_job_id, task, job.job_id)


def test_launches_scripts_and_tokens_are_found_again(store):
    launch = make_launch(1, node="näh\udcff", pid=7)
    store.commit([make_job(1), launch, ScriptBlob(digest="d", data=b"#!/bin/sh\0\xff")], 2)
    store.commit([SubmitToken(token="t", uid=5, job_id=1, at=0.0)], 2)
    store = reopen(store)
    assert store.load().launches == [launch]
    assert store.script("d") == b"#!/bin/sh\0\xff"
    assert (store.token("t", 5), store.token("t", 6), store.token("u", 5)) == (1, None, None)
    with pytest.raises(StoreError, match="has no script nope"):
        store.script("nope")
    store.close()


def test_array_tasks_share_one_spec_in_the_file_and_in_memory(store):
    store.commit([make_job(n, spec_id=1, array_job_id=1, array_task_id=n) for n in range(1, 300)], 300)
    assert store._connection.execute("SELECT count(*) FROM spec").fetchone() == (1,)
    loaded = reopen(store).load()
    assert {id(job.spec) for job in loaded.jobs} == {id(loaded.jobs[0].spec)}


def test_an_update_of_an_arrays_spec_leaves_its_started_tasks_alone(store):
    task = make_job(2, spec_id=1, array_job_id=1, array_task_id=0)
    record = make_job(1, array_job_id=1, array_tasks="1-9")
    store.commit([record, task], 3)
    changed = replace(record, spec=make_spec(time_limit_s=60))
    store.commit([changed], 3)
    store.commit([replace(task, state=State.RUNNING)], 3)
    assert [job.spec.time_limit_s for job in reopen(store).load().jobs] == [60, None]


def test_the_last_row_of_a_key_wins_within_a_batch(store):
    job = make_job(1)
    running = replace(job, state=State.RUNNING)
    store.commit([job, running, NodeRecord(name="n", boot="a"), NodeRecord(name="n", boot="b"), make_job(2), Purged(job_id=2)], 3)
    loaded = store.load()
    assert loaded.jobs == [running]
    assert loaded.nodes == [NodeRecord(name="n", boot="b")]
    assert [found.job.job_id for found in store.history(HistoryFilter())] == [1, 2]


def test_a_purged_job_leaves_the_queue_but_not_history(store):
    store.commit([make_job(1), make_job(2)], 3)
    store.commit([Purged(job_id=1)], 3)
    store.commit([Purged(job_id=2), make_job(2)], 3)  # the last row of a key wins here, too
    assert [job.job_id for job in reopen(store).load().jobs] == [2]


def test_job_numbers_never_go_back(store):
    store.commit([], 500)
    store.commit([], 2)
    assert store.load().next_job_id == 500


# ---- settling ------------------------------------------------------------------------------------------------------


def test_a_launch_settled_twice_is_accounted_once(store):
    store.commit([make_job(1), make_launch(1)], 2)
    store.commit(settle_launch(1, end_at=300.0), 2)
    store.commit(settle_launch(1, end_at=999.0, state=State.FAILED), 2)
    (row,) = accounting_of(store, 1)
    assert (row.end_at, row.state) == (300.0, State.COMPLETED)
    assert store.find_launches([row.launch_id])[0].ended_at == 300.0


def test_a_settled_launch_is_not_opened_again(store):
    store.commit([make_job(1), make_launch(1)], 2)
    store.commit(settle_launch(1), 2)
    store.commit([make_launch(1, state=LaunchState.RUNNING)], 2)
    assert store.load().launches == []


def test_decided_and_settled_in_one_batch_is_accounted(store):
    store.commit([make_job(1), make_launch(1), *settle_launch(1)], 2)
    assert len(accounting_of(store, 1)) == 1
    assert store.load().launches == []


def test_a_launch_a_restored_store_never_knew_is_accounted_when_it_settles(store):
    store.commit([make_job(1), *settle_launch(1)], 2)
    store.commit(settle_launch(1), 2)
    assert len(accounting_of(store, 1)) == 1


def test_launches_open_and_settled_can_be_told_from_unknown_ones(store):
    store.commit([make_job(1), make_launch(1), make_job(2), make_launch(2)], 3)
    store.commit(settle_launch(1), 3)
    found = store.find_launches([make_launch(n).id for n in (1, 2, 3)])
    assert {launch.job_id: launch.state for launch in found} == {1: LaunchState.SETTLED, 2: LaunchState.INTENT}


CLOSED, ROW = settle_launch(1)
CONTRADICTIONS = [
    ([CLOSED, ROW, ROW], f"launch {CLOSED.id} accounted twice"),
    ([ROW], f"launch {CLOSED.id} accounted but not settled"),
    ([make_launch(1, outcome=Outcome.LOST)], f"launch {CLOSED.id} is INTENT with outcome Outcome.LOST"),
    ([make_launch(1, state=LaunchState.SETTLED)], f"launch {CLOSED.id} is SETTLED with outcome None"),
    ([make_job(2**63)], "the store refused a row: a number of more than 64 bits"),
]


@pytest.mark.parametrize(("rows", "why"), CONTRADICTIONS, ids=[why for _, why in CONTRADICTIONS])
def test_rows_that_contradict_are_refused_whole(store, rows, why):
    store.commit([make_job(1), SubmitToken(token="used", uid=1, job_id=1, at=0.0)], 2)
    with pytest.raises(CheckFailedError) as caught:
        store.commit([make_job(7), *rows], 9)
    assert caught.value.message.startswith(why)
    assert [job.job_id for job in store.load().jobs] == [1]
    store.commit([make_job(7)], 9)  # the store itself is well


def test_a_second_accounting_row_is_a_bug_even_if_the_launch_reopened(store):
    store.commit([make_job(1), make_launch(1)], 2)
    store.commit(settle_launch(1), 2)
    store._connection.execute("UPDATE launch SET open = 1")
    with pytest.raises(CheckFailedError, match="accounting.launch_id"):
        store.commit(settle_launch(1), 2)


# ---- epochs --------------------------------------------------------------------------------------------------------


def test_every_start_takes_the_next_epoch(store):
    assert store.load().epoch == 1
    store = reopen(store)
    assert store.load().epoch == 2
    store.close()


def test_a_controller_that_was_taken_over_writes_nothing_more(store, state):
    store.commit([make_job(1)], 2)
    second = Store.open(state, create=False)
    second.begin_epoch()
    for write in (lambda: store.commit([make_job(2)], 3), lambda: store.sweep(0.0, scripts_bytes_max=0), lambda: store.forget_before(0.0)):
        with pytest.raises(FatalStoreError) as caught:
            write()
        assert caught.value.render("sshq") == (
            "sshq: error: another controller took over\n    The store's epoch is 2, ours was 1.\n"
        )
    second.commit([make_job(3)], 4)
    store.close()
    assert [job.job_id for job in second.load().jobs] == [1, 3]
    second.commit([make_job(4)], 5)
    second._connection.close()  # as a crash
    assert len(Store.open(state, create=False).load().jobs) == 3  # the log of the second outlived the close of the first


def test_nothing_is_written_before_the_epoch_has_begun(state):
    with pytest.raises(CheckFailedError, match="before begin_epoch"):
        Store.open(state, create=True).commit([], 1)


def test_a_store_moved_away_under_the_controller_is_noticed_at_once(store, state):
    state.rename(state.with_name("elsewhere"))
    with pytest.raises(FatalStoreError, match="was moved or removed while in use"):
        store.commit([make_job(1)], 2)


def test_a_commit_waits_for_who_has_the_lock_for_a_moment(store):
    """SQLite takes it in readers, too, where the index of the log changes under their eyes; that ended the controller."""
    other = sqlite3.connect(store.path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    timer = Timer(0.1, other.close)
    timer.start()
    store.commit([make_job(1)], 2)
    timer.join()
    assert [job.job_id for job in store.load().jobs] == [1]


def test_a_foreign_writer_is_named_and_no_row_is_lost(store):
    store._connection.execute("PRAGMA busy_timeout=0")  # it would wait for five seconds
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="another process is writing to the store"):
        store.commit([make_job(1)], 2)
    other.close()
    store.commit([make_job(1)], 2)


# ---- crash points, sweeping ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("point", "kept"), [("store.before_commit", []), ("store.after_commit", [1])])
def test_a_crash_before_the_commit_leaves_nothing_and_after_it_all(state, point, kept):
    def crash(reached):
        if armed and reached == point:
            raise KeyboardInterrupt

    armed = []
    store = Store.open(state, create=True, crash=crash)
    store.begin_epoch()
    armed.append(True)
    with pytest.raises(KeyboardInterrupt):
        store.commit([make_job(1), make_launch(1)], 2)
    armed.clear()
    assert [found.job.job_id for found in store.history(HistoryFilter())] == kept
    store.commit([make_job(2)], 3)  # of the same spec, which is not believed to be stored
    assert [job.job_id for job in reopen(store).load().jobs] == [*kept, 2]


def test_sweeping_takes_scripts_without_a_live_job_and_old_tokens(store):
    job, other = make_job(1, spec=make_spec(script="a")), make_job(2, spec=make_spec(script="b"))
    blobs = [ScriptBlob(digest=digest, data=digest.encode()) for digest in "ab"]
    tokens = [SubmitToken(token=f"t{n}", uid=1, job_id=n, at=n * 1000.0) for n in (1, 2)]
    store.commit([job, other, *blobs, *tokens, Purged(job_id=1)], 3)
    assert store.sweep(now=86400.0 + 1500.0, scripts_bytes_max=0) == 2
    assert store.script("b") == b"b"
    with pytest.raises(StoreError):
        store.script("a")
    assert (store.token("t1", 1), store.token("t2", 1)) == (None, 2)


def test_a_hundred_thousand_jobs_are_loaded(store):
    for start in range(1, 100_001, 10_000):
        store.commit([make_job(n, spec=SPEC, order=n) for n in range(start, start + 10_000)], start + 10_000)
    loaded = reopen(store).load()
    assert (len(loaded.jobs), loaded.max_order, loaded.next_job_id) == (100_000, 100_000, 100_001)


def test_a_start_reads_what_many_tasks_have_in_common_once(store):
    spec = make_spec(args=("x" * 100_000,))
    store.commit([make_job(n, spec=spec) for n in range(1, 301)], 301)
    tracemalloc.start()
    try:
        assert len(store.load().jobs) == 300
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000  # and not thirty times a million


def test_a_token_stays_with_the_first_job_it_became(store):
    store.commit([make_job(1), SubmitToken(token="used", uid=1, job_id=1, at=0.0)], 2)
    store.commit([make_job(2), SubmitToken(token="used", uid=1, job_id=2, at=0.0)], 3)
    assert store.token("used", 1) == 1
