"""States of a host: rest after refused logins, host keys, a gone agent, drain and down by an operator."""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest

QUICK_CONFIG = "keepalive_interval: 1s\nkeepalive_count: 2\n"
WAITER = 'echo $$ >"$HOME/pid"; until [ -e "$HOME/go" ]; do sleep 0.05; done; echo ended'


def state_of(instance, host) -> str:
    found = json.loads(instance.out("hosts", "--json"))["hosts"]
    return next(one["state"] for one in found if one["name"] == host.name)


def reason_of(instance, host) -> str:
    return instance.out("sinfo", "-h", "-N", "-n", host.name, "-o", "%E").strip()


def node_of(instance, host) -> str:
    return instance.out("scontrol", "show", "node", host.name)


def refused_logins(host) -> int:
    """How often its sshd saw a login fail."""
    log = host.read("/var/log/sshd.log") if host.exists("/var/log/sshd.log") else ""
    return len(re.findall(r"by authenticating user alice .*\[preauth\]", log))


def start_waiter(instance, host, *options) -> int:
    job = instance.wrap(WAITER, *options)
    instance.until_state(job, "RUNNING")
    instance.wait_for(lambda: host.exists(f"{host.home}/pid"), 10, "the job's pid file")
    return job


# ---- refused logins ------------------------------------------------------------------------------------------------


@pytest.fixture
def locked_out(hosts, instance):
    """A host that has refused us three times, with its own key file."""
    host = hosts.odd("bad_key")
    host.key = make_key(host, "own")
    instance.use([host])
    instance.up()
    instance.wait_for(lambda: "rests until" in reason_of(instance, host), 15, lambda: reason_of(instance, host))
    return host


def make_key(host, name: str) -> str:
    path = f"{host.dir}/{name}"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True)
    return path


def admit(host, key: str) -> None:
    host.write("/home/alice/.ssh/authorized_keys", Path(key + ".pub").read_text(), 0o600, "alice")


@pytest.mark.slow
def test_after_three_refused_logins_a_host_rests_until_it_is_retried(instance, locked_out):
    host = locked_out
    assert refused_logins(host) == 3
    assert state_of(instance, host) == "auth_failed"
    assert f"sshq hosts retry {host.name}" in reason_of(instance, host)
    assert instance.out("hosts", "retry", host.name) == f"{host.name}: retrying\n"
    instance.wait_for(lambda: refused_logins(host) == 4, 5, "one more try")
    instance.wait_for(lambda: state_of(instance, host) == "auth_failed", 5, "it rests again")
    admit(host, host.key)
    assert refused_logins(host) == 4
    instance.out("hosts", "retry")
    instance.ready(timeout_s=5)
    assert refused_logins(host) == 4
    assert reason_of(instance, host) == "none"


def test_a_resting_host_is_tried_once_more_when_its_key_file_changes(instance, locked_out):
    host = locked_out
    new = make_key(host, "new")
    admit(host, new)
    os.rename(new, host.key)
    instance.ready(timeout_s=5)
    assert refused_logins(host) == 3


def test_a_resting_host_is_tried_once_more_when_the_inventory_gives_it_another_key(instance, locked_out):
    host = locked_out
    host.key = make_key(host, "new")
    admit(host, host.key)
    instance.use([host])
    instance.ready(timeout_s=5)
    assert refused_logins(host) == 3


# ---- host keys -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_host_key_that_changes_while_running_is_not_accepted_until_it_is_trusted(hosts, instance):
    (host,) = hosts()
    instance.use([host])
    instance.write_config(QUICK_CONFIG)
    instance.up()
    instance.ready()
    job = start_waiter(instance, host)
    host.new_host_key()
    host.kill_sessions()
    instance.wait_for(lambda: state_of(instance, host) == "host_key", 10, lambda: reason_of(instance, host))
    assert reason_of(instance, host).startswith("HOST KEY CHANGED")
    assert f"sshq hosts trust {host.name}" in reason_of(instance, host)
    assert instance.state(job) == "RUNNING"
    instance.out("hosts", "retry", host.name)
    logged = instance.wait_for(lambda: state_of(instance, host) == "host_key" and instance.logs(), 5, "still refused")
    assert logged.count("ready generation=") == 1

    refused = instance.run("hosts", "trust", host.name)
    assert refused.returncode == 1
    assert "NOT the key that is recorded" in refused.stdout
    assert "not recorded" in refused.stderr
    assert instance.run("hosts", "trust", "-y", host.name).returncode == 1
    assert state_of(instance, host) == "host_key"

    shown = host.sh("ssh-keygen -lf /etc/ssh/host_key.pub").stdout.split()[1]
    trusted = instance.run("hosts", "trust", host.name, "--fingerprint", shown)
    assert trusted.returncode == 0, trusted
    assert f"recorded {shown}, in place of SHA256:" in trusted.stdout
    instance.ready(timeout_s=5)
    assert instance.state(job) == "RUNNING"
    host.write(f"{host.home}/go", "")
    instance.until_state(job, "COMPLETED", timeout_s=10)


def test_an_unknown_host_is_used_once_its_fingerprint_is_confirmed(hosts, instance):
    host = hosts.odd("unknown_host_key")
    instance.use([host])
    instance.up()
    assert state_of(instance, host) == "host_key"
    shown = host.sh("ssh-keygen -lf /etc/ssh/host_key.pub").stdout.split()[1]
    listed = instance.run("hosts", "trust", host.name)
    assert listed.returncode == 1
    assert shown in listed.stdout
    assert "--fingerprint" in listed.stderr
    wrong = instance.run("hosts", "trust", host.name, "--fingerprint", "SHA256:" + "A" * 43)
    assert (wrong.returncode, "none of its keys has that fingerprint" in wrong.stderr) == (1, True)
    assert instance.out("hosts", "trust", host.name, "--fingerprint", shown).endswith(f"{host.name}: recorded {shown}\n")
    instance.ready(timeout_s=5)
    assert instance.out("hosts", "trust", host.name) == f"{host.name}: its key is recorded already\n"


# ---- the agent -----------------------------------------------------------------------------------------------------


def test_a_host_whose_agent_is_gone_has_a_state_of_its_own_and_costs_it_no_login(hosts, instance):
    host = hosts.odd("agent")
    instance.use([host])
    instance.up()
    instance.ready()
    job = start_waiter(instance, host)
    host.processes[0].kill()
    host.processes[0].wait()
    host.kill_sessions()
    instance.wait_for(lambda: state_of(instance, host) == "agent", 10, lambda: reason_of(instance, host))
    assert "agent" in reason_of(instance, host)
    assert refused_logins(host) == 0
    assert instance.state(job) == "RUNNING"


# ---- operators -----------------------------------------------------------------------------------------------------


def test_a_drained_host_ends_its_jobs_takes_no_new_ones_and_shows_who_when_and_why(hosts, instance):
    (host,) = hosts()
    instance.use([host])
    instance.up()
    instance.ready()
    job = start_waiter(instance, host)
    before = int(time.time())
    instance.out("scontrol", "update", f"nodename={host.name}", "state=drain", "reason=new disk")
    waiting = instance.wrap("true")
    assert "draining" in instance.out("sinfo", "-h", "-N", "-o", "%T")
    row = instance.out("sinfo", "-R").splitlines()[1]
    reason, user, at, name = re.fullmatch(r"(.{20}) (\S+) +(\S+) (\S+)", row).groups()
    assert (reason.strip(), user, name) == ("new disk", "root", host.name)
    assert before <= time.mktime(time.strptime(at, "%Y-%m-%dT%H:%M:%S")) <= time.time()
    shown = node_of(instance, host)
    assert "State=MIXED+DRAIN" in shown
    assert f"Reason=new disk [root@{at}]" in shown
    host.write(f"{host.home}/go", "")
    instance.until_state(job, "COMPLETED", timeout_s=10)
    assert instance.state(waiting) == "PENDING"
    assert "drained" in instance.out("why", str(waiting))
    assert instance.out("sinfo", "-h", "-N", "-o", "%T").strip() == "drained"
    instance.out("scontrol", "update", f"nodename={host.name}", "state=resume")
    instance.until_state(waiting, "COMPLETED", timeout_s=10)
    assert instance.out("sinfo", "-R", "-h") == ""
    assert "Reason=" not in node_of(instance, host)


def test_a_drain_outlives_the_controller(hosts, instance):
    (host,) = hosts()
    instance.use([host])
    instance.up()
    instance.ready()
    instance.out("scontrol", "update", f"nodename={host.name}", "state=drain", "reason=new disk")
    row = instance.out("sinfo", "-R", "-h")
    instance.kill9()
    instance.up()
    instance.ready()
    assert instance.out("sinfo", "-R", "-h") == row


def test_a_state_without_a_reason_or_of_no_host_is_refused(hosts, instance):
    (host,) = hosts()
    instance.use([host])
    instance.up()
    for name, *words in (
        (host.name, "state=drain"), (host.name, "state=down"), (host.name, "state=upside", "reason=x"),
        ("nobody", "state=drain", "reason=x"),
    ):  # fmt: skip
        refused = instance.run("scontrol", "update", f"nodename={name}", *words)
        assert (refused.returncode, refused.stdout) == (1, ""), refused
        assert refused.stderr, words
    assert reason_of(instance, host) == "none"


@pytest.mark.slow
def test_down_asserts_the_death_of_a_host_that_cannot_be_reached(hosts, instance):
    gone, other = hosts(2)
    instance.use([gone, other])
    instance.write_config(QUICK_CONFIG)
    instance.up()
    instance.ready()
    final = start_waiter(instance, gone, "-w", gone.name, "--no-requeue")
    again = instance.wrap(f"hostname; {WAITER}", "-x", other.name, "--requeue=always")
    instance.until_state(again, "RUNNING")
    gone.cut()
    instance.wait_for(lambda: instance.out("sinfo", "-h", "-N", "-n", gone.name, "-o", "%T").strip().endswith("*"), 15, "unreachable")
    assert [instance.state(job) for job in (final, again)] == ["RUNNING", "RUNNING"]
    instance.out("scontrol", "update", f"nodename={gone.name}", "state=down", "reason=burnt")
    instance.until_state(final, "NODE_FAIL", timeout_s=5)
    assert instance.state(again) == "PENDING"
    assert "down*" in instance.out("sinfo", "-h", "-N", "-n", gone.name, "-o", "%T")
    instance.out("scontrol", "update", f"jobid={again}", "excnodelist=")
    other.write(f"{other.home}/go", "")
    instance.until_state(again, "COMPLETED", timeout_s=10)
    instance.wait_for(lambda: instance.read(f"slurm-{again}.out") == f"{other.name}\nended\n", 10, "the output to be home")
    # It was alive after all: that changes no verdict, and it takes jobs again when the operator says so.
    gone.heal()
    instance.wait_for(lambda: state_of(instance, gone) == "ready", 10, "connected again")
    gone.write(f"{gone.home}/go", "")
    assert [instance.state(job) for job in (final, again)] == ["NODE_FAIL", "COMPLETED"]
    assert instance.out("sinfo", "-h", "-N", "-n", gone.name, "-o", "%T %E").split() == ["down", "burnt"]
    instance.out("scontrol", "update", f"nodename={gone.name}", "state=resume")
    instance.ready(timeout_s=5)
    assert instance.run("sbatch", "--wait", "-w", gone.name, "--wrap", "true").returncode == 0
    assert [instance.state(job) for job in (final, again)] == ["NODE_FAIL", "COMPLETED"]
