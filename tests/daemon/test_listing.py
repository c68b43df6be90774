"""A long squeue is made and sent piece by piece: it comes whole, others are served meanwhile, and who stops reading holds nobody up."""

import contextlib
import socket
import time

import pytest

from sshq.wire.client import Client
from sshq.wire.codec import frame_json

from .hostile_frames import DESCRIPTION

JOBS = 6000
LISTING = {"format": "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R", "sort": "P,t,-p", "states": ["PENDING"]}


@pytest.fixture
def controller(instance, loopback):
    """A controller with a long queue, and a host whose partition is down, so that nothing starts."""
    instance.use(loopback.hosts[:1], sshq_state="down")
    instance.write_config("jobs_max: 20000\n")
    instance.up()
    instance.ready()
    with Client(f"{instance.sshq_home}/sock") as client:
        for start in range(0, JOBS, 1000):
            many = [DESCRIPTION | {"name": f"job{start + n}"} for n in range(1000)]
            client.call("submit_many", {"descriptions": many, "environ": {}, "token": f"{start:032x}"}, timeout_s=120)
    return instance


def ask(instance, method, **params) -> dict[str, object]:
    with Client(f"{instance.sshq_home}/sock") as client:
        return client.call(method, params, timeout_s=60)


@pytest.mark.slow
def test_a_long_squeue_comes_whole_and_in_order_while_others_are_served(controller):
    path = f"{controller.sshq_home}/sock"
    with Client(path) as reader, Client(path) as other:
        pieces = iter(reader.stream("jobs", {"filter": {}, "listing": LISTING}))
        text = str(next(pieces)["text"])
        assert 0 < text.count("\n") < JOBS // 2  # the rest is still to be made
        assert other.call("jobs", {"filter": {"refs": [[JOBS, None]]}})["count"] == 1
        assert other.call("status")["pid"] == controller.pid()
        text += "".join(str(piece["text"]) for piece in pieces)
    numbers = [int(line.split()[0]) for line in text.splitlines()]
    assert numbers == list(range(1, JOBS + 1))
    assert controller.out("squeue", "-h") == text  # and that is what squeue prints
    assert controller.out("squeue", "-h", "-S", "-i").splitlines() == text.splitlines()[::-1]
    assert controller.out("squeue").splitlines()[1:] == text.splitlines()


@pytest.mark.slow
def test_who_asks_for_a_long_squeue_and_does_not_read_holds_nobody_up(controller):
    asked = frame_json({"v": 1, "id": 1, "method": "jobs", "params": {"filter": {}, "listing": LISTING}})
    with contextlib.ExitStack() as deaf:
        for _ in range(20):
            connection = deaf.enter_context(socket.socket(socket.AF_UNIX))
            connection.connect(f"{controller.sshq_home}/sock")
            connection.sendall(asked * 10)
        began = time.monotonic()
        assert len(controller.out("squeue", "-h").splitlines()) == JOBS  # it sorts as well, after them
        assert ask(controller, "jobs", filter={"refs": [[7, None]]})["count"] == 1
        assert controller.wrap("true", "--hold") == JOBS + 1
        assert time.monotonic() - began < 25  # before any of those is shown the door for reading nothing
    assert len(controller.out("squeue", "-h").splitlines()) == JOBS + 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"format": "%V"}, "a field that cannot be shown"), ({"format": "%i" * 41}, "more than 40 columns"), ({"sort": "!"}, "the sort key !"),
     ({"sort": "w"}, "a sort key"), ({"format": "%i" * 2000}, "too long"), ({"rows": True}, "rows")],
)  # fmt: skip
def test_a_listing_that_cannot_be_made_is_refused(wrong, said):
    from sshq.controller.requests import check_request
    from sshq.errors import RefusedError

    with pytest.raises(RefusedError, match=said):
        check_request("jobs", {"filter": {}, "listing": LISTING | wrong})
