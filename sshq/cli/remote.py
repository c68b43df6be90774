"""`python -m sshq.cli.remote FD`: one Slurm command for somebody inside a job, started by the controller.

Over the socket FD come the words, the variables and the directory of the command on its node, as data; over it the files
that it needs are asked for.  Of its variables only those that speak to commands become this process's own.
"""

import binascii
import errno
import io
import json
import os
import re
import socket
import sys
import time

from sshq import __version__
from sshq.api.proof import Proof
from sshq.cli import here
from sshq.errors import OptionError, RefusedError
from sshq.wire import client

TYPE_CHECKING = False  # each module imported here costs every command inside a job some milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from sshq.slurm.submit import Submission

# What the commands read, and how they show text and time.  Nothing that steers an interpreter or a linker.
HEEDED = ("SLURM_", "SBATCH_", "SQUEUE_", "SINFO_", "SACCT_", "SCANCEL_", "SCONTROL_", "SALLOC_", "SRUN_", "SPRIO_", "SSTAT_")
ZONE = re.compile(r"(?!.*\.\.)[A-Za-z<][A-Za-z0-9_+<>,./:-]{0,63}")  # no file of the node's choice
ALSO = frozenset({"TZ", "COLUMNS", "LINES"})
NUMBERS = (errno.ENOENT, errno.EACCES, errno.EISDIR, errno.EFBIG, errno.ENAMETOOLONG)
FAILED = "Batch job submission failed: "


class Node:
    """The other end: the command on its node, by way of the controller."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._lines = self._socket.makefile("rb")

    def receive(self) -> "dict[str, Any]":
        line = self._lines.readline()
        if not line:  # nobody is there any more to whom anything could be told
            os._exit(1)
        message: dict[str, Any] = json.loads(line)
        return message

    def say(self, message: dict[str, object]) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def ask(self, what: str, **words: object) -> "dict[str, Any]":
        self.say({"what": what, **words})
        return self.receive()

    def ask_data(self, what: str, path: str, **words: object) -> bytes:
        """Raises OSError with the node's own text."""
        answer = self.ask(what, path=path, **words)
        if "error" in answer:
            why = str(answer["error"])
            raise OSError(next((n for n in NUMBERS if os.strerror(n) == why), errno.EIO), why, path)
        return binascii.a2b_base64(answer["data"])


class RemotePlace(here.Here):
    """A job on a node: its files are there, its directory is that of the job or one that only its node knows."""

    def __init__(self, node: Node, request: "dict[str, Any]") -> None:
        self._node = node
        self._request = request
        self._home = str(request["work_dir"])
        real = str(request["real_cwd"])
        at = real.find(str(request["private_dir"]))
        self._in_private_dir = bool(request["private"]) and at >= 0
        self._cwd = self._home if self._in_private_dir else str(request["cwd"] or "/tmp")
        self._real_cwd = self._home if self._in_private_dir else real

    @property
    def environ(self) -> dict[str, str]:
        environ: dict[str, str] = self._request["environ"]
        return environ

    @property
    def read_limit(self) -> None:
        return None

    @property
    def umask(self) -> int:
        return int(self._request["umask"])

    @property
    def host_name(self) -> str:
        return str(self._request["node"])

    @property
    def submit_token(self) -> str:
        return str(self._request["token"])

    @property
    def token_is_fresh(self) -> bool:
        return False  # the node asks again, by the same token, where it lost our answer

    def find_cwd(self) -> str:
        return self._cwd

    def read_file(self, path: str) -> bytes:
        if self._in_private_dir and _is_below(path, self._home):  # relative to where the command is, not to where it submits from
            path = str(self._request["real_cwd"]) + path[len(self._home.rstrip("/")) :]
        return self._node.ask_data("read", path)

    def read_stdin(self) -> bytes:
        return self._node.ask_data("stdin", "")

    def write_file(self, path: str, data: bytes) -> None:
        self._node.ask_data("write", path, data=binascii.b2a_base64(data, newline=False).decode())

    def describe_origin(self, _sync: str | None) -> dict[str, str]:
        """What the node's directory belongs to is not looked at: each file would be a question over ssh."""
        return {"version": __version__, "job": str(self._request["job"])}

    def describe_directory(self, description: dict[str, object]) -> Proof | None:
        work_dir = str(description["work_dir"])
        if work_dir == self._cwd:
            if self._in_private_dir:
                self._check_outputs(description)
                return {"path": self._home, "nonce_path": None, "nonce": None, "dev": 0, "ino": 0}
            if not self._real_cwd:
                return None
            work_dir = self._real_cwd
            # Where no host shares it any more such a job runs in a private directory, and its output is written on the head.
            if self._request["shared"] and _is_below(work_dir, self._home) and not self._find_strays(description, work_dir):
                return {"path": work_dir, "nonce_path": None, "nonce": None, "dev": 0, "ino": 0}
        return {"path": work_dir, "nonce_path": None, "nonce": None, "dev": 0, "ino": 0, "seen_from": self.host_name}

    def show_nonce(self, proof: Proof) -> Proof | None:
        if self._in_private_dir and "seen_from" not in proof:
            return super().show_nonce(proof)  # the directory that the job itself was submitted from
        proof = proof | {"final": True} if "seen_from" in proof else proof
        if proof["path"] != self._real_cwd:
            return proof
        name, nonce = f".sshq-nonce-{os.urandom(16).hex()}", os.urandom(16).hex()
        if not self._node.ask("nonce", name=name, nonce=nonce).get("shown"):
            return proof if "seen_from" in proof else None
        return proof | {"nonce_path": f"{proof['path']}/{name}", "nonce": nonce}

    def hide_nonce(self, proof: Proof) -> None:
        if self._in_private_dir and "seen_from" not in proof:
            super().hide_nonce(proof)  # else the command on the node removes it when it ends

    def describe_notes(self, notes: "Sequence[str]", _description: dict[str, object]) -> "Sequence[str]":
        return [note.replace("comes back here", f"comes back to {self._home} on {self._request['head']}") for note in notes]

    def stage_files(self, submission: "Submission", _open_client: "Callable[[], client.Client]") -> "Sequence[str]":
        """What lies on the node does not go along from here."""
        option = "--sync" if submission.sync is not None else "--stage-in"
        raise OptionError(
            f"{option} does not work inside a job", source=option, detail=("its files lie on the node, not where the queue is",),
            hint="submit it where the files are, with --dependency if it has to wait",
        )  # fmt: skip

    def begin_wait(self, job_ids: list[int]) -> None:
        """End: the controller waits at less expense, and then has the end told by a new process."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._node.say({"waits_for": job_ids})
        os._exit(0)

    def _check_outputs(self, description: dict[str, object]) -> None:
        """The output of a private directory is written on the head: only below the directory somebody there submitted from."""
        for option, name in self._find_strays(description, self._home):
            raise RefusedError(
                f"{FAILED}Unable to open file {name}", code="bad_request",
                detail=(
                    f"{option}={name}",
                    f"no host shares the directory of this job: the new one's output comes back to {self._home}",
                    f"on {self._request['head']}, and jobs write nowhere else there",
                ),
            )  # fmt: skip

    def _find_strays(self, description: dict[str, object], work_dir: str) -> list[tuple[str, str]]:
        """Options and names of output that would not lie below the directory the job was submitted from."""
        found = []
        for key, option in (("std_out", "--output"), ("std_err", "--error")):
            name = description.get(key)
            if not isinstance(name, str) or name == "/dev/null":
                continue
            path = os.path.normpath(os.path.join(work_dir, name))
            if not _is_below(path, self._home) or ".." in name.split("/"):
                found.append((option, name))
        return found


class NodeInput(io.TextIOBase):
    """Standard input that is read on the node, all of it when it is first needed."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._text: io.StringIO | None = None

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]
        if self._text is None:
            self._text = io.StringIO(self._node.ask_data("stdin", "").decode("utf-8", "surrogateescape"))
        return self._text.readline(-1 if size is None else size)


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _take_variables(environ: dict[str, str]) -> None:
    for name in [n for n in os.environ if n.startswith(HEEDED)]:
        del os.environ[name]
    for name, value in environ.items():
        if name.startswith(HEEDED) or (name in ALSO and (name != "TZ" or ZONE.fullmatch(value))):
            os.environ[name] = value
    time.tzset()


def _tell_end(job_ids: list[int]) -> int:
    """The rest of `sbatch --wait`, once the jobs are over."""
    from sshq.cli.waiting import exit_status, wait_for_jobs

    return max((exit_status(job) for job in wait_for_jobs("sbatch", job_ids, os.environ)), default=1)


def main() -> int:
    """Run the command; its exit status is that of this process."""
    from sshq.cli.main import main as run_command

    node = Node(int(sys.argv[1]))
    request = node.receive()
    _take_variables(request["environ"])
    here.place = RemotePlace(node, request)
    sys.stdin = NodeInput(node)
    client.only_socket = str(request["socket"])
    if request["over"]:
        return _tell_end([int(one) for one in request["over"]])
    return run_command([str(request["verb"]), *request["argv"]])


def run() -> None:
    """As `sshq.cli.main.run`."""
    code = main()
    try:
        sys.stdout.flush()
    except OSError:
        pass
    os._exit(code)


if __name__ == "__main__":
    run()
