"""sshq up: start the controller, and say in one table what it took on."""

import os
import time
from collections.abc import Sequence

import click

from sshq.cli.hosttable import print_hosts
from sshq.cli.own import own_command, print_json_or, run_command
from sshq.cli.places import Places, clean_environment, find_configured_places
from sshq.cli.starting import await_answer, exec_daemon, start_daemon
from sshq.errors import ControllerError, SshqError, UnreachableError
from sshq.wire.client import SYSTEM_SOCKET, Client, own_socket

HOSTS_S = 8.0  # how long `up` looks on while hosts are being connected; they go on being connected without it
UNSETTLED = ("connecting", "probing", "new")


@own_command("up")
@click.option("--inventory", metavar="FILE", help="Inventory of hosts (default: SSHQ_INVENTORY, then ~/.config/sshq, /etc/sshq).")
@click.option("--config", metavar="FILE", help="Configuration file (config.yaml).")
@click.option("--state", metavar="DIR", help="Directory of the controller's state; must be on a local file system.")
@click.option("--socket", metavar="PATH", help="Where clients reach the controller.")
@click.option("--foreground", is_flag=True, help="Stay in the foreground and log to stderr too, as for systemd.")
@click.option("--no-wait", is_flag=True, help="Do not wait for hosts to be connected.")
@click.option("--json", "as_json", is_flag=True, help="Print what was taken on as JSON.")
def _command(
    *, inventory: str | None, config: str | None, state: str | None, socket: str | None,
    foreground: bool, no_wait: bool, as_json: bool,
) -> int:  # fmt: skip
    """Start the controller of this machine.

    Returns when it answers; it goes on in the background.  Jobs that were left running are adopted.
    """
    places = find_configured_places(os.environ, state=state, socket=socket, config=config, inventory=inventory)
    _refuse_second(places)
    _prepare(places)
    if foreground:
        exec_daemon(places, clean_environment(os.environ))
    pid = start_daemon(places, clean_environment(os.environ))
    with await_answer(places, pid) as client:
        hosts = _await_hosts(client, wait=not no_wait)
        _link_default_socket(places)
    print_json_or(as_json, hosts, lambda: print_hosts(hosts, pid))
    return 0


def run(argv: Sequence[str]) -> int:
    """Run `sshq up`."""
    return run_command(_command, "up", argv)


def _refuse_second(places: Places) -> None:
    others = [places.socket] if places.home else [places.socket, own_socket(os.environ), SYSTEM_SOCKET]
    for path in dict.fromkeys(others):
        try:
            with Client(path) as client:
                status = client.call("status", timeout_s=5)
        except UnreachableError:
            continue
        except SshqError:
            status = {}
        whose = "the system-wide controller" if path == SYSTEM_SOCKET else "a controller"
        raise ControllerError(
            f"{whose} is already running" + (f" (pid {status['pid']})" if "pid" in status else ""),
            detail=(f"it listens on {path}",),
            hint="SSHQ_HOME=DIR sshq up starts a separate one" if path == SYSTEM_SOCKET else "sshq status",
        )


def _prepare(places: Places) -> None:
    """Make the directories, each 0700 if it is new; one that others could write to would give them the socket."""
    os.umask(0o77)
    for directory in dict.fromkeys((places.state, os.path.dirname(places.socket))):
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            mode = os.stat(directory).st_mode
        except OSError as error:
            raise ControllerError(f"{directory}: {error.strerror}", hint="sshq up --state DIR") from None
        if not os.access(directory, os.W_OK):
            raise ControllerError(f"{directory} cannot be written to", hint="sshq up --state DIR")
        if mode & 0o022 and not mode & 0o1000:
            raise ControllerError(f"{directory} can be written to by others", hint=f"chmod go-w {directory}")


def _await_hosts(client: Client, *, wait: bool) -> dict[str, object]:
    ends_at = time.monotonic() + (HOSTS_S if wait else 0.0)
    while True:
        found = client.call("hosts")
        hosts = found.get("hosts")
        states = [host.get("state") for host in hosts if isinstance(host, dict)] if isinstance(hosts, list) else []
        if not any(state in UNSETTLED for state in states) or time.monotonic() >= ends_at:
            return found
        time.sleep(0.1)


def _link_default_socket(places: Places) -> None:
    """With --state or --socket, clients still look in the default place: leave them a link there."""
    default = own_socket(os.environ)
    if places.home or places.socket == default:
        return
    try:
        os.makedirs(os.path.dirname(default), mode=0o700, exist_ok=True)
        if os.path.lexists(default) and (os.path.islink(default) or not os.path.exists(default)):
            os.unlink(default)
        os.symlink(places.socket, default)
    except OSError as error:
        fault = f"{default}: {error.strerror}"
        click.echo(f"sshq: warning: clients will not find {places.socket} by themselves: {fault}", err=True)
