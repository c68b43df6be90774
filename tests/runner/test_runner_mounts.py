"""The question about a directory, asked of the shells of nodes, and what an answer says."""

import os
import subprocess

import pytest

from sshq.runner.mounts import Place, encode_question, is_whole, parse_answer

SHELLS = [["sh"], ["bash", "--posix"], ["busybox", "sh"]]


@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
@pytest.mark.parametrize("name", ["plain", "with blank", "quote'\"$(touch pwned)", "\udcff", "-n"])
def test_a_shell_tells_where_a_directory_lies(tmp_path, shell, name):
    path = tmp_path / name
    path.mkdir()
    (tmp_path / "link").symlink_to(path)
    data = ask(shell, str(tmp_path / "link"))
    place = parse_answer(data, "0f")
    found = os.stat(path)
    assert place.present and not place.identity.is_known
    assert place.inode == found.st_ino
    assert place.changed_ns // 10**9 == found.st_ctime_ns // 10**9
    if place.changed_ns % 10**9:
        assert place.looks_as(Place(inode=found.st_ino, changed_ns=found.st_ctime_ns))
    assert os.listdir(tmp_path) == sorted([name, "link"]) or sorted(os.listdir(tmp_path)) == sorted([name, "link"])


def ask(shell, path):
    done = subprocess.run(shell, input=encode_question("0f", path), capture_output=True, check=True)
    assert is_whole(done.stdout, "0f")
    return done.stdout


def test_what_is_not_there_is_told_and_what_is_no_answer_says_nothing(tmp_path):
    assert parse_answer(ask(["sh"], str(tmp_path / "none")), "0f") == Place()
    assert parse_answer(b"motd\n\nSSHQ-MNT 0f\nat relative\nend 0f\n", "0f") == Place()
    with pytest.raises(ValueError, match="line's end"):
        encode_question("0f", "/a\nb")


def test_times_without_fractions_prove_nothing():
    whole = b"\nSSHQ-MNT 0f\nat /x\nis 12 2026-01-02 03:04:05%s +0000\nend 0f\n"
    coarse, fine = parse_answer(whole % b"", "0f"), parse_answer(whole % b".000000001", "0f")
    assert not coarse.looks_as(coarse)
    assert fine.looks_as(fine)
    assert not parse_answer(whole % b".000000000", "0f").looks_as(coarse)
    assert not Place().looks_as(Place())
