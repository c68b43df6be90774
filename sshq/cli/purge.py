"""sshq purge: ended jobs leave the queue now; the history keeps them."""

import os
import re
from collections.abc import Sequence

import click

from sshq.cli.own import UsageMistakeError, own_command, run_command
from sshq.cli.printing import print_json
from sshq.cli.wait import read_refs
from sshq.wire.client import connect

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@own_command("purge")
@click.argument("jobs", nargs=-1, metavar="[JOB…]")
@click.option("--older-than", metavar="TIME", help="Only those that ended longer ago: 90s, 30m, 12h, 7d, 2w.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def _command(jobs: tuple[str, ...], older_than: str | None, as_json: bool) -> int:
    """Take ended jobs out of the queue, all or those named.  `sacct` still shows them."""
    age_s = None if older_than is None else parse_age(older_than)
    refs = read_refs(jobs)
    if age_s is None and not refs:
        age_s = 0
    params = {"older_than_s": age_s, "refs": [[job_id, tasks] for job_id, tasks in refs] or None}
    with connect(os.environ) as client:
        purged = client.call("purge", params).get("purged")
    if as_json:
        print_json({"purged": purged})
    else:
        print(f"purged {purged} ended job{'' if purged == 1 else 's'}")
    return 0


def run(argv: Sequence[str]) -> int:
    """Run `sshq purge`."""
    return run_command(_command, "purge", argv)


def parse_age(text: str) -> int:
    """Return the seconds of 90s, 30m, 12h, 7d, 2w."""
    match = re.fullmatch(r"(\d{1,9})([smhdw]?)", text.strip().lower())
    if match is None:
        raise UsageMistakeError(f"{text!r} is not a time", hint="times look like 90s, 30m, 12h, 7d, 2w")
    return int(match[1]) * _UNITS[match[2]]
