"""Snapshots by round trip through the system's own tar: names of all kinds, what is refused, what is read again, what may go."""

import os
import socket
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sshq.errors import OptionError, StoreError
from sshq.tree import snapshot as snapshots
from sshq.tree.objects import Objects, format_manifest, parse_manifest
from sshq.tree.pack import CHUNK_BYTES, END, LARGE_BYTES, cut
from sshq.tree.snapshot import take_snapshot
from sshq.tree.walk import walk_sync

OLD = time.time() - 100
HOSTILE = [
    b"-n", b"--checkpoint-action=exec=sh", b"two\nlines", b"trailing blank ", b" leading", b"\xff\xfe not utf-8", b"back\\slash", b"quote'\"",
    b"*?[a]", b"..hidden", b"...", b"~", b"$(touch pwned)", b"tab\there", b"\xc3\xa9", b"\x7f\x1b[2J", b"a" * 255, b"%s%n",
]  # fmt: skip


@pytest.fixture
def store(tmp_path):
    return Objects(str(tmp_path / "store"))


@pytest.fixture
def top(tmp_path):
    made = tmp_path / "top"
    made.mkdir()
    return made


def take(store, top, sync=".", stage_in=()):
    return take_snapshot(store, str(top), sync=sync, stage_in=list(stage_in))


def grow(store, digest, home):
    """What a node does: the chunks one behind the other into tar."""
    home.mkdir()
    stream = b"".join(store.read(*chunk) for chunk in store.check(digest).chunks)
    subprocess.run(["tar", "-xpof", "-"], cwd=home, input=stream, check=True)
    return home


def facts(top):
    found = {}
    base = os.fsencode(top)
    for folder, directories, files in os.walk(base):
        for name in (*directories, *files):
            path = os.path.join(folder, name)
            looked = os.lstat(path)
            what = os.readlink(path) if stat.S_ISLNK(looked.st_mode) else b"" if stat.S_ISDIR(looked.st_mode) else open(path, "rb").read()
            mode = 0 if stat.S_ISLNK(looked.st_mode) else looked.st_mode
            found[os.path.relpath(path, base)] = (mode, what, 0 if stat.S_ISLNK(looked.st_mode) else int(looked.st_mtime))
    return found


def test_names_permissions_times_links_and_empty_directories_arrive_as_they_are(store, top, tmp_path):
    base = os.fsencode(top)
    for name in HOSTILE:
        Path(os.fsdecode(os.path.join(base, name))).write_bytes(name * 3)
        os.makedirs(os.path.join(base, b"below", name), exist_ok=True)
    deep = top / "/".join(["d" * 60] * 8)
    deep.mkdir(parents=True)
    (deep / ("f" * 200)).write_text("deep")
    (top / "program").write_text("#!/bin/sh\n")
    (top / "program").chmod(0o751)
    (top / "empty").mkdir(mode=0o700)
    (top / "nothing").write_text("")
    (top / "large").write_bytes(os.urandom(LARGE_BYTES))
    (top / "larger").write_bytes(os.urandom(CHUNK_BYTES + 1))
    (top / "link").symlink_to("below/-n")
    (top / "nowhere").symlink_to("not/there")
    (top / "empty" / "up").symlink_to("../program")
    for number, path in enumerate(sorted(facts(top))):
        if not os.path.islink(os.path.join(base, path)):
            os.utime(os.path.join(base, path), (OLD, 10**9 + number))
    os.utime(top / "nothing", (0, 0))
    made = take(store, top)
    assert facts(grow(store, made.digest, tmp_path / "home")) == facts(top)
    assert made.files == len(facts(top))


_NAME = st.binary(min_size=1, max_size=12).filter(lambda b: b"/" not in b and b"\0" not in b and b not in (b".", b"..", b".git"))
_TREE = st.dictionaries(st.lists(_NAME, min_size=1, max_size=3).map(tuple), st.binary(max_size=2000), max_size=12)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=_TREE)
def test_whatever_a_tree_is_called_it_arrives(tmp_path_factory, tree):
    base = tmp_path_factory.mktemp("tree")
    top = base / "top"
    top.mkdir()
    for parts, content in tree.items():
        path = os.path.join(os.fsencode(top), *parts)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(content)
        except OSError:  # a file and a directory of one name
            continue
    for name in (".gitignore", ".sshqignore"):
        for path in [one for one in top.rglob(name) if not one.is_dir()]:
            path.unlink()
    (top / "one").write_text("1") if not (top / "one").exists() else None
    store = Objects(str(base / "store"))
    made = take(store, top)
    assert facts(grow(store, made.digest, base / "home")) == facts(top)


def test_a_tree_may_be_deeper_than_the_stack_of_python(top):
    depth = sys.getrecursionlimit() + 200
    folder = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=folder))
    os.close(folder)
    entries = walk_sync(os.fsencode(top))
    assert len(entries) == depth + 1
    assert entries[-1].path == b"d/" * depth + b"file"
    subprocess.run(["rm", "-r", str(top)], check=True)  # shutil of this Python goes as deep as its stack


def test_several_threads_may_take_along_the_same_files(store, top):
    for number in range(100):
        (top / f"f{number}").write_bytes(os.urandom(3000))
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: take(Objects(store.directory), top).digest, range(12)))
    assert len(set(made)) == 1
    store.check(made[0])
    assert os.listdir(f"{store.directory}/tmp") == []


def test_what_did_not_change_is_not_read_again_and_a_change_makes_one_chunk_new(store, top, monkeypatch):
    for number in range(200):
        (top / f"{number}").write_bytes(os.urandom(20_000))
    (top / "large").write_bytes(os.urandom(3 * CHUNK_BYTES))
    first = take(store, top)
    assert first.bytes_new >= first.bytes - len(END)
    monkeypatch.setattr(snapshots, "RACY_NS", -(10**18))  # what lies some seconds back is trusted; here that is now
    take(store, top)
    again = take(store, top)
    assert (again.digest, again.bytes_read, again.bytes_new) == (first.digest, 0, 0)
    (top / "77").write_bytes(b"changed")
    changed = take(store, top)
    assert changed.digest != first.digest
    assert 0 < changed.bytes_new < 1_500_000
    with open(top / "large", "r+b") as file:
        file.seek(CHUNK_BYTES + 5)
        file.write(b"!")
    assert take(store, top).bytes_new <= CHUNK_BYTES + 1_500_000


def test_what_was_touched_just_now_is_read_again_though_it_looks_the_same(store, top):
    path = top / "one"
    path.write_text("before")
    looked = path.stat()
    first = take(store, top)
    path.write_text("after!")
    os.utime(path, ns=(looked.st_atime_ns, looked.st_mtime_ns))
    assert take(store, top).digest != first.digest


def make_fifo(path):
    os.mkfifo(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (make_fifo, "odd is a FIFO"),
        (make_socket, "odd is a socket"),
        (lambda path: os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3)), "odd is a character device"),
        (lambda path: path.symlink_to("/etc/passwd"), "odd is a symbolic link to an absolute path, /etc/passwd"),
        (lambda path: path.symlink_to("../../etc"), "odd is a symbolic link that leads out of the tree, to ../../etc"),
        (lambda path: path.symlink_to("sub/../../x"), "odd is a symbolic link that leads out of the tree, to sub/../../x"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_along_is_named_and_nothing_is_stored(store, top, make, says):
    (top / "sub").mkdir()
    make(top / "odd")
    with pytest.raises(OptionError) as caught:
        take(store, top)
    assert says in caught.value.detail[0]
    assert "Traceback" not in caught.value.render("sbatch")
    (top / ".sshqignore").write_text("odd\n")
    assert take(store, top).files == 2


def test_a_link_over_a_link_that_leads_out_is_found(store, top, tmp_path):
    (tmp_path / "outside").mkdir()
    (top / "inner").symlink_to("../outside")
    (top / "over").symlink_to("inner/x")
    with pytest.raises(OptionError) as caught:
        take(store, top)
    assert len(caught.value.detail) == 2, caught.value.detail


def test_a_file_that_changes_while_it_is_read_is_an_error_that_names_it(store, top, monkeypatch):
    (top / "log").write_bytes(b"x" * 1000)
    entries = walk_sync(os.fsencode(top))
    (top / "log").write_bytes(b"y" * 1001)
    with pytest.raises(OptionError, match="log changed while it was read: nothing was submitted"):
        [snapshots.read_piece(piece) for piece in cut(entries)]


def test_files_that_are_named_keep_their_place_below_and_come_under_their_name_from_elsewhere(store, top, tmp_path):
    (top / "data").mkdir()
    (top / "data/x").write_text("x")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/y").write_text("y")
    (tmp_path / "z").write_text("z")
    made = take(store, top, None, ["data/x", "../lib", str(tmp_path / "z"), "./data/../data/x"])
    home = grow(store, made.digest, tmp_path / "home")
    assert sorted(os.fsdecode(name) for name in facts(home)) == ["data", "data/x", "lib", "lib/y", "z"]


def test_two_that_would_have_one_place_are_an_error_that_names_both(store, top, tmp_path):
    (tmp_path / "other").mkdir()
    for path in (top / "x", tmp_path / "other/x"):
        path.write_text("x")
    with pytest.raises(OptionError) as caught:
        take(store, top, None, ["x", "../other/x"])
    assert "two would be x in the job's directory" in caught.value.message
    assert caught.value.detail == (str(top / "x"), str(tmp_path / "other/x"))
    with pytest.raises(OptionError, match="x is in the tree of --sync already"):
        take(store, top, ".", ["../other/x"])
    with pytest.raises(OptionError, match="missing: No such file"):
        take(store, top, None, ["missing"])


def test_a_manifest_that_is_not_well_formed_is_refused():
    text = format_manifest(2, [("a" * 64, 5)])
    assert parse_manifest(text).chunks == (("a" * 64, 5),)
    for wrong in (b"", text[:-1], text[:-5] + b"\n", text.replace(b"files", b"fires"), text.replace(b"a", b"A"), text + b"x\n"):
        with pytest.raises(ValueError):
            parse_manifest(wrong)


def test_a_chunk_that_is_gone_or_damaged_is_noticed(store, top):
    (top / "x").write_text("x")
    made = take(store, top)
    digest, size = store.check(made.digest).chunks[0]
    path = Path(store.path(digest))
    path.chmod(0o600)
    path.write_bytes(bytes(size))
    with pytest.raises(StoreError, match="damaged"):
        store.read(digest, size)
    path.unlink()
    with pytest.raises(StoreError, match="1 of 2 chunks"):
        store.check(made.digest)


def test_what_no_job_needs_goes_by_age_and_size_and_never_what_one_needs(store, top):
    names = {}
    for name in ("needed", "old", "big", "fresh"):
        (top / "x").write_bytes(os.urandom(300_000))
        names[name] = take(store, top).digest
    now = time.time() + 30 * 86_400
    for age, name in enumerate(("fresh", "big", "old"), 1):
        for path in [f"{store.directory}/m/{names[name]}", *(store.path(d) for d, _ in store.read_manifest(names[name]).chunks)]:
            os.utime(path, (now, now - age * 7_200))
    count, size = store.sweep({names["needed"]}, bytes_max=1 << 40, keep_s=5 * 3_600, now=now)
    assert (count, size > 300_000) == (1, True)
    assert not os.path.exists(f"{store.directory}/m/{names['old']}")
    store.sweep({names["needed"]}, bytes_max=650_000, keep_s=1e9, now=now)
    assert not os.path.exists(f"{store.directory}/m/{names['big']}")
    store.check(names["fresh"])
    store.sweep({names["needed"]}, bytes_max=0, keep_s=0, now=now)
    assert not os.path.exists(f"{store.directory}/m/{names['fresh']}")
    store.check(names["needed"])


def test_nothing_younger_than_an_hour_goes(store, top):
    (top / "x").write_text("x")
    made = take(store, top)
    assert store.sweep(set(), bytes_max=0, keep_s=0) == (0, 0)
    store.check(made.digest)
