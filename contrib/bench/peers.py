"""What people use instead of sshq, each behind one interface: can it run here, start it, run N no-op jobs, stop it."""

import contextlib
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator

import bare
from slurmpeer import RealSlurm

from hosts import LoopbackHosts

Run = Callable[[int], None]


class Peer:
    """One contender; `jobs` is how many it gets of those that sshq gets (a slow one fewer, or a round lasts for ever)."""

    name = ""
    jobs = 1.0
    remark = ""

    def __init__(self, hosts: LoopbackHosts, slots: int) -> None:
        self.hosts, self.slots = hosts, slots

    def absent(self) -> str | None:
        """Return why it cannot run here, or None."""
        return None

    @contextlib.contextmanager
    def started(self) -> Iterator[Run]:
        """Yield what runs so many jobs and returns when all are known to have ended."""
        yield self.run

    def run(self, jobs: int) -> None:
        raise NotImplementedError


def tool(name: str, package: str) -> str | None:
    return None if shutil.which(name) else f"not installed (apt-get install {package})"


def module(name: str, package: str) -> str | None:
    return None if importlib.util.find_spec(name) else f"not installed (pip install {package})"


class Parallel(Peer):
    name, jobs = "GNU parallel --sshlogin, curve25519", 0.1
    config = "ssh_config"

    def absent(self) -> str | None:
        return tool("parallel", "parallel")

    def run(self, jobs: int) -> None:
        logins = ",".join(f"{self.slots}/{name}" for name in self.hosts.names)
        home = self.hosts.dir / "parallel"
        home.mkdir(exist_ok=True)
        (home / "will-cite").touch()
        env = {**os.environ, "PARALLEL_SSH": f"ssh -F {self.hosts.dir / self.config}", "PARALLEL_HOME": str(home)}
        words = "\n".join(map(str, range(jobs)))
        subprocess.run(["parallel", "-S", logins, "true {}"], input=words, env=env, text=True, check=True, capture_output=True)


class ParallelAsInstalled(Parallel):
    name, jobs = "GNU parallel --sshlogin, as installed", 0.03
    config = "ssh_config_plain"


class ControlMaster(Peer):
    name = "xargs -P + ssh ControlMaster"
    remark = "the masters' start is in its time, as a user pays it too"

    def absent(self) -> str | None:
        return tool("xargs", "findutils")

    def run(self, jobs: int) -> None:
        base = ["ssh", "-F", str(self.hosts.ssh_config), "-S", f"{self.hosts.dir}/cm-%n"]
        for name in self.hosts.names:
            words = [*base, "-M", "-o", "ControlPersist=60", name, "true"]
            subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            lines = "\n".join(self.hosts.names[i % len(self.hosts.names)] for i in range(jobs))
            wide = str(self.slots * len(self.hosts.names))
            subprocess.run(["xargs", "-P", wide, "-I", "{}", *base, "{}", "true"], input=lines, text=True, check=True)
        finally:
            for name in self.hosts.names:
                subprocess.run([*base, "-O", "exit", name], check=False, capture_output=True)


class SlurmArray(Peer):
    name, jobs = "Slurm on this machine, one array", 0.25
    remark = "four slurmd here, no ssh, no database; batch_sched_delay=0, sched_min_interval=0"

    def absent(self) -> str | None:
        return RealSlurm.absent()

    @contextlib.contextmanager
    def started(self) -> Iterator[Run]:
        with RealSlurm(len(self.hosts.names), self.slots) as slurm:
            yield slurm.array


class SlurmLoop(SlurmArray):
    name, jobs, remark = "Slurm on this machine, one sbatch a job", 0.15, ""

    @contextlib.contextmanager
    def started(self) -> Iterator[Run]:
        with RealSlurm(len(self.hosts.names), self.slots) as slurm:
            yield slurm.separate


class HyperQueue(Peer):
    name = "HyperQueue, its LocalCluster"
    remark = "server and workers are one process here, no ssh; its client asks once a second, so a round is up to 1 s too long"

    def absent(self) -> str | None:
        return module("hyperqueue", "hyperqueue")

    @contextlib.contextmanager
    def started(self) -> Iterator[Run]:
        from hyperqueue import Job
        from hyperqueue.cluster import LocalCluster, WorkerConfig

        with silence(), LocalCluster() as cluster:
            for _ in self.hosts.names:
                cluster.start_worker(WorkerConfig(cores=self.slots))
            client = cluster.client()

            def run(jobs: int) -> None:
                job = Job()
                for _ in range(jobs):
                    job.program(["true"], stdout=None, stderr=None)
                client.wait_for_jobs([client.submit(job)])

            yield run


class Dask(Peer):
    name = "dask SSHCluster, subprocess true"
    remark = "a Python of dask's own on each host; threads, no processes of a job's own but true"

    def absent(self) -> str | None:
        return module("distributed", "distributed asyncssh")

    @contextlib.contextmanager
    def started(self) -> Iterator[Run]:
        with dask_client(self.hosts, self.slots) as client:

            def run(jobs: int) -> None:
                client.gather(client.map(subprocess.call, [["true"]] * jobs, pure=False))

            yield run


@contextlib.contextmanager
def dask_client(hosts: LoopbackHosts, slots: int) -> "Iterator[object]":
    """A dask cluster over these hosts: scheduler on the first, one worker a host with a thread a slot."""
    from distributed import Client, SSHCluster

    for logger in ("distributed", "asyncssh"):  # not by dask's configuration: that travels, and the scheduler's first line must be heard
        logging.getLogger(logger).setLevel(logging.ERROR)
    known = str(hosts.dir / "home" / ".ssh" / "known_hosts")
    options = {"port": hosts.port, "client_keys": [str(hosts.dir / "id")], "known_hosts": known, "config": None}
    with silence(), SSHCluster(
        [hosts.addresses[0], *hosts.addresses], connect_options=options, worker_options={"nthreads": slots, "n_workers": 1},
        scheduler_options={"port": 0, "dashboard_address": ":0"}, remote_python=sys.executable,
    ) as cluster, Client(cluster) as client:  # fmt: skip
        client.wait_for_workers(len(hosts.addresses))
        yield client


class TaskSpooler(Peer):
    name = "task-spooler"
    remark = "the local floor: no ssh, no hosts"

    def absent(self) -> str | None:
        return tool("tsp", "task-spooler")

    @contextlib.contextmanager
    def started(self) -> Iterator[Run]:
        env = {**os.environ, "TS_SOCKET": str(self.hosts.dir / "tsp"), "TS_SLOTS": str(self.slots * len(self.hosts.names)), "TS_MAXFINISHED": "50"}

        def run(jobs: int) -> None:
            for _ in range(jobs):
                subprocess.run(["tsp", "-n", "true"], env=env, check=True, stdout=subprocess.DEVNULL)
            subprocess.run(["tsp", "-w"], env=env, check=False, stdout=subprocess.DEVNULL)

        try:
            yield run
        finally:
            subprocess.run(["tsp", "-K"], env=env, check=False, capture_output=True)


class BareRunner(Peer):
    name = "the bare runner"
    remark = "sshq's own program for nodes without queue, database and accounting: the physical limit"

    def run(self, jobs: int) -> None:
        self.figures = bare.rate(self.hosts.names, jobs, config=str(self.hosts.ssh_config), slots=self.slots)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Send what libraries print to this process's own output into nothing."""
    sys.stdout.flush()
    kept = [os.dup(fd) for fd in (1, 2)]
    null = os.open(os.devnull, os.O_WRONLY)
    for fd in (1, 2):
        os.dup2(null, fd)
    try:
        yield
    finally:
        for fd, old in zip((1, 2), kept, strict=True):
            os.dup2(old, fd)
            os.close(old)
        os.close(null)


PEERS: list[type[Peer]] = [BareRunner, Parallel, ParallelAsInstalled, ControlMaster, SlurmArray, SlurmLoop, HyperQueue, Dask, TaskSpooler]
