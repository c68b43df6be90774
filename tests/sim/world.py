"""One simulated world: a head, some nodes, what users and fate do to them, and what came of it."""

import asyncio
import contextlib
import contextvars
import io
import logging
import os
import random as random_module
import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from random import Random
from typing import Any

from sshq.errors import SshqError
from sshq.inventory.config import Config
from sshq.store.jobs import Store

from . import oracle
from .clock import Stalled, VirtualLoop
from .fate import carry_out
from .head import HangUp, Head
from .net import Path
from .node import Guards, Node, Proc, Run
from .plan import JobPlan, Plan, Step

TRACE_MAX = 20_000


@dataclass
class Submission:
    """What a client knows of one submission."""

    plan: JobPlan
    token: str
    job_id: int | None = None  # the number it was told
    refused: str = ""
    asked: bool = False  # sent at least once: the job may exist although nobody was told
    told_at: float = 0.0
    requeues: int = 0  # asked for by users, answered or not
    cancelled_at: float | None = None
    cancelled_attempt: int = 0
    cancelled_restores: int = 0
    home: FilePath | None = None


@dataclass
class Outcome:
    """What one run of a world showed."""

    plan: Plan
    problems: list[tuple[str, str]]
    injected: Counter[str]
    trace: list[str]
    starts: int
    jobs: int
    virtual_s: float
    settled_in_s: float
    digest: str
    states: Counter[str] = field(default_factory=Counter)


class World:
    """Built from a plan; `run` lives it."""

    def __init__(
        self, plan: Plan, *, guards: Guards | None = None, dropped: frozenset[int] = frozenset(), logged: bool = False,
        verbose: bool = False, before_judging: "Callable[[World, FilePath], None] | None" = None,
    ) -> None:  # fmt: skip
        self.plan = plan
        self.guards = guards or Guards()
        self.dropped = dropped
        self.random = Random(f"world/{plan.seed}")
        self.loop = VirtualLoop(Random(f"loop/{plan.seed}"))
        self.injected: Counter[str] = Counter()
        self.problems: list[tuple[str, str]] = []
        self.trace: deque[str] = deque(maxlen=TRACE_MAX)
        self.verbose = verbose
        self.logged = logged or verbose  # the controller's own log is part of the trace
        self.before_judging = before_judging
        self.quiet = False  # from here on nothing goes wrong any more
        self.restores = 0
        self.restored_at: list[float] = []
        self.wipes: list[tuple[float, str]] = []
        self.power_cuts: list[tuple[float, str]] = []
        self.backups: list[tuple[float, FilePath]] = []
        self.backed_up_at = 0.0
        names = [f"n{i:02d}" for i in range(1, plan.nodes + 1)]
        self.nodes = {name: Node(self, name, cpus=plan.cpus) for name in names}
        self.paths = {name: Path(self, name, node) for name, node in self.nodes.items()}
        self.inventory: dict[str, str] = {name: "" for name in names}
        self.all_hosts = dict(self.inventory)
        self.submissions = [
            Submission(plan=j, token=f"{self.random.getrandbits(64):016x}", refused="dropped" if -j.number in dropped else "")
            for j in plan.jobs
        ]
        self.watch = oracle.Watch(self)
        self.runs: dict[str, list[Run]] = {}  # by launch
        self.armed: dict[str, list[Any]] = {}
        self.awaited: dict[tuple[str, str], list[asyncio.Future[None]]] = {}
        self.culprits: dict[int, Proc] = {}
        self.context = contextvars.copy_context()
        self.settled_in_s = 0.0

    # ---- notes -----------------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        line = f"{self.loop.time():12.4f} {text}"
        self.trace.append(line)
        if self.verbose:
            print(line)

    def problem(self, kind: str, text: str) -> None:
        self.note(f"VIOLATION {kind}: {text}")
        if len(self.problems) < 50:
            self.problems.append((kind, text))

    # ---- what others tell ------------------------------------------------------------------------------------

    def node_changed(self, node: Node) -> None:
        for path in self.paths.values():
            if path.node is node:
                path.changed()

    def node_rebooted(self, node: Node) -> None:
        for path in self.paths.values():
            if path.node is node:
                path.reset("the host was restarted")

    def after_store(self, store: Store) -> None:
        self.watch.look(store)

    # ---- the run ---------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        base = FilePath(tempfile.mkdtemp(prefix="sshq-sim-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
        random_module.seed(self.plan.seed)  # the controller's jitter
        handler = _LogTap(self)
        logger = logging.getLogger("sshq")
        level, propagate = logger.level, logger.propagate
        logger.addHandler(handler)
        logger.setLevel(logging.INFO if self.logged else logging.ERROR)
        logger.propagate = False
        self.loop.set_exception_handler(self._unhandled)
        try:
            self.base = base
            short = self.plan.scale in ("short", "leases")
            config = Config(
                inventory_poll_s=5 if short else 60, finished_keep_s=7 * 86400 if short else 7200,
                reconcile_interval_s=45 if short else 150, audit=False, backup_interval_s=None,
            )  # fmt: skip
            self.head = Head(self, base, config)
            with contextlib.redirect_stderr(io.StringIO()):  # last words of controllers
                self.loop.run_until_complete(self._live())
        except Stalled:
            self.problem("stuck", "nothing is scheduled any more")
        finally:
            with contextlib.suppress(Exception):
                self._clean()
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate
            shutil.rmtree(base, ignore_errors=True)
        runs = [r for n in self.nodes.values() for r in n.ledger]
        return Outcome(
            plan=self.plan, problems=self.problems, injected=self.injected, trace=list(self.trace), starts=len(runs),
            jobs=self.watch.jobs, virtual_s=self.loop.time(), settled_in_s=self.settled_in_s, digest=self.watch.digest(),
            states=self.watch.states,
        )  # fmt: skip

    def _clean(self) -> None:
        self.quiet = True
        if self.head.process is not None:
            self.head.process.kill()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        with contextlib.suppress(Stalled):
            self.loop.run_until_complete(asyncio.sleep(0.01))
        self.loop.close()

    def _unhandled(self, _loop: object, context: dict[str, Any]) -> None:
        if not self.quiet or self.head.alive:
            self.note(f"head: unhandled {context.get('message')}: {context.get('exception')!r}")

    async def _live(self) -> None:
        self.head.start()
        tasks = [self.loop.create_task(self._submit(s)) for s in self.submissions if not s.refused]
        tasks += [self.loop.create_task(self._step(s)) for s in self.plan.steps if s.number not in self.dropped]
        tasks.append(self.loop.create_task(self._keep_alive()))
        await asyncio.sleep(self.plan.span_s)
        if tasks[:-1]:  # all may have been dropped
            await asyncio.wait(tasks[:-1], timeout=3600)
        await self._heal()
        since = self.loop.time()
        while self.loop.time() < since + self.plan.settle_s:
            if self.watch.settled():
                break
            await self._tidy(since)
            await asyncio.sleep(15 if self.loop.time() < since + 900 else 120)
        else:
            self.problem("stuck", f"not settled within {self.plan.settle_s:.0f} s: {self.watch.unsettled()}")
        self.settled_in_s = self.loop.time() - since
        tasks[-1].cancel()
        await self.head.stop()
        if self.before_judging is not None:
            self.before_judging(self, self.head.state / "sshq.db")
        self.watch.judge(self.head.state / "sshq.db")

    def happen(self, event: str, node: Node, proc: Proc | None = None) -> None:
        """Something a fault may be waiting for."""
        for future in self.awaited.pop((event, node.name), ()):
            if not future.done():
                future.set_result(None)
        waiting = self.armed.get(event)
        if not waiting:
            return
        for entry in list(waiting):
            entry[1] -= 1
            if entry[1] <= 0:
                waiting.remove(entry)
                if proc is not None:
                    self.culprits[entry[0].number] = proc
                self.loop.create_task(self._carry_out(replace(entry[0], node=node.name)), context=self.context)

    async def _step(self, step: Step) -> None:
        await asyncio.sleep(step.at)
        if self.quiet:
            return
        if step.when:
            self.armed.setdefault(step.when, []).append([step, step.nth])
        else:
            await self._carry_out(step)

    async def _carry_out(self, step: Step) -> None:
        if step.when and step.c < 0.5 and not step.kind.startswith("stop_"):
            await asyncio.sleep(step.c * step.c * 4)
        if self.quiet:
            return
        try:
            await carry_out(self, step)
        except (HangUp, SshqError) as error:
            self.note(f"step {step.number} {step.kind}: {error!r}")

    async def _keep_alive(self) -> None:
        """The service manager: a controller that is gone is started again."""
        while True:
            await asyncio.sleep(self.random.uniform(0.2, 8))
            if not self.head.alive:
                self.head.start()

    # ---- users -----------------------------------------------------------------------------------------------

    async def _submit(self, submission: Submission) -> None:
        """sbatch, by somebody who tries again with the same token while no answer comes."""
        job = submission.plan
        await asyncio.sleep(job.at)
        params = describe(self, submission)
        for _ in range(60):
            if job.after is not None and "dependency" not in params["description"]:
                other = self.submissions[job.after - 1].job_id
                if other is not None:
                    params["description"]["dependency"] = f"after{self.random.choice(('ok', 'any'))}:{other}"
            try:
                submission.asked = True
                answer = await self.head.ask("submit", params)
                if answer.get("need_nonce"):
                    nonce = "ab" * 8
                    params["directory"] |= {"nonce_path": f"/x/.sshq-nonce-{nonce}", "nonce": nonce}
                    continue
                submission.job_id = int(answer["job_id"])
                submission.told_at = self.loop.time()
                self.note(f"client: submission {job.number} is job {submission.job_id}")
                return
            except HangUp:
                await asyncio.sleep(self.random.uniform(0.2, 20))
            except SshqError as error:
                submission.refused = error.message
                self.note(f"client: submission {job.number} refused: {error.message}")
                return
            if self.quiet:
                return

    # ---- the end ---------------------------------------------------------------------------------------------

    async def _heal(self) -> None:
        """From now on nothing goes wrong, and what users did to hosts is undone."""
        self.quiet = True
        self.note("world: no more faults")
        self.armed.clear()
        self.head.point = None
        self.loop.disk_s = 0.0
        self.head.skew_s = max(0.0, self.head.skew_s)
        for node in self.nodes.values():
            node.disk_full, node.slow = False, 1.0
            node.power_on()
            node.freeze(False)
            for proc in list(node.procs.values()):
                if proc.stopped and proc.kind != "job":
                    proc.go_on()
        for name, path in self.paths.items():
            path.sshd = path.login = path.host_key = True
            path.latency_s = 0.001
            path.reset_after = None
            path.node = self.nodes[name]
            path.set_cut(up=True, down=True)
        self.head.write_inventory(self.all_hosts)

    async def _tidy(self, since: float) -> None:
        """Users and administrators put right what they had done themselves."""
        with contextlib.suppress(HangUp, SshqError):
            await self.head.ask("hosts_retry", {})
        with contextlib.suppress(HangUp, SshqError):
            await self.head.ask("reload", {})
        for node in self.watch.drained():
            with contextlib.suppress(HangUp, SshqError):
                await self.head.ask("update_node", {"names": [node], "state": "resume"})
        if self.loop.time() < since + 120:
            return  # what nodes hold is heard of before held jobs are released
        for job_id, state, reason in self.watch.waiting():
            with contextlib.suppress(HangUp, SshqError):
                if state == "SUSPENDED":
                    await self.head.ask("resume", {"refs": [[job_id, None]]})
                elif reason == "DependencyNeverSatisfied":
                    await self.head.ask("cancel", {"filter": {"refs": [[job_id, None]]}})
                else:
                    await self.head.ask("release", {"refs": [[job_id, None]]})


def describe(world: World, submission: Submission) -> dict[str, Any]:
    """The request `sbatch` would send."""
    job = submission.plan
    script = f"#!/bin/sh\n#SIM n={job.number} dur={job.duration_s:.2f} code={job.code} term={job.term}\n"
    if job.large:
        script += "# " + "x" * 30_000 + "\n"
    description: dict[str, Any] = {
        "kind": "script", "script": script, "name": f"job{job.number}", "work_dir": "/tmp", "std_out": "/dev/null",
        "retries": job.retries, "held": job.held,
    }  # fmt: skip
    if job.limit_s is not None:
        description["time_limit_s"] = job.limit_s
    if job.lease_s is not None:
        description["lease_s"] = job.lease_s
    if job.requeue is not None:
        description["requeue"] = job.requeue
    if job.nodes > 1:
        description |= {"num_nodes": job.nodes, "nodes_given": True, "num_tasks": job.nodes}
    if job.array:
        description["array"] = f"0-{job.array - 1}"
    params: dict[str, Any] = {"description": description, "environ": {"A": "b"}, "token": submission.token}
    if job.private and not job.array:
        home = world.base / f"home{job.number}"
        home.mkdir(exist_ok=True)
        submission.home = home / "out"
        description |= {"work_dir": str(home), "std_out": str(submission.home), "anywhere": True, "open_mode": "truncate"}
        params["directory"] = {"path": str(home)}
    return params


class _LogTap(logging.Handler):
    """The controller's log becomes part of the trace; what it calls an error is one."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def emit(self, record: logging.LogRecord) -> None:
        from .clock import PROCESS

        process = PROCESS.get()
        if process is not None and not process.alive:
            return
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f" [{record.exc_info[1]!r}]"
        self.world.note(f"log: {record.levelname.lower()} {text[:300]}")
        # A controller whose store was taken over, or replaced by a backup, shall say so and end.
        deposed = "another controller took over" in text or ("was moved or removed" in text and self.world.restores > 0)
        if record.levelno >= logging.ERROR and not deposed:
            self.world.problem("bug", text[:300])
