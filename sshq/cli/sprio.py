"""sprio: the priorities of pending jobs."""

import os
import sys

from sshq.cli.asking import Object, list_items
from sshq.cli.people import lookup_uid
from sshq.cli.printing import print_lines, print_messages, print_warnings
from sshq.slurm.sprio import read_sprio_options, render_sprio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def run(argv: "Sequence[str]") -> int:
    """Run sprio; the result is its exit status."""
    options = read_sprio_options(argv, os.environ, lookup_uid=lookup_uid)
    if options.wants:
        from sshq.slurm.help import describe_command

        sys.stdout.write(describe_command("sprio", options.wants))
        return 0
    print_warnings("sprio", options.warnings)
    jobs: list[Object] = []
    if not options.parsed.has("weights"):
        jobs, _ = list_items("sprio", "jobs", {"filter": options.filter})
    output = render_sprio(jobs, options)
    print_lines(output.lines)
    print_messages(output.messages)
    return output.exit_code
