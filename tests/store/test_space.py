"""A full disk: no new work, nothing lost, and what is under way still ends."""

import contextlib
import os
import sqlite3
import subprocess
import sys

import pytest

from sshq.core.model import ScriptBlob
from sshq.errors import StoreError
from sshq.store.database import DiskFullError, FatalStoreError, explain
from sshq.store.environ import Environments
from sshq.store.jobs import Store
from sshq.store.reserve import SIZE, Reserve
from store.build import make_job, make_spec

MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 MiB; with it, how to fill it up to the last byte."""
    if os.geteuid() != 0:
        pytest.skip("optional: needs root to mount a small file system")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "sshq-test", tmp_path], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip(f"optional: no mount here: {mounted.stderr.decode().strip()}")
    yield tmp_path
    subprocess.run(["umount", "-l", tmp_path], check=True)


def fill(disk, *, leave=0):
    found = os.statvfs(disk)
    with contextlib.suppress(OSError), open(disk / "ballast", "ab") as file:
        file.truncate(0)
        os.posix_fallocate(file.fileno(), 0, max(1, os.statvfs(disk).f_bavail * found.f_frsize - leave))


def big_rows(number, mib):
    return [make_job(number), *(ScriptBlob(digest=f"{number}-{n}", data=os.urandom(MIB)) for n in range(mib))]


def test_a_commit_that_finds_the_disk_full_takes_the_reserve(small_disk):
    store = Store.open(small_disk / "state", create=True)
    store.begin_epoch()
    assert store.space_short() is False
    fill(small_disk)
    store.commit(big_rows(1, 2), 2)
    assert not (small_disk / "state" / "reserve").exists()
    assert store.space_short() is True
    (small_disk / "ballast").unlink()
    assert store.space_short() is False  # and it is put back
    assert (small_disk / "state" / "reserve").stat().st_blocks * 512 >= SIZE
    store.close()
    assert [job.job_id for job in Store.open(small_disk / "state", create=False).load().jobs] == [1]


def test_a_commit_that_does_not_fit_even_so_is_fatal_and_leaves_all_as_it_was(small_disk):
    state = small_disk / "state"
    store = Store.open(state, create=True)
    store.begin_epoch()
    store.commit([make_job(1)], 2)
    fill(small_disk)
    with pytest.raises(DiskFullError) as caught:
        store.commit(big_rows(2, 24), 3)
    assert caught.value.render("sshq") == f"sshq: error: no space left for the store {state}/sshq.db\n    hint: df -h {state}\n"
    store.close()
    store = Store.open(state, create=False)  # on the full disk
    assert [job.job_id for job in store.load().jobs] == [1]
    store.begin_epoch()


def test_submissions_are_refused_while_there_is_still_room_for_endings(small_disk):
    store = Store.open(small_disk / "state", create=True)
    fill(small_disk, leave=SIZE // 2)
    assert Reserve(small_disk / "state").filled
    assert store.space_short() is True


def test_a_store_opens_where_the_reserve_does_not_fit(small_disk):
    fill(small_disk, leave=4 * MIB)
    store = Store.open(small_disk / "state", create=True)
    assert not (small_disk / "state" / "reserve").exists()
    assert store.space_short() is True


def test_a_backup_on_a_full_disk_is_given_up_and_nothing_else(small_disk):
    store = Store.open(small_disk / "state", create=True)
    store.begin_epoch()
    store.commit(big_rows(1, 3), 2)
    fill(small_disk)
    with pytest.raises(StoreError, match="was not made") as caught:
        store.backup(small_disk / "backup.db")
    assert not isinstance(caught.value, FatalStoreError)
    assert sorted(path.name for path in small_disk.iterdir()) == ["ballast", "state"]
    store.commit([make_job(2)], 3)


def test_an_environment_on_a_full_disk_is_refused_and_leaves_nothing(small_disk):
    environments = Environments(small_disk / "environments")
    fill(small_disk)
    with pytest.raises(StoreError, match="no space left in") as caught:
        environments.put(os.urandom(MIB))
    assert not isinstance(caught.value, FatalStoreError)
    assert list((small_disk / "environments").iterdir()) == []


def test_pages_run_out_without_a_disk_too(store):
    """The same, where nothing may be mounted: SQLite's own limit says full, and freeing the reserve does not help."""
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(DiskFullError):
        store.commit([make_job(1, spec=make_spec(comment="x" * 100_000))], 2)
    assert store.load().jobs == []
    assert store.space_short() is False  # there is room, so it was put back


def test_a_file_size_limit_is_a_full_disk_and_not_a_broken_one(state):
    """As a quota: SQLite calls it an I/O error."""
    code = """
import resource, sys
from store.build import make_job, make_spec
from sshq.store.jobs import Store
store = Store.open(sys.argv[1], create=True)
store.begin_epoch()
resource.setrlimit(resource.RLIMIT_FSIZE, (40000, 40000))
try:
    store.commit([make_job(1, spec=make_spec(comment="x" * 100_000))], 2)
except Exception as error:
    print(type(error).__name__)
"""
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", code, state], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("DiskFullError\n", 0), done.stderr


def test_a_failing_fsync_ends_the_controller(store):
    """SQLite's answer for it, as the store explains it: fatal, never tried again."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC"
    found = explain(error, store.path)
    assert type(found) is FatalStoreError
    assert found.message == f"the store {store.path} failed: disk I/O error (SQLITE_IOERR_FSYNC)"
