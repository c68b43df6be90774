"""Many submissions as one event: each is judged before any is taken, so all are or none is.

What they have in common (nearly always all but the script) is resolved once, which is most of what a submission costs.
"""

from sshq.core.admission import ask_hosts, check_room, make_job, resolve
from sshq.core.arrays import parse_indices
from sshq.core.cluster import Cluster
from sshq.core.events import SubmittedTogether
from sshq.core.model import JobSpec, ScriptBlob, SubmitToken, VariableDigests
from sshq.core.replacing import replace
from sshq.errors import RefusedError


class RefusedTogetherError(RefusedError):
    """None was taken; `refusals` has who is to blame, by place from 0."""

    def __init__(self, refusals: dict[int, RefusedError]) -> None:
        number, first = next(iter(refusals.items()))
        super().__init__(first.message, code=first.code, detail=(f"submission {number}", *first.detail), hint=first.hint)
        self.refusals = refusals


def submit_together(cluster: Cluster, event: SubmittedTogether) -> int:
    """Create a job for each member and return the first one's id; the others' follow it.

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
    first = cluster.next_job_id
    for member in event.members:
        spec = replace(admitted[id(member.shared), member.held], **member.own)  # type: ignore[arg-type]
        tasks = parse_indices(member.array) if member.array is not None else None
        make_job(cluster, spec, tasks, held=member.held, now=event.now)
        cluster.store_row(ScriptBlob(digest=spec.script, data=member.script))
    for environ, text in event.variables:
        cluster.store_row(VariableDigests(environ=environ, text=text))
    if event.token:
        cluster.store_row(SubmitToken(token=event.token, uid=event.members[0].shared.uid, job_id=first, at=event.now))
    for spec in admitted.values():
        ask_hosts(cluster, spec)
    return first
