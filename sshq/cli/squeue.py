"""squeue: what is queued and running."""

import os
import sys
import time
from itertools import chain

from sshq.cli.asking import list_items, stream_items
from sshq.cli.people import lookup_uid, name_me
from sshq.cli.printing import print_document, print_lines, print_messages, print_warnings, write_while_reading
from sshq.errors import OptionError, RefusedError
from sshq.slurm.layout import Output
from sshq.slurm.squeue import (
    SqueueOptions,
    StrayWordError,
    choose_layout,
    read_squeue_options,
    render_head,
    render_squeue,
    render_steps,
)
from sshq.slurm.squeue_columns import choose_columns, choose_listing
from sshq.slurm.views import read_rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def run(argv: "Sequence[str]") -> int:
    """Run squeue; the result is its exit status."""
    try:
        options = read_squeue_options(argv, os.environ, me=name_me(), lookup_uid=lookup_uid)
    except StrayWordError:
        from sshq.slurm.help import describe_command

        sys.stdout.write(describe_command("squeue", "usage"))
        raise
    if options.wants:
        from sshq.slurm.help import describe_command

        sys.stdout.write(describe_command("squeue", options.wants))
        return 0
    if options.parsed.has("kinds") and _list_kinds(options):
        return 0
    print_warnings("squeue", options.warnings)
    code = _show_once(options)
    while options.iterate_s:
        sys.stdout.write("\n")
        sys.stdout.flush()
        time.sleep(options.iterate_s)
        code = _show_once(options)
    return code


def _list_kinds(options: SqueueOptions) -> bool:
    """Print the kinds of jobs if --type=help asks for them, and say so; one that does not exist is an error."""
    from sshq.kinds import KINDS, describe_kinds

    words = options.words("kinds") or []
    if words == ["help"]:
        print_lines(describe_kinds())
        return True
    unknown = next((word for word in words if word not in KINDS), None)
    given = options.parsed.last("kinds")
    if (unknown is not None or not words) and given is not None:
        raise OptionError(
            f"Invalid job type specified: {unknown or ''}", source=given.source,
            detail=(given.text, f"Types are {', '.join(KINDS)}."), hint="squeue --type=help", exit_code=1,
        )  # fmt: skip
    return False


def _show_once(options: SqueueOptions) -> int:
    if options.parsed.has("steps"):
        steps, _ = list_items("squeue", "steps", {"filter": options.filter})
        return _print(render_steps(steps, options, time.time()))
    question = {"filter": options.filter, "finished": options.include_finished}
    listing = choose_listing(options)
    if listing is not None:
        try:
            return _print_lines(options, {**question, "listing": listing})
        except RefusedError as error:
            if "listing" not in error.message:
                raise  # else a controller of the release before, which makes no lines
    columns = choose_columns(options)
    if columns is not None:
        try:
            items, _ = list_items("squeue", "jobs", {**question, "columns": columns})
        except RefusedError as error:
            if "columns" not in error.message:
                raise
            items, _ = list_items("squeue", "jobs", question)  # a controller of the release before knows no columns
        return _print(render_squeue(read_rows(items, columns), options, time.time()))
    jobs, _ = list_items("squeue", "jobs", question)
    if options.is_document:
        from sshq.slurm.jsondoc import squeue_document

        print_document(squeue_document(jobs), options.parsed)
        return 0
    return _print(render_squeue(jobs, options, time.time()))


def _print_lines(options: SqueueOptions, question: "dict[str, object]") -> int:
    """Print what the controller lays out, each piece as it comes."""
    items = stream_items("squeue", "jobs", question)
    first = next(items, None)
    if first is not None and "text" not in first:  # whoever answers makes no lines
        return _print(render_squeue([first, *items], options, time.time()))
    head, messages = render_head(options, choose_layout(options), time.time())
    print_lines(head)
    if first is not None:
        write_while_reading(str(item["text"]) for item in chain((first,), items))
    print_messages(messages)
    return 0


def _print(output: Output) -> int:
    print_lines(output.lines)
    print_messages(output.messages)
    return output.exit_code
