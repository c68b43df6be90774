"""sshq restore: put a backup in the place of a lost or damaged store."""

import os
import subprocess
import sys
from collections.abc import Sequence

import click

from sshq.cli.own import own_command, run_command
from sshq.cli.places import find_places, interpreter_environment


@own_command("restore")
@click.argument("backup", type=click.Path(exists=True, dir_okay=False))
@click.option("--state", help="State directory; default as `sshq up`.")
def _command(backup: str, state: str | None) -> int:
    """Make BACKUP the store, with the controller stopped.  Nothing is deleted, no running job is touched."""
    places = find_places(os.environ, state=state)
    words = [sys.executable, "-s", "-m", "sshq.controller.restoring", "--state", places.state, os.path.abspath(backup)]
    return subprocess.run(words, env=interpreter_environment(os.environ), check=False).returncode


def run(argv: Sequence[str]) -> int:
    """Run `sshq restore`."""
    return run_command(_command, "restore", argv)
