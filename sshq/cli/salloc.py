"""salloc: hold nodes, run a command here meanwhile, and give them back at its end."""

import os
import signal
import subprocess
import sys
import threading
import time

from sshq.cli.asking import Object
from sshq.cli.following import ask_patiently, follow_job, is_over
from sshq.cli.granting import Granting, cancel_job
from sshq.cli.printing import print_messages, print_warnings
from sshq.cli.submitting import read_submission, submit_job
from sshq.errors import OptionError, RefusedError, SshqError
from sshq.slurm.getopt import Parsed, parse_options
from sshq.slurm.submit import Submission

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

BELL_AFTER_S = 10.0  # as Slurm, which rings where nobody waited in front of the screen
SETTLE_S = 10.0  # how long the end may take to be seen by squeue, at most
# What of the job's environment a command here has: all that says what was allocated, nothing of a node's own.
_PASSED = """SLURM_CLUSTER_NAME SLURM_CPUS_PER_TASK SLURM_JOBID SLURM_JOB_ACCOUNT SLURM_JOB_CPUS_PER_NODE SLURM_JOB_ID
    SLURM_JOB_NAME SLURM_JOB_NODELIST SLURM_JOB_NUM_NODES SLURM_JOB_PARTITION SLURM_JOB_QOS SLURM_MEM_PER_CPU
    SLURM_MEM_PER_NODE SLURM_NNODES SLURM_NODELIST SLURM_NODE_ALIASES SLURM_NPROCS SLURM_NTASKS SLURM_NTASKS_PER_NODE
    SLURM_SUBMIT_DIR SLURM_SUBMIT_HOST SLURM_TASKS_PER_NODE""".split()  # noqa: SIM905


def run(argv: "Sequence[str]") -> int:
    """Run salloc; the result is the command's exit status."""
    parsed = parse_options("salloc", argv, os.environ)
    if parsed.wants:
        from sshq.slurm.help import describe_command

        sys.stdout.write(describe_command("salloc", parsed.wants))
        return 0
    submission = read_submission(argv, "salloc")
    print_warnings("salloc", submission.warnings)
    if not parsed.has("no_shell") and os.isatty(0) and not _has_foreground():
        raise OptionError("no controlling terminal: please set --no-shell")
    if submission.test_only:
        submit_job(submission, "salloc")
        return 0
    return _Allocation(parsed, submission).run()


class _Allocation:
    """One allocation, from asking for it to giving it back."""

    def __init__(self, parsed: Parsed, submission: Submission) -> None:
        self._parsed = parsed
        self._submission = submission
        self._quiet = submission.quiet
        self._job_id = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._revoked = False
        self._relinquished = False

    def run(self) -> int:
        """Return the exit status of salloc."""
        asked_at = time.monotonic()
        waiting = Granting("salloc", self._submission, self._parsed.last("immediate"))
        job = waiting.await_grant()
        self._job_id = waiting.job_id
        if job is None:
            return 1
        self._say(f"Granted job allocation {self._job_id}")
        self._ring(time.monotonic() - asked_at)
        if self._parsed.has("no_shell"):
            return 0
        watching = threading.Thread(target=self._watch, daemon=True)
        watching.start()
        try:
            code = self._run_command(job)
        finally:
            with self._lock:
                self._relinquished = True
        if not self._revoked:
            self._say(f"Relinquishing job allocation {self._job_id}")
            self._relinquish(code)
            watching.join(SETTLE_S)
        return code

    def _ring(self, waited_s: float) -> None:
        given = self._parsed.last("bell")
        always = given is not None and given.option.name == "--bell"
        if os.isatty(1) and (always or (given is None and waited_s > BELL_AFTER_S)):
            sys.stdout.write("\a")
            sys.stdout.flush()

    # ---- the command -----------------------------------------------------------------------------------------

    def _run_command(self, job: Object) -> int:
        argv = list(self._parsed.arguments) or [_find_shell()]
        front = os.isatty(0) and _has_foreground()
        # A job of its own in front of the terminal, so that Ctrl-C is its and not ours.
        taken = signal.signal(signal.SIGTTOU, signal.SIG_IGN) if front else None
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP):
            signal.signal(number, signal.SIG_IGN)
        try:
            with self._lock:
                self._child = subprocess.Popen(
                    argv, env=_make_environment(job), process_group=0 if front else None, restore_signals=True,
                    preexec_fn=_become_front if front else _restore_signals,  # noqa: PLW1509 - no locks are taken there
                )  # fmt: skip
        except OSError:
            print_messages([f'salloc: error: _fork_command: Unable to find command "{argv[0]}"'])
            return 1
        finally:
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, self._pass_on)
        try:
            return self._await_command()
        finally:
            if front:
                _take_foreground()
            if taken is not None:
                signal.signal(signal.SIGTTOU, taken)

    def _await_command(self) -> int:
        """Return its status: 0 where a signal ended it, as Slurm does."""
        child = self._child
        if child is None:
            return 1
        while True:
            try:
                _, status = os.waitpid(child.pid, os.WUNTRACED)
            except InterruptedError:
                continue
            if os.WIFSTOPPED(status):  # an interactive shell handles its own stops; anything else that stops stops us too
                os.kill(os.getpid(), signal.SIGSTOP)
                if os.isatty(0):
                    os.tcsetpgrp(0, child.pid)
                os.killpg(child.pid, signal.SIGCONT)
                continue
            child.returncode = os.waitstatus_to_exitcode(status)
            return max(0, child.returncode)

    def _pass_on(self, number: int, _frame: object) -> None:
        self._signal_command(number)

    def _signal_command(self, number: int) -> None:
        child = self._child
        if child is None or child.returncode is not None:
            return
        try:
            if os.getpgid(child.pid) == child.pid:
                os.killpg(child.pid, number)
                os.killpg(child.pid, signal.SIGCONT)
            else:
                os.kill(child.pid, number)
        except ProcessLookupError:
            pass

    # ---- the allocation's end --------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Until the allocation is over: if we did not give it back, say so, and tell the command."""
        try:
            for job in follow_job("salloc", self._job_id, patience_s=None):
                if is_over(job) and not self._note_end(job):
                    return
        except RefusedError:
            self._note_end({})

    def _note_end(self, job: Object) -> bool:
        """Return whether there is more to wait for."""
        with self._lock:
            if self._relinquished:
                return job.get("completing") is True
            if self._revoked:
                return False
            self._revoked = True
        if job.get("state") == "TIMEOUT":
            self._say(f"Job {self._job_id} has exceeded its time limit and its allocation has been revoked.")
        else:
            self._say(f"Job allocation {self._job_id} has been revoked.")
        number = self._find_signal()
        if number is not None:
            self._signal_command(number)
        return False

    def _find_signal(self) -> int | None:
        given = self._parsed.last("kill_command")
        if given is not None and given.value:
            from sshq.slurm.values import parse_signal_name

            return parse_signal_name(given.value)
        if os.isatty(0):
            return signal.SIGHUP
        return signal.SIGTERM if given is not None else None

    def _relinquish(self, code: int) -> None:
        try:
            ask_patiently("finish", {"ref": [self._job_id, None], "code": min(code, 255)}, patience_s=5)
        except RefusedError as error:
            if error.code != "ended":
                cancel_job("salloc", self._job_id)
        except SshqError:
            cancel_job("salloc", self._job_id)

    def _say(self, text: str) -> None:
        if not self._quiet:
            print_messages([f"salloc: {text}"])


def _make_environment(job: Object) -> dict[str, str]:
    from sshq.slurm.environ import job_environment

    variables = job_environment(job | {"cluster": "sshq"})
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_JOB", "SLURM_STEP", "SLURM_NTASKS"))}
    return kept | {name: variables[name] for name in _PASSED if name in variables}


def _find_shell() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_shell or "/bin/sh"
    except KeyError:
        return os.environ.get("SHELL") or "/bin/sh"


def _has_foreground() -> bool:
    try:
        return os.tcgetpgrp(0) >= 0
    except OSError:
        return False


def _take_foreground() -> None:
    try:
        os.tcsetpgrp(0, os.getpgrp())
    except OSError:
        pass  # the terminal hung up


def _become_front() -> None:
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(0, os.getpid())
    _restore_signals()


def _restore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTOU, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
