"""sshq fetch: bring the output of jobs here that were submitted from this machine to a controller on another one."""

import os
from collections.abc import Callable, Iterator, Sequence

import click

from sshq.api import away
from sshq.api.proof import find_own_cwd
from sshq.api.staged import Left, list_left
from sshq.cli.fromaway import bring_left, bring_one, find_staged
from sshq.cli.own import UsageMistakeError, own_command, run_command
from sshq.cli.printing import print_messages
from sshq.cli.terminal import write_over
from sshq.errors import UserError
from sshq.wire.client import connect, find_head
from sshq.wire.headssh import Head

Job = dict[str, object]
PROGRESS_BYTES_MIN = 4 << 20


@own_command("fetch")
@click.argument("jobs", nargs=-1, metavar="[JOB…]")
@click.option("-a", "--all", "everything", is_flag=True, help="All files that jobs left on the head for this directory.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def _command(jobs: tuple[str, ...], everything: bool, quiet: bool) -> int:
    """Bring the output of JOB… to the directory of this machine that it was submitted from.

    Without JOB: of all jobs in the queue, also those that are over, that were submitted from this directory or below it.
    Output of a running job is brought as far as it is; of one that is over the files that --stage-out names, too.  With --all:
    whatever lies in the directory on the head that stands for this one, and below it, for jobs whose hosts share it write their
    files there; what is newer here stays as it is.
    """
    head = find_head(os.environ)
    if head is None:
        raise UserError("the controller is on this machine: output is where the job writes it", hint="scontrol show job JOB")
    if everything:
        if jobs:
            raise UsageMistakeError("jobs and --all exclude each other", hint="sshq fetch --help")
        return _bring_all(head, quiet=quiet)
    code = 0
    for job in _find_jobs(jobs):
        code = max(code, _bring(head, job, quiet=quiet, named=bool(jobs)))
    return code


def run(argv: Sequence[str]) -> int:
    """Run `sshq fetch`."""
    return run_command(_command, "fetch", argv)


def _find_jobs(words: Sequence[str]) -> Iterator[Job]:
    """Yield the jobs that are meant; those that left the queue from the history."""
    from sshq.cli.wait import read_refs

    refs = read_refs(words)
    wanted: Job = {"refs": [[job_id, tasks] for job_id, tasks in refs]} if refs else {}
    with connect(os.environ) as client:
        stream = client.stream("jobs", {"filter": wanted, "finished": True})
        yield from list(stream)
        unknown = stream.result.get("unknown_ids")
        for job_id in unknown if isinstance(unknown, list) else ():
            rows = list(client.stream("history", {"filter": {"refs": [[job_id, None]]}, "start_at": None, "end_at": None}))
            yield from rows
            if not rows:
                raise UserError(f"Invalid job id specified: {job_id}", hint="sacct -X")


def _bring(head: Head, job: Job, *, quiet: bool, named: bool) -> int:
    files = away.list_outputs(head, job)
    staged = find_staged("sshq", head, job)
    if not named:
        below = os.getcwd().rstrip("/") + "/"
        files = [(source, target) for source, target in files if target.startswith(below)]
        staged = [left for left in staged if left[1].startswith(below)]
    elif not files and not staged:
        what = f"job {job.get('job_id')} was not submitted from this machine, or writes elsewhere on {head.name}"
        print_messages([f"sshq: {what}: {job.get('std_out')}", f"    hint: sshq logs {job.get('job_id')}"])
        return 1
    code = 0
    for source, target in files:
        size = bring_one("sshq", head, job, source, target, show=None if quiet else _progress(target))
        if size is None or quiet:
            continue
        if size or os.path.exists(target):
            print(f"{os.path.relpath(target)}  {size} bytes")
        elif named and not os.path.exists(target):
            print_messages([f"sshq: job {job.get('job_id')} ({job.get('state')}) has no {source} on {head.name}"])
            code = 1
    for left in staged:
        code = max(code, _bring_left(head, job, left, quiet=quiet))
    return code


def _bring_all(head: Head, *, quiet: bool) -> int:
    cwd = find_own_cwd()
    there = away.to_head(head, cwd)
    if there == cwd:
        print_messages([f"sshq: {head.name} sees this directory itself: there is nothing to bring"])
        return 0
    code = 0
    for left in list_left(head, cwd):
        code = max(code, _bring_left(head, {}, left, quiet=quiet))
    return code


def _bring_left(head: Head, job: Job, left: Left, *, quiet: bool) -> int:
    _, target, size, _ = left
    brought = bring_left("sshq", head, job, left, quiet=quiet, show=None if quiet else _progress(target))
    if brought == 0 and size:
        return 1
    if brought is not None and not quiet:
        print(f"{os.path.relpath(target)}  {brought} bytes")
    return 0


def _progress(target: str) -> Callable[[int, int], None]:
    """Return what shows on a terminal how far a long file is."""

    def show(here: int, there: int) -> None:
        if there >= PROGRESS_BYTES_MIN and os.isatty(2):
            percent = f"{os.path.basename(target)}  {here * 100 // there} % of {there >> 20} MiB"
            write_over(percent if here < there else "")

    return show
