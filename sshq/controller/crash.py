"""Named crash points: `SSHQ_CRASH=point` or `point:N` ends the process with SIGKILL the first or Nth time it gets there.

For tests of what survives; without the variable a point costs one call of an empty function.  What each step of a
job's life leaves behind when the controller dies there:

| step | what has happened by then | points |
|---|---|---|
| P0 | nothing of a submission is stored | submit.environ_kept, submit.before_commit, mailbox.before_commit, store.before_commit |
| P1 | the job is stored, its number is not said | store.after_commit, mailbox.after_commit, submit.after_commit |
| P2 | a launch is decided, or stored too, and not sent | decide.before_commit, decide.after_commit, hosts.before_send |
| files | the node said what it lacks, has some, has all of it | staging.opened, staging.mid_send, staging.sent |
| files | it has the tree; the launch is not sent | staging.grown |
| P3 | a part of the launch is on its way | hosts.mid_send |
| P4-P6 | all is sent; the node claims, takes the arbiter, starts | hosts.after_send |
| P7 | the node said that it runs, and nobody noted it | hosts.started |
| P8 | its record has come, and nobody read it | hosts.ended |
| P9 | the record is read, or the output too, and not stored | settle.before_commit, outputs.fetched, outputs.published |
| P9 | files that come back are known, come, are there | staged.listed, staged.fetched, staged.published, staged.synced |
| P10 | the end is stored, the node does not know | settle.after_commit, hosts.before_ack |
| P11-P12 | the node raises its floor and removes files | hosts.after_ack |
| P13 | a cancel is asked for, or stored too, and no signal sent | cancel.before_commit, cancel.after_commit, hosts.before_kill |
| P14 | the signal is sent, there is no record yet | hosts.after_kill |
| reconnect | a generation; the first listing; a fence | hosts.reserved, hosts.listed, hosts.before_fence, hosts.after_fence |
| P15 | the inventory is swapped | fleet.before_swap, fleet.after_swap |
| P16 | a backup is whole and gets its name | backup.before_rename, backup.after_rename |
| P17 | a store is made or brought to a newer schema | migration.before_commit, migration.after_commit |
| restore | a backup takes the store's place | restore.moved, restore.placed |
| start | the store has a new epoch, nothing is read | epoch.taken |
| upcall | a command in a job starts, ended, is answered | upcall.before_command, upcall.command_ended, upcall.answered |
| purge | an ended job leaves the live queue | purge.before_commit, purge.after_commit |

P5, P6, P11 and P12 are steps of the node: the controller cannot tell them apart, so they are hit by killing it after a call
was sent, and by killing runner and supervisor on the node (tests/hosts, contrib/chaos).
"""

import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

from sshq.core.lifecycle import FINAL
from sshq.core.model import Accounting, Job, Launch, LaunchState, Purged, Row

# Every point in the code; a test checks that this list, the table above and the calls agree.
POINTS = (
    "submit.environ_kept",
    "submit.before_commit",
    "submit.after_commit",
    "mailbox.before_commit",
    "mailbox.after_commit",
    "store.before_commit",
    "store.after_commit",
    "decide.before_commit",
    "decide.after_commit",
    "hosts.reserved",
    "hosts.listed",
    "hosts.before_fence",
    "hosts.after_fence",
    "hosts.before_send",
    "staging.opened",
    "staging.mid_send",
    "staging.sent",
    "staging.grown",
    "hosts.mid_send",
    "hosts.after_send",
    "hosts.started",
    "hosts.ended",
    "settle.before_commit",
    "settle.after_commit",
    "outputs.fetched",
    "outputs.published",
    "staged.listed",
    "staged.fetched",
    "staged.published",
    "staged.synced",
    "hosts.before_ack",
    "hosts.after_ack",
    "cancel.before_commit",
    "cancel.after_commit",
    "hosts.before_kill",
    "hosts.after_kill",
    "fleet.before_swap",
    "fleet.after_swap",
    "upcall.before_command",
    "upcall.command_ended",
    "upcall.answered",
    "purge.before_commit",
    "purge.after_commit",
    "backup.before_rename",
    "backup.after_rename",
    "migration.before_commit",
    "migration.after_commit",
    "restore.moved",
    "restore.placed",
    "epoch.taken",
)
VARIABLE = "SSHQ_CRASH"


def crash_hook(wanted: str, state_dir: Path) -> Callable[[str], None]:
    """Return the function the named points call.  A file `crashed` in the state directory says that it was reached."""
    if not wanted:
        return go_on
    point, _, count = wanted.partition(":")
    if point not in POINTS:
        raise ValueError(f"no such crash point: {point}")
    left = int(count or 1)

    def maybe_crash(name: str) -> None:
        nonlocal left
        if name != point:
            return
        left -= 1
        if left == 0:
            (state_dir / "crashed").write_text(f"{point}\n")
            os.kill(os.getpid(), signal.SIGKILL)

    return maybe_crash


def go_on(_name: str) -> None:
    """Nothing is to crash."""


def crash_at_steps(crash: Callable[[str], None], rows: Iterable[Row], when: str) -> None:
    """Pass the points of the steps that a batch of rows holds; `when` is before_commit or after_commit."""
    if crash is go_on:
        return
    for step in sorted({_step_of(row) for row in rows} - {""}):
        crash(f"{step}.{when}")


def _step_of(row: Row) -> str:
    match row:
        case Accounting():
            return "settle"
        case Launch(state=LaunchState.INTENT):
            return "decide"
        case Job() if row.cancel_uid is not None and row.state not in FINAL:
            return "cancel"
        case Purged():
            return "purge"
    return ""
