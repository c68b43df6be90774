"""Ctrl-C as srun takes it: the first asks whether it is meant, a second within a second ends the step."""

import signal
import threading
import time
from collections.abc import Callable

from sshq.cli.printing import print_messages

WITHIN_S = 1.0
TAKEN = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM,
)  # fmt: skip


class Interrupts:
    """While in use, signals to this srun are for its step.

    Args:
        name: the step, as messages name it.
        tasks: how many tasks it has.
        send: passes a signal on to the step.
        end: ends it.
        quick: --quit-on-interrupt: the first one ends it.
        silent: --disable-status: the first one is passed on without a word of the tasks.
    """

    def __init__(
        self, name: str, tasks: int, *, send: Callable[[int], None], end: Callable[[], None], quick: bool, silent: bool
    ) -> None:
        self.ended = False
        self._name, self._tasks = name, tasks
        self._send, self._end = send, end
        self._quick, self._silent = quick, silent
        self._last_at = -WITHIN_S
        self._stop = False
        self._taker = threading.Thread(target=self._take, daemon=True)

    def __enter__(self) -> "Interrupts":
        # Blocked, and waited for by one thread: a handler could interrupt another one that is printing, and would not run before
        # a read returns that the main thread enters just when the signal comes.
        signal.pthread_sigmask(signal.SIG_BLOCK, TAKEN)  # threads that are made from here on inherit it
        self._taker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        if self._taker.ident is not None and self._taker.is_alive():
            signal.pthread_kill(self._taker.ident, signal.SIGALRM)
            self._taker.join(1)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, TAKEN)

    def _take(self) -> None:
        while True:
            number = int(signal.sigwait(TAKEN))
            if self._stop:
                return
            if number == signal.SIGINT:
                self._interrupt(number)
            elif number in (signal.SIGTERM, signal.SIGHUP):
                print_messages(["srun: forcing job termination"])
                self._finish()
            else:
                self._send(number)

    def _interrupt(self, number: int) -> None:
        now = time.monotonic()
        if self._quick or now - self._last_at < WITHIN_S:
            print_messages([f"srun: sending Ctrl-C to {self._name}"])
            self._send(number)
            print_messages(["srun: Job step aborted: Waiting up to 32 seconds for job step to finish."])
            self._finish()
        elif self._silent:
            print_messages([f"srun: sending Ctrl-C to {self._name}"])
            self._send(number)
        else:
            tasks = "task 0" if self._tasks == 1 else f"tasks 0-{self._tasks - 1}"
            print_messages([
                "srun: interrupt (one more within 1 sec to abort)", f"srun: {self._name} {tasks}: running",
            ])  # fmt: skip
        self._last_at = now

    def _finish(self) -> None:
        self.ended = True
        self._end()
