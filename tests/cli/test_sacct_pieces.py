"""sacct of many jobs: printed as the answer comes, whoever reads it slowly, and of a controller of the release before too."""

import threading

from sshq.controller.requests import check_request

from .conftest import make_job

WORDS = ["sacct", "-a", "-n", "-X", "-P", "-o", "JobID,JobName"]


def rows_of(params, numbers, name):
    view = make_job(name=name) | {"launched": True}
    return [[(view | {"job_id": number})[column] for column in params["columns"]] for number in numbers]


def lines_of(numbers, name):
    return [f"{number}|{name}" for number in numbers]


def test_lines_are_printed_before_the_last_has_come(place, controller):
    has_printed = threading.Event()

    async def answer(params, stream):
        await stream.rows(rows_of(params, range(1, 2001), "early"))
        assert await controller.loop.run_in_executor(None, has_printed.wait, 20)
        await stream.rows(rows_of(params, range(2001, 2004), "late"))
        return {"count": 2003}

    controller.answers["history"] = answer
    with place.start(*WORDS) as process:
        first = process.stdout.readline()
        has_printed.set()
        out, errors = process.stdout.read(), process.stderr.read()
    assert (first, errors, process.returncode) == ("1|early\n", "", 0)
    assert out.splitlines() == [*lines_of(range(2, 2001), "early"), *lines_of(range(2001, 2004), "late")]


def test_a_pager_that_waits_keeps_no_controller_waiting(place, controller):
    is_sent = threading.Event()
    name = "ü" * 400

    async def answer(params, stream):
        for start in range(1, 20_001, 500):
            await stream.rows(rows_of(params, range(start, start + 500), name))
        is_sent.set()
        return {"count": 20_000}

    controller.answers["history"] = answer
    with place.start(*WORDS) as process:
        assert is_sent.wait(60)
        out, errors = process.communicate(timeout=60)
    assert (errors, process.returncode) == ("", 0)
    assert out.splitlines() == lines_of(range(1, 20_001), name)


def test_a_pager_behind_squeue_keeps_no_controller_waiting(place, controller):
    is_sent = threading.Event()
    pieces = [f"{number} {'ü' * 4000}\n" * 20 for number in range(200)]

    async def answer(_params, stream):
        for piece in pieces:
            await stream.items([{"text": piece}])
        is_sent.set()
        return {"count": len(pieces)}

    controller.answers["jobs"] = answer
    with place.start("squeue", "-h") as process:
        assert is_sent.wait(60)
        out, errors = process.communicate(timeout=60)
    assert (errors, process.returncode) == ("", 0)
    assert out == "".join(pieces)


def test_an_older_controller_is_asked_for_whole_jobs(sshq, controller):
    async def answer(params, stream):
        if "columns" in params:
            check_request("steps", {"columns": params["columns"]})  # which has none, and says so as each request does
        await stream.items([make_job(job_id=number, name="old") for number in (1, 2)])
        return {"count": 2}

    controller.answers["history"] = answer
    done = sshq(*WORDS)
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.splitlines() == lines_of((1, 2), "old")
    assert ["columns" in params for params in controller.params("history")] == [True, False]
