"""The rows of `sshq submit`: sbatch's, for all scripts alike, and where the scripts come from."""

from sshq.slurm.options import HONOURED, Option
from sshq.slurm.options_sbatch import submit_options

_ONE_JOB = ("wrap", "test_only", "verbose", "version", "usage")  # what has a meaning for one submission only
_OWN = (
    Option("--files-from", "FILE", "", "files_from", "text", HONOURED, "scripts to submit, a path a line; - is standard input"),
    Option("--commands-from", "FILE", "", "commands_from", "text", HONOURED,
           "commands to submit, one a line, each as --wrap; blank lines and # lines are skipped; - is standard input"),
)  # fmt: skip
OWN_FIELDS = ("files_from", "commands_from", "parsable", "quiet", "wait", "help")

OPTIONS: tuple[Option, ...] = (*_OWN, *(row for row in submit_options("sbatch") if row.field not in _ONE_JOB))
