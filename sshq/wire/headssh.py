"""The head: where the controller is if that is another machine, as it is written down, and the ssh processes that lead there."""

import _socket as socket
import os

from sshq.errors import UserError
from sshq.wire.client import list_client_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SIGPIPE, SIGTERM = 13, 15
SSH_FAILED = 255
OPTIONS = ("-a", "-x", "-oClearAllForwardings=yes", "-oRemoteCommand=none")
# Where sshq is looked for besides the PATH of a shell that nobody sits at.
USUAL = (
    "sshq", "~/.local/bin/sshq", "~/bin/sshq", "~/.venv/bin/sshq", "~/venv/bin/sshq", "/usr/local/bin/sshq", "/opt/sshq/bin/sshq",
)  # fmt: skip

_children: list[int] = []  # ssh processes that have not been waited for


class Head:
    """Where the controller is, and how to get there.

    Attributes:
        name: as ssh takes it: anna@head, a name of ~/.ssh/config, ssh://anna@head:2222.
        command: of sshq there, read by sh; "": looked for.
        ssh: the program and options, read by sh.
    """

    __slots__ = ("command", "name", "ssh")

    def __init__(self, name: str, command: str = "", ssh: str = "ssh") -> None:
        self.name, self.command, self.ssh = name, command, ssh


def read_head(environ: "Mapping[str, str]") -> Head | None:
    """Return the head of $SSHQ_HEAD, else of the first client.yaml there is; None: the controller is on this machine.

    Raises:
        UserError: the file says what cannot be understood.

    """
    settings: dict[str, str] = {}
    path = next((path for path in list_client_files(environ) if os.path.exists(path)), None)
    if path is not None:
        settings = _read_file(path)
    name = environ.get("SSHQ_HEAD", settings.get("head", "")).strip()
    if not name:
        return None
    if name.startswith("-") or any(letter.isspace() or letter < " " for letter in name):
        raise UserError(f"`{name}` names no head node", hint="export SSHQ_HEAD=user@host")
    command = environ.get("SSHQ_HEAD_COMMAND") or settings.get("command", "")
    return Head(name, command, environ.get("SSHQ_SSH") or settings.get("ssh") or "ssh")


def _read_file(path: str) -> dict[str, str]:
    """Lines `key: value`, a small part of YAML: reading all of it would cost every command its time."""
    settings: dict[str, str] = {}
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", hint="export SSHQ_HEAD=  (empty) does without it") from None
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#") or text == "---":
            continue
        key, colon, value = text.partition(":")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        elif " #" in value:
            value = value.partition(" #")[0].strip()
        if not colon or key.strip() not in ("head", "command", "ssh"):
            raise UserError(
                f"{path}:{number}: not understood: {text}",
                hint="its lines are `head: user@host`, `command: ~/venv/bin/sshq`, `ssh: ssh -p 2222`",
            )
        settings[key.strip()] = value
    return settings


# ---- processes -----------------------------------------------------------------------------------------------


def start_command(head: Head, words: "Sequence[str]") -> tuple[socket.socket, int, int | None]:
    """Start `sshq WORDS` on the head.

    Returns:
        A stream socket that is its standard input and output (`shutdown(SHUT_WR)` ends its input), the pid of ssh, to be waited
        for, and a file with what ssh and the command wrote to stderr; None where that is a terminal, which shows it.

    """
    ours, theirs = socket.socketpair()
    errors = None if _is_terminal(2) else _open_memory()
    actions = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0), (os.POSIX_SPAWN_DUP2, theirs.fileno(), 1)]
    if errors is not None:
        actions.append((os.POSIX_SPAWN_DUP2, errors, 2))
    # Ctrl-C is for us to judge: of one that asks srun how it is, the connection must not die.
    program = f'trap "" INT QUIT; exec {head.ssh} "$@"'
    options = [*OPTIONS, "-oServerAliveInterval=20"]
    if os.environ.get("SSHQ_BATCH"):  # a Tab shall ask for no password
        options += ["-oBatchMode=yes", "-oConnectTimeout=3"]
    argv = ["sh", "-c", program, "sh", "-T", *options, "--", head.name, write_command(head, words)]
    try:
        pid = os.posix_spawn("/bin/sh", argv, os.environ, file_actions=actions, setsigdef=[SIGPIPE])
    finally:
        theirs.close()
    _children.append(pid)
    return ours, pid, errors


def exec_command(head: Head, words: "Sequence[str]") -> int:
    """Become `sshq WORDS` on the head, on this terminal if there is one; ssh's own options are the user's."""
    terminal = "-t" if _is_terminal(0) and _is_terminal(1) else "-T"
    argv = [terminal, *OPTIONS, "--", head.name, write_command(head, words)]
    os.execv("/bin/sh", ["sh", "-c", f'exec {head.ssh} "$@"', "sh", *argv])  # noqa: S606


def write_command(head: Head, words: "Sequence[str]") -> str:
    """Return the line that runs `sshq WORDS` there, for whatever shell reads it."""
    line = " ".join(quote(word) for word in words)
    missing = 'echo "sshq was not found here" >&2'
    if list(words) == ["relay"]:
        missing = "printf '\\n%s{\"error\":\"not_found\"}\\n' 'sshq-relay '"
    if head.command:
        script = f"{head.command} {line}; s=$?; case $s in 126|127) {missing} ;; esac; exit $s"
    else:
        usual = " ".join(USUAL)
        script = f'for s in {usual}; do command -v "$s" >/dev/null 2>&1 && exec "$s" {line}; done; {missing}; exit 127'
    # An empty SSHQ_HEAD: there it is this machine's own controller that is meant, whatever a shared home says.
    return f"exec /bin/sh -c {quote(f'SSHQ_HEAD=; export SSHQ_HEAD; {script}')}"


def quote(word: str) -> str:
    """Return a word for sh; csh and fish read it alike.  `shlex` would cost each command some milliseconds."""
    return "'" + word.replace("'", "'\"'\"'") + "'"


def reap() -> None:
    """Take the status of ssh processes that have ended."""
    for pid in list(_children):
        try:
            if os.waitpid(pid, os.WNOHANG)[0]:
                _children.remove(pid)
        except (ChildProcessError, ValueError):  # a child of the process we were forked from, or another thread was first
            if pid in _children:
                _children.remove(pid)


def wait_for(pid: int) -> int:
    if pid in _children:
        _children.remove(pid)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return SSH_FAILED


def end_child(pid: int) -> None:
    if pid in _children:
        try:
            os.kill(pid, SIGTERM)
        except OSError:
            pass


def _open_memory() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("ssh-stderr", os.MFD_CLOEXEC)
    from tempfile import TemporaryFile  # not on Linux

    with TemporaryFile() as file:
        return os.dup(file.fileno())


def _is_terminal(descriptor: int) -> bool:
    try:
        return os.isatty(descriptor)
    except OSError:
        return False
