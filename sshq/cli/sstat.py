"""sstat: what running steps have used."""

import os
import sys

from sshq.cli.asking import list_items
from sshq.cli.printing import print_lines, print_messages, print_warnings
from sshq.slurm.sstat import read_sstat_options, render_helpformat, render_sstat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def run(argv: "Sequence[str]") -> int:
    """Run sstat; the result is its exit status."""
    options = read_sstat_options(argv, os.environ)
    if options.wants:
        from sshq.slurm.help import describe_command

        sys.stdout.write(describe_command("sstat", options.wants))
        return 0
    if options.helpformat:
        sys.stdout.write(render_helpformat())
        return 0
    print_warnings("sstat", options.warnings)
    steps, _ = list_items("sstat", "steps", {"filter": options.filter})
    output = render_sstat(steps, options)
    print_lines(output.lines)
    print_messages(output.messages)
    return output.exit_code
