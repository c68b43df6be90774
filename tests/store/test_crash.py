"""kill -9 in the middle of commits: what was acknowledged is there, whole; what was not is there whole or not at all."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sshq.core.model import ScriptBlob
from sshq.store.environ import Environments
from sshq.store.history import HistoryFilter
from sshq.store.jobs import Store
from store.build import make_job, make_launch, settle_launch

ROUNDS = 8
BATCH = 20


def write_for_ever(directory):
    """The subprocess: batch after batch, a line on stdout for each that is durable."""
    store = Store.open(directory, create=True)
    environments = Environments(Path(directory) / "environments")
    store.begin_epoch()
    first = store.load().next_job_id
    while True:
        rows = []
        for job_id in range(first, first + BATCH):
            rows += [make_job(job_id), make_launch(job_id), *settle_launch(job_id)]
        digest = environments.put(str(first).encode() * 1000)
        rows.append(ScriptBlob(digest=digest, data=bytes(5000)))
        store.commit(rows, first + BATCH)
        print(first, digest, flush=True)
        first += BATCH


def acknowledged_until_killed(directory, seed):
    """Run the writer, kill it somewhere after a few batches, and return what it had acknowledged."""
    command = [sys.executable, "-c", f"from store.test_crash import *; write_for_ever({str(directory)!r})"]
    path = os.pathsep.join(filter(None, sys.path))
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path})
    lines = [writer.stdout.readline() for _ in range(3)]
    for _ in range(random.Random(seed).randrange(2000)):  # somewhere within the next batches
        pass
    writer.send_signal(signal.SIGKILL)
    lines += writer.stdout.read().splitlines(keepends=True)
    assert writer.wait() == -signal.SIGKILL
    return [(int(first), digest) for first, digest in (line.split() for line in lines if line.endswith("\n"))]


@pytest.mark.parametrize("seed", range(2))
def test_every_acknowledged_row_outlives_kill_9(tmp_path, seed):
    acknowledged = []
    for round_number in range(ROUNDS // 2):
        acknowledged += acknowledged_until_killed(tmp_path, seed * 100 + round_number)
    assert len(acknowledged) >= 3 * ROUNDS // 2
    store = Store.open(tmp_path, create=False)  # quick_check, too
    assert store._connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    found = {item.job.job_id: item for item in store.history(HistoryFilter())}
    batches = {first + n for first, _ in acknowledged for n in range(BATCH)}
    assert batches <= found.keys()
    assert len(found) % BATCH == 0  # no half batch
    assert {len(item.accounting) for item in found.values()} == {1}
    loaded = store.load()
    assert (loaded.epoch, loaded.next_job_id, loaded.launches) == (ROUNDS // 2, max(found) + 1, [])
    environments = Environments(tmp_path / "environments")
    for first, digest in acknowledged:
        assert store.script(digest) == bytes(5000)
        assert environments.get(digest) == str(first).encode() * 1000
