"""What happens to processes of a node that sshq did not ask for: killed, starved, mistaken, hanging, their spool or clock taken away."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bed.faults import HERE

from .ledger import SIGN, read_ledgers
from .test_node_faults import (
    PATIENCE_S,
    WAIT,
    assert_exactly_once,
    begin,
    let_go,
    lives,
    outcomes,
    pid_of,
    row,
    start,
    supervisor_of,
    until,
)

__all__ = ["begin"]
DAY_S = 86400


def spool_of(instance, host) -> str:
    found = re.findall(rf"host={host.name} ready .* spool=(\S+)", instance.logs())
    return found[-1]


def test_a_job_that_kills_all_it_may_is_lost_alone(begin, instance):
    """`kill -9 -1`: job, supervisor, runner and login of that account die; another account's processes do not."""
    host = begin()
    stranger = int(host.ssh("sleep 4000 </dev/null >/dev/null 2>&1 & echo $!", user="bob").stdout)
    other = start(instance, host)
    job = start(instance, host, 'echo $$ >"$HOME/pid.$SLURM_JOB_ID"; until [ -e "$HOME/shoot" ]; do sleep 0.05; done; kill -9 -1')
    host.sh(f"touch {host.home}/shoot")
    for one in (job, other):
        until(instance, one, "NODE_FAIL")
        assert outcomes(instance, one) == ["lost"]
    assert lives(host, stranger)
    until(instance, instance.wrap(f"{SIGN}; true"), "COMPLETED")
    assert_exactly_once(instance, host)


TAKE = """
import os, sys
wanted = int(sys.argv[1])
for _ in range(200):
    open("/proc/sys/kernel/ns_last_pid", "w").write(str(wanted - 1))
    pid = os.fork()
    if pid == 0:
        if os.getpid() != wanted:
            os._exit(0)
        os.setgid(1001)
        os.setuid(1001)
        os.setsid()
        os.execvp("sleep", ["sleep", "4000"])
    if pid == wanted:
        sys.exit(0)
    os.waitpid(pid, 0)
sys.exit("no process would take this number")
"""


def test_strangers_under_our_old_numbers_are_neither_signalled_nor_adopted(begin, instance):
    host = begin()
    job = start(instance, host)
    names = host.sh(f"ls {spool_of(instance, host)}").stdout.split()
    runner = next(int(name.split(".")[1]) for name in names if name.startswith("r."))
    reader = next(int(name.split(".")[1]) for name in names if name.startswith("c."))
    mine = [supervisor_of(host, job), pid_of(host, job)]
    instance.kill9()
    host.kill_sessions()
    for pid in mine:
        host.sh(f"kill -9 {pid}", check=False)
    host.sh(f"kill -9 {runner} {reader}", check=False)
    numbers = [*mine, runner, reader]
    instance.wait_for(lambda: not any(host.exists(f"/proc/{pid}") for pid in numbers), PATIENCE_S, "all of them gone and reaped")
    for pid in sorted(numbers, reverse=True):  # who takes one is itself given the next
        host.sh(f"python3 -c '{TAKE}' {pid} </dev/null >/tmp/take 2>&1")
    instance.up()
    until(instance, job, "NODE_FAIL")
    instance.run("scancel", str(job))
    until(instance, instance.wrap(f"{SIGN}; true"), "COMPLETED")
    assert outcomes(instance, job) == ["lost"]
    for pid in numbers:
        assert host.read(f"/proc/{pid}/cmdline").startswith("sleep\0004000"), pid
    assert_exactly_once(instance, host)


@pytest.mark.slow
@pytest.mark.parametrize("skew_s", [-DAY_S, DAY_S])
def test_a_clock_that_is_a_day_off_and_jumps_changes_no_time(begin, instance, hosts, skew_s):
    (host,) = hosts()
    host.skew(skew_s)
    # The same library reads the clock from a file as well: that is how it jumps.
    host.write("/clock", f"{skew_s:+d}s\n")
    jumps = "LD_PRELOAD=/usr/lib/libfaketime.so FAKETIME_TIMESTAMP_FILE=/clock FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1"
    config = re.sub(r"SetEnv LD_PRELOAD.*\n", f"SetEnv {jumps}\n", host.read("/etc/ssh/sshd_config"))
    host.write("/etc/ssh/sshd_config", config)
    host.sshd_reload()
    assert abs(int(host.ssh("date +%s").stdout) - time.time() - skew_s) < 600, "the clock is off"
    instance.use([host], sshq_slots=4)
    instance.write_config("reconcile_interval: 5s\nkill_wait: 2s\n")
    began = int(time.time())
    instance.up()
    instance.ready(timeout_s=PATIENCE_S)
    waits = start(instance, host, WAIT, "-t", "60")
    host.write("/clock", f"{-skew_s:+d}s\n")
    assert abs(int(host.ssh("date +%s").stdout) - time.time() + skew_s) < 600, "it jumped"
    after = instance.wrap(f"{SIGN}; true")
    until(instance, after, "COMPLETED")
    assert instance.state(waits) == "RUNNING"
    let_go(host)
    until(instance, waits, "COMPLETED")
    for job in (waits, after):
        times = instance.out("sacct", "-n", "-P", "-X", "-o", "submit,start,end", "-j", str(job)).strip().split("|")
        stamps = [time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S")) for text in times]
        assert began - 1 <= stamps[0] <= stamps[1] <= stamps[2] <= time.time() + 1, times
    elapsed = instance.out("sacct", "-n", "-P", "-X", "-o", "elapsedraw", "-j", str(waits)).strip()
    assert int(elapsed) <= time.time() - began
    assert_exactly_once(instance, host)


@pytest.mark.slow
def test_a_wiped_spool_loses_jobs_but_starts_none_again_and_finds_their_processes(begin, instance):
    host = begin(slots=2)
    running = start(instance, host, f"setsid sleep 4321 & {WAIT}", "--anywhere", "--chdir", host.home)
    ended = start(instance, host, WAIT.replace("/go", "/end"), "--anywhere", "--chdir", host.home)
    waiting = instance.wrap(f"{SIGN}; true", "--anywhere", "--chdir", host.home)
    spool = spool_of(instance, host)
    instance.kill9()
    host.sh(f"touch {host.home}/end")
    instance.wait_for(lambda: not lives(host, pid_of(host, ended)), PATIENCE_S, "the second job ended")
    host.sh(f"rm -rf {spool}")
    instance.up()
    for job in (running, ended):
        until(instance, job, "NODE_FAIL")
        assert outcomes(instance, job) == ["spool_lost"]
        assert "spool" in instance.out("scontrol", "show", "job", str(job)) + instance.out("why", str(job))
    instance.wait_for(lambda: not lives(host, pid_of(host, running)), PATIENCE_S, "the first one's processes are ended")
    assert "sleep 4321" not in host.sh("ps -eo args").stdout
    until(instance, waiting, "COMPLETED")
    # And once more under a live connection, before anything is claimed: that is no failure of the next job's.
    host.sh(f"rm -rf {spool_of(instance, host)}")
    last = instance.wrap(f"{SIGN}; true", "--anywhere", "--chdir", host.home)
    until(instance, last, "COMPLETED")
    assert outcomes(instance, last)[-1] == "exited"
    assert [start.job for start in read_ledgers([host])].count(last) == 1
    assert_exactly_once(instance, host)


def test_a_job_that_eats_the_memory_dies_before_its_supervisor_and_is_called_that(begin, instance):
    host = begin(memory=96 << 20)
    group = host.cgroups.get("memory")
    if not group:
        pytest.skip("optional: no memory control group here")
    base = group.removesuffix(f"/{host.space}")
    host.share(base, base)
    bystander = start(instance, host)
    job = instance.wrap(f"{SIGN}; exec tail /dev/zero")
    until(instance, job, "OUT_OF_MEMORY", "FAILED")
    assert outcomes(instance, job) == ["exited"]
    let_go(host)
    until(instance, bystander, "COMPLETED")
    again = instance.wrap(f"{SIGN}; exec tail /dev/zero")
    instance.out("hosts", "retry", host.name)
    until(instance, again, "OUT_OF_MEMORY")
    assert row(instance, again) == "OUT_OF_MEMORY|0:125"
    innocent = instance.wrap(f"{SIGN}; kill -9 $$")
    until(instance, innocent, "FAILED")
    assert row(instance, innocent) == "FAILED|0:9"
    assert_exactly_once(instance, host)


@pytest.mark.slow
def test_a_directory_that_hangs_holds_up_its_own_job_only(begin, instance):
    if not os.path.exists("/dev/fuse"):
        pytest.skip("optional: no /dev/fuse here")
    host = begin()
    host.sh("mkdir -p /mnt/nfs")
    argv = [sys.executable, str(Path(HERE) / "hang.py"), str(host.pid1), "/mnt/nfs"]
    server = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    host.processes.append(server)
    assert server.stdout.readline() == "mounted\n"
    stuck = [instance.wrap("true", "--anywhere", "--chdir", "/mnt/nfs/x"), instance.wrap("true", "-o", "/mnt/nfs/out", "--anywhere", "--chdir", host.home)]
    inside = start(instance, host, 'echo $$ >"$HOME/pid.$SLURM_JOB_ID"; ls /mnt/nfs')
    for _ in range(2):
        until(instance, instance.wrap(f"{SIGN}; true"), "COMPLETED")
    jobs = [*stuck, inside]
    assert all(instance.state(job) in ("RUNNING", "CONFIGURING", "PENDING") for job in jobs)
    instance.run("scancel", *map(str, jobs), check=True)
    for job in jobs:
        until(instance, job, "CANCELLED")
    until(instance, instance.wrap(f"{SIGN}; true"), "COMPLETED")
    assert instance.out("sinfo", "-h", "-N", "-o", "%T").strip() in ("idle", "mixed", "completing")
