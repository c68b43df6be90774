"""sbatch: hand a script to the controller, print the job's number, and with --wait stay until it is over."""

import os
import sys
from collections.abc import Sequence

from sshq.cli.printing import print_messages, print_warnings
from sshq.cli.submitting import read_job_id, read_submission, submit_job
from sshq.slurm.messages import SUBMITTED


def run(argv: Sequence[str]) -> int:
    """Run sbatch; the result is its exit status."""
    submission = read_submission(argv, "sbatch")
    if submission.wants:
        from sshq.slurm.help import describe_command

        sys.stdout.write(describe_command("sbatch", submission.wants))
        return 0
    print_warnings("sbatch", submission.warnings)
    if submission.test_only:
        from sshq.errors import OptionError

        raise OptionError(
            "--test-only is not supported by sshq yet", source="--test-only", hint="sbatch --hold, then sshq why JOB"
        )
    reply = submit_job(submission, "sbatch")
    job_id = read_job_id(reply)
    notes = reply.get("notes")
    if isinstance(notes, list) and not submission.quiet:
        print_messages(f"sbatch: {note}" for note in notes)
    if submission.parsable:
        print(job_id)
    elif not submission.quiet:
        print(SUBMITTED.format(job_id=job_id))
    if not submission.wait:
        return 0
    sys.stdout.flush()
    from sshq.cli.waiting import exit_status, wait_for_jobs

    try:
        return max((exit_status(job) for job in wait_for_jobs("sbatch", [job_id], os.environ)), default=1)
    except KeyboardInterrupt:
        print_messages([f"sbatch: job {job_id} goes on; end it with: scancel {job_id}"])
        raise
