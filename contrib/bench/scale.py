"""Does the queue stay flat as the lab grows?  The pure core first, then a real controller with its store and socket.

    python contrib/bench/scale.py [core] [controller] [history] [--pending 1000,10000,100000,1000000]
                                  [--jobs 100000] [--history 500000] [--keep DIR [--queries]] [--json FILE]

core        1 000 hosts × 16 slots, N pending jobs of 50 shapes and 20 users: one scheduling pass, one submission, one
            end of a job, one look at one job, for each N; bytes a pending job and a pending array task.
controller  a controller process of its own in a temporary directory: N jobs through `submit_many`, then squeue (first
            line, last line, memory of both sides, what others wait meanwhile), squeue -j, restart.
history     N finished jobs of 400 days put into the store: start, sacct, squeue, submissions, and what those who submit and
            ask wait while a backup is made.  Five million take 6 GB below TMPDIR, as much again for the backup and for
            what is kept, and four minutes to make.  With --queries only what users ask, of the store in DIR where it lies.

Without words core and controller, core up to 100 000.  Times of the core are medians, p99 and worst, in milliseconds.
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
    parser.add_argument("parts", nargs="*", help="core, controller, history")
    parser.add_argument("--pending", default="1000,10000,100000", help="lengths of the queue, for core")
    parser.add_argument("--jobs", type=int, default=100_000, help="jobs in the queue, for controller")
    parser.add_argument("--history", type=int, default=500_000, help="finished jobs, for history; a million takes minutes to make")
    parser.add_argument("--keep", help="a directory for the store of history: made there once, and used again")
    parser.add_argument("--queries", action="store_true", help="of history: only ask the store that was kept")
    parser.add_argument("--json", help="write the figures here too")
    chosen = parser.parse_args()
    parts = chosen.parts or ["core", "controller"]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
    print(f"{machine}, load {os.getloadavg()[0]:.1f}", flush=True)
    found: dict[str, object] = {}
    for part in parts:
        if part == "core":
            from scale_core import measure_core

            found[part] = measure_core([int(text) for text in chosen.pending.split(",")])
        elif part == "controller":
            from scale_controller import measure_controller

            found[part] = measure_controller(chosen.jobs)
        elif part == "history":
            from scale_history import measure_history, measure_queries

            kept = chosen.keep if chosen.queries else None
            found[part] = measure_queries(chosen.history, kept) if kept else measure_history(chosen.history, chosen.keep)
        else:
            raise SystemExit(f"no part {part}: core, controller, history")
    if chosen.json:
        Path(chosen.json).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
