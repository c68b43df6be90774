"""From a submission to a job id: one token for all tries, and the nonce that proves what the submit directory is.

The nonce file is made and removed here, as the user: a directory on a host is the same one if the file shows there.
"""

import os
import time

from sshq.cli.asking import UNREACHABLE_PREFIX, NoAnswerError, open_controller, read_int
from sshq.errors import RefusedError, UnreachableError
from sshq.slurm.submit import Submission, build_submission, place_refusal
from sshq.wire.client import LostReplyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PATIENCE_S = 10.0  # for a controller that went away with our request; Slurm's commands try as long
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
    umask = os.umask(0o77)
    os.umask(umask)
    submission = build_submission(
        argv, os.environ, read_file=_read_file, read_stdin=_read_stdin, now=time.time(), umask=umask,
        cwd=find_cwd(), submit_host=os.uname().nodename, command=command,
    )  # fmt: skip
    line = os.fsencode(" ".join((command, *argv)))
    submission.description["submit_line"] = os.fsdecode(line[:SUBMIT_LINE_BYTES_MAX])
    return submission


def submit_job(submission: Submission, program: str) -> "Mapping[str, object]":
    """Return the controller's reply; a reply that is lost is asked for again with the same token.

    Raises:
        RefusedError: with Slurm's words and the user's own, where they are to blame.
        NoAnswerError: nobody answers.

    """
    params: dict[str, object] = {
        "description": submission.description,
        "environ": submission.environ,
        "token": os.urandom(16).hex(),
        "test_only": submission.test_only,
        "directory": _describe_directory(str(submission.description["work_dir"])),
    }
    ends_at: float | None = None
    lost: LostReplyError | None = None
    while True:
        try:
            return _submit_once(params, program)
        except RefusedError as error:
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
        time.sleep(0.2)


def place_in_words(error: RefusedError, submission: Submission, program: str) -> RefusedError:
    """Return a refusal in the words of the program, with the user's own below it."""
    text = error.message if FAILED in error.message else FAILED + error.message
    if program == "srun":
        text = text.replace(FAILED, "Unable to allocate resources: ").replace("sbatch: error:", "srun: error:")
    key = next((key for word, key in _PLACES if word in text.lower()), "")
    placed = RefusedError(
        text, code=error.code, detail=(*place_refusal(submission, key), *error.detail), hint=error.hint
    )
    placed.exit_code = error.exit_code
    return placed


def read_job_id(reply: "Mapping[str, object]") -> int:
    """Return the job's number of a reply to `submit`."""
    return read_int(reply, "job_id")


def find_cwd() -> str:
    """Return the working directory by the name the user knows it by, if $PWD is still right, as sbatch does."""
    named = os.environ.get("PWD", "")
    try:
        if named.startswith("/") and os.path.samestat(os.stat(named), os.stat(".")):
            return named
        return os.getcwd()
    except OSError:
        return "/tmp"  # Slurm's own way out for a directory that is gone


def _submit_once(params: dict[str, object], program: str) -> "Mapping[str, object]":
    with open_controller(program) as client:
        reply = client.call("submit", params)
        if not reply.get("need_nonce"):
            return reply
        nonce_path, nonce = "", os.urandom(16).hex()
        directory = params["directory"]
        proof: dict[str, object] | None = None
        try:
            if isinstance(directory, dict):
                nonce_path = _write_nonce(str(directory["path"]), nonce)
                proof = directory | {"nonce_path": nonce_path, "nonce": nonce} if nonce_path else None
            return client.call("submit", params | {"directory": proof})
        finally:
            if nonce_path:
                _remove_quietly(nonce_path)


def _describe_directory(work_dir: str) -> dict[str, object] | None:
    path = os.path.realpath(work_dir)
    try:
        found = os.stat(path)
    except OSError:
        return None
    if not os.path.isdir(path):
        return None
    return {"path": path, "dev": found.st_dev, "ino": found.st_ino, "nonce_path": None, "nonce": None}


def _write_nonce(directory: str, nonce: str) -> str:
    """Return the path of a nonce file made in `directory`, "" where we may not write: then nothing is proved."""
    path = os.path.join(directory, f".sshq-nonce-{os.urandom(16).hex()}")
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return ""
    try:
        os.write(file, nonce.encode())
        os.fsync(file)  # a network file system must show it to others now
    except OSError:
        _remove_quietly(path)
        return ""
    finally:
        os.close(file)
    return path


def _remove_quietly(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def _read_file(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _read_stdin() -> bytes:
    import sys

    return sys.stdin.buffer.read()
