"""Keeps the garbage collector from passing over the whole queue: records refer to nothing that refers back to them.

A full collection of a hundred thousand jobs stops the loop for a third of a second, and Python makes one each time the heap has
grown by a quarter.  So whenever the queue has grown by some thousand jobs, what came since is collected once, and then set aside.
What is set aside is freed as ever when nothing refers to it; only cycles among what lived at that moment would stay.
"""

import gc
from collections.abc import Sized
from typing import Final

STEP: Final = 10_000  # jobs


class Heap:
    """A listener of the mailbox."""

    def __init__(self, jobs: Sized) -> None:
        self._jobs = jobs
        self._next = len(jobs) + STEP

    def __call__(self, _changed: object) -> None:
        """Set aside what there is, if there is much more than before."""
        count = len(self._jobs)
        if count >= self._next:
            gc.collect()
            gc.freeze()
            self._next = count + STEP
        elif count < self._next - 2 * STEP:
            self._next = count + STEP
