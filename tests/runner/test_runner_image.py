"""The image of a container job in its exit record, under each shell: told where it is a name, and nothing else gets in by it."""

import pytest
from shell_node import Runner

from sshq.runner import protocol as p

NAME = "ab12" * 16


@pytest.fixture
def runner(shared: Runner) -> Runner:
    shared.replies.clear()
    return shared


@pytest.mark.parametrize(
    ("make", "image"),
    [
        ("", ""), (f"echo {NAME} >$SSHQ_DIR.image", NAME), (f"echo {NAME} how=cancel status=9 >$SSHQ_DIR.image", ""),
        ("echo >$SSHQ_DIR.image", ""), ("true >$SSHQ_DIR.image", ""), ("mkdir $SSHQ_DIR.image", ""),
        (f"echo {NAME}{NAME}{NAME} >$SSHQ_DIR.image", ""), ("mkfifo $SSHQ_DIR.image", ""),
    ],
)  # fmt: skip
def test_an_image_is_told_and_nothing_else_gets_in_by_it(runner, make, image):
    call = runner.launch(f"{make}\nexit 3\n".encode())
    runner.wait_end(call.id)
    record = runner.list()[call.id].record
    assert (record.how, record.code, record.image) == ("exit", 3, image)
    runner.send(p.encode_ping(tag="p"))
    runner.wait(p.Pong)
