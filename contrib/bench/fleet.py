"""How long until a large lab is connected, and what does it cost when nothing happens?

    python contrib/bench/fleet.py [--hosts 300] [--idle 60] [--json FILE]

Starts so many real sshds on loopback addresses, each with a spool of its own, then `sshq up`; prints the seconds until half of
them and all of them are ready, the CPU that took, and then, with nobody asking anything, the controller's CPU share, memory, and what
`sshq stats` says of the hosts.  All of it shares this machine: a connected host costs about 15 MB here (sshd, runner, spawner).
Needs openssh-server.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from scale_controller import Instance

from hosts import LoopbackHosts


def measure(count: int, idle_s: float) -> dict[str, object]:
    found: dict[str, object] = {"hosts": count}
    with LoopbackHosts(count) as hosts:
        instance = Instance()
        instance.env["HOME"] = str(hosts.dir / "home")
        (instance.home / "inventory.yaml").write_text(hosts.inventory(4))
        try:
            before = time.monotonic()
            up = subprocess.Popen(instance.command("up"), env=instance.env, cwd=instance.dir, stdout=subprocess.DEVNULL)
            half = 0.0
            while True:
                ready = count_ready(instance)
                if ready >= count / 2 and not half:
                    half = time.monotonic() - before
                if ready == count:
                    break
                if time.monotonic() - before > 600:
                    raise SystemExit(f"only {ready} of {count} hosts were ready after 600 s: {json.dumps(instance.ask('status')['hosts'])}")
                time.sleep(0.1)
            found["half ready, s"], found["all ready, s"] = round(half, 1), round(time.monotonic() - before, 1)
            up.wait()
            found["controller CPU until then, s"] = round(instance.cpu_s(), 1)
            time.sleep(5)
            cpu, at = instance.cpu_s(), time.monotonic()
            time.sleep(idle_s)
            found["idle CPU, %"] = round((instance.cpu_s() - cpu) / (time.monotonic() - at) * 100, 2)
            found["memory, MiB"] = round(instance.memory_mib(), 1)
            stats = instance.ask("stats")
            trips = [one["round_trips"]["p50_s"] for one in stats["hosts"].values() if one["round_trips"]["count"]]  # type: ignore[attr-defined]
            found["round trip, ms"] = round(statistics.median(trips) * 1e3, 2) if trips else None
            sums = {key: sum(one[key] for one in stats["hosts"].values()) for key in ("opened_today", "refused_today", "bytes_in", "bytes_out")}  # type: ignore[attr-defined]
            found |= sums
        finally:
            instance.end()
            time.sleep(1)
    return found


def count_ready(instance: Instance) -> int:
    try:
        return int(instance.ask("status")["hosts"].get("ready", 0))  # type: ignore[attr-defined]
    except Exception:
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hosts", type=int, default=300)
    parser.add_argument("--idle", type=float, default=60)
    parser.add_argument("--json", help="write the figures here too")
    chosen = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, load {os.getloadavg()[0]:.1f}", flush=True)
    found = measure(chosen.hosts, chosen.idle)
    print(json.dumps(found, indent=1))
    if chosen.json:
        Path(chosen.json).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
