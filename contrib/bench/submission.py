"""How fast jobs are taken: a loop of sbatch, `sshq submit`, the Python interface, an array, and a thousand clients at once.

    python contrib/bench/submission.py [--jobs 5000] [--loop 100] [--clients 1000] [--bin DIR]

While a batch of Client.submit_many is taken, another client asks for one job and submits another, again and again: how long its
worst questions took stands below.  Against a controller of its own in a temporary directory, with the local machine as its one host; the jobs are held, so that
only submission is measured, durable as ever.  Beside each figure stands the CPU of the controller a job, by /proc.
"""

import argparse
import contextlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
INVENTORY = "all:\n  vars: {sshq_slots: 1}\n  hosts:\n    here: {ansible_connection: local, sshq_spool: %s/spool}\n"
PROBE = """
import os, sys, threading, time
sys.path.insert(0, sys.argv[1])
from sshq.wire.client import Client

description = {"kind": "script", "name": "probe", "script": "#!/bin/sh\\n", "work_dir": "/tmp", "held": True, "umask": 0o22}
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set())).start()
worst = {"squeue -j": 0.0, "sbatch": 0.0}
with Client(sys.argv[2]) as client:
    def submit():
        return client.call("submit", {"description": description, "environ": {}, "token": os.urandom(16).hex(), "fresh": True})
    one = submit()["job_id"]
    print("ready", flush=True)
    while not over.is_set():
        for name, ask in (("squeue -j", lambda: list(client.stream("jobs", {"filter": {"refs": [[one]]}}))), ("sbatch", submit)):
            begun = time.perf_counter()
            ask()
            worst[name] = max(worst[name], time.perf_counter() - begun)
        time.sleep(0.005)
print("; ".join(f"{name} {seconds * 1e3:.0f} ms" for name, seconds in worst.items()))
"""
SCRIPT = "#!/bin/sh\n#SBATCH --job-name=bench --time=10 --hold\nhostname # {}\n"


class Bench:
    """The controller, and what it has used."""

    def __init__(self, place: Path, folder: str) -> None:
        self.place, self.work, self.sshq = place, place / "work", os.path.join(folder, "sshq")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("SSHQ_", "PYTHON"))}
        self.env |= {"SSHQ_HOME": str(place), "PWD": str(self.work)}
        (place / "inventory.yaml").write_text(INVENTORY % place)
        (place / "config.yaml").write_text("array_size_max: 100000\n")
        self.work.mkdir()
        self.run(self.sshq, "up")
        self.run(self.sshq, "shims", str(place / "bin"))
        self.pid = int(self.run(self.sshq, "status", "--json").split('"pid":')[1].split(",")[0])

    def run(self, *words: str) -> str:
        return subprocess.run(words, cwd=self.work, env=self.env, check=True, capture_output=True, text=True).stdout

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def measure(self, name: str, count: int, work: "object") -> None:
        cpu, begun = self.cpu_s(), time.perf_counter()
        work()  # type: ignore[operator]
        seconds = time.perf_counter() - begun
        used = self.cpu_s() - cpu
        print(f"{name:<44}{count / seconds:>8.0f}/s  {count:>6} in {seconds:6.2f} s  controller {used / count * 1e6:>6.0f} us a job", flush=True)

    def loop(self, count: int) -> None:
        """As a user's shell does it."""
        command = f"for n in $(seq {count}); do '{self.place}/bin/sbatch' -H job.sh >/dev/null || exit 1; done"
        self.run("sh", "-c", command)

    @contextlib.contextmanager
    def probed(self) -> Iterator[None]:
        """Print the worst that another client met meanwhile."""
        command = [sys.executable, "-c", PROBE, str(ROOT), f"{self.place}/sock"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self.env) as probe:
            assert probe.stdin is not None
            assert probe.stdout is not None
            probe.stdout.readline()
            yield
            probe.stdin.close()
            print(f"  meanwhile, the longest of another client's: {probe.stdout.read().strip()}", flush=True)

    def clients(self, count: int) -> None:
        """Each connects when all are there, and submits one job."""
        from sshq.wire.client import Client

        description = {"kind": "script", "name": "c", "script": SCRIPT, "work_dir": str(self.work), "held": True, "umask": 0o22}
        go, ids, faults = threading.Barrier(count), [], []

        def submit(number: int) -> None:
            try:
                go.wait()
                with Client(f"{self.place}/sock") as client:
                    params = {"description": description, "environ": {"A": "1"}, "token": f"{number:08x}"}
                    ids.append(client.call("submit", params, timeout_s=120)["job_id"])
            except Exception as error:
                faults.append(error)

        threads = [threading.Thread(target=submit, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if faults or len(set(ids)) != count:
            raise SystemExit(f"{len(set(ids))} of {count} were taken; {faults[:1]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--loop", type=int, default=100)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--bin", default=os.path.dirname(sys.executable))
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    place = Path(tempfile.mkdtemp(prefix="sshq-submission-"))
    bench = Bench(place, options.bin)
    try:
        (bench.work / "job.sh").write_text(SCRIPT.format(0))
        scripts = []
        for number in range(options.jobs):
            path = bench.work / f"s{number}.sh"
            path.write_text(SCRIPT.format(number))
            scripts.append(path)
        (bench.work / "list").write_text("".join(f"{path}\n" for path in scripts))
        bench.measure("sbatch in a shell loop (shim)", options.loop, lambda: bench.loop(options.loop))
        bench.measure(f"sshq submit, {options.jobs} scripts", options.jobs, lambda: bench.run(bench.sshq, "submit", "--files-from", "list"))
        submit_from_python(bench, scripts)
        bench.measure("sbatch --array=1-10000, as one job", 1, lambda: bench.run(f"{place}/bin/sbatch", "-H", "--array=1-10000", "job.sh"))
        bench.measure("python3 -c pass, beside it", 1, lambda: bench.run(sys.executable, "-c", "pass"))
        bench.measure(f"{options.clients} clients at once", options.clients, lambda: bench.clients(options.clients))
    finally:
        bench.run(bench.sshq, "down")
        shutil.rmtree(place, ignore_errors=True)


def submit_from_python(bench: Bench, scripts: list[Path]) -> None:
    import sshq

    os.environ |= {"SSHQ_HOME": str(bench.place)}
    os.chdir(bench.work)
    with sshq.Client() as client:
        with bench.probed():
            bench.measure("Client.submit_many, scripts", len(scripts), lambda: client.submit_many(scripts))
        commands = [["echo", str(number)] for number in range(len(scripts))]
        with bench.probed():
            bench.measure("Client.submit_many, commands", len(commands), lambda: client.submit_many(commands, hold=True))


if __name__ == "__main__":
    main()
