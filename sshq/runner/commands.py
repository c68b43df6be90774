"""The commands that a job finds on its PATH on a node: plain sh, written once a connection into SPOOL/bin.

`srun` runs steps on the job's own node; its options are the rows of `sshq.slurm.options`, as everywhere.  `upcall`, also
under the names of UPCALL_NAMES, hands its words to the controller (`sshq.controller.upcalls`) and copies the answer.
"""

from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from sshq.slurm.messages import VERSION_LINE
from sshq.slurm.options import HONOURED, IGNORED, NO_VALUE, REFUSED, REQUIRED, Option, options_of

SRUN_FILES: Final = (
    "srun_options.sh", "srun_record.sh", "srun_gpus.sh", "srun_streams.sh", "srun_nodes.sh", "srun_front.sh", "srun.sh"
)
UPCALL_FILES: Final = ("command_hosts.sh", "command.sh")
UPCALL_NAMES: Final = ("sbatch", "squeue", "scancel", "sinfo", "sacct", "scontrol", "sstat", "sprio")

# What a step honours.  Other honoured rows describe the allocation, which a step has already: Slurm takes them without a word.
_OF_A_STEP: Final = frozenset(
    """num_tasks cpus_per_task ntasks_per_node num_nodes req_nodes exc_nodes job_id std_out std_err std_in open_mode work_dir
    distribution unbuffered multi_prog cpu_bind export label quiet overlap overcommit exact immediate
    kill_on_bad_exit wait name pty
    gres gpus gpus_per_node gpus_per_task""".split()  # noqa: SIM905
)
# In a job their variables say what the job is, or was given.
_OF_THE_JOB: Final = frozenset(("name", "gres", "gpus", "gpus_per_node"))
# Rows that mean something else in a step than to the command that allocates.
_IN_A_STEP: Final = {
    "overcommit": (HONOURED, ""),
    "oversubscribe": (HONOURED, ""),
    "container": (REFUSED, "what the step runs in"),
    "time_limit_s": (IGNORED, "a step ends with its job"),
}


def strip_comments(text: bytes) -> bytes:
    """Return a shell program without comment and blank lines."""
    return b"".join(line + b"\n" for line in text.split(b"\n") if line.strip() and not line.lstrip().startswith(b"#"))


@cache
def srun_program() -> tuple[str, bytes]:
    """Return a mark that changes with the program, and the program; read once in the life of the process."""
    folder = Path(__file__).parent
    text = _option_table().encode() + strip_comments(b"\n".join((folder / name).read_bytes() for name in SRUN_FILES))
    return sha256(text).hexdigest()[:16], text


@cache
def upcall_program() -> tuple[str, bytes]:
    """Return a mark that changes with the program, and the program; read once in the life of the process."""
    text = strip_comments(b"\n".join(Path(__file__).with_name(name).read_bytes() for name in UPCALL_FILES))
    names = " ".join(UPCALL_NAMES).encode()
    return sha256(names + text).hexdigest()[:16], text


def _option_table() -> str:
    rows = options_of("srun")
    cases = "".join(_case(row) for row in rows)
    longs = " ".join(long for row in rows for long in row.longs)
    variables = "".join(
        f'[ -z "${{{row.variable}+x}}" ] || s_from_variable {row.name} "${row.variable}"\n'
        for row in rows
        if row.variable and row.field in _OF_A_STEP - _OF_THE_JOB
    )
    return (
        f"s_version={_quote(VERSION_LINE)}\ns_longs={_quote(longs)}\n"
        f"s_row() {{\ncase $1 in\n{cases}*) return 1 ;;\nesac\n}}\ns_variables() {{\n{variables}}}\n"
    )


def _case(row: Option) -> str:
    handling, reason = _IN_A_STEP.get(row.field, (row.handling, row.reason))
    names = "|".join(filter(None, (row.short, *row.longs)))
    takes = row.takes if row.takes in (NO_VALUE, REQUIRED) else "optional"
    return f"{names}) s_field={row.field} s_takes={takes} s_how={handling} s_why={_quote(reason)} ;;\n"


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
