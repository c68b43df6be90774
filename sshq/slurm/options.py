"""What an option of a Slurm command is: its names, its value, its variable, and what sshq does with it.

The rows themselves stand in `options_COMMAND.py`, one row an option, so that a command imports only its own.
`honoured` options do what Slurm's do; `ignored` ones are accepted with one warning, as nothing the job computes
depends on them; `refused` ones are errors, as leaving them out would change what runs or where.

Plain classes and tuples: these modules are on the start-up path of every command (dataclasses alone cost 13 ms).
"""

HONOURED = "honoured"
IGNORED = "ignored"
REFUSED = "refused"

NO_VALUE = "none"
REQUIRED = "required"
OPTIONAL = "optional"
FOLLOWED = "followed"  # optional, and the next word is the value unless it is an option (squeue -j)


class Option:
    """One row.

    Args:
        names: "-J --job-name": at most one short name, then the long name, then its aliases.
        metavar: "" for a flag, "NAME" for a required value, "[=NAME]" for an optional one, "[NAME]"
            for one that may also be the next word; with "..." behind it every giving adds a value.
        variable: the environment variable that gives it, "" for none.
        field: what it sets; rows with one field override one another.
        parser: which function of `values` reads the value.
        handling: HONOURED, IGNORED or REFUSED.
        help_text: one line, our words.
        reason: IGNORED: why it has no effect here; REFUSED: what leaving it out would change.
    """

    __slots__ = ("field", "handling", "help", "longs", "metavar", "parser", "reason", "repeats", "short", "takes", "variable")

    def __init__(  # noqa: PLR0917  # the columns of a table
        self, names: str, metavar: str, variable: str, field: str, parser: str, handling: str, help_text: str,
        reason: str = "",
    ) -> None:  # fmt: skip
        parts = names.split()
        self.short = parts[0] if not parts[0].startswith("--") else ""
        self.longs = tuple(parts[1:] if self.short else parts)
        self.metavar = metavar
        self.takes = NO_VALUE if not metavar else OPTIONAL if metavar[:2] == "[=" else FOLLOWED if metavar[0] == "[" else REQUIRED
        self.repeats = metavar.endswith("...")
        self.variable = variable
        self.field = field
        self.parser = parser
        self.handling = handling
        self.help = help_text
        self.reason = reason

    @property
    def name(self) -> str:
        """The name messages use: the long one where there is one."""
        return self.longs[0] if self.longs else self.short

    def __repr__(self) -> str:
        return f"Option({self.name})"


def options_of(command: str) -> tuple[Option, ...]:
    """Return a command's rows, in the order of its help; KeyError for a command that has none."""
    if command in ("sbatch", "srun", "salloc"):
        from sshq.slurm.options_sbatch import submit_options

        return submit_options(command)
    if command == "sshq submit":
        from sshq.slurm.options_submit import OPTIONS
    elif command == "squeue":
        from sshq.slurm.options_squeue import OPTIONS
    elif command == "scancel":
        from sshq.slurm.options_scancel import OPTIONS
    elif command == "sinfo":
        from sshq.slurm.options_sinfo import OPTIONS
    elif command == "sacct":
        from sshq.slurm.options_sacct import OPTIONS
    elif command == "sstat":
        from sshq.slurm.options_sstat import OPTIONS
    elif command == "sprio":
        from sshq.slurm.options_sprio import OPTIONS
    elif command == "scontrol":
        from sshq.slurm.options_scontrol import OPTIONS
    else:
        raise KeyError(command)
    return OPTIONS
