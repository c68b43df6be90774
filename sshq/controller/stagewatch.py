"""For who waits at a terminal: how far the files of jobs are that have not begun."""

from collections.abc import Iterable, Mapping

from sshq.controller.views import View
from sshq.core.cluster import Cluster
from sshq.core.lifecycle import State
from sshq.core.model import Job

STEP_S = 0.5  # between two looks
TOLD_MAX = 8  # jobs of one look; a terminal has one line for them


def find_note(notes: Mapping[str, str], job: Job) -> str | None:
    """Return how far a job's files are on their way to its nodes, None if none are."""
    if job.state is not State.CONFIGURING:
        return None
    return next((note for one in (job.launch_id or "", *job.part_launches) if (note := notes.get(one))), None)


class StageWatch:
    """For one waiter; an array is all of its tasks.  `notes` says of each launch how far it is, as `Stager.notes`."""

    def __init__(self, ids: Iterable[int], notes: Mapping[str, str]) -> None:
        self._ids = dict.fromkeys(ids)
        self._notes = notes
        self._told: dict[int, str] = {}
        self.is_needed = True

    def look(self, cluster: Cluster) -> list[View]:
        """Return what changed since the last look: `{"job_id": N, "staging": text}`, "" for files that have arrived."""
        now: dict[int, str] = {}
        self.is_needed = False
        for job_id in self._ids:
            for member in cluster.array_members.get(job_id) or (job_id,):
                job = cluster.jobs.get(member)
                if job is None or job.spec.tree is None or job.state not in (State.PENDING, State.CONFIGURING):
                    continue
                self.is_needed = True
                note = find_note(self._notes, job)
                if note and len(now) < TOLD_MAX:
                    now[member] = note
        before, self._told = self._told, now
        changed = [(job_id, note) for job_id, note in now.items() if before.get(job_id) != note]
        return [{"job_id": i, "staging": note} for i, note in [*changed, *((i, "") for i in before if i not in now)]]
