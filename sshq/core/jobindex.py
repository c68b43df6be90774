"""Who is who among the jobs in the live queue, kept with each change, so that nobody has to look at all of them.

`Cluster.put_job` tells of every change; what a job was before says where it has to be taken out.
"""

from collections import Counter
from collections.abc import Iterable

from sshq.core.lifecycle import FINAL, State
from sshq.core.model import Job

Names = tuple[int, str]  # uid, job name


class JobIndex:
    """Counts and sets of jobs by what is asked of them often."""

    def __init__(self) -> None:
        self.states: Counter[State] = Counter()
        self.final: set[int] = set()
        self.outputs_pending: set[int] = set()
        self.directories: Counter[str] = Counter()  # that hosts may be asked about, by jobs that may yet be launched
        self.pythons: Counter[str] = Counter()  # that hosts may be asked for, by jobs that may yet be launched
        self._namesakes: dict[Names, set[int]] = {}  # not final; of names that were asked for only

    def change(self, old: Job | None, new: Job | None) -> None:
        """Take in that a job came (no old), changed, or left (no new)."""
        if old is not None:
            if new is not None and old.spec is new.spec and old.output_pending is new.output_pending:
                if old.state is new.state:
                    return
                if old.state not in FINAL and new.state not in FINAL:
                    self.states[old.state] -= 1
                    self.states[new.state] += 1
                    return
            self._count(old, -1)
        if new is not None:
            self._count(new, 1)

    def take_in(self, jobs: list[Job]) -> None:
        """Take in many that are all new, and nobody has asked for any name yet."""
        self.states.update(job.state for job in jobs)
        self.final.update(job.job_id for job in jobs if job.state in FINAL)
        self.outputs_pending.update(job.job_id for job in jobs if job.output_pending)
        live = [job for job in jobs if job.state not in FINAL]
        self.directories.update(key for key in map(provable_directory, live) if key is not None)
        self.pythons.update(key for key in (job.spec.python for job in live) if key is not None)

    def _count(self, job: Job, delta: int) -> None:
        self.states[job.state] += delta
        final = job.state in FINAL
        _set(self.final, job.job_id, final and delta > 0)
        _set(self.outputs_pending, job.job_id, job.output_pending and delta > 0)
        if not final:
            _add(self.directories, provable_directory(job), delta)
            _add(self.pythons, job.spec.python, delta)
        if self._namesakes:
            found = self._namesakes.get((job.spec.uid, job.spec.name))
            if found is not None:
                _set(found, job.job_id, not final and delta > 0)

    def namesakes(self, names: Names, jobs: Iterable[Job]) -> set[int]:
        """Return the jobs of a user and name that are not over; `jobs` are all, looked through once for each name."""
        found = self._namesakes.get(names)
        if found is None:
            found = {job.job_id for job in jobs if job.state not in FINAL and (job.spec.uid, job.spec.name) == names}
            self._namesakes[names] = found
        return found


def provable_directory(job: Job) -> str | None:
    """Return the directory of the head that hosts are asked about for a job, if they are."""
    spec = job.spec
    return spec.work_dir if spec.provable and not spec.anywhere and not spec.seen_from else None


def _add(counts: Counter[str], key: str | None, delta: int) -> None:
    if key is not None:
        counts[key] += delta
        if counts[key] <= 0:
            del counts[key]


def _set(members: set[int], job_id: int, inside: bool) -> None:
    if inside:
        members.add(job_id)
    else:
        members.discard(job_id)
