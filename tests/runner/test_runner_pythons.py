"""A node asked for its interpreters, under every shell: what is there says what it is, what hangs or is none holds up nothing."""

import os
import sys
from pathlib import Path

import pytest
from shell_node import Node, Runner

from sshq.runner import protocol as p
from sshq.runner.pythons import encode_pythons, read_pythons


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    (tmp_path / "tools").mkdir()
    return tmp_path / "tools"


@pytest.fixture
def node(tmp_path: Path, shell: str, tools: Path):
    with Node(tmp_path, shell, env={"PATH": f"{tools}:{os.environ['PATH']}"}) as node:
        yield node


def look(runner: Runner, candidates, names=()) -> list:
    runner.send(encode_pythons(tag="p", names=names, candidates=candidates))
    return read_pythons(runner.wait(p.FactsReply, lambda r: r.tag == "p").facts)


def test_what_is_there_says_what_it_is(runner, tools):
    def put(name: str, text: str) -> str:
        (tools / name).write_text("#!/bin/sh\n" + text)
        (tools / name).chmod(0o755)
        return name

    own = tools / "odd name's $(python)"
    own.symlink_to(sys.executable)
    put("liar", "echo sshq python cpython 3.11.1; seq 500 2>/dev/null")
    put("broken", "exit 1")
    found = look(runner, [str(own), "python3-none", "liar", "broken", "/etc/passwd"])
    version = ".".join(map(str, sys.version_info[:3]))
    assert [(one.path, one.version, one.implementation) for one in found] == [
        (str(own), version, sys.implementation.name), (str(tools / "liar"), "3.11.1", "cpython"),
    ]  # fmt: skip
    (found,) = look(runner, [sys.executable], ["pytest", "no-such-distribution"])
    assert found.packages == {"pytest": pytest.__version__}
    assert not list(runner.node.spool.glob("gpu.*"))


def test_a_call_that_was_cut_off_does_nothing_and_odd_names_are_refused(runner):
    runner.send(b"call_pythons p 0 python3 END-q\n")
    runner.send(b"call_pythons p 9 python3 END-p\n")
    assert look(runner, []) == []
    with pytest.raises(ValueError, match="distribution"):
        encode_pythons(tag="p", names=["a b"], candidates=["x"])
