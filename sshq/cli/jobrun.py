"""srun that is a job of its own: its output passes through two hidden files in the submit directory, which are removed again."""

import os
import signal
import threading

from sshq.cli import here
from sshq.cli.asking import Object, read_int, read_text
from sshq.cli.granting import cancel_job
from sshq.cli.input import InputFeeder
from sshq.cli.interrupts import Interrupts
from sshq.cli.printing import print_messages
from sshq.cli.submitting import read_submission
from sshq.slurm.getopt import Parsed
from sshq.slurm.submit import Submission

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SIGNAL_BASE = 128
INTERRUPTED = 130
LAST_WORDS_S = 30.0


def make_submission(argv: "Sequence[str]", *, fed: bool, terminal: bool) -> Submission:
    """Return what the controller is asked for; `fed`: the command reads our standard input."""
    submission = read_submission(argv, "srun")
    description = submission.description
    if terminal:  # held like salloc's: what runs in it is a part on a terminal
        description |= {"kind": "allocation", "std_out": "/dev/null", "std_err": None, "std_in": None, "requeue": False}
        return submission
    if "container" not in description:
        description["kind"] = "attended" if fed else "command"
    _take_words(submission)
    for key, name in (("std_out", ".sshq-srun-%j.out"), ("std_err", ".sshq-srun-%j.err")):
        if description.get(key) is None:
            description[key] = name
    return submission


def _take_words(submission: Submission) -> None:
    """`all`, `none` and the number of a task, in place of a file's name."""
    description = submission.description
    for key, option in (("std_in", "--input"), ("std_out", "--output"), ("std_err", "--error")):
        word = description.get(key)
        if word == "none":
            description[key] = "/dev/null"
        elif word == "all" or (isinstance(word, str) and word.isdigit()):
            description[key] = None
            submission.sources.pop(key, None)
            words = description["args"]
            if isinstance(words, list) and word != "all":
                words.insert(0, f"{option}={word}")


class JobRun:
    """One command under way: two threads copy its output, one its input, the main one waits for the end."""

    def __init__(self, job: Object, submission: Submission, parsed: Parsed) -> None:
        from sshq.cli.srun import count_tasks

        self.job_id = read_int(job, "job_id")
        self._work_dir = str(submission.description["work_dir"])
        self._fed = submission.description["kind"] == "attended"
        self._streams = [
            (stream, descriptor)
            for key, stream, descriptor in (("std_out", "out", 1), ("std_err", "err", 2))
            if key not in submission.sources
        ]
        self._unread = False
        self._interrupts = Interrupts(
            f"StepId={self.job_id}.0", count_tasks(parsed), send=lambda number: cancel_job("srun", self.job_id, number),
            end=lambda: cancel_job("srun", self.job_id), quick=parsed.has("quit_on_interrupt"),
            silent=parsed.has("disable_status"),
        )  # fmt: skip

    def finish(self) -> int:
        """Return the exit status, once the job is over and what it said is here."""
        feeder = InputFeeder(self.job_id) if self._fed else None
        copiers = [threading.Thread(target=self._copy, args=pair, daemon=True) for pair in self._streams]
        try:
            with self._interrupts:
                for thread in (*copiers, *([feeder] if feeder else [])):
                    thread.start()
                job = self._await_end()
                for copier in copiers:
                    copier.join(LAST_WORDS_S)
        finally:
            self._remove_files()
        if feeder is not None:
            feeder.close()
        return self._tell(job)

    def _copy(self, stream: str, descriptor: int) -> None:
        from sshq.cli.copying import copy_output

        params: Object = {"ref": [self.job_id, None], "stream": stream, "follow": True, "attempt": None}
        try:
            copy_output(params, descriptor, follow=True)
        except BrokenPipeError:  # `srun yes | head`: as Slurm, what nobody reads is ended
            if not self._unread:
                self._unread = True
                cancel_job("srun", self.job_id)
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
        if self._unread:
            return SIGNAL_BASE + signal.SIGPIPE
        if state == "FAILED" and code:
            return code  # the step has said more
        if self._interrupts.ended:
            return INTERRUPTED
        if state == "FAILED" and number:
            print_messages([
                f"srun: error: {node}: task 0: {signal.strsignal(number) or f'Signal {number}'}",
                f"srun: Force Terminated job {self.job_id}",
            ])  # fmt: skip
            return SIGNAL_BASE + number
        print_messages([f"srun: error: {node}: task 0: job {self.job_id} ended: {state}"])
        return 1

    def _remove_files(self) -> None:
        here.place.remove_files(
            [os.path.join(self._work_dir, f".sshq-srun-{self.job_id}.{stream}") for stream, _ in self._streams]
        )
