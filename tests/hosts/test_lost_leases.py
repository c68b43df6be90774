"""`sbatch --lease`: a job whose node is cut off ends there by itself, and runs again elsewhere without a word from that node."""

import json
import time

import pytest

from bed.oracle import SIGN, collect, judge, read_marks

from .ledger import attempts_of, read_accounts

CONFIG = "keepalive_interval: 1s\nkeepalive_count: 2\nreconcile_interval: 5s\nkill_wait: 1s\nlease_min: 5s\n"
LEASE_S = 20  # four listings
RUN = f"{SIGN}until [ -e $HOME/go ]; do mark beat; sleep 0.2; done"
PATIENCE_S = 60
MOMENT_S = 5  # on a busy machine


def begin_job(instance, host, *options) -> int:
    """A job that begins on this host and may go anywhere when it runs again."""
    for other in instance.nodes:
        instance.out("scontrol", "update", f"nodename={other}", *(["state=resume"] if other == host.name else ["state=drain", "reason=test"]))
    job = instance.wrap(RUN, f"--lease={LEASE_S}s", *options)
    instance.until_state(job, "RUNNING")
    return job


def node_of(instance, job) -> str:
    return instance.out("squeue", "-h", "-j", str(job), "-o", "%N").strip()


def last_beat(host, job) -> float:
    return max((mark.at for mark in read_marks(host) if mark.job == job), default=0.0)


def first_beat(host, job) -> float:
    return min((mark.at for mark in read_marks(host) if mark.job == job), default=0.0)


@pytest.mark.slow
def test_jobs_of_hosts_that_are_not_heard_from_end_there_and_run_again_elsewhere(hosts, instance):
    """Four hosts: one cut off, one frozen, one whose jobs are renewed through a restart of the controller, one free."""
    made = cut, frozen, heard, free = hosts(4)
    instance.use(made, sshq_slots=2)
    instance.write_config(CONFIG)
    instance.up()
    instance.ready()
    moved, stays, thawed, kept = (
        begin_job(instance, cut), begin_job(instance, cut, "--no-requeue"), begin_job(instance, frozen), begin_job(instance, heard)
    )  # fmt: skip
    for host in made:
        instance.out("scontrol", "update", f"nodename={host.name}", "state=resume")
    cut.cut()
    frozen.freeze()
    instance.kill9()  # the next controller counts all leases from its own beginning
    instance.up()
    instance.ready(heard.name, free.name)
    assert [instance.state(job) for job in (moved, stays, thawed, kept)] == ["RUNNING"] * 4

    # The node ends it at the end of the lease; only later it may start elsewhere.
    instance.until_state(stays, "NODE_FAIL", timeout_s=PATIENCE_S)
    assert cut.sh("pgrep -u alice -f script", check=False).stdout == ""
    for job in (moved, thawed):
        instance.wait_for(lambda job=job: node_of(instance, job) in (heard.name, free.name), PATIENCE_S, "it runs elsewhere")
    others = [heard, free]
    moved_at = min(filter(None, (first_beat(host, moved) for host in others)))
    assert moved_at - last_beat(cut, moved) > 5
    assert instance.state(kept) == "RUNNING"
    assert node_of(instance, kept) == heard.name  # two leases old by now

    # Back, and the records of both change nothing.  What was frozen wakes together with its supervisor, so it lives for a moment.
    cut.heal()
    thawed_at = time.time()
    frozen.thaw()
    instance.ready(timeout_s=PATIENCE_S)
    instance.wait_for(lambda: frozen.sh("pgrep -u alice -f script", check=False).stdout == "", PATIENCE_S, "nothing of it is left")
    assert last_beat(frozen, thawed) < thawed_at + MOMENT_S
    for host in made:
        host.sh(f"touch {host.home}/go")
    for job in (moved, thawed, kept):
        instance.until_state(job, "COMPLETED", timeout_s=PATIENCE_S)
    rows = read_accounts(instance)
    assert [[a["outcome"] for a in attempts_of(rows[job])] for job in (moved, stays, thawed, kept)] == [
        ["lease_ended", "exited"], ["lease_ended"], ["lease_ended", "exited"], ["exited"]
    ]  # fmt: skip

    def wrong():
        faults = {"cable": 1, "freeze": 1, "kill": 1}
        found = judge(collect(instance, made, {job: 1 for job in (moved, stays, thawed, kept)}, faults))
        return [v for v in found if not (v.kind == "doubled" and v.text.startswith(f"job {thawed}:"))
                and not (v.kind == "alive_after_end" and f"job {thawed} " in v.text)]  # fmt: skip

    instance.wait_for(lambda: not wrong(), PATIENCE_S, lambda: f"{wrong()}")


def test_a_lease_that_is_too_short_or_no_time_is_refused(instance):
    instance.up()
    for text, words in (("4m", "--lease is at least 5m here"), ("soon", "Invalid --lease specification"), ("0m", "Invalid --lease")):
        done = instance.run("sbatch", f"--lease={text}", "--wrap", "true")
        assert done.returncode in (1, 255) and words in done.stderr, done
    job = instance.wrap("true", "--lease=1h")
    instance.until_state(job, "COMPLETED")
    assert json.loads(instance.out("sacct", "--json"))["jobs"][0]["state"]["current"] == "COMPLETED"
