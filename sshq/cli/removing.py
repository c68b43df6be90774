"""sshq hosts remove: a host leaves, and nothing of ours is left on it."""

import os
import time
from collections.abc import Mapping, Sequence

import click

from sshq.cli.asking import read_text
from sshq.cli.own import own_command, print_json_or, run_command
from sshq.cli.printing import print_lines, print_messages
from sshq.wire.client import connect

CALL_S = 120.0
PAUSE_S = 0.25
PATIENCE_S = 120.0  # for cancelled jobs to be gone: kill_wait is 30 s
CONNECTING_S = 30.0


@own_command("hosts remove")
@click.argument("name", metavar="HOST")
@click.option("--purge", is_flag=True, help="Remove our spool there, once it is proved that no process of ours is left.")
@click.option("--wait", "wait", is_flag=True, help="Wait for its jobs to end, however long they take.")
@click.option("--force", is_flag=True, help="Cancel its jobs, and remove launches that the controller does not know, too.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def _command(*, name: str, purge: bool, wait: bool, force: bool, as_json: bool) -> int:
    """Take a host off: it gets no new jobs, and with --purge its spool is removed.  May be said again at any time.

    The inventory file is not touched: take the host out of it when this is done.  Spools of other controllers on that
    host are named and left alone.
    """
    found = _ask(name, purge=purge, force=force)
    began_at = time.monotonic()
    while _is_under_way(found.get("outcome"), time.monotonic() - began_at, wait=wait, force=force):
        time.sleep(PAUSE_S)
        found = _ask(name, purge=purge, force=force)
    print_json_or(as_json, found, lambda: _print(name, found, purge=purge))
    return 0 if found.get("outcome") in ("removed", "drained") else 1


def run(argv: Sequence[str]) -> int:
    """Run `sshq hosts remove`."""
    return run_command(_command, "hosts remove", argv)


def _is_under_way(outcome: object, waited_s: float, *, wait: bool, force: bool) -> bool:
    if outcome == "connecting":
        return waited_s < CONNECTING_S
    return outcome == "busy" and (wait or (force and waited_s < PATIENCE_S))


def _ask(name: str, *, purge: bool, force: bool) -> dict[str, object]:
    with connect(os.environ) as client:
        return client.call("hosts_remove", {"name": name, "purge": purge, "force": force}, timeout_s=CALL_S)


def _print(name: str, found: Mapping[str, object], *, purge: bool) -> None:
    printers = {
        "busy": _print_busy, "connecting": _print_unreachable, "unreachable": _print_unreachable, "kept": _print_kept,
        "removed": _print_removed,
    }  # fmt: skip
    outcome = read_text(found, "outcome")
    if outcome in printers:
        printers[outcome](name, found)
        return
    again = "" if purge else f"; `sshq hosts remove {name} --purge` removes its spool"
    print_lines([f"{name} is drained and runs none of our jobs{again}", *_inventory(name, found)])


def _print_busy(name: str, found: Mapping[str, object]) -> None:
    jobs = _join(found.get("jobs"))
    print_messages([
        f"sshq: error: {name} still has jobs: {jobs}",
        "    It is drained and gets no new ones; nothing was removed.",
        f"    hint: sshq hosts remove {name} --purge --wait waits for them, --force cancels them",
    ])  # fmt: skip


def _print_unreachable(name: str, found: Mapping[str, object]) -> None:
    jobs = _join(found.get("jobs"))
    lines = [
        f"sshq: error: {name} cannot be reached: {read_text(found, 'note', 'no reason known')}",
        "    It is drained and gets no new jobs; nothing was removed there.  What is left to do:",
        f"    - when it is back: sshq hosts remove {name} --purge",
        f"    - or on the machine itself, when no job runs there: rm -rf {read_text(found, 'spool')}",
    ]
    if jobs:
        lines.append(f"    - its jobs keep their state: {jobs}; if the machine is gone for good:")
        lines.append(f"      scontrol update nodename={name} state=down reason=gone")
    print_messages([*lines, *(f"    - {line}" for line in (*_inventory(name, found), *_keys(name, found)))])


_KEPT = {
    "alive": "{} launches still run there that this controller does not know; --force kills them",
    "records": "{} launches lie there that this controller does not know, or has not settled yet; --force removes them",
    "survivors": "processes cannot be killed: {}",
    "runner": "another controller of this store is connected to it (runner {})",
    "owner": "it belongs to another account",
    "space": "it could not be removed",
}


def _print_kept(name: str, found: Mapping[str, object]) -> None:
    kept = found.get("kept")
    lines = [f"sshq: error: the spool on {name} was not removed"]
    for why, figure, path in kept if isinstance(kept, list) else ():
        lines.append(f"    {path}: {_KEPT.get(why, str(why)).format(figure)}")
    print_messages([*lines, f"    hint: sshq doctor {name}"])


def _print_removed(name: str, found: Mapping[str, object]) -> None:
    removed, killed, records = found.get("removed"), found.get("killed"), found.get("records")
    if removed:
        print_lines(f"{name}: removed {path}" for path in (removed if isinstance(removed, list) else ()))
        if killed:
            print_lines([f"{name}: ended {killed} process{'' if killed == 1 else 'es'} that jobs had left behind"])
        if records:
            print_lines([f"{name}: {records} launches went with it"])
    else:
        print_lines([f"{name}: nothing of this controller is there"])
    print_lines([f"{name}: no process of ours is left there"])
    print_lines(["", "what only you can undo:"])
    print_lines(f"  - {line}" for line in (*_inventory(name, found), *_keys(name, found)))
    found_others = found.get("others")
    others = found_others if isinstance(found_others, list) else []
    print_lines(f"  - {path} belongs to another controller and was left alone" for path in others)


def _inventory(name: str, found: Mapping[str, object]) -> list[str]:
    path = found.get("inventory")
    return [f"take {name} out of the inventory {path}" if path else f"take {name} out of the inventory"]


def _keys(name: str, found: Mapping[str, object]) -> list[str]:
    account = read_text(found, "user") or read_text(found, "account") or "its account"
    lines = [f"the head's key in ~/.ssh/authorized_keys of {account} on {name}", f"the key of {name} in known_hosts here"]
    if found.get("linger"):
        lines.append(f"lingering of {account} on {name}, if it was for sshq: loginctl disable-linger {account}")
    return lines


def _join(value: object) -> str:
    return ", ".join(str(one) for one in value) if isinstance(value, list) else ""
