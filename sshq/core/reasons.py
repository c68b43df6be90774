"""Why a job waits, or ended as it did: Slurm's words, each with a sentence for `sshq why`.

The words are those of squeue(1), JOB REASON CODES, as Slurm 22.05 prints them.

A reason travels as its word, sometimes with a detail behind it: "ReqNodeNotAvail, UnavailableNodes:node4",
"RaisedSignal:9".  `parse_reason` takes such a text apart, `format_reason` puts it together.
"""

from enum import Enum
from typing import Self


class Reason(Enum):
    """The value is the word squeue prints; `sentence` is what it means here, in words for the user."""

    sentence: str

    def __new__(cls, word: str, sentence: str) -> Self:
        made = object.__new__(cls)
        made._value_ = word
        made.sentence = sentence
        return made

    NONE = "None", "Nothing holds it back; it has not been looked at yet."
    # Waiting for room.
    PRIORITY = "Priority", "Jobs of higher priority are before it in the same partition."
    RESOURCES = "Resources", "It is next, and waits until enough of a node it may use is free."
    REQ_NODE_NOT_AVAIL = (
        "ReqNodeNotAvail",
        "Nodes it could run on are unreachable, drained or down; it starts when one of them is back.",
    )
    NODE_DOWN = "NodeDown", "Its node rebooted or lost it, so it did not come to its own end."
    BAD_CONSTRAINTS = (
        "BadConstraints",
        "No node has what it asks for; it waits until the inventory changes or the request does.",
    )
    JOB_ARRAY_TASK_LIMIT = "JobArrayTaskLimit", "As many tasks of its array run as %N allows."
    LICENSES = "Licenses", "It waits for a license that is in use."
    # Waiting for something else.
    DEPENDENCY = "Dependency", "A job it depends on has not come to the point it waits for."
    DEPENDENCY_NEVER_SATISFIED = (
        "DependencyNeverSatisfied",
        "What it depends on ended otherwise, or does not exist; it will not start unless that changes.",
    )
    BEGIN_TIME = "BeginTime", "Its begin time has not come yet."
    JOB_HELD_USER = "JobHeldUser", "Its user holds it; scontrol release lets it go."
    JOB_HELD_ADMIN = "JobHeldAdmin", "An administrator holds it; only an administrator can release it."
    LAUNCH_FAILED_HELD = (
        "launch failed requeued held",
        "Nodes refused to start it three times, so it is held; mend the cause, then scontrol release.",
    )
    JOB_HOLD_MAX_REQUEUE = "JobHoldMaxRequeue", "It was requeued too often and is held; scontrol release."
    RESERVATION = "Reservation", "It waits for its reservation to begin."
    RESERVATION_DELETED = "ReservationDeleted", "Its reservation is over or was deleted; scontrol update it, or cancel it."
    CLEANING = "Cleaning", "Its last attempt is still being cleaned up."
    SCHED_DEFER = "SchedDefer", "It asked to start at once or not at all, and could not."
    # The partition says no.
    PARTITION_DOWN = "PartitionDown", "Its partition is down and starts nothing."
    PARTITION_INACTIVE = "PartitionInactive", "Its partition is inactive and starts nothing."
    PARTITION_CONFIG = (
        "PartitionConfig",
        "No node of its partition is large enough, or the partition does not allow such a job.",
    )
    PARTITION_TIME_LIMIT = "PartitionTimeLimit", "Its time limit is above its partition's."
    PARTITION_NODE_LIMIT = "PartitionNodeLimit", "It asks for more nodes than its partition has or allows."
    # It has ended.
    JOB_LAUNCH_FAILURE = "JobLaunchFailure", "It could not be launched, or its script was killed by a signal."
    NON_ZERO_EXIT_CODE = "NonZeroExitCode", "It ended with an exit code other than zero."
    RAISED_SIGNAL = "RaisedSignal", "It was ended by a signal that did not come from sshq."
    TIME_LIMIT = "TimeLimit", "It ran into its time limit."
    DEADLINE = "DeadLine", "It could no longer end before its deadline."
    OUT_OF_MEMORY = "OutOfMemory", "It was killed for using more memory than there was."
    SYSTEM_FAILURE = "SystemFailure", "Something failed that is neither the job's fault nor its node's."


_BY_WORD = {reason.value: reason for reason in Reason}


def parse_reason(text: str) -> tuple[Reason, str] | None:
    """Return a reason and the detail behind it ("" if none); None if Slurm has no such word."""
    for mark in (", ", ":"):
        word, found, detail = text.partition(mark)
        if found and word in _BY_WORD:
            return _BY_WORD[word], detail
    reason = _BY_WORD.get(text)
    return None if reason is None else (reason, "")


def format_reason(reason: Reason, detail: str = "") -> str:
    """Return the text squeue %r prints, Slurm's way: a blank only before the nodes of ReqNodeNotAvail."""
    mark = ", " if reason is Reason.REQ_NODE_NOT_AVAIL else ":"
    return f"{reason.value}{mark}{detail}" if detail else reason.value


def explain_reason(text: str) -> str:
    """Return the sentence for a printed reason, its detail in brackets; an unknown text comes back."""
    parsed = parse_reason(text)
    if parsed is None:
        return text
    reason, detail = parsed
    return f"{reason.sentence[:-1]} ({detail})." if detail else reason.sentence
