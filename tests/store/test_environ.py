"""Environments: kept once, private, whole or refused, gone when told."""

import hashlib
import stat
import threading

import pytest

from sshq.errors import StoreError
from sshq.store.environ import Environments

DATA = b"HOME=/home/anna\0SECRET=\xff\n\0"


@pytest.fixture
def environments(tmp_path):
    return Environments(tmp_path / "environments")


def test_the_same_bytes_are_kept_once_and_come_back(environments, tmp_path):
    digest = environments.put(DATA)
    assert environments.put(DATA) == digest == hashlib.sha256(DATA).hexdigest()
    assert environments.get(digest) == DATA
    other = environments.put(b"")
    assert environments.list() == {digest, other} == Environments(tmp_path / "environments").list()


def test_nobody_else_may_read_them(environments, tmp_path):
    digest = environments.put(DATA)
    folder = tmp_path / "environments"
    assert (stat.S_IMODE(folder.stat().st_mode), stat.S_IMODE((folder / digest).stat().st_mode)) == (0o700, 0o600)


def test_removing_is_final_and_may_be_repeated(environments):
    digest = environments.put(DATA)
    environments.remove(digest)
    environments.remove(digest)
    assert environments.list() == frozenset()
    with pytest.raises(StoreError, match="cannot be read: No such file"):
        environments.get(digest)


def test_a_changed_file_is_not_handed_to_a_job(environments, tmp_path):
    digest = environments.put(DATA)
    (tmp_path / "environments" / digest).write_bytes(DATA[:-1])
    with pytest.raises(StoreError, match="is damaged"):
        environments.get(digest)


@pytest.mark.parametrize("name", ["", "../store_id", "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_nothing_but_a_digest_names_a_file(environments, name):
    for use in (environments.get, environments.remove):
        with pytest.raises(StoreError, match="not the digest of an environment"):
            use(name)


def test_what_a_crash_left_half_written_is_cleared_away(environments, tmp_path):
    (tmp_path / "environments" / ".new.7.x").write_bytes(b"half")
    assert Environments(tmp_path / "environments").list() == frozenset()
    assert list((tmp_path / "environments").iterdir()) == []


def test_threads_may_keep_the_same_bytes_at_once(environments):
    found = []
    threads = [threading.Thread(target=lambda: found.append(environments.put(DATA * 10_000))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert environments.get(found[0]) == DATA * 10_000
