"""How fast is sshq beside what people use now?  One command, one run, the same hosts, everything interleaved.

    python contrib/bench/run.py [--jobs 2000] [--rounds 5] [--latency 40] [--only NAME,…] [--write contrib/bench/RESULTS.md]

Builds four loopback sshd hosts with four slots each and runs, in rounds, no-op jobs (`true`) by sshq (an array; separate jobs by
the Python interface; one sbatch a job) and by each peer that is installed; then single jobs on an idle queue.  Prints medians
(min-max), ratios of the same round, CPU a job.  A peer that is not installed is named as absent.  Needs openssh-server; peers:

    apt-get install parallel slurm-wlm task-spooler; pip install '.[bench]'
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

import latency  # noqa: E402
from cpu import CpuGroup, process_s, waited_s  # noqa: E402
from peers import PEERS, Peer, Run  # noqa: E402
from slurmpeer import RealSlurm  # noqa: E402

from hosts import LoopbackHosts  # noqa: E402

SLOTS = 4
OURS = "sshq, one array"


class Sshq:
    """One isolated instance on the bench's hosts."""

    def __init__(self, hosts: LoopbackHosts) -> None:
        self.home = hosts.dir / "sshq"
        self.work = hosts.dir / "work"
        self.work.mkdir()
        self.home.mkdir(mode=0o700)
        (self.home / "inventory.yaml").write_text(hosts.inventory(SLOTS))
        (self.home / "config.yaml").write_text("array_size_max: 100001\n")
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each command compiles sshq anew, which no installed one does
        self.env = {**os.environ, "SSHQ_HOME": str(self.home), "HOME": str(hosts.dir / "home"), "PYTHONPATH": str(ROOT)}

    def run(self, *words: str) -> str:
        shim = self.home / "bin" / words[0]
        words = (str(shim), *words[1:]) if shim.exists() else (sys.executable, "-m", "sshq.cli.main", *words)
        return subprocess.run(words, cwd=self.work, env=self.env, check=True, capture_output=True, text=True).stdout

    def write_shims(self) -> None:
        """From now on sbatch and the others are those that `sshq shims` writes, as users have them."""
        self.run("shims", str(self.home / "bin"))

    def client(self) -> object:
        import sshq

        os.environ.update({"SSHQ_HOME": str(self.home)})
        os.chdir(self.work)
        return sshq.Client()

    def array(self, jobs: int) -> None:
        self.run("sbatch", "--wait", f"--array=1-{jobs}", "-o", "/dev/null", "--wrap", "true")

    def many(self, jobs: int) -> None:
        for job in self.client().submit_many(["#!/bin/sh\ntrue\n"] * jobs, output="/dev/null"):  # type: ignore[attr-defined]
            job.result()

    def loop(self, jobs: int) -> None:
        """As a user's loop does it: one sbatch a job, then wait for all."""
        ids = [self.run("sbatch", "--parsable", "-o", "/dev/null", "--wrap", "true").strip() for _ in range(jobs)]
        self.run("wait", *ids)

    def pid(self) -> int:
        return int(json.loads(self.run("status", "--json"))["pid"])


class SshqArray(Peer):
    name = OURS
    way = "array"

    def __init__(self, hosts: LoopbackHosts, slots: int, instance: Sshq) -> None:
        super().__init__(hosts, slots)
        self.instance = instance

    @contextlib.contextmanager
    def started(self) -> Iterator[Run]:
        yield getattr(self.instance, self.way)


class SshqMany(SshqArray):
    name, way = "sshq, separate jobs by Client.submit_many", "many"


class SshqLoop(SshqArray):
    name, way, jobs = "sshq, one sbatch a job", "loop", 0.25


class Measured:
    """What one contender's rounds gave."""

    def __init__(self) -> None:
        self.rate: list[float] = []
        self.cpu: dict[str, list[float]] = {}

    def add(self, jobs: int, seconds: float, cpu: dict[str, float | None]) -> None:
        self.rate.append(jobs / seconds)
        for what, used in cpu.items():
            if used is not None:
                self.cpu.setdefault(what, []).append(used / jobs * 1e3)


def one_round(peer: Peer, jobs: int, nodes: CpuGroup, group: CpuGroup, controller: int | None, results: dict[str, Measured]) -> None:
    """Run a contender once; its own processes are in `group`, the hosts' in `nodes`."""
    with peer.started() as run:
        run(2 * SLOTS * 4)
        node, own = nodes.seconds(), group.seconds()
        head = process_s(controller) if controller else None
        mine, began = waited_s(), time.perf_counter()
        run(jobs)
        seconds = time.perf_counter() - began
        cpu = {
            "controller": process_s(controller) - head if controller and head is not None else None,
            "commands": waited_s() - mine if controller else None,
            "in all": (nodes.seconds() or 0) - node + (group.seconds() or 0) - own if node is not None and own is not None else None,
            "nodes": (nodes.seconds() or 0) - node if node is not None else None,
        }
    results.setdefault(peer.name, Measured()).add(jobs, seconds, cpu)
    note(f"{peer.name}: {jobs / seconds:.0f}/s ({jobs} jobs)")


def note(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


def measure(jobs: int, rounds: int, single: int, only: list[str]) -> str:
    results: dict[str, Measured] = {}
    samples: latency.Samples = {}
    absent: dict[str, str] = {}
    load = os.getloadavg()[0]
    nodes, group = CpuGroup("nodes"), CpuGroup("head")
    group.put()
    with contextlib.ExitStack() as stack:
        stack.callback(nodes.close)
        stack.callback(group.close)
        hosts = stack.enter_context(LoopbackHosts(4))
        for pid in hosts.pids:
            nodes.put(pid)
        instance = Sshq(hosts)
        instance.run("up")
        instance.write_shims()
        stack.callback(instance.run, "down")
        controller = instance.pid()
        ours: list[Peer] = [kind(hosts, SLOTS, instance) for kind in (SshqArray, SshqMany, SshqLoop)]
        peers: list[Peer] = [kind(hosts, SLOTS) for kind in PEERS]
        for peer in list(peers):
            why = peer.absent()
            if why:
                absent[peer.name] = why
                peers.remove(peer)
        wanted = [peer for peer in ours + peers if not only or any(word in peer.name for word in only)]
        for _ in range(rounds):
            for peer in wanted:
                one_round(peer, max(40, int(jobs * peer.jobs)), nodes, group, controller if peer in ours else None, results)
        note("single jobs")
        single_jobs(samples, single, instance)
    return report(results, samples, absent, wanted, f"load {load:.1f} before it began; {jobs} no-op jobs, {rounds} interleaved rounds")


def single_jobs(samples: latency.Samples, count: int, instance: Sshq) -> None:
    client = instance.client()
    with contextlib.ExitStack() as stack:
        slurm = None
        if count and RealSlurm.absent() is None:
            slurm = stack.enter_context(RealSlurm(4, SLOTS))
        for _ in range(count):
            latency.idle_python(samples)
            latency.sshq_once(samples, instance.run, instance.work, client)
            if slurm is not None:
                latency.slurm_once(samples, slurm.run, slurm.dir)


def spread(values: list[float], digits: int = 1) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def versions() -> str:
    found = [f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"]
    for tool in (["ssh", "-V"], ["parallel", "--version"], ["slurmctld", "-V"]):
        with contextlib.suppress(OSError, IndexError):
            done = subprocess.run(tool, check=False, capture_output=True, text=True)
            found.append((done.stdout + done.stderr).splitlines()[0].strip())
    for package in ("asyncssh", "hyperqueue", "distributed"):
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return "; ".join(found)


def report(results: dict[str, Measured], samples: latency.Samples, absent: dict[str, str], wanted: list[Peer], how: str) -> str:
    base = results.get(OURS)
    lines = [
        f"{versions()}.",
        "",
        f"Four loopback sshd hosts x {SLOTS} slots, {how}.  Head, sshds, jobs and peers share the cores: read the ratios.",
        "",
        "| what | jobs/s, median (min-max) | sshq's array is | CPU ms a job, head and nodes | of it on the nodes |",
        "|---|---|---|---|---|",
    ]
    for name, found in results.items():
        ratio = "1"
        if base is not None and found is not base:
            ratios = [mine / other for mine, other in zip(base.rate, found.rate, strict=True)]
            ratio = f"{spread(ratios)} x"
        cpu = [spread(found.cpu[what]) if what in found.cpu else "-" for what in ("in all", "nodes")]
        lines.append(f"| {name} | {spread(found.rate)} | {ratio} | {cpu[0]} | {cpu[1]} |")
    lines += [f"| {name} | {why} | | | |" for name, why in absent.items()]
    lines.append("")
    for name, found in results.items():
        if "controller" in found.cpu:
            commands = f", commands {spread(found.cpu['commands'], 2)}" if "commands" in found.cpu else ""
            lines.append(f"* {name}: CPU of the controller {spread(found.cpu['controller'], 2)}{commands} ms a job.")
    lines += [f"* {peer.name}: {peer.remark}." for peer in wanted if peer.remark and peer.name in results]
    return "\n".join([*lines, "", *(latency.table(samples) if samples else [])]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--latency", type=int, default=40, help="single jobs on an idle queue")
    parser.add_argument("--only", default="", help="parts of contenders' names, with commas")
    parser.add_argument("--write", type=lambda name: Path(name).resolve(), help="also write the result to this file")
    arguments = parser.parse_args()
    only = [word for word in arguments.only.split(",") if word]
    text = measure(arguments.jobs, arguments.rounds, arguments.latency, only)
    sys.stdout.write(text)
    if arguments.write:
        old = arguments.write.read_text() if arguments.write.exists() else ""
        _, heading, others = old.partition("\n## ")  # the other benchmarks, chaos and soak write there too
        arguments.write.write_text(f"# Results of contrib/bench/run.py, {time.strftime('%Y-%m-%d')}\n\n{text}{heading}{others}")


if __name__ == "__main__":
    main()
