"""sshq config: every setting, its value, and the line that says so."""

import os
import sys
from collections.abc import Sequence

import click

from sshq.cli.own import own_command, run_command
from sshq.cli.places import find_places
from sshq.cli.printing import print_json


@own_command("config")
@click.argument("file", required=False, metavar="[FILE]")
@click.option("--keys", is_flag=True, help="List what can be set, with defaults.")
@click.option("--origin", is_flag=True, hidden=True, help="Shown always; kept for those who ask.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def _command(file: str | None, keys: bool, origin: bool, as_json: bool) -> int:  # noqa: ARG001
    """Check FILE (default: the config.yaml in force) and show each setting with its origin."""
    from sshq.inventory.config import CONFIG_KEYS, format_config, format_config_keys, load_config

    if keys:
        sys.stdout.write(format_config_keys())
        return 0
    config = load_config(find_places(os.environ, config=file).config)
    if as_json:
        origins = config.origins
        settings = {
            key.name: {"value": getattr(config, key.field), "origin": origins.get(key.field, "default")}
            for key in CONFIG_KEYS.values()
        }
        print_json({"path": config.path, "settings": settings})
    else:
        sys.stdout.write(format_config(config))
    return 0


def run(argv: Sequence[str]) -> int:
    """Run `sshq config`."""
    return run_command(_command, "config", argv)
