"""sshq restore: the backups there are, or one of them put in the place of a lost or damaged store."""

import os
import subprocess
import sys
from collections.abc import Sequence

import click

from sshq.cli.own import own_command, run_command
from sshq.cli.places import find_configured_places, interpreter_environment


@own_command("restore")
@click.argument("backup", type=click.Path(exists=True, dir_okay=False), required=False)
@click.option("--state", help="State directory; default as `sshq up`.")
@click.option("--config", metavar="FILE", help="Configuration file (config.yaml); default as `sshq up`.")
def _command(backup: str | None, state: str | None, config: str | None) -> int:
    """Make BACKUP the store, with the controller stopped; without BACKUP, list what there is.

    Nothing is deleted, no running job is touched.
    """
    places = find_configured_places(os.environ, state=state, config=config)
    words = [sys.executable, "-s", "-m", "sshq.controller.restoring", "--state", places.state]
    if places.config is not None:
        words += ["--config", places.config]
    if backup is not None:
        words.append(os.path.abspath(backup))
    return subprocess.run(words, env=interpreter_environment(os.environ), check=False).returncode


def run(argv: Sequence[str]) -> int:
    """Run `sshq restore`."""
    return run_command(_command, "restore", argv)
