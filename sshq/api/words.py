"""Keyword arguments as options of sbatch: `time="1:00:00", gpus=1, exclusive=True` is `--time=1:00:00 --gpus=1 --exclusive`.

So every option that sbatch has, the interface has, with the same parser and the same errors.
"""

import os
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sshq.api.origin import PATIENT_LOOK_S, describe_origin, find_directory
from sshq.api.proof import find_cwd, leave_own, read_own_file
from sshq.errors import OptionError
from sshq.slurm.many import Many, Prepared
from sshq.slurm.options import NO_VALUE, options_of
from sshq.slurm.submit import Submission, build_submission

# What belongs to the command line of a program that ends, or is what the interface does itself.
_NOT_HERE = ("--wait", "--parsable", "--quiet", "--help", "--usage", "--version", "--verbose", "--test-only")
_ALIASES = {"name": "--job-name", "cpus": "--cpus-per-task", "tasks": "--ntasks", "cwd": "--chdir", "memory": "--mem"}


def format_options(options: Mapping[str, Any]) -> list[str]:
    """Return the words of a command line.

    Args:
        options: by sbatch's long names, `-` as `_`; True is a flag, None and False are left out, a list is joined by commas,
            or given one by one where the option may be repeated.

    Raises:
        OptionError: no such option; it names the nearest.

    """
    rows = {long: row for row in options_of("sbatch") for long in row.longs}
    words = []
    for name, value in options.items():
        long = _ALIASES.get(name) or "--" + name.replace("_", "-")
        row = rows.get(long)
        if row is None or long in _NOT_HERE:
            raise _no_such(name, [word for word in rows if word not in _NOT_HERE])
        if value is None or value is False:
            continue
        if value is True:
            words.append(long)
        elif row.takes == NO_VALUE:
            raise OptionError(f"{name} is a flag: True or False, not {value!r}", source=name)
        elif row.repeats and isinstance(value, list | tuple):
            words += [f"{long}={one}" for one in value]
        else:
            text = ",".join(str(one) for one in value) if isinstance(value, list | tuple) else str(value)
            words.append(f"{long}={text}")
    return words


def read_script(
    script: "str | os.PathLike[str] | Sequence[str]", args: Sequence[str], options: Mapping[str, Any], *,
    environ: Mapping[str, str] | None = None,
) -> Submission:  # fmt: skip
    """Return what a script asks for: a path, the text itself (it has lines), or a list that is a command.

    Args:
        script: as above.
        args: the script's arguments.
        options: as for `format_options`; stronger than what #SBATCH lines and SBATCH_ variables say.
        environ: what the job is given, and where SBATCH_ variables are looked for; default: this process's.

    Raises:
        OptionError: as sbatch would print it.
        OSError: the script cannot be read.

    """
    words = format_options(options)
    text = b""
    if isinstance(script, os.PathLike):
        words += [os.fspath(script), *args]
    elif not isinstance(script, str):
        words.append(f"--wrap={shlex.join([*script, *args])}")
    elif "\n" in script or script.startswith("#!"):
        text = os.fsencode(script if script.endswith("\n") else script + "\n")
        if args:
            raise OptionError("a script that is given as its text takes no arguments", hint="write them into the text")
    else:
        words += [script, *args]
    return build(words, text, environ)


def read_many(
    scripts: "Iterable[str | os.PathLike[str] | Sequence[str]]", options: Mapping[str, Any]
) -> Iterator[Prepared]:
    """Yield what each of many scripts asks for; as `read_script`, for the same options."""
    many = prepare_many(format_options(options))
    for script in scripts:
        if isinstance(script, os.PathLike):
            one = many.read_path(os.fspath(script))
        elif not isinstance(script, str):
            one = many.read_command(shlex.join(script))
        elif "\n" in script or script.startswith("#!"):
            one = many.read_text(os.fsencode(script if script.endswith("\n") else script + "\n"))
        else:
            one = many.read_path(script)
        yield one


def prepare_many(words: Sequence[str]) -> Many:
    """Return what reads many scripts with these options."""
    umask = os.umask(0o77)
    os.umask(umask)
    return Many(
        words, os.environ, read_file=read_own_file, now=time.time(), umask=umask, cwd=find_cwd(),
        submit_host=os.uname().nodename, choose_environ=leave_own, describe_origin=_describe_origin,
    )  # fmt: skip


def build(words: Sequence[str], stdin: bytes = b"", environ: Mapping[str, str] | None = None) -> Submission:
    """Return what `sbatch WORDS` asks for, with a script that comes by its input."""
    umask = os.umask(0o77)
    os.umask(umask)
    submission = build_submission(
        words, os.environ if environ is None else environ, read_file=read_own_file, read_stdin=lambda: stdin, now=time.time(),
        umask=umask, cwd=find_cwd(), submit_host=os.uname().nodename,
    )  # fmt: skip
    submission.environ = leave_own(submission.environ, submission.description.get("export"))
    submission.description["origin"] = _describe_origin(submission.sync)
    return submission


def _describe_origin(sync: str | None) -> dict[str, str]:
    return describe_origin(find_directory(sync), look_s=PATIENT_LOOK_S)


def _no_such(name: str, known: Sequence[str]) -> OptionError:
    import difflib

    near = difflib.get_close_matches("--" + name.replace("_", "-"), known, n=1)
    hint = f"did you mean {near[0].removeprefix('--').replace('-', '_')}?" if near else "sshq sbatch --help lists them all"
    return OptionError(f"sbatch has no option {name!r} that could be given here", source=name, hint=hint)
