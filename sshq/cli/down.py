"""sshq down: stop the controller; jobs run on."""

import os
import time
from collections.abc import Sequence

import click

from sshq.cli.own import own_command, run_command
from sshq.cli.printing import print_json
from sshq.errors import ControllerError, UnreachableError
from sshq.wire.client import Client, connect

STOP_S = 30.0
LIVE = ("RUNNING", "SUSPENDED", "CONFIGURING")


@own_command("down")
@click.option("--json", "as_json", is_flag=True, help="Print what was stopped as JSON.")
def _command(as_json: bool) -> int:
    """Stop the controller.  Running jobs run on; the next `sshq up` finds them, or how they ended."""
    with connect(os.environ) as client:
        path = client.path
        status = client.call("status")
        client.call("down")
    pid = status.get("pid")
    _await_end(path, pid if isinstance(pid, int) else None)
    jobs = status.get("jobs")
    counts = jobs if isinstance(jobs, dict) else {}
    running = sum(count for state, count in counts.items() if state in LIVE and isinstance(count, int))
    pending = counts.get("PENDING", 0)
    if as_json:
        print_json({"pid": pid, "running": running, "pending": pending})
        return 0
    print(f"controller stopped (pid {pid})")
    if running:
        print("1 job runs on" if running == 1 else f"{running} jobs run on", "without it; the next `sshq up` takes over again")
    if pending:
        print("1 pending job waits" if pending == 1 else f"{pending} pending jobs wait", "for the next `sshq up`")
    return 0


def run(argv: Sequence[str]) -> int:
    """Run `sshq down`."""
    return run_command(_command, "down", argv)


def _await_end(path: str, pid: int | None) -> None:
    ends_at = time.monotonic() + STOP_S
    while _answers(path) or (pid is not None and _lives(pid)):
        if time.monotonic() > ends_at:
            raise ControllerError(f"the controller (pid {pid}) is still stopping after {STOP_S:.0f} s", hint="sshq status")
        time.sleep(0.02)


def _answers(path: str) -> bool:
    try:
        Client(path).close()
    except UnreachableError:
        return False
    return True


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False
