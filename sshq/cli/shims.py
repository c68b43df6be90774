"""sshq shims DIR: executables named sbatch, squeue, …, so that scripts written for Slurm find them on PATH."""

import os
import shlex
import sys
from collections.abc import Sequence

import click

from sshq.cli.main import SLURM_VERBS
from sshq.cli.own import own_command, run_command
from sshq.cli.places import find_package_root
from sshq.cli.printing import print_lines
from sshq.errors import UserError

MARK = "# Written by sshq shims"

# -I: neither PYTHON* variables nor a file of the working directory can get in between (a `json.py` there would).
# -S: site-packages are not searched: Slurm's verbs need only the standard library, and start in a third less time.
# Where SSHQ_HOME was set when they were written, they speak to that sshq unless another is named: a job's environment, say,
# has no SSHQ_ variable of its submitter's.
_SHIM = """\
#!{python} -IS
{mark}
import os, sys
{home}sys.path.insert(0, {root!a})
from sshq.cli.main import run_shim
run_shim({verb!r})
"""
_HOME = """\
if not os.environ.get("SSHQ_HOME"):
    os.environ["SSHQ_HOME"] = {home!a}
"""
# Where the name of the interpreter is none that the kernel takes in a first line: one program more, a tenth of what sbatch costs.
_SHELL_SHIM = """\
#!/bin/sh
{mark}
exec {python} -I -S -c {program} "$@"
"""
_FIRST_LINE_BYTES_MAX = 127  # of Linux before 5.1; later ones take 255


@own_command("shims")
@click.argument("directory", metavar="DIR")
@click.option("--force", is_flag=True, help="Replace files that sshq did not write.")
def _command(directory: str, force: bool) -> int:
    """Write executables sbatch squeue scancel sinfo sacct scontrol srun salloc into DIR."""
    try:
        os.makedirs(directory, exist_ok=True)
        for verb in SLURM_VERBS:
            _write_shim(os.path.join(directory, verb), verb, force=force)
    except OSError as error:
        raise UserError(f"{error.filename or directory}: {error.strerror}") from None
    full = os.path.abspath(directory)
    print_lines([f"wrote {' '.join(SLURM_VERBS)} into {full}"])
    if full not in os.environ.get("PATH", "").split(os.pathsep):
        print_lines([f"    hint: export PATH={shlex.quote(full)}:$PATH"])
    return 0


def run(argv: Sequence[str]) -> int:
    """Run `sshq shims`."""
    return run_command(_command, "shims", argv)


def format_shim(verb: str) -> str:
    """Return the text of one shim."""
    instance = os.environ.get("SSHQ_HOME")
    home = _HOME.format(home=os.path.abspath(instance)) if instance else ""
    shim = _SHIM.format(mark=MARK, home=home, python=sys.executable, root=find_package_root(), verb=verb)
    first, _, program = shim.partition("\n")
    if len(os.fsencode(first)) <= _FIRST_LINE_BYTES_MAX and _is_plain(sys.executable):
        return shim
    return _SHELL_SHIM.format(mark=MARK, python=shlex.quote(sys.executable), program=shlex.quote(program))


def _is_plain(path: str) -> bool:
    """Whether a path may stand in a first line, for the kernel and for Python, which reads that line too."""
    return path.isascii() and not any(letter.isspace() for letter in path)


def _write_shim(path: str, verb: str, *, force: bool) -> None:
    if os.path.lexists(path) and not force and not _is_ours(path):
        raise UserError(f"{path} exists and was not written by sshq", hint="sshq shims --force DIR")
    aside = f"{path}.{os.getpid()}.new"
    try:
        file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o755)
        with os.fdopen(file, "w", encoding="utf-8", errors="surrogateescape") as out:
            out.write(format_shim(verb))
        os.chmod(aside, 0o755)  # noqa: S103  commands are for everybody; the umask may be 077
        os.rename(aside, path)  # one that is running now is not disturbed
    except BaseException:
        if os.path.lexists(aside):
            os.unlink(aside)
        raise


def _is_ours(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return MARK.encode() in file.read(4096)
    except OSError:
        return False
