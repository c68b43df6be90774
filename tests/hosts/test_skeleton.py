"""From sbatch to a COMPLETED line of sacct over a real sshd, and where a job runs and its output goes."""

import os
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.quick

SCRIPT = """#!/bin/sh
#SBATCH --job-name=greeting
#SBATCH --output=greeting-%j.txt
echo "$SLURM_JOB_NAME runs on $(hostname) as $(id -un)"
echo "given: $1" >&2
"""


def test_a_script_goes_from_sbatch_to_completed_and_its_output_comes_home(hosts, instance):
    (host,) = hosts()
    instance.use([host])
    instance.up()
    instance.ready()
    Path(instance.work, "job.sh").write_text(SCRIPT)
    done = instance.run("sbatch", "--wait", "job.sh", "an argument")
    assert (done.returncode, done.stdout) == (0, "Submitted batch job 1\n"), done.stderr
    notes = [line for line in done.stderr.splitlines() if "private directory" in line]
    assert len(notes) == 1, done.stderr
    assert instance.work in notes[0]
    assert instance.read("greeting-1.txt") == f"greeting runs on {host.name} as alice\ngiven: an argument\n"
    row = instance.out("sacct", "-n", "-P", "-X", "-o", "jobid,jobname,state,exitcode,nodelist", "-j", "1").strip()
    assert row == f"1|greeting|COMPLETED|0:0|{host.name}"


def test_nothing_of_a_finished_job_stays_on_the_host(hosts, instance):
    (host,) = hosts()
    instance.use([host])
    instance.up()
    instance.ready()
    job = instance.wrap("echo done", "--wait")
    assert instance.read(f"slurm-{job}.out") == "done\n"

    def left() -> str:
        return host.sh("find /home/alice/.local/state/sshq -path '*/a/*' ! -name '*.done'", check=False).stdout

    instance.wait_for(lambda: not left(), 10, left)


def test_a_job_that_writes_nothing_leaves_an_empty_output_file(hosts, instance):
    (host,) = hosts()
    instance.use([host])
    instance.up()
    instance.ready()
    job = instance.wrap("true", "--wait")
    assert Path(instance.work, f"slurm-{job}.out").read_bytes() == b""


def test_in_a_shared_directory_a_job_runs_in_place_without_a_note(hosts, instance):
    (host,) = hosts()
    shared = share_directory([host], instance)
    instance.use([host])
    instance.up()
    instance.ready()
    done = instance.run("sbatch", "--wait", "--wrap", "pwd; touch made-here", cwd=shared)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(shared, "slurm-1.out").read_text() == f"{shared}\n"
    assert os.path.exists(f"{shared}/made-here")
    assert not [n for n in os.listdir(shared) if n.startswith(".sshq")]


def test_where_some_hosts_share_the_directory_only_those_are_eligible(hosts, instance):
    near, far = hosts(2)
    shared = share_directory([near], instance)
    instance.use([near, far], sshq_slots=1)
    instance.up()
    instance.ready()
    first = instance.submit("--wrap", "while [ ! -e go ]; do sleep 0.05; done; hostname", cwd=shared)
    instance.until_state(first, "RUNNING")
    second = instance.submit("--wrap", "hostname", cwd=shared)
    anywhere = instance.submit("--anywhere", "--wait", "--wrap", "hostname", cwd=shared)
    assert Path(shared, f"slurm-{anywhere}.out").read_text() == f"{far.name}\n"
    assert instance.state(second) == "PENDING"
    why = instance.out("why", str(second))
    assert re.search(rf"{far.name}.*does not share {re.escape(shared)}", why), why
    Path(shared, "go").touch()
    instance.until_state(second, "COMPLETED")
    assert Path(shared, f"slurm-{second}.out").read_text() == f"{near.name}\n"


def test_on_loopback_hosts_every_host_shares_the_directory(loopback, instance):
    instance.use(loopback.hosts)
    instance.up()
    instance.ready()
    jobs = [instance.wrap('echo "$SLURMD_NODENAME"; pwd') for _ in range(8)]
    assert instance.run("wait", *map(str, jobs)).returncode == 0
    outputs = [instance.read(f"slurm-{job}.out").splitlines() for job in jobs]
    assert {place for _, place in outputs} == {instance.work}
    assert {node for node, _ in outputs} <= {host.name for host in loopback.hosts}


def share_directory(hosts, instance) -> str:
    """One directory of the head seen in these hosts under the same name; its user there is the submitter's (root)."""
    shared = f"{instance.dir}/shared"
    os.mkdir(shared)
    for host in hosts:
        host.user = "root"
        host.share(shared, shared)
    return shared
