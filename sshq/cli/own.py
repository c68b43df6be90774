"""What sshq's own verbs share: click commands whose mistakes look like all our errors and exit 2."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from sshq.errors import UserError


class UsageMistakeError(UserError):
    """A command line that cannot be right: status 2, as for most tools."""

    exit_code = 2


class Command(click.Command):
    """A click command that takes unique prefixes of long options, as Slurm's verbs do."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Complete shortened options, then parse as usual."""
        known = [name for param in self.get_params(ctx) for name in (*param.opts, *param.secondary_opts) if name.startswith("--")]
        return super().parse_args(ctx, _complete_options(args, known))


def _complete_options(args: Sequence[str], known: Sequence[str]) -> list[str]:
    completed: list[str] = []
    for position, word in enumerate(args):
        if word == "--":
            return [*completed, *args[position:]]
        name, equals, value = word.partition("=")
        matches = [option for option in known if option.startswith(name)] if name.startswith("--") else []
        completed.append(f"{matches[0]}{equals}{value}" if len(matches) == 1 and name not in known else word)
    return completed


def run_command(command: click.Command, name: str, argv: Sequence[str]) -> int:
    """Run one click command; the result is the exit status."""
    try:
        result: Any = command.main(args=list(argv), prog_name=f"sshq {name}", standalone_mode=False)
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:
        raise UsageMistakeError(error.format_message().rstrip("."), hint=f"sshq {name} --help") from None
    return result if isinstance(result, int) else 0


def own_command(name: str) -> Callable[[Callable[..., int]], Command]:
    """Return the decorator that makes a function a verb; its docstring is the help."""
    settings = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
    return click.command(name, cls=Command, context_settings=settings)


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows in columns as wide as they need."""
    from tabulate import tabulate

    from sshq.slurm.layout import keep_on_line

    cells = [["" if cell is None else keep_on_line(str(cell)) for cell in row] for row in rows]
    sys.stdout.write(tabulate(cells, headers=list(header), tablefmt="plain", disable_numparse=True) + "\n")


def print_json_or(as_json: bool, document: Mapping[str, object], print_text: Callable[[], None]) -> None:
    """Print a document as JSON if that was asked for, else as text."""
    if as_json:
        from sshq.cli.printing import print_json

        print_json(document)
    else:
        print_text()


def read_job_ref(text: str) -> list[object]:
    """Return the job that a word names, as the protocol has it: [id, array task or None]."""
    from sshq.core.ids import parse_job_id

    try:
        ref = parse_job_id(text)
    except ValueError as error:
        raise UserError(str(error), hint="job ids look like 12 or 12_4 (array task)") from None
    if ref.step is not None or (ref.tasks is not None and len(ref.tasks) != 1):
        what = "a step" if ref.step is not None else "several tasks"
        raise UserError(f"{text} is {what}: one job is meant here", hint="12 is a job or a whole array, 12_4 one of its tasks")
    return [ref.job_id, ref.tasks[0] if ref.tasks else None]


def format_duration(seconds: float) -> str:
    """Return a time as people say it: 45 s, 12 min, 3 h 10 min, 2 d 4 h."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
