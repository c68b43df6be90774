"""sbatch: hand a script to the controller, print the job's number, and with --wait stay until it is over."""

import os
import sys

from sshq.cli import here
from sshq.cli.printing import print_messages, print_warnings
from sshq.cli.submitting import read_job_id, read_submission, submit_job, take_files
from sshq.errors import RefusedError
from sshq.slurm.messages import CLUSTER, SUBMITTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sshq.slurm.submit import Submission


def run(argv: "Sequence[str]") -> int:
    """Run sbatch; the result is its exit status."""
    submission = read_submission(argv, "sbatch")
    if submission.wants:
        from sshq.slurm.help import describe_command

        sys.stdout.write(describe_command("sbatch", submission.wants))
        return 0
    if submission.verbose:
        print_messages(f"sbatch: {line}" for line in _list_options(submission.options))
    print_warnings("sbatch", submission.warnings)
    if submission.sync is not None or submission.stage_in:
        for line in take_files(submission, "sbatch"):
            if not submission.quiet:
                print_messages([f"sbatch: {line}"])
    return hand_in(submission)


def hand_in(submission: "Submission") -> int:
    """Submit, and say and do what the submission's own options ask for; the result is the exit status."""
    try:
        reply = submit_job(submission, "sbatch")
    except RefusedError as error:
        if not submission.test_only:
            raise
        text = error.message.rpartition("Batch job submission failed: ")[2]
        print_messages([f"allocation failure: {text}", *(f"    {line}" for line in error.detail)])
        return 1
    if reply.get("test_only"):
        print_messages([_describe_test(reply)])
        return 0
    job_id = read_job_id(reply)
    notes = reply.get("notes")
    if isinstance(notes, list) and not submission.quiet:
        told = here.place.describe_notes([str(note) for note in notes], submission.description)
        print_messages(f"sbatch: {note}" for note in told)
    if submission.parsable:
        print(f"{job_id};{CLUSTER}" if submission.cluster else job_id)
    elif not submission.quiet:
        print(SUBMITTED.format(job_id=job_id) + (f" on cluster {CLUSTER}" if submission.cluster else ""))
    if not submission.wait:
        return 0
    sys.stdout.flush()
    here.place.begin_wait([job_id])
    from sshq.cli.waiting import exit_status, wait_for_jobs

    try:
        return max((exit_status(job) for job in wait_for_jobs("sbatch", [job_id], os.environ)), default=1)
    except KeyboardInterrupt:
        print_messages([f"sbatch: job {job_id} goes on; end it with: scancel {job_id}"])
        raise


def _list_options(options: "Mapping[str, str]") -> list[str]:
    rule = f"{'-' * 20} {'-' * 20}"
    return ["defined options", rule, *(f"{name:<20}: {value}" for name, value in options.items()), rule, "end of defined options"]


def _describe_test(reply: "Mapping[str, object]") -> str:
    """Return Slurm's line for --test-only; a start that depends on jobs without an end is not made up."""
    start_at = reply.get("start_at")
    when = "when hosts get free"
    if isinstance(start_at, int | float):
        import time

        when = time.strftime("at %Y-%m-%dT%H:%M:%S", time.localtime(start_at))
    where = f"using {reply['cpus']} processors on nodes {reply['node']} in partition {reply['partition']}"
    return f"sbatch: Job {reply['job_id']} to start {when} {where}"
