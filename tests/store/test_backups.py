"""Which backups are made, kept, named: rules of the clock and of file names."""

import os
import sqlite3
import threading

import pytest

from sshq.store.backups import find_backups, format_age, format_backups, is_due, name_backup, prune_backups
from sshq.store.database import SCHEMA
from sshq.store.jobs import Store
from store.build import make_job

HOUR_S = 3600.0


def make_backups(state, count):
    """One an hour, the last at 100 hours."""
    store = Store.open(state, create=True)
    store.begin_epoch()
    for number in range(count):
        at = (100 - count + 1 + number) * HOUR_S
        path = name_backup(state, at)
        store.backup(path)
        os.utime(path, (at, at))
    store.close()


def test_the_newest_seven_are_kept_and_no_other_file_is_touched(state):
    make_backups(state, 10)
    for name in ("before-schema-2.db", "mine.db"):
        (state / "backups" / name).write_bytes(b"")
        os.utime(state / "backups" / name, (1, 1))
    prune_backups(state, 7)
    names = sorted(path.name for path in (state / "backups").iterdir())
    assert names[:2] == ["before-schema-2.db", "mine.db"]
    assert (len(names[2:]), names[2], names[-1]) == (7, "sshq-19700104T220000Z.db", "sshq-19700105T040000Z.db")


@pytest.mark.parametrize(
    ("now_h", "due"), [(100.0, False), (100.9, False), (101.0, True), (150.0, True), (99.0, True)],
    ids=["just made", "soon", "an hour old", "days old", "made in the future: the clock was wrong"],
)  # fmt: skip
def test_a_backup_is_due_by_the_age_of_the_newest(state, now_h, due):
    assert is_due(state, now_h * HOUR_S, HOUR_S)  # none was ever made
    make_backups(state, 2)
    assert is_due(state, now_h * HOUR_S, HOUR_S) is due


def test_the_list_tells_good_ones_from_others(state):
    make_backups(state, 1)
    store = Store.open(state, create=False)
    store.begin_epoch()
    store.commit([make_job(1)], 2)
    store.backup(state / "backups" / "mine.db")
    os.utime(state / "backups" / "mine.db", (101 * HOUR_S, 101 * HOUR_S))
    store._connection.execute("PRAGMA user_version=99")
    store.backup(state / "backups" / "later.db")
    os.utime(state / "backups" / "later.db", (102 * HOUR_S, 102 * HOUR_S))
    store.close()
    text = format_backups(list(find_backups(state, max(SCHEMA))), state, 103 * HOUR_S)
    rows = [line.replace(str(state), "DIR").split(None, 5) for line in text.splitlines()]
    assert [row[:3] for row in rows[1:]] == [
        ["DIR/backups/later.db", "60", "minutes"], ["DIR/backups/mine.db", "2", "hours"],
        ["DIR/backups/sshq-19700105T040000Z.db", "3", "hours"],
    ]  # fmt: skip
    assert [row[4:] for row in rows[1:]] == [["?", "of a newer sshq (schema 99)"], ["1", "good"], ["0", "good"]]
    assert format_backups([], state, 0.0) == f"no backups in {state}/backups\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 seconds"), (-5, "0 seconds"), (119, "119 seconds"), (120, "2 minutes"), (7200, "2 hours"), (172800, "2 days")]
)
def test_ages_are_told_in_the_largest_unit_of_which_there_are_two(seconds, text):
    assert format_age(seconds) == text


def test_a_backup_is_made_in_a_thread_of_its_own_while_batches_are_stored(state):
    """Of a long history it takes minutes: nobody may wait for it."""
    store = Store.open(state, create=True)
    store.begin_epoch()
    for number in range(1, 40):
        store.commit([make_job(one) for one in range(number * 50, number * 50 + 50)], number * 50 + 50)
    make, stored, path = store.begin_backup(name_backup(state, HOUR_S)), 0, name_backup(state, HOUR_S)
    maker = threading.Thread(target=make)
    maker.start()
    while maker.is_alive() or not stored:
        stored += 1
        store.commit([make_job(100_000 + stored)], 100_001 + stored)
    maker.join()
    store.close()
    assert [one.path for one in find_backups(state, max(SCHEMA))] == [path]
    with sqlite3.connect(path) as copy:
        (count,) = copy.execute("SELECT count(*) FROM job").fetchone()
        assert 39 * 50 <= count <= 39 * 50 + stored
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_after_a_backup_no_commit_has_to_write_what_came_meanwhile(state):
    store = Store.open(state, create=True)
    store.begin_epoch()
    store.commit([make_job(number) for number in range(1, 51)], 51)
    store.begin_backup(name_backup(state, HOUR_S))()
    with sqlite3.connect(f"file:{store.path}?immutable=1", uri=True) as without_log:
        assert without_log.execute("SELECT count(*) FROM job").fetchone() == (50,)
    store.close()
