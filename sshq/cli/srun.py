"""srun: run one command as a job, its output here, its exit status ours.

The job is one step of the node's own srun (sshq/runner/srun.sh), which tells of its tasks' ends.  The output passes through
two hidden files in the submit directory, which are removed again.  Inside a job, the node's srun takes over at once.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

from sshq.cli.asking import Object, list_items, open_controller, read_int, read_text
from sshq.cli.printing import print_messages, print_warnings
from sshq.cli.submitting import read_job_id, read_submission, submit_job
from sshq.errors import OptionError, UnreachableError
from sshq.slurm.getopt import parse_options
from sshq.slurm.submit import Submission

SIGNAL_BASE = 128
TOLD_WAITING_S = 2.0
STEPS_HINT = "unset SLURM_JOB_ID if this is to be a job of its own"


def run(argv: Sequence[str]) -> int:
    """Run srun; the result is the command's exit status."""
    _hand_over(argv)
    parsed = parse_options("srun", argv, os.environ)
    if parsed.wants:
        from sshq.slurm.help import describe_command

        sys.stdout.write(describe_command("srun", parsed.wants))
        return 0
    _refuse_steps(parsed.value("job_id"))
    submission = _make_submission(argv)
    print_warnings("srun", submission.warnings)
    _warn_of_input()
    immediate = parsed.last("immediate")
    patience_s = None if immediate is None else float(immediate.value or 1)
    reply = submit_job(submission, "srun")
    job_id = read_job_id(reply)
    return _Run(job_id, submission, quiet=submission.quiet).finish(patience_s)


def _hand_over(argv: Sequence[str]) -> None:
    """Inside a job: a script that set its PATH anew and found a shim there."""
    spool, inside, _ = os.environ.get("SSHQ_DIR", "").rpartition("/a/")
    if inside and os.path.exists(f"{spool}/bin/srun"):
        os.execv("/bin/sh", ["sh", f"{spool}/bin/srun", *argv])  # noqa: S606


def _refuse_steps(job_id: str | None) -> None:
    if job_id or os.environ.get("SLURM_JOB_ID"):
        raise OptionError("a step can be started only inside its job, on its node", hint=STEPS_HINT)


def _make_submission(argv: Sequence[str]) -> Submission:
    submission = read_submission(argv, "srun")
    description = submission.description
    description["kind"] = "command"
    for key, name in (("std_out", ".sshq-srun-%j.out"), ("std_err", ".sshq-srun-%j.err")):
        if description.get(key) is None:
            description[key] = name
    return submission


def _warn_of_input() -> None:
    """Input that waits here would be lost on the job: say so, but do not refuse what runs in every cron job."""
    if _is_input_waiting():
        print_messages(["srun: warning: standard input is not passed to the command; use -i FILE"])


def _is_input_waiting() -> bool:
    import fcntl
    import stat
    import termios

    try:
        found = os.fstat(0)
        if stat.S_ISREG(found.st_mode):
            return os.lseek(0, 0, os.SEEK_CUR) < found.st_size
        waiting = fcntl.ioctl(0, termios.FIONREAD, b"\0" * 4) if stat.S_ISFIFO(found.st_mode) else b""
    except OSError:
        return False
    return any(waiting)


class _Run:
    """One command under way: two threads copy its output, the main one waits for the end."""

    def __init__(self, job_id: int, submission: Submission, *, quiet: bool) -> None:
        self.job_id = job_id
        self.quiet = quiet
        self.work_dir = str(submission.description["work_dir"])
        self.streams = [
            (stream, descriptor)
            for key, stream, descriptor in (("std_out", "out", 1), ("std_err", "err", 2))
            if key not in submission.sources
        ]

    def finish(self, patience_s: float | None) -> int:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _interrupt)
        try:
            if not self._await_start(patience_s):
                self._cancel()
                raise OptionError("Unable to allocate resources: Requested nodes are busy")
            copiers = [threading.Thread(target=self._copy, args=pair, daemon=True) for pair in self.streams]
            for copier in copiers:
                copier.start()
            job = self._await_end()
            for copier in copiers:
                copier.join(30)
        except KeyboardInterrupt:
            self._cancel()
            print_messages([f"srun: interrupt: job {self.job_id} is cancelled"])
            raise
        finally:
            self._remove_files()
        return self._tell(job)

    def _await_start(self, patience_s: float | None) -> bool:
        begun_at = time.monotonic()
        told = self.quiet
        while True:
            jobs, _ = list_items("srun", "jobs", {"filter": {"refs": [[self.job_id, None]]}, "finished": True})
            if not jobs or jobs[0].get("state") != "PENDING":
                if told and not self.quiet:
                    print_messages([f"srun: job {self.job_id} has been allocated resources"])
                return True
            waited_s = time.monotonic() - begun_at
            if patience_s is not None and waited_s > patience_s:
                return False
            if not told and waited_s > TOLD_WAITING_S:
                print_messages([f"srun: job {self.job_id} queued and waiting for resources"])
                told = True
            time.sleep(min(1.0, 0.02 + waited_s / 10))

    def _copy(self, stream: str, descriptor: int) -> None:
        from sshq.cli.copying import copy_output

        params: dict[str, object] = {"ref": [self.job_id, None], "stream": stream, "follow": True, "attempt": None}
        try:
            copy_output(params, descriptor, follow=True)
        except BrokenPipeError:
            pass  # `srun yes | head`: the command goes on, as nobody reads
        except Exception as error:
            print_messages([f"srun: error: output of job {self.job_id} cannot be read: {error}"])

    def _await_end(self) -> Object:
        from sshq.cli.waiting import wait_for_jobs

        return next(wait_for_jobs("srun", [self.job_id], os.environ), {"state": "CANCELLED", "job_id": self.job_id})

    def _tell(self, job: Object) -> int:
        nodes = job.get("nodes")
        node = str(nodes[0]) if isinstance(nodes, list) and nodes else "unknown"
        code, number, state = read_int(job, "exit_code"), read_int(job, "exit_signal"), read_text(job, "state")
        if state == "COMPLETED":
            return 0
        if state == "FAILED" and code:
            return code  # the step has said more
        if state == "FAILED" and number:
            print_messages([
                f"srun: error: {node}: task 0: {signal.strsignal(number) or f'Signal {number}'}",
                f"srun: Force Terminated job {self.job_id}",
            ])  # fmt: skip
            return SIGNAL_BASE + number
        print_messages([f"srun: error: {node}: task 0: job {self.job_id} ended: {state}"])
        return 1

    def _cancel(self) -> None:
        try:
            with open_controller("srun") as client:
                client.call("cancel", {"filter": {"refs": [[self.job_id, None]]}, "signal": None}, timeout_s=10)
        except UnreachableError:
            print_messages([f"srun: error: job {self.job_id} goes on: the controller does not answer"])

    def _remove_files(self) -> None:
        for stream, _ in self.streams:
            try:
                os.unlink(os.path.join(self.work_dir, f".sshq-srun-{self.job_id}.{stream}"))
            except OSError:
                pass


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt
