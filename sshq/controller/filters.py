"""Job filters of requests: read strictly, matched simply."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sshq.controller.views import is_cancelling
from sshq.core.events import Selected
from sshq.core.lifecycle import FINAL, State
from sshq.core.model import Job
from sshq.errors import RefusedError

REFS_MAX = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """All that is given must match; empty means any."""

    refs: tuple[Selected, ...] | None = None
    users: tuple[str, ...] = ()
    uids: tuple[int, ...] = ()
    states: tuple[str, ...] = ()
    partitions: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    qos: tuple[str, ...] = ()

    @property
    def narrows(self) -> bool:
        """Whether more than ids is asked."""
        return any(
            (self.users, self.uids, self.states, self.partitions, self.names, self.nodes, self.kinds, self.accounts, self.qos)
        )

    def matches(self, job: Job, *, finished: bool) -> bool:
        """Match all but the ids.  Without `finished`, jobs that are over (and have released all) do not match."""
        over = job.state in FINAL and job.released and not job.output_pending
        if over and not finished:
            return False
        spec = job.spec
        return (
            (not self.states or _state_matches(job, self.states))
            and (not (self.users or self.uids) or spec.user in self.users or spec.uid in self.uids)
            and (not self.partitions or bool(set(spec.partitions) & set(self.partitions)))
            and (not self.names or spec.name in self.names)
            and (not self.nodes or bool(set(job.nodes) & set(self.nodes)))
            and (not self.kinds or spec.kind in self.kinds)
            and (not self.accounts or spec.account in self.accounts)
            and (not self.qos or spec.qos in self.qos)
        )


def _state_matches(job: Job, states: tuple[str, ...]) -> bool:
    cancelling = is_cancelling(job)
    completing = cancelling or job.verdict is not None or (job.state in FINAL and (not job.released or job.output_pending))
    return ("CANCELLED" if cancelling else job.state.name) in states or ("COMPLETING" in states and completing) or "ALL" in states


def read_filter(params: Mapping[str, Any]) -> JobFilter:
    """Return the filter of a request.

    Raises:
        RefusedError: "bad_request", naming the key.
    """
    given = params.get("filter") or {}
    if not isinstance(given, dict):
        raise RefusedError("the filter is not an object", code="bad_request")
    return JobFilter(
        refs=_refs(given.get("refs")),
        users=_texts(given, "users"),
        uids=tuple(u for u in given.get("uids") or () if isinstance(u, int)),
        states=tuple(s.upper() for s in _texts(given, "states")),
        partitions=_texts(given, "partitions"),
        names=_texts(given, "names"),
        nodes=_texts(given, "nodes"),
        kinds=_texts(given, "kinds"),
        accounts=_texts(given, "accounts"),
        qos=_texts(given, "qos"),
    )


def _refs(value: object) -> tuple[Selected, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > REFS_MAX:
        raise RefusedError("the list of job ids is malformed", code="bad_request")
    refs = []
    for one in value:
        if not isinstance(one, list) or not one or not isinstance(one[0], int):
            raise RefusedError("Invalid job id specified", code="bad_request")
        tasks = one[1] if len(one) > 1 else None
        if isinstance(tasks, int):
            tasks = [tasks]
        if tasks is not None and not (isinstance(tasks, list) and all(isinstance(t, int) for t in tasks)):
            raise RefusedError("Invalid job id specified", code="bad_request")
        refs.append(Selected(job_id=one[0], tasks=tuple(tasks) if tasks is not None else None))
    return tuple(dict.fromkeys(refs))  # the same one a thousand times is one


def _texts(given: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = given.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise RefusedError(f"{key} is not a list of texts", code="bad_request")
    return tuple(value)


def states_of(names: tuple[str, ...]) -> tuple[State, ...]:
    """Return the lifecycle states in which a job may be that is shown in one of these; none where it may be in any.

    A job that is being cancelled is shown so, and is in another state until its processes have ended.
    """
    if any(name not in State.__members__ for name in names):
        return ()
    found = {State[name] for name in names}
    return tuple(found | (set(State) - FINAL if State.CANCELLED in found else set()))
