"""A tree that goes along with a job, measured: made, sent, built; then with one file changed; then as it is.

    python contrib/bench/tree.py [--mib 1024] [--files 4000]

One loopback sshd host with a spool of its own, a real controller; what crosses the wire is what the transport counted.  A
quarter of the bytes are small files, the rest are files of 64 MiB.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

from hosts import LoopbackHosts  # noqa: E402

MIB = 1 << 20
LARGE = 64 * MIB


def make_tree(top: Path, size: int, files: int) -> None:
    small, left = size // 4 // files, size - size // 4
    for number in range(files):
        path = top / f"src/{number % 50:02d}/{number}.dat"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(small))
    for number in range(-(-left // LARGE)):
        (top / f"big{number}").write_bytes(os.urandom(min(LARGE, left - number * LARGE)))


class Bench:
    def __init__(self, hosts: LoopbackHosts, base: Path) -> None:
        self.work, self.home = base / "work", base / "q"
        self.work.mkdir()
        self.home.mkdir(mode=0o700)
        self.env = {"PATH": os.environ["PATH"], "HOME": str(hosts.dir / "home"), "SSHQ_HOME": str(self.home), "LC_ALL": "C.UTF-8"}
        self.env["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
        (self.home / "inventory.yaml").write_text(
            f"all:\n  hosts:\n    b0:\n      sshq_slots: 2\n      sshq_spool: {base}/spool\n      sshq_cache_max: 20G\n"
            f"      ansible_ssh_common_args: -F {hosts.ssh_config_plain}\n"
        )

    def sshq(self, *words: str) -> str:
        done = subprocess.run([sys.executable, "-m", "sshq.cli.main", *words], env=self.env, cwd=self.work, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"sshq {' '.join(words)}: {done.stderr}{self.log()}")
        return done.stdout + done.stderr

    def log(self) -> str:
        return (self.home / "state/controller.log").read_text()

    def run(self, what: str) -> None:
        began = time.monotonic()
        said = self.sshq("sbatch", "--sync", "-o", "/dev/null", "--wrap", "true")
        taken = time.monotonic() - began
        job = re.search(r"job (\d+)", said)[1]
        self.sshq("wait", job)
        over = time.monotonic() - began
        sent, size, staged_s = re.findall(r"staged: (\d+) of (\d+) bytes sent, ([0-9.]+) s", self.log())[-1]
        print(f"| {what} | {taken:.2f} | {staged_s} | {over:.2f} | {int(sent):,} of {int(size):,} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--files", type=int, default=4000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sshq-tree-") as base, LoopbackHosts(1) as hosts:
        bench = Bench(hosts, Path(base))
        make_tree(bench.work, given.mib * MIB, given.files)
        bench.sshq("up")
        try:
            time.sleep(3)  # what was written just now is hashed again
            print("| tree | sbatch returns, s | staged, s | job over, s | bytes sent |\n|---|---|---|---|---|")
            bench.run("new")
            bench.run("unchanged")
            (bench.work / "src/07/7.dat").write_bytes(os.urandom(1000))
            time.sleep(3)
            bench.run("one small file changed")
            with open(bench.work / "big0", "r+b") as file:
                file.seek(10 * MIB)
                file.write(b"changed")
            bench.run("7 bytes of a file of 64 MiB changed")
        finally:
            bench.sshq("down")


if __name__ == "__main__":
    main()
