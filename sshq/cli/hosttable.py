"""The table of what a controller took on: hosts, slots, partitions, who was left out and why."""

from collections.abc import Mapping

from sshq.cli.asking import read_items, read_text
from sshq.cli.gpunotes import read_notes
from sshq.cli.own import print_table
from sshq.cli.printing import print_lines, print_messages


def print_hosts(found: Mapping[str, object], pid: int | None = None) -> None:
    """Print the reply to `hosts` as people read it."""
    hosts, excluded = read_items(found.get("hosts")), read_items(found.get("excluded"))
    inventory = found.get("inventory")
    path = inventory.get("path") if isinstance(inventory, dict) else None
    where = f"inventory {path}" if path else "no inventory: this machine alone"
    if pid is not None:
        print_lines([f"controller started (pid {pid}), {where}", ""])
    with_gpus = any(host.get("gres") for host in hosts)
    rows = [
        (
            read_text(host, "name"),
            _describe_address(host),
            read_text(host, "slots", "-"),
            _join(host.get("partitions")),
            *((read_text(host, "gres", "-"),) if with_gpus else ()),
            read_text(host, "state", "unknown"),
            "; ".join(filter(None, (read_text(host, "note"), *read_notes(host)))),
        )
        for host in hosts
    ]
    if rows:
        print_table(("HOST", "ADDRESS", "SLOTS", "PARTITIONS", *(("GPUS",) if with_gpus else ()), "STATE", "NOTE"), rows)
    else:
        print_lines(["no host takes part"])
    if excluded:
        print_lines(["", "left out:", *(f"  {read_text(one, 'name')}: {read_text(one, 'why')}" for one in excluded)])
    warnings = found.get("warnings")
    print_messages(f"sshq: warning: {warning}" for warning in (warnings if isinstance(warnings, list) else ()))
    if any(host.get("state") not in ("ready", "connecting", "probing") for host in hosts):
        print_messages(["    hint: sshq doctor says why a host is not used"])


def _join(value: object) -> str:
    return ",".join(str(one) for one in value) if isinstance(value, list) else ""


def _describe_address(host: Mapping[str, object]) -> str:
    account, address, port = host.get("account"), read_text(host, "address"), host.get("port")
    text = f"{account}@{address}" if account else address
    return f"{text}:{port}" if port and port != 22 else text
