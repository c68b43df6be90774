"""The head's disk is full: nothing new is taken in, what runs is cancelled and ends as ever, and room heals it."""

import contextlib
import os
import subprocess
from pathlib import Path

import pytest

from hosts.ledger import SIGN, find_wrong, read_accounts, read_ledgers

RESERVE = 16 << 20


@pytest.fixture
def crowded(loopback, instance):
    """An instance whose state directory is a file system of 96 MiB, with two hosts behind real sshds."""
    if os.geteuid() != 0:
        pytest.skip("optional: needs root to mount a small file system")
    state = Path(instance.sshq_home, "state")
    state.mkdir(mode=0o700)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m,mode=700", "sshq-test", state], check=False, capture_output=True)
    if done.returncode:
        pytest.skip(f"optional: no mount here: {done.stderr.decode().strip()}")
    for host in loopback.hosts[:2]:
        Path(host.home, "ledger").unlink(missing_ok=True)
    instance.use(loopback.hosts[:2])
    yield instance
    instance.run("down")
    subprocess.run(["umount", "-l", state], check=True)


def fill(instance) -> None:
    """To the last byte, whatever was freed meanwhile."""
    state = Path(instance.sshq_home, "state")
    with contextlib.suppress(OSError), open(state / "ballast", "ab") as file:
        while True:
            found = os.statvfs(state)
            os.posix_fallocate(file.fileno(), file.seek(0, 2), max(1, found.f_bavail * found.f_frsize))


def refuse(instance) -> list[int]:
    """Until a submission is refused (the disk is looked at once a second); returns those that were not."""
    taken = []
    while (done := instance.run("sbatch", "--parsable", "--wrap", f"{SIGN}; echo ended")).returncode == 0:
        taken.append(int(done.stdout))
        assert len(taken) < 50
    assert done.returncode == 1
    assert "no space is left for the state of the controller" in done.stderr, done.stderr
    assert "hint: free 32 MiB where its state is (sshq status)" in done.stderr  # it is refused while df shows some
    assert "Traceback" not in done.stderr
    return taken


@pytest.mark.slow
def test_a_full_disk_stops_new_work_and_only_that(crowded, loopback):
    reserve = Path(crowded.sshq_home, "state", "reserve")
    waiter = f'{SIGN}; until [ -e "{crowded.work}/go" ]; do sleep 0.05; done; echo ended'
    crowded.up()
    crowded.ready()
    ends, cancelled, adopted = (crowded.wrap(waiter) for _ in range(3))
    held = crowded.wrap(f"{SIGN}; echo ended", "-H")
    for job in (ends, cancelled, adopted):
        crowded.until_state(job, "RUNNING")
    assert reserve.stat().st_size == RESERVE

    fill(crowded)
    taken = refuse(crowded)
    crowded.out("scancel", str(cancelled))
    crowded.until_state(cancelled, "CANCELLED")
    assert not reserve.exists()  # that is what it was cancelled in
    crowded.kill9()  # it comes up again on the full disk, too
    crowded.up()
    crowded.ready()
    taken += refuse(crowded)
    assert [crowded.state(job) for job in (ends, adopted, held)] == ["RUNNING", "RUNNING", "PENDING"]
    Path(crowded.work, "go").touch()
    for job in (ends, adopted, *taken):
        crowded.until_state(job, "COMPLETED")

    Path(crowded.sshq_home, "state", "ballast").unlink()
    after = crowded.wait_for(lambda: crowded.run("sbatch", "--parsable", "--wrap", f"{SIGN}; echo ended").stdout, 30, "accepted again")
    assert reserve.stat().st_blocks * 512 >= RESERVE
    crowded.out("scontrol", "release", str(held))
    for job in (held, int(after)):
        crowded.until_state(job, "COMPLETED")
    accounts = read_accounts(crowded)
    assert sorted(accounts) == sorted([ends, cancelled, adopted, held, *taken, int(after)])
    assert find_wrong(read_ledgers(loopback.hosts[:2]), accounts) == []


@pytest.mark.slow
def test_where_not_even_the_reserve_is_left_everything_waits_for_room_and_says_so(crowded, loopback):
    waiter = f'{SIGN}; until [ -e "{crowded.work}/go" ]; do sleep 0.05; done; echo ended'
    state = Path(crowded.sshq_home, "state")
    crowded.up()
    crowded.ready()
    jobs = [crowded.wrap(waiter) for _ in range(2)]
    many = crowded.submit("--array", "0-99", "-H", "--wrap", f"{SIGN}; true")
    for job in jobs:
        crowded.until_state(job, "RUNNING")
    pid = crowded.pid()
    (state / "reserve").unlink()
    asking, looking = [], []

    def ask_once_more() -> str:
        fill(crowded)
        asking.append(crowded.start("scontrol", "update", f"jobid={many}_[0-99]", f"comment={len(asking)}"))
        looking.extend(crowded.start("squeue", "-h") for _ in range(4))  # some ask before it is known that there is no room
        return full_said(crowded)

    said = crowded.wait_for(ask_once_more, 60, "it says that the disk is full")
    assert f"no space left for the store {state}/sshq.db" in said
    assert f"hint: df -h {state}" in said
    for one in looking:  # and are told so too, long before there is
        one.communicate(timeout=45)
    assert crowded.run("sacct", "-n", "-X").returncode == 0  # what is stored can be read
    Path(crowded.work, "go").touch()
    (state / "ballast").unlink()
    assert [one.communicate(timeout=60) and one.returncode for one in asking].count(0) >= 1
    for job in jobs:
        crowded.until_state(job, "COMPLETED")
    assert crowded.pid() == pid
    crowded.out("scancel", str(many))
    assert find_wrong(read_ledgers(loopback.hosts[:2]), read_accounts(crowded)) == []
    assert "Traceback" not in crowded.logs(1000)


def full_said(instance) -> str:
    done = instance.run("squeue")
    return done.stderr if done.returncode else ""
