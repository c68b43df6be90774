"""Flipped bits: what the store says is what was written, or it says nothing."""

import random
import shutil
import sqlite3
import threading
from contextlib import closing

import pytest

from sshq.core.model import NodeRecord, ScriptBlob, SubmitToken
from sshq.errors import StoreError
from sshq.store import database
from sshq.store.database import FatalStoreError
from sshq.store.history import HistoryFilter
from sshq.store.jobs import Store
from store.build import make_job, make_launch, make_spec, settle_launch

JOBS = 40


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A closed store with a bit of everything, and what it says."""
    state = tmp_path_factory.mktemp("damage") / "state"
    store = Store.open(state, create=True)
    store.begin_epoch()
    rows = [NodeRecord(name=f"n{n}") for n in range(5)]
    for job_id in range(1, JOBS + 1):
        rows += [make_job(job_id, spec=make_spec(name=f"j{job_id}", comment="c" * 40)), make_launch(job_id)]
        rows += settle_launch(job_id) if job_id % 2 else ()
        rows.append(SubmitToken(uid=1000, token=f"{job_id:032x}", job_id=job_id, at=1.0))
    store.commit([*rows, ScriptBlob(digest="5c" * 32, data=b"#!/bin/sh\n" * 400)], JOBS + 1)
    said = tell(store)
    store.close()
    return state, said


def tell(store):
    """Everything that is ever read from a store; the epoch and the script are checked elsewhere (by use, by digest)."""
    loaded = store.load()
    return (
        loaded.store_id, loaded.jobs, sorted(loaded.launches, key=lambda one: one.id), loaded.nodes, loaded.next_job_id,
        list(store.history(HistoryFilter())), [store.token(f"{job_id:032x}", 1000) for job_id in range(1, JOBS + 1)],
    )  # fmt: skip


@pytest.mark.slow
def test_a_flipped_bit_is_refused_or_harmless(whole, tmp_path):
    state, said = whole
    data = (state / "sshq.db").read_bytes()
    chance = random.Random(20)
    refused = 0
    copy = tmp_path / "copy"
    shutil.copytree(state, copy)
    for _ in range(250):
        place, bit = chance.randrange(len(data)), 1 << chance.randrange(8)
        (copy / "sshq.db").write_bytes(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
        for side in copy.glob("sshq.db-*"):
            side.unlink()
        try:
            store = Store.open(copy, create=False)
        except StoreError as error:
            assert error.hint, error
            refused += 1
            continue
        try:
            assert tell(store) == said, (place, bit)
        except StoreError:
            refused += 1
        finally:
            store.close()
    assert refused > 40  # most of the rest hit what is not in use


@pytest.mark.slow
def test_a_damaged_page_of_a_large_store_is_found_while_it_is_in_use(whole, tmp_path, monkeypatch):
    """Of a store too large to be read before it serves, what a start needs is looked at first, and all of it then."""
    state, said = whole
    monkeypatch.setattr(database, "WHOLE_CHECK_BYTES_MAX", 0)
    data, page, copy = (state / "sshq.db").read_bytes(), 4096, tmp_path / "copy"
    shutil.copytree(state, copy)
    early = late = 0
    for place in range(0, len(data), page):
        (copy / "sshq.db").write_bytes(data[:place] + random.Random(place).randbytes(page) + data[place + page :])
        for side in copy.glob("sshq.db-*"):
            side.unlink()
        try:
            store = Store.open(copy, create=False)
        except StoreError:
            early += 1
            continue
        check = store.begin_check()
        assert check is not None
        try:
            check()
        except FatalStoreError as error:
            assert "is damaged" in error.message
            assert error.hint.startswith("sshq restore")
            late += 1
        else:
            assert tell(store) == said, place
        finally:
            store.close()
    assert early > 2
    assert late > 10


def test_an_undamaged_large_store_is_read_in_whole_after_its_opening(whole, tmp_path, monkeypatch):
    shutil.copytree(whole[0], tmp_path / "copy")
    assert (store := Store.open(tmp_path / "copy", create=False)).begin_check() is None  # a small one has been read
    store.close()
    monkeypatch.setattr(database, "WHOLE_CHECK_BYTES_MAX", 0)
    store = Store.open(tmp_path / "copy", create=False)
    check = store.begin_check()
    assert check is not None
    check()
    assert tell(store) == whole[1]
    store.close()


def test_whoever_ends_does_not_wait_until_a_large_store_is_read(tmp_path):
    path, errors = tmp_path / "sshq.db", []
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT NOT NULL)")
        connection.execute(
            "INSERT INTO t SELECT value, hex(zeroblob(500)) FROM"
            " (WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n LIMIT 20000) SELECT value FROM n)"
        )
        connection.commit()
    data = path.read_bytes()
    path.write_bytes(data[:-4096] + b"x" * 4096)
    with pytest.raises(FatalStoreError, match="is damaged"):
        database.CheckInUse(path)()
    stopped = database.CheckInUse(path)
    stopped.stop()
    stopped()  # it has not come as far as the damage
    path.write_bytes(data)
    check = database.CheckInUse(path)

    def run() -> None:
        try:
            check()
        except StoreError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive():
        check.stop()
    assert errors == []  # that it was ended is no damage


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_store_is_refused_with_the_way_out(whole, tmp_path, share):
    state, _ = whole
    copy = tmp_path / "copy"
    shutil.copytree(state, copy)
    data = (state / "sshq.db").read_bytes()
    (copy / "sshq.db").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(StoreError, match="is damaged") as caught:
        Store.open(copy, create=True)
    assert caught.value.hint.startswith("sshq restore")
    assert (copy / "sshq.db").stat().st_size == int(len(data) * share)
