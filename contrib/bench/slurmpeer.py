"""Real Slurm on this machine, as Debian packs it (`apt-get install slurm-wlm`): one slurmctld, four slurmd, as root."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

CONF = """ClusterName=bench
SlurmctldHost=localhost
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={dir}/munge.socket
SlurmctldPort=26817
SlurmctldPidFile={dir}/ctld.pid
SlurmdPidFile={dir}/d-%n.pid
SlurmdSpoolDir={dir}/spool-%n
StateSaveLocation={dir}/state
SlurmctldLogFile={dir}/ctld.log
SlurmdLogFile={dir}/d-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
PriorityType=priority/basic
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MailProg=/bin/true
KillWait=5
MinJobAge=10
MaxJobCount=200000
MaxArraySize=100001
DefMemPerCPU=1
{nodes}
PartitionName=debug Nodes={names} Default=YES MaxTime=INFINITE State=UP
"""


class RealSlurm:
    """Start slurmctld and `count` slurmd with `cpus` CPUs each; ended by their own pids."""

    def __init__(self, count: int, cpus: int) -> None:
        self.dir = Path(tempfile.mkdtemp(prefix="sshq-bench-slurm-"))
        self.env = {**os.environ, "SLURM_CONF": str(self.dir / "slurm.conf")}
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._count, self._cpus = count, cpus

    @staticmethod
    def absent() -> str | None:
        """Return why it cannot run here, or None."""
        if os.geteuid() != 0:
            return "Slurm's daemons are started as root"
        missing = [tool for tool in ("slurmctld", "slurmd", "munged", "sbatch") if not shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin")]
        return f"{', '.join(missing)} not installed (apt-get install slurm-wlm)" if missing else None

    def __enter__(self) -> "RealSlurm":
        self.dir.chmod(0o755)
        names = [f"s{i}" for i in range(self._count)]
        nodes = "\n".join(
            f"NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={26900 + i} CPUs={self._cpus} RealMemory=4000 State=UNKNOWN"
            for i, name in enumerate(names)
        )
        (self.dir / "slurm.conf").write_text(CONF.format(dir=self.dir, nodes=nodes, names=",".join(names)))
        (self.dir / "state").mkdir()
        key = self.dir / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        self._start("munged", "-F", "-f", "-S", f"{self.dir}/munge.socket", "--key-file", str(key), "--pid-file", f"{self.dir}/munge.pid",
                    "--log-file", f"{self.dir}/munge.log", "--seed-file", f"{self.dir}/munge.seed")  # fmt: skip
        self._until((self.dir / "munge.socket").exists, "munged")
        self._start("slurmctld", "-D")
        for name in names:
            (self.dir / f"spool-{name}").mkdir()
            self._start("slurmd", "-D", "-N", name)
        self._until(lambda: self.run("sinfo", "-h", "-t", "idle", "-o", "%D").strip() == str(self._count), "slurmd")
        return self

    def _start(self, *words: str) -> None:
        path = shutil.which(words[0], path=f"{os.environ['PATH']}:/usr/sbin") or words[0]
        log = open(self.dir / f"{words[0]}.out", "ab")
        self._daemons.append(subprocess.Popen([path, *words[1:]], env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def _until(self, ready: "object", what: str) -> None:
        deadline = time.monotonic() + 30
        while not ready():  # type: ignore[operator]
            if time.monotonic() > deadline:
                raise SystemExit(f"{what} did not come up; see {self.dir}")
            time.sleep(0.05)

    def run(self, *words: str) -> str:
        return subprocess.run(words, env=self.env, check=False, capture_output=True, text=True, cwd=self.dir).stdout

    def await_empty(self) -> None:
        """Wait until no job is in squeue, by a poll of 10 ms."""
        while self.run("squeue", "-h", "-o", "%i"):
            time.sleep(0.01)

    def array(self, jobs: int) -> None:
        self.run("sbatch", f"--array=1-{jobs}", "-o", "/dev/null", "--wrap", "true")
        self.await_empty()

    def separate(self, jobs: int) -> None:
        for _ in range(jobs):
            self.run("sbatch", "-o", "/dev/null", "--wrap", "true")
        self.await_empty()

    def __exit__(self, *_: object) -> None:
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
        for daemon in reversed(self._daemons):
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.dir, ignore_errors=True)
