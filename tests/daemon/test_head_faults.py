"""The head's disk fails: the controller ends at once and says so, tries no sync again, and the next start is sane."""

from pathlib import Path

import pytest

from hosts.ledger import SIGN, find_wrong, read_accounts, read_ledgers
from store import head


@pytest.fixture
def far(loopback, instance):
    """An instance with two hosts behind real sshds; ledgers of earlier tests are gone."""
    hosts = loopback.hosts[:2]
    for host in hosts:
        Path(host.home, "ledger").unlink(missing_ok=True)
    instance.use(hosts)
    return instance


def again(instance) -> str:
    path = Path(instance.sshq_home, "again")
    return path.read_text() if path.exists() else ""


def assert_exactly_once(instance, loopback, jobs) -> None:
    for job in jobs:
        instance.until_state(job, "COMPLETED", timeout_s=60)
    starts = read_ledgers(loopback.hosts[:2])
    assert find_wrong(starts, read_accounts(instance)) == []
    assert {start.job for start in starts} >= set(jobs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("sync:3", "failed: disk I/O error (SQLITE_IOERR_FSYNC)"),
        ("write:20", "failed: disk I/O error (SQLITE_IOERR_WRITE)"),
        ("fsync:4", "cannot be written: Input/output error"),
    ],
)
def test_a_failing_disk_ends_the_controller_and_no_job(far, loopback, fault, said):
    controller = head.start(far, HEAD_FAULT=fault)
    assert controller.poll() is None, far.logs()
    Path(far.sshq_home, "armed").touch()
    jobs = []
    for number in range(40):  # each with an environment of its own, so that a file is written for it
        done = far.run("sbatch", "--parsable", "--export", f"ALL,N={number}", "--wrap", f"{SIGN}; echo ended")
        if done.returncode:
            break
        assert done.stdout, (done, far.logs())
        jobs.append(int(done.stdout))
    far.wait_for(lambda: controller.poll() is not None, 60, f"the controller ended; the last sbatch: {done}")
    assert controller.returncode == 1
    assert "Traceback" not in far.logs()
    log = Path(far.sshq_home, "head.log").read_text()
    assert said in log, log
    assert str(far.sshq_home) in log
    assert again(far) == ""  # not one more sync or write
    far.up()
    assert_exactly_once(far, loopback, jobs)
    assert far.out("squeue", "-h") == ""
