"""Does the queue stay flat as the lab grows?  The pure core.

    python contrib/bench/scale.py [--pending 1000,10000,100000,1000000] [--json FILE]

core        1 000 hosts × 16 slots, N pending jobs of 50 shapes and 20 users: one scheduling pass, one submission, one
            end of a job, one look at one job, for each N; bytes a pending job and a pending array task.
Times are medians, p99 and worst, in milliseconds.
"""

import argparse
import json
import os
import platform
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[2])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", help="core")
    parser.add_argument("--pending", default="1000,10000,100000", help="lengths of the queue, for core")
    parser.add_argument("--json", help="write the figures here too")
    chosen = parser.parse_args()
    parts = chosen.parts or ["core"]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
    print(f"{machine}, load {os.getloadavg()[0]:.1f}", flush=True)
    found: dict[str, object] = {}
    for part in parts:
        if part == "core":
            from scale_core import measure_core

            found[part] = measure_core([int(text) for text in chosen.pending.split(",")])
        else:
            raise SystemExit(f"no part {part}: core")
    if chosen.json:
        Path(chosen.json).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
