"""The history beside the queue: who asks gets what was stored, exactly the states asked for, and holds up no commit.

What leaves the queue for it does so a little at a time.
"""

import asyncio
import threading
from types import SimpleNamespace

import pytest

from sshq.controller.history import HistoryDesk
from sshq.controller.mailbox import Mailbox
from sshq.controller.storethread import StoreThread
from sshq.controller.upkeep import PURGE_AT_ONCE, purge_jobs
from sshq.core.cluster import Cluster
from sshq.core.events import PurgeAsked
from sshq.core.lifecycle import State
from sshq.core.model import Purged
from sshq.core.restoring import restore_jobs
from sshq.errors import StoreError
from sshq.store.history import PORTION
from sshq.store.jobs import Store
from store.build import make_job


class Collected:
    """Stands at the end of a stream."""

    def __init__(self):
        self.found = []

    async def items(self, views):
        self.found += [view["job_id"] for view in views]

    async def rows(self, rows):
        self.found += [row[0] for row in rows]


async def open_store(directory, jobs):
    store = StoreThread()
    await store.open(lambda: Store.open(directory, create=True))
    await store.run(lambda s: s.begin_epoch())
    await store.commit([*jobs, *(Purged(job_id=job.job_id) for job in jobs if job.end_at is not None)], len(jobs) + 1)
    return store


async def ask(store, **params):
    stream = Collected()
    answer = await HistoryDesk(store, SimpleNamespace()).history(None, params, stream)
    assert answer["count"] == len(stream.found)
    return stream.found


JOBS = [
    make_job(1, state=State.COMPLETED, end_at=100.0),
    make_job(2, state=State.FAILED, end_at=100.0),
    make_job(3, state=State.RUNNING, start_at=50.0),
    make_job(4, state=State.RUNNING, start_at=50.0, cancel_uid=1000),  # its processes still end
    make_job(5, state=State.CANCELLED, end_at=100.0),
]


@pytest.mark.parametrize(
    ("states", "ids"),
    [
        (["FAILED"], [2]),
        (["CANCELLED"], [4, 5]),
        (["RUNNING"], [3]),
        (["COMPLETED", "CANCELLED"], [1, 4, 5]),
        (["COMPLETING", "FAILED"], [1, 2, 3, 4, 5]),  # what may be in any state is chosen by who asked
        ([], [1, 2, 3, 4, 5]),
    ],
)
@pytest.mark.parametrize("columns", [None, ["job_id", "state"]])
def test_the_jobs_shown_in_a_state_are_those_told_of(tmp_path, states, ids, columns):
    async def go():
        store = await open_store(tmp_path / "state", JOBS)
        try:
            more = {} if columns is None else {"columns": columns}
            assert await ask(store, filter={"states": states}, **more) == ids
        finally:
            await store.close()

    asyncio.run(go())


def test_a_commit_waits_for_nobody_who_reads_for_long(tmp_path):
    goes_on = threading.Event()

    async def go():
        store = await open_store(tmp_path / "state", JOBS)
        reading = asyncio.ensure_future(store.read(lambda reader: goes_on.wait(60)))
        async with asyncio.timeout(30):
            await store.commit([make_job(6)], 7)
            assert await ask(store) == [1, 2, 3, 4, 5, 6]  # another question, neither
        goes_on.set()
        assert await reading
        await store.close()

    asyncio.run(go())


def test_a_long_answer_comes_whole_and_in_order(tmp_path):
    count = 2 * PORTION + 3
    jobs = [make_job(n, state=State.COMPLETED, end_at=float(n)) for n in range(1, count + 1)]

    async def go():
        store = await open_store(tmp_path / "state", jobs)
        assert await ask(store, columns=["job_id"]) == list(range(1, count + 1))
        await store.close()

    asyncio.run(go())


def test_who_ends_waits_for_no_question(tmp_path):
    begun = threading.Event()

    def read(reader):
        def forever(select):
            begun.set()
            return list(select("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"))

        return reader.ask(forever)

    async def go():
        store = await open_store(tmp_path / "state", JOBS)
        reading = asyncio.ensure_future(store.read(read))
        await asyncio.to_thread(begun.wait, 60)
        async with asyncio.timeout(60):
            await store.close()
        with pytest.raises(StoreError):
            await reading

    asyncio.run(go())


def test_many_ended_jobs_leave_the_queue_in_portions_and_the_last_to_end_stay(tmp_path):
    count, keep = 2 * PURGE_AT_ONCE + 10, 5
    jobs = [make_job(n, state=State.CANCELLED, end_at=float(n)) for n in range(1, count + 1)]
    cluster = Cluster(store_id="0" * 32, epoch=1)
    restore_jobs(cluster, jobs, 0.0)
    batches = []

    async def commit(rows, _next_job_id):
        batches.append([row.job_id for row in rows if isinstance(row, Purged)])

    async def go():
        mailbox = Mailbox(cluster, commit=commit, carry_out=lambda _effects: None, clock=lambda: 1e6, on_fatal=lambda _error: None)
        running = asyncio.ensure_future(mailbox.run())
        assert await purge_jobs(mailbox, PurgeAsked(now=1e6, keep=keep)) == count - keep
        assert await purge_jobs(mailbox, PurgeAsked(now=1e6, job_ids=(count, 99))) == 1
        running.cancel()

    asyncio.run(go())
    assert max(map(len, batches)) == PURGE_AT_ONCE
    assert [job_id for batch in batches for job_id in batch] == [*range(1, count - keep + 1), count]
    assert sorted(cluster.jobs) == list(range(count - keep + 1, count))
