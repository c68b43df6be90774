"""How far the files of jobs are that are waited for: one line on a terminal that is written over; nothing elsewhere."""

import os

from sshq.cli.terminal import write_over

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class StageLine:
    """Takes in what the controller tells; `clear` before anything else is written there."""

    def __init__(self, program: str) -> None:
        self.is_wanted = os.isatty(2)
        self._program = program
        self._notes: dict[object, str] = {}
        self._is_there = False

    def take(self, told: "Mapping[str, object]") -> bool:
        """Show it, if it is about files on their way; returns whether it was."""
        note = told.get("staging")
        if not isinstance(note, str):
            return False
        if note:
            self._notes[told.get("job_id")] = note
        else:
            self._notes.pop(told.get("job_id"), None)
        self._show()
        return True

    def clear(self) -> None:
        """Take the line away."""
        if self._is_there:
            self._is_there = False
            write_over("")

    def _show(self) -> None:
        if not self._notes:
            self.clear()
            return
        job_id, note = next(iter(self._notes.items()))
        more = f" (+{len(self._notes) - 1})" if len(self._notes) > 1 else ""
        self._is_there = True
        write_over(f"{self._program}: job {job_id}: {note}{more}")
