"""A simulated machine: its processes, its spools, its reboots, and the ledger that no fault can touch.

A process is a generator.  It yields what it waits for (see `Proc`); between two yields it is atomic, so every yield is a
place where it can be killed, frozen, or overtaken by another process.  Files are kept field by field, each write with an
entry in an undo log, so that a power cut can take back the last seconds.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .net import Pipe
    from .world import World

EPOCH_AT = 1_800_000_000.0  # the wall clock at virtual time 0
PID_MAX = 700  # small, so that numbers come round again
UNSYNCED_S = 30.0  # what a power cut may take back

Steps = Generator[float | None, None, None]


@dataclass
class Run:
    """One start of a user's program, as its own ledger says it."""

    number: int  # of the submission, as the script says
    job_id: int
    attempt: int
    launch: str
    node: str
    started_at: float
    ended_at: float | None = None
    ending: str = ""  # exit, signal, reboot
    code: int = 0


@dataclass
class Guards:
    """What a node does to keep the promises.  A test takes one away, to see that the simulation would find it missing."""

    arbiter: bool = True  # a supervisor starts its job only if it makes `go`
    claim: bool = True  # a launch that is known is not begun again
    floor: bool = True  # what is settled is refused
    recheck: bool = True  # is the claim still there, once `go` is made?
    boot: bool = True  # calls for another boot are refused
    takeover: bool = True  # a new runner ends the old ones
    generation: bool = True  # is only taken from the one who knows the last
    lease: bool = True  # a job whose lease is over is ended
    waits: bool = True  # the record is written when the job has ended, not before


class Proc:
    """A process.  Its generator yields seconds to sleep (positive: deaf meanwhile, negative: until woken), None to wait."""

    def __init__(self, node: "Node", kind: str, launch: str = "") -> None:
        self.node = node
        self.kind = kind
        self.launch = launch
        self.pid = node.new_pid()
        self.start = node.next_start()
        self.alive = True
        self.steps: Steps | None = None
        self.parked = False
        self.woken = False
        self.stopped = False  # SIGSTOP
        self.due = False  # became runnable while it was stopped
        self.timer: asyncio.TimerHandle | None = None
        self.status = 0  # once it has ended: as dash would say it after a look at its jobs
        self.signals: list[str] = []
        self.parent: Proc | None = None
        self.asked = False  # USR1 came
        self.on_end: Callable[[], None] | None = None
        node.procs[self.pid] = self

    def run(self, steps: Steps) -> "Proc":
        self.steps = steps
        self._sleep(self.node.tick())
        return self

    def _sleep(self, seconds: float) -> None:
        self.timer = self.node.world.loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self.timer = None
        if not self.alive or self.steps is None:
            return
        if self.stopped or not self.node.awake:
            self.due = True
            return
        self.parked = False
        try:
            wait = next(self.steps)
        except StopIteration:
            self.end(0)
            return
        if not self.alive:  # it killed itself, or its machine
            return
        if wait is None or wait < 0:
            self.parked = True
            if self.woken:
                self.woken = False
                self._sleep(0.0)
            elif wait is not None:
                self._sleep(-wait)
        else:
            self._sleep(wait)

    def wake(self) -> None:
        """Something it may be waiting for has happened."""
        if not self.parked:
            self.woken = True
            return
        self.parked = False
        if self.timer is not None:
            self.timer.cancel()
        self._sleep(self.node.tick())

    def stop(self) -> None:
        self.stopped = True

    def go_on(self) -> None:
        self.stopped = False
        self.look()

    def look(self) -> None:
        """Its machine or itself is awake again."""
        if self.due and self.alive and not self.stopped and self.node.awake:
            self.due = False
            self._sleep(self.node.tick())

    def end(self, status: int) -> None:
        """It is gone; the kernel tells its parent."""
        if not self.alive:
            return
        self.alive = False
        self.status = status
        if self.timer is not None:
            self.timer.cancel()
        if self.node.procs.get(self.pid) is self:
            del self.node.procs[self.pid]
        if self.on_end is not None:
            self.on_end()
        if self.parent is not None and self.parent.alive:
            self.parent.wake()

    def signal(self, name: str) -> None:
        """A signal from another process."""
        if not self.alive:
            return
        if name == "KILL":
            self.end(256 + 9)
        elif name == "STOP":
            self.stop()
        elif name == "CONT":
            self.go_on()
        else:
            self.signals.append(name)
            self.wake()


@dataclass
class Spool:
    """One directory BASE/spool/STORE_ID.  `files` is a/: launch id -> field -> content."""

    spool_id: str
    clock: Callable[[], float]
    gen: int = 0
    floor_high: int = 0
    floor_open: frozenset[int] = frozenset()
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    lease: tuple[int, str] = (0, "")  # uptime and boot that leases count from
    runner: "Proc | None" = None  # whose FIFO is the bell
    runners: "list[Proc]" = field(default_factory=list)
    deleted: bool = False
    undo: "deque[tuple[float, Callable[[], None]]]" = field(default_factory=deque)

    def log(self, back: Callable[[], None]) -> None:
        now = self.clock()
        self.undo.append((now, back))
        while self.undo and self.undo[0][0] < now - UNSYNCED_S:
            self.undo.popleft()

    def get(self, launch: str, name: str) -> Any:
        if self.deleted:
            return None
        return self.files.get(launch, _NONE).get(name)

    def put(self, launch: str, name: str, value: Any) -> bool:
        if self.deleted:
            return False
        entry = self.files.setdefault(launch, {})
        old = entry.get(name)

        def back() -> None:
            fields = self.files.setdefault(launch, {})
            if old is None:
                fields.pop(name, None)
            else:
                fields[name] = old
            if not fields:
                del self.files[launch]

        self.log(back)
        if value is None:
            entry.pop(name, None)
            if not entry:
                del self.files[launch]
        else:
            entry[name] = value
        return True

    def remove(self, launch: str) -> None:
        old = self.files.pop(launch, None)
        if old is not None:
            kept = dict(old)
            self.log(lambda: self.files.__setitem__(launch, dict(kept)))

    def set_floor(self, high: int, open_seqs: frozenset[int]) -> None:
        before = self.floor_high, self.floor_open

        def back() -> None:
            self.floor_high, self.floor_open = before

        self.log(back)
        self.floor_high, self.floor_open = high, open_seqs

    def set_gen(self, gen: int) -> None:
        before = self.gen

        def back() -> None:
            self.gen = before

        self.log(back)
        self.gen = gen

    def take_back(self, since: float) -> int:
        """Lose what was written after `since`; returns how many writes."""
        lost = 0
        while self.undo and self.undo[-1][0] > since:
            self.undo.pop()[1]()
            lost += 1
        return lost


_NONE: dict[str, Any] = {}


class Node:
    """One machine."""

    def __init__(self, world: "World", name: str, *, cpus: int) -> None:
        self.world = world
        self.name = name
        self.cpus = cpus
        self.guards = world.guards
        self.procs: dict[int, Proc] = {}
        self.spools: dict[str, Spool] = {}
        self.ledger: list[Run] = []
        self.on = True
        self.frozen = False
        self.disk_full = False
        self.slow = 1.0
        self.skew_s = 0.0
        self.booted_at = world.loop.time() - 1000.0
        self.boots = 0
        self.boot = ""
        self._pid = 100
        self._start = 0
        self._count = 0
        self._new_boot()

    # ---- what the kernel gives -------------------------------------------------------------------------------

    def _new_boot(self) -> None:
        self.boots += 1
        self.boot = f"{self.world.random.getrandbits(64):016x}-{self.boots}:4026531836:{self.boots}"

    @property
    def awake(self) -> bool:
        return self.on and not self.frozen

    def new_pid(self) -> int:
        while True:
            self._pid = 100 if self._pid >= PID_MAX else self._pid + 1
            if self._pid not in self.procs:
                return self._pid

    def next_start(self) -> int:
        self._start += 1
        return self._start

    def tick(self) -> float:
        """How long a step of a shell takes."""
        random = self.world.random
        seconds = 0.0002 + random.random() * 0.002
        if random.random() < 0.02:
            seconds += random.random() * 0.5
        return seconds * self.slow

    @property
    def uptime_s(self) -> float:
        return max(0.01, self.world.loop.time() - self.booted_at)

    @property
    def wall_at(self) -> int:
        return int(EPOCH_AT + self.world.loop.time() + self.skew_s)

    def is_alive(self, pid: int, start: int, boot: str) -> bool:
        proc = self.procs.get(pid)
        return boot == self.boot and proc is not None and proc.alive and proc.start == start

    def find(self, kind: str) -> list[Proc]:
        return [p for p in self.procs.values() if p.kind == kind]

    # ---- what happens to machines ----------------------------------------------------------------------------

    def open_shell(self, pipe_down: "Pipe") -> Any:
        """What sshd does for a channel: a shell whose stdin and stdout are the pipes."""
        from .shell import Shell

        return Shell(self, pipe_down)

    def power_off(self, *, unsynced: bool) -> None:
        """Everything that runs is gone; with `unsynced`, a random part of the last half minute's writes too."""
        if not self.on:
            return
        self.on = False
        now = self.world.loop.time()
        for run in self.ledger:
            if run.ended_at is None:
                run.ended_at, run.ending = now, "reboot"
        for proc in list(self.procs.values()):
            proc.parent = proc.on_end = None
            proc.end(0)
        self.procs.clear()
        for spool in self.spools.values():
            spool.runner = None
            spool.runners.clear()
            if unsynced:
                lost = spool.take_back(now - self.world.random.uniform(0, UNSYNCED_S))
                self.world.note(f"{self.name}: {lost} writes were not on the disk")
            spool.undo.clear()
        self.world.node_changed(self)

    def power_on(self) -> None:
        if self.on:
            return
        self.on = True
        self.frozen = False
        self._new_boot()
        self.booted_at = self.world.loop.time()
        self.world.node_rebooted(self)

    def freeze(self, frozen: bool) -> None:
        self.frozen = frozen
        if not frozen:
            for proc in list(self.procs.values()):
                proc.look()
        self.world.node_changed(self)

    def wipe(self) -> None:
        """All spools are removed while things run."""
        for spool in self.spools.values():
            spool.deleted = True
            spool.files.clear()
            spool.undo.clear()
        self.spools.clear()

    def spool_of(self, store_id: str) -> Spool:
        spool = self.spools.get(store_id)
        if spool is None:
            spool_id = f"{self.world.random.getrandbits(128):032x}"
            spool = self.spools[store_id] = Spool(spool_id=spool_id, clock=self.world.loop.time)
        return spool

    # ---- the ledger ------------------------------------------------------------------------------------------

    def begin_run(self, number: int, job_id: int, attempt: int, launch: str) -> Run:
        run = Run(number, job_id, attempt, launch, self.name, self.world.loop.time())
        self.ledger.append(run)
        self.world.runs.setdefault(launch, []).append(run)
        self.world.note(f"{self.name}: START job={job_id} attempt={attempt} launch={launch[:8]} submission={number}")
        return run

    def end_run(self, run: Run, ending: str, code: int) -> None:
        if run.ended_at is None:
            run.ended_at, run.ending, run.code = self.world.loop.time(), ending, code
            self.world.note(f"{self.name}: END job={run.job_id} launch={run.launch[:8]} {ending} {code}")
