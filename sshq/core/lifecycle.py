"""The life of a job: every state, and every legal way from one to another.

`TRANSITIONS` is the whole truth: nothing else in sshq decides which state may follow which.  The diagram in
the documentation is printed from it (`diagram`); the tests walk every edge.

Names and two-letter codes are Slurm's (squeue(1), JOB STATE CODES).  COMPLETING (CG) is not a row here: a job
is completing while it is final and still holds an allocation.  Hence a verdict, once reached, never changes,
and no job is final in two ways.  A lost connection is no trigger: it changes what we know of a node, not what
a job is.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final

from sshq.errors import IllegalTransitionError


class State(Enum):
    """What a job is doing.  The value is the code `squeue` prints."""

    PENDING = "PD"  # queued or held; the job's reason says which
    CONFIGURING = "CF"  # resources allocated, start not yet confirmed by the node
    RUNNING = "R"
    SUSPENDED = "S"  # stopped, keeps its allocation
    COMPLETED = "CD"
    FAILED = "F"
    CANCELLED = "CA"
    TIMEOUT = "TO"
    OUT_OF_MEMORY = "OOM"
    NODE_FAIL = "NF"
    PREEMPTED = "PR"
    DEADLINE = "DL"

    __hash__ = object.__hash__  # a member equals itself only; Enum's own is a call of Python, at each look into a set


class Trigger(Enum):
    """What moves a job.  Each is something that happened, never a wish."""

    ALLOCATED = "the scheduler gave it resources"
    LAUNCHED = "its runner reported a live supervisor"
    LAUNCH_FAILED = "it provably never started"
    EXITED_ZERO = "it ended with status 0"
    EXITED_NONZERO = "it ended with another status, or by a signal not ours"
    MEMORY_EXCEEDED = "the kernel killed it for memory"
    STOPPED = "it was suspended by request"
    CONTINUED = "it was resumed by request"
    CANCELLED = "its user or an administrator ended it"
    PREEMPTED = "a job of higher priority took its resources"
    TIME_LIMIT = "it ran past its time limit"
    DEADLINE_PASSED = "it can no longer end before its deadline"
    NODE_LOST = "its node provably rebooted, or left no trace of it"
    REQUEUED = "it was sent back to the queue"


_ENDINGS: Final = {
    Trigger.EXITED_ZERO: State.COMPLETED,
    Trigger.EXITED_NONZERO: State.FAILED,
    Trigger.MEMORY_EXCEEDED: State.OUT_OF_MEMORY,
    Trigger.CANCELLED: State.CANCELLED,
    Trigger.PREEMPTED: State.PREEMPTED,
    Trigger.TIME_LIMIT: State.TIMEOUT,
    Trigger.NODE_LOST: State.NODE_FAIL,
}
_LIVE: Final[dict[State, Mapping[Trigger, State]]] = {
    State.PENDING: {
        Trigger.ALLOCATED: State.CONFIGURING,
        Trigger.CANCELLED: State.CANCELLED,
        Trigger.DEADLINE_PASSED: State.DEADLINE,
    },
    State.CONFIGURING: {
        **_ENDINGS,
        Trigger.LAUNCHED: State.RUNNING,
        Trigger.LAUNCH_FAILED: State.PENDING,
    },
    State.RUNNING: {**_ENDINGS, Trigger.STOPPED: State.SUSPENDED},
    State.SUSPENDED: {**_ENDINGS, Trigger.CONTINUED: State.RUNNING},
}
FINAL: Final = frozenset(State) - _LIVE.keys()
TRANSITIONS: Final[Mapping[State, Mapping[Trigger, State]]] = {
    state: _LIVE.get(state, {Trigger.REQUEUED: State.PENDING}) for state in State
}


def next_state(state: State, trigger: Trigger) -> State:
    """Return the state that `trigger` moves a job in `state` to.

    Raises:
        IllegalTransitionError: the job cannot take it: a bug in sshq, not a user's mistake.

    """
    try:
        return TRANSITIONS[state][trigger]
    except KeyError:
        message = f"a {state.name} job cannot take {trigger.name}: {trigger.value}"
        raise IllegalTransitionError(message) from None


def diagram() -> str:
    """Return the table as a Mermaid state diagram, one line an edge, the same text in every run."""
    edges = ["[*] --> PENDING: submitted"]
    for state, moves in TRANSITIONS.items():
        edges += [f"{state.name} --> {to.name}: {_label(trigger)}" for trigger, to in moves.items()]
    edges += [f"{state.name} --> [*]" for state in State if state in FINAL]
    return "stateDiagram-v2\n" + "".join(f"    {edge}\n" for edge in edges)


def _label(trigger: Trigger) -> str:
    return trigger.name.lower().replace("_", " ")
