"""Who waits for whom, so that a start or an end wakes its dependents and nobody else.

A waiting job is indexed under each job or array that it names, from its submission until it is eligible or over; as
long as it is, what it names is not purged (its verdict could not be told any more).  A dependency that was met stays
met, as in Slurm, even if the job it named is retried or requeued afterwards.  Singletons are indexed by user
and name.  A wake may end a job (`--kill-on-invalid-dep`), which wakes others: that is a loop here, not a recursion,
for chains may be long.
"""

from collections import deque
from typing import TYPE_CHECKING, TypeVar

from sshq.core import dependency as dep
from sshq.core.lifecycle import FINAL, State
from sshq.core.model import Job

if TYPE_CHECKING:
    from sshq.core.cluster import Cluster

SingletonKey = tuple[int, str]  # uid, job name
K = TypeVar("K")


class Dependents:
    """The index, and the loop that works through those to be woken."""

    def __init__(self) -> None:
        self.by_target: dict[int, set[int]] = {}  # job or array id -> who waits for it
        self.singletons: dict[SingletonKey, set[int]] = {}
        self._to_wake: deque[int] = deque()
        self._waking = False

    def watch(self, job: Job) -> None:
        """Index a pending job that has never been eligible; once it is, its dependency has been met for good."""
        if not job.spec.dependency or job.state is not State.PENDING or job.eligible_at is not None:
            return
        for term in dep.parse_dependency(job.spec.dependency).terms:
            if term.kind == dep.SINGLETON:
                self.singletons.setdefault(singleton_key(job), set()).add(job.job_id)
            else:
                self.by_target.setdefault(term.job_id, set()).add(job.job_id)

    def unwatch(self, job: Job) -> None:
        """Take a job out that waits no longer; `job` as it was when it was watched."""
        if not job.spec.dependency:
            return
        for term in dep.parse_dependency(job.spec.dependency).terms:
            if term.kind == dep.SINGLETON:
                _discard(self.singletons, singleton_key(job), job.job_id)
            else:
                _discard(self.by_target, term.job_id, job.job_id)

    def is_needed(self, job: Job) -> bool:
        """Whether somebody still waits for this job or its array."""
        return job.job_id in self.by_target or (job.array_job_id or job.job_id) in self.by_target

    def wake(self, cluster: "Cluster", job: Job, now: float) -> None:
        """Look again at all that wait for `job`; its own state must be stored already."""
        if not self.by_target and not self.singletons:
            return
        found = self.by_target.get(job.job_id, set()) | self.by_target.get(job.array_job_id or job.job_id, set())
        self._to_wake.extend(sorted(found | self._next_singletons(cluster, singleton_key(job))))
        if self._waking:
            return
        self._waking = True
        try:
            while self._to_wake:
                waiting = cluster.jobs.get(self._to_wake.popleft())
                if waiting is not None and waiting.state is State.PENDING:
                    cluster.requeue_index(waiting.job_id, now)
        finally:
            self._waking = False
            self._to_wake.clear()

    def _next_singletons(self, cluster: "Cluster", key: SingletonKey) -> set[int]:
        """Only the earliest waiting submission can be next: it stands in the way of all others."""
        waiting = {i: _submission(cluster.jobs[i]) for i in self.singletons.get(key, ())}
        first = min(waiting.values(), default=0)
        return {i for i, submission in waiting.items() if submission == first}


def judge_dependency(cluster: "Cluster", job: Job, now: float) -> tuple[dep.Verdict, float | None]:
    """Return what a job's dependency comes to, and when to look again because minutes pass."""
    parsed = dep.parse_dependency(job.spec.dependency or "")
    if job.array_task_id is not None:
        parsed = dep.pin_to_task(parsed, job.array_task_id)

    def lookup(term: dep.Term) -> dep.JobFacts:
        return facts_for(cluster, term, job)

    return dep.evaluate(parsed, lookup, now), dep.find_next_check(parsed, lookup, now)


def facts_for(cluster: "Cluster", term: dep.Term, job: Job) -> dep.JobFacts:
    """Return what a term may know of the job it names: an array is the sum of its tasks."""
    if term.kind == dep.SINGLETON:
        others = cluster.index.namesakes(singleton_key(job), cluster.jobs.values())
        left = any(_goes_before(cluster.jobs[other], job) for other in others)
        return dep.JobFacts(known=True, final=not left, ok=True, started_at=0.0)
    members = [cluster.jobs[i] for i in cluster.array_members.get(term.job_id, ()) if i in cluster.jobs]
    if not members and term.job_id in cluster.jobs:
        members = [cluster.jobs[term.job_id]]
    if isinstance(term.task, int):
        task = term.task
        members = [m for m in members if m.array_task_id == task or (m.is_array_record and task in cluster.array_sets[m.job_id])]
    if not members:
        return dep.JobFacts(known=False)
    # An allocation is no start yet: the node may still refuse it.
    started = [m.start_at for m in members if m.start_at is not None and m.state is not State.CONFIGURING]
    all_started = len(started) == len(members) and not any(m.is_array_record for m in members)
    final = all(m.state in FINAL for m in members)
    return dep.JobFacts(
        known=True,
        started_at=max(started) if all_started else None,
        final=final,
        ok=final and all(m.state is State.COMPLETED for m in members),
        array=members[0].array_job_id is not None,
    )


def singleton_key(job: Job) -> SingletonKey:
    return job.spec.uid, job.spec.name


def _goes_before(other: Job, job: Job) -> bool:
    """Whether a singleton waits for its namesake: the earlier one, one that has begun, or a singleton whose turn has come.

    As in Slurm; but jobs that are submitted together come into the queue some time after they got their numbers.
    """
    mine, its = _submission(job), _submission(other)
    return its < mine or (its != mine and (other.state is not State.PENDING or _had_its_turn(other)))


def _had_its_turn(job: Job) -> bool:
    """Whether a pending job is a singleton that waits for nobody any more."""
    return bool(job.spec.dependency) and job.eligible_at is not None and dep.parse_dependency(job.spec.dependency or "").singleton


def _submission(job: Job) -> int:
    return job.array_job_id or job.job_id


def _discard(index: dict[K, set[int]], key: K, job_id: int) -> None:
    found = index.get(key)
    if found is not None:
        found.discard(job_id)
        if not found:
            del index[key]
