"""Tests side by side (pytest-xdist): who runs which test next, and which of them has the machine to itself.

Each worker is a session of its own in `bed` (a slot, with its addresses, links and directories), so workers meet no more than
separate runs do.  What is shared is the machine: a test that measures it carries the marker `alone` and waits until the
other workers of its run are between two tests.
"""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from typing import Any

# Their tests share something that takes seconds to make; one worker runs them all.
KEPT_TOGETHER = (
    "tests/daemon/test_limits.py", "tests/clients/test_clients.py", "tests/clients/test_everyday.py",
    "tests/containers/test_containers.py", "tests/containers/test_container_jobs.py",
    "tests/containers/test_container_engines.py",
    "tests/differential/test_differential.py", "tests/api/test_client.py",
    "tests/api/test_executor.py", "tests/api/test_pool.py", "tests/api/test_examples.py",
    "tests/api/test_executor_limits.py", "tests/api/test_interpreters.py",
)  # fmt: skip


@contextlib.contextmanager
def turn(*, alone: bool) -> Iterator[None]:
    """Hold the run's lock: shared, or `alone` exclusively.  Without workers there is nobody to wait for."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None:
        yield
        return
    lock = os.open(os.path.join(tempfile.gettempdir(), f"sshq-tests-{run}.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)  # not left to close: a test may have forked
        os.close(lock)


def forget_run(run: str) -> None:
    """Remove the lock's file, once the workers have gone."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(tempfile.gettempdir(), f"sshq-tests-{run}.lock"))


def make_scheduler(config: Any, log: Any) -> Any:
    """Tests are handed out in their order, one at a time, so that slow ones stay last and no worker sits on a queue of them."""
    from xdist.scheduler import LoadScopeScheduling

    class InOrder(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return path if path in KEPT_TOGETHER else nodeid

        def _reschedule(self, node: Any) -> None:
            if self.workqueue and self._pending_of(self.assigned_work[node]) > 1:  # a worker runs a test once it knows the next
                return
            super()._reschedule(node)

    config.option.loadscopereorder = False
    return InOrder(config, log)
