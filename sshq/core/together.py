"""Many submissions: each is judged before any is taken, so all are or none is.

What they have in common (nearly always all but the script) is resolved once, which is most of what a submission costs.
Ten thousand of them would hold up everybody else for most of a second, so they come in steps, between which others are
served: they are judged and numbered in one; made and written down some at a time, where nobody sees them; stored in one
transaction; and only then do they come into the queue, again some at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sshq.core.admission import ask_hosts, check_room, enter_queue, new_job, resolve
from sshq.core.arrays import parse_indices
from sshq.core.cluster import Cluster
from sshq.core.events import Member, StoredTogether, SubmittedTogether
from sshq.core.model import Job, JobSpec
from sshq.core.replacing import replace
from sshq.errors import RefusedError


class RefusedTogetherError(RefusedError):
    """None was taken; `refusals` has who is to blame, by place from 0."""

    def __init__(self, refusals: dict[int, RefusedError]) -> None:
        number, first = next(iter(refusals.items()))
        super().__init__(first.message, code=first.code, detail=(f"submission {number}", *first.detail), hint=first.hint)
        self.refusals = refusals


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbered:
    """What judging came to: numbers that are kept for the jobs, and their specs by `id` of the shared one and by being held."""

    first_job_id: int
    first_order: int
    specs: Mapping[tuple[int, bool], JobSpec]

    def make_jobs(self, members: Sequence[Member], at: int, now: float) -> list[Job]:
        """Return the jobs of some of the members, of which the first is at place `at`, as they will come into the queue."""
        return [self._make_job(member, at + number, now) for number, member in enumerate(members)]

    def _make_job(self, member: Member, place: int, now: float) -> Job:
        spec = replace(self.specs[id(member.shared), member.held], **member.own)  # type: ignore[arg-type]
        tasks = parse_indices(member.array) if member.array is not None else None
        job = new_job(self.first_job_id + place, self.first_order + place, spec, tasks, held=member.held, now=now)
        # What `enter_together` will find, for the most common ones: it need not be stored once more.
        if member.held:
            return replace(job, reason="JobHeldUser")
        return replace(job, eligible_at=now) if not spec.dependency and spec.begin_at is None else job


def judge_together(cluster: Cluster, event: SubmittedTogether) -> Numbered:
    """Return the numbers and specs of the jobs that the members will be.

    Raises:
        RefusedTogetherError: nothing has changed.

    """
    admitted: dict[tuple[int, bool], JobSpec] = {}
    refused: dict[tuple[int, bool], RefusedError] = {}
    refusals: dict[int, RefusedError] = {}
    for number, member in enumerate(event.members):
        key = id(member.shared), member.held
        if key not in admitted and key not in refused:
            try:
                admitted[key] = resolve(cluster, member.shared, held=member.held)
            except RefusedError as error:
                refused[key] = error
        if key in refused:
            refusals[number] = refused[key]
    if refusals:
        raise RefusedTogetherError(refusals)
    check_room(cluster, len(event.members))
    numbered = Numbered(first_job_id=cluster.next_job_id, first_order=cluster.next_order, specs=admitted)
    cluster.next_job_id += len(event.members)
    cluster.next_order += len(event.members)
    return numbered


def enter_together(cluster: Cluster, event: StoredTogether) -> int:
    """Let stored jobs wait in the queue; returns how many."""
    specs: dict[tuple[object, ...], JobSpec] = {}
    for job in event.jobs:
        cluster.put_stored_job(job)
        tasks = parse_indices(job.array_tasks) if job.array_tasks is not None else None
        enter_queue(cluster, job, tasks, event.now)
        spec = job.spec
        specs.setdefault((spec.work_dir, spec.provable, spec.anywhere, spec.seen_from, spec.python), spec)
    for spec in specs.values():
        ask_hosts(cluster, spec)
    return len(event.jobs)
