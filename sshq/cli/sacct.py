"""sacct: what has run."""

import os
import sys
import time
from itertools import chain

from sshq.cli.asking import ask_controller, list_items, read_int, read_text, stream_items
from sshq.cli.people import lookup_uid, name_me
from sshq.cli.printing import print_document, print_messages, print_warnings, print_while_reading
from sshq.errors import RefusedError
from sshq.slurm.sacct import SacctOptions, read_sacct_options, render_helpformat, render_sacct
from sshq.slurm.sacct_columns import choose_columns
from sshq.slurm.views import read_rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def run(argv: "Sequence[str]") -> int:
    """Run sacct; the result is its exit status."""
    options = read_sacct_options(argv, os.environ, now=time.time(), me=name_me(), lookup_uid=lookup_uid)
    if options.wants:
        from sshq.slurm.help import describe_command

        sys.stdout.write(describe_command("sacct", options.wants))
        return 0
    if options.helpformat:
        sys.stdout.write(render_helpformat().rstrip("\n") + "\n")
        return 0
    print_warnings("sacct", options.warnings)
    return _show_scripts(options) if options.batch_script else _show(options)


def _show(options: SacctOptions) -> int:
    steps = not options.parsed.has("allocations")
    window = {"start_at": options.start_at, "end_at": options.end_at}
    question: dict[str, object] = {"filter": options.filter, **window, "steps": steps}
    if options.is_document:
        from sshq.slurm.jsonaccounts import sacct_document
        from sshq.slurm.sacct import choose_rows

        rows, _ = list_items("sacct", "history", question)
        print_document(sacct_document(choose_rows(rows, options), time.time()), options.parsed)
        return 0
    columns = choose_columns(options)
    try:
        return _print_as_they_come({**question, "columns": columns}, columns, options)
    except RefusedError as error:
        if "columns" not in error.message:
            raise
        return _print_as_they_come(question, columns, options)  # a controller of the release before knows no columns


def _print_as_they_come(question: "dict[str, object]", columns: list[str], options: SacctOptions) -> int:
    """Print the lines of each piece of the answer before the next is read; what is refused is so before the first line."""
    items = stream_items("sacct", "history", question)
    first = next(items, None)
    rows = read_rows(chain([] if first is None else [first], items), columns)
    output = render_sacct(rows, options, time.time())
    print_while_reading(output.lines)
    print_messages(output.messages)
    return output.exit_code


def _show_scripts(options: SacctOptions) -> int:
    """Print the batch script of each job asked for; scripts are kept as long as the queue knows the job."""
    from sshq.slurm.sacct import choose_rows
    from sshq.slurm.views import job_label

    rows, _ = list_items("sacct", "history", {"filter": options.filter})
    for row in choose_rows(rows, options):
        try:
            script = read_text(ask_controller("sacct", "script", {"ref": [read_int(row, "job_id"), None]}), "script")
        except RefusedError:
            script = "NONE\n"
        sys.stdout.write(f"Batch Script for {job_label(row)}\n{'-' * 80}\n{script}\n")
    return 0
