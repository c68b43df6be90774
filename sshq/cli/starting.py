"""How the controller's process comes to life: detached, in a clean environment, watched until it answers or dies."""

import os
import sys
import time
from collections.abc import Mapping
from typing import NoReturn

from sshq.cli.places import Places
from sshq.errors import ControllerError, UnreachableError
from sshq.wire.client import Client

START_S = 30.0  # a large history is opened in a second; this is for a machine under load
LOG_NAME = "startup.log"
LINES_SHOWN = 30


class StartError(ControllerError):
    """The controller died before it answered: what it said is shown as it is."""

    def __init__(self, said: str, log: str) -> None:
        super().__init__("the controller did not start", detail=(f"it said nothing; its log is {log}",))
        self.said = said

    def render(self, program: str) -> str:
        """Return the controller's own words, which are an error text already."""
        return self.said or super().render(program)


def command_line(places: Places) -> list[str]:
    """Return the argument list of the controller's process."""
    return [sys.executable, "-P", "-s", "-m", "sshq.controller.start", *places.arguments()]


def exec_daemon(places: Places, environ: Mapping[str, str]) -> NoReturn:
    """Become the controller, in the foreground: the same pid, for systemd."""
    os.umask(0o77)
    command = [*command_line(places), "--foreground"]
    sys.stdout.flush()
    os.execve(command[0], command, dict(environ))  # noqa: S606


def start_daemon(places: Places, environ: Mapping[str, str]) -> int:
    """Start the controller detached from terminal, session and working directory; return its pid."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            told = pipe.read()
        os.waitpid(child, 0)
        if not told:
            raise ControllerError("the controller could not be started", hint="sshq up --foreground")
        return int(told)
    # The first child leaves the session; the second, no longer a session leader, can never get a terminal again.
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.close(reading)
        _become_daemon(places, environ, writing)
    finally:
        os._exit(127)


def _become_daemon(places: Places, environ: Mapping[str, str], writing: int) -> None:
    os.umask(0o77)
    os.chdir("/")
    log = os.open(os.path.join(places.state, LOG_NAME), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    os.write(writing, str(os.getpid()).encode())
    os.close(writing)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.closerange(3, 256)
    command = command_line(places)
    os.execve(command[0], command, dict(environ))  # noqa: S606


def await_answer(places: Places, pid: int) -> Client:
    """Return a connection as soon as the controller answers.

    Raises:
        StartError: it died before; with its own words.
        ControllerError: it lives, but says nothing for half a minute.

    """
    ends_at = time.monotonic() + START_S
    while True:
        alive = _is_alive(pid)
        try:
            client = Client(places.socket)
        except UnreachableError:
            pass
        else:
            client.call("ping", timeout_s=START_S)
            return client
        log = os.path.join(places.state, LOG_NAME)
        if not alive:
            raise StartError(_read_tail(log), log)
        if time.monotonic() > ends_at:
            raise ControllerError(
                f"the controller (pid {pid}) does not answer after {START_S:.0f} s", detail=(f"see {log}",), hint="sshq status"
            )
        time.sleep(0.01)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # Our grandchild is init's to reap; where nobody does it stays as a zombie.
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def _read_tail(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()[-LINES_SHOWN:]
    except OSError:
        return ""
    return "\n".join(lines) + "\n" if lines else ""
