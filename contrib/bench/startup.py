"""How long commands take to answer, beside `python3 -c pass`: interleaved, so that what else the machine does hits all alike.

    python contrib/bench/startup.py [--runs 60] [--bin DIR]

DIR holds the `python3` and `sshq` that are measured (default: those beside this interpreter).  A controller of its own is
started in a temporary directory; it has the local machine as its one host, and the jobs are held, so that nothing else runs.
Wall clock from fork to reaped, and the CPU of that child alone, as the kernel counts it.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

INVENTORY = "all:\n  vars: {sshq_slots: 1}\n  hosts:\n    here: {ansible_connection: local, sshq_spool: %s/spool}\n"


def measure(words: list[str], environ: dict[str, str], cwd: Path) -> tuple[float, float]:
    """Return the seconds of wall clock and of CPU that one run takes; stop at one that fails."""
    null = os.open(os.devnull, os.O_RDWR)
    begin = time.perf_counter()
    child = subprocess.Popen(words, env=environ, cwd=cwd, stdin=null, stdout=null)
    _, status, used = os.wait4(child.pid, 0)
    wall = time.perf_counter() - begin
    child.returncode = os.waitstatus_to_exitcode(status)
    os.close(null)
    if child.returncode:
        raise SystemExit(f"{' '.join(words)}: status {child.returncode}")
    return wall, used.ru_utime + used.ru_stime


def quantile(values: list[float], part: float) -> float:
    """Return the value below which that part of all lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--bin", default=os.path.dirname(sys.executable))
    options = parser.parse_args()
    python, sshq = (os.path.join(options.bin, name) for name in ("python3", "sshq"))
    place = Path(tempfile.mkdtemp(prefix="sshq-startup-"))
    work = place / "work"
    work.mkdir()
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("SSHQ_", "PYTHON"))}
    environ |= {"SSHQ_HOME": str(place), "PWD": str(work)}
    (place / "inventory.yaml").write_text(INVENTORY % place)
    (work / "job.sh").write_text("#!/bin/sh\n#SBATCH --job-name=startup --time=10\nhostname\n")
    shims = place / "bin"
    try:
        for words in ([sshq, "up"], [sshq, "shims", str(shims)]):
            subprocess.run(words, env=environ, cwd=work, check=True, stdout=subprocess.DEVNULL)
        rows: dict[str, list[str]] = {
            "python3 -c pass": [python, "-c", "pass"],
            "python3 -I -S -c pass": [python, "-I", "-S", "-c", "pass"],
            "sbatch (shim)": [str(shims / "sbatch"), "-H", "job.sh"],
            "squeue -j 1 (shim)": [str(shims / "squeue"), "-j", "1"],
            "sinfo (shim)": [str(shims / "sinfo")],
            "scancel 1 (shim)": [str(shims / "scancel"), "1"],
            "sshq sbatch": [sshq, "sbatch", "-H", "job.sh"],
            "sshq squeue -j 1": [sshq, "squeue", "-j", "1"],
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
        for words in rows.values():
            measure(words, environ, work)
        for _ in range(options.runs):
            for name, words in rows.items():
                found[name].append(measure(words, environ, work))
        show(found)
    finally:
        subprocess.run([sshq, "down"], env=environ, cwd=work, check=False, stdout=subprocess.DEVNULL)
        shutil.rmtree(place, ignore_errors=True)


def show(found: dict[str, list[tuple[float, float]]]) -> None:
    base_wall, base_cpu = (quantile([one[kind] for one in found["python3 -c pass"]], 0.5) for kind in (0, 1))
    print(f"{'ms; medians of ' + str(len(found['python3 -c pass'])):<24}{'wall':>8}{'p99':>8}{'ratio':>7}{'cpu':>8}{'ratio':>7}")
    for name, pairs in found.items():
        walls, cpus = [one[0] for one in pairs], [one[1] for one in pairs]
        wall, cpu = quantile(walls, 0.5), quantile(cpus, 0.5)
        print(f"{name:<24}{wall * 1e3:>8.1f}{quantile(walls, 0.99) * 1e3:>8.1f}{wall / base_wall:>7.2f}"
              f"{cpu * 1e3:>8.1f}{cpu / base_cpu:>7.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
