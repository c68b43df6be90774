"""How long one job waits for the machinery: on an idle queue, in sshq and in Slurm, by the same script and clock.

The script writes the moment at which it began and the moment at which it was about to end (`date +%s.%N`, a process each, so
about a millisecond of every figure is date's own).
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

SCRIPT = "#!/bin/sh\ndate +%s.%N\ndate +%s.%N\n"
Samples = dict[str, list[float]]


def add(samples: Samples, what: str, seconds: float) -> None:
    samples.setdefault(what, []).append(seconds * 1e3)


def stamps(path: Path) -> list[float]:
    return [float(line) for line in path.read_text().split()]


def idle_python(samples: Samples) -> None:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    add(samples, "python3 -c pass", time.perf_counter() - began)


def sshq_once(samples: Samples, run: Callable[..., str], work: Path, client: object) -> None:
    """One job, one that is waited for, one by the API, and one that depends on another."""
    script, out = work / "stamp.sh", work / "stamp.out"
    script.write_text(SCRIPT)
    began = time.time()
    job = run("sbatch", "--parsable", "-o", str(out), str(script)).strip()
    add(samples, "sbatch returns", time.time() - began)
    run("wait", job)
    add(samples, "sbatch started, to the job's first instruction", stamps(out)[0] - began)

    run("sbatch", "--wait", "-o", str(out), str(script))
    ended = time.time()
    add(samples, "the job's last instruction, to `sbatch --wait` gone", ended - stamps(out)[1])

    began = time.time()
    future = client.submit(str(script), output=str(out))  # type: ignore[attr-defined]
    future.result(timeout=30)
    ended = time.time()
    add(samples, "submit (API), to the job's first instruction", stamps(out)[0] - began)
    add(samples, "the job's last instruction, to COMPLETED known (API)", ended - stamps(out)[1])

    parent = client.submit(str(script), output=str(out), hold=True)  # type: ignore[attr-defined]
    second = work / "second.out"
    child = client.submit(str(script), output=str(second), dependency=f"afterok:{parent.job_id}")  # type: ignore[attr-defined]
    run("scontrol", "release", str(parent.job_id))
    child.result(timeout=30)
    add(samples, "a parent's last instruction, to its dependent's first", stamps(second)[0] - stamps(out)[1])


def slurm_once(samples: Samples, run: Callable[..., str], work: Path) -> None:
    """The same of Slurm; its end is seen by a poll of squeue."""
    script, out = work / "stamp.sh", work / "stamp.out"
    script.write_text(SCRIPT)
    out.unlink(missing_ok=True)
    began = time.time()
    job = run("sbatch", "--parsable", "-o", str(out), str(script)).strip()
    add(samples, "Slurm: sbatch returns", time.time() - began)
    while run("squeue", "-h", "-t", "all", "-o", "%T", "-j", job).strip() != "COMPLETED":
        time.sleep(0.005)
    ended = time.time()
    add(samples, "Slurm: sbatch started, to the job's first instruction", stamps(out)[0] - began)
    add(samples, "Slurm: the job's last instruction, to COMPLETED seen by squeue", ended - stamps(out)[1])


def table(samples: Samples) -> list[str]:
    lines = ["| one job on an idle queue | p50, ms | p99 or worst, ms | samples |", "|---|---|---|---|"]
    for what, values in samples.items():
        ordered = sorted(values)
        worst = ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]
        lines.append(f"| {what} | {statistics.median(values):.1f} | {worst:.1f} | {len(values)} |")
    return lines
