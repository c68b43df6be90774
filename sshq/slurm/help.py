"""--help, --usage and --version of Slurm's verbs, made from the rows of their options, so that none is forgotten."""

from sshq.slurm.messages import VERSION_LINE
from sshq.slurm.options import FOLLOWED, HONOURED, IGNORED, NO_VALUE, OPTIONAL, REFUSED, Option, options_of

_SYNOPSES = {
    "sbatch": "[options] [script [arguments]]",
    "sshq submit": "[options] file ...",
    "srun": "[options] command [arguments]",
    "salloc": "[options] [command [arguments]]",
    "squeue": "[options]",
    "scancel": "[options] [job ...]",
    "sinfo": "[options]",
    "sacct": "[options]",
    "sstat": "[options] -j JOB[.STEP]",
    "sprio": "[options]",
    "scontrol": "[options] verb [words]",
}
_HEADINGS = (
    (HONOURED, ""),
    (IGNORED, "Accepted, without effect here:"),
    (REFUSED, "Refused, as leaving it out would change what runs:"),
)
_TEXT_COLUMN = 30
_USAGE_WIDTH = 80


def describe_command(command: str, wants: str) -> str:
    """Return the text for "help", "usage" or "version", ending in a newline."""
    if wants == "version":
        return VERSION_LINE + "\n"
    return describe_usage(command) if wants == "usage" else describe_help(command)


def describe_help(command: str) -> str:
    """Return every option with its line of help, by what becomes of it."""
    lines = [f"Usage: {command} {_SYNOPSES[command]}"]
    for handling, heading in _HEADINGS:
        rows = [row for row in options_of(command) if row.handling == handling]
        if rows:
            lines += ["", *([heading] if heading else [])]
            lines += [line for row in rows for line in _describe_row(row)]
    return "\n".join(lines) + "\n"


def describe_usage(command: str) -> str:
    """Return the honoured options in brief."""
    words = [f"[{_spell(row, short=True)}]" for row in options_of(command) if row.handling == HONOURED]
    lines = [f"Usage: {command}"]
    indent = " " * len(lines[0])
    for word in [*words, *_SYNOPSES[command].removeprefix("[options]").split(maxsplit=0)]:
        if len(lines[-1]) + 1 + len(word) > _USAGE_WIDTH:
            lines.append(indent)
        lines[-1] += f" {word}"
    return "\n".join(lines) + "\n"


def _describe_row(row: Option) -> list[str]:
    names = f"  {row.short + ', ' if row.short else '    '}{_spell(row)}"
    text = f"{row.help}{f' ({row.reason})' if row.handling == IGNORED else ''}"
    if row.variable:
        text += f" [{row.variable}]"
    if len(names) >= _TEXT_COLUMN:
        return [names, " " * _TEXT_COLUMN + text]
    return [names.ljust(_TEXT_COLUMN) + text]


def _spell(row: Option, *, short: bool = False) -> str:
    if short and row.short:
        separator = "" if row.takes in (NO_VALUE, OPTIONAL) else " "
        return row.short + separator + row.metavar.replace("[=", "[")
    separator = "" if row.takes in (NO_VALUE, OPTIONAL, FOLLOWED) else "="
    return row.name + separator + row.metavar
