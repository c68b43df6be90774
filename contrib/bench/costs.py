"""Where the time of a job goes: one command, no peers.

    python contrib/bench/costs.py [--jobs 1000] [--top 40] [--realtime]

1. An array of no-op jobs through the whole product on four loopback hosts: jobs/s, CPU a job of the controller (its loop, its
   store thread) and of the nodes, events and transactions a job.
2. The same with the controller's loop under cProfile (which doubles what it costs): its functions, by their own time.
3. A runner under `strace -f -c`, one job after the other: processes, programs and system calls a job on the node.

--realtime runs all of it before whatever else the machine does (`chrt -r`, root): on a shared machine nothing else gives the same
figures twice.  Spools lie in TMPDIR; on an ext4 without a journal (many virtual machines) each new file looks through all that
were removed in the last minutes, a quarter of all CPU here: TMPDIR=/dev/shm shows what is ours.  Needs openssh-server, strace.
"""

import argparse
import asyncio
import json
import os
import pstats
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

from bare import BareHost, node_cpu_s  # noqa: E402
from run import Sshq  # noqa: E402

from hosts import LoopbackHosts  # noqa: E402

STATS = "import json, os; from sshq.wire.client import connect\nwith connect(os.environ) as c: print(json.dumps(c.call('stats', {})))"


def thread_cpu_s(pid: int) -> dict[str, float]:
    """Return the CPU of each thread of a process: its first is the loop, the busiest of the others the store's."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
        found[task.name] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


def read_stats(instance: Sshq) -> dict:
    done = subprocess.run([sys.executable, "-c", STATS], env=instance.env, cwd=instance.work, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def whole_product(hosts: LoopbackHosts, jobs: int) -> None:
    instance = Sshq(hosts)
    instance.run("up")
    try:
        instance.array(32)
        pid = instance.pid()
        roots = [server.pid for server in hosts._servers]  # noqa: SLF001
        stats, threads, node, began = read_stats(instance), thread_cpu_s(pid), node_cpu_s(roots), time.perf_counter()
        instance.array(jobs)
        seconds = time.perf_counter() - began
        time.sleep(0.5)  # the last acknowledgements
        after = thread_cpu_s(pid)
        used = sorted(((after[t] - threads.get(t, 0.0)) / jobs * 1e3, t) for t in after if t != str(pid))
        loop, store = (after[str(pid)] - threads[str(pid)]) / jobs * 1e3, used[-1][0] if used else 0.0
        now = read_stats(instance)
        print(f"{jobs / seconds:.0f} jobs/s, load {os.getloadavg()[0]:.1f}")
        print(f"controller: {loop + sum(ms for ms, _ in used):.2f} ms of CPU a job: loop {loop:.2f}, store {store:.2f}")
        print(f"nodes:      {(node_cpu_s(roots) - node) / jobs * 1e3:.2f} ms of CPU a job")
        events, commits = now["events"] - stats["events"], now["commits"]["count"] - stats["commits"]["count"]
        print(f"a job:      {events / jobs:.1f} events, {commits / jobs:.2f} transactions")
    finally:
        instance.run("down")


def controller_profile(hosts: LoopbackHosts, jobs: int, top: int) -> None:
    """Run the controller as `sshq up` does, but under cProfile."""
    shutil.rmtree(hosts.dir / "sshq", ignore_errors=True)
    shutil.rmtree(hosts.dir / "work", ignore_errors=True)
    instance, found = Sshq(hosts), hosts.dir / "profile"
    home = instance.home
    words = ["--state", home / "state", "--socket", home / "sock", "--home", home, "--config", home / "config.yaml"]
    command = [sys.executable, "-m", "cProfile", "-o", found, "-m", "sshq.controller.start", *words, "--inventory", home / "inventory.yaml"]
    controller = subprocess.Popen(command, env=instance.env, cwd=instance.work, stdin=subprocess.DEVNULL)
    try:
        while not (home / "sock").exists() and controller.poll() is None:
            time.sleep(0.05)
        instance.array(jobs)
    finally:
        controller.send_signal(signal.SIGTERM)
        controller.wait()
    print(f"\nthe controller's loop, {jobs} jobs, start and end of the controller included (seconds):")
    pstats.Stats(str(found)).strip_dirs().sort_stats("tottime").print_stats(top)


async def node_counts(hosts: LoopbackHosts, jobs: int) -> None:
    if not shutil.which("strace"):
        print("strace is not installed: no counts of the node's processes")
        return
    out = hosts.dir / "strace"
    async with BareHost("b0", str(hosts.ssh_config), Path(tempfile.mkdtemp(dir=hosts.dir)), 1, 0) as host:
        await host.run(4)
        children = subprocess.run(["pgrep", "-P", str(host.hello.pid)], check=True, capture_output=True, text=True).stdout.split()  # noqa: ASYNC221
        pids = [word for pid in (str(host.hello.pid), *children) for word in ("-p", pid)]
        trace = subprocess.Popen(["strace", "-f", "-c", "-o", out, *pids], stderr=subprocess.PIPE, text=True)  # noqa: ASYNC220
        trace.stderr.readline()  # attached
        await host.run(jobs)
        await asyncio.sleep(0.5)
        trace.send_signal(signal.SIGINT)
        trace.wait()
    counts = {}
    for line in out.read_text().splitlines():
        words = line.split()
        if len(words) >= 5 and words[3].isdigit():
            counts[words[-1]] = int(words[3])
    total = counts.pop("total", sum(counts.values()))
    forks = sum(counts.get(name, 0) for name in ("clone", "clone3", "fork", "vfork"))
    print(f"\nthe node, {jobs} jobs one after the other (so an acknowledgement, a rename and an rm, is for fewer jobs than under load):")
    print(f"a job: {forks / jobs:.1f} processes, {counts.get('execve', 0) / jobs:.1f} programs, {total / jobs:.0f} system calls, of these")
    for name, count in sorted(counts.items(), key=lambda item: -item[1])[:12]:
        print(f"  {count / jobs:7.1f} {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--top", type=int, default=40)
    parser.add_argument("--realtime", action="store_true")
    arguments = parser.parse_args()
    if arguments.realtime:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(5))
    with LoopbackHosts(4, port=2429) as hosts:
        whole_product(hosts, arguments.jobs)
        controller_profile(hosts, arguments.jobs, arguments.top)
        asyncio.run(node_counts(hosts, 40))


if __name__ == "__main__":
    main()
