"""What goes wrong on a node while the way to it is fine: disks, memory, clocks, processes, files that hang."""


import pytest

from .ledger import SIGN, attempts_of, find_wrong, read_accounts, read_ledgers

CONFIG = "keepalive_interval: 1s\nkeepalive_count: 3\nreconcile_interval: 5s\nkill_wait: 2s\n"
WAIT = 'echo $$ >"$HOME/pid.$SLURM_JOB_ID"; until [ -e "$HOME/go" ]; do sleep 0.05; done; echo ended'
PATIENCE_S = 60  # for what takes two or three seconds on an idle machine


@pytest.fixture
def begin(hosts, instance):
    """`begin(spool=…, n=1)`: hosts that are ready, a spool on a file system of its own if asked for."""

    def start(n: int = 1, spool: str = "", slots: int = 8, **kwargs: object):
        made = hosts(n, **kwargs)
        for host in made:
            if spool:
                host.sh("mkdir -p /spool")
                host.tmpfs("/spool", mode="700", owner="alice", **({"size": "1m"} if spool == "small" else {"size": "8m", "inodes": 60}))
        instance.use(made, sshq_slots=slots, **({"sshq_spool": "/spool"} if spool else {}))
        instance.write_config(CONFIG)
        instance.up()
        instance.ready(timeout_s=PATIENCE_S)
        return made if n > 1 else made[0]

    return start


def start(instance, host, script=WAIT, *options) -> int:
    """Submit a job that names its process, and wait for that."""
    job = instance.wrap(f"{SIGN}; {script}", *options)
    instance.wait_for(lambda: host.exists(f"{host.home}/pid.{job}"), PATIENCE_S, lambda: f"job {job} runs: {instance.out('why', str(job))}")
    instance.until_state(job, "RUNNING", timeout_s=PATIENCE_S)
    return job


def pid_of(host, job) -> int:
    return int(host.read(f"{host.home}/pid.{job}"))


def supervisor_of(host, job) -> int:
    return int(host.sh(f"ps -o ppid= -p {pid_of(host, job)}").stdout)


def lives(host, pid) -> bool:
    return host.sh(f"ps -o stat= -p {pid}", check=False).stdout[:1] not in ("", "Z")


def let_go(host) -> None:
    host.sh(f"touch {host.home}/go")


def until(instance, job, *states) -> str:
    return instance.until_state(job, *states, timeout_s=PATIENCE_S)


def row(instance, job) -> str:
    return instance.out("sacct", "-n", "-P", "-X", "-o", "state,exitcode", "-j", str(job)).strip()


def outcomes(instance, job) -> list[str]:
    return [a["outcome"] for a in attempts_of(read_accounts(instance)[job])]


def node_reason(instance, host) -> str:
    return instance.out("sinfo", "-h", "-N", "-n", host.name, "-o", "%T %E").strip()


def assert_exactly_once(instance, *hosts) -> None:
    assert find_wrong(read_ledgers(hosts), read_accounts(instance)) == []


# ---- disks -----------------------------------------------------------------------------------------------------------

FULL = {
    "no space": ("small", "cat /dev/zero >>/spool/filler", "rm /spool/filler", "no space left for launches in the spool"),
    "no inodes": ("inodes", "i=0; while true >/spool/filler.$i; do i=$((i + 1)); done", "rm /spool/filler.*", "no file can be made in the spool"),
    "read-only": ("small", "mount -o remount,bind,ro /spool", "mount -o remount,bind,rw /spool", "read-only now"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("fault", FULL)
def test_a_node_whose_spool_takes_nothing_is_drained_until_it_does_and_its_jobs_end_as_they_do(begin, instance, fault):
    spool, break_it, mend_it, words = FULL[fault]
    bad, good = begin(2, spool=spool)
    # Nothing of it is open for writing in the spool, or that could not become read-only.
    job = start(instance, bad, WAIT, "-w", bad.name, "--anywhere", "--chdir", bad.home, "-o", f"{bad.home}/out")
    if fault == "read-only":  # the mount, not the disk: that is busy while somebody has a removed file open; and while one is written
        instance.wait_for(lambda: bad.sh(break_it, check=False).returncode == 0, PATIENCE_S)
    else:
        bad.sh(break_it, check=False)
    instance.wait_for(lambda: words in node_reason(instance, bad), PATIENCE_S, lambda: node_reason(instance, bad))
    assert node_reason(instance, bad).startswith("draining")
    elsewhere = instance.wrap(f"{SIGN}; true")
    until(instance, elsewhere, "COMPLETED")
    waiting = instance.wrap(f"{SIGN}; true", "-w", bad.name)
    assert instance.state(waiting) == "PENDING"
    assert words in instance.out("why", str(waiting))
    let_go(bad)
    until(instance, job, "COMPLETED")
    assert words in node_reason(instance, bad)
    bad.sh(mend_it)
    until(instance, waiting, "COMPLETED")
    instance.ready(timeout_s=PATIENCE_S)
    assert outcomes(instance, job) == ["exited"]
    assert_exactly_once(instance, bad, good)


@pytest.mark.slow
def test_a_launch_that_meets_a_full_spool_never_started_and_goes_elsewhere(begin, instance):
    bad, good = begin(2, spool="small")
    instance.write_config(CONFIG)
    instance.out("scontrol", "update", f"nodename={good.name}", "state=drain", "reason=test")
    bad.sh("head -c 1040000 /dev/zero >/spool/filler; dd if=/dev/zero of=/spool/filler bs=4k seek=250 2>/dev/null", check=False)
    jobs = [instance.wrap(f"{SIGN}; true") for _ in range(4)]
    instance.wait_for(lambda: "no space" in node_reason(instance, bad), PATIENCE_S, lambda: node_reason(instance, bad))
    assert {instance.state(job) for job in jobs} == {"PENDING"}
    instance.out("scontrol", "update", f"nodename={good.name}", "state=resume")
    for job in jobs:
        until(instance, job, "COMPLETED")
        assert set(outcomes(instance, job)) <= {"never_started", "exited"}
    assert not bad.exists(f"{bad.home}/ledger")
    assert_exactly_once(instance, bad, good)


@pytest.mark.slow
def test_a_job_whose_own_disk_is_full_fails_by_itself_and_is_recorded(begin, instance):
    host = begin()
    host.tmpfs("/data", size="64k", owner="alice")
    job = instance.wrap(f"{SIGN}; cat /dev/zero >/data/out || exit 9", "-o", "/data/log", "--chdir", "/data", "--anywhere")
    until(instance, job, "FAILED")
    assert row(instance, job) == "FAILED|9:0"
    flood = instance.wrap(f"{SIGN}; ulimit -f 8; yes; exit 7", "-o", f"{host.home}/flood", "-e", "/dev/null")
    until(instance, flood, "FAILED")
    assert outcomes(instance, flood) == ["exited"]
    assert_exactly_once(instance, host)
