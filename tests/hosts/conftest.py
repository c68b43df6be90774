"""Fixtures for the tests of one's commands from another machine."""

from collections.abc import Iterator

import pytest

import bed as beds


@pytest.fixture(scope="module")
def place(loopback: beds.LoopbackBed) -> Iterator[tuple[beds.Instance, beds.LoopbackHost]]:
    """A controller with one host, which shares all with the head, and the host by which it is reached."""
    head, node = loopback.add(2)
    with beds.Instance() as instance:
        instance.use([node], sshq_slots=4)
        instance.up()
        instance.ready()
        yield instance, head


@pytest.fixture
def laptop(place: tuple[beds.Instance, beds.LoopbackHost]) -> Iterator[beds.Laptop]:
    made = beds.Laptop(*place)
    yield made
    made.close()
