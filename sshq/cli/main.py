"""`sshq CMD …`: finds the command by its name, and turns whatever goes wrong into one message and a status.

Slurm's verbs are reached without click, and everything is imported as late as it can be: start-up time is a promise.
"""

import gc
import os
import sys

from sshq.cli.terminal import guard_streams
from sshq.errors import SshqError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Command = Callable[[Sequence[str]], int]

SLURM_VERBS = ("sbatch", "squeue", "scancel", "sinfo", "sacct", "scontrol", "srun", "salloc", "sstat", "sprio")
OWN_VERBS = (
    "up", "down", "status", "stats", "shims", "submit", "logs", "wait", "fetch", "cp", "why", "show", "reproduce", "doctor",
    "shared", "inventory", "hosts", "purge", "restore", "rebuild", "config", "completion", "version", "help", "relay",
)  # fmt: skip
LOOP_VERBS = ("sbatch", "squeue", "scancel", "sacct", "scontrol")
GARBAGE_LOOK = 20_000  # new objects until Python looks for garbage: at the start of a command there is none
BUG = 70
INTERRUPTED = 130
OUTPUT_CLOSED = 141  # as of a program that SIGPIPE ended


def main(argv: "Sequence[str] | None" = None) -> int:
    """Run one command; the result is the exit status."""
    if sys.stdin is None or sys.stdout is None or sys.stderr is None:
        _open_closed_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    while words and words[0] == "sshq":  # a shim named sshq, say
        del words[0]
    verb = _name_verb(words)
    program = verb if verb in SLURM_VERBS else "sshq"
    try:
        # Names of files and jobs need not be UTF-8, or the terminal may not be: show them somehow, but never fail.
        sys.stdout.reconfigure(errors="surrogateescape" if sys.stdout.encoding == "utf-8" else "backslashreplace")  # type: ignore[union-attr]
        sys.stderr.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        guard_streams()
        code = _find_command(verb)(words[1:])
        sys.stdout.flush()
    except SshqError as error:
        code = _show_error(error, program)
    except BrokenPipeError:
        code = _drop_output()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except OSError as error:
        code = _show_os_error(error, program)
    except Exception as error:
        code = _show_bug(error, program)
    return code


def run() -> None:
    """The entry point of the `sshq` executable."""
    gc.set_threshold(GARBAGE_LOOK)
    words = sys.argv[1:]
    _leave(words[0] if words else "", main(words))


def run_shim(verb: str) -> None:
    """The entry point of an executable named like one of Slurm's commands."""
    gc.set_threshold(GARBAGE_LOOK)
    _leave(verb, main([verb, *sys.argv[1:]]))


def _leave(verb: str, code: int) -> None:
    """End this process.  What is typed in loops does not take the interpreter apart first, a sixth of its CPU."""
    _flush_quietly()
    if verb in LOOP_VERBS:
        sys.stderr.flush()
        os._exit(code)  # no thread, no child and no exit handler is left of these
    sys.exit(code)


def _open_closed_streams() -> None:
    """Of a caller who has closed some (`>&-`, as cron jobs and daemons do): else the next socket would be our standard output."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null == number:
                os.set_inheritable(number, True)
            else:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8"))  # noqa: SIM115  as long as we live


def _name_verb(words: list[str]) -> str:
    if not words:
        words.append("help")
    aliases = {"--help": "help", "-h": "help", "--version": "version", "-V": "version"}
    return aliases.get(words[0], words[0])


def _find_command(verb: str) -> "Command":
    if verb in SLURM_VERBS or verb in OWN_VERBS:
        module = __import__(f"sshq.cli.{verb}", fromlist=["run"])
    else:
        from sshq.cli.help import refuse_command

        raise refuse_command(verb)
    command: Command = module.run
    if verb in OWN_VERBS:
        from sshq.cli.athead import hand_over

        command = hand_over(verb, command)
    return command


def _show_error(error: SshqError, program: str) -> int:
    _flush_quietly()  # what was found before the error stands before it
    sys.stderr.write(error.render(program))
    return error.exit_code


def _show_os_error(error: OSError, program: str) -> int:
    """An OSError nobody expected: output that cannot be written is the user's disk, all else is a bug of ours."""
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG):
        sys.stderr.write(f"{program}: error: write error: {error.strerror}\n")
        _drop_output()
        return 1
    return _show_bug(error, program)


def _show_bug(error: Exception, program: str) -> int:
    from sshq.cli.crash import record_crash

    place = record_crash(error)
    text = f"{type(error).__name__}: {error}".split("\n")[0]
    sys.stderr.write(f"{program}: error: a bug of sshq: {text}\n")
    if place:
        sys.stderr.write(f"    hint: the details are in {place}\n")
    return BUG


def _drop_output() -> int:
    # The interpreter flushes once more at exit: give it something that accepts.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return OUTPUT_CLOSED


def _flush_quietly() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()


if __name__ == "__main__":
    run()
