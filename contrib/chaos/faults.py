"""Faults of network and nodes, done to real hosts: one verb a fault, a thread that injects them in turn.

Each verb breaks a host, waits, mends it, and says whether it found anything to break.  A host has one fault at a time.
"""

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bed.netns import NetnsHost
from bed.session import CommandError

NETWORK = ("cut", "reset", "silent_in", "silent_out", "freeze", "sessions_killed")
NODE = ("reboot", "supervisor_killed", "runner_killed", "job_killed", "spool_wiped", "disk_full")
DISK = "/disk"  # of the hosts with a small disk; it does not live through a reboot, so those are not rebooted


@dataclass(slots=True, kw_only=True)
class Mended:
    """A fault that is over: since when the host could be well again."""

    kind: str
    node: str
    at: float
    back_at: float


@dataclass(slots=True)
class Injector:
    """Breaks hosts in a thread until stopped."""

    hosts: Sequence[NetnsHost]
    kinds: Sequence[str]
    rng: random.Random
    hold_s: tuple[float, float] = (0.5, 3.0)
    pause_s: float = 0.2
    counts: Counter[str] = field(default_factory=Counter)
    mended: list[Mended] = field(default_factory=list)
    wiped: list[tuple[str, float]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _busy: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, threads: int = 1) -> None:
        for _ in range(threads):
            kinds = list(self.kinds)
            self.rng.shuffle(kinds)
            thread = threading.Thread(target=self._run, args=(kinds, random.Random(self.rng.random())), daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Finish the present faults; every host is whole when this returns."""
        self._stop.set()
        for thread in self._threads:
            thread.join(120)

    def missing(self) -> set[str]:
        return {kind for kind in self.kinds if not self.counts[kind]}

    def _run(self, kinds: list[str], rng: random.Random) -> None:
        for kind in itertools.cycle(kinds):
            if self._stop.is_set():
                return
            host = self._take(kind, rng)
            if host is None:
                self._stop.wait(0.1)
                continue
            try:
                self._inject(kind, host, rng)
            except (CommandError, OSError, AssertionError) as error:
                self.failures.append(f"{kind} on {host.name}: {error}")
            finally:
                with self._lock:
                    self._busy.discard(host.name)
            self._stop.wait(self.pause_s * rng.uniform(0.5, 1.5))

    def _take(self, kind: str, rng: random.Random) -> NetnsHost | None:
        """A host that is whole, and can have this fault."""
        with self._lock:
            fit = [host for host in self.hosts if host.name not in self._busy and self._suits(kind, host)]
            if not fit:
                return None
            host = rng.choice(fit)
            self._busy.add(host.name)
            return host

    @staticmethod
    def _suits(kind: str, host: NetnsHost) -> bool:
        small = host.vars.get("sshq_spool") == DISK
        return {"reboot": not small, "disk_full": small}.get(kind, True)

    def _inject(self, kind: str, host: NetnsHost, rng: random.Random) -> None:
        at, hold_s = time.time(), rng.uniform(*self.hold_s)
        verb: Callable[[NetnsHost, float], bool] = getattr(self, f"_{kind}")
        if verb(host, hold_s):
            with self._lock:
                self.counts[kind] += 1
                self.mended.append(Mended(kind=kind, node=host.name, at=at, back_at=time.time()))

    # -- network -------------------------------------------------------------------------------------------------------
    def _cut(self, host: NetnsHost, hold_s: float) -> bool:
        host.cut()
        self._stop.wait(hold_s)
        host.heal()
        return True

    def _reset(self, host: NetnsHost, hold_s: float) -> bool:
        host.reset()
        self._stop.wait(hold_s)
        host.heal()
        return True

    def _silent_in(self, host: NetnsHost, hold_s: float) -> bool:
        host.nft("drop")
        self._stop.wait(hold_s)
        host.heal()
        return True

    def _silent_out(self, host: NetnsHost, hold_s: float) -> bool:
        host.nft("drop", hook="output")
        self._stop.wait(hold_s)
        host.heal()
        return True

    def _freeze(self, host: NetnsHost, hold_s: float) -> bool:
        host.freeze()
        self._stop.wait(hold_s)
        host.thaw()
        return True

    def _sessions_killed(self, host: NetnsHost, _hold_s: float) -> bool:
        host.kill_sessions()
        return True

    # -- node ----------------------------------------------------------------------------------------------------------
    def _reboot(self, host: NetnsHost, _hold_s: float) -> bool:
        host.reboot()
        return True

    def _kill_named(self, host: NetnsHost, pattern: str) -> bool:
        """Kill -9 the process that one of these spool files names, if it still is that one."""
        base = str(host.vars.get("sshq_spool") or f"{host.home}/.local/state/sshq")
        script = f"""for f in {base}/spool/*/{pattern}; do
            [ -s "$f" ] || continue
            read -r _ pid start _ <"$f" || continue
            [ "$(cut -d' ' -f22 "/proc/$pid/stat" 2>/dev/null)" = "$start" ] && kill -9 "$pid" && echo hit && exit; done"""
        return "hit" in host.sh(script, check=False).stdout

    def _supervisor_killed(self, host: NetnsHost, _hold_s: float) -> bool:
        return self._kill_named(host, "a/*.sup")

    def _job_killed(self, host: NetnsHost, _hold_s: float) -> bool:
        return self._kill_named(host, "a/*.run")

    def _runner_killed(self, host: NetnsHost, _hold_s: float) -> bool:
        """Runners are named `r.PID.START.BOOT`."""
        base = str(host.vars.get("sshq_spool") or f"{host.home}/.local/state/sshq")
        script = f"""for f in {base}/spool/*/r.*; do
            f=${{f##*/r.}}; f=${{f%%.*}}; [ -d "/proc/$f" ] && kill -9 "$f" && echo hit && exit; done"""
        return "hit" in host.sh(script, check=False).stdout

    def _spool_wiped(self, host: NetnsHost, _hold_s: float) -> bool:
        base = str(host.vars.get("sshq_spool") or f"{host.home}/.local/state/sshq")
        self.wiped.append((host.name, time.time()))
        host.sh(f"rm -rf {base}/spool", check=False)  # what comes back meanwhile may stay
        return True

    def _disk_full(self, host: NetnsHost, hold_s: float) -> bool:
        host.sh(f"cat /dev/zero >{DISK}/filler", check=False)
        self._stop.wait(hold_s)
        host.sh(f"rm -f {DISK}/filler")
        return True


def give_small_disk(host: NetnsHost) -> None:
    """Put its spool on a file system that is soon full."""
    host.tmpfs(DISK, size="3m", mode="755", owner="alice")
    host.vars["sshq_spool"] = DISK
