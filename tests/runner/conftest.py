"""A node of each kind of /bin/sh.  Where SSHQ_REQUIRE_TIERS names "shells", a missing shell is a failure."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from shell_node import REQUIRED, SHELLS, Node, Runner


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    tool = SHELLS[request.param][0]
    if not shutil.which(tool):
        if REQUIRED:
            pytest.fail(f"{tool} is required here: apt-get install {request.param}")
        pytest.skip(f"apt-get install {request.param}")
    return request.param


@pytest.fixture
def node(tmp_path: Path, shell: str) -> Iterator[Node]:
    with Node(tmp_path, shell) as node:
        yield node


@pytest.fixture
def runner(node: Node) -> Runner:
    runner = node.connect()
    assert runner.reserve().ok
    return runner


@pytest.fixture
def dash(tmp_path: Path) -> Iterator[Runner]:
    """One shell only, for what does not depend on it."""
    if not shutil.which("dash"):
        pytest.skip("apt-get install dash")
    with Node(tmp_path, "dash") as node:
        runner = node.connect()
        assert runner.reserve().ok
        yield runner
