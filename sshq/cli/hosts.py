"""sshq hosts: record host keys, and connect again now."""

import os
import sys
from collections.abc import Mapping, Sequence

import click

from sshq.cli.adhoc import ask_hosts
from sshq.cli.asking import read_items, read_text
from sshq.cli.hosttable import print_hosts
from sshq.cli.own import UsageMistakeError, own_command, print_json_or, run_command
from sshq.cli.places import find_places
from sshq.cli.printing import print_json, print_lines, print_messages
from sshq.core.hostlist import HostlistError, expand_hostlist
from sshq.errors import SshqError, UserError
from sshq.wire.client import connect

TRUST_S = 180.0


@own_command("hosts")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def _list(as_json: bool) -> int:
    """List hosts as the controller sees them.  `sshq hosts trust …`, `retry …`, `accept …` and `remove …` act on them."""
    with connect(os.environ) as client:
        found = client.call("hosts")
    print_json_or(as_json, found, lambda: print_hosts(found))
    return 0


@own_command("hosts trust")
@click.argument("names", nargs=-1, metavar="HOST…")
@click.option("--all", "every", is_flag=True, help="All hosts of the inventory.")
@click.option("--inventory", metavar="FILE", help="The inventory that names the hosts.")
@click.option("--fingerprint", "fingerprints", multiple=True, metavar="SHA256:…", help="Record this key, without asking.")
@click.option("-y", "--yes", is_flag=True, help="Record what is found, without asking.")
@click.option("--json", "as_json", is_flag=True, help="Print what was recorded as JSON.")
def _trust(
    *, names: tuple[str, ...], every: bool, inventory: str | None, fingerprints: tuple[str, ...], yes: bool, as_json: bool
) -> int:
    """Fetch the keys of hosts (patterns like ws* or ws[01-12]), show fingerprints, and record them once confirmed.

    Compare fingerprints with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the host itself: whoever sits between
    could answer in its name.
    """
    if bool(names) == every:
        raise UsageMistakeError("name hosts, or give --all", hint="sshq hosts trust --help")
    places = find_places(os.environ, inventory=inventory)
    found = ask_hosts("trust", {"op": "fetch", "names": _expand(names), "all": every}, places, timeout_s=TRUST_S)
    hosts = read_items(found.get("hosts"))
    if not hosts:
        why = f"no such host in the inventory: {', '.join(names)}" if names else "the inventory has no hosts"
        raise UserError(why, hint="sshq inventory")
    failed = any(host.get("error") for host in hosts)
    chosen = [key for host in hosts for key in _choose_keys(host, fingerprints, yes=yes, quiet=as_json)]
    results = []
    if chosen:
        recorded = ask_hosts("trust", {"op": "record", "keys": chosen}, places, timeout_s=TRUST_S)
        results = read_items(recorded.get("results"))
        _retry_quietly(sorted({str(key["name"]) for key in chosen}))
    if as_json:
        print_json({"hosts": list(hosts), "results": list(results)})
    else:
        print_lines(f"{read_text(one, 'name')}: {read_text(one, 'message') or read_text(one, 'outcome')}" for one in results)
    refused = any(one.get("outcome") not in ("recorded", "known") for one in results)
    left = any(host.get("known") != "same" and not any(key["name"] == host.get("name") for key in chosen) for host in hosts)
    return 1 if failed or refused or left else 0


@own_command("hosts retry")
@click.argument("names", nargs=-1, metavar="[HOST…]")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def _retry(names: tuple[str, ...], as_json: bool) -> int:
    """Connect now to the hosts named, or all that are not connected, whatever they were resting for."""
    with connect(os.environ) as client:
        reply = client.call("hosts_retry", {"names": _expand(names) or None})
    results = read_items(reply.get("results"))
    if as_json:
        print_json(reply)
    else:
        print_lines(f"{read_text(one, 'name')}: {read_text(one, 'outcome')}" for one in results)
    unknown = [one for one in results if one.get("outcome") == "unknown"]
    print_messages(f"sshq: error: no such host in the inventory: {read_text(one, 'name')}" for one in unknown)
    print_messages(["    hint: sshq inventory"] if unknown else [])
    return 1 if unknown else 0


@own_command("hosts accept")
@click.argument("names", nargs=-1, required=True, metavar="HOST…")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def _accept(names: tuple[str, ...], as_json: bool) -> int:
    """Say of hosts shown as IDENTITY CHANGED that the machine which answers now is the host.

    Until then the jobs that the other machine had are kept as they are: it may be back tomorrow, under this address or
    another.  Accepted, they end as NODE_FAIL, for nobody can ask that machine any more.
    """
    with connect(os.environ) as client:
        reply = client.call("hosts_accept", {"names": _expand(names)})
    results = read_items(reply.get("results"))
    refused = [one for one in results if one.get("outcome") != "accepted"]
    if as_json:
        print_json(reply)
    else:
        print_lines(f"{read_text(one, 'name')}: {read_text(one, 'message')}" for one in results if one not in refused)
    print_messages(f"sshq: error: {read_text(one, 'name')}: {read_text(one, 'message')}" for one in refused)
    return 1 if refused else 0


_COMMANDS = {"trust": _trust, "retry": _retry, "accept": _accept}


def run(argv: Sequence[str]) -> int:
    """Run `sshq hosts …`."""
    if argv and argv[0] in _COMMANDS:
        return run_command(_COMMANDS[argv[0]], f"hosts {argv[0]}", argv[1:])
    if argv and argv[0] == "remove":
        from sshq.cli.removing import run as remove

        return remove(argv[1:])
    if argv and not argv[0].startswith("-"):
        raise UsageMistakeError(f"no such command: hosts {argv[0]}", hint="sshq hosts trust, retry, accept, remove")
    return run_command(_list, "hosts", argv)


def _expand(names: Sequence[str]) -> list[str]:
    try:
        # Patterns (ws*) are for the other side, which knows the hosts; a bracket with a range is ours.
        return [name for text in names for name in (expand_hostlist(text) if "*" not in text and "?" not in text else [text])]
    except HostlistError as error:
        raise UserError(str(error)) from None


def _choose_keys(
    host: Mapping[str, object], fingerprints: Sequence[str], *, yes: bool, quiet: bool
) -> list[dict[str, object]]:
    """Return the keys of one host that are to be recorded, after showing them and asking where that is possible."""
    name, known = read_text(host, "name"), read_text(host, "known", "unknown")
    keys = read_items(host.get("keys"))
    if host.get("error"):
        hint = [f"    hint: {host['hint']}"] if host.get("hint") else []
        print_messages([f"sshq: error: {name}: {host['error']}", *hint])
        return []
    if known == "same":
        if not quiet:
            print_lines([f"{name}: its key is recorded already"])
        return []
    if not quiet:
        print_lines(_describe_keys(host, keys))
    if fingerprints:
        wanted = [fingerprint.rstrip("=") for fingerprint in fingerprints]
        chosen = [key for key in keys if read_text(key, "fingerprint").rstrip("=") in wanted]
        if not chosen:
            print_messages([f"sshq: error: {name}: none of its keys has that fingerprint; nothing was recorded"])
    elif known == "changed" and yes:
        # Whoever sits in between looks exactly like this: a flag that is always given must not open the door.
        print_messages([
            f"sshq: error: {name}: this is not the key that is recorded, and --yes does not cover that; nothing was recorded",
            f"    hint: if the machine was reinstalled: sshq hosts trust {name} --fingerprint SHA256:…",
        ])  # fmt: skip
        chosen = []
    else:
        chosen = keys if yes or _confirm(name) else []
    return [{"name": name, "line": key.get("line"), "fingerprint": key.get("fingerprint")} for key in chosen]


def _describe_keys(host: Mapping[str, object], keys: Sequence[Mapping[str, object]]) -> list[str]:
    lines = [f"{read_text(host, 'name')} ({read_text(host, 'address')}):"]
    lines += [f"    {read_text(key, 'type')} {read_text(key, 'fingerprint')}" for key in keys]
    if host.get("known") == "changed":
        lines += ["    NOT the key that is recorded:"]
        lines += [
            f"    {read_text(old, 'type')} {read_text(old, 'fingerprint')} ({read_text(old, 'place')})"
            for old in read_items(host.get("recorded"))
        ]
    return lines


def _confirm(name: str) -> bool:
    sys.stdout.flush()
    if not sys.stdin.isatty():
        print_messages([
            f"sshq: error: {name}: not recorded, as nobody can be asked here",
            "    hint: compare the fingerprint, then: sshq hosts trust --fingerprint SHA256:… " + name,
        ])  # fmt: skip
        return False
    sys.stdout.write(f"Record the key of {name} [y/N]? ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _retry_quietly(names: list[str]) -> None:
    """A controller that is up shall use the new keys now."""
    try:
        with connect(os.environ) as client:
            client.call("hosts_retry", {"names": names})
    except SshqError:
        pass
