"""Odd nodes: each kind of host either runs jobs like any other, or is told about in plain words and given none."""

from pathlib import Path

import pytest

from bed import ODD

USABLE = ["tcsh", "fish", "zsh", "ksh", "noisy_bashrc", "busybox", "max_sessions_1", "proxy_jump", "agent", "read_only_home", "noexec_tmp"]
# kind: the state that `sshq up` shows, words of the reason
UNUSABLE = {
    "changed_host_key": ("host_key", "HOST KEY CHANGED: {addr}:22 shows another key than the one recorded"),
    "unknown_host_key": ("host_key", "host key unknown: nothing vouches for {addr}:22, so it is not used"),
    "bad_key": ("auth_failed", "login as alice on {addr}:22 refused"),
    "force_command": ("no_reply", "no POSIX shell answered; it said 'This account is for file transfer only.'"),
    "missing_tools": ("unusable", "none of setsid, perl, python3 works here"),
}
SCRIPT = """#!/bin/sh
echo "on $(hostname): $1"
printf '%s\\n' "$GREETING"
echo problem >&2
exit 3
"""
GREETING = "it's \"quoted\" $HOME `id` \\n * \u00e9"


def test_every_odd_kind_of_the_bed_is_in_one_of_these_tables():
    assert {*USABLE, *UNUSABLE} == set(ODD)


@pytest.mark.parametrize("kind", USABLE)
def test_an_odd_host_runs_jobs_and_ends_them_on_request(hosts, instance, kind):
    host = hosts.odd(kind)
    instance.use([host])
    table = instance.up().stdout.splitlines()
    assert next(line.split()[4] for line in table if line.startswith(f"{host.name} ")) == "ready"
    Path(instance.work, "job.sh").write_text(SCRIPT)
    done = instance.run("sbatch", "--wait", "-e", "err", "job.sh", "an argument", env={"GREETING": GREETING})
    assert (done.returncode, done.stdout) == (3, "Submitted batch job 1\n"), done.stderr
    assert instance.read("slurm-1.out") == f"on {host.name}: an argument\n{GREETING}\n"
    assert instance.read("err") == "problem\n"
    row = instance.out("sacct", "-n", "-P", "-X", "-o", "state,exitcode,nodelist", "-j", "1").strip()
    assert row == f"FAILED|3:0|{host.name}"
    job = instance.wrap("echo begun; setsid sleep 4321 & sleep 4321")
    instance.wait_for(lambda: instance.run("logs", str(job)).stdout == "begun\n", 10, "its output while it runs")
    instance.out("scancel", str(job))
    instance.until_state(job, "CANCELLED", timeout_s=10)
    assert "sleep 4321" not in command_lines(host)
    instance.wait_for(lambda: instance.read(f"slurm-{job}.out").startswith("begun\n"), 5, "output came home")


@pytest.mark.parametrize("kind", UNUSABLE)
def test_an_unusable_host_is_told_in_plain_words_and_given_no_job(hosts, instance, kind):
    state, words = UNUSABLE[kind]
    (good,) = hosts()
    odd = hosts.odd(kind)
    words = words.format(addr=odd.addr)
    instance.use([odd, good], sshq_slots=1)
    table = [line for line in instance.up().stdout.splitlines() if line.startswith(f"{odd.name} ")]
    assert len(table) == 1
    assert table[0].split()[4] == state
    assert words in table[0]
    assert reasons_of(instance)[odd.name].startswith(words)
    line = next(line for line in instance.out("sinfo", "-N", "-l").splitlines() if line.startswith(f"{odd.name} "))
    assert "unknown*" in line
    assert line.endswith(words[:20])
    given = [instance.wrap("true") for _ in range(3)]
    waiting = instance.wrap("true", "-w", odd.name)
    assert instance.run("wait", *map(str, given)).returncode == 0
    assert {instance.out("sacct", "-n", "-P", "-X", "-o", "nodelist", "-j", str(job)).strip() for job in given} == {good.name}
    reason = instance.out("squeue", "-h", "-o", "%T %R", "-j", str(waiting))
    assert reason.startswith("PENDING (ReqNodeNotAvail"), reason
    why = instance.out("why", str(waiting))
    assert words in next(line for line in why.splitlines() if line.split()[0] == odd.name), why


def test_where_one_session_is_allowed_output_is_followed_all_the_same(hosts, instance):
    host = hosts.odd("max_sessions_1")
    instance.use([host])
    instance.up()
    instance.ready()
    job = instance.wrap('echo one; until [ -e "$HOME/go" ]; do sleep 0.05; done; echo two')
    followers = [instance.start("logs", "-f", str(job)) for _ in range(2)]
    assert [follower.stdout.readline() for follower in followers] == ["one\n", "one\n"]
    assert instance.state(job) == "RUNNING"
    host.write(f"{host.home}/go", "")
    assert [follower.communicate(timeout=10) for follower in followers] == [("two\n", ""), ("two\n", "")]
    instance.until_state(job, "COMPLETED")


def test_a_host_that_is_mended_joins_and_takes_the_job_that_waited_for_it(hosts, instance):
    host = hosts.odd("force_command")
    instance.use([host])
    instance.up()
    job = instance.wrap("hostname", "-w", host.name)
    host.sh("sed -i '/^Match/,$d' /etc/ssh/sshd_config")
    host.sshd_reload()
    instance.out("hosts", "retry", host.name)
    instance.until_state(job, "COMPLETED", timeout_s=10)
    # sacct knows of the end before the output is home.
    instance.wait_for(lambda: instance.read(f"slurm-{job}.out") == f"{host.name}\n", 10, "its output is home")


def command_lines(host) -> str:
    return host.sh("for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$f; echo; done 2>/dev/null", check=False).stdout


def reasons_of(instance) -> dict[str, str]:
    """What `sinfo -R` says of each node it names, in full length."""
    lines = instance.out("sinfo", "-R", "-h", "-o", "%N|%E").splitlines()
    return dict(line.split("|", 1) for line in lines)
