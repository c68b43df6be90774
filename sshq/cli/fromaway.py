"""What commands say and bring when the controller is on another machine."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sshq.api import away
from sshq.api.staged import Left, is_newer_here, list_staged
from sshq.cli.printing import print_messages
from sshq.errors import SshqError
from sshq.wire.client import connect, find_head
from sshq.wire.headssh import Head


def describe_notes(notes: Sequence[str], work_dir: str) -> list[str]:
    """Return what is said of a submission: what stands for this directory there, and how its output comes here."""
    head = find_head(os.environ)
    if head is None or away.to_here(head, work_dir) is None:
        return list(notes)
    told = [note.replace("its output comes back here", "its output comes back there") for note in notes]
    here = f"submitted from {work_dir} on {head.name}; output comes here with `sshq wait`, `sbatch --wait` or `sshq fetch`"
    return [here, *told]


def bring_home(program: str, job: Mapping[str, Any]) -> None:
    """Bring the output of a job that is over to this machine; say so where that fails, and how to get it later."""
    head = find_head(os.environ)
    if head is None:
        return
    whole = _find_whole(job)
    for source, target in away.list_outputs(head, whole):
        bring_one(program, head, job, source, target)
    for left in find_staged(program, head, whole):
        bring_left(program, head, job, left)


def find_staged(program: str, head: Head, job: Mapping[str, Any]) -> list[Left]:
    """Return the files that --stage-out of a job names and that lie on the head; say so where that cannot be found out."""
    try:
        return list_staged(head, job)
    except (OSError, SshqError) as error:
        why = error.message if isinstance(error, SshqError) else f"{error.filename}: {error.strerror}"
        number = job.get("job_id")
        print_messages([f"{program}: files of job {number} are not here yet: {why}; later: sshq fetch {number}"])
        return []


def bring_left(
    program: str, head: Head, job: Mapping[str, Any], left: Left, *, quiet: bool = False,
    show: Callable[[int, int], None] | None = None,
) -> int | None:  # fmt: skip
    """Bring a file that lies on the head, as `bring_one`; one that is newer here stays, and is told of if it is another."""
    source, target, size, _ = left
    if is_newer_here(left):
        if os.path.getsize(target) != size and not quiet:
            print_messages([f"{program}: {os.path.relpath(target)} is newer here, and stays as it is"])
        return None
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
    except OSError as error:
        print_messages([f"{program}: {os.path.relpath(target)} is not here yet: {os.path.dirname(target)}: {error.strerror}"])
        return 0
    return bring_one(program, head, job, source, target, show=show)


def _find_whole(job: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return all that is known of a job; what tells of its end says no more than how it ended."""
    if "std_out" in job:
        return job
    try:
        with connect(os.environ) as client:
            wanted = {"refs": [[job["job_id"], None]]}
            views = list(client.stream("jobs", {"filter": wanted, "finished": True}))
            views = views or list(client.stream("history", {"filter": wanted, "start_at": None, "end_at": None}))
    except SshqError:
        views = []  # its output can be fetched later
    return next((view for view in views if view.get("job_id") == job["job_id"]), job)


def bring_one(
    program: str, head: Head, job: Mapping[str, Any], source: str, target: str, *, show: Callable[[int, int], None] | None = None
) -> int | None:
    """Bring one file; return its size, 0 where it could not be brought, None where it was here already."""
    try:
        return away.bring_output(head, source, target, show=show)
    except FileNotFoundError:
        if os.path.isdir(os.path.dirname(target)):
            return 0  # it wrote none, or never began
        why = f"{os.path.dirname(target)}: No such file or directory"
    except OSError as error:
        why = f"{error.filename or target}: {error.strerror}"
    except SshqError as error:
        why = " ".join((error.message, *error.detail[:2]))
    number = job.get("job_id")
    what = f"output of job {number}" if number else os.path.basename(target)
    print_messages([f"{program}: {what} is not here yet: {why}; later: sshq fetch {number or '--all'}"])
    return 0
