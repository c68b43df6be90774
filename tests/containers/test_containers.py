"""sshq on hosts in containers: a second kind of real host, made by an engine we did not write, with that engine's faults."""

import os

import pytest

import bed as beds
from hosts.ledger import SIGN, attempts_of, find_wrong, read_accounts, read_ledgers

CONFIG = "keepalive_interval: 1s\nkeepalive_count: 2\nreconcile_interval: 5s\nkill_wait: 1s\n"
WAIT = 'echo $$ >"$HOME/pid.$SLURM_JOB_ID"; until [ -e "$HOME/go.$SLURM_JOB_ID" ]; do sleep 0.05; done; echo ended || :'  # where a full disk takes no output
PATIENCE_S = 40


@pytest.fixture(scope="module")
def engine():
    reason = beds.why_no_containers()
    if reason:
        tiers = os.environ.get("SSHQ_REQUIRE_TIERS", "docker").replace(",", " ").split()
        pytest.skip(reason if "docker" in tiers else f"optional: {reason}")
    with beds.ContainerBed() as made:
        yield made


@pytest.fixture(scope="module")
def pair(engine):
    """Two hosts that the tests share: each leaves them as it found them."""
    return [engine.add("c1"), engine.add("c2")]


@pytest.fixture(scope="module")
def small(engine):
    """A host with little memory and a little file system."""
    return engine.add("c3", memory="96m", tmpfs={"/spool": "size=1m,mode=700,uid=1001"})


@pytest.fixture(scope="module")
def limited(small):
    """A job that will meet its limit, in an sshq of its own: limits are whole minutes, so it runs beside everything else."""
    with beds.Instance() as made:
        made.use([small], sshq_default_time="1")
        made.write_config(CONFIG)
        made.up()
        made.ready(timeout_s=PATIENCE_S)
        yield made, made.wrap(f"{SIGN}; exec sleep 600")


@pytest.fixture
def use(instance):
    """`use(hosts, …)`: they are ready, with empty ledgers."""

    def begin(hosts, **variables) -> None:
        for host in hosts:
            host.sh(f"rm -f {host.home}/ledger {host.home}/pid.* {host.home}/go.*")
        instance.use(hosts, **variables)
        instance.write_config(CONFIG)
        instance.up()
        instance.ready(timeout_s=PATIENCE_S)

    return begin


def begin_job(instance, host, *options) -> int:
    """Submit a job that waits until it is let go, and wait until it runs."""
    job = instance.wrap(f"{SIGN}; {WAIT}", "-w", host.name, *options)
    instance.wait_for(lambda: pid_of(host, job), PATIENCE_S, lambda: f"job {job} runs: {instance.out('why', str(job))}")
    instance.until_state(job, "RUNNING")
    return job


def pid_of(host, job) -> str:
    path = f"{host.home}/pid.{job}"
    return host.read(path).strip() if host.exists(path) else ""


def let_go(host, job) -> None:
    host.sh(f"touch {host.home}/go.{job}")


def until(instance, job, *states) -> str:
    return instance.until_state(job, *states, timeout_s=PATIENCE_S)


def is_flagged(instance, host) -> bool:
    return instance.out("sinfo", "-h", "-N", "-n", host.name, "-o", "%T").strip().endswith("*")


def outcomes(instance, job) -> list[str]:
    return [attempt["outcome"] for attempt in attempts_of(read_accounts(instance)[job])]


def assert_exactly_once(instance, hosts) -> None:
    assert find_wrong(read_ledgers(hosts), read_accounts(instance)) == []


@pytest.mark.usefixtures("limited")
def test_jobs_run_end_and_are_adopted_as_on_any_host(use, pair, instance):
    use(pair)
    one = pair[0]
    plain = instance.wrap(f"{SIGN}; hostname; echo odd >&2; exit 3", "-w", one.name)
    array = instance.submit("--array=0-5", "--wrap", f"{SIGN}; echo task $SLURM_ARRAY_TASK_ID")
    until(instance, plain, "FAILED")
    instance.wait_for(lambda: instance.read(f"slurm-{plain}.out") == f"{one.name}\nodd\n", PATIENCE_S, "its output came home")
    assert instance.out("sacct", "-n", "-P", "-X", "-o", "exitcode", "-j", str(plain)).strip() == "3:0"
    for task in range(6):
        until(instance, f"{array}_{task}", "COMPLETED")
        instance.wait_for(lambda name=f"slurm-{array}_{task}.out", t=task: instance.read(name) == f"task {t}\n", PATIENCE_S, "output")

    cancelled, kept = begin_job(instance, one), begin_job(instance, one)
    instance.out("scancel", str(cancelled))
    until(instance, cancelled, "CANCELLED")
    assert one.sh(f"kill -0 {pid_of(one, cancelled)}", check=False).returncode != 0
    instance.kill9()
    instance.up()
    instance.ready(timeout_s=PATIENCE_S)
    assert instance.state(kept) == "RUNNING"
    let_go(one, kept)
    until(instance, kept, "COMPLETED")
    assert outcomes(instance, kept) == ["exited"]
    said = instance.run("doctor", one.name)
    assert said.returncode == 0, said
    assert_exactly_once(instance, pair)


def test_a_paused_host_and_one_off_the_net_keep_their_jobs(use, pair, instance):
    use(pair)
    paused, unplugged = pair
    jobs = {host: begin_job(instance, host) for host in pair}
    pids = {host: pid_of(host, job) for host, job in jobs.items()}
    paused.pause()
    unplugged.unplug()
    try:
        for host in pair:
            instance.wait_for(lambda host=host: is_flagged(instance, host), PATIENCE_S, f"{host.name} is seen to be away")
            assert instance.state(jobs[host]) == "RUNNING"
    finally:
        paused.unpause()
        unplugged.plug()
    instance.ready(timeout_s=PATIENCE_S)
    for host, job in jobs.items():
        assert instance.state(job) == "RUNNING"
        assert pid_of(host, job) == pids[host]
        let_go(host, job)
        until(instance, job, "COMPLETED")
        assert outcomes(instance, job) == ["exited"]
    assert_exactly_once(instance, pair)


def test_a_killed_host_and_a_restarted_one_have_booted_and_their_jobs_run_again(use, pair, instance):
    use(pair)
    killed, restarted = pair
    again, once = begin_job(instance, killed), begin_job(instance, restarted, "--no-requeue")
    killed.reboot()
    restarted.restart()
    until(instance, once, "NODE_FAIL")
    let_go(killed, again)
    until(instance, again, "COMPLETED")
    assert outcomes(instance, again) == ["rebooted", "exited"]
    assert outcomes(instance, once) == ["rebooted"]
    assert_exactly_once(instance, pair)


def test_a_full_spool_drains_and_a_memory_limit_ends_the_job_that_breaks_it(use, small, instance):
    host = small
    use([host], sshq_spool="/spool", sshq_slots=4)
    bystander = begin_job(instance, host)
    greedy = instance.wrap(f"{SIGN}; exec tail /dev/zero")
    until(instance, greedy, "OUT_OF_MEMORY")
    host.sh("cat /dev/zero >/spool/filler", check=False)
    reason = "no space left for launches in the spool"
    instance.wait_for(lambda: reason in instance.out("sinfo", "-h", "-N", "-o", "%T %E"), PATIENCE_S, "the host is drained")
    waiting = instance.wrap(f"{SIGN}; true")
    let_go(host, bystander)
    until(instance, bystander, "COMPLETED")
    assert instance.state(waiting) == "PENDING"
    host.sh("rm /spool/filler")
    until(instance, waiting, "COMPLETED")
    assert_exactly_once(instance, [host])


def test_a_time_limit_ends_a_job(limited, small):
    instance, job = limited
    instance.until_state(job, "TIMEOUT", timeout_s=90)
    assert outcomes(instance, job) == ["exited"]
