"""What git tracks goes along whatever .gitignore says: its index read as git writes it, damaged ones, and repositories in repositories."""

import os
import shutil
import subprocess
from hashlib import sha1
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sshq.tree.gitindex import IndexDamagedError, parse_index

from .test_ignore import git_env, our_files

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
ODD = ["a", "a b", "a.o", "ä", "-n", "two\nlines", "d/x", "d/e/x", "d.x", "d/\udcff", "x" * 200 + "/y", "tab\t"]


def git(top, *words, **keys):
    return subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always", *words],
                          cwd=top, env=git_env(top), check=True, capture_output=True, **keys).stdout  # fmt: skip


def make(top, names, *words):
    git_at = Path(top)
    git_at.mkdir(exist_ok=True)
    subprocess.run(["git", "init", "-q", *words, str(top)], check=True, env=git_env(top))
    write(top, names)
    return git_at


def write(top, names):
    for name in names:
        path = Path(top, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")


def force(top, *names):
    git(top, "add", "-f", "--", *names)


def git_takes(top):
    """What lies there and is tracked or not ignored, as git tells."""
    told = git(top, "ls-files", "-c", "-o", "--exclude-standard", "-z").split(b"\0")
    return {name for name in told if name and os.path.lexists(os.path.join(os.fsencode(top), name))}


def listed(top):
    return sorted({name for name in git(top, "ls-files", "-z").split(b"\0") if name})


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("form", ["sha1", "sha256"])
def test_all_versions_of_an_index_are_read(tmp_path, version, form):
    top = make(tmp_path / "r", ODD, f"--object-format={form}")
    force(top, *ODD[:-1])
    if version == 3:
        git(top, "add", "-N", "--", ODD[-1])  # such an entry has more flags
    git(top, "update-index", f"--index-version={max(version, 2)}")
    data = (top / ".git/index").read_bytes()
    assert data[7] == version
    assert parse_index(data) == (listed(top), frozenset())


def test_extensions_conflicts_and_an_index_without_checksum_are_read(tmp_path):
    top = make(tmp_path / "r", ODD)
    force(top, *ODD)
    git(top, "commit", "-qm", "one")  # the extension TREE
    git(top, "update-index", "--index-info", input=b"0 " + b"0" * 40 + b"\ta\n" + b"".join(
        b"100644 e69de29bb2d1d6434b8b29ae775ad8c2e48c5391 %d\ta\n" % stage for stage in (1, 2, 3)
    ))  # fmt: skip
    data = (top / ".git/index").read_bytes()
    assert sorted(set(parse_index(data)[0])) == listed(top)
    assert parse_index(data[:-20] + bytes(20)) == parse_index(data)


BROKEN = {
    "nothing": lambda data: b"",
    "another file": lambda data: b"PACK" + data[4:],
    "a later version": lambda data: seal(data[:4] + b"\0\0\0\5" + data[8:-20]),
    "cut": lambda data: data[:-30],
    "cut and sealed": lambda data: seal(data[:-60]),
    "a bit": lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
    "more entries than there are": lambda data: seal(data[:8] + b"\0\0\1\0" + data[12:-20]),
    "an extension that must be understood": lambda data: seal(data[:-20] + b"link\0\0\0\0"),
    "an extension longer than the file": lambda data: seal(data[:-20] + b"TREE\0\0\1\0"),
}


def seal(data):
    return data + sha1(data).digest()


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_index_tells_nothing_and_rules_decide_alone(tmp_path, case):
    top = make(tmp_path / "r", ["kept.o", "x"])
    (top / ".gitignore").write_text("*.o\n")
    force(top, "kept.o")
    index = top / ".git/index"
    data = index.read_bytes()
    assert our_files(top) == {b".gitignore", b"x", b"kept.o"}
    index.write_bytes(BROKEN[case](data))
    with pytest.raises(IndexDamagedError):
        parse_index(index.read_bytes())
    assert our_files(top) == {b".gitignore", b"x"}
    index.unlink()
    assert our_files(top) == {b".gitignore", b"x"}
    os.mkfifo(index)
    assert our_files(top) == {b".gitignore", b"x"}


def test_an_index_that_is_split_over_two_files_tells_nothing(tmp_path):
    top = make(tmp_path / "r", ["kept.o", "x"])
    (top / ".gitignore").write_text("*.o\n")
    force(top, "kept.o")
    git(top, "update-index", "--split-index")
    assert our_files(top) == {b".gitignore", b"x"}


def test_of_a_directory_that_is_ignored_only_what_is_tracked_travels(tmp_path):
    names = ["build/keep/me", "build/keep/not", "build/lost", "build.x", "build/deep/er/x", "empty/y", "top.log", "data/big.bin"]
    top = make(tmp_path / "r", names)
    (top / ".gitignore").write_text("build/\n*.log\nempty\n")
    force(top, "build/keep/me", "build/deep/er/x", "top.log", "data/big.bin")
    assert our_files(top) == git_takes(top)
    assert {b"build/keep/me", b"build/deep/er/x", b"top.log"} < our_files(top)
    (top / ".sshqignore").write_text("er\n*.bin\n")  # ours is about what travels, not about what is in the repository
    assert our_files(top) == git_takes(top) - {b"build/deep/er/x", b"data/big.bin"}
    assert our_files(top / "build/keep") == {b"me"} | {b"not"}  # the directory that was named is no matter of rules
    (top / "build/keep/.gitignore").write_text("*\n")
    assert our_files(top / "build/keep") == {b"me"}


def test_repositories_in_the_tree_and_working_trees_elsewhere_have_an_index_of_their_own(tmp_path):
    inner = make(tmp_path / "inner", ["x.o", "y.o", "z"])
    (inner / ".gitignore").write_text("*.o\n")
    force(inner, "x.o", "z", ".gitignore")
    git(inner, "commit", "-qm", "one")
    top = make(tmp_path / "r", ["a.o", "b.o"])
    (top / ".gitignore").write_text("*.o\nsub\n")
    force(top, "a.o", ".gitignore")
    git(top, "submodule", "--quiet", "add", "-f", str(inner), "sub")
    git(top, "commit", "-qm", "one")
    write(top, ["sub/y.o", "sub/new"])
    expected = {b".gitignore", b".gitmodules", b"a.o", b"sub/.gitignore", b"sub/x.o", b"sub/z"}
    assert our_files(top) == expected  # `sub` is ignored, so of it only what is tracked
    git(top, "worktree", "add", "-q", str(tmp_path / "other"))
    write(tmp_path / "other", ["b.o"])
    assert our_files(tmp_path / "other") == {b".gitignore", b".gitmodules", b"a.o"}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_tracked_and_ignored_git_takes_the_same(tmp_path_factory, data):
    top = make(tmp_path_factory.mktemp("r"), [])
    part = st.sampled_from(["a", "b", "c.o", "d", "e.log", "f"])
    names = data.draw(st.lists(st.lists(part, min_size=1, max_size=3).map("/".join), min_size=1, max_size=10, unique=True))
    names = [name for name in names if not any(other.startswith(f"{name}/") for other in names)]
    write(top, names)
    rules = st.sampled_from(["*.o", "a", "a/", "/b", "b/*", "!c.o", "*", "!*/", "d/**", "*.log", "f/", "!a/d"])
    text = data.draw(st.lists(rules, max_size=4))
    (top / ".gitignore").write_text("\n".join(text))
    tracked = data.draw(st.lists(st.sampled_from(names), unique=True))
    if tracked:
        force(top, *tracked)
        git(top, "update-index", f"--index-version={data.draw(st.sampled_from([2, 4]))}")
        assert parse_index((top / ".git/index").read_bytes())[0] == listed(top)
    assert our_files(top) == git_takes(top)
    shutil.rmtree(top)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    top = make(tmp_path_factory.mktemp("whole"), ODD)
    force(top, *ODD)
    found = []
    for version in (2, 4):
        git(top, "update-index", f"--index-version={version}")
        found.append((top / ".git/index").read_bytes()[:-20])
    return found


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damage_that_no_checksum_tells_is_an_error_of_its_own_or_none(whole, data):
    one = bytearray(data.draw(st.sampled_from(whole)))
    for _ in range(data.draw(st.integers(1, 4))):
        one[data.draw(st.integers(0, len(one) - 1))] = data.draw(st.integers(0, 255))
    size = data.draw(st.integers(0, len(one)))
    try:
        paths, _ = parse_index(seal(bytes(one[:size])))
    except IndexDamagedError:
        return
    assert paths == sorted(paths)
