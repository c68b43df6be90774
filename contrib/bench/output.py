"""How fast output comes: read whole, followed live, by several at once, beside one who does not read, and of many jobs at once.

Also what others wait meanwhile, and how fast a file of a job's directory comes, beside scp and rsync.

    python contrib/bench/output.py [--mib 512] [--jobs 200]

One loopback sshd host, a controller of its own, everything in temporary directories.  Rates are bytes that reached the reader
by the wall clock; beside them `ssh HOST cat FILE > /dev/null` over a connection that stands, which is what the line itself
can do.  CPU of the controller a MiB tells what is left when hosts are not on the same machine.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from hosts import LoopbackHosts

ROOT = Path(__file__).resolve().parents[2]


class Queue:
    """One instance on the bench's host."""

    def __init__(self, hosts: LoopbackHosts, slots: int) -> None:
        self.home, self.work = hosts.dir / "sshq", hosts.dir / "work"
        self.home.mkdir(mode=0o700)
        self.work.mkdir()
        (self.home / "inventory.yaml").write_text(hosts.inventory(slots))
        (self.home / "config.yaml").write_text("array_size_max: 100000\n")
        self.env = {**os.environ, "SSHQ_HOME": str(self.home), "HOME": str(hosts.dir / "home"), "PYTHONPATH": str(ROOT), "PWD": str(self.work)}
        self.run("up")
        self.pid = int(self.run("status", "--json").split('"pid":')[1].split(",")[0])

    def words(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "sshq.cli.main", *words]

    def run(self, *words: str) -> str:
        return subprocess.run(self.words(*words), cwd=self.work, env=self.env, check=True, capture_output=True, text=True).stdout

    def read(self, *words: str) -> tuple[int, float]:
        """Run a command, count the bytes it prints, and return them with the seconds."""
        begun, count = time.perf_counter(), 0
        with subprocess.Popen(self.words(*words), cwd=self.work, env=self.env, stdout=subprocess.PIPE, bufsize=0) as child:
            assert child.stdout is not None
            buffer = bytearray(1 << 20)
            while got := child.stdout.readinto(buffer):
                count += got
        return count, time.perf_counter() - begun

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_mib(self) -> float:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def show(name: str, count: int, seconds: float, note: str = "") -> None:
    print(f"{name:<46}{count / seconds / 1e6:>8.0f} MB/s  {count >> 20:>6} MiB in {seconds:5.2f} s  {note}", flush=True)


def measure_line(hosts: LoopbackHosts, path: Path) -> None:
    base = ["ssh", "-F", str(hosts.ssh_config), "-S", f"{hosts.dir}/cm", "-o", "Ciphers=aes128-gcm@openssh.com", hosts.names[0]]
    subprocess.run([*base[:-1], "-M", "-o", "ControlPersist=60", base[-1], "true"], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    begun = time.perf_counter()
    subprocess.run([*base, f"cat {path}"], check=True, stdout=subprocess.DEVNULL)
    show("ssh HOST cat, connection shared", path.stat().st_size, time.perf_counter() - begun)
    subprocess.run([*base[:-1], "-O", "exit", base[-1]], check=False, capture_output=True)


def show_waits(queue: Queue, when: str, job: str | None) -> None:
    """What it takes to run `true` and to list the queue, while the output of `job` is read again and again."""
    over = threading.Event()

    def read() -> None:
        while job is not None and not over.is_set():
            queue.read("logs", job)

    thread = threading.Thread(target=read)
    thread.start()
    for words in (["srun", "true"], ["squeue"]):
        took = []
        for _ in range(15):
            begun = time.perf_counter()
            queue.run(*words)
            took.append((time.perf_counter() - begun) * 1e3)
        print(f"    {' '.join(words):<10} while {when}: median {statistics.median(took):.0f} ms, the longest {max(took):.0f} ms", flush=True)
    over.set()
    thread.join()


def measure_copies(queue: Queue, hosts: LoopbackHosts, job: str, big: Path) -> None:
    """A file of a job's directory on this machine's disk, by what is at hand; `sshq cp` alone compares checksums."""
    here, there = hosts.dir / "copy", f"{hosts.names[0]}:{big}"
    ways = {
        "scp -O": ["scp", "-O", "-q", "-F", str(hosts.ssh_config), there, str(here)],
        "rsync": ["rsync", "-e", f"ssh -F {hosts.ssh_config}", there, str(here)],
        "sshq cp": queue.words("cp", f"{job}:{big.name}", str(here)),
    }
    for name, words in ways.items():
        if shutil.which(words[0]) is None:
            print(f"{name}: not here")
            continue
        begun = time.perf_counter()
        subprocess.run(words, cwd=queue.work, env=queue.env, check=True)
        show(name, here.stat().st_size, time.perf_counter() - begun)
        here.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--jobs", type=int, default=200)
    options = parser.parse_args()
    with LoopbackHosts(1, port=2432) as hosts:
        queue = Queue(hosts, max(options.jobs, 4))
        try:
            measure(queue, hosts, options.mib, options.jobs)
        finally:
            queue.run("down")


def measure(queue: Queue, hosts: LoopbackHosts, mib: int, jobs: int) -> None:
    writing = f"head -c {mib}M /dev/zero"
    job = queue.run("sbatch", "--parsable", "-o", "big", "--wrap", f"{writing}; sleep 600").strip()
    big = queue.work / "big"
    while not big.exists() or big.stat().st_size < mib << 20:
        time.sleep(0.05)
    measure_line(hosts, big)
    cpu = queue.cpu_s()
    count, seconds = queue.read("logs", job)
    show("sshq logs of a running job", count, seconds, f"controller {(queue.cpu_s() - cpu) / mib * 1e3:.1f} ms CPU a MiB")
    begun = time.perf_counter()
    live = queue.run("sbatch", "--parsable", "-o", "live", "--wrap", writing).strip()
    count, _ = queue.read("logs", "-f", live)
    show("sshq logs -f from submission to end", count, time.perf_counter() - begun)
    count, seconds = queue.read("srun", "head", "-c", f"{mib}M", "/dev/zero")
    show("srun head -c", count, seconds)

    # Somebody who does not read holds a place; two who do, and a submission, beside it.
    stalled = subprocess.Popen(queue.words("logs", "-f", job), cwd=queue.work, env=queue.env, stdout=subprocess.PIPE)
    time.sleep(1)
    before = queue.rss_mib()
    show_waits(queue, "nobody else reads", None)
    show_waits(queue, "one reads at full speed, one not at all", job)
    results: list[tuple[int, float]] = []
    threads = [threading.Thread(target=lambda: results.append(queue.read("logs", job))) for _ in range(2)]
    for thread in threads:
        thread.start()
    took = []
    while any(thread.is_alive() for thread in threads):
        begun = time.perf_counter()
        queue.run("sbatch", "-H", "--wrap", "true")
        took.append(time.perf_counter() - begun)
    for count, seconds in results:
        show("sshq logs beside one that reads nothing", count, seconds)
    print(f"    submissions meanwhile: {len(took)}, the longest {max(took, default=0) * 1e3:.0f} ms; controller grew by {queue.rss_mib() - before:.0f} MiB")
    stalled.kill()
    stalled.wait()
    measure_copies(queue, hosts, job, big)
    queue.run("scancel", job)

    each = 1 << 20
    begun = time.perf_counter()
    array = queue.run("sbatch", "--parsable", f"--array=1-{jobs}", "-o", "many-%a", "--wrap", f"head -c {each} /dev/zero").strip()
    queue.run("wait", array)
    seconds = time.perf_counter() - begun
    sizes = [(queue.work / f"many-{n}").stat().st_size for n in range(1, jobs + 1)]
    assert sizes == [each] * jobs, "some output is not whole"
    show(f"{jobs} jobs of a MiB each at once, all home", sum(sizes), seconds, f"controller at {queue.rss_mib():.0f} MiB")


if __name__ == "__main__":
    main()
