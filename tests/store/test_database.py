"""Opening: ours and whole, or a refusal that says what was found and what to do, and touches nothing."""

import os
import re
import sqlite3
import stat
import time
from pathlib import Path

import pytest

from sshq.errors import StoreError
from sshq.store.database import SCHEMA, open_database, split_statements
from sshq.store.files import parse_filesystem, refuse_shared
from sshq.store.inspecting import begin_inspection
from sshq.store.jobs import Store
from sshq.store.restore import restore_backup
from store.build import make_job


@pytest.fixture
def closed(store, state):
    """A directory whose store holds one job and was closed in order."""
    store.commit([make_job(1)], 2)
    store.close()
    return state


def refusal(directory, *, create=True):
    """The text for stderr, with the directory as DIR; nothing but SQLite's own side files may have changed.

    It is the same whether the look at the file is begun with the opening or was begun before, as by a controller.
    """
    before = {path: path.read_bytes() for path in directory.glob("*") if path.is_file()}
    inspection = begin_inspection(directory)
    with pytest.raises(StoreError) as caught:
        Store.open(directory, create=create, looked=inspection)
    with pytest.raises(StoreError, match=re.escape(caught.value.message)) as alone:
        Store.open(directory, create=create)
    assert alone.value.render("sshq") == caught.value.render("sshq")
    after = {path: path.read_bytes() for path in directory.glob("*") if path.is_file() and path.suffix != ".db-shm"}
    after = {path: data for path, data in after.items() if data or path in before}  # an empty log
    assert after == {path: data for path, data in before.items() if path.suffix != ".db-shm"}
    return caught.value.render("sshq").replace(str(directory), "DIR")


def test_a_new_store_is_private_and_has_its_own_identity(tmp_path):
    old = os.umask(0)
    try:
        one, two = (Store.open(tmp_path / name / "deep", create=True) for name in "ab")
        one.begin_epoch()
    finally:
        os.umask(old)
    assert one.store_id != two.store_id
    assert len(one.store_id) == 32
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in one.path.parent.iterdir()}
    assert modes == dict.fromkeys(("sshq.db", "sshq.db-wal", "sshq.db-shm", "store_id", "reserve"), 0o600)
    assert stat.S_IMODE(one.path.parent.stat().st_mode) == 0o700


def test_an_inspection_begun_before_opens_the_store_as_opening_does(closed):
    store = Store.open(closed, create=False, looked=begin_inspection(closed))
    assert [job.job_id for job in store.load().jobs] == [1]
    assert store.begin_check() is None  # every page was read


def test_where_there_is_no_store_there_is_nothing_to_inspect(tmp_path):
    assert begin_inspection(tmp_path) is None


def test_a_store_that_opening_may_refuse_is_not_looked_at_before(closed):
    """The index of a log that another head reads over the network is none of ours, not even to look at."""
    before = sorted(path.name for path in closed.iterdir())
    assert begin_inspection(closed, "36 35 0:32 / / rw - nfs4 srv:/ rw\n") is None
    if os.geteuid() == 0:
        os.chown(closed, 12345, 12345)
        assert begin_inspection(closed) is None
        os.chown(closed, 0, 0)
    assert sorted(path.name for path in closed.iterdir()) == before


def test_it_is_synced_to_the_disk_at_every_commit(store):
    ask = store._connection.execute
    assert [ask(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")] == ["wal", 2]


def test_a_directory_left_open_to_others_is_closed(closed):
    closed.chmod(0o755)
    Store.open(closed, create=False).close()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def test_no_store_is_begun_unasked(tmp_path):
    for directory in (tmp_path / "none", tmp_path):
        with pytest.raises(StoreError) as caught:
            Store.open(directory, create=False)
        assert caught.value.render("sshq") == f"sshq: error: there is no store in {directory}\n    hint: sshq up\n"
    assert not list(tmp_path.iterdir())


def test_a_store_that_was_there_is_never_begun_anew(closed):
    (closed / "sshq.db").unlink()
    store_id = (closed / "store_id").read_text().strip()
    assert refusal(closed) == (
        "sshq: error: the store DIR/sshq.db is missing, but there was one\n"
        f"    DIR/store_id says: {store_id}.\n"
        "    There is no good backup in DIR/backups.\n"
        "    To begin with an empty store on purpose, remove DIR/store_id.\n"
        "    hint: sshq rebuild\n"
    )


DAMAGED = """\
sshq: error: the store DIR/sshq.db is damaged
    {}
    Jobs on the nodes run on; after a restore they are found again.
    There is no good backup in DIR/backups.
    hint: sshq restore FILE
"""


def cut(keep):
    return lambda data: data[:keep]


def overwrite(start, with_bytes):
    return lambda data: data[:start] + with_bytes + data[start + len(with_bytes) :]


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        (cut(0), "it does not begin as an SQLite file (0 bytes)"),
        (cut(99), "it does not begin as an SQLite file (99 bytes)"),
        (lambda data: b"\xa5" * 5000, "it does not begin as an SQLite file (5000 bytes)"),
        (cut(4096), "database disk image is malformed"),
        (overwrite(4096, bytes(4096)), None),
        (overwrite(8192, os.urandom(8192)), None),
    ],
    ids=["empty", "short", "garbage", "truncated", "zeroed page", "random pages"],
)
def test_a_damaged_store_is_refused(closed, harm, found):
    path = closed / "sshq.db"
    path.write_bytes(harm(path.read_bytes()))
    said = refusal(closed)
    if found is None:
        head, *_, said_of_jobs, tail, hint = DAMAGED.splitlines()
        assert said.splitlines()[0] == head
        assert said.splitlines()[-3:] == [said_of_jobs, tail, hint]
    else:
        assert said == DAMAGED.format(found)


def test_the_newest_backup_is_named_as_the_way_out(closed):
    store = Store.open(closed, create=False)
    now = time.time()
    for name, age_s in (("old.db", 86400 * 9), ("new one.db", 3 * 3600), ("broken.db", 3600), ("foreign.db", 60)):
        store.backup(closed / "backups" / name)
        if name in ("broken.db", "foreign.db"):
            (closed / "backups" / name).write_bytes((closed / "backups" / name).read_bytes()[:8192] if name == "broken.db" else b"x")
        os.utime(closed / "backups" / name, (now - age_s, now - age_s))
    store.close()
    (closed / "sshq.db").write_bytes(b"")
    assert refusal(closed).endswith(
        "    DIR/backups/foreign.db is no help: not a store of sshq.\n"
        "    DIR/backups/broken.db is no help: damaged: database disk image is malformed.\n"
        "    The newest good backup is 3 hours old; `sshq restore` lists all.\n"
        "    hint: sshq restore 'DIR/backups/new one.db'\n"
    )
    assert sorted(path.name for path in (closed / "backups").iterdir()) == ["broken.db", "foreign.db", "new one.db", "old.db"]


def test_a_file_of_another_program_is_left_alone(tmp_path):
    connection = sqlite3.connect(tmp_path / "sshq.db")
    connection.execute("CREATE TABLE bookmarks (url)")
    connection.execute("PRAGMA application_id=7")
    connection.close()
    assert refusal(tmp_path) == (
        "sshq: error: DIR/sshq.db is not a store of sshq\n"
        "    It is an SQLite file of another program (application id 7).\n"
        "    hint: sshq up --state DIR\n"
    )


def test_a_store_of_a_newer_release_is_refused_with_the_way_back(closed):
    with sqlite3.connect(closed / "sshq.db") as connection:
        connection.execute("PRAGMA user_version=9")
    connection.close()
    assert refusal(closed) == (
        f"sshq: error: the store DIR/sshq.db was written by a newer sshq (schema 9, this one knows {max(SCHEMA)})\n"
        "    Start the newer sshq again, or go back to the backup that was made before the upgrade.\n"
        "    There is no good backup in DIR/backups.\n"
        "    hint: sshq restore FILE\n"
    )


def test_the_store_of_another_directory_is_refused(closed, tmp_path):
    other = Store.open(tmp_path / "other", create=True)
    other.close()
    (closed / "sshq.db").write_bytes(other.path.read_bytes())
    noted = (closed / "store_id").read_text().strip()
    assert refusal(closed) == (
        "sshq: error: DIR/sshq.db belongs to another store\n"
        f"    It is {other.store_id}, DIR/store_id says {noted}.\n"
        "    There is no good backup in DIR/backups.\n"
        "    hint: sshq restore FILE\n"
    )


@pytest.fixture
def cut_off(store, state, tmp_path):
    """The directory as a head that lost power leaves it: one job, and only the log knows."""
    store.commit([make_job(1)], 2)
    copy = tmp_path / "copy"
    copy.mkdir(0o700)
    for path in state.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


def test_a_deleted_log_is_noticed(cut_off):
    (cut_off / "sshq.db-wal").unlink()
    assert refusal(cut_off) == (
        "sshq: error: the write-ahead log DIR/sshq.db-wal is missing\n"
        "    The controller did not end in order; what it accepted last was only in there.\n"
        "    There is no good backup in DIR/backups.\n"
        "    To go on without that, remove DIR/sshq.db-shm.\n"
        "    hint: sshq restore FILE\n"
    )


def test_a_refusal_leaves_the_log_of_a_crashed_controller_alone(cut_off):
    store_id = (cut_off / "store_id").read_text()
    (cut_off / "store_id").write_text("other\n")
    assert "belongs to another store" in refusal(cut_off)  # which compares the log's bytes, too
    (cut_off / "store_id").write_text(store_id)
    assert len(Store.open(cut_off, create=False).load().jobs) == 1


def test_a_store_begun_anew_on_purpose_takes_nothing_from_the_old_log(store, state):
    store.commit([make_job(1)], 2)
    log = (state / "sshq.db-wal").read_bytes()
    store.close()
    for name in ("sshq.db", "store_id"):
        (state / name).unlink()
    (state / "sshq.db-wal").write_bytes(log)
    assert Store.open(state, create=True).load().jobs == []


def test_a_crash_between_database_and_marker_is_made_good(closed):
    (closed / "store_id").unlink()
    (closed / "sshq.db.new").write_bytes(b"half")
    store = Store.open(closed, create=True)
    assert (closed / "store_id").read_text().strip() == store.store_id
    assert len(store.load().jobs) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="optional: needs root to give a directory away")
def test_a_directory_of_somebody_else_is_refused(tmp_path):
    os.chown(tmp_path, 4711, 4711)
    with pytest.raises(StoreError, match="is not a directory of uid 0") as caught:
        Store.open(tmp_path, create=True)
    assert caught.value.detail == ("It belongs to uid 4711; whoever owns it could replace the store.",)


# ---- file systems --------------------------------------------------------------------------------------------------

MOUNTS = """\
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 22 0:26 / /home rw shared:5 - nfs4 filer:/home rw,vers=4.2
31 30 0:27 / /home/anna/big\\040disk rw - xfs /dev/sdb1 rw
32 22 0:28 / /mnt/remote rw - fuse.sshfs anna@far:/ rw
33 22 0:29 / /mnt/vault rw - fuse.gocryptfs /x rw
34 33 0:30 / /mnt/vault rw - cifs //win/x rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"), ("/homework", "ext4"), ("/home", "nfs4"), ("/home/anna/x", "nfs4"), ("/home/anna/big disk/x", "xfs"),
        ("/mnt/remote/x", "fuse.sshfs"), ("/mnt/vault/x", "cifs"),
    ],
)  # fmt: skip
def test_the_file_system_is_that_of_the_innermost_latest_mount(path, kind):
    assert parse_filesystem(path, MOUNTS) == kind


def test_a_network_file_system_is_refused_with_the_way_out(tmp_path):
    mounts = f"{MOUNTS}40 22 0:31 / {tmp_path} rw - nfs4 filer:/x rw\n"
    with pytest.raises(StoreError) as caught:
        refuse_shared(tmp_path / "state", mounts)
    assert caught.value.render("sshq").replace(str(tmp_path), "TMP") == (
        "sshq: error: TMP/state is on a network file system (nfs4), the store needs a local disk\n"
        "    A lock or an fsync there can be lost, and with it an accepted job.\n"
        "    To take that risk: state_on_network: true in config.yaml.\n"
        "    hint: sshq up --state DIR\n"
    )
    refuse_shared(Path("/"), MOUNTS)
    refuse_shared(tmp_path / "state", mounts, forced=True)


# ---- upgrade, backup, restore --------------------------------------------------------------------------------------

NEWER = max(SCHEMA) + 1
NEXT = {**SCHEMA, NEWER: "CREATE TABLE a (x TEXT DEFAULT ';') STRICT;\n-- then\nINSERT INTO a VALUES ('1;2');\n"}


def test_an_upgrade_is_preceded_by_a_backup_and_can_be_gone_back_from(closed):
    new = open_database(closed, create=False, schema=NEXT).connection
    assert new.execute("SELECT x FROM a").fetchall() == [("1;2",)]
    new.close()
    assert re.search(
        "The backup made before that upgrade is \\d+ seconds old; `sshq restore` lists all.\n"
        f"    hint: sshq restore DIR/backups/before-schema-{NEWER}.db\n$", refusal(closed),
    )  # fmt: skip
    restore_backup(closed, closed / "backups" / f"before-schema-{NEWER}.db")
    assert len(Store.open(closed, create=False).load().jobs) == 1


def test_an_upgrade_that_fails_leaves_the_old_version_whole(closed):
    with pytest.raises(Exception, match="no such table: missing"):
        open_database(closed, create=False, schema={**SCHEMA, NEWER: "CREATE TABLE a (x);\nDROP TABLE missing;\n"})
    store = Store.open(closed, create=False)
    assert store._connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'a'").fetchone() == (0,)


def test_every_statement_of_the_schema_is_run():
    assert [s.split()[0] for s in split_statements(SCHEMA[1]) if not s.lstrip().startswith("--")].count("CREATE") >= 14


def test_a_backup_is_a_whole_private_store(store, tmp_path):
    store.commit([make_job(1)], 2)
    target = tmp_path / "backup.db"
    for _ in range(2):  # the second replaces the first
        store.backup(target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if "backup" in path.name] == ["backup.db"]
    restore_backup(tmp_path / "elsewhere", target)
    restored = Store.open(tmp_path / "elsewhere", create=False)
    assert (restored.store_id, restored.load().jobs) == (store.store_id, [make_job(1)])


def test_a_backup_that_cannot_be_made_leaves_the_store_and_the_last_one_alone(store, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="was not made"):
        store.backup(tmp_path / "file" / "backup.db")
    store.commit([make_job(1)], 2)


def test_a_restored_store_says_so_until_told_otherwise_and_keeps_what_it_replaced(closed, tmp_path):
    store = Store.open(closed, create=False)
    store.backup(tmp_path / "b.db")
    assert store.load().restored is False
    store.close()
    (closed / "sshq.db").write_bytes(b"broken")
    old = restore_backup(closed, tmp_path / "b.db")
    assert (old.name, (old / "sshq.db").read_bytes()) == ("replaced-1", b"broken")
    store = Store.open(closed, create=False)
    store.begin_epoch()
    assert store.load().restored is True
    store.end_restore()
    assert store.load().restored is False


@pytest.mark.parametrize("content", [b"", b"x" * 5000], ids=["empty", "garbage"])
def test_a_bad_backup_is_not_put_in_place(closed, tmp_path, content):
    (tmp_path / "bad.db").write_bytes(content)
    with pytest.raises(StoreError, match="is not a backup that can be used"):
        restore_backup(closed, tmp_path / "bad.db")
    assert len(Store.open(closed, create=False).load().jobs) == 1
