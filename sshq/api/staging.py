"""`--sync` and `--stage-in`: the files of a submission go into the controller's store of chunks before it is submitted.

They are read and written here, as the user; the controller is told the name of what was made.
"""

import os

from sshq.api.proof import find_own
from sshq.errors import OptionError
from sshq.wire.client import Client, find_head

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sshq.slurm.submit import Submission
    from sshq.tree.snapshot import Snapshot

    Progress = Callable[[str, int, int], None]


READING = "reading files"


def has_files(submission: "Submission") -> bool:
    """Whether a submission takes files along."""
    return submission.sync is not None or bool(submission.stage_in)


def stage_files(
    submission: "Submission", open_client: "Callable[[], Client]", environ: "Mapping[str, str]", *,
    progress: "Progress | None" = None,
) -> "Snapshot":  # fmt: skip
    """Make the snapshot that a submission asks for, and put its name into the description.

    Args:
        submission: as it was read.
        open_client: connects to the controller, which says where its store is.
        environ: of the command.
        progress: told what is done with how many bytes of how many: "reading files", "sending files to HEAD".

    Raises:
        OptionError: what cannot be taken along, and why.
    """
    from functools import partial

    from sshq.tree.objects import Objects
    from sshq.tree.snapshot import take_snapshot

    option = "--sync" if submission.sync is not None else "--stage-in"
    head = find_head(environ)
    with open_client() as client:
        state = str(client.call("status")["state_dir"])
    directory = os.path.join(state, "objects")
    if head is not None:
        from sshq.api.stageaway import stage_away

        snapshot = stage_away(submission, head, directory, option, progress=progress)
        own = str(submission.description["work_dir"])  # what stands for ours has no file of ours, even where hosts share it
        submission.description |= {
            "tree": snapshot.digest, "tree_below": snapshot.below, "frozen": submission.sync is not None or find_own(own) != own,
        }
        return snapshot
    try:
        owner = os.stat(directory).st_uid
    except OSError as error:
        raise OptionError(
            f"{option}: the controller's store of files cannot be used: {directory}: {error.strerror}", source=option,
            hint="sshq down && sshq up starts the controller of the installed release",
        ) from None  # fmt: skip
    if owner != os.geteuid():
        raise OptionError(
            f"{option}: the controller runs as another user", source=option,
            detail=(f"{directory} belongs to uid {owner}, you are uid {os.geteuid()}",),
            hint="files go along only where the controller is the submitter's own",
        )  # fmt: skip
    work_dir = str(submission.description["work_dir"])
    told = partial(progress, READING) if progress is not None else None
    snapshot = take_snapshot(Objects(directory), work_dir, sync=submission.sync, stage_in=submission.stage_in, progress=told)
    submission.description |= {"tree": snapshot.digest, "tree_below": snapshot.below, "frozen": submission.sync is not None}
    return snapshot
