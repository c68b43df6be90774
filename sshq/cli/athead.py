"""Commands that are about the controller's own machine: typed on another one, they run on the head, on this terminal."""

import os
from collections.abc import Callable, Sequence

from sshq.wire.client import find_head

# They read or write files of the controller's, start it, or speak to hosts in its place.
AT_HEAD = frozenset(("up", "down", "doctor", "inventory", "hosts", "restore", "rebuild", "config", "purge"))


def hand_over(verb: str, command: Callable[[Sequence[str]], int]) -> Callable[[Sequence[str]], int]:
    """Return the command, or what becomes the same command on the head if the controller is there."""

    def run(argv: Sequence[str]) -> int:
        head = None if "--help" in argv or "-h" in argv else find_head(os.environ)
        if head is not None:
            from sshq.wire.headssh import exec_command

            exec_command(head, [verb, *argv])
        return command(argv)

    return run if verb in AT_HEAD else command
