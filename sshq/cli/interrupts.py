"""Ctrl-C as srun takes it: the first asks whether it is meant, a second within a second ends the step."""

import signal
import time
from collections.abc import Callable

from sshq.cli.printing import print_messages

WITHIN_S = 1.0


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
        self._old: dict[int, object] = {}

    def __enter__(self) -> "Interrupts":
        takers = {signal.SIGINT: self._interrupt, signal.SIGTERM: self._terminate, signal.SIGHUP: self._terminate}
        takers |= dict.fromkeys((signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM), self._pass_on)
        self._old = {number: signal.signal(number, taker) for number, taker in takers.items()}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _interrupt(self, number: int, _frame: object) -> None:
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

    def _terminate(self, _number: int, _frame: object) -> None:
        print_messages(["srun: forcing job termination"])
        self._finish()

    def _finish(self) -> None:
        self.ended = True
        self._end()

    def _pass_on(self, number: int, _frame: object) -> None:
        self._send(number)
