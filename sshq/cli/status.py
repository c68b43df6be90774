"""sshq status: is there a controller, and how is it."""

import os
from collections.abc import Mapping, Sequence

import click

from sshq.cli.asking import read_items
from sshq.cli.own import format_duration, own_command, print_json_or, run_command
from sshq.cli.printing import print_lines
from sshq.wire.client import connect

ORPHANS_SHOWN = 5


@own_command("status")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def _command(as_json: bool) -> int:
    """Say how the controller is: since when, which inventory, how many hosts and jobs."""
    with connect(os.environ) as client:
        status = client.call("status")
    print_json_or(as_json, status, lambda: print_lines(_describe(status)))
    return 0


def run(argv: Sequence[str]) -> int:
    """Run `sshq status`."""
    return run_command(_command, "status", argv)


def _describe(status: Mapping[str, object]) -> list[str]:
    uptime = status.get("uptime_s")
    since = format_duration(uptime) if isinstance(uptime, (int, float)) else "unknown"
    inventory = status.get("inventory")
    facts: Mapping[str, object] = inventory if isinstance(inventory, dict) else {}
    lines = [
        f"controller  pid {status.get('pid')}, up {since}, sshq {status.get('version')}",
        f"socket      {status.get('socket')}",
        f"state       {status.get('state_dir')}",
        f"inventory   {facts.get('path') or 'none: this machine alone'}",
        f"hosts       {_count(status.get('hosts'))}",
        f"jobs        {_count(status.get('jobs'))}",
    ]
    orphans = read_items(status.get("orphans"))
    if orphans:
        shown = ", ".join(f"job {one.get('job_id')} on {one.get('host')}" for one in orphans[:ORPHANS_SHOWN])
        more = f" and {len(orphans) - ORPHANS_SHOWN} more" if len(orphans) > ORPHANS_SHOWN else ""
        lines.append(f"orphans     found on hosts, unknown to this store, left alone: {shown}{more}")
    if facts.get("error"):
        head, *rest = str(facts["error"]).splitlines()
        lines += [f"            not in force, an older reading is: {head}", *(f"            {line}" for line in rest)]
    return lines


def _count(counts: object) -> str:
    if not isinstance(counts, dict) or not any(counts.values()):
        return "none"
    return ", ".join(f"{count} {str(state).lower()}" for state, count in sorted(counts.items()) if count)
