"""The compatibility page: every option of every Slurm command and what sshq does with it, from the rows that decide it.

    python -m sshq.slurm.compatibility > sshq/slurm/COMPATIBILITY.md

A test compares the file with what this prints, so the page cannot fall behind the code.
"""

import sys
from collections.abc import Iterator

from sshq.slurm.messages import VERSION_LINE
from sshq.slurm.options import HONOURED, Option, options_of

_TITLE = f"""\
# What sshq does with each option of Slurm's commands

Written by `python -m sshq.slurm.compatibility`; do not edit.  The words are those of `{VERSION_LINE}`.

* **honoured**: does what Slurm's does.
* **ignored**: accepted with one warning; what the job computes cannot depend on it.
* **refused**: an error, because leaving it out would change what runs, or where.

An option that stands in no table is unknown to Slurm 22.05 too, and refused as Slurm refuses it.
"""
_COMMANDS = ("sbatch", "srun", "salloc", "squeue", "scancel", "sinfo", "sacct", "sstat", "sprio", "scontrol")


def describe_compatibility() -> str:
    """Return the page, in Markdown, ending in a newline."""
    commands = (line for name in _COMMANDS for line in _describe_command(name))
    return "\n".join([_TITLE, *_describe_scontrol_verbs(), *commands]) + "\n"


def _describe_command(name: str) -> Iterator[str]:
    rows = options_of(name)
    counts = {handling: sum(row.handling == handling for row in rows) for handling in dict.fromkeys(row.handling for row in rows)}
    yield f"## {name}\n"
    yield f"{len(rows)} options: {', '.join(f'{count} {handling}' for handling, count in counts.items())}.\n"
    yield "| Option | Variable | sshq | What it is |"
    yield "|---|---|---|---|"
    for row in rows:
        yield f"| {_spell(row)} | {f'`{row.variable}`' if row.variable else ''} | {row.handling} | {_explain(row)} |"
    yield ""


def _spell(row: Option) -> str:
    names = [row.short] if row.short else []
    return ", ".join(f"`{name}`" for name in [*names, *row.longs]) + (f" `{_escape(row.metavar)}`" if row.metavar else "")


def _explain(row: Option) -> str:
    reason = f" ({row.reason})" if row.reason and row.handling != HONOURED else ""
    return _escape(f"{row.help}{reason}")


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def _describe_scontrol_verbs() -> list[str]:
    from sshq.slurm.scontrol import SUPPORTED, VERBS

    others = ", ".join(f"`{verb}`" for verb in VERBS if verb not in SUPPORTED)
    return [
        "## Verbs of scontrol\n",
        f"Honoured: {', '.join(f'`{verb}`' for verb in SUPPORTED)}.\n",
        f"Refused, with a message: {others}.\n",
    ]


if __name__ == "__main__":
    sys.stdout.write(describe_compatibility())
