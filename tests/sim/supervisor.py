"""The supervisor, its job and its watchdog, step by step as supervisor.sh does it.

Each yield stands between two system calls of the original that another process can come between.
"""

import re
from typing import TYPE_CHECKING, Any

from .node import Node, Proc, Run, Spool, Steps

if TYPE_CHECKING:
    pass

REQUEST = re.compile(rb"# 1 (\d+) (\d+) (\d+) (\d+)\n")
VALUE = re.compile(rb"^(job_\w+)='([^'\n]*)'$", re.MULTILINE)
FOR_EVER = float("inf")
PLAN = re.compile(rb"^#SIM ([^\n]*)$", re.MULTILINE)


def parse_request(text: bytes) -> dict[str, Any]:
    """What `. ./a/ID.req` would set."""
    head = REQUEST.match(text)
    assert head is not None, text
    values: dict[str, Any] = {k.decode(): v.decode("utf-8", "replace") for k, v in VALUE.findall(text)}
    values["seq"], values["job"], values["attempt"] = (int(head[i]) for i in (1, 2, 3))
    return values


def parse_plan(script: bytes) -> dict[str, str]:
    """What a simulated job does: the words of its `#SIM` line."""
    found = PLAN.search(script)
    return dict(word.split("=", 1) for word in found[1].decode().split()) if found else {}


def ring(spool: Spool, line: str) -> None:
    """Into the newest runner's FIFO; with nobody there it is gone."""
    runner = spool.runner
    if runner is not None and runner.alive and not spool.deleted:
        runner.shell.say(line)  # type: ignore[attr-defined]


def is_settled(node: Node, spool: Spool, seq: int) -> bool:
    if not node.guards.floor:
        return False
    return seq <= spool.floor_high and seq not in spool.floor_open


class Supervisor:
    """One launch on its node, from the spawner's fork on."""

    def __init__(self, node: Node, spool: Spool, launch: str) -> None:
        self.node = node
        self.spool = spool
        self.launch = launch
        self.proc = Proc(node, "supervisor", launch)
        self.proc.asked = False
        self.began = 0.0
        self.ending = ""
        self.sent: list[str] = []
        self.deadline = 0.0
        self.job: Proc | None = None
        self.stage = ""  # of the job: what stands last in its .run
        self.record = ""
        self.proc.run(self._steps())

    # ---- the supervisor itself -------------------------------------------------------------------------------

    def _steps(self) -> Steps:
        node, spool, launch, proc = self.node, self.spool, self.launch, self.proc
        yield node.tick()
        if spool.get(launch, "exit") is None:
            return
        if node.disk_full:
            ring(spool, f"N {launch} space")
            return
        spool.put(launch, "sup", (proc.pid, proc.start, node.boot))
        yield node.tick()
        text = spool.get(launch, "req")
        if not text:
            return
        self.request = parse_request(text)
        node.world.happen("supervisor_before_go", node, proc)
        yield node.tick()
        if node.guards.arbiter:
            if spool.get(launch, "go") is not None or spool.deleted:
                ring(spool, f"N {launch} go-lost")
                return
        spool.put(launch, "go", "file")
        node.world.happen("supervisor_after_go", node, proc)
        yield node.tick()
        if spool.get(launch, "exit") is None and node.guards.recheck:
            return
        self.began = node.uptime_s
        if is_settled(node, spool, self.request["seq"]):
            yield from self._write_record("never", "-", "floor")
        elif proc.asked or spool.get(launch, "cancel") is not None:
            yield from self._write_record("never", "-", "cancelled")
        elif self._lease_left() <= 0:
            yield from self._write_record("never", "-", "lease")
        else:
            yield from self._watch()
        if self.record:
            ring(spool, f"X {self.record}")

    def _watch(self) -> Steps:
        node, proc = self.node, self.proc
        limit = self.request.get("job_limit", "")
        limit_at = self.began + int(limit) if limit else None
        if limit:  # first: no job may run whose limit nobody can enforce
            Proc(node, "watchdog", self.launch).run(self._watchdog(int(limit)))
        if self._lease_left() < FOR_EVER:
            Proc(node, "watchdog", self.launch).run(self._lease_dog())
        self.job = Proc(node, "job", self.launch)
        self.job.parent = proc
        self.job.run(self._job(self.job))
        while self.job.alive and node.guards.waits:
            waits = []
            if limit_at is not None and not self.ending:
                waits.append(limit_at - node.uptime_s)
            if self._lease_left() < FOR_EVER and not self.ending:
                waits.append(self._lease_left())
            if self.ending:
                waits.append(self.deadline - node.uptime_s)
            if not proc.asked and (not waits or min(waits) > 0):
                yield -min(waits) - 0.001 if waits else None
            if proc.asked:
                proc.asked = False
                signal, grace = self.spool.get(self.launch, "cancel") or ("TERM", int(self.request.get("job_grace", "30")))
                self._begin_ending("cancel", signal, grace)
            elif limit_at is not None and not self.ending and node.uptime_s >= limit_at:
                self._begin_ending("timeout", "TERM", int(self.request.get("job_grace", "30")))
            elif not self.ending and self._lease_left() <= 0:
                grace = int(self.request["job_lease_grace"]) + self._lease_left()
                self._begin_ending("lease", "TERM" if grace > 0 else "KILL", max(0, int(grace)))
            elif self.ending and node.uptime_s >= self.deadline and self.job.alive:
                self.job.signal("KILL")
                if "KILL" not in self.sent:
                    self.sent.append("KILL")
            yield node.tick()
        yield node.tick()
        status = self.job.status
        if self.stage == "run":
            how = self.ending or ("signal" if 256 < status <= 320 else "exit")
            yield from self._write_record(how, str(status), "-")
        elif self.stage == "output":
            yield from self._write_record("output", str(status), "-")
        else:
            yield from self._write_record("never", "-", "cancelled" if self.ending else "space")

    def _lease_left(self) -> float:
        """Seconds, by what the file says now and what it has said before."""
        if "job_lease" not in self.request or not self.node.guards.lease:
            return FOR_EVER
        told, boot = self.spool.lease if not self.spool.deleted else (0, "")
        if boot == self.node.boot:
            self.request["job_lease_from"] = max(int(self.request["job_lease_from"]), told)
        return int(self.request["job_lease_from"]) + int(self.request["job_lease"]) - int(self.node.uptime_s)

    def _begin_ending(self, how: str, signal: str, grace_s: int) -> None:
        job = self.job
        assert job is not None
        at = self.node.uptime_s
        if not self.ending:
            self.ending = how
            self.deadline = at + grace_s
            self.sent.append(signal)
            job.signal(signal)
            if signal != "KILL":
                job.signal("CONT")
        else:
            self.deadline = min(self.deadline, at + grace_s)

    def _write_record(self, how: str, status: str, why: str) -> Steps:
        """In place, twice, without need of space: half of it is no record."""
        node, spool = self.node, self.spool
        if not self._has_files():
            return
        end = node.uptime_s
        wall0 = node.wall_at - end
        self.record = (
            f"1 {self.launch} how={how} status={status} why={why} sent={','.join(self.sent) or '-'} term=0 start={self.began:.2f}"
            f" end={end:.2f} began={int(self.began + wall0)} ended={int(end + wall0)} user=0m0.010s sys=0m0.010s"
            f" boot={node.boot} left=-"
        )
        spool.put(self.launch, "exit", "!")
        node.world.happen("recording", node, self.proc)
        yield node.tick() * 0.1
        if not self._has_files():
            self.record = ""  # the write went into a file that has no name any more
            return
        spool.put(self.launch, "exit", self.record)
        node.world.happen("recorded", node, self.proc)

    def _has_files(self) -> bool:
        """Without any of them it was collected: nobody asks for its record any more."""
        return any(self.spool.get(self.launch, name) is not None for name in ("exit", "go", "run"))

    # ---- the job's process -----------------------------------------------------------------------------------

    def _job(self, me: Proc) -> Steps:
        node, spool, launch = self.node, self.spool, self.launch
        yield node.tick()
        if node.disk_full or not spool.put(launch, "run", (me.pid, me.start, node.boot, node.uptime_s)):
            spool.put(launch, "exit", "unstarted")
            me.end(1)
            return
        self.stage = "run"
        node.world.happen("job_named", node, me)
        yield node.tick()
        if not self.proc.alive:  # its parent is another now
            me.end(1)
            return
        ring(spool, f"S {launch} {me.pid} {me.start} {node.uptime_s:.2f}")
        yield node.tick()
        script = spool.get(launch, "script") or b""
        if b"h_hold" in script:  # a part of a job on several nodes: it has no end of its own, and no place in the ledger
            while "TERM" not in me.signals:
                me.signals.clear()
                yield -1_000_000.0
            me.end(256 + 15)
            return
        plan = parse_plan(script)
        if not plan:  # its files were taken away under it: the shell cannot open the script
            me.end(127)
            return
        request = self.request
        node.world.happen("started", node, me)
        run = node.begin_run(int(plan["n"]), request["job"], request["attempt"], launch)

        def ended() -> None:
            if run.ended_at is None:
                node.end_run(run, "signal" if 256 < me.status <= 320 else "exit", me.status)
                node.world.happen("ended", node, self.proc)

        me.on_end = ended
        if not request.get("job_out"):
            spool.put(launch, "out", b"")
        yield from self._program(me, plan, run)

    def _program(self, me: Proc, plan: dict[str, str], run: Run) -> Steps:
        node = self.node
        end = node.uptime_s + float(plan["dur"])
        while node.uptime_s < end:
            yield -(end - node.uptime_s) - 0.0001
            while me.signals:
                if me.signals.pop(0) != "TERM":
                    continue
                if plan.get("term") == "ignore":
                    continue
                if plan.get("term") == "trap":  # it cleans up and says it went well
                    yield float(plan.get("clean", "2"))
                    me.end(0)
                    return
                me.end(256 + 15)
                return
        if not self.request.get("job_out"):
            self.spool.put(self.launch, "out", f"output of {plan['n']}\n".encode())
        me.end(int(plan["code"]))

    def _lease_dog(self) -> Steps:
        while (left := self._lease_left()) > 0:
            yield min(left, 15.0)
            if self.job is not None and not self.job.alive:
                return
        yield from self._knock(max(0.0, int(self.request["job_lease_grace"]) + left))

    def _watchdog(self, limit_s: int) -> Steps:
        yield limit_s + 0.5
        yield from self._knock(float(self.request.get("job_grace", "30")))

    def _knock(self, grace_s: float) -> Steps:
        """Only knocks, while there is a supervisor; it stands in for one that was killed."""
        node = self.node
        while self.proc.alive:
            if self.job is not None and not self.job.alive:
                return
            self.proc.go_on()  # somebody may have stopped it
            yield 2.0
        job = self.job
        if job is not None and job.alive:
            job.signal("TERM")
            job.signal("CONT")
            yield grace_s
            if job.alive:
                job.signal("KILL")
        yield node.tick()


def kill_orphan(node: Node, spool: Spool, launch: str, job: Proc, signal: str, grace_s: int) -> None:
    """In the spawner: ends a job whose supervisor was killed."""
    proc = Proc(node, "killer", launch)

    def steps() -> Steps:
        yield node.tick()
        if not job.alive:
            return
        began = node.uptime_s
        job.signal(signal)
        if signal != "KILL":
            job.signal("CONT")
        deadline = node.uptime_s + grace_s
        while job.alive and node.uptime_s < deadline:
            yield 0.5
        sent = [signal]
        if job.alive:
            job.signal("KILL")
            sent.append("KILL")
        yield node.tick()
        current = spool.get(launch, "exit")
        if current is not None and not current.startswith("1 "):
            end = node.uptime_s
            record = (
                f"1 {launch} how=cancel status=- why=orphan sent={','.join(sent)} term=0 start={began:.2f} end={end:.2f}"
                f" began={node.wall_at} ended={node.wall_at} user=0m0.010s sys=0m0.010s boot={node.boot} left=-"
            )
            spool.put(launch, "exit", record)
            ring(spool, f"X {record}")
        ring(spool, f"K {launch} killed -")

    proc.run(steps())
