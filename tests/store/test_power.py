"""Power cut: whatever the disk kept of what was not synced, all that was promised is there, whole, and the store opens.

A life of the store is recorded, call by call, and then ended at every point in several ways; each disk so left is opened by
the store's own code.
"""

import contextlib
import os
import pickle
import random
import shutil
import tempfile
from pathlib import Path

import pytest

from sshq.core.lifecycle import State
from sshq.core.model import Purged, ScriptBlob, SubmitToken
from sshq.errors import StoreError
from sshq.store.database import SCHEMA, FatalStoreError, open_database
from sshq.store.environ import Environments
from sshq.store.history import HistoryFilter
from sshq.store.jobs import Store
from sshq.store.reserve import SIZE
from sshq.store.restore import restore_backup
from store.build import make_job, make_launch, make_spec, settle_launch
from store.disk import Op, Recorder, replay
from store.vfs import IOERR_FSYNC, TappedVfs

# Chances of an unsynced sector and of an unsynced name: nothing kept, all kept, a part.
KEPT = [(0.0, 0.0), (1.0, 1.0), (0.5, 0.5), (0.9, 0.0), (0.1, 1.0)]


class Life:
    """Commits, and notes what each of them promises; the notes say what must be found after a power cut."""

    pragma = "PRAGMA wal_autocheckpoint=12"  # so that checkpoints are among what is cut

    def __init__(self, root: Path, recorder: Recorder) -> None:
        self.root, self.recorder = root, recorder
        self.next = 1
        self.store = self.open()
        self.environments = Environments(root / "environments")  # after it, as in the controller: nothing else syncs its name

    def open(self) -> Store:
        store = Store.open(self.root, create=True)
        store._connection.execute(self.pragma)
        epoch = store.begin_epoch()
        self.recorder.note(f"epoch {epoch} {store.store_id}")
        return store

    def reopen(self) -> None:
        self.store.close()
        self.store = self.open()

    def submit(self) -> int:
        job_id, self.next = self.next, self.next + 1
        digest = self.environments.put(b"JOB=%d\0" % job_id * 99)
        spec = make_spec(environ=digest, script=f"{job_id:064x}", name=f"name{job_id}")
        token = SubmitToken(uid=1000, token=f"{job_id:032x}", job_id=job_id, at=1e9)
        script = ScriptBlob(digest=f"{job_id:064x}", data=b"#!/bin/sh\n" * 200)
        self.store.commit([make_job(job_id, spec=spec), script, token], self.next)
        self.recorder.note(f"accepted {job_id} {digest}")
        return job_id

    def run(self, job_id: int) -> None:
        self.store.commit([make_launch(job_id)], self.next)
        self.recorder.note(f"launched {job_id}")
        job = self.job(job_id)
        self.store.commit([type(job)(**{f: getattr(job, f) for f in job.__slots__} | {"state": State.COMPLETED, "end_at": 300.0}),
                           *settle_launch(job_id)], self.next)  # fmt: skip
        self.recorder.note(f"settled {job_id}")

    def job(self, job_id: int):
        return next(job for job in self.store.load().jobs if job.job_id == job_id)


def live(life: Life) -> None:
    """Everything the store does, some of it twice."""
    done = [life.submit() for _ in range(6)]
    for job_id in done[:3]:
        life.run(job_id)
    life.store.backup(life.root / "backups" / "one.db")
    life.store.commit([Purged(job_id=done[0])], life.next)
    life.store.sweep(1e9, scripts_bytes_max=0)
    life.reopen()
    life.run(life.submit())
    life.submit()
    life.store.backup(life.root / "backups" / "two.db")
    life.reopen()
    life.submit()
    life.store.close()


def record(root: Path, life=live) -> list[Op]:
    root.mkdir(mode=0o700)
    with Recorder(root) as recorder:
        life(Life(root, recorder))
    return recorder.ops


def check(image: Path, promises: list[str]) -> None:
    """Open what is left with the store's own code and compare it with what was promised."""
    store = Store.open(image, create=True)
    try:
        assert store._connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found = {item.job.job_id: item for item in store.history(HistoryFilter())}
        opened = {launch.job_id for launch in store.load().launches}
        environments = Environments(image / "environments")
        epochs = [0]
        for promise in promises:
            word, what, *rest = promise.split()
            if word == "epoch":
                epochs.append(int(what))
                assert rest == [store.store_id]
                continue
            job_id = int(what)
            assert job_id in found, promise
            if word == "accepted":
                assert environments.get(rest[0]) == b"JOB=%d\0" % job_id * 99
                assert store.token(f"{job_id:032x}", 1000) == job_id
                assert job_id == 1 or store.script(f"{job_id:064x}")  # the purged one's may be swept
            elif word == "settled":
                assert (len(found[job_id].accounting), found[job_id].job.state) == (1, State.COMPLETED)
            else:
                assert job_id in opened or found[job_id].accounting
        assert not opened & {job_id for job_id, item in found.items() if item.accounting}
        assert store.begin_epoch() > max(epochs)
        assert store.load().next_job_id > max(found, default=0)
        store.commit([make_job(1000)], 1001)  # and it goes on
    finally:
        store.close()


def cut_everywhere(ops: list[Op], image: Path, *, seed: int, share: float, start: int = 0, verify=check) -> int:
    """Cut the power after a `share` of all writes and after all else; returns how many disks were looked at."""
    chance = random.Random(seed)
    looked = 0
    with TappedVfs(lambda *_: 0, sync=False), pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _fd: None)  # this machine's own power is not what is tested
        for number, disk in replay(ops):
            op = ops[number - 1] if number else None
            if number < start:
                continue
            if op is not None and op.word in ("write", "truncate", "whole") and chance.random() > share:
                continue
            for writes, names in KEPT:
                disk.show(image, chance, writes=writes, names=names)
                with open(image / "reserve", "ab") as reserve:  # 16 MiB a time is what would take longest here
                    reserve.truncate(SIZE)
                try:
                    verify(image, disk.promises)
                except BaseException as error:
                    where = f"{op.word} {op.path}" if op else "nothing"
                    error.add_note(f"power cut after op {number} of {len(ops)}, {where}; kept {writes} of writes, {names} of names")
                    raise
                looked += 1
                shutil.rmtree(image)
    return looked


@pytest.fixture
def quick(tmp_path):
    """A directory in memory, where there is one: thousands of disks are written here."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="sshq-power-") as name:
        yield Path(name)


@pytest.mark.slow
def test_all_that_was_accepted_outlives_a_power_cut_at_any_point(quick):
    ops = record(quick / "state")
    assert cut_everywhere(ops, quick / "image", seed=os.getpid(), share=0.05) > 800


# What must be seen to be missed: a test that cannot fail proves nothing.
PLANTED = {
    "commits are not synced": lambda patch: patch.setattr(Life, "pragma", "PRAGMA synchronous=NORMAL"),
    "names are not synced": lambda patch: [
        patch.setattr(f"sshq.store.{module}.sync_directory", lambda _directory: None) for module in ("files", "database", "environ")
    ],
    "files are not synced": lambda patch: patch.setattr("sshq.store.files.os", NoSync()),
}


class NoSync:
    """The module os, but that its fsync does nothing."""

    def __getattr__(self, name: str) -> object:
        return (lambda _fd: None) if name == "fsync" else getattr(os, name)


@pytest.mark.parametrize("fault", PLANTED)
def test_a_store_that_forgets_a_sync_is_found_out(quick, monkeypatch, fault):
    PLANTED[fault](monkeypatch)
    ops = record(quick / "state", live_shortly)
    with pytest.raises((AssertionError, StoreError, FileNotFoundError)):
        cut_everywhere(ops, quick / "image", seed=1, share=0.0)


def live_shortly(life: Life) -> None:
    life.run(life.submit())
    life.submit()


# ---- restore and upgrade -------------------------------------------------------------------------------------------------


def make_old_store(root: Path) -> Store:
    """A store with job 1 in a backup, and job 2 only in the database."""
    store = Store.open(root, create=True)
    store.begin_epoch()
    store.commit([make_job(1)], 2)
    (root / "backups").mkdir(mode=0o700)
    store.backup(root / "backups" / "one.db")
    store.commit([make_job(2)], 3)
    return store


def jobs_of(image: Path) -> list[int]:
    store = Store.open(image, create=True)
    try:
        return [job.job_id for job in store.load().jobs]
    finally:
        store.close()


@pytest.mark.slow
def test_a_power_cut_during_a_restore_leaves_the_old_store_or_the_new_one_or_a_refusal(quick):
    make_old_store(quick / "state").close()
    seen = set()

    def verify(image: Path, promises: list[str]) -> None:
        try:
            found = jobs_of(image)
        except StoreError as error:
            assert error.hint == f"sshq restore {image}/backups/one.db", error.render("")
            assert not promises
            restore_backup(image, image / "backups" / "one.db")  # the way out works from here, too
            assert jobs_of(image) == [1]
            seen.add("refused")
            return
        assert found in ([[1]] if promises else [[1], [1, 2]])
        seen.add(len(found))

    with Recorder(quick / "state") as recorder:
        restore_backup(quick / "state", quick / "state" / "backups" / "one.db")
        recorder.note("restored")
    assert cut_everywhere(recorder.ops, quick / "image", seed=2, share=1, start=recorder.start, verify=verify) > 50
    assert seen == {1, 2, "refused"}


@pytest.mark.slow
def test_a_power_cut_during_an_upgrade_leaves_the_old_schema_or_the_new_one_with_its_backup(quick):
    make_old_store(quick / "state").close()
    newest = max(SCHEMA) + 1
    schema = {**SCHEMA, newest: "CREATE TABLE later (x) STRICT;\nINSERT INTO later VALUES (7);\n".replace("(x)", "(x INTEGER)")}
    seen = set()

    def verify(image: Path, _promises: list[str]) -> None:
        try:
            assert jobs_of(image) == [1, 2]
            seen.add("old")
        except StoreError as error:  # to this release it is a newer store
            assert error.hint == f"sshq restore {image}/backups/before-schema-{newest}.db", error.render("")
            restore_backup(image, image / "backups" / f"before-schema-{newest}.db")
            assert jobs_of(image) == [1, 2]
            seen.add("new")
        database = open_database(image, create=False, schema=schema)
        assert database.connection.execute("SELECT x FROM later").fetchall() == [(7,)]
        database.connection.close()

    with Recorder(quick / "state") as recorder:
        open_database(quick / "state", create=False, schema=schema).connection.close()
    assert cut_everywhere(recorder.ops, quick / "image", seed=3, share=0.3, start=recorder.start, verify=verify) > 50
    assert seen == {"old", "new"}


# ---- syncs that fail -----------------------------------------------------------------------------------------------------


def fail_from(number: int):
    """The sync of that number fails, once."""
    left = [number]

    def fail(word: str, _path: str) -> int:
        left[0] -= word == "sync"
        return IOERR_FSYNC if word == "sync" and left[0] == 0 else 0

    return fail


def commit_until_it_fails(root: Path, number: int) -> list[Op]:
    """In a process of its own, which ends as the controller does: with nothing tidied up.  Returns what it did."""
    written = root.with_name("ops")
    child = os.fork()
    if child == 0:
        try:
            with Recorder(root, fail=fail_from(number)) as recorder, contextlib.suppress(FatalStoreError):
                store = Store.open(root, create=False)
                store.begin_epoch()
                for job_id in range(3, 99):
                    store.commit([make_job(job_id)], job_id + 1)
            written.write_bytes(pickle.dumps(recorder.ops))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    return pickle.loads(written.read_bytes())


@pytest.mark.parametrize("number", [5, 7, 10, 40])
def test_what_the_start_after_a_failed_sync_tells_of_is_on_the_disk(quick, number):
    """The data of a failed sync can still be read: it must be written anew before anybody hears of it."""
    make_old_store(quick / "state").close()
    ops = commit_until_it_fails(quick / "state", number)
    assert ops[-1].word == "badsync" or [op.word for op in ops].count("badsync") == 1
    with Recorder(quick / "state", known=ops) as recorder:
        store = Store.open(quick / "state", create=False)
        shown = [job.job_id for job in store.load().jobs]
        (*_, (_, disk)) = replay(recorder.ops)
    store.close()
    assert len(shown) > 2
    disk.show(quick / "image", random.Random(number), writes=0.0, names=0.0)
    assert jobs_of(quick / "image") == shown
