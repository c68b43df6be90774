"""How long until a large lab is connected, what does it cost, and what does it cost when nothing happens?

    python contrib/bench/fleet.py [--hosts 300] [--servers N] [--idle 300] [--json FILE]

Starts real sshds on loopback addresses, each name with a spool of its own, then `sshq up`; prints the seconds until half of
the names and all of them are ready, the CPU that took on either side, beside that of `ssh NAME true` to some of them before
and after, and then, with nobody asking anything, the controller's CPU share and its wakeups in the first minute and in those
after it (on average and at worst: hosts that joined together have their turns together), its memory, and what `sshq stats` says.
All of it shares this machine: a connected host costs about 15 MB here (sshd, runner, spawner).  `--servers 8` lets many
names be one sshd: still a connection and a runner each, for less memory.  CPU of the hosts needs a control group, that is
root.  Needs openssh-server.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from cpu import CpuGroup, waited_s
from scale_controller import Instance

from hosts import LoopbackHosts
from sshq.errors import UnreachableError

YARDSTICK = 40  # plain logins before, and as many after
Figures = dict[str, object]


def measure(count: int, servers: int, idle_s: float) -> Figures:
    found: Figures = {"hosts": count, "servers": servers or count}
    nodes = CpuGroup("nodes")
    here = os.getpid()
    nodes.put(here)  # what is started now is counted there
    try:
        with LoopbackHosts(count, servers=servers) as hosts:
            leave(nodes)
            plain = [log_in_plainly(hosts, nodes)]
            instance = Instance()
            instance.env["HOME"] = str(hosts.dir / "home")
            (instance.home / "inventory.yaml").write_text(hosts.inventory(4))
            try:
                connect(instance, count, nodes, found)
                plain.append(log_in_plainly(hosts, nodes))
                for key in plain[0]:
                    found[f"ssh NAME true, {key}"] = [round(one[key], 1) for one in plain]
                idle(instance, nodes, idle_s, found)
            finally:
                instance.end()
                time.sleep(1)
    finally:
        nodes.close()
    return found


def leave(group: CpuGroup) -> None:
    """Go back to where this process came from: what it starts from now on is not counted."""
    if group.path is not None:
        (group.path.parent / "cgroup.procs").write_text(str(os.getpid()))


def log_in_plainly(hosts: LoopbackHosts, nodes: CpuGroup) -> dict[str, float]:
    """What one login and one command cost each side by OpenSSH's client, in ms of CPU; and its time, four at once."""
    before, node, own = time.monotonic(), nodes.seconds(), waited_s()

    def one(name: str) -> None:
        subprocess.run(["ssh", "-F", hosts.ssh_config, name, "true"], check=True, stdin=subprocess.DEVNULL)

    names = (hosts.names * YARDSTICK)[:YARDSTICK]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, names))
    found = {"elapsed ms": (time.monotonic() - before) / YARDSTICK * 1e3, "head ms": (waited_s() - own) / YARDSTICK * 1e3}
    if node is not None:
        found["host ms"] = ((nodes.seconds() or 0) - node) / YARDSTICK * 1e3
    return found


def connect(instance: Instance, count: int, nodes: CpuGroup, found: Figures) -> None:
    """Start the controller and wait until all hosts are ready."""
    before, node, half = time.monotonic(), nodes.seconds(), 0.0
    up = subprocess.Popen(instance.command("up"), env=instance.env, cwd=instance.dir, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while (ready := count_ready(instance)) < count:
        if ready >= count / 2 and not half:
            half = time.monotonic() - before
        if time.monotonic() - before > 600:
            states = json.dumps(instance.ask("status")["hosts"])
            raise SystemExit(f"only {ready} of {count} hosts were ready after 600 s: {states}")
        time.sleep(0.1)
    found["half ready, s"], found["all ready, s"] = round(half, 1), round(time.monotonic() - before, 1)
    found["head, ms CPU a host"] = round(instance.cpu_s() / count * 1e3, 1)
    time.sleep(1)  # what the probe asks last
    if node is not None:
        found["host, ms CPU"] = round(((nodes.seconds() or 0) - node) / count * 1e3, 1)
    up.wait()
    time.sleep(4)


def idle(instance: Instance, nodes: CpuGroup, idle_s: float, found: Figures) -> None:
    """Count minute by minute what the controller takes; a last piece shorter than half a minute belongs to the one before."""
    pid, node, began = instance.pid(), nodes.seconds(), time.monotonic()
    minutes: list[tuple[float, float]] = []  # CPU in %, wakeups a second
    while (left := idle_s - (time.monotonic() - began)) > 0:
        cpu, wakeups, at = cpu_ns(pid), count_wakeups(pid), time.monotonic()
        time.sleep(left if left < 90 else 60)
        spent = time.monotonic() - at
        minutes.append(((cpu_ns(pid) - cpu) / spent / 1e7, (count_wakeups(pid) - wakeups) / spent))
    first, later = minutes[0], minutes[1:]
    found["idle, first minute: CPU, %; wakeups a second"] = [round(first[0], 2), round(first[1], 1)]
    if later:
        shares = [share for share, _ in later]
        found["idle, later minutes: CPU, %, mean and worst; wakeups a second"] = [
            round(statistics.mean(shares), 2), round(max(shares), 2), round(statistics.mean(often for _, often in later), 1),
        ]  # fmt: skip
    if node is not None:
        found["idle CPU of all hosts, %"] = round(((nodes.seconds() or 0) - node) / (time.monotonic() - began) * 100, 2)
    found["memory, MiB"] = round(instance.memory_mib(), 1)
    hosts: dict[str, dict[str, object]] = instance.ask("stats")["hosts"]  # type: ignore[assignment]
    trips = [one["round_trips"]["p50_s"] for one in hosts.values() if one["round_trips"]["count"]]  # type: ignore[index]
    found["round trip, ms"] = round(statistics.median(trips) * 1e3, 2) if trips else None
    for key in ("opened_today", "refused_today", "bytes_in", "bytes_out"):
        found[key] = sum(int(str(one[key])) for one in hosts.values())


def cpu_ns(pid: int) -> int:
    """CPU of all threads, finer than the clock ticks of /proc/PID/stat; of threads that have ended it knows nothing."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())


def count_wakeups(pid: int) -> int:
    """How often its threads went to sleep of their own accord so far."""
    status = [(task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0]) for text in status)


def count_ready(instance: Instance) -> int:
    """How many hosts are ready; none while the controller does not answer yet."""
    try:
        hosts: dict[str, int] = instance.ask("status")["hosts"]  # type: ignore[assignment]
    except UnreachableError:
        return 0
    return hosts.get("ready", 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hosts", type=int, default=300)
    parser.add_argument("--servers", type=int, default=0, help="so many sshds for all of them; one each without this")
    parser.add_argument("--idle", type=float, default=300, help="seconds")
    parser.add_argument("--json", help="write the figures here too")
    chosen = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, load {os.getloadavg()[0]:.1f}", flush=True)
    found = measure(chosen.hosts, chosen.servers, chosen.idle)
    found["load"] = round(os.getloadavg()[0], 1)
    print(json.dumps(found, indent=1))
    if chosen.json:
        Path(chosen.json).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
