"""sshq rebuild: make a lost store anew from the spools on the hosts."""

import os
from collections.abc import Mapping, Sequence

import click

from sshq.cli.adhoc import ask_hosts
from sshq.cli.asking import read_items, read_text
from sshq.cli.own import own_command, print_json_or, print_table, run_command
from sshq.cli.places import find_configured_places
from sshq.cli.printing import print_lines

TIMEOUT_S = 600.0


@own_command("rebuild")
@click.option("-y", "--yes", is_flag=True, help="Make the store.  Without this it is only shown what would be done.")
@click.option("--store", metavar="ID", help="The store to take over, where the hosts hold spools of several.")
@click.option("--add", is_flag=True, help="Add the jobs of hosts that were away when the store was rebuilt.")
@click.option("--force", is_flag=True, help="Take over although a runner of that store's controller still lives on a host.")
@click.option("--inventory", metavar="FILE", help="The inventory that names the hosts.")
@click.option("--state", metavar="DIR", help="State directory; default as `sshq up`.")
@click.option("--config", metavar="FILE", help="Configuration file (config.yaml); default as `sshq up`.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found and done as JSON.")
def _command(
    *, yes: bool, store: str | None, add: bool, force: bool, inventory: str | None, state: str | None, config: str | None,
    as_json: bool,
) -> int:  # fmt: skip
    """Re-create running jobs, and ended ones that nobody took note of yet, from the hosts, when the head's disk is gone.

    Needs the inventory, and keys to log in as before.  Running jobs are not touched.  With a backup of the store,
    `sshq restore` brings back more.
    """
    places = find_configured_places(os.environ, state=state, config=config, inventory=inventory)
    params: dict[str, object] = {"apply": yes, "store": store, "add": add, "force": force}
    found = ask_hosts("rebuild", params, places, timeout_s=TIMEOUT_S)
    print_json_or(as_json, found, lambda: _print(found))
    return 0


def run(argv: Sequence[str]) -> int:
    """Run `sshq rebuild`."""
    return run_command(_command, "rebuild", argv)


_COLUMNS = ("running", "ended", "unstarted")


def _print(found: Mapping[str, object]) -> None:
    hosts = read_items(found.get("hosts"))
    rows = [(read_text(host, "name"), *(host.get(key) or "-" for key in _COLUMNS), _note_of(host)) for host in hosts]
    print_lines([f"store {found.get('store')}", ""])
    print_table(("HOST", "RUNNING", "ENDED", "NOT STARTED", "NOTE"), rows)
    totals = [sum(_count(host, key) for host in hosts) for key in _COLUMNS]
    jobs = len(read_items(found.get("jobs")))
    applied = bool(found.get("applied"))
    counts = f"{totals[0]} launched and running, {totals[1]} ended and not yet settled, {totals[2]} held as they had not started"
    done = "re-created" if applied else "would be re-created"
    print_lines(["", f"{jobs} job{'' if jobs == 1 else 's'} {done}: {counts}"])
    others = [one for one in read_items(found.get("stores")) if one.get("store") != found.get("store")]
    if others:
        print_lines(["", "spools of other stores, which are left alone (--store ID takes one over):"])
        print_lines(f"  {one.get('store')}: {one.get('launches')} launches, {one.get('running')} running" for one in others)
    lost = "what cannot be had back: jobs that were pending, the history of jobs that were settled, environments of jobs"
    print_lines([] if found.get("added") else ["", lost])
    away = [read_text(host, "name") for host in hosts if host.get("error")]
    if away:
        print_lines([f"not read: {', '.join(away)}; once they are back, with the controller down: sshq rebuild --add"])
    if applied:
        print_lines([f"the store is in {found.get('state')}; `sshq up` takes the jobs over"])
    else:
        print_lines(["nothing was changed; `sshq rebuild --yes` does it"])


def _note_of(host: Mapping[str, object]) -> str:
    if host.get("error"):
        return f"not read: {host['error']}"
    notes = [] if host.get("spool") else ["nothing of this store"]
    notes += [f"{host['known']} known already"] if host.get("known") else []
    notes += [f"{host['nameless']} without a request, left alone"] if host.get("nameless") else []
    return ", ".join(notes)


def _count(host: Mapping[str, object], key: str) -> int:
    value = host.get(key)
    return value if isinstance(value, int) else 0
