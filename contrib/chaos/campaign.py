"""Everything at size, one part after the other: what is too long for each change, in one command with one table.

    python contrib/chaos/campaign.py                      all of it: a day and more on two cores
    python contrib/chaos/campaign.py --list               the parts, what each does, and its bound
    python contrib/chaos/campaign.py --only storm,races   these parts
    python contrib/chaos/campaign.py --divide 500         the same at a five hundredth of its size: does it work here?
    python contrib/chaos/campaign.py --seed 7 --write contrib/bench/RESULTS.md

Each part is a process of its own with a bound in time; one that is over it is ended and has failed, and the others go on.
What a part prints goes to a file (`--logs`, default a directory below /tmp), and to the table what it said last.  The
status is 1 if any part failed.  Needs root and openssh-server (tests/bed), docker.io for the part `containers`.
"""

import argparse
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOUR_S = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large, and which random numbers."""

    divide: int
    seed: int

    def of(self, whole: int, least: int = 1) -> str:
        return str(max(least, whole // self.divide))


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    name: str
    asks: str  # at full size
    argv: Callable[[Size], list[str]]
    bound_s: int
    environ: Callable[[Size], dict[str, str]] = field(default=lambda _: {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    part: Part
    status: str  # ok, FAILED (status), OVER TIME
    took_s: float
    said: str
    text: str


def pytest(*words: str) -> list[str]:
    return ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--no-header", *words]


def chaos(*words: str) -> list[str]:
    return ["contrib/chaos/run.py", *words]


PARTS = (
    Part(
        name="points", asks="the controller killed at each named point, ten times each", bound_s=3 * HOUR_S,
        argv=lambda s: chaos("--only", "points", "--times", s.of(10)),
    ),
    Part(
        name="storm", asks="200 controller kills, 100 network faults, 50 node faults over 2000 jobs", bound_s=3 * HOUR_S,
        argv=lambda s: chaos(
            "--only", "storm", "--seed", str(s.seed), "--kills", s.of(200, 3), "--jobs", s.of(2000, 30), "--network", s.of(100, 8),
            "--nodes", s.of(50, 8),
        ),
    ),
    Part(
        name="figures", asks="50 hosts back after a restart, a dead peer, exits after a reconnect", bound_s=HOUR_S // 2,
        argv=lambda _: chaos("--only", "figures"),
    ),
    Part(
        name="races", asks="1000 cancels against launch, 1000 against exit", bound_s=2 * HOUR_S,
        argv=lambda _: pytest("tests/hosts/test_cancel_races.py"),
        environ=lambda s: {"SSHQ_RACES": s.of(1000, 40), "SSHQ_RACE_SEED": str(s.seed)},
    ),
    Part(
        name="simulation", asks="50 000 short worlds and 20 of 24 hours, 20 hosts, 2000 jobs", bound_s=36 * HOUR_S,
        argv=lambda s: ["-m", "tests.sim", "campaign", "--first", str(s.seed), "--short", s.of(50_000, 10), "--long", s.of(20, 0)],
    ),
    Part(
        name="model", asks="every interleaving of the large scenarios", bound_s=6 * HOUR_S,
        argv=lambda s: ["-m", "model.explore", *(["restore/1x2"] if s.divide > 1 else [])],
    ),
    Part(
        name="walks", asks="100 000 random walks of the model over many faults", bound_s=6 * HOUR_S,
        argv=lambda s: ["-m", "model.explore", "walk", "0", s.of(100_000, 100)],
    ),
    Part(
        name="frames", asks="1 000 000 fuzzed frames, memory flat", bound_s=5 * HOUR_S,
        argv=lambda _: pytest("tests/daemon/test_bounds.py", "-k", "fuzzed_frames"),
        environ=lambda s: {"SSHQ_FUZZ_FRAMES": s.of(1_000_000, 1000), "SSHQ_FUZZ_SEED": str(s.seed)},
    ),
    Part(
        name="strings", asks="100 000 hostile strings through each shell, byte for byte", bound_s=4 * HOUR_S,
        argv=lambda _: pytest("tests/runner/test_round_trips.py"),
        environ=lambda s: {"SSHQ_ROUND_TRIPS": s.of(100_000, 200), "SSHQ_ROUND_TRIP_SEED": str(s.seed)},
    ),
    Part(
        name="leases", asks="jobs of hosts that are cut off or frozen, on hosts; hosts in containers", bound_s=HOUR_S // 2,
        argv=lambda _: pytest("tests/hosts/test_lost_leases.py", "tests/containers"),
    ),
    Part(
        name="soak", asks="two hours of ten jobs a second and a kill every 15 s", bound_s=3 * HOUR_S,
        argv=lambda s: ["contrib/chaos/soak.py", "--minutes", str(max(0.5, 120 / s.divide))],
    ),
)  # fmt: skip


def run_part(part: Part, size: Size, log: Path) -> Result:
    """Run one part to its end or its bound; its whole group is ended then."""
    began = time.monotonic()
    path = f"{ROOT}:{ROOT}/tests"
    environ = {**os.environ, "PYTHONPATH": path, **part.environ(size)}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *part.argv(size)], cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, stdout=file,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            code: int | None = process.wait(part.bound_s)
        except BaseException as error:  # an interrupt too: nothing of it may stay
            code = None
            for number, patience_s in ((signal.SIGTERM, 30), (signal.SIGKILL, None)):
                os.killpg(process.pid, number)
                try:
                    process.wait(patience_s)
                    break
                except subprocess.TimeoutExpired:
                    continue
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
    text = log.read_text(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    status = "ok" if code == 0 else "OVER TIME" if code is None else f"FAILED ({code})"
    return Result(part=part, status=status, took_s=time.monotonic() - began, said=lines[-1] if lines else "nothing", text=text)


def format_results(results: list[Result], size: Size) -> str:
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
    divided = f", each part divided by {size.divide}" if size.divide > 1 else ""
    lines = [
        f"{time.strftime('%Y-%m-%d')}, {machine}; seed {size.seed}{divided}.", "",
        "| part | at full size | result | minutes | it said last |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for one in results:
        said = one.said.replace("|", "/").strip("/ ")[:120]
        lines.append(f"| {one.part.name} | {one.part.asks} | {one.status} | {one.took_s / 60:.1f} | {said} |")
    for one in results:
        rows = [line for line in one.text.splitlines() if line.startswith("|")]
        if rows:
            lines += ["", f"{one.part.name}:", "", *rows]
        if one.status != "ok":
            lines += ["", f"{one.part.name} {one.status}, the end of what it said:", "", *(f"    {line}" for line in one.text.splitlines()[-20:])]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="show the parts and do nothing")
    parser.add_argument("--only", help="parts, by commas")
    parser.add_argument("--divide", type=int, default=1, metavar="N", help="an Nth of the size")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="default: a new one")
    parser.add_argument("--logs", type=Path, help="directory for what the parts print")
    parser.add_argument("--write", type=Path, help="add the table to this file")
    arguments = parser.parse_args()
    names = [part.name for part in PARTS]
    wanted = arguments.only.split(",") if arguments.only else names
    if unknown := [name for name in wanted if name not in names]:
        parser.error(f"unknown part {unknown[0]}; parts are {', '.join(names)}")
    if arguments.list:
        for part in PARTS:
            sys.stdout.write(f"{part.name:<12}{part.asks} (at most {part.bound_s / HOUR_S:g} h)\n")
        return 0
    size = Size(divide=max(1, arguments.divide), seed=arguments.seed)
    logs = arguments.logs or Path(tempfile.mkdtemp(prefix="sshq-campaign-"))
    logs.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    for part in PARTS:
        if part.name in wanted:
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {part.name}: {part.asks}; {logs / part.name}.log\n")
            results.append(run_part(part, size, logs / f"{part.name}.log"))
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {part.name}: {results[-1].status}: {results[-1].said}\n")
    text = format_results(results, size)
    sys.stdout.write(text)
    if arguments.write:
        with arguments.write.open("a") as file:
            file.write(f"\n## Campaign\n\n`python contrib/chaos/campaign.py`: {text}")
    return 0 if all(one.status == "ok" for one in results) else 1


if __name__ == "__main__":
    sys.exit(main())
