"""sshq wait: stay until jobs are over; the status is that of the worst, as for `sbatch --wait`."""

import os
from collections.abc import Sequence

import click

from sshq.cli import here
from sshq.cli.own import own_command, run_command
from sshq.cli.printing import print_json, print_messages
from sshq.cli.waiting import Job, exit_status, wait_for_jobs
from sshq.core.arrays import parse_indices
from sshq.errors import UserError
from sshq.wire.client import connect


@own_command("wait")
@click.argument("jobs", nargs=-1, required=True, metavar="JOB…")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the jobs, once all are over, as JSON.")
def _command(jobs: tuple[str, ...], quiet: bool, as_json: bool) -> int:
    """Wait until each JOB (12, an array, or 12_4, one of its tasks) is over and its output is here."""
    refs = read_refs(jobs)
    left: set[object] = set()
    for job_id, tasks in refs:
        left |= {(job_id, task) for task in tasks} if tasks is not None else {(job_id, None)}
    unknown: list[int] = []
    seen: list[Job] = []
    for job in wait_for_jobs("sshq", sorted({job_id for job_id, _ in refs}), os.environ, unknown=unknown):
        if not _is_wanted(job, refs):
            continue
        seen.append(job)
        if not quiet and not as_json:
            click.echo(_describe(job))
        left.discard((job.get("array_job_id") or job.get("job_id"), job.get("array_task_id")))
        if not left:
            break
    seen += [job for job_id in unknown for job in _find_in_history(job_id, refs, quiet=quiet or as_json)]
    if as_json:
        print_json({"jobs": list(seen)})
    missing = [
        f"{job_id}" if one is None else f"{job_id}_{one[0]}"
        for job_id, tasks in refs for one in ([None] if tasks is None else [[task] for task in tasks])
        if not any(_is_wanted(job, [(job_id, one)]) for job in seen)
    ]  # fmt: skip
    print_messages(f"sshq: error: Invalid job id specified: {label}" for label in dict.fromkeys(missing))
    return max([*(exit_status(job) for job in seen), *(1 for _ in missing)], default=0)


def run(argv: Sequence[str]) -> int:
    """Run `sshq wait`."""
    return run_command(_command, "wait", argv)


def read_refs(texts: Sequence[str]) -> list[tuple[int, list[int] | None]]:
    """Return the jobs that words name: number, and tasks of an array.  Raises UserError."""
    from sshq.core.ids import format_job_id, parse_job_ids

    try:
        refs = [ref for text in texts for ref in parse_job_ids(text)]
    except ValueError as error:
        raise UserError(str(error), hint="job ids look like 12, 12_4 (array task) or 12_[1-5]") from None
    step = next((ref for ref in refs if ref.step is not None), None)
    if step is not None:
        raise UserError(f"{format_job_id(step)} is a step: jobs are meant here", hint="job ids look like 12, 12_4 or 12_[1-5]")
    return [(ref.job_id, list(ref.tasks) if ref.tasks is not None else None) for ref in refs]


def _is_wanted(job: Job, refs: Sequence[tuple[int, list[int] | None]]) -> bool:
    number, array = job.get("job_id"), job.get("array_job_id")
    return any(job_id in (number, array) if tasks is None else job_id == array and _is_one(job, tasks) for job_id, tasks in refs)


def _is_one(job: Job, tasks: Sequence[int]) -> bool:
    """Whether a part of an array is one of some tasks, or stands for some that ended before they began."""
    if job.get("array_task_id") is not None:
        return job.get("array_task_id") in tasks
    left = job.get("array_tasks")  # what only tells of an end does not say which
    return not left or not set(tasks).isdisjoint(parse_indices(str(left)))


def _find_in_history(job_id: int, refs: Sequence[tuple[int, list[int] | None]], *, quiet: bool) -> list[Job]:
    """Return the rows of a job that has left the queue, or of the tasks of it that are meant: it is over."""
    with connect(os.environ) as client:
        rows = list(client.stream("history", {"filter": {"refs": [[job_id, None]]}, "start_at": None, "end_at": None}))
    rows = [row for row in rows if _is_wanted(row, refs)]
    for row in rows:
        here.place.bring_home("sshq", row)
        if not quiet:
            click.echo(_describe(row))
    return rows


def _describe(job: Job) -> str:
    task = job.get("array_task_id")
    label = f"{job.get('job_id')}" if task is None else f"{job.get('array_job_id')}_{task}"
    return f"{label} {job.get('state')} {job.get('exit_code') or 0}:{job.get('exit_signal') or 0}"
