"""What a failed connection makes of a link: its state, the words for people, and how long it rests.

A host that is away is tried again and again, ever more seldom; where nobody answered, a try has cost it nothing, and it
shall be in use within seconds of its return.  Where each try does harm (logins that are refused, a machine that another
name already holds) the link rests until somebody has done something.  A host that has let us in before may only have
mislaid our key (a home that is not mounted): its tries are further apart, and one an hour, too few for any ban, lets a
lab recover at night.
"""

import time
from dataclasses import dataclass

from sshq.errors import AgentError, HostKeyError, LoginError, NodeError, NoReplyError, RunnerError, UnreachableHostError

BACKOFF_FIRST_S, BACKOFF_MAX_S = 1.0, 60.0
UNHEARD_MAX_S = 10.0  # between tries that nobody heard
BUG_PAUSE_S = 10.0  # after an error of our own
LOGIN_FAILURES_MAX = 3  # sshd's PerSourcePenalties would ban the head, and with it its users
LOGIN_PAUSES_S = (5.0, 30.0)  # between those of a host that has let us in before
LOGIN_REST_S = 3600.0
AGENT_LOOK_S = 30.0
UNKNOWN_KEY_LOOK_S = 5.0
TWIN_REST_S = 600.0  # each look ends the runner of the name that holds the machine; an edit of the inventory ends the rest


class TwinError(RunnerError):
    """Another name of the inventory already is this machine."""

    def __init__(self, twin: str, *, host: str) -> None:
        super().__init__(f"the same machine as {twin} (same spool): one of the two names must go", host=host)


class StrangerError(RunnerError):
    """Another machine answers than the one that a node's open launches are on."""

    def __init__(self, why: str, *, host: str, spool_id: str) -> None:
        super().__init__(
            f"IDENTITY CHANGED: {why}; jobs stay as they are until the right one is back, "
            f"or, if theirs is gone for good: sshq hosts accept {host}",
            host=host,
        )
        self.spool_id = spool_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """What a link is until its next try."""

    state: str
    note: str
    pause_s: float


class Patience:
    """Counts what went wrong in a row."""

    def __init__(self) -> None:
        self._backoff_s = BACKOFF_FIRST_S
        self._login_failures = 0
        self._was_in = False

    @property
    def next_login_is_the_last(self) -> bool:
        return self._login_failures >= LOGIN_FAILURES_MAX - 1

    def note_login(self) -> None:
        self._login_failures, self._was_in = 0, True

    def start_over(self) -> None:
        """It was there until now, however long it took to get there."""
        self._backoff_s = BACKOFF_FIRST_S

    def judge(self, error: NodeError, now: float) -> Rest:
        """Return how to go on after `error`."""
        text, backoff_s = error.message, self._backoff_s
        if isinstance(error, AgentError):
            return Rest(state="agent", note=text, pause_s=AGENT_LOOK_S)
        if isinstance(error, TwinError):
            self.start_over()
            return Rest(state="twin", note=text, pause_s=TWIN_REST_S)
        if isinstance(error, LoginError):
            return self._judge_refusal(error, now)
        unheard = isinstance(error, UnreachableHostError) and error.unheard
        self._backoff_s = min(UNHEARD_MAX_S if unheard else BACKOFF_MAX_S, backoff_s * 2)
        if isinstance(error, HostKeyError):
            pause_s = UNKNOWN_KEY_LOOK_S if error.kind == "unknown" else BACKOFF_MAX_S
            return Rest(state="host_key", note=f"{text}; {error.hint}" if error.hint else text, pause_s=pause_s)
        if isinstance(error, StrangerError):
            return Rest(state="identity", note=text, pause_s=BACKOFF_MAX_S)
        backoff_s = min(backoff_s, UNHEARD_MAX_S) if unheard else backoff_s
        state = {NoReplyError: "no_reply", RunnerError: "unusable"}.get(type(error), "unreachable")
        return Rest(state=state, note=text, pause_s=backoff_s)

    def _judge_refusal(self, error: LoginError, now: float) -> Rest:
        self._login_failures += 1
        if self._login_failures < LOGIN_FAILURES_MAX:
            pause_s, self._backoff_s = self._backoff_s, min(BACKOFF_MAX_S, self._backoff_s * 2)
            if self._was_in:
                pause_s = LOGIN_PAUSES_S[self._login_failures - 1]
            return Rest(state="auth_failed", note=error.message, pause_s=pause_s)
        self.start_over()
        again = time.strftime("%H:%M", time.localtime(now + LOGIN_REST_S))
        why = f"rests until {again}, inventory or key changes, or: sshq hosts retry {error.host}"
        return Rest(state="auth_failed", note=f"{error.message}; {why}", pause_s=LOGIN_REST_S)
