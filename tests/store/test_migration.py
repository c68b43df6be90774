"""Stores of earlier releases: backed up, then brought up to date, with nothing of them changed but their form.

data/schema-1.db.gz was written by the release of that schema (commit b169a5a): jobs 1 (COMPLETED), 2 (RUNNING on n1, its launch
open), 3 (PENDING) and 4 (FAILED, status 3).
"""

import contextlib
import gzip
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sshq.core.lifecycle import State
from sshq.core.model import Purged
from sshq.errors import StoreError
from sshq.store.backups import inspect_backup
from sshq.store.database import SCHEMA, open_database
from sshq.store.history import HistoryFilter
from sshq.store.jobs import Store
from sshq.store.restore import restore_backup
from store.build import make_job

OLD = Path(__file__).parent / "data" / "schema-1.db.gz"


@pytest.fixture
def old(tmp_path):
    """A state directory as that release left it."""
    state = tmp_path / "state"
    state.mkdir(0o700)
    (state / "sshq.db").write_bytes(gzip.decompress(OLD.read_bytes()))
    return state


def test_the_store_of_an_earlier_release_is_backed_up_and_taken_over(old):
    before = (old / "sshq.db").read_bytes()
    store = Store.open(old, create=True)
    loaded = store.load()
    assert {job.job_id: (job.spec.name, job.state) for job in loaded.jobs} == {
        1: ("train", State.COMPLETED), 2: ("train", State.RUNNING), 3: ("waits", State.PENDING), 4: ("fails", State.FAILED),
    }  # fmt: skip
    assert loaded.jobs[0].spec.comment == "café ✓ 'quoted' \"twice\""
    assert [(launch.job_id, launch.node) for launch in loaded.launches] == [(2, "n1")]
    assert [(node.name, node.generation) for node in loaded.nodes] == [("n1", 7), ("n2", 2)]
    assert (loaded.next_job_id, loaded.epoch) == (5, 1)
    assert store.token("ab" * 16, 1000) == 3
    assert store.script("5c" * 32) == b"#!/bin/sh\ntrue\n"
    history = {item.job.job_id: item.accounting for item in store.history(HistoryFilter())}
    assert [(row.state, row.exit_code) for row in history[4]] == [(State.FAILED, 0)]
    assert store.begin_epoch() == 2
    store.commit([make_job(5)], 6)
    store.close()
    backup = inspect_backup(old / "backups" / f"before-schema-{max(SCHEMA)}.db", 1)
    assert (backup.problem, backup.schema, backup.jobs) == (None, 1, 4)
    assert Store.open(old, create=False).load().jobs[-1].job_id == 5  # and not once more
    (old / "untouched.db").write_bytes(before)
    with closing(sqlite3.connect(backup.path)) as kept, closing(sqlite3.connect(old / "untouched.db")) as other:
        assert list(kept.iterdump()) == list(other.iterdump())


@pytest.mark.parametrize("number", range(max(SCHEMA) + 1))
def test_an_upgrade_that_was_cut_short_leaves_the_backup_of_what_was_before(old, number):
    passed = iter(range(number + 1))

    def crash(point):
        if point.startswith("migration") and next(passed) == number:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        open_database(old, create=False, crash=crash).connection.close()
    store = Store.open(old, create=False)
    assert [job.job_id for job in store.load().jobs] == [1, 2, 3, 4]
    backup = inspect_backup(old / "backups" / f"before-schema-{max(SCHEMA)}.db", 1)
    assert (backup.problem, backup.schema, backup.jobs) == (None, 1, 4)


def test_an_older_release_refuses_the_upgraded_store_and_the_backup_it_names_brings_it_back(old):
    Store.open(old, create=True).close()
    first = {1: SCHEMA[1]}  # all that release knew
    with pytest.raises(StoreError) as caught:
        open_database(old, create=True, schema=first)
    assert f"was written by a newer sshq (schema {max(SCHEMA)}, this one knows 1)" in caught.value.message
    path = old / "backups" / f"before-schema-{max(SCHEMA)}.db"
    assert caught.value.hint == f"sshq restore {path}"
    assert any(line.startswith("The backup made before that upgrade is ") for line in caught.value.detail)
    restore_backup(old, path)
    database = open_database(old, create=False, schema=first)
    assert database.connection.execute("SELECT count(*) FROM job").fetchone() == (4,)
    database.connection.close()


def test_an_old_backup_is_restored_by_a_newer_release(old, tmp_path):
    restore_backup(tmp_path / "elsewhere", old / "sshq.db")
    store = Store.open(tmp_path / "elsewhere", create=False)
    loaded = store.load()
    assert (len(loaded.jobs), loaded.restored) == (4, True)


def test_an_upgrade_that_has_no_room_for_its_backup_does_not_happen(old, monkeypatch):
    monkeypatch.setattr("sshq.store.database.RESERVED", 1 << 62)
    before = (old / "sshq.db").read_bytes()
    with pytest.raises(StoreError, match=r"the backup .* was not made: .*too little room"):
        Store.open(old, create=True)
    with closing(sqlite3.connect(old / "sshq.db")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert len(before) == (old / "sshq.db").stat().st_size


def test_what_an_earlier_release_stored_is_kept_and_forgotten_like_any_other(old):
    store = Store.open(old, create=True)
    store.begin_epoch()
    specs = store._select("SELECT kind, environ, json_extract(record, '$.environ') FROM spec")
    assert specs
    assert all((kind, environ) == ("script", noted) for kind, environ, noted in specs)
    store.commit([Purged(job_id=1), Purged(job_id=4)], 5)
    store.sweep(0.0, scripts_bytes_max=1 << 20)
    assert store.script("5c" * 32) == b"#!/bin/sh\ntrue\n"
    assert [(launch.job_id, launch.facts) for launch in store.launches_of(2, 10)] == [(2, None)]
    assert store.forget_before(1e12) == 2
    assert store.script("5c" * 32)  # job 3 has it, too
    store.close()
