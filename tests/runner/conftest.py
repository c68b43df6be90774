"""A node of each kind of /bin/sh.  Where SSHQ_REQUIRE_TIERS names "shells", a missing shell is a failure."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from shell_node import SHELLS, Node, Runner, need_shell


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    return need_shell(request.param)


@pytest.fixture
def node(tmp_path: Path, shell: str) -> Iterator[Node]:
    with Node(tmp_path, shell) as node:
        yield node


@pytest.fixture
def runner(node: Node) -> Runner:
    runner = node.connect()
    assert runner.reserve().ok
    return runner


@pytest.fixture(scope="module", params=SHELLS)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """One connection for all tests of a module, once a shell."""
    need_shell(request.param)
    with Node(tmp_path_factory.mktemp("shared"), request.param) as node:
        runner = node.connect()
        assert runner.reserve().ok
        yield runner
