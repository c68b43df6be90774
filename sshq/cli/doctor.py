"""sshq doctor: in plain words, why a host is unusable and what to do."""

import os
from collections.abc import Mapping, Sequence

import click

from sshq.cli.adhoc import ask_hosts
from sshq.cli.asking import read_items, read_text
from sshq.cli.own import own_command, run_command
from sshq.cli.places import find_places
from sshq.cli.printing import print_json, print_lines, print_messages
from sshq.errors import UnreachableError, UserError
from sshq.wire.client import LostReplyError, connect

_MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


@own_command("doctor")
@click.argument("names", nargs=-1, metavar="[HOST…]")
@click.option("--inventory", metavar="FILE", help="Hosts of this inventory, asked without the controller.")
@click.option("-v", "--verbose", is_flag=True, help="Show what is in order too.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def _command(names: tuple[str, ...], inventory: str | None, verbose: bool, as_json: bool) -> int:
    """Examine hosts, all or those named: reachable, host key, login, shell, spool, clock, limits.

    Exits 1 if a host cannot be used.
    """
    reply = _ask({"names": _expand_names(names)}, inventory)
    hosts = read_items(reply.get("hosts"))
    known = {read_text(host, "name") for host in hosts}
    missing = [name for name in _expand_names(names) or [] if name not in known]
    if as_json:
        print_json(reply)
    else:
        print_lines(line for host in hosts for line in _describe(host, verbose=verbose))
    print_messages(f"sshq: error: no such host in the inventory: {name}" for name in missing)
    print_messages(["    hint: sshq inventory"] if missing else [])
    return 1 if missing or any(not host.get("ok") for host in hosts) else 0


def run(argv: Sequence[str]) -> int:
    """Run `sshq doctor`."""
    return run_command(_command, "doctor", argv)


def _expand_names(names: Sequence[str]) -> list[str] | None:
    from sshq.core.hostlist import HostlistError, expand_hostlist

    try:
        return [name for text in names for name in expand_hostlist(text)] or None
    except HostlistError as error:
        raise UserError(str(error)) from None


def _ask(params: dict[str, object], inventory: str | None) -> dict[str, object]:
    if inventory is None:
        try:
            with connect(os.environ) as client:
                return client.call("doctor", params, timeout_s=180)
        except LostReplyError:
            raise
        except UnreachableError as error:
            print_messages([f"sshq: no controller listens on {error.socket}: asking the hosts themselves"])
    return ask_hosts("doctor", params, find_places(os.environ, inventory=inventory), timeout_s=180)


def _describe(host: Mapping[str, object], *, verbose: bool) -> list[str]:
    checks = read_items(host.get("checks"))
    faults = [check for check in checks if check.get("verdict") != "ok"]
    lines = [f"{read_text(host, 'name')}: {'usable' if host.get('ok') else 'cannot be used'}"]
    for check in checks if verbose else faults:
        head, *rest = read_text(check, "detail").splitlines() or [""]
        mark = _MARKS.get(read_text(check, "verdict"), "?   ")
        lines.append(f"    {mark} {read_text(check, 'check')}: {head}".rstrip(": "))
        lines += [f"         {line}" for line in rest]
        if check.get("hint"):
            lines.append(f"         hint: {check['hint']}")
    return lines
