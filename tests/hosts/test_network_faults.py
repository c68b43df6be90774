"""What the network, sshd and a wedged machine do to jobs: nothing.  Many hosts, each with a fault of its own, at once.

Every test ends with the oracle: what the jobs wrote on their nodes against what sshq accounted.
"""

import contextlib
import json
import os
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bed import Cut, Cutter

from .ledger import SIGN, find_wrong, read_accounts, read_ledgers

# Silence is found after keepalive_interval x (keepalive_count + 1): 3 s here, 60 s by default.
QUICK_CONFIG = "keepalive_interval: 1s\nkeepalive_count: 2\nconnect_timeout: 3s\nreconcile_interval: 5s\n"
WAITER = f'{SIGN}; until [ -e "$HOME/go" ]; do sleep 0.2; done; echo ended'


def host_states(instance) -> dict[str, dict[str, object]]:
    return {one["name"]: one for one in json.loads(instance.out("hosts", "--json"))["hosts"]}


def flagged(instance) -> set[str]:
    """The nodes that sinfo shows as not answering."""
    rows = [line.split() for line in instance.out("sinfo", "-h", "-N", "-o", "%N %T").splitlines()]
    return {row[0] for row in rows if row[-1].endswith("*")}


def reasons(instance) -> dict[str, str]:
    return dict(line.split("|", 1) for line in instance.out("sinfo", "-h", "-N", "-o", "%N|%E").splitlines())


def all_states(instance) -> dict[int, str]:
    lines = instance.out("sacct", "-n", "-P", "-X", "-o", "jobid,state").splitlines()
    return {int(number): state for number, state in (line.split("|") for line in lines)}


def start_on_each(instance, hosts) -> dict[str, int]:
    """A job on every host that runs until it is told to end."""
    jobs = {host.name: instance.wrap(WAITER, "-w", host.name, "-o", "w-%N.out") for host in hosts}
    wanted = set(jobs.values())
    instance.wait_for(lambda: {j for j, s in all_states(instance).items() if s == "RUNNING"} >= wanted, 60, "all run")
    return jobs


def assert_exactly_once(instance, hosts, jobs) -> None:
    """Each of these jobs is COMPLETED and has one line in the ledgers; the books agree."""
    starts, accounts = read_ledgers(hosts), read_accounts(instance)
    assert find_wrong(starts, accounts) == []
    states = {job: accounts[job]["state"]["current"] for job in jobs}
    assert {job: state for job, state in states.items() if state != "COMPLETED"} == {}
    counts = {job: sum(start.job == job for start in starts) for job in jobs}
    assert {job: n for job, n in counts.items() if n != 1} == {}


# ---- every fault at once -------------------------------------------------------------------------------------------


def do_nothing(_host) -> None:
    """The fault is over by itself."""


def signal_runner(host, name: str) -> None:
    host.sh(f"for f in /home/alice/.local/state/sshq/spool/*/r.*; do f=${{f##*/r.}}; kill -{name} ${{f%%.*}}; done")


def stop_sshd(host) -> None:
    """The listener hangs and the sessions are gone: connections are taken by the kernel, and nobody says a word."""
    host.sshd_signal("STOP")
    host.kill_sessions()


def kill_sshd(host) -> None:
    host.sshd_signal("KILL")
    host.kill_sessions()


@dataclass(frozen=True, kw_only=True)
class Fault:
    """How it is done and undone, and a word of the reason that sinfo gives meanwhile ("" = it is over at once)."""

    do: Callable[[object], None]
    undo: Callable[[object], None] = lambda host: host.heal()
    why: str = ""


FAULTS = {
    "cable out": Fault(do=lambda h: h.cut(), why="does not answer|No route to host"),
    "silence towards the host": Fault(do=lambda h: h.nft("drop"), why="does not answer"),
    "silence from the host": Fault(do=lambda h: h.nft("drop", hook="output"), why="does not answer"),
    "reset": Fault(do=lambda h: h.reset(), why="refuses connections"),
    "half-open": Fault(do=lambda h: h.half_open()),
    "sshd hangs": Fault(do=stop_sshd, undo=lambda h: h.sshd_signal("CONT"), why="never speaks"),
    "sshd killed": Fault(do=kill_sshd, undo=lambda h: h.sshd_start(), why="refuses connections"),
    "sessions killed": Fault(do=lambda h: h.kill_sessions(), undo=do_nothing),
    "runner killed": Fault(do=lambda h: signal_runner(h, "KILL"), undo=do_nothing),
    "machine frozen": Fault(do=lambda h: h.freeze(), undo=lambda h: h.thaw(), why="never speaks"),
}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_jobs_run_on_through_every_fault_of_the_network_and_sshd(hosts, instance):
    nodes = dict(zip(FAULTS, hosts(len(FAULTS)), strict=True))
    instance.use(list(nodes.values()))
    instance.write_config(QUICK_CONFIG)
    instance.up()
    instance.ready(timeout_s=60)
    running = start_on_each(instance, nodes.values())
    lasting = {nodes[name].name: fault for name, fault in FAULTS.items() if fault.why}

    # Submitted just before the fault, or into it: nobody can know at once what became of these launches.
    doubtful = [instance.wrap(SIGN, "-w", node.name) for node in list(nodes.values())[::2]]
    for name, fault in FAULTS.items():
        fault.do(nodes[name])
    doubtful += [instance.wrap(SIGN, "-w", node.name) for node in list(nodes.values())[1::2]]

    instance.wait_for(lambda: flagged(instance) == set(lasting), 90, lambda: f"flagged: {flagged(instance)}, not: {lasting}")
    instance.wait_for(
        lambda: all(re.search(fault.why, reasons(instance)[node]) for node, fault in lasting.items()),
        60, lambda: f"{reasons(instance)}",
    )  # fmt: skip
    states = all_states(instance)
    assert {states[running[node]] for node in lasting} == {"RUNNING"}
    for node in lasting:
        assert "unreachable since" in instance.out("why", str(running[node]))
        assert "CPUAlloc=" in (shown := instance.out("scontrol", "show", "node", node))
        assert "CPUAlloc=0" not in shown, "its place is held"
    waiting = [instance.wrap(SIGN, "-w", node) for node in lasting]
    assert {all_states(instance)[job] for job in waiting} == {"PENDING"}

    # They end while nobody can see it (the frozen machine's once it is thawed).
    for node in nodes.values():
        node.path(f"{node.home}/go").touch()
    for name, fault in FAULTS.items():
        fault.undo(nodes[name])
    healed_at = time.monotonic()
    instance.wait_for(lambda: not flagged(instance), 120, lambda: f"all back; still away: {reasons(instance)}")
    back_s = time.monotonic() - healed_at
    jobs = [*running.values(), *doubtful, *waiting]
    instance.wait_for(
        lambda: {all_states(instance)[job] for job in jobs} == {"COMPLETED"}, 120, lambda: f"settled: {all_states(instance)}"
    )
    print(f"{len(FAULTS)} faults; all back after {back_s:.1f} s, settled after {time.monotonic() - healed_at:.1f} s")
    assert_exactly_once(instance, nodes.values(), jobs)
    for node in nodes.values():
        assert instance.wait_for(lambda node=node: instance.read(f"w-{node.name}.out"), 10, "output") == "ended\n"


# ---- what nobody may notice ----------------------------------------------------------------------------------------


def restart_sshd(host) -> None:
    host.sshd_signal("KILL")
    host.sshd_start()


def upgrade_sshd(host) -> None:
    """As a package manager does: another file in the place of the old one, then the listener is started anew."""
    host.sh("cp /usr/sbin/sshd /usr/sbin/sshd.new; echo >>/usr/sbin/sshd.new; mv /usr/sbin/sshd.new /usr/sbin/sshd")
    host.sshd_reload()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_with_default_settings_a_cable_out_for_five_seconds_and_a_new_sshd_are_not_noticed(hosts, instance):
    nodes = cable, restarted, upgraded, late = hosts(4)
    instance.use(nodes)
    instance.up()
    instance.ready()
    running = start_on_each(instance, nodes)
    cable.cut()
    ends_at = time.monotonic() + 5
    late.sshd_signal("KILL")
    restart_sshd(restarted)
    upgrade_sshd(upgraded)
    while time.monotonic() < ends_at:
        assert flagged(instance) == set()
    cable.heal()
    late.sshd_start()
    after = [instance.wrap(SIGN, "-w", node.name) for node in nodes]
    for node in nodes:
        node.path(f"{node.home}/go").touch()
    for job in (*running.values(), *after):
        instance.until_state(job, "COMPLETED", timeout_s=90)
    assert flagged(instance) == set()
    assert {name: instance.logs(400).count(f"host={name} ready generation=") for name in running} == dict.fromkeys(running, 1)
    assert_exactly_once(instance, nodes, [*running.values(), *after])


# ---- etiquette -----------------------------------------------------------------------------------------------------

CHANNELS_MAX = 8


def channels_of(host) -> list[int]:
    """The numbers that its sshd gave to the channels opened so far."""
    text = host.read("/var/log/sshd.log")
    return [int(number) for number in re.findall(r"Starting session: command for alice .* id (\d+)", text)]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_busy_host_sees_one_connection_with_at_most_eight_channels(hosts, instance):
    (host,) = hosts(sshd_config="LogLevel VERBOSE\n")
    instance.use([host], sshq_slots=12)
    instance.up()
    instance.ready()
    jobs = [instance.wrap(f"{SIGN}; seq 1 200000; until [ -e $HOME/go ]; do sleep 0.2; done", "--anywhere") for _ in range(12)]
    instance.wait_for(lambda: {all_states(instance)[job] for job in jobs} == {"RUNNING"}, 90, "all run")
    followers = [instance.start("logs", "-f", str(job)) for job in jobs[:4]]
    instance.wait_for(lambda: len(channels_of(host)) == 1 + len(followers), 30, "each follower has its channel")
    host.path(f"{host.home}/go").touch()  # all end at once, and all outputs come home
    instance.wait_for(lambda: not instance.out("squeue", "-h"), 120, lambda: instance.out("squeue"))
    for follower in followers:
        assert len(follower.communicate(timeout=60)[0].splitlines()) == 200000
    assert len(channels_of(host)) >= 1 + len(followers) + len(jobs)
    assert max(channels_of(host)) < CHANNELS_MAX, "sshd numbers them by the lowest that is free"
    assert host.read("/var/log/sshd.log").count("Accepted publickey") == 1
    assert_exactly_once(instance, [host], jobs)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_output_longer_than_any_connection_lives_comes_home_whole_and_once(hosts, instance):
    (node,) = hosts()
    length, lives = 5_000_000, 1_500_000
    quiet: list[int] = []
    with Cutter(node, lambda: Cut("down", quiet[0] + lives, "rst") if quiet else None) as cutter:
        instance.use([node])
        instance.write_config(QUICK_CONFIG)
        instance.up()
        instance.ready()
        quiet.append(cutter.seen[0].down)
        cutter.seen[0].cut = cutter.plan()
        for name in ("short.out", "long.err"):
            Path(instance.work, name).write_text("before\n")
        job = instance.wrap(
            f"{SIGN}; echo once; head -c {length} /dev/zero | tr '\\0' x >&2",
            "--open-mode=append", "-o", "short.out", "-e", "long.err",
        )  # fmt: skip
        instance.wait_for(lambda: not instance.out("squeue", "-h"), 120, lambda: f"settled after {len(cutter.made)} cuts")
    assert len(cutter.made) >= length // lives
    assert instance.read("short.out") == "before\nonce\n"
    assert instance.read("long.err") == "before\n" + "x" * length
    assert sorted(os.listdir(instance.work)) == ["long.err", "short.out"]
    assert_exactly_once(instance, [node], [job])


# ---- cut after byte k ----------------------------------------------------------------------------------------------

CUTS = int(os.environ.get("SSHQ_CUTS", "60"))  # of a campaign: 300 and more
SEED = os.environ.get("SSHQ_SEED") or str(random.randrange(10**6))
TASKS = 16


class CutPlan:
    """Where the connections of one host are cut: one in six while it logs in and starts the runner, the others at work."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)
        self.quiet: dict[str, int] = {}  # bytes each way of a connection that has just become ready; no cuts before that is known
        self.is_over = False

    def __call__(self) -> Cut | None:
        if not self.quiet or self.is_over:
            return None
        way = self.random.choice(["up", "down"])
        how = self.random.choice(["rst", "fin", "host_unaware", "head_unaware"])
        if self.random.random() < 1 / 6:  # silence in mid-login has its own deadline, of half a minute
            return Cut(way, self.random.randrange(self.quiet[way]), "rst" if how == "head_unaware" else how)
        return Cut(way, self.quiet[way] + self.random.randrange({"up": 8000, "down": 4000}[way]), how)


def submit_cut_jobs(instance, number: int) -> int:
    """An array of short jobs; of every other one the output must be brought home."""
    where = ["-o", "o-%j.out"] if number % 2 else ["-o", "/dev/null"]
    instance.submit(*where, "-a", f"1-{TASKS}", "--wrap", f'{SIGN}; echo "$SLURM_JOB_ID"')
    return TASKS


@pytest.mark.slow
@pytest.mark.timeout(max(240, 6 * CUTS))
def test_connections_cut_after_any_byte_lose_and_double_no_job(hosts, instance):
    print(f"SSHQ_SEED={SEED} SSHQ_CUTS={CUTS}")
    nodes = hosts(6)
    plans = [CutPlan(f"{SEED}-{index}") for index in range(len(nodes))]
    with contextlib.ExitStack() as stack:
        cutters = [stack.enter_context(Cutter(node, plan)) for node, plan in zip(nodes, plans, strict=True)]
        instance.use(nodes)
        instance.write_config(QUICK_CONFIG)
        instance.up()
        instance.ready()
        for cutter, plan in zip(cutters, plans, strict=True):
            first = cutter.seen[0]
            plan.quiet = {"up": first.up, "down": first.down}
            first.cut = plan()
        submitted = arrays = 0
        while sum(len(cutter.made) for cutter in cutters) < CUTS:
            if len(instance.out("squeue", "-h", "-r", "-t", "pending").splitlines()) < TASKS:
                submitted += submit_cut_jobs(instance, arrays)
                arrays += 1
        for plan in plans:
            plan.is_over = True
        instance.wait_for(lambda: not instance.out("squeue", "-h"), 60 + CUTS / 3, lambda: instance.out("squeue"))
        made = [cut for cutter in cutters for cut in cutter.made]
    print(f"{len(made)} cuts, {submitted} jobs")
    accounts = read_accounts(instance)
    assert len(accounts) == submitted
    assert_exactly_once(instance, nodes, accounts)
    outputs = {name: instance.read(name).strip() for name in os.listdir(instance.work) if name.startswith("o-")}
    assert {name: text for name, text in outputs.items() if name != f"o-{text}.out"} == {}
    assert len(outputs) == arrays // 2 * TASKS
