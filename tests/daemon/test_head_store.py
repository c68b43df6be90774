"""`sshq up` on a store that is lost, damaged, foreign, too new, out of reach: it refuses, with one clear message and the way out."""

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from sshq.store.database import SCHEMA
from store import head


@pytest.fixture
def kept(instance):
    """An instance that was stopped, with one job done and a backup made by the controller itself."""
    instance.up()
    job = instance.submit("--wait", "--wrap", "true")
    backups = Path(instance.sshq_home, "state", "backups")
    instance.wait_for(lambda: list(backups.glob("sshq-*.db")), 30, "a backup soon after the start")
    instance.down()
    instance.job = job
    instance.state_dir = Path(instance.sshq_home, "state")
    return instance


def refused(instance) -> str:
    """What `sshq up` says when it starts nothing; the files of the store are as they were."""
    database = instance.state_dir / "sshq.db"
    before = database.read_bytes() if database.exists() else None
    done = instance.run("up")
    assert done.returncode == 1, done
    assert not instance.status()
    assert done.stderr.startswith("sshq: error: ")
    assert "Traceback" not in done.stderr
    assert (database.read_bytes() if database.exists() else None) == before
    return done.stderr


def new_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={max(SCHEMA) + 7}")


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (url)")


HARM = {
    "zero length": (lambda path: path.write_bytes(b""), "is damaged"),
    "truncated": (lambda path: os.truncate(path, path.stat().st_size // 2), "is damaged"),
    "overwritten": (lambda path: path.write_bytes(path.read_bytes()[:8192] + os.urandom(8192) + path.read_bytes()[16384:]), "is damaged"),
    "no database": (lambda path: path.write_text("to do: buy milk\n" * 999), "is damaged"),
    "another program's": (foreign, "is not a store of sshq"),
    "missing": (Path.unlink, "is missing, but there was one"),
    "newer": (new_version, f"was written by a newer sshq (schema {max(SCHEMA) + 7}, this one knows {max(SCHEMA)})"),
    "of another state directory": (lambda path: path.with_name("store_id").write_text("0" * 32), "belongs to another store"),
    "its log deleted": (lambda path: path.with_name("sshq.db-shm").write_bytes(bytes(32768)), "the write-ahead log"),
}


@pytest.mark.slow
def test_every_kind_of_loss_is_refused_with_the_backup_to_use(kept):
    sound = kept.state_dir.with_name("sound")
    shutil.copytree(kept.state_dir, sound, ignore=shutil.ignore_patterns("sock"))
    for name, (harm, said) in HARM.items():
        shutil.rmtree(kept.state_dir)
        shutil.copytree(sound, kept.state_dir)
        harm(kept.state_dir / "sshq.db")
        text = refused(kept)
        assert said in text, name
        assert str(kept.state_dir / "sshq.db") in text, name
        if name != "another program's":  # whose file may be there because the state directory is not ours
            assert "hint: sshq restore " in text, text
            assert " old; `sshq restore` lists all." in text, text
            backup = text.splitlines()[-1].split("sshq restore ")[1]
            assert Path(backup).parent == kept.state_dir / "backups", name
    restored = kept.run("restore", backup)  # the last case's way out, taken
    assert restored.returncode == 0, restored.stderr
    kept.up()
    assert kept.state(kept.job) in ("COMPLETED", "")  # "" where the backup is from before the job


def test_restore_without_a_file_lists_what_there_is(kept):
    backups = kept.state_dir / "backups"
    (good,) = backups.glob("sshq-*.db")
    (backups / "broken.db").write_bytes(good.read_bytes()[:9000])
    listed = kept.out("restore").splitlines()
    assert listed[0].split() == ["BACKUP", "AGE", "SIZE", "JOBS", "STATE"]
    rows = {line.split()[0]: line for line in listed[1:3]}
    assert rows[str(good)].endswith("good")
    assert "damaged" in rows[str(backups / "broken.db")]
    assert "sshq restore BACKUP puts one in the place of the store" in listed[3]
    refusal = kept.run("restore", str(backups / "broken.db"))
    assert refusal.returncode == 1 and "is not a backup that can be used" in refusal.stderr
    assert refusal.stderr.rstrip().endswith("hint: sshq restore")
    kept.up()
    assert kept.state(kept.job) == "COMPLETED"


def test_a_state_directory_that_cannot_be_written_to_is_refused(kept):
    if os.geteuid() != 0:
        pytest.skip("optional: needs root to mount a file system read-only")
    state = str(kept.state_dir)
    for options in (["--bind", state, state], ["-o", "remount,bind,ro", state]):
        done = subprocess.run(["mount", *options], check=False, capture_output=True)
        if done.returncode:
            pytest.skip(f"optional: no mount here: {done.stderr.decode().strip()}")
    try:
        up = kept.run("up")
        daemon = head.start(kept)
        assert daemon.wait(30) == 1
    finally:
        subprocess.run(["umount", "-l", state], check=True)
    assert (up.returncode, up.stderr) == (1, f"sshq: error: {state} cannot be written to\n    hint: sshq up --state DIR\n")
    said = Path(kept.sshq_home, "head.log").read_text()
    assert said == (
        f"sshq: error: the state directory {state} cannot be written to: Read-only file system\n    hint: sshq up --state DIR\n"
    )
    kept.up()


# ---- two controllers -------------------------------------------------------------------------------------------------------


def test_a_second_controller_on_the_same_state_is_refused_and_names_the_first(instance):
    instance.up()
    pid = instance.pid()
    argv = [instance.argv()[0], "-P", "-s", "-m", "sshq.controller.start", "--state", f"{instance.sshq_home}/state"]
    done = subprocess.run(
        [*argv, "--socket", f"{instance.sshq_home}/other"], env=instance.env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"sshq: error: a controller is already running here: pid {pid}\n")
    assert "hint: sshq status, or sshq down to stop it (jobs run on)" in done.stderr
    assert instance.pid() == pid
    assert instance.submit("--wait", "--wrap", "true") > 0


@pytest.mark.slow
def test_where_the_lock_does_not_hold_the_epoch_ends_the_older_controller(loopback, instance):
    """As on a file system whose locks are not kept: two of one store, and only the younger one may write."""
    instance.use(loopback.hosts[:2])
    older = head.start(instance, HEAD_UNLOCKED="1")
    instance.ready()
    job = instance.wrap(f"echo start >>{instance.work}/starts; until [ -e {instance.work}/go ]; do sleep 0.05; done")
    instance.until_state(job, "RUNNING")
    os.rename(f"{instance.sshq_home}/head.log", f"{instance.sshq_home}/older.log")
    younger = head.start(instance, HEAD_UNLOCKED="1")
    assert younger.poll() is None, instance.logs()
    assert older.wait(60) == 1  # its next write, at the latest that of its own chores
    said = Path(instance.sshq_home, "older.log").read_text()
    assert "sshq: error: another controller took over\n    The store's epoch is 2, ours was 1.\n" in said
    assert "Traceback" not in said
    instance.ready()
    assert instance.state(job) == "RUNNING"
    Path(instance.work, "go").touch()
    instance.until_state(job, "COMPLETED")
    assert Path(instance.work, "starts").read_text() == "start\n"
    assert younger.poll() is None
