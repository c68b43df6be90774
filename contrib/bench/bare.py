"""The bare runner: our own program for nodes, driven without a queue, a database or a scheduler.  The physical limit.

    python contrib/bench/bare.py [--jobs 1000] [--slots 4] [--ahead 0] [--json]               builds four loopback hosts itself
    python contrib/bench/bare.py --jobs 1000 --config SSH_CONFIG --hosts a,b,c,d --slots 4 [--json]

One asyncssh connection and one runner channel a host, as the controller has them; launches are encoded, sent, answered and
acknowledged by the very code of `sshq.runner`; a slot is filled again when its job's exit was heard.  Prints jobs/s, the CPU
a job costs this process, and what it costs the nodes: everything below the sshd of the connection, by /proc (the hosts must
run on this machine for that).  `rate(names, jobs, config=...)` is the same for other programs.
"""

import argparse
import asyncio
import contextlib
import json
import os
import resource
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

import asyncssh  # noqa: E402

from sshq.controller.hosts import ACK_DELAY_S  # noqa: E402
from sshq.core.model import SEQ_PER_GENERATION  # noqa: E402
from sshq.runner import protocol as rp  # noqa: E402
from sshq.slurm.environ import job_environment  # noqa: E402

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class BareHost:
    """One runner channel with at most `slots` launches open, and `ahead` more on their way."""

    def __init__(self, name: str, config: str | None, base: Path, slots: int, ahead: int) -> None:
        self.name = name
        self.width = slots + ahead
        self._config = config
        self._base = base
        self._slots = slots
        self._parser = rp.ReplyParser("bench")
        self._waiting: dict[object, asyncio.Future] = {}
        self._seq = 0
        self._acks: list[str] = []
        self._open: dict[str, tuple[int, int]] = {}  # launch -> slot, seq
        self._ended = asyncio.Event()
        self._out: list[bytes] = []
        self.failed = 0

    async def __aenter__(self) -> "BareHost":
        config = [self._config] if self._config else ()
        self._connection = await asyncssh.connect(self.name, config=config)
        self._process = await self._connection.create_process("exec /bin/sh", encoding=None, stderr=asyncssh.DEVNULL)
        self._reading = asyncio.ensure_future(self._read())
        self._write(rp.encode_bootstrap(nonce="bench", store_id=f"bench-{self.name}", base=str(self._base / self.name)))
        self.hello = await self._wait("hello")
        generation = self.hello.gen + 1
        self._seq = generation * SEQ_PER_GENERATION
        await self._call(
            lambda tag: rp.encode_reserve(tag=tag, old_gen=self.hello.gen, new_gen=generation, high=self._seq, open_seqs=())
        )
        self.root = int(_stat(self.hello.pid)[1])  # the sshd process of this connection, where it runs here
        return self

    async def __aexit__(self, *_: object) -> None:
        self._send_acks()
        await self._call(lambda tag: rp.encode_purge(tag=tag))
        self._reading.cancel()
        self._connection.close()
        await self._connection.wait_closed()

    async def run(self, jobs: int) -> None:
        """Run so many no-op jobs, each in a slot of its own."""
        free = list(range(self._slots)) * -(-self.width // self._slots)
        left = jobs
        while left or self._open:
            while left and len(self._open) < self.width:
                left -= 1
                self._launch(free.pop(0))
            self._ended.clear()
            before = dict(self._open)
            await self._ended.wait()
            free.extend(slot for launch, (slot, _) in before.items() if launch not in self._open)

    def _launch(self, slot: int) -> None:
        self._seq += 1
        facts = {
            "job_id": self._seq, "name": "wrap", "user": "bench", "uid": self.hello.uid, "gid": 0, "partition": "all", "slot": slot,
            "num_tasks": 1, "cpus": 1, "node": self.name, "nodes": [self.name], "submit_dir": "/tmp", "submit_host": "head",
        }  # fmt: skip
        launch = secrets.token_hex(16)
        call = rp.LaunchCall(
            id=launch, job_id=self._seq, attempt=1, seq=self._seq, epoch=1, uid=self.hello.uid, boot=self.hello.boot, node=self.name,
            script=b"#!/bin/sh\ntrue\n", work_dir="/tmp", stdout="/dev/null", slot=slot,
            environ={**os.environ, **job_environment(facts)},
        )  # fmt: skip
        self._open[launch] = slot, self._seq
        for part in rp.encode_launch(call):
            self._write(part)

    def _write(self, data: bytes) -> None:
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        data, self._out = b"".join(self._out), []
        self._process.stdin.write(data)

    async def _read(self) -> None:
        while data := await self._process.stdout.read(65536):
            for reply in self._parser.feed(data):
                self._take(reply)

    def _take(self, reply: object) -> None:
        if isinstance(reply, rp.Ended):
            self.failed += reply.record.code != 0
            self._open.pop(reply.id, None)
            if not self._acks:
                asyncio.get_running_loop().call_later(ACK_DELAY_S, self._send_acks)
            self._acks.append(reply.id)
            self._ended.set()
        elif isinstance(reply, (rp.Hello, rp.Unusable)):
            self._answer("hello", reply)
        elif isinstance(reply, (rp.Refused, rp.Malformed, rp.CallFailed)):
            raise SystemExit(f"{self.name}: {reply}")
        else:
            self._answer(getattr(reply, "tag", None), reply)

    def _answer(self, key: object, reply: object) -> None:
        future = self._waiting.pop(key, None)
        if future is not None:
            future.set_result(reply)

    def _send_acks(self) -> None:
        ids, self._acks = self._acks, []
        if ids:
            still = [seq for _, seq in self._open.values()]
            self._write(rp.encode_ack(tag=secrets.token_hex(4), high=self._seq, open_seqs=still, ids=ids))

    async def _call(self, encode: object) -> object:
        tag = secrets.token_hex(4)
        self._write(encode(tag))
        return await self._wait(tag)

    async def _wait(self, key: object) -> object:
        future = self._waiting[key] = asyncio.get_running_loop().create_future()
        done, _ = await asyncio.wait({future, self._reading}, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        if future not in done:
            error = self._reading.exception() if self._reading.done() else None
            raise SystemExit(f"{self.name}: no answer from the runner ({error})")
        if isinstance(future.result(), rp.Unusable):
            raise SystemExit(f"{self.name}: {future.result()}")
        return future.result()


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the name: state, parent, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def node_cpu_s(roots: list[int]) -> float:
    """Return the CPU that these processes and all below them have used, those they have waited for included (10 ms steps)."""
    stats = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            stats[int(entry.name)] = _stat(int(entry.name))
        except (OSError, IndexError):
            continue
    below = set(roots)
    grew = True
    while grew:
        more = {pid for pid, fields in stats.items() if int(fields[1]) in below} - below
        below |= more
        grew = bool(more)
    return sum(sum(map(int, stats[pid][11:15])) for pid in below if pid in stats) * TICK_S


async def _measure(names: list[str], jobs: int, config: str | None, slots: int, ahead: int, warm: int) -> dict[str, float]:
    base = Path(tempfile.mkdtemp(prefix="sshq-bare-"))
    hosts = [BareHost(name, config, base, slots, ahead) for name in names]
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, base, ignore_errors=True)
        for host in hosts:
            await stack.enter_async_context(host)
        await asyncio.gather(*(host.run(warm) for host in hosts))
        shares = [jobs // len(hosts) + (i < jobs % len(hosts)) for i in range(len(hosts))]
        roots = [host.root for host in hosts]
        node, own, start = node_cpu_s(roots), _own_cpu_s(), time.perf_counter()
        await asyncio.gather(*(host.run(share) for host, share in zip(hosts, shares, strict=True)))
        seconds, own = time.perf_counter() - start, _own_cpu_s() - own
        await asyncio.sleep(2 * ACK_DELAY_S)  # the last acknowledgements
        node = node_cpu_s(roots) - node
        if sum(host.failed for host in hosts):
            raise SystemExit("a job failed: its environment may be too large, or /dev/null is not there")
    return {"jobs": jobs, "jobs_per_s": jobs / seconds, "driver_ms_a_job": own / jobs * 1e3, "node_ms_a_job": node / jobs * 1e3}


def _own_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def rate(
    names: list[str], jobs: int, *, config: str | None = None, slots: int = 4, ahead: int = 0, warm: int = 8
) -> dict[str, float]:
    """Run `jobs` no-op jobs over these hosts; returns jobs_per_s, driver_ms_a_job and node_ms_a_job (CPU).

    Args:
        names: hosts as ssh knows them.
        jobs: in all.
        config: an ssh_config that says how to reach them; None for the user's own.
        slots: of each host.
        ahead: launches a host has beyond its slots, so that a slot never waits for the round trip.
        warm: jobs a host before the clock runs.
    """
    return asyncio.run(_measure(names, jobs, config, slots, ahead, warm))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--ahead", type=int, default=0)
    parser.add_argument("--config", help="an ssh_config")
    parser.add_argument("--hosts", help="names in it, with commas; without it four loopback hosts are built")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.hosts:
        names = arguments.hosts.split(",")
        figures = rate(names, arguments.jobs, config=arguments.config, slots=arguments.slots, ahead=arguments.ahead)
    else:
        from hosts import LoopbackHosts

        with LoopbackHosts(4) as hosts:
            figures = rate(hosts.names, arguments.jobs, config=str(hosts.ssh_config), slots=arguments.slots, ahead=arguments.ahead)
    if arguments.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        sys.stdout.write(
            f"{figures['jobs_per_s']:.0f} jobs/s; CPU a job: {figures['driver_ms_a_job']:.2f} ms here, "
            f"{figures['node_ms_a_job']:.2f} ms on its node\n"
        )


if __name__ == "__main__":
    main()
