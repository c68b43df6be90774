"""Doors that close while jobs run behind them: keys taken away, shells, host keys, an sshd that wants no more logins.

The jobs run on, the head does not knock like a burglar, and what is mended is used again.  One minute for all of them;
a cable is out as long, and another instance works over thin lines meanwhile.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from .ledger import SIGN
from .test_network_faults import (
    QUICK_CONFIG,
    all_states,
    assert_exactly_once,
    flagged,
    host_states,
    reasons,
    signal_runner,
    start_on_each,
)
from .thin_lines import ThinLines

OUT_S = 60
LONGEST_PAUSE_S = 48  # a minute, less what chance takes off
NOBODY = "does not answer|No route to host"  # the latter once the ARP entry is gone


def log_of(host) -> str:
    return host.read("/var/log/sshd.log") if host.exists("/var/log/sshd.log") else ""


def count_refused(host) -> int:
    return len(re.findall(r"by authenticating user alice .*\[preauth\]", log_of(host)))


def count_accepted(host) -> int:
    return log_of(host).count("Accepted publickey")


def count_dropped(host) -> int:
    return log_of(host).count("drop connection")


def end_sessions(host) -> None:
    host.sh("kill -KILL " + " ".join(map(str, host.sessions())))


def empty_keys(host) -> None:
    host.write("/home/alice/.ssh/authorized_keys", "", 0o600, "alice")
    end_sessions(host)


def restore_keys(host) -> None:
    host.write("/home/alice/.ssh/authorized_keys", host.bed.public_key, 0o600, "alice")


def forbid_shell(host) -> None:
    host.set_login_shell("/usr/sbin/nologin")
    end_sessions(host)


def fill_doorway(host) -> None:
    """One login under way is all that it allows, and somebody stands there and says nothing."""
    host.sh("sed -i 's/^MaxStartups.*/MaxStartups 1:100:1/' /etc/ssh/sshd_config")  # of this one the last counts
    host.append_sshd_config("LoginGraceTime 0\nLogLevel VERBOSE\n")
    host.sh("bash -c 'exec 3<>/dev/tcp/127.0.0.1/22; read -r greeting <&3; touch /run/held; exec sleep 1000' >/dev/null 2>&1 &")
    host.sh("until [ -e /run/held ]; do sleep 0.05; done")
    end_sessions(host)


def change_host_key(host) -> None:
    host.new_host_key()
    end_sessions(host)


@dataclass(frozen=True, kw_only=True)
class Door:
    """What closes it and opens it again, what sshq makes of it, and how often it may have been tried in a minute and more."""

    close: Callable[[object], None]
    reopen: Callable[[object], None]
    state: str
    why: str
    count: Callable[[object], int] = lambda host: 0
    tries: int = 0


DOORS = {
    "keys emptied": Door(
        close=empty_keys, reopen=restore_keys, state="auth_failed", why="refused", count=count_refused, tries=3
    ),
    "no login shell": Door(
        close=forbid_shell, reopen=lambda h: h.set_login_shell("/bin/bash"), state="no_reply",
        why="This account is currently not available", count=count_accepted, tries=9,
    ),
    "no more logins": Door(
        close=fill_doorway, reopen=lambda h: h.sh("pkill -KILL -x sleep"), state="unreachable", why="closed the connection|reset the connection",
        count=count_dropped, tries=9,
    ),
    "host key changed": Door(
        close=change_host_key, reopen=lambda h: None, state="host_key", why="HOST KEY CHANGED", count=count_accepted, tries=1
    ),
    "cable out": Door(close=lambda h: h.cut(), reopen=lambda h: h.heal(), state="unreachable", why=NOBODY),
    "cancelled meanwhile": Door(close=lambda h: h.cut(), reopen=lambda h: h.heal(), state="unreachable", why=NOBODY),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_jobs_run_on_behind_closed_doors_and_over_thin_lines_and_nobody_hammers(hosts, instances):
    instance = instances()
    *made, wedged = hosts(len(DOORS) + 1)
    nodes = dict(zip(DOORS, made, strict=True))
    instance.use([*made, wedged])
    instance.write_config(QUICK_CONFIG)
    instance.up()
    instance.ready(timeout_s=60)
    running = {door: start_on_each(instance, [node])[node.name] for door, node in nodes.items()}
    running["runner stopped"] = start_on_each(instance, [wedged])[wedged.name]
    signal_runner(wedged, "STOP")
    for door, node in nodes.items():
        DOORS[door].close(node)
    closed_at = time.monotonic()
    thin = ThinLines(instances(), *hosts(), *hosts(wire="tap"))

    def differing() -> dict[str, object]:
        seen, why = host_states(instance), reasons(instance)
        return {
            door: (seen[node.name]["state"], why[node.name])
            for door, node in nodes.items()
            if seen[node.name]["state"] != DOORS[door].state or not re.search(DOORS[door].why, why[node.name])
        }

    instance.wait_for(lambda: not differing(), 90, differing)
    assert flagged(instance) == {node.name for node in nodes.values()}
    assert set(all_states(instance).values()) == {"RUNNING"}
    cancelled = running.pop("cancelled meanwhile")
    instance.out("scancel", str(cancelled))
    assert "unreachable since" in instance.out("why", str(cancelled))
    waiting = [instance.wrap(SIGN, "-w", node.name) for node in nodes.values()]
    resting = nodes["keys emptied"]
    instance.wait_for(lambda: "rests until" in reasons(instance)[resting.name], 90, lambda: reasons(instance)[resting.name])
    thin.finish()
    instance.wait_for(lambda: time.monotonic() > closed_at + OUT_S, OUT_S + 5, "a minute is over")

    tries = {door: DOORS[door].count(node) for door, node in nodes.items()}
    print(f"tries: {tries}")
    more = (time.monotonic() - closed_at - OUT_S) / LONGEST_PAUSE_S  # this machine may be slow, and the minute a long one
    assert {door: n for door, n in tries.items() if n > DOORS[door].tries + more} == {}
    assert tries["keys emptied"] == 3
    assert tries["no more logins"] > 2
    assert {all_states(instance)[job] for job in running.values()} == {"RUNNING"}
    assert {all_states(instance)[job] for job in waiting} == {"PENDING"}

    # A connection that is alive with a runner that is not: asked, given up on, replaced.
    assert f"host={wedged.name} state=no_reply note='the runner did not answer" in instance.logs(400)
    instance.ready(wedged.name, timeout_s=30)
    for node in (*nodes.values(), wedged):
        if node is not nodes["cancelled meanwhile"]:
            node.path(f"{node.home}/go").touch()
    for door, node in nodes.items():
        DOORS[door].reopen(node)
    reopened_at = time.monotonic()
    changed = nodes["host key changed"]
    shown = changed.sh("ssh-keygen -lf /etc/ssh/host_key.pub").stdout.split()[1]
    assert instance.run("hosts", "trust", changed.name, "--fingerprint", shown).returncode == 0
    instance.out("hosts", "retry", *(nodes[door].name for door in ("keys emptied", "no login shell", "no more logins")))
    instance.wait_for(lambda: not flagged(instance), 120, lambda: f"all back; still away: {reasons(instance)}")
    print(f"all back after {time.monotonic() - reopened_at:.1f} s")
    jobs = [*running.values(), *waiting]
    instance.wait_for(lambda: {all_states(instance)[job] for job in jobs} == {"COMPLETED"}, 120, lambda: f"{all_states(instance)}")
    instance.until_state(cancelled, "CANCELLED")
    assert nodes["cancelled meanwhile"].sh("pgrep -u alice -f 'HOME/go'", check=False).stdout == "", "nothing of it is left"
    assert_exactly_once(instance, [*nodes.values(), wedged], jobs)
