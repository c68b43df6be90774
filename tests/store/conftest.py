import pytest

from sshq.store.jobs import Store


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def store(state):
    """A new store, taken over."""
    made = Store.open(state, create=True)
    made.begin_epoch()
    yield made
    made.close()
