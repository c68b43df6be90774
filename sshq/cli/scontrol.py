"""scontrol: look closely, and change; one line a verb, the work in `showing` and `changing`."""

import os
import sys

from sshq.cli import here
from sshq.cli.asking import ask_controller, read_text
from sshq.cli.printing import print_lines, print_messages, print_warnings
from sshq.errors import OptionError, SshqError, UnreachableError
from sshq.slurm.getopt import Parsed
from sshq.slurm.messages import VERSION_LINE, ExactError
from sshq.slurm.scontrol import find_verb, parse_scontrol
from sshq.wire.client import connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROMPT = "scontrol: "


def run(argv: "Sequence[str]") -> int:
    """Run scontrol; the result is its exit status."""
    parsed = parse_scontrol(argv, os.environ)
    if parsed.wants:
        from sshq.slurm.help import describe_command

        sys.stdout.write(describe_command("scontrol", parsed.wants))
        return 0
    print_warnings("scontrol", parsed.warnings)
    if not parsed.arguments:
        return _converse(parsed)
    return _run_verb(parsed.arguments, parsed)


def _converse(parsed: Parsed) -> int:
    """Take verbs from stdin, one a line, as scontrol without a verb does."""
    import shlex

    code = 0
    while True:
        sys.stdout.write(PROMPT)
        sys.stdout.flush()
        line = sys.stdin.readline()
        if not line:
            sys.stdout.write("\n")
            return code
        try:
            words = shlex.split(line)
            if words and find_verb(words[0]) in ("quit", "exit"):
                return code
            code = _run_verb(words, parsed) if words else code
        except ValueError as error:
            print_messages([f"scontrol: error: {error}"])
        except SshqError as error:
            sys.stdout.flush()
            sys.stderr.write(error.render("scontrol"))
            code = error.exit_code


def _run_verb(words: "Sequence[str]", parsed: Parsed) -> int:
    verb = find_verb(words[0])
    command = _VERBS.get(verb)
    if command is None:
        from sshq.cli.asides import run_aside

        return run_aside(verb, words[1:], parsed)
    return command(words[1:], parsed)


def _show(words: "Sequence[str]", parsed: Parsed) -> int:
    from sshq.cli.showing import show

    return show(words, parsed)


def _ping(_words: "Sequence[str]", _parsed: Parsed) -> int:
    host = os.uname().nodename
    try:
        with connect(os.environ) as client:
            client.call("ping", timeout_s=10)
    except UnreachableError:
        print(f"Slurmctld(primary) at {host} is DOWN")
        return 1
    print(f"Slurmctld(primary) at {host} is UP")
    return 0


def _version(_words: "Sequence[str]", _parsed: Parsed) -> int:
    print(VERSION_LINE)
    return 0


def _help(_words: "Sequence[str]", _parsed: Parsed) -> int:
    from sshq.slurm.help import describe_command

    sys.stdout.write(describe_command("scontrol", "help"))
    return 0


def _update(words: "Sequence[str]", parsed: Parsed) -> int:
    from sshq.cli.changing import update

    return update(words, quiet=parsed.has("quiet"))


def _change(verb: str) -> "Callable[[Sequence[str], Parsed], int]":
    def change(words: "Sequence[str]", parsed: Parsed) -> int:
        from sshq.cli.changing import change_jobs

        return change_jobs(verb, words, quiet=parsed.has("quiet"))

    return change


def _write(words: "Sequence[str]", _parsed: Parsed) -> int:
    """`write batch_script JOB [FILE|-]`."""
    from sshq.core.ids import parse_job_id

    if not words or not "batch_script".startswith(words[0].lower()) or len(words[0]) < 3:
        raise ExactError((f"invalid entity:{words[0] if words else ''} for keyword:write ",))
    if len(words) not in (2, 3):
        raise ExactError(("too few arguments for keyword:write" if len(words) < 2 else "too many arguments for keyword:write",))
    try:
        ref = parse_job_id(words[1])
    except ValueError:
        raise ExactError(("scontrol_print_job error: Invalid job id specified",)) from None
    task = ref.tasks[0] if ref.tasks else None
    script = read_text(ask_controller("scontrol", "script", {"ref": [ref.job_id, task]}), "script")
    name = words[2] if len(words) == 3 else f"slurm-{words[1]}.sh"
    if name == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(os.fsencode(script if script.endswith("\n") else script + "\n"))  # as it is
        return 0
    try:
        here.place.write_file(name, os.fsencode(script))
    except OSError as error:
        raise OptionError(f"failed to open file {name}: {error.strerror}") from None
    print(f"batch script for job {words[1]} written to {name}")
    return 0


def _reconfigure(_words: "Sequence[str]", _parsed: Parsed) -> int:
    reply = ask_controller("scontrol", "reload", {})
    lines = reply.get("diff")
    print_lines(str(line) for line in (lines if isinstance(lines, list) else []))
    if reply.get("error"):
        head, *rest = str(reply["error"]).splitlines()
        print_messages([f"slurm_reconfigure error: {head}", *rest])
        return 1
    return 0


def _create(words: "Sequence[str]", parsed: Parsed) -> int:
    from sshq.cli.reserving import create

    return create(words, parsed)


def _delete(words: "Sequence[str]", parsed: Parsed) -> int:
    from sshq.cli.reserving import delete

    return delete(words, parsed)


def _aside(verb: str) -> "Callable[[Sequence[str], Parsed], int]":
    def run_verb(words: "Sequence[str]", parsed: Parsed) -> int:
        from sshq.cli.asides import run_aside

        return run_aside(verb, words, parsed)

    return run_verb


_VERBS: "dict[str, Callable[[Sequence[str], Parsed], int]]" = {
    "show": _show,
    "ping": _ping,
    "version": _version,
    "help": _help,
    "update": _update,
    "hold": _change("hold"),
    "uhold": _change("uhold"),
    "release": _change("release"),
    "requeue": _change("requeue"),
    "requeuehold": _change("requeuehold"),
    "suspend": _change("suspend"),
    "resume": _change("resume"),
    "write": _write,
    "reconfigure": _reconfigure,
    "top": _change("top"),
    "create": _create,
    "delete": _delete,
    "completing": _aside("completing"),
    "errnumstr": _aside("errnumstr"),
    "listpids": _aside("listpids"),
    "wait_job": _aside("wait_job"),
}
