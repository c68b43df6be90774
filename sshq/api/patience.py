"""Submitting until it is certain what became of it: one token for all tries, so that none makes a second job."""

import time
from collections.abc import Callable
from typing import TypeVar

from sshq.errors import RefusedError, UnreachableError
from sshq.wire.client import Client as Wire
from sshq.wire.client import LostReplyError

PATIENCE_S = 10.0  # for a controller that went away with our request
CROWD_PATIENCE_S = 30.0  # for a place among a thousand others that ask at the same time
PAUSE_S = 0.2
T = TypeVar("T")


def submit_patiently(connect: Callable[[], Wire], submit: Callable[[Wire, bool], T]) -> T:
    """Return what `submit` does over a connection; over another one, where its reply was lost or the controller is crowded.

    Args:
        connect: makes a connection.
        submit: sends the request and returns what is made of its reply; it is told whether this is the first try.

    Raises:
        RefusedError: the controller said no.
        UnreachableError: nobody listens.
        LostReplyError: nobody answered in time; it may have been taken.

    """
    ends_at: float | None = None
    crowded_until = time.monotonic() + CROWD_PATIENCE_S
    first = True
    while True:
        try:
            with connect() as wire:
                return submit(wire, first)
        except RefusedError as error:
            if error.code != "crowded" or time.monotonic() > crowded_until:
                raise
        except LostReplyError:
            ends_at = ends_at or time.monotonic() + PATIENCE_S  # it may have been taken
            if time.monotonic() > ends_at:
                raise
        except UnreachableError:
            if ends_at is None or time.monotonic() > ends_at:
                raise
        first = False
        time.sleep(PAUSE_S)
