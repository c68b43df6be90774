"""The inventory edited while the controller runs."""

import os
import re

import pytest

from .ledger import SIGN, find_wrong, read_accounts, read_ledgers

WAITER = f'{SIGN}; until [ -e "$HOME/go" ]; do sleep 0.05; done; echo ended'


def nodes_of(instance) -> dict[str, str]:
    lines = instance.out("sinfo", "-h", "-N", "-o", "%N %T").splitlines()
    return dict(line.split() for line in lines)


def test_an_added_host_joins_within_seconds_and_takes_jobs(hosts, instance):
    first, second = hosts(2)
    instance.use([first], sshq_slots=1)
    instance.up()
    instance.ready()
    busy = instance.wrap(WAITER)
    waiting = instance.wrap("hostname")
    instance.until_state(busy, "RUNNING")
    assert instance.state(waiting) == "PENDING"
    instance.use([first, second], sshq_slots=1)
    instance.until_state(waiting, "COMPLETED", timeout_s=10)
    instance.wait_for(lambda: instance.read(f"slurm-{waiting}.out") == f"{second.name}\n", 10, "the output to be home")
    assert instance.state(busy) == "RUNNING"
    assert re.search(rf"inventory: .*{second.name}", instance.logs())
    first.sh(f"touch {first.home}/go")
    instance.until_state(busy, "COMPLETED")


def test_a_removed_host_without_jobs_is_gone_within_seconds(hosts, instance):
    first, second = hosts(2)
    instance.use([first, second])
    instance.up()
    instance.ready()
    instance.use([first])
    instance.wait_for(lambda: set(nodes_of(instance)) == {first.name}, 10, "the node is gone")
    instance.wait_for(lambda: not second.sh("pgrep -u alice sshd", check=False).stdout, 10, "the connection is closed")


def test_a_removed_host_with_a_job_drains_first(hosts, instance):
    stays, goes = hosts(2)
    instance.use([stays, goes])
    instance.up()
    instance.ready()
    job = instance.wrap(WAITER, "-w", goes.name)
    instance.until_state(job, "RUNNING")
    instance.use([stays])
    instance.wait_for(lambda: "drain" in nodes_of(instance).get(goes.name, ""), 10, lambda: f"draining: {nodes_of(instance)}")
    assert instance.state(job) == "RUNNING"
    done = instance.run("sbatch", "-w", goes.name, "--wrap", "true")
    if done.returncode == 0:
        assert instance.state(int(done.stdout.split()[-1])) == "PENDING"
    goes.sh(f"touch {goes.home}/go")
    instance.until_state(job, "COMPLETED")
    instance.wait_for(lambda: instance.read(f"slurm-{job}.out") == "ended\n", 10, "output came home")
    instance.wait_for(lambda: set(nodes_of(instance)) == {stays.name}, 10, "the node is gone")


def test_a_host_that_comes_back_while_it_drains_takes_jobs_again(hosts, instance):
    stays, goes = hosts(2)
    instance.use([stays, goes])
    instance.up()
    instance.ready()
    job = instance.wrap(WAITER, "-w", goes.name)
    instance.until_state(job, "RUNNING")
    instance.use([stays])
    instance.wait_for(lambda: "drain" in nodes_of(instance).get(goes.name, ""), 10, "draining")
    instance.use([stays, goes])
    instance.wait_for(lambda: nodes_of(instance).get(goes.name) == "mixed", 10, lambda: f"back: {nodes_of(instance)}")
    assert instance.run("sbatch", "--wait", "-w", goes.name, "--wrap", "true").returncode == 0
    goes.sh(f"touch {goes.home}/go")
    instance.until_state(job, "COMPLETED")


def test_a_host_removed_while_the_controller_is_down_still_ends_its_job(hosts, instance):
    stays, goes = hosts(2)
    instance.use([stays, goes])
    instance.up()
    instance.ready()
    job = instance.wrap(WAITER, "-w", goes.name)
    instance.until_state(job, "RUNNING")
    instance.kill9()
    text = open(instance.inventory).read()
    instance.use([stays])
    instance.up()
    instance.ready()
    # Nothing says how to reach it any more: the job stays what it was, visibly, until the host is back.
    assert instance.state(job) == "RUNNING"
    assert goes.name in nodes_of(instance)
    goes.sh(f"touch {goes.home}/go")
    instance.write_inventory(text)
    open(f"{instance.home}/.ssh/known_hosts", "a").write(goes.known_hosts_line)
    instance.until_state(job, "COMPLETED", timeout_s=15)


def test_a_changed_address_reconnects_and_keeps_the_job(hosts, instance):
    (host,) = hosts()
    instance.use([host], sshq_slots=2)
    instance.up()
    instance.ready()
    job = instance.wrap(WAITER)
    instance.until_state(job, "RUNNING")
    host.append_sshd_config("Port 2200\nPort 22\n")
    host.port = 2200
    instance.use([host], sshq_slots=3)
    instance.wait_for(lambda: "2200" in instance.out("hosts"), 10, "the new port is in force")
    instance.ready(timeout_s=10)
    assert instance.out("sinfo", "-h", "-N", "-o", "%c").strip() == "3"
    host.sh(f"touch {host.home}/go")
    instance.until_state(job, "COMPLETED")
    assert find_wrong(read_ledgers([host]), read_accounts(instance)) == []


def test_more_slots_need_no_new_connection(hosts, instance):
    (host,) = hosts()
    instance.use([host], sshq_slots=1)
    instance.up()
    instance.ready()
    busy = instance.wrap(WAITER)
    waiting = instance.wrap("true")
    instance.until_state(busy, "RUNNING")
    instance.use([host], sshq_slots=2)
    instance.until_state(waiting, "COMPLETED", timeout_s=10)
    assert instance.logs().count("ready generation=") == 1
    host.sh(f"touch {host.home}/go")
    instance.until_state(busy, "COMPLETED")


def test_a_bad_edit_leaves_the_old_inventory_in_force_and_is_shown(hosts, instance):
    (host,) = hosts()
    text = instance.use([host])
    instance.up()
    instance.ready()
    instance.write_inventory(text.replace("sshq_slots: 2", "sshq_slotz: 2"))
    instance.wait_for(lambda: "sshq_slotz" in everything_of(instance.run("sinfo")), 10, "sinfo shows the error")
    assert "sshq_slots" in everything_of(instance.run("sinfo"))  # the suggestion
    assert "inventory refused" in instance.logs()
    assert instance.run("sbatch", "--wait", "--wrap", "true").returncode == 0
    instance.write_inventory(text)
    instance.wait_for(lambda: "sshq_slotz" not in everything_of(instance.run("sinfo")), 10, "the error is gone")


def everything_of(done) -> str:
    return done.stdout + done.stderr


def test_the_same_machine_under_two_names_is_refused(hosts, instance):
    (host,) = hosts()
    text = instance.use([host])
    instance.up()
    instance.ready()
    block = re.search(rf"    {host.name}:\n(      .*\n)+", text)[0]
    instance.write_inventory(text.replace(block, block + block.replace(f"{host.name}:", "twin:")))
    instance.wait_for(lambda: "the same machine as" in instance.out("sinfo", "-R"), 10, "the reason is shown")
    instance.ready(host.name)
    assert nodes_of(instance)["twin"].endswith("*")
    assert instance.run("sbatch", "--wait", "--wrap", "true").returncode == 0
    instance.write_inventory(text.replace(f"{host.name}:", "twin:"))
    instance.wait_for(lambda: nodes_of(instance) == {"twin": "idle"}, 10, lambda: f"renamed: {nodes_of(instance)}")


def test_of_two_names_for_a_running_machine_the_older_keeps_it_and_its_jobs(hosts, instance):
    (host,) = hosts()
    text = instance.use([host])
    instance.up()
    instance.ready()
    job = instance.wrap(WAITER)
    instance.until_state(job, "RUNNING")
    block = re.search(rf"    {host.name}:\n(      .*\n)+", text)[0]
    instance.write_inventory(text.replace(block, block.replace(f"{host.name}:", "a-twin:") + block))
    instance.wait_for(lambda: "the same machine as" in instance.out("sinfo", "-R"), 10, "the reason is shown")
    instance.restart()
    instance.ready(host.name)
    assert nodes_of(instance)["a-twin"].endswith("*")
    assert instance.state(job) == "RUNNING"
    host.sh(f"touch {host.home}/go")
    instance.until_state(job, "COMPLETED")
    assert find_wrong(read_ledgers([host]), read_accounts(instance)) == []


@pytest.mark.parametrize("point", ["fleet.before_swap", "fleet.after_swap"])
def test_a_controller_killed_while_it_takes_an_edit_has_the_old_or_the_new(hosts, instance, point):
    first, second = hosts(2)
    instance.use([first])
    instance.write_config("reconcile_interval: 5s\n")
    controller = instance.start_controller(point)
    instance.wait_for(lambda: os.path.exists(f"{instance.sshq_home}/sock"), 15, "the socket")
    instance.ready()
    job = instance.wrap(WAITER)
    instance.until_state(job, "RUNNING")
    instance.use([first, second])
    controller.wait(15)
    assert os.path.exists(f"{instance.sshq_home}/state/crashed")
    instance.up()
    instance.ready()
    assert instance.state(job) == "RUNNING"
    first.sh(f"touch {first.home}/go")
    instance.until_state(job, "COMPLETED")
    assert find_wrong(read_ledgers([first, second]), read_accounts(instance)) == []
