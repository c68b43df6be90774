"""Machines that are not what they seem: declared dead and alive, answering as another, unkillable, edited behind our back."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from .ledger import LEDGER, SIGN, find_wrong, read_accounts, read_ledgers
from .test_host_states import QUICK_CONFIG, node_of, reason_of, state_of

WAITER = f'{SIGN}; echo $$ >"$HOME/pid"; until [ -e "$HOME/go" ]; do sleep 0.05; done; echo ended'


def start_waiter(instance, host, *options: str) -> int:
    job = instance.wrap(WAITER, "-w", host.name, *options)
    instance.until_state(job, "RUNNING")
    instance.wait_for(lambda: host.exists(f"{host.home}/pid") and host.read(f"{host.home}/pid").strip(), 10, "the job's pid file")
    return job


def is_alive(host) -> bool:
    pid = host.read(f"{host.home}/pid").strip()
    return host.sh(f"kill -0 {pid}", check=False).returncode == 0


def clone_key(source, target) -> None:
    """Hosts of one image: both show the same host key, as in many a lab."""
    for name in ("host_key", "host_key.pub"):
        target.write(f"/etc/ssh/{name}", source.read(f"/etc/ssh/{name}"), 0o600)
    target.sshd_reload()
    target.trust()


def until_unreachable(instance, host) -> None:
    def shown() -> str:
        return instance.out("sinfo", "-h", "-N", "-n", host.name, "-o", "%T").strip()

    instance.wait_for(lambda: shown().endswith("*"), 30, lambda: f"{host.name} unreachable: {shown()}")


def audited(instance, verb: str) -> list[dict]:
    with open(f"{instance.sshq_home}/state/audit.jsonl") as file:
        lines = [json.loads(line) for line in file]
    return [line for line in lines if verb in json.dumps(line)]


# ---- declared dead, and alive --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_host_declared_dead_that_lives_has_its_jobs_killed_before_its_slots_open(hosts, instance):
    gone, other = hosts(2)
    instance.use([gone, other], sshq_slots=1)
    instance.write_config(QUICK_CONFIG)
    instance.up()
    instance.ready()
    job = instance.wrap(WAITER, "-x", other.name, "--requeue=always")
    instance.until_state(job, "RUNNING")
    instance.wait_for(lambda: gone.exists(f"{gone.home}/pid"), 10, "it runs")
    gone.cut()
    until_unreachable(instance, gone)
    instance.out("scontrol", "update", f"nodename={gone.name}", "state=down", "reason=burnt")
    instance.wait_for(lambda: instance.state(job) == "PENDING", 10, "back in the queue")
    instance.out("scontrol", "update", f"jobid={job}", "excnodelist=")
    other.write(f"{other.home}/go", "")
    instance.until_state(job, "COMPLETED", timeout_s=20)
    assert is_alive(gone), "the old one runs on, as nobody can reach it"
    # Resumed while it is still away: it opens when the old attempt is proved gone, not before.
    instance.out("scontrol", "update", f"nodename={gone.name}", "state=resume")
    probe = instance.wrap('kill -0 "$(cat "$HOME/pid")" 2>/dev/null && echo overlap; true', "-w", gone.name)
    assert "unreachable" in instance.out("why", str(probe))
    gone.heal()
    instance.until_state(probe, "COMPLETED", timeout_s=60)
    assert not is_alive(gone)
    instance.wait_for(lambda: instance.run("logs", str(probe)).returncode == 0, 10, "output came home")
    assert instance.read(f"slurm-{probe}.out") == "", "its slot opened while the old attempt still ran"
    assert instance.state(job) == "COMPLETED"
    starts = [one for one in read_ledgers([gone, other]) if one.job == job]
    assert [one.node for one in starts] == [gone.name, other.name]
    assert audited(instance, "node reclaim"), "who was killed, and why, is in the audit file"


@pytest.mark.slow
def test_what_was_declared_dead_is_remembered_by_the_next_controller(hosts, instance):
    (gone,) = hosts()
    instance.use([gone], sshq_slots=1)
    instance.write_config(QUICK_CONFIG)
    instance.up()
    instance.ready()
    job = start_waiter(instance, gone, "--no-requeue")
    gone.cut()
    until_unreachable(instance, gone)
    instance.out("scontrol", "update", f"nodename={gone.name}", "state=down", "reason=burnt")
    instance.until_state(job, "NODE_FAIL")
    instance.kill9()
    gone.heal()
    instance.up()
    instance.wait_for(lambda: not is_alive(gone), 20, "the old attempt is killed")
    assert "burnt" in reason_of(instance, gone)
    instance.out("scontrol", "update", f"nodename={gone.name}", "state=resume")
    assert instance.run("sbatch", "--wait", "-w", gone.name, "--wrap", "true").returncode == 0
    assert instance.state(job) == "NODE_FAIL"


# ---- another machine answers ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_hosts_whose_addresses_are_swapped_keep_their_jobs_until_they_are_swapped_back(hosts, instance):
    one, two = hosts(2)
    clone_key(one, two)
    instance.use([one, two])
    instance.write_config(QUICK_CONFIG)
    instance.up()
    instance.ready()
    jobs = [start_waiter(instance, host) for host in (one, two)]
    swapped = {one.name: {"ansible_host": two.addr}, two.name: {"ansible_host": one.addr}}
    instance.use([one, two], host_vars=swapped)
    for host in (one, two):
        instance.wait_for(lambda h=host: state_of(instance, h) == "identity", 20, lambda h=host: reason_of(instance, h))
        assert reason_of(instance, host).startswith("IDENTITY CHANGED")
        assert f"sshq hosts accept {host.name}" in reason_of(instance, host)
    assert [instance.state(job) for job in jobs] == ["RUNNING", "RUNNING"]
    instance.use([one, two])
    instance.ready()
    assert [instance.state(job) for job in jobs] == ["RUNNING", "RUNNING"]
    for host in (one, two):
        host.write(f"{host.home}/go", "")
    for job in jobs:
        instance.until_state(job, "COMPLETED")
    assert find_wrong(read_ledgers([one, two]), read_accounts(instance)) == []


@pytest.mark.slow
def test_a_stranger_at_an_address_is_not_listed_until_it_is_accepted(hosts, instance):
    one, stranger = hosts(2)
    clone_key(one, stranger)
    one.write("/etc/machine-id", "1" * 32 + "\n")
    stranger.write("/etc/machine-id", "2" * 32 + "\n")
    instance.use([one])
    instance.write_config(QUICK_CONFIG)
    instance.up()
    instance.ready()
    job = start_waiter(instance, one)
    refused = instance.run("hosts", "accept", one.name)
    assert (refused.returncode, "its identity has not changed" in refused.stderr) == (1, True)
    known = f"{instance.home}/.ssh/known_hosts"
    with open(known, "a") as file:
        file.write(stranger.known_hosts_line)
    instance.write_inventory(open(instance.inventory).read().replace(one.addr, stranger.addr))
    instance.wait_for(lambda: state_of(instance, one) == "identity", 20, lambda: reason_of(instance, one))
    assert "another machine answers" in reason_of(instance, one)
    assert instance.state(job) == "RUNNING"
    spool = stranger.sh("ls -d /home/alice/.local/state/sshq/spool/*").stdout.strip()
    assert not stranger.exists(f"{spool}/floor"), "nothing was reserved there"
    assert "accepted" in instance.out("hosts", "accept", one.name)
    instance.until_state(job, "NODE_FAIL", timeout_s=20)
    instance.ready()
    assert audited(instance, "node accept")


# ---- what cannot be killed -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_host_that_cannot_kill_a_job_is_drained(hosts, instance):
    """A process of root's in the job's session: nobody but root can end it."""
    (host,) = hosts()
    host.sh('mkdir -p /usr/local/bin && cp "$(command -v unshare)" /usr/local/bin/become && chmod 4755 /usr/local/bin/become')
    instance.use([host])
    instance.write_config("kill_wait: 1s\n")
    instance.up()
    instance.ready()
    job = instance.wrap(
        f'{SIGN}; /usr/local/bin/become -S 0 -G 0 sh -c \'echo $$ >/tmp/root; exec sleep 600\' & '
        'echo $$ >"$HOME/pid"; wait'
    )
    instance.wait_for(lambda: host.exists("/tmp/root") and host.read("/tmp/root").strip(), 15, "root's process")
    pid = host.read("/tmp/root").strip()
    assert host.sh(f"stat -c %u /proc/{pid}").stdout == "0\n"
    instance.out("scancel", str(job))
    instance.until_state(job, "CANCELLED", timeout_s=60)
    assert f"{pid}:sleep" in json.dumps(read_accounts(instance)[job])
    assert reason_of(instance, host) == "Kill task failed"
    assert "State=IDLE+DRAIN" in node_of(instance, host)
    assert "Kill task failed" in instance.out("sinfo", "-R", "-h")
    assert audited(instance, "Kill task failed")
    waiting = instance.wrap("true")
    assert instance.state(waiting) == "PENDING"
    host.sh(f"kill -9 {pid}")
    instance.out("scontrol", "update", f"nodename={host.name}", "state=resume")
    instance.until_state(waiting, "COMPLETED")


# ---- an inventory that was edited while nobody looked --------------------------------------------------------------


@pytest.mark.slow
def test_an_account_changed_while_no_controller_ran_waits_for_the_jobs_of_the_old_one(hosts, instance):
    (host,) = hosts()
    host.sh("mkdir -p -m 700 /home/bob/.ssh && cp /home/alice/.ssh/authorized_keys /home/bob/.ssh/ && chown -R bob /home/bob/.ssh")
    instance.use([host])
    instance.up()
    instance.ready()
    job = start_waiter(instance, host)
    instance.down()
    instance.write_inventory(open(instance.inventory).read().replace("ansible_user: alice", "ansible_user: bob"))
    instance.up()
    instance.wait_for(lambda: state_of(instance, host) == "ready", 20, lambda: reason_of(instance, host))
    assert instance.state(job) == "RUNNING"
    host.write(f"{host.home}/go", "")
    instance.until_state(job, "COMPLETED")
    instance.wait_for(lambda: instance.run("sbatch", "--test-only", "--wrap", "true").returncode == 0, 10, "it takes jobs again")
    instance.ready()
    after = instance.wrap("id -un")
    instance.until_state(after, "COMPLETED")
    instance.wait_for(lambda: instance.read(f"slurm-{after}.out") == "bob\n", 10, lambda: instance.read(f"slurm-{after}.out"))


@pytest.mark.slow
def test_a_host_taken_out_while_no_controller_ran_ends_its_jobs_first(hosts, instance):
    stays, goes = hosts(2)
    instance.use([stays, goes])
    instance.up()
    instance.ready()
    job = start_waiter(instance, goes)
    instance.down()
    instance.use([stays])
    instance.up()
    instance.wait_for(lambda: "drain" in instance.out("sinfo", "-h", "-N", "-n", goes.name, "-o", "%T"), 20, "it drains")
    assert instance.state(job) == "RUNNING"
    goes.write(f"{goes.home}/go", "")
    instance.until_state(job, "COMPLETED")
    instance.wait_for(lambda: goes.name not in instance.out("sinfo", "-h", "-N", "-o", "%N"), 10, "it is gone")


# ---- words that come too early, and controllers that are too late ---------------------------------------------------


def test_a_refusal_that_comes_before_the_first_listing_is_no_refusal(hosts, instance):
    """A supervisor of an earlier time may speak into the new bell: the listing knows better."""
    (host,) = hosts()
    instance.use([host])
    instance.write_config(QUICK_CONFIG)
    instance.start_controller("hosts.started")
    instance.ready()
    job = instance.wrap(WAITER)
    instance.wait_for(lambda: not instance.status(), 20, "the controller died when the job started")
    instance.wait_for(lambda: host.exists(f"{host.home}/pid"), 10, "it runs")
    spool = host.sh("ls -d /home/alice/.local/state/sshq/spool/*").stdout.strip()
    launch = host.sh(f"basename -s .go {spool}/a/*.go").stdout.strip()
    shouting = (
        f"cd {spool}; i=0; while [ $i -lt 20000 ] && [ ! -e /tmp/quiet ]; do i=$((i+1)); "
        f'[ ! -p bell ] || timeout 1 sh -c "echo N {launch} space 1<>bell"; done'
    )
    host.sh(f"(setsid sh -c '{shouting}' >/dev/null 2>&1 </dev/null &)")
    instance.up()
    instance.ready()
    instance.until_state(job, "RUNNING")
    host.write("/tmp/quiet", "")
    host.write(f"{host.home}/go", "")
    instance.until_state(job, "COMPLETED")
    assert [s.job for s in read_ledgers([host])] == [job], "started twice"


def test_a_controller_that_lost_its_store_takes_no_generation(hosts, instance):
    (host,) = hosts()
    instance.use([host])
    instance.write_config(QUICK_CONFIG)
    instance.up()
    instance.ready()
    instance.wait_for(lambda: "backup written" in instance.logs(), 20, "its first chores are done: none of them may notice first")
    pid = instance.pid()
    spool = host.sh("ls -d /home/alice/.local/state/sshq/spool/*").stdout.strip()
    before = host.sh(f"ls {spool} | grep ^gen").stdout
    with sqlite3.connect(f"{instance.sshq_home}/state/sshq.db") as store:
        store.execute("UPDATE store SET epoch = epoch + 1")
    store.close()
    host.kill_sessions()
    instance.wait_for(lambda: not os.path.exists(f"/proc/{pid}") or not instance.status(), 20, "it ended")
    assert "another controller took over" in instance.logs()
    assert host.sh(f"ls {spool} | grep ^gen").stdout == before


# ---- numbers that run out ------------------------------------------------------------------------------------------

FEW = """
import sys
import sshq.core.model as model
model.SEQ_PER_GENERATION = 24
from sshq.controller.start import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_connection_that_has_numbered_many_launches_takes_a_new_generation_by_itself(loopback, instance):
    (host, *_) = loopback.hosts
    Path(host.home, LEDGER).unlink(missing_ok=True)  # of other tests on this machine
    instance.use([host])
    instance.write_config("keepalive_interval: 1s\nkeepalive_count: 2\nreconcile_interval: 5s\n")
    home = instance.sshq_home
    command = [sys.executable, "-c", FEW, "--state", f"{home}/state", "--socket", f"{home}/sock", "--home", home]
    command += ["--config", f"{home}/config.yaml", "--inventory", instance.inventory, "--foreground"]
    with open(f"{home}/few.log", "w") as log:
        controller = subprocess.Popen(command, env=instance.env, cwd=instance.work, stdout=log, stderr=log)
    try:
        instance.wait_for(lambda: instance.status(), 20, "it answers")
        instance.ready()
        job = instance.submit("--array=1-30", "--wrap", f"{SIGN}")
        instance.wait_for(
            lambda: instance.out("squeue", "-h", "-j", str(job)) == "", 60, lambda: instance.out("squeue")
        )
        assert len(re.findall("ready generation=", instance.logs() + open(f"{home}/state/controller.log").read())) > 1
        found = instance.out("sacct", "-n", "-X", "-P", "-j", str(job), "-o", "state").split()
        assert found == ["COMPLETED"] * 30
        assert find_wrong(read_ledgers([host]), read_accounts(instance)) == []
    finally:
        instance.down(check=False)
        controller.terminate()
        controller.wait(20)
