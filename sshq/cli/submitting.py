"""From a submission to a job id: one token for all tries, in the words of the command that asks."""

import os
import time

from sshq.api import proof
from sshq.cli import here
from sshq.cli.asking import UNREACHABLE_PREFIX, NoAnswerError, open_controller, read_int
from sshq.errors import RefusedError, UnreachableError
from sshq.slurm.submit import Submission, build_submission, place_refusal
from sshq.wire.client import LostReplyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PATIENCE_S = 10.0  # for a controller that went away with our request; Slurm's commands try as long
CROWD_PATIENCE_S = 30.0  # for a place among a thousand others that ask at the same time
SUBMIT_LINE_BYTES_MAX = 4096  # of sacct's SubmitLine
FAILED = "Batch job submission failed: "

# Which of the user's words a refusal is about, by Slurm's text: the first that occurs in it.
_PLACES = (
    ("partition", "partition"),
    ("node name", "req_nodes"),
    ("array", "array"),
    ("dependency", "dependency"),
    ("feature", "features"),
    ("nice", "nice"),
    ("time limit", "time_limit_s"),
    ("node configuration", "memory_mib"),
)


def read_submission(argv: "Sequence[str]", command: str) -> Submission:
    """Return what command line, environment and script ask for."""
    place = here.place
    submission = build_submission(
        argv, place.environ, read_file=place.read_file, read_stdin=place.read_stdin, now=time.time(), umask=place.umask,
        cwd=place.find_cwd(), submit_host=place.host_name, command=command, read_limit=place.read_limit,
    )  # fmt: skip
    submission.environ = proof.leave_own(submission.environ, submission.description.get("export"))
    line = os.fsencode(" ".join((command, *argv)))
    submission.description["submit_line"] = os.fsdecode(line[:SUBMIT_LINE_BYTES_MAX])
    if submission.wants is None:
        submission.description["origin"] = place.describe_origin(submission.sync)
    return submission


def take_files(submission: Submission, program: str) -> "Sequence[str]":
    """Have the files that go along where the controller finds them; returns what is to be said of it."""
    if submission.test_only:  # the job would run anywhere, and nothing is to be written
        submission.description["anywhere"] = True
        return []
    return here.place.stage_files(submission, lambda: open_controller(program))


def submit_job(submission: Submission, program: str) -> "Mapping[str, object]":
    """Return the controller's reply; a reply that is lost is asked for again with the same token.

    Raises:
        RefusedError: with Slurm's words and the user's own, where they are to blame.
        NoAnswerError: nobody answers.

    """
    params: dict[str, object] = {
        "description": submission.description,
        "environ": submission.environ,
        "token": here.place.submit_token,
        "fresh": here.place.token_is_fresh,
        "test_only": submission.test_only,
        "directory": here.place.describe_directory(submission.description),
    }
    ends_at: float | None = None
    lost: LostReplyError | None = None
    crowded_until = time.monotonic() + CROWD_PATIENCE_S
    while True:
        try:
            return _submit_once(params, program)
        except RefusedError as error:
            if error.code == "crowded" and time.monotonic() < crowded_until:
                params["fresh"] = False
                time.sleep(0.1 + os.urandom(1)[0] / 500)  # not all at once again
                continue
            raise place_in_words(error, submission, program) from None
        except UnreachableError as error:
            # Before anything was sent: say so at once.  After: the job may exist, so find out.
            if isinstance(error, LostReplyError) and ends_at is None:
                ends_at, lost = time.monotonic() + PATIENCE_S, error
            if lost is not None and ends_at is not None and time.monotonic() > ends_at:
                # Whoever submits again without looking may run it twice.
                lost.detail = (lost.detail[0], "The job may have been accepted all the same: look before submitting it again.")
                lost.hint = "sshq up; squeue --me"
                raise NoAnswerError(lost, UNREACHABLE_PREFIX[program]) from None
            if ends_at is None:
                if isinstance(error, NoAnswerError):
                    raise
                raise NoAnswerError(error, UNREACHABLE_PREFIX[program]) from None
        params["fresh"] = False
        time.sleep(0.2)


def place_in_words(error: RefusedError, submission: Submission, program: str) -> RefusedError:
    """Return a refusal in the words of the program, with the user's own below it."""
    text = error.message if FAILED in error.message else FAILED + error.message
    if program == "srun":
        text = text.replace(FAILED, "Unable to allocate resources: ").replace("sbatch: error:", "srun: error:")
    if program == "salloc":
        text = text.replace(FAILED, "Job submit/allocate failed: ").replace("sbatch: error:", "salloc: error:")
    key = next((key for word, key in _PLACES if word in text.lower()), "")
    placed = RefusedError(
        text, code=error.code, detail=(*place_refusal(submission, key), *error.detail), hint=error.hint
    )
    placed.exit_code = error.exit_code
    return placed


def read_job_id(reply: "Mapping[str, object]") -> int:
    """Return the job's number of a reply to `submit`."""
    return read_int(reply, "job_id")


def _submit_once(params: dict[str, object], program: str) -> "Mapping[str, object]":
    with open_controller(program) as client:
        return proof.submit_proved(client, params, show=here.place.show_nonce, hide=here.place.hide_nonce)
