"""`submit_many`: all of a batch or nothing of it, in as many requests as it takes; sent again, it is the same batch."""

import signal
import threading
import time
from pathlib import Path

import pytest

from sshq.errors import RefusedError, UnreachableError
from sshq.wire.client import Client

from .hostile_frames import DESCRIPTION


@pytest.fixture
def controller(instance, loopback):
    """A controller with one connected host, whose partition is down: what is submitted is judged, and never starts."""
    instance.use(loopback.hosts[:1], sshq_state="down")
    instance.up()
    instance.ready()
    return instance


def open_client(instance) -> Client:
    return Client(f"{instance.sshq_home}/sock")


def part(at=0, count=2, *, token="0123456789abcdef", more=False, **changes) -> dict[str, object]:
    names = [{"name": f"j{at + n}", "script": f"#!/bin/sh\n# {at + n}\n"} for n in range(count)]
    return {
        "common": {**DESCRIPTION, **changes}, "descriptions": names, "environ": {"A": "1"}, "token": token, "at": at, "more": more,
    }  # fmt: skip


def names(client) -> list[str]:
    return sorted(str(job["name"]) for job in client.stream("jobs", {"filter": {}}))


def test_a_batch_in_parts_is_there_when_its_last_part_is(controller):
    with open_client(controller) as client, open_client(controller) as other:
        assert client.call("submit_many", part(0, more=True)) == {"kept": 2}
        assert client.call("submit_many", part(2, more=True)) == {"kept": 4}
        assert client.call("submit_many", part(2, more=True)) == {"kept": 4}  # sent twice, taken once
        assert names(other) == []
        first = client.call("submit_many", part(4, 1))["first_job_id"]
        jobs = {job["job_id"]: job["name"] for job in other.stream("jobs", {"filter": {}})}
        assert jobs == {first + n: f"j{n}" for n in range(5)}
        assert str(controller.run("scontrol", "write", "batch_script", str(first + 3), "-").stdout) == "#!/bin/sh\n# 3\n"


def test_a_token_that_is_called_fresh_twice_is_one_job_and_no_end_of_the_controller(controller):
    params = {"description": DESCRIPTION, "environ": {}, "token": "00112233445566778899", "fresh": True}
    with open_client(controller) as client:
        first = client.call("submit", params)["job_id"]
        assert client.call("submit", params)["job_id"] == first
        assert client.call("submit_many", part(token=params["token"]))["first_job_id"] == first
        assert len(names(client)) == 1


@pytest.mark.parametrize("how", ["by a batch", "before a restart"])
def test_a_token_that_is_wrongly_called_fresh_does_not_end_the_controller(controller, how):
    params = {"description": DESCRIPTION, "environ": {}, "token": "00112233445566778899", "fresh": True}
    with open_client(controller) as client:
        if how == "by a batch":
            client.call("submit_many", part(count=1, token=params["token"]))
        else:
            client.call("submit", params)
    if how == "before a restart":
        controller.kill9()
        controller.up()
    with open_client(controller) as client:
        client.call("submit", params)
    with open_client(controller) as client:
        assert len(names(client)) == 2  # who lies about it gets what was asked for


def test_a_batch_that_is_sent_again_is_the_same_whoever_sends_it(controller):
    with open_client(controller) as client:
        first = client.call("submit_many", part())["first_job_id"]
    controller.kill9()
    controller.up()
    with open_client(controller) as client:
        assert client.call("submit_many", part(more=True))["first_job_id"] == first
        assert client.call("submit_many", part())["first_job_id"] == first
        assert names(client) == ["j0", "j1"]
    answers = []

    def send() -> None:
        with open_client(controller) as client:
            answers.append(client.call("submit_many", part(0, 40, token="fedcba9876543210"))["first_job_id"])

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(answers)) == 1
    assert len(answers) == 8
    with open_client(controller) as client:
        assert len(names(client)) == 42


def test_what_has_no_end_is_forgotten_with_its_connection(controller):
    with open_client(controller) as client:
        client.call("submit_many", part(0, more=True))
    with open_client(controller) as client:
        with pytest.raises(RefusedError, match="the beginning of the batch is not here"):
            client.call("submit_many", part(2))
        assert names(client) == []
        assert client.call("submit_many", part(0))["first_job_id"] == 1
    environments = Path(controller.sshq_home, "state", "environments")
    assert len([one for one in environments.iterdir() if not one.name.startswith(".")]) == 1


def test_who_is_to_blame_is_told_and_nothing_is_taken(controller):
    with open_client(controller) as client:
        client.call("submit_many", part(0, more=True))
        client.call("submit_many", part(2, more=True, partition=["nowhere"]))
        told = client.call("submit_many", part(4))
        assert [(one["number"], "invalid partition" in one["error"]) for one in told["refused"]] == [(2, True), (3, True)]
        assert told["refused_count"] == 2
        assert names(client) == []
        # A malformed one is found with its part, and told at the end with the others.
        wrong = part(0)
        wrong["descriptions"][1]["array"] = "5-1"
        told = client.call("submit_many", wrong)
        assert [one["number"] for one in told["refused"]] == [1]
        assert "Invalid job array" in told["refused"][0]["error"]
        assert names(client) == []


def test_a_batch_has_its_bounds(controller):
    with open_client(controller) as client:
        for at in range(0, 10_000, 1000):
            client.call("submit_many", part(at, 1000, more=True))
        with pytest.raises(RefusedError) as refused:
            client.call("submit_many", part(10_000, 1))
        assert refused.value.code == "too_large"
        assert "10000 jobs" in refused.value.detail[0]
        assert names(client) == []


def test_three_hundred_at_once_are_all_served_and_keep_nobody_waiting(controller):
    ids: list[int] = []
    faults: list[BaseException] = []
    go, lock = threading.Barrier(301), threading.Lock()

    def submit(number: int) -> None:
        try:
            with open_client(controller) as client:
                go.wait(60)
                for turn in range(2):
                    params = {"description": {**DESCRIPTION, "name": f"c{number}-{turn}"}, "environ": {"A": "1"}, "token": f"{number:08x}{turn}"}
                    found = client.call("submit", params)["job_id"]
                    with lock:
                        ids.append(found)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(300)]
    for thread in threads:
        thread.start()
    with open_client(controller) as other:
        go.wait(60)
        longest = 0.0
        while any(thread.is_alive() for thread in threads):
            begun = time.monotonic()
            other.call("ping")
            longest = max(longest, time.monotonic() - begun)
        assert not faults
        assert sorted(ids) == list(range(1, 601))
        assert len(names(other)) == 600
        assert longest < 5  # by a machine under load; some 0.1 s on one that is not


def test_others_are_served_while_a_large_batch_is_taken(controller):
    with open_client(controller) as client, open_client(controller) as other:
        alone = client.call("submit", {"description": DESCRIPTION, "environ": {}})["job_id"]
        for at in range(0, 5000, 1000):
            client.call("submit_many", part(at, 1000, more=True))
        done = threading.Event()

        def finish() -> None:
            client.call("submit_many", part(5000, 1000))
            done.set()

        thread = threading.Thread(target=finish)
        thread.start()
        answers = 0
        while not done.is_set():
            assert [job["job_id"] for job in other.stream("jobs", {"filter": {"refs": [[alone]]}})] == [alone]
            answers += 1
        thread.join()
        assert answers > 10  # taken in one go, there were two or three: before, and after
        assert len(names(other)) == 6001


@pytest.mark.parametrize(("point", "taken"), [("submit.before_commit", False), ("submit.after_commit", True)])
def test_a_batch_whose_controller_is_killed_is_there_as_a_whole_or_not_at_all(instance, loopback, point, taken):
    instance.use(loopback.hosts[:1], sshq_state="down")
    controller = instance.start_controller(point)
    instance.ready()
    with open_client(instance) as client, pytest.raises(UnreachableError):
        client.call("submit_many", part(0, 600))
    assert controller.wait(30) == -signal.SIGKILL
    instance.up()
    with open_client(instance) as client:
        assert len(names(client)) == (600 if taken else 0)
        first = client.call("submit_many", part(0, 600))["first_job_id"]
        assert {job["job_id"]: job["name"] for job in client.stream("jobs", {"filter": {}})} == {first + n: f"j{n}" for n in range(600)}
