"""From asking for an allocation to holding it: what salloc and srun say meanwhile, and what ends the wait."""

import signal

from sshq.cli.asking import Object, open_controller
from sshq.cli.following import follow_job, is_over
from sshq.cli.printing import print_messages
from sshq.cli.submitting import read_job_id, submit_job
from sshq.errors import OptionError, SshqError
from sshq.slurm.getopt import Given
from sshq.slurm.submit import Submission

BUSY = "Unable to allocate resources: Requested nodes are busy"


class _AbortedError(Exception):
    """A signal while we wait."""


class _ExpiredError(Exception):
    """--immediate=SECONDS is over."""


class Granting:
    """One wait for one job to start; `job_id` is its number, once it has one."""

    def __init__(self, program: str, submission: Submission, immediate: Given | None) -> None:
        self.job_id = 0
        self._program = program
        self._submission = submission
        self._immediate = immediate

    def await_grant(self) -> Object | None:
        """Submit, and return the job once it has started; None when it never will, which has been said.

        Raises:
            OptionError: --immediate, and there was no room.
            SshqError: refused, or nobody answers.

        """
        old = {number: signal.signal(number, _abort) for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)}
        old[signal.SIGALRM] = signal.signal(signal.SIGALRM, _expire)
        seconds = None if self._immediate is None else _read_seconds(self._immediate.value)
        try:
            self.job_id = read_job_id(submit_job(self._submission, self._program))
            if seconds:
                signal.alarm(seconds)
            return self._follow(at_once=seconds == 0)
        except (_AbortedError, KeyboardInterrupt):
            if self.job_id:
                cancel_job(self._program, self.job_id)
                self._say(f"Job allocation {self.job_id} has been revoked.")
            self._say("Job aborted due to signal")
            return None
        except _ExpiredError:
            cancel_job(self._program, self.job_id)
            raise OptionError(BUSY) from None
        finally:
            signal.alarm(0)
            for number, handler in old.items():
                signal.signal(number, handler)

    def _follow(self, *, at_once: bool) -> Object | None:
        waited = False
        for job in follow_job(self._program, self.job_id):
            if job.get("started") is True or (is_over(job) and job.get("start_at") is not None):
                if waited:
                    self._say(f"job {self.job_id} has been allocated resources")
                return job
            if is_over(job):
                self._say(f"Job allocation {self.job_id} has been revoked.")
                return None
            if job.get("state") == "PENDING" and not waited:
                if at_once:
                    raise _ExpiredError
                waited = True
                if self._program == "salloc":
                    self._say(f"Pending job allocation {self.job_id}")
                self._say(f"job {self.job_id} queued and waiting for resources")
        return None

    def _say(self, text: str) -> None:
        if not self._submission.quiet:
            print_messages([f"{self._program}: {text}"])


def cancel_job(program: str, job_id: int, number: int | None = None) -> None:
    """Cancel a job, or signal it; a controller that does not answer is told of."""
    try:
        with open_controller(program) as client:
            client.call("cancel", {"filter": {"refs": [[job_id, None]]}, "signal": number}, timeout_s=10)
    except SshqError:
        print_messages([f"{program}: error: job {job_id} goes on: the controller does not answer"])


def _read_seconds(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0


def _abort(_number: int, _frame: object) -> None:
    raise _AbortedError


def _expire(_number: int, _frame: object) -> None:
    raise _ExpiredError
