"""How fast are thousands of tiny calls through `sshq.Pool`, beside dask and a multiprocessing.Pool on each host over ssh?

    python contrib/bench/pool.py [--calls 10000] [--rounds 5] [--only sshq,dask,mp] [--write contrib/bench/RESULTS.md]

Builds four loopback sshd hosts with one worker process each, the same interpreter for all (`pip install distributed asyncssh
'sshq[python]'` in a virtual environment, and run this with its Python).  Every contender is started, and has answered a call from each
worker, before anything is measured; then they take turns, round by round.  Two loads: each call sent for itself, and calls in
chunks of 50 (`chunksize=50`; for dask, which has none, a list of 50 arguments a task).  Prints medians (min-max) of calls a second
and ratios of the same round.  A peer that is not installed is named as absent.  Needs openssh-server.
"""

import argparse
import os
import pickle
import platform
import shutil
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from hosts import LoopbackHosts

ROOT = Path(__file__).resolve().parents[2]
HOSTS = 4
CHUNK = 50
Loads = dict[str, Callable[[int], Any]]


def tiny(x: int) -> int:
    return x + 1


def tiny_chunk(xs: list[int]) -> list[int]:
    return [tiny(x) for x in xs]


def check(results: list[int], calls: int) -> None:
    if results != list(range(1, calls + 1)):
        raise SystemExit("a contender returned something else than was asked")


NOTE = """\
dask's tasks are each scheduled by its own scheduler, with dependencies and work stealing; `sshq.Pool` sends quick calls many at a time.
`multiprocessing.Pool over ssh` is sent all arguments of a host at once, so its calls never meet the network: the ceiling, without any
provision for what is lost with a process or a line."""


class Sshq:
    """A pool of one process a host, under a controller of its own."""

    def __init__(self, hosts: LoopbackHosts) -> None:
        home, self.work = hosts.dir / "sshq", hosts.dir / "work"
        home.mkdir(mode=0o700)
        self.work.mkdir()
        (home / "inventory.yaml").write_text(hosts.inventory(1))
        os.environ |= {"SSHQ_HOME": str(home), "HOME": str(hosts.dir / "home"), "PYTHONPATH": str(ROOT)}
        os.chdir(self.work)
        subprocess.run([sys.executable, "-m", "sshq.cli.main", "up"], check=True, stdout=subprocess.DEVNULL)
        sys.path.insert(0, str(ROOT))
        import sshq

        self.pool = sshq.Pool(HOSTS)
        self.pool.map(tiny, range(HOSTS * 8), 1)
        self.loads: Loads = {
            "each": lambda calls: self.pool.map(tiny, range(calls), 1), "chunks": lambda calls: self.pool.map(tiny, range(calls), CHUNK),
        }  # fmt: skip

    def close(self) -> None:
        self.pool.terminate()
        self.pool.join(20)
        subprocess.run([sys.executable, "-m", "sshq.cli.main", "down"], check=False, stdout=subprocess.DEVNULL)


class Dask:
    """dask's own SSHCluster: its scheduler on the first host, a worker of one thread on each."""

    def __init__(self, hosts: LoopbackHosts) -> None:
        import logging

        import asyncssh
        from distributed import Client, SSHCluster

        logging.getLogger("distributed").setLevel(logging.ERROR)
        logging.getLogger("asyncssh").setLevel(logging.ERROR)
        options = {"known_hosts": None, "client_keys": [str(hosts.dir / "id")], "port": hosts.port, "config": None}
        del asyncssh
        self.cluster = SSHCluster(
            [hosts.addresses[0], *hosts.addresses], connect_options=options, remote_python=sys.executable,
            worker_options={"nthreads": 1, "n_workers": 1}, scheduler_options={"dashboard": False},
        )  # fmt: skip
        self.client = Client(self.cluster)
        self.client.wait_for_workers(HOSTS, timeout=60)
        self._run(HOSTS * 8)
        self.loads: Loads = {"each": self._run, "chunks": self._run_chunks}

    def _run(self, calls: int) -> list[int]:
        return self.client.gather(self.client.map(tiny, range(calls), pure=False))

    def _run_chunks(self, calls: int) -> list[int]:
        parts = [list(range(start, min(start + CHUNK, calls))) for start in range(0, calls, CHUNK)]
        return [value for part in self.client.gather(self.client.map(tiny_chunk, parts, pure=False)) for value in part]

    def close(self) -> None:
        self.client.close()
        self.cluster.close()


SERVER = """
import multiprocessing, pickle, struct, sys
def tiny(x):
    return x + 1
out = sys.stdout.buffer
with multiprocessing.Pool(1) as pool:
    while head := sys.stdin.buffer.read(8):
        args, chunk = pickle.loads(sys.stdin.buffer.read(struct.unpack("<Q", head)[0]))
        data = pickle.dumps(pool.map(tiny, args, chunk))
        out.write(struct.pack("<Q", len(data)) + data)
        out.flush()
"""


class Multiprocessing:
    """What one writes by hand: `ssh HOST python` with a multiprocessing.Pool there, a quarter of the arguments to each host."""

    def __init__(self, hosts: LoopbackHosts) -> None:
        import shlex

        script = hosts.dir / "server.py"
        script.write_text(SERVER)
        words = [shlex.quote(sys.executable), shlex.quote(str(script))]
        self.servers = [
            subprocess.Popen(["ssh", "-F", hosts.ssh_config, name, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for name in hosts.names
        ]
        self._run(HOSTS * 8, 1)
        self.loads: Loads = {"each": lambda calls: self._run(calls, 1), "chunks": lambda calls: self._run(calls, CHUNK)}

    def _run(self, calls: int, chunk: int) -> list[int]:
        part = -(-calls // HOSTS)
        for number, server in enumerate(self.servers):
            data = pickle.dumps((range(number * part, min((number + 1) * part, calls)), chunk))
            server.stdin.write(struct.pack("<Q", len(data)) + data)
            server.stdin.flush()
        results: list[int] = []
        for server in self.servers:
            results += pickle.loads(server.stdout.read(struct.unpack("<Q", server.stdout.read(8))[0]))
        return results

    def close(self) -> None:
        for server in self.servers:
            server.stdin.close()
            server.wait(20)


CONTENDERS = {"sshq": ("sshq.Pool", Sshq), "dask": ("dask SSHCluster", Dask), "mp": ("multiprocessing.Pool over ssh", Multiprocessing)}
PACKAGES = {"sshq": "cloudpickle", "dask": "distributed", "mp": ""}


def version_of(package: str) -> str | None:
    try:
        return version(package) if package else ""
    except PackageNotFoundError:
        return None


def measure(calls: int, rounds: int, only: list[str], port: int) -> str:
    rates: dict[tuple[str, str], list[float]] = {}
    running: dict[str, Any] = {}
    absent = [CONTENDERS[name][0] for name in only if version_of(PACKAGES[name]) is None]
    load = os.getloadavg()[0]
    with LoopbackHosts(HOSTS, port) as hosts:
        try:
            for name in only:
                if CONTENDERS[name][0] not in absent:
                    running[name] = CONTENDERS[name][1](hosts)
            for _ in range(rounds):
                for kind in ("each", "chunks"):
                    for name, contender in running.items():
                        begun = time.perf_counter()
                        results = contender.loads[kind](calls)
                        rates.setdefault((kind, name), []).append(calls / (time.perf_counter() - begun))
                        check(list(results), calls)
        finally:
            for contender in running.values():
                contender.close()
            os.chdir("/")
    return report(rates, list(running), absent, calls, rounds, load)


def report(rates: dict[tuple[str, str], list[float]], names: list[str], absent: list[str], calls: int, rounds: int, load: float) -> str:
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
    dask = version_of("distributed")
    lines = [
        f"{time.strftime('%Y-%m-%d')}, {machine}, load {load:.1f} at the start; {HOSTS} loopback sshd hosts, a worker on each; {calls} calls",
        f"of `x + 1`, {rounds} interleaved rounds; dask {dask or 'absent'}.  Everything shares the cores: read the ratios.", "",
        "| calls | by | calls a second, median (min-max) | sshq.Pool is, in the same round |", "|---|---|---|---|",
    ]  # fmt: skip
    for kind, words in (("each", "each for itself"), ("chunks", f"in chunks of {CHUNK}")):
        ours = rates.get((kind, "sshq"), [])
        for name in names:
            values = rates[kind, name]
            ratios = [mine / other for mine, other in zip(ours, values, strict=False)]
            shown = "1" if name == "sshq" else f"{statistics.median(ratios):.2f} x ({min(ratios):.2f}-{max(ratios):.2f})" if ratios else ""
            middle = f"{statistics.median(values):,.0f} ({min(values):,.0f}-{max(values):,.0f})"
            lines.append(f"| {words} | {CONTENDERS[name][0]} | {middle} | {shown} |")
    lines += [f"| | {name} | not installed here | |" for name in absent]
    lines += ["", NOTE]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="sshq,dask,mp", help="which contenders, by comma")
    parser.add_argument("--port", type=int, default=2433, help="of the hosts' sshds, on 127.77.0.1 and on")
    parser.add_argument("--write", type=Path, help="also write the result to this file, in place of the section Pool")
    arguments = parser.parse_args()
    only = [name for name in arguments.only.split(",") if name in CONTENDERS]
    if not only or not shutil.which("ssh"):
        parser.error("contenders are sshq, dask, mp; and ssh is needed")
    target = arguments.write.resolve() if arguments.write else None
    text = measure(arguments.calls, arguments.rounds, only, arguments.port)
    sys.stdout.write(text)
    if target:
        old = target.read_text() if target.exists() else ""
        before, _, after = old.partition("\n## Pool\n")
        _, heading, others = after.partition("\n## ")
        target.write_text(f"{before}\n## Pool\n\n`python contrib/bench/pool.py`\n\n{text}{heading}{others}")


if __name__ == "__main__":
    main()
