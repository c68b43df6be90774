"""What a job costs its node: sshq's runner beside the smallest one there can be, interleaved in one run.

    python contrib/bench/node.py [--jobs 400] [--rounds 5] [--hosts 4] [--other CHECKOUT] [--realtime] [--json]

Both are a program of POSIX sh on one SSH channel a host, driven without a queue, each slot filled again when its job's end was
heard.  `smallest.sh` forks, records and forgets; ours keeps the launch protocol (ARCHITECTURE.md, section 4).  CPU is the control
group of the sshds and of all they start, where one can be made, else /proc's.  Prints ms a job, the ratio of each round (median,
min-max) to the smallest runner's, and jobs/s.  `--other` measures the runner of another checkout in the same rounds.

The smallest runner comes twice: a record closed by a line of its own, and one that is renamed (`mv`, one more program a job).
"""

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SLOTS = 4
SMALLEST, RENAMES, OURS, OTHER = "smallest", "smallest, mv", "sshq", "other"


class SmallestHost:
    """One channel to `smallest.sh`; as bare.BareHost: entered, then `run(jobs)`."""

    failed = 0

    def __init__(self, name: str, config: str, base: Path, slots: int, *, renames: bool) -> None:
        self._name, self._config, self._spool, self._slots = name, config, base / name, slots
        self._renames = renames
        self._open: set[str] = set()
        self._acks: list[str] = []
        self._ended = asyncio.Event()

    async def __aenter__(self) -> "SmallestHost":
        import asyncssh

        self._connection = await asyncssh.connect(self._name, config=[self._config])
        self._process = await self._connection.create_process("exec /bin/sh", stderr=asyncssh.DEVNULL)
        head = f"S={self._spool} RENAME={'1' if self._renames else ''}\n"
        self._process.stdin.write(head + (HERE / "smallest.sh").read_text())
        if not (await self._process.stdout.readline()).startswith("H "):
            raise SystemExit(f"{self._name}: the smallest runner did not start")
        self._reading = asyncio.ensure_future(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._send_acks()
        self._process.stdin.write_eof()
        self._reading.cancel()
        self._connection.close()
        await self._connection.wait_closed()

    async def run(self, jobs: int) -> None:
        left = jobs
        while left or self._open:
            lines = []
            while left and len(self._open) < self._slots:
                left -= 1
                job = secrets.token_hex(16)
                self._open.add(job)
                lines.append(f"run {job} '#!/bin/sh\ntrue'\n")
            self._process.stdin.write("".join(lines))
            self._ended.clear()
            await self._ended.wait()

    async def _read(self) -> None:
        from sshq.controller.hosts import ACK_DELAY_S

        async for line in self._process.stdout:
            words = line.split()
            if words[0] != "X":
                continue
            self.failed += words[2] != "0"
            self._open.discard(words[1])
            if not self._acks:
                asyncio.get_running_loop().call_later(ACK_DELAY_S, self._send_acks)
            self._acks.append(words[1])
            self._ended.set()

    def _send_acks(self) -> None:
        ids, self._acks = self._acks, []
        if ids:
            self._process.stdin.write(f"ack {' '.join(ids)}\n")


async def _drive(which: str, names: list[str], config: str) -> None:
    """Serve rounds: a line with a number of jobs on standard input, a line with the seconds they took on standard output."""
    from bare import BareHost

    from sshq.controller.hosts import ACK_DELAY_S

    base = Path(tempfile.mkdtemp(prefix="sshq-node-"))
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, base, ignore_errors=True)
        hosts = []
        for name in names:
            if which in (OURS, OTHER):
                host: object = BareHost(name, config, base, SLOTS, 0)
            else:
                host = SmallestHost(name, config, base, SLOTS, renames=which == RENAMES)
            hosts.append(await stack.enter_async_context(host))
        while line := await asyncio.to_thread(sys.stdin.readline):
            start = time.perf_counter()
            await asyncio.gather(*(host.run(int(line) // len(hosts)) for host in hosts))
            seconds = time.perf_counter() - start
            await asyncio.sleep(2 * ACK_DELAY_S)  # the last acknowledgements
            if any(host.failed for host in hosts):
                raise SystemExit(f"{which}: a job failed")
            sys.stdout.write(f"{seconds}\n")
            sys.stdout.flush()


def _start(which: str, tree: Path, names: list[str], config: Path) -> subprocess.Popen[str]:
    words = [sys.executable, str(HERE / "node.py"), "--drive", which, "--checkout", str(tree), ",".join(names), str(config)]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def measure(jobs: int, rounds: int, count: int, other: Path | None) -> dict[str, list[tuple[float, float]]]:
    """Return for each contender its rounds: jobs/s, and CPU ms a job of the nodes."""
    sys.path.insert(0, str(HERE))
    from bare import node_cpu_s
    from cpu import CpuGroup

    from hosts import LoopbackHosts

    contenders = [(SMALLEST, HERE.parents[1]), (OURS, HERE.parents[1]), (RENAMES, HERE.parents[1])]
    if other is not None:
        contenders.append((OTHER, other))
    found: dict[str, list[tuple[float, float]]] = {name: [] for name, _ in contenders}
    with LoopbackHosts(count) as hosts, contextlib.ExitStack() as stack:
        group = CpuGroup("node")
        stack.callback(group.close)
        for pid in hosts.pids:
            group.put(pid)

        def cpu_s() -> float:
            used = group.seconds()
            return node_cpu_s(hosts.pids) if used is None else used

        drivers = {name: _start(name, tree, hosts.names, hosts.ssh_config) for name, tree in contenders}
        for turn in range(rounds + 1):
            for name, driver in drivers.items():
                before = cpu_s()
                driver.stdin.write(f"{jobs if turn else 16 * count}\n")  # type: ignore[union-attr]
                driver.stdin.flush()  # type: ignore[union-attr]
                line = driver.stdout.readline()  # type: ignore[union-attr]
                if not line:
                    raise SystemExit(f"{name} ended")
                if turn:
                    done = jobs // count * count
                    found[name].append((done / float(line), (cpu_s() - before) / done * 1e3))
        for driver in drivers.values():
            driver.stdin.close()  # type: ignore[union-attr]
            driver.wait()
    return found


def spread(values: list[float], digits: int = 2) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=400, help="of each contender in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--hosts", type=int, default=4)
    parser.add_argument("--other", type=Path, help="another checkout of sshq, measured beside this one")
    parser.add_argument("--realtime", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--drive", help=argparse.SUPPRESS)
    parser.add_argument("--checkout", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.drive:
        sys.path[:0] = [arguments.checkout, str(HERE)]
        import sshq.runner.protocol  # noqa: F401 - of that checkout, before `bare` finds this one

        asyncio.run(_drive(arguments.drive, arguments.rest[0].split(","), arguments.rest[1]))
        return
    if arguments.realtime:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(5))
    found = measure(arguments.jobs, arguments.rounds, arguments.hosts, arguments.other and arguments.other.resolve())
    if arguments.json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    floor = [cpu for _, cpu in found[SMALLEST]]
    for name, rounds in found.items():
        ratios = [cpu / least for (_, cpu), least in zip(rounds, floor, strict=True)]
        sys.stdout.write(
            f"{name:14} {spread([cpu for _, cpu in rounds])} ms of CPU a job on its node, {spread(ratios)} x the smallest; "
            f"{spread([rate for rate, _ in rounds], 0)} jobs/s\n"
        )


if __name__ == "__main__":
    main()
