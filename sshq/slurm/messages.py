"""Slurm's sentences and exit codes: every text that scripts match and that is not an option's own.

Slurm prints most errors as `program: error: text`; a few come bare, from getopt, or in two differently prefixed
lines.  `ExactError` carries those as they are.
"""

from sshq.errors import OptionError

EXIT_BAD_OPTION_SBATCH = 255  # sbatch(1): a bad option or value, on the command line or in a directive
EXIT_ERROR = 1
SLURM_VERSION = "22.05.8"  # whose behaviour is copied
VERSION_LINE = f"slurm {SLURM_VERSION}"

CLUSTER = "sshq"  # the name of the one cluster, where Slurm shows one
SUBMITTED = "Submitted batch job {job_id}"
SCRIPT_EMPTY = "Batch script is empty!"
SCRIPT_BLANK = "Batch script contains only whitespace!"
SCRIPT_DOS = "Batch script contains DOS line breaks (\\r\\n)", "instead of expected UNIX line breaks (\\n)."
SCRIPT_NUL = "The Slurm controller does not allow scripts that", "contain a NULL character '\\0'."
SCRIPT_NO_SHEBANG = (
    "This does not look like a batch script.  The first",
    "line must start with #! followed by the path to an interpreter.",
    "For instance: #!/bin/sh",
)
UNKNOWN_JOB_LOAD = "slurm_load_jobs error: Invalid job id specified"
UNKNOWN_JOB = "Invalid job id specified"
ENDED_JOB = "Job/step already completing or completed"

# scontrol's and the controller's refusals, by the stable word the controller gives.
REFUSALS = {
    "bad_array": "Invalid job array specification",
    "bad_dependency": "Job dependency problem",
    "bad_feature": "Invalid feature specification",
    "bad_node": "Invalid node name specified",
    "bad_partition": "Invalid partition name specified",
    "cannot_run": "Requested node configuration is not available",
    "denied": "Access/permission denied",
    "ended": ENDED_JOB,
    "nice": "Invalid --nice value",
    "pending": "Job is pending execution",
    "unknown_job": UNKNOWN_JOB,
}


# What `scontrol errnumstr` says: the numbers of slurm_errno.h that a command may have shown.
ERROR_NUMBERS = dict(enumerate((
    "Invalid partition name specified", "No partition specified or system default partition", "Access/permission denied",
    "User's group not permitted to use this partition", "Requested nodes not in this partition",
    "More processors requested than permitted", "Node count specification invalid", "Unable to create job record, try again",
    "Job size specification needs to be provided", "Job script not specified", "Invalid user id", "Duplicate job id",
    "Pathname of a file, directory or other parameter too long", "Immediate execution impossible, insufficient priority",
    "Requested node configuration is not available", "Requested partition configuration not available now",
    "Requested nodes are busy", UNKNOWN_JOB, "Invalid node name specified", "I/O error writing script/environment to file",
    "Job can not be altered now, try again later", ENDED_JOB, "Error configuring interconnect",
    "Task distribution specification invalid", "Job is pending execution",
), start=2000))  # fmt: skip


class ExactError(OptionError):
    """An error whose lines are printed as they are, the program's name included where Slurm has it."""

    def __init__(
        self, lines: tuple[str, ...], *, source: str = "", detail: tuple[str, ...] = (), hint: str | None = None,
        exit_code: int = EXIT_ERROR,
    ) -> None:  # fmt: skip
        super().__init__("\n".join(lines), source=source, detail=detail, hint=hint, exit_code=exit_code)
        self.lines = lines

    def render(self, program: str) -> str:  # noqa: ARG002  # the name stands in the lines already
        """Return the lines, then place and hint as every error shows them."""
        rest = [f"    {line}" for line in self.detail]
        if self.hint:
            rest.append(f"    hint: {self.hint}")
        return "\n".join((*self.lines, *rest)) + "\n"


def exit_code_for_option(command: str) -> int:
    """Return the status of a bad option or value: 255 from sbatch, 1 from all others."""
    return EXIT_BAD_OPTION_SBATCH if command == "sbatch" else EXIT_ERROR


def make_error_lines(program: str, lines: tuple[str, ...]) -> ExactError:
    """Return an error each of whose lines bears `program: error:`, as Slurm's log functions print them."""
    return ExactError(tuple(f"{program}: error: {line}" for line in lines))


def submit_failed(text: str) -> str:
    """Return the first line for a submission the controller refused."""
    return f"Batch job submission failed: {text}"
