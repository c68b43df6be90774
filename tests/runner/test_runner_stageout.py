"""Reading a job's directory, in every shell: what a pattern matches, hostile names, sizes, checksums, bytes."""

import os
import secrets
import subprocess
from pathlib import Path

import pytest
from shell_node import SHELLS, need_shell

from sshq.core.digests import make_digest
from sshq.runner import stageout as so

NONCE = "0123456789abcdef"


@pytest.fixture(params=SHELLS)
def ask(request, tmp_path):
    """Ask a real shell of this kind: `ask(question)` returns the answer's reader and body."""
    shell = need_shell(request.param)
    argv = SHELLS[shell]

    def run(question: bytes, *, path: str | None = None, nonce: str = NONCE):
        env = {"PATH": path or os.environ["PATH"], "LANG": "C.UTF-8"}
        text = b"printf 'Welcome!\\n'\n" + so.stage_program() + question
        done = subprocess.run([need_path(argv[0]), *argv[1:]], input=text, capture_output=True, env=env, timeout=30, check=False)
        reader = so.AnswerReader(nonce)
        body = reader.feed(done.stdout)
        return body, reader

    run.shell = shell
    return run


def need_path(name: str) -> str:
    import shutil

    return shutil.which(name) or name


def listed(ask, root: Path, *patterns: str, private: bool = True) -> set[tuple[str, int, bytes]]:
    body, reader = ask(so.encode_list(nonce=NONCE, root=str(root), private=private, patterns=patterns))
    assert body is not None
    return {(e.kind, e.pattern, e.name) for e in so.parse_list(body, reader.count)}


def test_what_patterns_match(ask, tmp_path):
    root = tmp_path / "d"
    for name in ("out/a.csv", "out/b.csv", "out/.hidden", "out/deep/er/x", "top.txt", "-n", "a b  c", "[1].txt", "$(touch x)", "*"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "empty").mkdir()
    assert listed(ask, root, "out/*.csv") == {("f", 0, b"out/a.csv"), ("f", 0, b"out/b.csv")}
    whole = {("d", 0, b"out"), ("f", 0, b"out/a.csv"), ("f", 0, b"out/b.csv"), ("f", 0, b"out/.hidden"), ("d", 0, b"out/deep"),
             ("d", 0, b"out/deep/er"), ("f", 0, b"out/deep/er/x")}  # fmt: skip
    assert listed(ask, root, "out/") == listed(ask, root, "out") == whole
    assert listed(ask, root, "empty", "nothing", "top.txt/", "top.*") == {("d", 0, b"empty"), ("f", 3, b"top.txt")}
    names = ("-n", "a b  c", "[1].txt", "$(touch x)")
    assert listed(ask, root, *names) == {("f", i, name.encode()) for i, name in enumerate(names)}
    everything = {name for _, _, name in listed(ask, root, "./")}
    assert everything >= {b"out/deep/er/x", b"empty", b"-n", b"*", b"$(touch x)"}
    assert not (root / "x").exists()
    assert not any(name.startswith(b"./") or name == b"." for name in everything)


def test_names_no_shell_expects_come_whole_and_links_and_odd_files_are_named_not_followed(ask, tmp_path):
    root = os.fsencode(tmp_path / "d")
    os.mkdir(root)
    names = [b"line\nend 00000000 1", b"\xff\xfe", "umläut".encode(), b"x" * 255, b"tab\there", b"back\\slash", b"'q'\"", b"\n"]
    for name in names:
        Path(os.fsdecode(root + b"/" + name)).write_bytes(name)
    os.mkfifo(root + b"/fifo")
    os.symlink("/etc", root + b"/etc")
    os.symlink("nowhere", root + b"/dangling")
    os.mkdir(root + b"/sub")
    os.symlink("/etc/hostname", root + b"/sub/link")
    found = listed(ask, Path(os.fsdecode(root)), "*", "etc/host*", "etc/", "sub/link")
    assert {name for kind, _, name in found if kind == "f"} == set(names)
    assert {name for kind, pattern, name in found if kind == "l"} == {b"etc", b"dangling", b"sub/link"}
    assert ("o", 0, b"fifo") in found
    assert not [name for _, _, name in found if name.startswith((b"etc/", b"/"))]


def test_a_private_directory_that_was_replaced_by_a_link_is_gone(ask, tmp_path):
    (tmp_path / "d").symlink_to("/etc")
    with pytest.raises(so.GoneError):
        listed(ask, tmp_path / "d", "*")
    assert listed(ask, tmp_path / "d", "hostname", private=False) == {("f", 0, b"hostname")}
    with pytest.raises(so.GoneError):
        listed(ask, tmp_path / "none", "*", private=False)


@pytest.mark.parametrize("tools", ["all", "few"])
def test_sizes_sums_and_bytes(ask, tmp_path, tools):
    path = None
    if tools == "few":  # neither stat nor sha256sum
        path = str(tmp_path / "bin")
        os.mkdir(path)
        for tool in ("cat", "wc", "tail", "cksum", "head"):
            os.symlink(need_path(tool), f"{path}/{tool}")
    root = tmp_path / "d"
    root.mkdir()
    data = secrets.token_bytes(100_001)
    (root / "-big").write_bytes(data)
    (root / "-big").chmod(0o755)
    (root / "back\\slash").write_bytes(b"")
    names = [b"-big", b"missing", b"back\\slash"]
    body, _ = ask(so.encode_sizes(nonce=NONCE, root=str(root), private=True, names=names), path=path)
    sizes = so.parse_sizes(body, 3)
    assert sizes[0] == so.Size(100_001, 0o755)
    assert sizes[1] is None
    assert sizes[2].size == 0
    body, _ = ask(so.encode_sums(nonce=NONCE, root=str(root), private=True, names=names), path=path)
    sums = so.parse_sums(body, 3)
    assert sums[1] is None
    for expected, content in ((sums[0], data), (sums[2], b"")):
        digest = make_digest(expected)
        digest.update(content[:7])
        digest.update(content[7:])
        assert digest.hexdigest() == expected
    if tools == "all" or "busybox" not in ask.shell:  # which has them built in, or not
        assert (len(sums[0]) == 64) is (tools == "all")
    for offset in (0, 1, 100_000, 100_001):
        body, reader = ask(so.encode_read(nonce=NONCE, root=str(root), private=True, name=b"-big", offset=offset), path=path)
        assert reader.count == 1
        assert body == b"data\n" + data[offset:] + b"\n"
    body, _ = ask(so.encode_read(nonce=NONCE, root=str(root), private=True, name=b"-big", offset=10, size=30), path=path)
    assert body == b"data\n" + data[10:30] + b"\n"
    body, _ = ask(so.encode_sum(nonce=NONCE, root=str(root), private=True, name=b"-big", size=30), path=path)
    (expected,) = so.parse_sums(body, 1)
    digest = make_digest(expected)
    digest.update(data[:30])
    assert digest.hexdigest() == expected
    with pytest.raises(so.GoneError):
        ask(so.encode_read(nonce=NONCE, root=str(root), private=True, name=b"missing", offset=0), path=path)


def test_a_question_that_was_cut_off_is_not_obeyed(ask, tmp_path):
    question = so.encode_list(nonce=NONCE, root=str(tmp_path), private=True, patterns=["*"])
    body, _ = ask(question.removesuffix(b"END-" + NONCE.encode() + b"\n"))
    assert body is None


@pytest.mark.parametrize(
    ("body", "count"),
    [(b"f 0 3 abc\n", 2), (b"f 0 4 abc\n", 1), (b"f 0 2 abc\n", 1), (b"x 0 3 abc\n", 1), (b"f 0 3 abc", 1), (b"f 0 abc\n", 1),
     (b"f 0 99999 a\n", 1)],
)  # fmt: skip
def test_a_list_that_is_not_whole_is_void(body, count):
    with pytest.raises(so.StageError):
        so.parse_list(body, count)


@pytest.mark.parametrize("body", [b"1 644\n", b"1 644\n2 999\n", b"x 644\n1 644\n", b"1 644\n2 644"])
def test_sizes_that_do_not_fit_are_void(body):
    with pytest.raises(so.StageError):
        so.parse_sizes(body, 2)


def test_the_answer_may_come_byte_by_byte_behind_any_noise():
    text = b"motd\nSSHQ-OUT 00\n\nSSHQ-OUT " + NONCE.encode() + b"\nf 0 1 a\nend " + NONCE.encode() + b" 1\nrest"
    for step in (1, 7, len(text)):
        reader, body = so.AnswerReader(NONCE), None
        at = 0
        while body is None:
            body = reader.feed(text[at : at + step])
            at += step
        assert (body, reader.count) == (b"f 0 1 a\n", 1)
        assert so.parse_list(body, 1)[0].name == b"a"
    with pytest.raises(so.StageError):
        so.AnswerReader(NONCE).feed(b"x" * 70_000)
