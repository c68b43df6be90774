"""`sshq relay` as a process: what it answers to lines that are wrong, and whose files it touches."""

import json
import subprocess
import sys

import pytest


@pytest.fixture
def relay(place):
    started = subprocess.Popen(
        [sys.executable, "-m", "sshq.cli.main", "relay"], env=place.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert started.stdout.readline() == b"\n"
    started.about = json.loads(started.stdout.readline().removeprefix(b"sshq-relay "))
    yield started
    started.stdin.close()
    assert (started.wait(10), started.stderr.read()) == (0, b"")


def ask(relay, line):
    relay.stdin.write((line if isinstance(line, bytes) else json.dumps({"relay": 1, **line}).encode()) + b"\n")
    relay.stdin.flush()
    return json.loads(relay.stdout.readline())


@pytest.mark.parametrize("line", [b"", b"nonsense", b"[1]", b'{"relay":1,"relay":1}', b"\xff\xfe"])
def test_what_is_no_line_of_ours_ends_it_with_a_word(relay, line):
    assert ask(relay, line)["error"].startswith("no line of sshq: ")
    assert relay.stdout.read() == b""


@pytest.mark.parametrize(
    "words",
    [{"op": "read"}, {"op": "read", "path": "/etc/passwd", "offset": "x"}, {"op": "directory"}, {"op": "sees"}, {"op": "lacking", "directory": 3},
     {"op": "list", "path": "/etc"}, {"op": "unheard of"}, {}],
)  # fmt: skip
def test_wrong_words_are_answered_and_the_next_ones_heard(relay, words):
    assert "error" in ask(relay, words)
    assert "error" not in ask(relay, {"op": "hello"})


def test_another_version_is_told_and_not_obeyed(relay):
    assert ask(relay, {"relay": 2, "op": "hello"})["error"] == "version"


def test_it_makes_and_removes_only_below_its_own_directory(relay, tmp_path):
    away, outside = relay.about["away"], tmp_path / ".sshq" / "kept"
    outside.parent.mkdir()
    outside.write_text("kept")
    assert ask(relay, {"op": "directory", "path": f"{tmp_path}/made"}) == {"proof": None}
    assert ask(relay, {"op": "directory", "path": f"{away}/lap/../../made"}) == {"proof": None}
    made = ask(relay, {"op": "directory", "path": f"{away}/lap/w/.sshq"})["proof"]["path"]
    ask(relay, {"op": "remove", "paths": [str(outside), f"{made}/../../../.sshq/x", f"{made}/absent"]})
    assert outside.read_text() == "kept"


def test_a_nonce_goes_with_the_relay(place, relay):
    directory = ask(relay, {"op": "directory", "path": f"{relay.about['away']}/lap/w"})["proof"]
    shown = ask(relay, {"op": "nonce", "proof": directory})["proof"]
    with open(shown["nonce_path"], encoding="ascii") as file:
        assert file.read() == shown["nonce"]
    relay.stdin.close()
    relay.wait(10)
    with pytest.raises(FileNotFoundError):
        open(shown["nonce_path"], encoding="ascii")
