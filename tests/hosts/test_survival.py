"""What lives through what: jobs through cables, sshds and controllers; controllers through kill -9 at any point."""

import os

import pytest

from .ledger import SIGN, attempts_of, find_wrong, read_accounts, read_ledgers

# Runs until it is told to end; says who it is.
WAITER = f'{SIGN}; echo $$ >"$HOME/pid"; until [ -e "$HOME/go" ]; do sleep 0.05; done; echo ended'
QUICK_CONFIG = "keepalive_interval: 1s\nkeepalive_count: 2\nreconcile_interval: 5s\n"


@pytest.fixture
def host(hosts, instance):
    (made,) = hosts()
    instance.use([made])
    instance.write_config(QUICK_CONFIG)
    return made


def start_waiter(instance, host, *options) -> int:
    """Submit the waiter and return its job once it runs."""
    job = instance.wrap(WAITER, *options)
    instance.until_state(job, "RUNNING")
    instance.wait_for(lambda: host.exists(f"{host.home}/pid"), 10, "the job's pid file")
    return job


def let_go(host) -> None:
    host.sh(f"touch {host.home}/go")


def pid_of_job(host) -> int:
    return int(host.read(f"{host.home}/pid"))


def is_flagged(instance, host) -> bool:
    return instance.out("sinfo", "-h", "-N", "-o", "%T").strip().endswith("*")


def assert_exactly_once(instance, hosts) -> None:
    starts = read_ledgers(hosts)
    assert find_wrong(starts, read_accounts(instance)) == []


def assert_completed_once(instance, host, job) -> None:
    instance.until_state(job, "COMPLETED")
    instance.wait_for(lambda: instance.read(f"slurm-{job}.out") == "ended\n", 10, "output came home")
    assert [s.job for s in read_ledgers([host])].count(job) == 1
    assert_exactly_once(instance, [host])


# ---- the connection ------------------------------------------------------------------------------------------------


def test_a_job_runs_through_a_cut_cable_and_is_settled_soon_after(instance, host):
    instance.up()
    instance.ready()
    job = start_waiter(instance, host)
    host.cut()
    instance.wait_for(lambda: is_flagged(instance, host), 15, "the node is flagged unreachable")
    assert instance.state(job) == "RUNNING"
    note = instance.out("scontrol", "show", "job", str(job)) + instance.out("why", str(job))
    assert "unreachable since" in note, note
    let_go(host)
    host.heal()
    instance.wait_for(lambda: instance.state(job) == "COMPLETED", 20, "settled after the cable is back")
    assert_completed_once(instance, host, job)


def test_silence_without_a_reset_is_found_by_keepalive(instance, host):
    instance.up()
    instance.ready()
    job = start_waiter(instance, host)
    host.nft("drop")
    instance.wait_for(lambda: is_flagged(instance, host), 15, "the node is flagged unreachable")
    host.heal()
    instance.ready(timeout_s=20)
    assert instance.state(job) == "RUNNING"
    let_go(host)
    assert_completed_once(instance, host, job)


def test_a_job_outlives_its_sshd_and_its_sessions(instance, host):
    instance.up()
    instance.ready()
    job = start_waiter(instance, host)
    pid = pid_of_job(host)
    host.sshd_signal("KILL")
    host.kill_sessions()
    instance.wait_for(lambda: is_flagged(instance, host), 15, "the node is flagged unreachable")
    host.sh(f"kill -0 {pid}")
    host.sshd_start()
    instance.ready(timeout_s=20)
    assert instance.state(job) == "RUNNING"
    assert pid_of_job(host) == pid
    let_go(host)
    assert_completed_once(instance, host, job)


@pytest.mark.parametrize("options", [[], ["--anywhere"]], ids=["private", "anywhere"])
def test_a_job_submitted_while_its_host_is_away_waits_for_it_and_says_so(instance, host, options):
    instance.up()
    instance.ready()
    host.cut()
    instance.wait_for(lambda: is_flagged(instance, host), 15, "the node is flagged unreachable")
    job = instance.wrap(f"{SIGN}; echo ended", *options)
    assert "ReqNodeNotAvail" in instance.out("squeue", "-h", "-o", "%r", "-j", str(job))
    host.heal()
    assert_completed_once(instance, host, job)


# ---- the controller ------------------------------------------------------------------------------------------------


def test_after_kill_9_of_the_controller_the_same_process_is_adopted(instance, host):
    instance.up()
    instance.ready()
    job = start_waiter(instance, host)
    pid = pid_of_job(host)
    instance.kill9()
    host.sh(f"kill -0 {pid}")
    instance.up()
    instance.ready()
    assert instance.state(job) == "RUNNING"
    assert pid_of_job(host) == pid
    host.sh(f"kill -0 {pid}")
    let_go(host)
    assert_completed_once(instance, host, job)
    assert len(attempts_of(read_accounts(instance)[job])) == 1


def test_a_job_that_ended_while_the_controller_was_dead_is_settled_by_its_record(instance, host):
    instance.up()
    instance.ready()
    good = start_waiter(instance, host)
    bad = instance.wrap(f'{SIGN}; until [ -e "$HOME/go" ]; do sleep 0.05; done; exit 7')
    instance.until_state(bad, "RUNNING")
    instance.kill9()
    let_go(host)
    host.sh(f"while kill -0 {pid_of_job(host)} 2>/dev/null; do sleep 0.02; done")
    instance.up()
    assert_completed_once(instance, host, good)
    instance.until_state(bad, "FAILED")
    assert instance.out("sacct", "-n", "-P", "-X", "-o", "exitcode", "-j", str(bad)).strip() == "7:0"


def test_down_leaves_jobs_running_and_says_so(instance, host):
    instance.up()
    instance.ready()
    job = start_waiter(instance, host)
    pid = pid_of_job(host)
    said = instance.down()
    assert "1" in said.stdout + said.stderr, said
    assert "run" in said.stdout + said.stderr, said
    host.sh(f"kill -0 {pid}")
    assert instance.run("squeue").returncode == 1
    instance.up()
    instance.ready()
    assert instance.state(job) == "RUNNING"
    let_go(host)
    assert_completed_once(instance, host, job)


def test_a_job_on_the_head_itself_outlives_the_controller(instance):
    instance.up()
    instance.ready()
    script = "echo $$ >pid; until [ -e go ]; do sleep 0.05; done; echo ended"
    job = instance.wrap(script)
    instance.wait_for(lambda: instance.read("pid").strip(), 10, "the job's pid file")
    pid = int(instance.read("pid"))
    instance.kill9()
    os.kill(pid, 0)
    instance.up()
    instance.ready()
    assert instance.state(job) == "RUNNING"
    instance.down()
    os.kill(pid, 0)
    open(f"{instance.work}/go", "w").close()
    instance.up()
    instance.until_state(job, "COMPLETED")
    instance.wait_for(lambda: instance.read(f"slurm-{job}.out") == "ended\n", 10, "the output to be home")


# ---- the node ------------------------------------------------------------------------------------------------------


def test_a_reboot_requeues_a_job(instance, host):
    instance.up()
    instance.ready()
    job = start_waiter(instance, host)
    host.reboot()
    let_go(host)
    instance.until_state(job, "COMPLETED", timeout_s=30)
    attempts = attempts_of(read_accounts(instance)[job])
    assert [a["outcome"] for a in attempts] == ["rebooted", "exited"]
    assert instance.out("sacct", "-n", "-P", "-X", "-D", "-o", "state", "-j", str(job)).split() == ["NODE_FAIL", "COMPLETED"]
    assert_exactly_once(instance, [host])


def test_a_reboot_ends_a_job_that_must_not_run_again(instance, host):
    instance.up()
    instance.ready()
    job = start_waiter(instance, host, "--no-requeue")
    host.reboot()
    instance.until_state(job, "NODE_FAIL", timeout_s=30)
    assert [a["outcome"] for a in attempts_of(read_accounts(instance)[job])] == ["rebooted"]
    assert_exactly_once(instance, [host])


def test_a_reboot_while_the_controller_is_dead_is_noticed(instance, host):
    instance.up()
    instance.ready()
    job = start_waiter(instance, host, "--no-requeue")
    instance.kill9()
    host.reboot()
    instance.up()
    instance.until_state(job, "NODE_FAIL", timeout_s=20)
    assert_exactly_once(instance, [host])


def test_a_job_whose_supervisor_is_killed_runs_on_and_never_counts_as_completed(instance, host):
    instance.up()
    instance.ready()
    job = start_waiter(instance, host)
    pid = pid_of_job(host)
    parent = host.sh(f"ps -o ppid= -p {pid}").stdout.strip()
    host.sh(f"kill -9 {parent}")
    instance.wait_for(lambda: host.sh(f"ps -o stat= -p {parent}", check=False).stdout[:1] in ("", "Z"), 5, "the supervisor is gone")
    host.sh(f"kill -0 {pid}")
    assert instance.state(job) == "RUNNING"
    let_go(host)
    instance.until_state(job, "NODE_FAIL", timeout_s=20)
    assert [a["outcome"] for a in attempts_of(read_accounts(instance)[job])] == ["lost"]
