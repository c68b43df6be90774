"""What batches that have not come to their end may hold, all together."""

import pytest

from sshq.errors import RefusedError

from .test_batches import controller, open_client, part

__all__ = ["controller"]  # the fixture


@pytest.mark.slow
def test_all_batches_together_have_a_bound_also_those_that_began_small(controller):
    """256 MiB; it was looked at when a batch began, and all of a crowd begin with nothing."""
    script = "#!/bin/sh\n" + "#" * ((4 << 20) - 100)
    clients = [open_client(controller) for _ in range(6)]
    try:
        for number, client in enumerate(clients):
            client.call("submit_many", part(0, 1, token=f"{number:016x}", more=True))
        refused = 0
        for number, client in enumerate(clients):
            for at in range(1, 14):
                more = part(at, 1, token=f"{number:016x}", more=True)
                more["descriptions"] = [{"name": "large", "script": script}]
                try:
                    client.call("submit_many", more)
                except RefusedError as error:
                    assert (error.code, error.hint) == ("not_now", "try again in a moment")
                    refused += 1
                    break
        assert refused == 2
    finally:
        for client in clients:
            client.close()
    with open_client(controller) as client:  # what was given up is forgotten
        controller.wait_for(lambda: "first_job_id" in try_batch(client), 20, "a batch to be taken")


def try_batch(client) -> dict[str, object]:
    try:
        return client.call("submit_many", part(token="f" * 16))
    except RefusedError:
        return {}
