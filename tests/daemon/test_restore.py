"""`sshq restore`: an old backup in the place of the store loses no running job and starts none twice."""

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hosts.ledger import SIGN, find_wrong, read_accounts, read_ledgers


def back_up(instance):
    """What the controller does by the hour: a consistent copy of the live database."""
    target = f"{instance.dir}/backup.db"
    with closing(sqlite3.connect(f"{instance.sshq_home}/state/sshq.db")) as connection:
        connection.execute("VACUUM INTO ?", (target,))
    return target


def test_jobs_started_after_the_backup_are_adopted_and_pending_ones_are_held(instance):
    instance.up()
    instance.wrap("true", "--wait")
    job = instance.wrap(f"echo $SSHQ_ATTEMPT >>{instance.work}/ledger; until [ -e {instance.work}/end ]; do sleep 0.05; done", "-H")
    backup = back_up(instance)
    instance.out("scontrol", "release", str(job))
    instance.until_state(job, "RUNNING")
    instance.wait_for(lambda: instance.read("ledger"), 10, "the job wrote its ledger")
    instance.down()
    restored = instance.run("restore", backup)
    assert restored.returncode == 0, restored.stderr
    assert "jobs that were pending are held" in restored.stdout
    instance.up()
    instance.until_state(job, "RUNNING")
    assert instance.submit("--wrap", "true") > job + 1000  # numbers given out after the backup are not given out again
    with open(f"{instance.work}/end", "w"):
        pass
    instance.until_state(job, "COMPLETED")
    assert len(instance.read("ledger").split()) == 1
    rows = json.loads(instance.out("sacct", "--json", "-j", str(job)))["jobs"]
    assert len(rows) == 1


def test_a_restore_beside_a_running_controller_is_refused(instance):
    instance.up()
    refused = instance.run("restore", back_up(instance))
    assert refused.returncode == 1
    assert f"a controller is already running here: pid {instance.pid()}" in refused.stderr
    assert "sshq down" in refused.stderr


def test_what_is_no_backup_is_refused_and_nothing_changes(instance):
    instance.up()
    job = instance.submit("--wait", "--wrap", "true")
    instance.down()
    with open(f"{instance.dir}/junk", "w") as file:
        file.write("not a database\n")
    refused = instance.run("restore", f"{instance.dir}/junk")
    assert refused.returncode == 1 and "junk" in refused.stderr
    instance.up()
    assert instance.state(job) == "COMPLETED"


@pytest.mark.slow
def test_over_sshd_an_old_backup_loses_kills_and_doubles_nothing(loopback, instance):
    """Jobs that started, ended, were submitted or cancelled after the backup; the controller dies without a word."""
    hosts = loopback.hosts[:2]
    for host in hosts:
        Path(host.home, "ledger").unlink(missing_ok=True)
    left = lambda: {path for host in hosts for path in Path(host.vars["sshq_spool"]).glob("spool/*/a/*.exit")}  # noqa: E731
    others = left()  # of tests before this one
    instance.use(hosts, sshq_slots=4)
    instance.up()
    instance.ready()
    waits = f'{SIGN}; until [ -e "{instance.work}/go-$SLURM_JOB_NAME" ]; do sleep 0.05; done; echo ended'

    def go(name: str) -> None:
        Path(instance.work, f"go-{name}").touch()

    running = instance.wrap(waits, "-J", "running")
    ended = instance.wrap(waits, "-J", "ended")
    cancelled = instance.wrap(waits, "-J", "cancelled")
    for job in (running, ended, cancelled):
        instance.until_state(job, "RUNNING")
    started, over, idle = (instance.wrap(waits, "-H", "-J", name) for name in ("started", "over", "idle"))
    backup = back_up(instance)

    instance.out("scontrol", "release", f"{started},{over}")
    for job in (started, over):
        instance.until_state(job, "RUNNING")
    unknown = instance.wrap(waits, "-J", "unknown")
    instance.until_state(unknown, "RUNNING")
    go("ended")
    go("over")
    instance.out("scancel", str(cancelled))
    for job, state in ((ended, "COMPLETED"), (over, "COMPLETED"), (cancelled, "CANCELLED")):
        instance.until_state(job, state)
    instance.wait_for(lambda: len(left() - others) == 3, 20, "the hosts have forgotten all but the three that run")
    instance.kill9()
    os.unlink(f"{instance.sshq_home}/state/sshq.db")

    refused = instance.run("up")
    assert (refused.returncode, "is missing, but there was one" in refused.stderr) == (1, True), refused.stderr
    assert instance.run("restore", backup).returncode == 0
    instance.up()
    instance.ready()
    instance.until_state(running, "RUNNING")
    instance.until_state(started, "RUNNING")  # adopted
    assert instance.state(idle) == "PENDING"
    orphans = instance.wait_for(lambda: instance.status().get("orphans"), 30, "the job that the backup never knew is shown")
    assert unknown in [one["job_id"] for one in orphans]
    assert f"orphans     found on hosts, unknown to this store, left alone: job {unknown} on l" in instance.out("status")
    for name in ("running", "started", "unknown", "idle"):
        go(name)
    for job in (running, started):
        instance.until_state(job, "COMPLETED")
    instance.out("scontrol", "release", str(idle))
    instance.until_state(idle, "COMPLETED")
    for job in (ended, cancelled):  # running in the backup, and since then forgotten by their hosts
        instance.until_state(job, "NODE_FAIL")
    assert instance.state(over) == "PENDING"  # held: it may have run, as it has
    starts = read_ledgers(hosts)
    assert sorted(start.job for start in starts) == sorted([running, ended, cancelled, started, over, idle, unknown])
    accounts = read_accounts(instance)
    assert set(accounts) >= {running, ended, cancelled, started, over, idle}
    known = [start for start in starts if start.job in (running, started, idle)]
    assert find_wrong(known, {job: accounts[job] for job in (running, started, idle)}) == []
