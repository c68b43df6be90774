"""Who says whether a world went well: the ledgers of the nodes against the rows of the store, read by plain SQL and JSON.

Nothing of sshq's own judgement is used.  The ledger of a node is written by the simulated jobs and survives everything.

  lost        an accepted job is not in the store, or never came to an end
  double      one launch was started twice; a job was run again although nothing allowed it
  two         two attempts of one job ran at once
  false       COMPLETED without a run that ended with 0; an end that the ledger does not bear out; NEVER_STARTED of what started
  accounting  a launch with more or fewer than one row, a row without a launch
  running     something runs of a job that the store calls over, or of a launch that the store has settled
  revived     a cancelled job got another launch
  output      a private job's output did not come home
  stuck       after the last fault, something did not settle in bounded time
  litter      a settled launch's files were never removed from its node
  bug         the controller logged an error, or a request failed with something that is not an answer
"""

import hashlib
import json
import sqlite3
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .node import Run

if TYPE_CHECKING:
    from .world import Submission, World

FINAL = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "PREEMPTED", "DEADLINE"}
PROVED_DEAD = {"exited", "never_started", "lost", "rebooted", "lease_ended"}


class Watch:
    """Looks while the world runs, and judges at its end."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.jobs = 0
        self.states: Counter[str] = Counter()
        self._seen: int | None = 0
        self._asserted: set[str] = set()
        self._digest = hashlib.sha256()

    # ---- while it runs ---------------------------------------------------------------------------------------

    def restored(self) -> None:
        """The store is another one: what it has accounted for is to be read anew."""
        self._seen = None

    def look(self, store: Any) -> None:
        """After each piece of work of the store: is what it has just settled really over?"""
        run = store._connection.execute
        if self.world.head.controller is None or self.world.head.controller.stopping.is_set():
            return
        if self._seen is None:
            self._seen = run("SELECT coalesce(max(rowid), 0) FROM accounting").fetchone()[0]
            return
        for rowid, launch, job_id, record in run(
            "SELECT rowid, launch_id, job_id, record FROM accounting WHERE rowid > ? ORDER BY rowid", (self._seen,)
        ).fetchall():
            self._seen = rowid
            fields = json.loads(record)
            outcome = fields["outcome"].lower()
            self._digest.update(f"{self.world.loop.time():.6f} {launch} {record}\n".encode())
            self.world.note(f"store: job {job_id} launch {launch[:8]} accounted {outcome} {fields['state']} {fields.get('detail', '')}")
            if outcome in PROVED_DEAD:
                for found in self.world.runs.get(launch, ()):
                    if found.ended_at is None:
                        self.world.problem("running", f"job {job_id}: launch {launch} was settled as {outcome} and still runs on {found.node}")

    def _runs(self) -> list[Run]:
        return [r for n in self.world.nodes.values() for r in n.ledger]

    def cancelled(self, submission: "Submission") -> None:
        """A user was told that it is cancelled: no launch decided from now on may be of this job."""
        if submission.plan.array:
            return
        rows = self._select("SELECT record FROM launch WHERE job_id = ?", submission.job_id)
        submission.cancelled_at = self.world.loop.time()
        submission.cancelled_restores = self.world.restores
        submission.cancelled_attempt = max([json.loads(r[0]).get("attempt", 0) for r in rows], default=0)

    def _select(self, statement: str, *values: Any) -> list[Any]:
        store = self.world.head.controller.store._store if self.world.head.controller is not None else None
        if store is None:
            return []
        found: list[Any] = store._connection.execute(statement, values).fetchall()
        return found

    def settled(self) -> bool:
        return self.world.head.alive and self.world.head.door is not None and not self.unsettled()

    def unsettled(self) -> str:
        """What is not over yet, in words; empty once all is."""
        if self.world.head.controller is None or self.world.head.controller.store._store is None:
            return "no controller"
        found = []
        for job_id, state, record in self._select("SELECT job_id, state, record FROM job WHERE live = 1"):
            fields = json.loads(record)
            if state not in FINAL:
                found.append(f"job {job_id} is {state} ({fields.get('reason')}, held {fields.get('held')}, note {fields.get('note')})")
            elif fields.get("output_pending"):
                found.append(f"job {job_id} waits for its output")
        found += [f"launch {i} of job {j} is open" for i, j in self._select("SELECT id, job_id FROM launch WHERE open = 1")]
        for submission in self.world.submissions:
            if submission.job_id is None and not submission.refused:
                found.append(f"submission {submission.plan.number} was never answered")
        for node in self.world.nodes.values():
            for spool in node.spools.values():
                found += [f"{node.name} keeps files of launch {i}" for i in spool.files if not self._may_stay(i)]
            found += [f"{node.name} runs {p.kind} of {p.launch}" for p in node.procs.values() if p.kind == "job"]
        return "; ".join(found[:6])

    def _may_stay(self, launch: str) -> bool:
        """A restored store does not know every launch; what it does not know it never removes."""
        if not self.world.restores:
            return False
        return not self._select("SELECT 1 FROM launch WHERE id = ?", launch)

    def waiting(self) -> list[tuple[int, str, str]]:
        rows = self._select("SELECT job_id, state, record FROM job WHERE live = 1 AND state IN ('PENDING', 'SUSPENDED')")
        found = [(job_id, state, json.loads(record)) for job_id, state, record in rows]
        return [
            (job_id, state, str(fields.get("reason", "")))
            for job_id, state, fields in found
            if state == "SUSPENDED" or fields.get("held") or fields.get("reason") == "DependencyNeverSatisfied"
        ]

    def drained(self) -> list[str]:
        rows = self._select("SELECT name, record FROM node")
        return [name for name, record in rows if json.loads(record).get("drain_reason")]

    # ---- at the end ------------------------------------------------------------------------------------------

    def digest(self) -> str:
        return self._digest.hexdigest()[:16]

    def judge(self, path: Path) -> None:
        """Compare everything."""
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            jobs = {j: (s, json.loads(r)) for j, s, r in connection.execute("SELECT job_id, state, record FROM job")}
            specs = {j: json.loads(r) for j, r in connection.execute("SELECT job_id, spec.record FROM job JOIN spec ON spec = digest")}
            launches = {i: (j, o, json.loads(r)) for i, j, o, r in connection.execute("SELECT id, job_id, open, record FROM launch")}
            accounting = {i: (j, json.loads(r)) for i, j, r in connection.execute("SELECT launch_id, job_id, record FROM accounting")}
            tokens = dict(connection.execute("SELECT token, job_id FROM token").fetchall())
        finally:
            connection.close()
        self.jobs = len(jobs)
        self.states = Counter(state for state, _ in jobs.values())
        self._digest.update(repr(sorted((j, s) for j, (s, _) in jobs.items())).encode())
        runs: dict[int, list[Run]] = defaultdict(list)
        for run in sorted(self._runs(), key=lambda r: r.started_at):
            runs[run.job_id].append(run)
        self._judge_accepted(jobs, tokens)
        self._judge_accounting(launches, accounting)
        for job_id, found in runs.items():
            self._judge_runs(job_id, found, jobs, specs, accounting)
        for job_id, (state, fields) in jobs.items():
            self._judge_end(job_id, state, fields, runs[job_id], accounting)
        self._judge_cancelled(launches)
        self._judge_outputs(jobs)

    def _judge_accepted(self, jobs: dict[int, Any], tokens: dict[str, int]) -> None:
        problem = self.world.problem
        for submission in self.world.submissions:
            job_id = submission.job_id
            if job_id is None:
                continue
            if any(at < submission.told_at for at in self.world.restored_at):
                continue  # accepted after the backup was made: the administrator was told
            if job_id not in jobs:
                problem("lost", f"submission {submission.plan.number} was accepted as job {job_id}, which the store does not know")
            elif tokens.get(submission.token, job_id) != job_id:
                problem("double", f"submission {submission.plan.number} is job {job_id} and job {tokens[submission.token]}")
        for job_id, (state, fields) in jobs.items():
            if state not in FINAL:
                problem("lost", f"job {job_id} ends as {state} {fields.get('reason')}")
        names = Counter(j[1].get("array_job_id") or i for i, j in jobs.items())
        told = Counter(s.job_id for s in self.world.submissions if s.job_id is not None)
        for job_id, count in told.items():
            if count > 1 and not self.world.restores:
                problem("double", f"{count} submissions were told the number {job_id}")
        if not self.world.restores and len(names) > len(self.world.submissions):
            problem("double", f"{len(self.world.submissions)} submissions became {len(names)} jobs")

    def _judge_accounting(self, launches: dict[str, Any], accounting: dict[str, Any]) -> None:
        problem = self.world.problem
        by_attempt = Counter((j, r["attempt"]) for j, r in accounting.values() if not r.get("rank"))
        for (job_id, attempt), count in by_attempt.items():
            if count > 1 and not self.world.restores:
                problem("accounting", f"job {job_id} attempt {attempt} has {count} rows")
        for launch, (job_id, is_open, _) in launches.items():
            if is_open:
                problem("lost", f"launch {launch} of job {job_id} is still open")
            elif launch not in accounting:
                problem("accounting", f"launch {launch} of job {job_id} is closed without a row")
        for launch, (job_id, _) in accounting.items():
            if launch not in launches:
                problem("accounting", f"a row for launch {launch} of job {job_id}, which was never decided")
        if not self.world.restores:
            for run in self._runs():
                if run.launch not in accounting:
                    problem("accounting", f"launch {run.launch} of job {run.job_id} ran on {run.node} and has no row")

    def _judge_runs(self, job_id: int, runs: list[Run], jobs: Any, specs: Any, accounting: Any) -> None:
        problem = self.world.problem
        for launch, count in Counter(r.launch for r in runs).items():
            if count > 1:
                problem("double", f"launch {launch} of job {job_id} was started {count} times")
        for first, second in zip(runs, runs[1:], strict=False):
            if first.ended_at is None or first.ended_at > second.started_at:
                outcome = accounting.get(first.launch, (0, {}))[1].get("outcome", "").lower()
                if outcome == "asserted" or (first.node != second.node and self._was_wiped(first)):
                    continue  # an administrator's word, or --requeue=always after the spool was removed
                problem("two", f"job {job_id}: {first.launch[:8]} on {first.node} and {second.launch[:8]} on {second.node} ran at once")
        if self.world.restores or job_id not in jobs:
            return
        allowed = (1 + self._requeues(job_id, jobs)) * (1 + specs[job_id].get("retries", 0))  # a requeue begins anew
        requeue = specs[job_id].get("requeue", "yes")
        for launch, (of, row) in accounting.items():
            if of != job_id:
                continue
            outcome = row["outcome"].lower()
            if row.get("rank"):  # of a job on several nodes: one that ends by itself takes the job with it
                allowed += outcome != "never_started" and requeue != "no"
                continue
            allowed += outcome == "lease_ended" and requeue != "no"
            allowed += (outcome == "rebooted" and requeue != "no") or (outcome in ("lost", "spool_lost", "asserted") and requeue == "always")
            if outcome == "never_started" and any(r.launch == launch for r in runs):
                if requeue == "no" or not self._power_was_cut(launch, runs):
                    problem("false", f"job {job_id}: launch {launch} was settled as never started, and it had started")
                allowed += 1
        if len(runs) > allowed:
            problem("double", f"job {job_id} was started {len(runs)} times, {allowed} were allowed (requeue {requeue})")

    def _power_was_cut(self, launch: str, runs: list[Run]) -> bool:
        run = next(r for r in runs if r.launch == launch)
        return any(node == run.node and at >= run.started_at for at, node in self.world.power_cuts)

    def _was_wiped(self, run: Run) -> bool:
        submission = self.world.submissions[run.number - 1]
        wiped = any(node == run.node and at >= run.started_at for at, node in self.world.wipes)
        return wiped and (submission.plan.requeue == "always" or submission.requeues > 0)

    def _requeues(self, job_id: int, jobs: Any) -> int:
        array = jobs[job_id][1].get("array_job_id") if job_id in jobs else None
        return sum(s.requeues for s in self.world.submissions if s.job_id is not None and s.job_id in (job_id, array))

    def _judge_end(self, job_id: int, state: str, fields: Any, runs: list[Run], accounting: Any) -> None:
        problem = self.world.problem
        for run in runs:
            if run.ended_at is None and state in FINAL:
                problem("running", f"job {job_id} is {state} and {run.launch} still runs on {run.node}")
        for launch, (of, row) in accounting.items():
            if of != job_id or row.get("rank"):
                continue
            run = next((r for r in runs if r.launch == launch), None)
            if row["state"] == "COMPLETED" and (run is None or run.ending != "exit" or run.code != 0):
                problem("false", f"job {job_id}: launch {launch} is COMPLETED, the ledger says {run}")
            if row["state"] == "FAILED" and row["outcome"] == "EXITED" and row.get("exit_code", 0) not in (0, 127):
                if run is None or run.ending != "exit" or run.code != row["exit_code"]:
                    problem("false", f"job {job_id}: launch {launch} FAILED {row['exit_code']}, the ledger says {run}")
            if run is not None and row["state"] == "NODE_FAIL" and row["outcome"] == "REBOOTED" and run.ending != "reboot" and not self._power_was_cut(launch, runs):
                if not any(n == run.node for _, n in self.world.power_cuts):
                    self.world.note(f"oracle: launch {launch} was settled as rebooted after it had ended")
        if state == "COMPLETED" and not self.world.restores:
            newest = accounting.get(fields.get("launch_id"), (0, {}))[1]
            if newest.get("state") != "COMPLETED":
                problem("false", f"job {job_id} is COMPLETED, its newest attempt {newest.get('state')}")

    def _judge_cancelled(self, launches: dict[str, Any]) -> None:
        for submission in self.world.submissions:
            if submission.cancelled_at is None or submission.cancelled_restores != self.world.restores:
                continue
            for launch, (job_id, _, record) in launches.items():
                if job_id == submission.job_id and record["attempt"] > submission.cancelled_attempt:
                    self.world.problem("revived", f"job {job_id} was cancelled at {submission.cancelled_at:.1f} and got launch {launch}")

    def _judge_outputs(self, jobs: Any) -> None:
        if self.world.restores:
            return
        for submission in self.world.submissions:
            state, fields = jobs.get(submission.job_id, ("", {}))
            if submission.home is None or state != "COMPLETED" or "output not brought home" in (fields.get("note") or ""):
                continue
            if not submission.home.exists():
                self.world.problem("output", f"job {submission.job_id} is COMPLETED and {submission.home.name} is not there")
