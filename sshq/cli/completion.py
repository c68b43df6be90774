"""sshq completion SHELL: a script that completes commands, options and names, for bash, zsh and fish."""

import sys
from collections.abc import Sequence

import click

from sshq.cli.main import OWN_VERBS, SLURM_VERBS
from sshq.cli.own import own_command, run_command
from sshq.slurm.completion import SHELLS, Row, format_completion, kinds_of, rows_of


@own_command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def _command(shell: str) -> int:
    """Write a completion script for SHELL (bash, zsh, fish) to standard output."""
    from sshq.slurm.options import options_of
    from sshq.slurm.scontrol import SUPPORTED

    tables: dict[str, list[Row]] = {verb: rows_of(options_of(verb)) for verb in SLURM_VERBS}
    tables |= {verb: _own_rows(verb) for verb in OWN_VERBS}
    tables["submit"] = rows_of(options_of("sshq submit"))
    kinds = {verb: kinds_of(options_of(verb)) for verb in SLURM_VERBS} | {"submit": kinds_of(options_of("sshq submit"))}
    sys.stdout.write(format_completion(shell, tables, SLURM_VERBS, kinds, " ".join(SUPPORTED)))
    return 0


def _own_rows(verb: str) -> list[Row]:
    """Return the options of one of our verbs, as click knows them."""
    module = __import__(f"sshq.cli.{verb}", fromlist=["run"])
    rows: dict[str, Row] = {"help": ("h", "help", False, "show help")}
    for command in vars(module).values():
        if isinstance(command, click.Command):
            for param in command.params:
                longs = [name.removeprefix("--") for name in param.opts if name.startswith("--")]
                if isinstance(param, click.Option) and longs:
                    shorts = [name.removeprefix("-") for name in param.opts if not name.startswith("--")]
                    flag = param.is_flag or param.count
                    rows[longs[0]] = (shorts[0] if shorts else "", longs[0], not flag, (param.help or "").split(".")[0])
    return list(rows.values())


def run(argv: Sequence[str]) -> int:
    """Run `sshq completion`."""
    return run_command(_command, "completion", argv)
