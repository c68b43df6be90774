"""sshq inventory: check a file and show what it comes to, line by line, without a controller."""

import os
from collections.abc import Sequence

import click

from sshq.cli.own import own_command, print_json_or, run_command
from sshq.cli.places import find_places
from sshq.cli.printing import print_lines


@own_command("inventory")
@click.argument("file", required=False, metavar="[FILE]")
@click.option("--probe", is_flag=True, help="Ask each host what it has.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def _command(file: str | None, probe: bool, as_json: bool) -> int:
    """Check FILE (default: the one `sshq up` would take) and show hosts and partitions with their origins."""
    from sshq.inventory.load import load_found
    from sshq.inventory.report import format_inventory, inventory_json

    places = find_places(os.environ, inventory=file)
    inventory = load_found(places.inventory)
    if probe:
        from sshq.cli.adhoc import ask_hosts
        from sshq.cli.hosttable import print_hosts

        found = ask_hosts("inventory-probe", {}, places)
        print_json_or(as_json, found, lambda: print_hosts(found))
        return 0
    print_json_or(as_json, inventory_json(inventory), lambda: print_lines([format_inventory(inventory).rstrip("\n")]))
    return 0


def run(argv: Sequence[str]) -> int:
    """Run `sshq inventory`."""
    return run_command(_command, "inventory", argv)
