"""The one tree of exceptions.

    SshqError
    ├── UserError            exit 1   the request cannot be right
    │   ├── OptionError               source (flag, variable, file:line), value, expected
    │   ├── InventoryError            file, line, column, the line itself, suggestion
    │   └── RefusedError              the controller said no: code, details
    ├── ControllerError      exit 1   UnreachableError (socket), VersionMismatchError
    ├── NodeError                     never ends a job by itself
    │   ├── UnreachableHostError, LoginError, AgentError, HostKeyError, NoReplyError
    │   └── RunnerError               exit status and last lines, verbatim
    ├── StoreError           exit 1   missing, foreign, damaged, too new: with the way out
    └── BugError             exit 70  IllegalTransitionError, CheckFailedError

Library code raises; only `cli/` prints and only `controller/` logs and goes on.  `render` gives the lines for
stderr: `program: error: first line`, then the user's own text with its place, then one `hint:` to paste.
"""


class SshqError(Exception):
    """Base of all.  `message` is the first line (Slurm's words where it has them)."""

    exit_code = 1

    def __init__(self, message: str, *, detail: tuple[str, ...] = (), hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint
        self._notes: list[str] = []

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle it whole: most of its classes take more than their message, which is all that Exception would pass on."""
        return _rebuild, (type(self), self.args, self.__dict__)

    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]
        """What Python shows below the message in a traceback: the details and the next step, as `render` does."""
        return [*(f"    {line}" for line in self.detail), *([f"    hint: {self.hint}"] if self.hint else ()), *self._notes]

    def add_note(self, note: str, /) -> None:
        """As every exception's: one more line below."""
        self._notes.append(note)

    def render(self, program: str) -> str:
        """Return the text for stderr, ending in a newline."""
        head, *rest = self.message.split("\n")
        lines = [f"{program}: error: {head}", *rest, *(f"    {line}" for line in self.detail)]
        if self.hint:
            lines.append(f"    hint: {self.hint}")
        return "\n".join(lines) + "\n"


def _rebuild(kind: type[SshqError], args: tuple[object, ...], state: dict[str, object]) -> SshqError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class UserError(SshqError):
    """The request cannot be right."""


class OptionError(UserError):
    """An option or its value; `source` says where it stood: `--time`, `SBATCH_TIMELIMIT`, `job.sh:3`."""

    def __init__(
        self, message: str, *, source: str = "", detail: tuple[str, ...] = (), hint: str | None = None, exit_code: int = 1
    ) -> None:
        super().__init__(message, detail=detail, hint=hint)
        self.source = source
        self.exit_code = exit_code


class InventoryError(UserError):
    """A fault in the inventory or configuration, with its place (line and column count from 1)."""

    def __init__(
        self, message: str, *, file: str, line: int = 0, column: int = 0, text: str = "", suggestion: str | None = None,
        width: int = 1, hint: str | None = None,
    ) -> None:  # fmt: skip
        place = f"{file}:{line}:{column}" if line else file
        detail: tuple[str, ...] = ()
        if text and line:
            gutter = f"{line:>4} | "
            mark = " " * (len(gutter) - 2) + "| " + " " * (column - 1) + "^" * max(1, width)
            detail = (gutter + text, mark + (f" did you mean `{suggestion}`?" if suggestion else ""))
        elif suggestion:
            detail = (f"did you mean `{suggestion}`?",)
        super().__init__(f"{place}: {message}", detail=detail, hint=hint)
        self.file, self.line, self.column, self.suggestion = file, line, column, suggestion
        self.bare_message = message


class RefusedError(UserError):
    """The controller said no.  `code` is a stable word for programs, the message is Slurm's text."""

    def __init__(self, message: str, *, code: str, detail: tuple[str, ...] = (), hint: str | None = None) -> None:
        super().__init__(message, detail=detail, hint=hint)
        self.code = code


class ControllerError(SshqError):
    """The controller could not be asked."""


class UnreachableError(ControllerError):
    """Nobody listens on the socket."""

    def __init__(self, socket: str) -> None:
        super().__init__(
            "Unable to contact slurm controller (connect failure)",
            detail=(f"No sshq controller listens on {socket}", "Jobs already running go on without it; nothing is lost."),
            hint="sshq up",
        )
        self.socket = socket


class VersionMismatchError(ControllerError):
    """Client and controller do not speak the same protocol version."""


class NodeError(SshqError):
    """Something about one host; it never ends a job by itself.  `host` is the inventory name."""

    def __init__(self, message: str, *, host: str = "", detail: tuple[str, ...] = (), hint: str | None = None) -> None:
        super().__init__(message, detail=detail, hint=hint)
        self.host = host


class UnreachableHostError(NodeError):
    """No TCP or SSH connection: off, cut, refused, name unknown, time-out.  `unheard`: the try has cost the host nothing."""

    unheard = False


class LoginError(NodeError):
    """sshd refused every credential we have."""


class AgentError(NodeError):
    """No credential could be offered at all: the agent is gone, or the key is locked."""


class HostKeyError(NodeError):
    """The host key is unknown or not the one recorded.  `kind` is "unknown" or "changed"."""

    def __init__(self, message: str, *, kind: str, host: str = "", detail: tuple[str, ...] = (), hint: str | None = None) -> None:
        super().__init__(message, host=host, detail=detail, hint=hint)
        self.kind = kind


class NoReplyError(NodeError):
    """Connected, but our runner's first line never came: noisy or odd login shell, ForceCommand, no POSIX shell."""


class RunnerError(NodeError):
    """The runner answered that it cannot work: its words verbatim."""


class StoreError(SshqError):
    """The store is missing, foreign, damaged or too new; nothing was changed."""


class BugError(SshqError):
    """Our fault: the context goes to the log."""

    exit_code = 70


class IllegalTransitionError(BugError):
    """A trigger met a job that cannot take it."""


class CheckFailedError(BugError):
    """An invariant does not hold."""
