"""How fast is sshq beside what people use now?  One command, one run, the same hosts.

    python contrib/bench/run.py [--jobs 400] [--rounds 3] [--write contrib/bench/RESULTS.md]

Builds four loopback sshd hosts with four slots each, then runs, interleaved in rounds: sshq (an array, and separate
jobs), GNU parallel --sshlogin with curve25519, and xargs -P with ControlMaster.  No-op jobs (`true`).  Prints medians
(min-max) and ratios of the same round; a peer that is not installed is named as absent.  Needs openssh-server.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from hosts import LoopbackHosts

ROOT = Path(__file__).resolve().parents[2]
SLOTS = 4


class Sshq:
    """One isolated instance on the bench's hosts."""

    def __init__(self, hosts: LoopbackHosts) -> None:
        self.home = hosts.dir / "sshq"
        self.work = hosts.dir / "work"
        self.work.mkdir()
        self.home.mkdir(mode=0o700)
        (self.home / "inventory.yaml").write_text(hosts.inventory(SLOTS))
        (self.home / "config.yaml").write_text("array_size_max: 100000\n")
        self.env = {**os.environ, "SSHQ_HOME": str(self.home), "HOME": str(hosts.dir / "home"), "PYTHONPATH": str(ROOT)}

    def run(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "sshq.cli.main", *words], cwd=self.work, env=self.env, check=True, capture_output=True, text=True
        )
        return done.stdout

    def array(self, jobs: int) -> None:
        self.run("sbatch", "--wait", f"--array=1-{jobs}", "-o", "/dev/null", "--wrap", "true")

    def separate(self, jobs: int) -> None:
        """As a user's loop does it: one sbatch a job, then wait for all."""
        ids = [self.run("sbatch", "--parsable", "-o", "/dev/null", "--wrap", "true").strip() for _ in range(jobs)]
        self.run("wait", *ids)

    def latency(self) -> dict[str, float]:
        """Submit one job to an idle queue; times in milliseconds, by the clock of this machine."""
        before = time.time()
        job = self.run("sbatch", "--parsable", "-o", str(self.work / "at"), "--wrap", "date +%s.%N").strip()
        returned = time.time()
        self.run("wait", job)
        waited = time.time()
        ran = float((self.work / "at").read_text())
        return {"sbatch returns": (returned - before) * 1e3, "submit to running": (ran - before) * 1e3, "running to known": (waited - ran) * 1e3}

    def controller_cpu_s(self) -> float:
        pid = json.loads(self.run("status", "--json"))["pid"]
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def parallel(hosts: LoopbackHosts, jobs: int) -> None:
    logins = ",".join(f"{SLOTS}/{name}" for name in hosts.names)
    home = hosts.dir / "parallel"
    home.mkdir(exist_ok=True)
    (home / "will-cite").touch()
    env = {**os.environ, "PARALLEL_SSH": f"ssh -F {hosts.ssh_config}", "PARALLEL_HOME": str(home)}
    words = "\n".join(map(str, range(jobs)))
    subprocess.run(["parallel", "-S", logins, "true {}"], input=words, env=env, text=True, check=True, capture_output=True)


def control_master(hosts: LoopbackHosts, jobs: int) -> None:
    """Run xargs -P over one multiplexed connection a host; the masters' start is in the time, as a user pays it too."""
    base = ["ssh", "-F", str(hosts.ssh_config), "-S", f"{hosts.dir}/cm-%n"]
    for name in hosts.names:
        subprocess.run([*base, "-M", "-o", "ControlPersist=60", name, "true"], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        lines = "\n".join(hosts.names[i % len(hosts.names)] for i in range(jobs))
        wide = str(SLOTS * len(hosts.names))
        subprocess.run(["xargs", "-P", wide, "-I", "{}", *base, "{}", "true"], input=lines, text=True, check=True)
    finally:
        for name in hosts.names:
            subprocess.run([*base, "-O", "exit", name], check=False, capture_output=True)


def timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def spread(values: list[float], unit: str = "") -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f}){unit}"


def measure(jobs: int, rounds: int) -> str:
    rates: dict[str, list[float]] = {}
    latencies: dict[str, list[float]] = {}
    cpu: list[float] = []
    absent = [tool for tool in ("parallel", "xargs") if not shutil.which(tool)]
    with LoopbackHosts(4) as hosts:
        sshq = Sshq(hosts)
        sshq.run("up")
        try:
            sshq.array(32)
            contenders: dict[str, tuple[Callable[[], None], int]] = {
                "sshq, one array": (lambda: sshq.array(jobs), jobs),
                "sshq, one sbatch a job": (lambda: sshq.separate(jobs // 4), jobs // 4),
            }
            if "parallel" not in absent:
                contenders["GNU parallel --sshlogin (curve25519)"] = (lambda: parallel(hosts, max(60, jobs // 4)), max(60, jobs // 4))
            if "xargs" not in absent:
                contenders["xargs -P + ControlMaster"] = (lambda: control_master(hosts, jobs), jobs)
            for _ in range(rounds):
                for name, (work, count) in contenders.items():
                    before = sshq.controller_cpu_s()
                    rates.setdefault(name, []).append(count / timed(work))
                    if name == "sshq, one array":
                        cpu.append((sshq.controller_cpu_s() - before) / count * 1e3)
                for _ in range(5):
                    for what, value in sshq.latency().items():
                        latencies.setdefault(what, []).append(value)
        finally:
            sshq.run("down")
    return report(rates, latencies, cpu, jobs, rounds, absent)


def report(
    rates: dict[str, list[float]], latencies: dict[str, list[float]], cpu: list[float], jobs: int, rounds: int, absent: list[str]
) -> str:
    ours = rates["sshq, one array"]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
    lines = [
        f"{machine}, load {os.getloadavg()[0]:.1f}; 4 loopback sshd hosts x {SLOTS} slots, {jobs} no-op jobs, {rounds} interleaved rounds.",
        "Controller, sshds, jobs and peers share the cores: read the ratios.",
        "",
        "| what | jobs/s, median (min-max) | sshq's array is |",
        "|---|---|---|",
    ]
    for name, values in rates.items():
        ratios = [mine / other for mine, other in zip(ours, values, strict=True)]
        shown = "1" if values is ours else f"{statistics.median(ratios):.1f} x ({min(ratios):.1f}-{max(ratios):.1f})"
        lines.append(f"| {name} | {spread(values)} | {shown} |")
    lines += [f"| {tool} | not installed here | |" for tool in absent]
    lines += ["", f"Controller CPU: {spread(cpu)} ms a job.", "", "| one job on an idle queue | ms, median (min-max) |", "|---|---|"]
    lines += [f"| {what} | {spread(values)} |" for what, values in latencies.items()]
    lines += ["", "`running to known` ends when a separate `sshq wait` has returned: two interpreter starts are in it."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path, help="also write the result to this file")
    arguments = parser.parse_args()
    text = measure(arguments.jobs, arguments.rounds)
    sys.stdout.write(text)
    if arguments.write:
        old = arguments.write.read_text() if arguments.write.exists() else ""
        _, heading, others = old.partition("\n## ")  # chaos and soak write there too
        arguments.write.write_text(f"# Results of contrib/bench/run.py, {time.strftime('%Y-%m-%d')}\n\n{text}{heading}{others}")


if __name__ == "__main__":
    main()
