"""`sshq hosts remove HOST --purge`: a host leaves, no process and no file of ours stays, and what is not ours to undo is said."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from bed.session import is_zombie

pytestmark = pytest.mark.timeout(300)

WAITER = 'until [ -e "$HOME/go" ]; do sleep 0.05; done'


@pytest.fixture
def host(loopback, instance) -> Iterator[object]:
    """One host in use, clean before and after."""
    chosen = loopback.hosts[0]
    clear(chosen)
    instance.use([chosen])
    instance.write_config("kill_wait: 2s\n")
    yield chosen
    if chosen.process is None:
        chosen.start()
        chosen.wait_up()
    clear(chosen)


def clear(host) -> None:
    shutil.rmtree(f"{host.home}/spool", ignore_errors=True)
    for name in ("go", "stray"):
        Path(host.home, name).unlink(missing_ok=True)


def spool_of(host) -> Path:
    """The spool of the one store on a host."""
    (spool,) = (path for path in Path(host.home, "spool/spool").iterdir() if path.name != "another")
    return spool


def remove(instance, *options: str):
    done = instance.run("hosts", "remove", "l1", *options, timeout_s=120)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def is_alive(pid: int) -> bool:
    """Whether it runs: one that nobody has waited for yet does not."""
    return os.path.exists(f"/proc/{pid}") and not is_zombie(pid)


def list_sessions(host) -> list[int]:
    """What sshd forked for logins."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = Path("/proc", entry, "stat").read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        if int(stat[1]) == host.process.pid:
            found.append(int(entry))
    return found


def go_away(host) -> None:
    """Its sshd stops, and all logins are cut."""
    sessions = list_sessions(host)
    host.stop()
    for pid in sessions:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_nothing_of_ours_is_left_and_the_rest_is_named(instance, host):
    instance.up()
    instance.ready(timeout_s=60)
    stray = 'setsid sh -c "echo \\$\\$ >$HOME/stray; cd /; exec sleep 600" </dev/null >/dev/null 2>&1 &'
    stray += ' until [ -s "$HOME/stray" ]; do sleep 0.05; done'
    instance.until_state(instance.wrap(stray), "COMPLETED", timeout_s=60)
    left_behind = int(host.read(f"{host.home}/stray"))
    other = Path(host.home, "spool/spool/another")
    other.mkdir()
    (other / "version").write_text("1\n")
    spool = spool_of(host)
    instance.wait_for(lambda: not list(spool.glob("a/*")), 60, "the job is acknowledged")

    done = remove(instance, "--purge")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"l1: removed {spool}" in done.stdout and "no process of ours is left" in done.stdout
    assert "ended 1 process that jobs had left behind" in done.stdout
    assert not spool.exists() and not is_alive(left_behind) and other.exists()
    assert str(other) in done.stdout and instance.inventory in done.stdout and "authorized_keys" in done.stdout
    assert "drained" in instance.out("sinfo", "-h", "-N", "-o", "%T") or "down" in instance.out("sinfo", "-h", "-N", "-o", "%T")
    again = remove(instance, "--purge")
    assert again.returncode == 0 and "nothing of this controller is there" in again.stdout, again.stdout + again.stderr
    assert not spool.exists()

    # Taken on again by hand, it works as before; the admin's resume ends the drain.
    instance.out("hosts", "retry", "l1")
    instance.out("scontrol", "update", "nodename=l1", "state=resume")
    instance.ready(timeout_s=60)
    instance.until_state(instance.wrap("true"), "COMPLETED", timeout_s=60)

    # Taken off for good, it leaves with the next edit of the inventory, and is not made anew.
    assert remove(instance, "--purge", "--wait").returncode == 0
    inventory = yaml.safe_load(Path(instance.inventory).read_text())
    inventory["all"]["hosts"] = {"l0": {"ansible_connection": "local"}}
    instance.write_inventory(yaml.safe_dump(inventory))
    instance.wait_for(lambda: instance.out("sinfo", "-h", "-N", "-o", "%N").split() == ["l0"], 60, "l1 has left")
    gone = remove(instance, "--purge")
    assert gone.returncode == 1 and "no such host in the inventory: l1" in gone.stderr and "put it back" in gone.stderr
    assert list(Path(host.home).glob("spool/spool/*")) == [other]


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--force", "--wait"])
def test_a_running_job_is_waited_for_or_cancelled_never_dropped(instance, host, option):
    instance.up()
    instance.ready(timeout_s=60)
    job = instance.wrap(WAITER)
    instance.until_state(job, "RUNNING", timeout_s=60)
    refused = remove(instance, "--purge")
    assert refused.returncode == 1 and f"l1 still has jobs: {job}" in refused.stderr and "--force" in refused.stderr
    assert instance.state(job) == "RUNNING" and spool_of(host).exists()
    spool = spool_of(host)
    if option == "--wait":
        waiting = instance.start("hosts", "remove", "l1", "--purge", "--wait")
        host.sh("touch go")
        out, err = waiting.communicate(timeout=60)
        assert waiting.returncode == 0, out + err
    else:
        done = remove(instance, "--purge", "--force")
        assert done.returncode == 0, done.stdout + done.stderr
    assert not spool.exists()
    assert instance.until_state(job, "COMPLETED" if option == "--wait" else "CANCELLED")


@pytest.mark.slow
def test_a_host_that_cannot_be_reached_is_drained_and_what_is_left_to_do_is_said(instance, host):
    instance.up()
    instance.ready(timeout_s=60)
    job = instance.wrap(WAITER)
    instance.until_state(job, "RUNNING", timeout_s=60)
    spool = spool_of(host)
    go_away(host)
    instance.wait_for(lambda: "*" in instance.out("sinfo", "-h", "-N", "-o", "%t"), 60, "the node is flagged unreachable")
    away = remove(instance, "--purge")
    assert away.returncode == 1
    assert "l1 cannot be reached" in away.stderr and "when it is back" in away.stderr and str(spool) in away.stderr, away.stderr
    assert f"its jobs keep their state: {job}" in away.stderr and "state=down" in away.stderr and instance.inventory in away.stderr
    assert json.loads(remove(instance, "--json").stdout)["outcome"] == "unreachable"
    host.start()
    host.wait_up()
    instance.run("hosts", "retry")
    instance.ready(timeout_s=60)
    host.sh("touch go")
    instance.until_state(job, "COMPLETED", timeout_s=60)
    done = remove(instance, "--purge", "--wait")
    assert done.returncode == 0 and not spool.exists(), done.stdout + done.stderr


@pytest.mark.slow
def test_launches_that_the_controller_does_not_know_are_not_thrown_away_unasked(instance, host):
    instance.up()
    instance.ready(timeout_s=60)
    instance.until_state(instance.wrap("true"), "COMPLETED", timeout_s=60)
    spool = spool_of(host)
    unknown = spool / "a" / f"{'f' * 32}"
    Path(f"{unknown}.req").write_text("# 1 1000001 99999 1 1\n")
    record = (
        f"1 {'f' * 32} how=exit status=0 why=- sent=- term=0 start=1.00 end=2.00 began=1 ended=2 user=0m0.00s sys=0m0.00s boot=b left=-"
    )
    Path(f"{unknown}.go").write_text("")
    Path(f"{unknown}.exit").write_text(f"{record}\n{record}\n")
    kept = remove(instance, "--purge")
    assert kept.returncode == 1 and "1 launches lie there that this controller does not know" in kept.stderr, kept.stdout + kept.stderr
    assert Path(f"{unknown}.exit").exists()
    done = remove(instance, "--purge", "--force")
    assert done.returncode == 0 and not spool.exists(), done.stdout + done.stderr


def test_without_a_controller_it_says_who_must_be_up(instance):
    said = remove(instance, "--purge")
    assert said.returncode == 1 and "sshq up" in said.stderr
