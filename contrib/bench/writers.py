"""Many jobs that write at once, on several hosts: is all of it home, and does the queue stay quick meanwhile?

    python contrib/bench/writers.py [--jobs 1000] [--hosts 4] [--seconds 30] [--rate 4096] [--follow 8]

Each job writes a line every two seconds, `--rate` bytes a second in all, for so many seconds, and prints at its end the checksum
of what it wrote, as it computed it; the output files are summed again when they are home.  Meanwhile `--follow` of the jobs are
followed by `sshq logs -f`, whose bytes are compared with the files, and jobs are submitted one after the other to
see how long each takes until it runs, before and during it.  Everything shares this machine.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from output import Queue

from hosts import LoopbackHosts

# Lines differ from job to job and from each other; the shell's own arithmetic is the checksum (Adler's, over line numbers and job).
WRITER = """
a=1 b=0 n=0 pad=$(printf '%{width}s' '' | tr ' ' x)
until [ -e {go} ]; do sleep 2; done
while [ "$n" -lt {lines} ]; do
    n=$((n + 1)) v=$(((n * 7919 + SLURM_ARRAY_TASK_ID * 104729) % 65521))
    a=$(((a + v) % 65521)) b=$(((b + a) % 65521))
    echo "$v $pad"
    sleep 2
done
echo "sum $a $b $n"
"""


def check(path: Path, width: int, lines: int) -> None:
    """Whether a file holds every line its job wrote, in order, and nothing else."""
    a, b = 1, 0
    text = path.read_text().splitlines()
    for line in text[:-1]:
        value, pad = line.split(" ")
        assert pad == "x" * width, f"{path}: a torn line"
        a = (a + int(value)) % 65521
        b = (b + a) % 65521
    assert text[-1] == f"sum {a} {b} {lines}", f"{path}: {text[-1]!r}, but its lines give {a} {b} {len(text) - 1}"


def until_running(queue: Queue, times: int) -> list[float]:
    """How long one job after the other takes from `sbatch` to its first line, in seconds."""
    took = []
    for n in range(times):
        mark = queue.work / f"probe-{time.monotonic_ns()}-{n}"
        begun = time.time()
        queue.run("sbatch", "-o", "/dev/null", "--wrap", f"date +%s.%N >{mark}.new && mv {mark}.new {mark}")
        while not mark.exists():
            time.sleep(0.01)
        took.append(float(mark.read_text()) - begun)
    return took


def p50(values: list[float]) -> str:
    ordered = sorted(values)
    return f"{ordered[len(ordered) // 2] * 1e3:.0f} ms (worst {ordered[-1] * 1e3:.0f})"


def measure(queue: Queue, chosen: argparse.Namespace) -> None:
    lines, width = chosen.seconds // 2, max(1, chosen.rate * 2 - 8)
    go = queue.work / "go"
    script = "#!/bin/sh" + WRITER.format(width=width, lines=lines, go=go)
    (queue.work / "writer").write_text(script)
    before = until_running(queue, 20)
    rss = queue.rss_mib()
    array = queue.run("sbatch", "--parsable", f"--array=1-{chosen.jobs}", "-o", "w-%a", "writer").strip()
    begun = time.monotonic()
    while (running := queue.run("squeue", "-h", "-r", "-t", "R", "-o", "%i").count("\n")) < chosen.jobs:
        if time.monotonic() - begun > 300:
            raise SystemExit(f"only {running} of {chosen.jobs} run after 300 s")
        time.sleep(1)
    print(f"{chosen.jobs} jobs run, {time.monotonic() - begun:.0f} s after they were submitted", flush=True)
    with tempfile.TemporaryDirectory() as kept:
        followers = []
        for n in range(1, chosen.follow + 1):
            with open(f"{kept}/{n}", "wb") as sink:
                followers.append(subprocess.Popen(queue.words("logs", "-f", f"{array}_{n}"), cwd=queue.work, env=queue.env, stdout=sink))
        cpu, at = queue.cpu_s(), time.monotonic()
        go.touch()
        during = until_running(queue, 20)
        most = queue.rss_mib()
        spent, share = time.monotonic() - at, queue.cpu_s() - cpu
        still = queue.run("squeue", "-h", "-r", "-t", "R", "-o", "%i").count("\n")
        queue.run("wait", array)
        took = time.monotonic() - at
        for follower in followers:
            follower.wait(timeout=120)
        for n in range(1, chosen.jobs + 1):
            check(queue.work / f"w-{n}", width, lines)
        for n in range(1, chosen.follow + 1):
            assert Path(f"{kept}/{n}").read_bytes() == (queue.work / f"w-{n}").read_bytes(), f"what was followed of {n} differs"
    size = sum((queue.work / f"w-{n}").stat().st_size for n in range(1, chosen.jobs + 1))
    print(f"written: {size / 1e6:.0f} MB in {took:.0f} s ({size / took / 1e6:.1f} MB/s); all {chosen.jobs} checksums hold, "
          f"{chosen.follow} followed to the byte")  # fmt: skip
    print(f"sbatch to running, p50: {p50(before)} before, {p50(during)} during it ({still} jobs still wrote when the last was over)")
    print(f"controller: {share / spent * 100:.0f} % CPU meanwhile, {rss:.0f} MiB before, {most:.0f} during, {queue.rss_mib():.0f} after")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--hosts", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--rate", type=int, default=4096, help="bytes a second and job")
    parser.add_argument("--follow", type=int, default=8)
    chosen = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    with LoopbackHosts(chosen.hosts) as hosts:
        queue = Queue(hosts, -(-chosen.jobs // chosen.hosts) + 8)
        try:
            measure(queue, chosen)
        finally:
            queue.run("down")
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
