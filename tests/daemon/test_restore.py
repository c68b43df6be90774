"""`sshq restore`: an old backup in the place of the store loses no running job and starts none twice."""

import json
import sqlite3
from contextlib import closing


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
