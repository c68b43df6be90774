"""The head loses power while it works: what was answered is there, and every job still runs exactly once.

A real controller with its disk recorded (tests/store/disk.py), real sshds, real jobs.  The hosts keep their power.
"""

import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest

from hosts.ledger import SIGN, find_wrong, read_accounts, read_ledgers
from sshq.core.lifecycle import FINAL
from sshq.store.environ import Environments
from sshq.store.history import HistoryFilter
from sshq.store.jobs import Store
from sshq.store.reserve import SIZE as RESERVE
from store import head
from store.disk import Disk
from store.vfs import TappedVfs

CUTS = 30


def check(image: Path, promised: list[int]) -> None:
    """The store's own code finds every promised job in this disk, with its environment."""
    store = Store.open(image, create=True)
    try:
        assert store._connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found = {item.job.job_id: item for item in store.history(HistoryFilter())}
        assert set(promised) <= found.keys()
        loaded = store.load()
        environments = Environments(image / "environments")
        for job in loaded.jobs:
            if job.job_id in promised and job.state not in FINAL:
                environments.get(job.spec.environ)
                store.script(job.spec.script)
        accounted = {row.launch_id for item in found.values() for row in item.accounting}
        assert not accounted & {launch.id for launch in loaded.launches}
    finally:
        store.close()


@pytest.mark.slow
def test_what_was_accepted_outlives_the_power_of_the_head_and_runs_once(loopback, instance):
    hosts = loopback.hosts[:2]
    for host in hosts:
        Path(host.home, "ledger").unlink(missing_ok=True)
    instance.use(hosts)
    state = Path(instance.sshq_home, "state")
    ops_file = f"{instance.dir}/ops"
    promised: list[tuple[int, int]] = []  # the size of the record when `sbatch` had its answer, and the job
    for _round in range(2):
        known = os.path.getsize(ops_file) if os.path.exists(ops_file) else 0
        controller = head.start(instance, HEAD_OPS=ops_file)
        assert controller.poll() is None, instance.logs()
        for number in range(6):
            job = instance.submit("--export", f"ALL,N={number}", "--wrap", f"{SIGN}; echo ended")
            promised.append((os.path.getsize(ops_file), job))
        instance.until_state(promised[-6][1], "COMPLETED", timeout_s=60)
        os.kill(controller.pid, 9)
        controller.wait()
        if _round == 0:
            look_everywhere(ops_file, promised)
        # What a head that comes back finds: nothing that was not synced.
        disk = Disk()
        for op in head.read_ops(ops_file):
            disk.feed(op)
        shutil.rmtree(state)
        disk.show(state, random.Random(known), writes=0.0, names=0.0)
        os.unlink(ops_file)
        promised = [(0, job) for _, job in promised]
    instance.up()
    for _, job in promised:
        instance.until_state(job, "COMPLETED", timeout_s=60)
    accounts = read_accounts(instance)
    assert find_wrong(read_ledgers(hosts), accounts) == []
    assert sorted(accounts) == sorted(job for _, job in promised)


def look_everywhere(ops_file: str, promised: list[tuple[int, int]]) -> None:
    """Cut at points all over that life, and look at what each leaves."""
    ops = head.read_ops(ops_file)
    sizes = head.sizes_of(ops_file)
    chance = random.Random(len(ops))
    points = set(chance.sample(range(len(ops)), min(CUTS, len(ops)))) | {len(ops) - 1}
    disk = Disk()
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=shared, prefix="sshq-power-") as folder, TappedVfs(lambda *_: 0, sync=False):
        for number, op in enumerate(ops):
            disk.feed(op)
            if number not in points:
                continue
            image = Path(folder, "image")
            kept = chance.choice([0.0, 0.5, 1.0])
            disk.show(image, chance, writes=kept, names=chance.choice([0.0, kept]))
            os.close(os.open(image / "reserve", os.O_CREAT | os.O_WRONLY, 0o600))
            os.truncate(image / "reserve", RESERVE)  # 16 MiB a time is what would take longest here
            try:
                check(image, [job for size, job in promised if size <= sizes[number]])
            except BaseException as error:
                error.add_note(f"power cut after op {number} of {len(ops)}: {op.word} {op.path}")
                raise
            shutil.rmtree(image)
