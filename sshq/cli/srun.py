"""srun: run one command as a job, or as a step of an allocation that is held here; its streams and exit status are ours.

Outside an allocation the job is one step of the node's own srun (sshq/runner/srun.sh), which tells of its tasks' ends; see
`jobrun`.  In salloc's shell it is a part of that allocation: `steprun`.  With --pty it has a terminal: `terminalrelay`.
Inside a job, on its node, the node's srun takes over at once.
"""

import os
import sys

from sshq.cli.asking import Object
from sshq.cli.printing import print_messages, print_warnings
from sshq.errors import OptionError, SshqError
from sshq.slurm.getopt import Parsed, parse_options
from sshq.slurm.messages import ExactError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED = 130


def run(argv: "Sequence[str]") -> int:
    """Run srun; the result is the command's exit status."""
    _hand_over(argv)
    parsed = parse_options("srun", argv, os.environ)
    if parsed.wants:
        from sshq.slurm.help import describe_command

        sys.stdout.write(describe_command("srun", parsed.wants))
        return 0
    if not parsed.arguments:
        raise ExactError(("srun: fatal: No command given to execute.",))
    job_id = parsed.value("job_id")
    _check_container(parsed, job_id)
    return _run_job(argv, parsed) if not job_id else _run_step(argv, parsed, _read_job_id(job_id))


def _hand_over(argv: "Sequence[str]") -> None:
    """Inside a job: a script that set its PATH anew and found a shim there."""
    spool, inside, _ = os.environ.get("SSHQ_DIR", "").rpartition("/a/")
    if inside and os.path.exists(f"{spool}/bin/srun"):
        os.execv("/bin/sh", ["sh", f"{spool}/bin/srun", *argv])  # noqa: S606


def _read_job_id(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 1 << 62:
        raise OptionError(f"Invalid job id {text}")
    return int(text)


def _check_container(parsed: Parsed, job_id: str | None) -> None:
    """A container is a job's, and holds one task without a terminal."""
    image = parsed.last("container")
    if image is None:
        return
    tasks, nodes = parsed.value("num_tasks") or "1", parsed.value("num_nodes") or "1"
    text = (
        "a container is that of a whole job, not of a step" if job_id
        else "a container has no terminal here" if parsed.has("pty")
        else "a container holds one task" if (tasks, nodes) != ("1", "1") else ""
    )  # fmt: skip
    if text:
        hint = "sbatch --container, and the job starts what it needs in it"
        raise OptionError(text, source=image.source, detail=(image.text,), hint=hint, exit_code=1)


def _run_step(argv: "Sequence[str]", parsed: Parsed, job_id: int) -> int:
    from sshq.api.proof import find_cwd, leave_own
    from sshq.slurm.environ import filter_submitted_environment

    umask = os.umask(0o77)
    os.umask(umask)
    part: Object = {
        "ref": [job_id, None], "token": os.urandom(12).hex(), "argv": list(argv), "step": True, "work_dir": find_cwd(),
        "umask": umask, "environ": leave_own(filter_submitted_environment(os.environ, None), None),
    }  # fmt: skip
    if parsed.has("pty"):
        return run_terminal(part)
    from sshq.cli.steprun import StepRun

    quick, silent = parsed.has("quit_on_interrupt"), parsed.has("disable_status")
    return StepRun(part, tasks=count_tasks(parsed), quick=quick, silent=silent).run(with_input=wants_input(parsed))


def _run_job(argv: "Sequence[str]", parsed: Parsed) -> int:
    from sshq.cli.granting import Granting, cancel_job
    from sshq.cli.jobrun import JobRun, make_submission

    submission = make_submission(argv, fed=wants_input(parsed), terminal=parsed.has("pty"))
    print_warnings("srun", submission.warnings)
    if parsed.has("container") and is_fed(parsed):
        print_messages(["srun: warning: a container reads no input from here (--input=FILE: a file of its node)"])
    waiting = Granting("srun", submission, parsed.last("immediate"))
    job = waiting.await_grant()
    if job is None:
        return 1
    if not parsed.has("pty"):
        return JobRun(job, submission, parsed).finish()
    part: Object = {
        "ref": [waiting.job_id, None], "token": os.urandom(12).hex(), "argv": ["--pty", *_words(submission.description)],
        "step": True, "main": True, "work_dir": submission.description["work_dir"], "umask": submission.description["umask"],
        "environ": submission.environ,
    }  # fmt: skip
    try:
        code = run_terminal(part)
    except BaseException:
        cancel_job("srun", waiting.job_id)
        raise
    _await_end(waiting.job_id)
    return code


def _words(description: Object) -> list[str]:
    words = description["args"]
    return [str(word) for word in words] if isinstance(words, list) else []


def _await_end(job_id: int) -> None:
    """Until squeue shows the job no more, some seconds at most."""
    import signal

    from sshq.cli.following import follow_job

    def give_up(_number: int, _frame: object) -> None:
        raise TimeoutError

    old = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(10)
    try:
        for _ in follow_job("srun", job_id):
            pass
    except (TimeoutError, SshqError):
        pass
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


def run_terminal(part: Object) -> int:
    """Run a part on a terminal; the result is its exit status."""
    from sshq.cli.steprun import refuse_step
    from sshq.cli.terminalrelay import TerminalRelay
    from sshq.errors import RefusedError

    ref = part["ref"]
    job_id = int(ref[0]) if isinstance(ref, list) else 0
    try:
        result = TerminalRelay(part).run()
    except RefusedError as error:
        raise refuse_step(job_id, error) from None
    except KeyboardInterrupt:
        return INTERRUPTED
    code = result.get("code")
    if isinstance(code, int):
        return code
    print_messages([f"srun: error: {result.get('node')}: task 0: the terminal was lost"])
    return 1


def count_tasks(parsed: Parsed) -> int:
    """Return how many tasks were asked for."""
    text = parsed.value("num_tasks") or "1"
    return int(text) if text.isdigit() and int(text) else 1


def wants_input(parsed: Parsed) -> bool:
    """Return whether our standard input goes to the command: not what it says is none, a file of the node, or nothing at all."""
    given = parsed.value("std_in")
    if given is not None and given != "all" and not given.isdigit():
        return False
    try:
        here = os.fstat(0)
        null = os.stat(os.devnull)
        if (here.st_dev, here.st_ino) == (null.st_dev, null.st_ino):
            return False
        # From the background a terminal cannot be read: we would be stopped.
        return not os.isatty(0) or os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def is_fed(parsed: Parsed) -> bool:
    """Return whether somebody gave us a file or a pipe to read."""
    return wants_input(parsed) and os.fstat(0).st_mode & 0o170000 in (0o010000, 0o100000)
