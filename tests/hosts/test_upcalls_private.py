"""Commands inside jobs on hosts that share nothing with the head: whose directory is meant, where output goes, odd hosts."""

import os
import textwrap
from pathlib import Path

import pytest


@pytest.fixture
def up(hosts, instance):
    """An instance over hosts of its own: `up(2)`, or an odd one, `up("busybox")`."""

    def start(kind: int | str):
        made = hosts(kind) if isinstance(kind, int) else [hosts.odd(kind)]
        instance.use(made, sshq_slots=4)
        instance.write_config("kill_wait: 2s\n")
        instance.up()
        instance.ready()
        return made

    return start


def run(instance, script: str, *args: str, state: str = "COMPLETED") -> tuple[int, str]:
    job = instance.submit(*args, input="#!/bin/sh\n" + textwrap.dedent(script))
    instance.until_state(job, state)
    return job, output(instance, job)


def output(instance, job: int) -> str:
    path = Path(instance.work, f"slurm-{job}.out")
    instance.wait_for(path.exists, 15, f"output of {job} comes home")
    return path.read_text()


@pytest.mark.slow
def test_directories_of_jobs_that_share_nothing(up, instance):
    (host, other) = up(2)
    script = f"""
        printf '#!/bin/sh\\necho "$SLURM_SUBMIT_DIR $0"\\n' >child.sh
        sbatch --wait child.sh; echo "rc=$?"
        sbatch --wait -o own.out --wrap 'echo named'
        sbatch -o /etc/somewhere --wrap true; echo "rc=$?"
        sbatch -o ../up --wrap true; echo "rc=$?"
        mkdir -p {host.home}/here; cd {host.home}/here
        sbatch --wait -o here.out --wrap 'pwd; hostname'; echo "rc=$?"
        cat here.out; cat here.out >&2
        scontrol write batch_script $SLURM_JOB_ID copy.sh; wc -l <copy.sh; ls -l copy.sh | cut -c1-10
        """
    job, said = run(instance, script, "-w", host.name)
    lines = said.splitlines()
    head = os.uname().nodename
    note = f"sbatch: no host shares {instance.work}: the job runs in a private directory of its host, its output comes back to " \
        f"{instance.work} on {head}"  # fmt: skip
    assert lines[:3] == [note, f"Submitted batch job {job + 1}", "rc=0"]
    assert lines[3:5] == [note, f"Submitted batch job {job + 2}"]
    refusal = [f"    no host shares the directory of this job: the new one's output comes back to {instance.work}",
               f"    on {head}, and jobs write nowhere else there", "rc=1"]  # fmt: skip
    for number, name in enumerate(("/etc/somewhere", "../up")):
        part = lines[5 + 5 * number : 10 + 5 * number]
        assert part == [
            f"sbatch: error: Batch job submission failed: Unable to open file {name}", f"    --output={name}", *refusal,
        ]  # fmt: skip
    where = [f"{host.home}/here", host.name]
    assert lines[15:] == [
        f"Submitted batch job {job + 3}", "rc=0", *where, *where, f"batch script for job {job} written to copy.sh", "11", "-rwx------",
    ]  # fmt: skip
    assert output(instance, job + 1).split()[0] == instance.work
    assert Path(instance.work, "own.out").read_text() == "named\n"
    assert not other.exists(f"{other.home}/here")
    instance.wait_for(lambda: not host.sh(f"ls -d {host.home}/.local/state/sshq/spool/*/a/*.calls 2>/dev/null || true").stdout, 20,
                      "the files of calls are gone")  # fmt: skip


@pytest.mark.parametrize("kind", ["busybox", "tcsh", "max_sessions_1"])
def test_commands_work_on_odd_hosts(up, instance, kind):
    up(kind)
    script = """
        squeue -h -o '%i %T' -j "$SLURM_JOB_ID"
        printf '#!/bin/sh\\necho "from stdin $1"; exit 3\\n' >x; sbatch -Q --wait x arg 2>/dev/null; echo "rc=$?"
        """
    job, said = run(instance, script)
    assert said == f"{job} RUNNING\nrc=3\n"
    assert output(instance, job + 1) == "from stdin arg\n"


@pytest.mark.slow
def test_a_wait_outlives_its_connection(up, instance):
    (host,) = up(1)
    script = "sbatch --wait -o child.out --wrap 'until [ -e $HOME/go ]; do sleep 0.05; done; exit 3' 2>err; echo rc=$?; squeue -h -o %T"
    job = instance.wrap(script)
    instance.wait_for(lambda: instance.run("squeue", "-h", "-o", "%i").stdout.split() == [str(job), str(job + 1)], 20, "it waits")
    host.kill_sessions()
    host.sh(f"touch {host.home}/go")
    instance.until_state(job, "COMPLETED")
    assert output(instance, job) == f"Submitted batch job {job + 1}\nrc=3\nRUNNING\n"
