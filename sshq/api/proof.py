"""What a submission says of its directory: the nonce file that proves it on hosts, made and removed here, as the user.

A directory on a host is the same one if the file shows there; a name alone proves nothing.
"""

import os

from sshq.wire.client import Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def find_cwd() -> str:
    """Return the working directory by the name the user knows it by, if $PWD is still right, as sbatch does."""
    named = os.environ.get("PWD", "")
    try:
        if named.startswith("/") and os.path.samestat(os.stat(named), os.stat(".")):
            return named
        return os.getcwd()
    except OSError:
        return "/tmp"  # Slurm's own way out for a directory that is gone


def describe_directory(work_dir: str) -> dict[str, object] | None:
    """Return what `submit` is told of a directory; None where there is none."""
    path = os.path.realpath(work_dir)
    try:
        found = os.stat(path)
    except OSError:
        return None
    if not os.path.isdir(path):
        return None
    return {"path": path, "dev": found.st_dev, "ino": found.st_ino, "nonce_path": None, "nonce": None}


def submit_proved(client: Client, params: "Mapping[str, object]") -> dict[str, object]:
    """Submit over a connection; where the controller asks for a proof of the directory, give it."""
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
        return client.call("submit", {**params, "directory": proof})
    finally:
        if nonce_path:
            _remove_quietly(nonce_path)


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
