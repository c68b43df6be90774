"""Where a command was typed: on this machine, or inside a job on a node (`sshq.cli.remote`), whose files are there.

Commands open files, read their input and prove directories through `place`, so that nothing a node names is ever looked
for on the head.
"""

import os
import sys

from sshq.api import proof
from sshq.errors import OptionError
from sshq.wire.client import find_head

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sshq.slurm.submit import Submission
    from sshq.wire.client import Client


class Here:
    """Typed on this machine."""

    @property
    def environ(self) -> "Mapping[str, str]":
        """The variables of whoever typed the command."""
        return os.environ

    @property
    def umask(self) -> int:
        umask = os.umask(0o77)
        os.umask(umask)
        return umask

    @property
    def host_name(self) -> str:
        return os.uname().nodename

    @property
    def submit_token(self) -> str:
        """What makes all tries of one submission one job."""
        return os.urandom(16).hex()

    @property
    def token_is_fresh(self) -> bool:
        """Whether nobody can have submitted with this token before this process."""
        return True

    def find_cwd(self) -> str:
        return proof.find_cwd()

    def read_file(self, path: str) -> bytes:
        """Return a file's bytes; OSError where it cannot be read."""
        return proof.read_own_file(path)

    def read_stdin(self) -> bytes:
        return sys.stdin.buffer.read()

    @property
    def read_limit(self) -> "Callable[[str], int] | None":
        """What gives a soft limit of this process by its name (NOFILE), -1 for none; None where they are not known."""

        def read(name: str) -> int:
            import resource

            return resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0]

        return read

    def write_file(self, path: str, data: bytes) -> None:
        """Write a file that only its owner may read and run; OSError where that cannot be done."""
        file = os.open(proof.find_own(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o700)
        with os.fdopen(file, "wb") as out:
            out.write(data)

    def describe_origin(self, sync: str | None) -> dict[str, str]:
        """Return what is told of where a submission comes from, whose tree `sync` goes along."""
        from sshq.api.origin import LOOK_S, PATIENT_LOOK_S, describe_origin, find_directory

        return describe_origin(find_directory(sync), look_s=LOOK_S if sync is None else PATIENT_LOOK_S)

    def describe_directory(self, description: dict[str, object]) -> proof.Proof | None:
        """Return which directory is to be proved for a submission; None where there is none."""
        return proof.describe_directory(str(description["work_dir"]), (description.get("std_out"), description.get("std_err")))

    def show_nonce(self, shown: proof.Proof) -> proof.Proof | None:
        return proof.show_nonce(shown)

    def hide_nonce(self, shown: proof.Proof) -> None:
        proof.hide_nonce(shown)

    def stage_files(self, submission: "Submission", open_client: "Callable[[], Client]") -> "Sequence[str]":
        """Take the files along that a submission names; returns what is to be said of it."""
        from sshq.cli.stagingbar import stage_with_bar

        return stage_with_bar(submission, open_client, self.environ)

    def begin_wait(self, job_ids: list[int]) -> None:
        """Say that from here on it is only waited until these jobs are over."""

    def describe_notes(self, notes: "Sequence[str]", description: dict[str, object]) -> "Sequence[str]":
        """Return what the controller says of a submission as it reads from here."""
        if find_head(os.environ) is None:
            return notes
        from sshq.cli.fromaway import describe_notes

        return describe_notes(notes, str(description["work_dir"]))

    def bring_home(self, program: str, job: dict[str, object]) -> None:
        """Bring the output of a job that is over to where it was submitted from, if that is not the controller's machine."""
        if find_head(os.environ) is not None:
            from sshq.cli.fromaway import bring_home

            bring_home(program, job)

    def remove_files(self, paths: "Sequence[str]") -> None:
        """Remove files of our own in a directory that was submitted from; what is not there is passed over."""
        head = find_head(os.environ)
        if head is not None:
            from sshq.api.away import remove_files, to_here

            there = [path for path in paths if to_here(head, path) is not None]
            remove_files(head, there)
            paths = [path for path in paths if path not in there]
        for path in paths:
            try:
                os.unlink(path)
            except OSError:
                pass


place = Here()


def read_list_file(path: str) -> str:
    """Return the text of a file of host names.  Raises OptionError."""
    try:
        return place.read_file(path).decode("utf-8", "surrogateescape")
    except OSError as error:
        raise OptionError(f"{path}: {error.strerror}") from None
