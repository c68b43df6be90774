"""scontrol create, update, delete and show of reservations."""

import sys
import time
from collections.abc import Sequence

from sshq.cli.asking import ask_controller, read_items, read_text
from sshq.cli.printing import print_json
from sshq.errors import RefusedError
from sshq.slurm.getopt import Parsed
from sshq.slurm.messages import ExactError
from sshq.slurm.reservation import KEYS, parse_reservation, read_deleted, render_reservation


def create(words: Sequence[str], _parsed: Parsed) -> int:
    """Carry out `scontrol create reservation …`; prints the name."""
    key = words[0].partition("=")[0].lower() if words else ""
    if key in ("partitionname", "nodename", "node", "partition"):
        raise ExactError((f"Error creating the {'partition' if key.startswith('part') else 'node'}: Access/permission denied",),
                         hint="hosts and groups come from the inventory")  # fmt: skip
    if key not in KEYS and not any(word.partition("=")[0].lower() in KEYS for word in words):
        raise ExactError((f"Invalid creation option: {' '.join(words)}",) if words else ("too few arguments for keyword:create",))
    wanted = parse_reservation(words, time.time())
    reply = _ask("create", wanted.name, wanted.changes, "Error creating the reservation")
    print(f"Reservation created: {reply}")
    return 0


def update(words: Sequence[str]) -> int:
    """Carry out `scontrol update reservationname=…`."""
    wanted = parse_reservation(words, time.time(), update=True)
    _ask("update", wanted.name, wanted.changes, "Error updating the reservation")
    print("Reservation updated.")
    return 0


def delete(words: Sequence[str], _parsed: Parsed) -> int:
    """Carry out `scontrol delete reservationname=…`."""
    _ask("delete", read_deleted(words), {}, f"delete_reservation {words[0]}")
    return 0


def _ask(verb: str, name: str | None, changes: dict[str, object], head: str) -> str:
    try:
        reply = ask_controller("scontrol", "reservation", {"verb": verb, "name": name, "changes": changes})
    except RefusedError as error:
        raise ExactError((f"{head}: {error.message}",), detail=error.detail, hint=error.hint) from None
    return read_text(reply, "name")


def show_reservations(name: str | None, parsed: Parsed) -> int:
    """Carry out `scontrol show reservation [NAME]`."""
    found = read_items(ask_controller("scontrol", "info", {}).get("reservations"))
    chosen = [one for one in found if name in (None, one.get("name"))]
    if parsed.has("json"):
        print_json({"reservations": list(chosen)})
        return 0
    if not chosen:
        print("No reservations in the system" if name is None else f"Reservation {name} not found")
        return 0 if name is None else 1
    now = time.time()
    for one in chosen:
        sys.stdout.write(render_reservation(one, now, oneline=parsed.has("oneline")))
    return 0
