"""The rules of ignore files against git's own answers: tables of what they promise, and whatever hypothesis makes up."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sshq.tree.walk import walk_sync

NAMES = [
    "a", "b", "ab", "a.o", "b.o", "foo", "foo.txt", ".hidden", "a b", "trail ", "#note", "!bang", "[x]", "x", "a*", "back\\slash", "A1", "é", "-n",
]  # fmt: skip
DIRS = ["", "d", "d/e", "d/e/f", "foo.d", "a-dir", "d/a-dir", ".dot"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    top = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "-q", str(top)], check=True, env=git_env(top))
    for directory in DIRS:
        (top / directory).mkdir(exist_ok=True)
        for name in NAMES:
            (top / directory / name).write_text("")
    (top / "link").symlink_to("d")
    return top


def git_env(top):
    return {"PATH": os.environ["PATH"], "HOME": str(top), "XDG_CONFIG_HOME": str(top), "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C.UTF-8"}


def git_files(top):
    done = subprocess.run(
        ["git", "ls-files", "-o", "--exclude-standard", "-z"], cwd=top, env=git_env(top), check=True, capture_output=True
    )
    return {name for name in done.stdout.split(b"\0") if name}


def our_files(top):
    return {entry.path for entry in walk_sync(os.fsencode(top)) if not entry.is_dir}


def write_rules(top, first, second=b"", third=b""):
    for path, text in ((".gitignore", first), ("d/.gitignore", second), ("d/e/.gitignore", third)):
        Path(top, path).write_bytes(text)


TABLE = [
    b"*.o", b"*.o\n!a.o", b"/a", b"a", b"d/", b"d/*\n!d/a", b"d/**", b"**/a", b"**/e/a", b"d/**/a", b"**", b"*", b"/*\n!/d", b"a-dir/",
    b"link/", b"link", b"\\#note", b"#note", b"\\!bang", b"!bang", b"trail\\ ", b"trail ", b"a b", b"[ab]", b"[!a]", b"[^a]", b"[a-c].o",
    b"\\[x\\]", b"[x]", b"[[:alpha:]]", b"[[:upper:]]*", b"[[:nope:]]", b"[", b"[a", b"[]-a]", b"a\\*", b"back\\\\slash", b"?", b"??",
    b"d/e", b"e/f", b"/e", b"d/e/", b"d/?/a", b"*d*/x", b"foo.*", b"**foo", b"foo**", b"d**/a", b"/**/a", b"d/**/", b"a/**/b", b"/", b"!",
    b"*\n!*/\n!*.txt", b"\xc3\xa9", b"\xef\xbb\xbfa", b"a\r\nb\r", b"foo\\", b".*", b"!.hidden\n.hidden", b"[a-\\c]", b"[\\]x]", b"***/a",
]  # fmt: skip


@pytest.mark.parametrize("text", TABLE)
def test_a_line_means_what_git_means(repository, text):
    write_rules(repository, text)
    assert our_files(repository) == git_files(repository)


def test_deeper_files_are_stronger_and_bring_back_only_what_its_directory_has(repository):
    write_rules(repository, b"*.o\nfoo.d/\n", b"!a.o\n/x\n", b"a.o\n!/x\n")
    Path(repository, "foo.d", ".gitignore").write_bytes(b"!a\n")
    try:
        assert our_files(repository) == git_files(repository)
    finally:
        os.unlink(repository / "foo.d/.gitignore")


def test_lines_of_the_repository_above_count_too_and_its_own_exclude_file(repository):
    write_rules(repository, b"d/e/a\n*.txt\n!d/foo.txt\n", b"/e/b\n")
    exclude = repository / ".git/info/exclude"
    exclude.write_text("x\n/d/e/ab\n")
    try:
        for below in ("d", "d/e"):
            expected = {name[len(below) + 1 :] for name in git_files(repository) if name.startswith(f"{below}/".encode())}
            assert our_files(repository / below) == expected
    finally:
        exclude.write_text("")


def test_our_own_file_is_stronger_than_gits(tmp_path):
    for name in ("kept.o", "lost.o", "big.dat", "plain"):
        (tmp_path / name).write_text("")
    (tmp_path / ".gitignore").write_text("*.o\n")
    (tmp_path / ".sshqignore").write_text("!kept.o\nbig.*\n")
    assert our_files(tmp_path) == {b".gitignore", b".sshqignore", b"kept.o", b"plain"}


_PIECES = st.sampled_from(
    ["*", "**", "?", "a", "b", "d", "e", "x", "foo", ".o", ".", "/", "//", "!", "#", "\\", "[ab]", "[!a]", "[^-a]", "[a-e]", "[", "]", "-", " ",
     "[[:alpha:]]", "[[:x", "\\*", ".txt", "a-dir", "**/", "/**", "d/", "e/f"]
)  # fmt: skip
_LINE = st.lists(_PIECES, min_size=1, max_size=6).map("".join)
_TEXT = st.lists(_LINE, min_size=1, max_size=4).map("\n".join)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(first=_TEXT, second=_TEXT, third=_TEXT)
def test_whatever_lines_there_are_git_leaves_out_the_same(repository, first, second, third):
    write_rules(repository, first.encode(), second.encode(), third.encode())
    assert our_files(repository) == git_files(repository)
