"""What becomes of the steps of a launch that has ended: rows for accounting, and the worst exit of them."""

from collections.abc import Iterable

from sshq.core.events import StepNews
from sshq.core.lifecycle import State
from sshq.core.model import Job, Launch, Step

SIGKILL, SIGNALS_MAX = 9, 64


def make_steps(launch: Launch, job: Job | None, news: Iterable[StepNews], *, ended_at: float) -> list[Step]:
    """Return the rows of a launch's steps, by number.

    Args:
        launch: the one that has ended, with its start.
        job: whose it is, where that is known: what a step has all of, unless it said less.
        news: as its node told them.
        ended_at: UTC seconds; a step that was still running ended with its launch.
    """
    rows = []
    begun = launch.started_at if launch.started_at is not None else launch.decided_at
    for step in sorted(news, key=lambda one: one.number):
        start = ended_at if step.start_s is None else min(ended_at, begun + max(0.0, step.start_s))
        end = ended_at if step.end_s is None else min(ended_at, max(start, begun + step.end_s))
        state, code, signal = judge_step(step.code, done=step.done)
        rows.append(
            Step(
                launch_id=launch.id, number=step.number, job_id=launch.job_id, attempt=launch.attempt, state=state,
                name=step.name, start_at=start, end_at=end, exit_code=code, exit_signal=signal, tasks=step.tasks,
                nodes=step.nodes or (launch.node,), cpus=step.cpus or (job.cpus if job else 1), user_s=step.user_s,
                system_s=step.system_s, line=step.line,
            )
        )  # fmt: skip
    return rows


def judge_step(code: int, *, done: bool) -> tuple[State, int, int | None]:
    """Return state, exit code and signal, as Slurm derives them: what a signal ended is CANCELLED."""
    if not done:
        return State.CANCELLED, 0, SIGKILL
    if 128 < code <= 128 + SIGNALS_MAX:
        return State.CANCELLED, 0, code - 128
    return (State.FAILED if code else State.COMPLETED), code, None


def worst_exit(steps: Iterable[Step]) -> tuple[int | None, int | None]:
    """Return exit code and signal of the step that ended worst; a code is worse than a signal, as in Slurm's status words."""
    worst = max(((step.exit_code, step.exit_signal or 0) for step in steps), default=None)
    return (None, None) if worst is None else (worst[0], worst[1] or None)
