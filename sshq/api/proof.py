"""What a submission says of its directory: the nonce file that proves it on hosts, made and removed here, as the user.

A directory on a host is the same one if the file shows there; a name alone proves nothing.  Where the controller is on another
machine (`api/away.py`), a directory there stands for ours, and it is that one that is described and proved, by the relay.
"""

import errno
import os

from sshq.errors import RefusedError, SshqError
from sshq.wire.client import Client, find_head

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

READ_BYTES_MAX = 64 << 20  # of a script or a list; what the controller takes is less
Proof = dict[str, object]  # what `submit` is told of a directory


def find_cwd() -> str:
    """Return the working directory, or what stands for it on the head, if the controller is on another machine."""
    head = find_head(os.environ)
    if head is None:
        return find_own_cwd()
    from sshq.api.away import to_head

    return to_head(head, find_own_cwd())


def find_own_cwd() -> str:
    """Return the working directory by the name the user knows it by, if $PWD is still right, as sbatch does."""
    named = os.environ.get("PWD", "")
    try:
        if named.startswith("/") and os.path.samestat(os.stat(named), os.stat(".")):
            return named
        return os.getcwd()
    except OSError:
        return "/tmp"  # Slurm's own way out for a directory that is gone


def find_own(path: str) -> str:
    """Return the path on this machine that a path of a submission means: what stands for ours on the head is ours."""
    head = find_head(os.environ)
    if head is None:
        return path
    from sshq.api.away import to_here

    return to_here(head, path) or path


def stand_in(path: str) -> str:
    """Return what jobs find for an absolute path of this machine: the same, or what stands for it on the head."""
    head = find_head(os.environ)
    if head is None:
        return path
    from sshq.api.away import to_head

    own = find_own_cwd()
    if path.startswith(own.rstrip("/") + "/"):  # it need not be there yet
        return to_head(head, own).rstrip("/") + path[len(own.rstrip("/")) :]
    return to_head(head, path)


def make_folder(path: str) -> None:
    """Make a directory for the user alone where jobs find it; one that exists is left as it is."""
    head = find_head(os.environ)
    if head is None:
        os.makedirs(path, mode=0o700, exist_ok=True)
        return
    from sshq.api.away import describe_directory as make

    make(head, path)


def write_private(path: str, data: bytes) -> None:
    """Write a new file for the user alone, where jobs find it.  Raises OSError."""
    head = find_head(os.environ)
    if head is not None:
        from sshq.api.away import send_file, to_here

        if to_here(head, path) is not None:
            send_file(head, path, data)
            return
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def remove_private(path: str) -> None:
    """Remove what `write_private` wrote, if it can be reached."""
    head = find_head(os.environ)
    try:
        if head is not None:
            from sshq.api.away import remove_files, to_here

            if to_here(head, path) is not None:
                remove_files(head, [path])
                return
        os.unlink(path)
    except (OSError, SshqError):
        pass


def bring_file(path: str) -> str:
    """Return where a file that a job left is on this machine; it is brought there if that is not the controller's.

    Raises:
        FileNotFoundError: it is not there.
        UnreachableError: the head was lost, and did not come back in time.

    """
    head = find_head(os.environ)
    if head is None:
        return path
    from sshq.api.away import bring_file as bring

    return bring(head, path)


def leave_own(environ: dict[str, str], export: object) -> dict[str, str]:
    """Return a job's environment without what would lead nowhere if the controller is on another machine: PATH, VIRTUAL_ENV, …"""
    head = find_head(os.environ)
    if head is None:
        return environ
    from sshq.api.away import drop_local, is_shared

    if is_shared(head, find_own_cwd()):
        return environ  # then so are the places it names, as far as they ever are

    return drop_local(environ, export if isinstance(export, str) else None)


def read_own_file(path: str) -> bytes:
    """Return the bytes of a file on this machine; OSError where it cannot be read, or has no end that a script would have."""
    with open(find_own(path), "rb") as file:
        data = file.read(READ_BYTES_MAX + 1)
    if len(data) > READ_BYTES_MAX:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
    return data


def describe_directory(work_dir: str, outputs: "Sequence[object]" = ()) -> Proof | None:
    """Return what `submit` is told of a directory, where `outputs` will lie; None where there is none."""
    head = find_head(os.environ)
    if head is not None:
        from sshq.api import away

        return away.describe_directory(head, work_dir, outputs)
    path = os.path.realpath(work_dir)
    try:
        found = os.stat(path)
    except OSError:
        return None
    if not os.path.isdir(path):
        return None
    return {"path": path, "dev": found.st_dev, "ino": found.st_ino, "nonce_path": None, "nonce": None}


def submit_proved(
    client: Client, params: "Mapping[str, object]", *,
    show: "Callable[[Proof], Proof | None] | None" = None, hide: "Callable[[Proof], None] | None" = None, method: str = "submit",
) -> Proof:  # fmt: skip
    """Submit over a connection; where the controller asks for a proof of the directory, give it.

    Args:
        client: the connection.
        params: of the request.
        show: puts a nonce file into the directory, where that is not on this machine.
        hide: removes it.
        method: submit, or submit_many.
    """
    try:
        reply = client.call(method, params)
    except RefusedError as error:
        from sshq.api.origin import is_about_origin, leave_out_origin

        if not is_about_origin(error):
            raise
        params = leave_out_origin(params)
        reply = client.call(method, params)
    return prove(client, params, show=show, hide=hide, method=method) if reply.get("need_nonce") else reply


def prove(
    client: Client, params: "Mapping[str, object]", *,
    show: "Callable[[Proof], Proof | None] | None" = None, hide: "Callable[[Proof], None] | None" = None, method: str = "submit",
) -> Proof:  # fmt: skip
    """Ask once more, with the proof that the controller needs; as `submit_proved`."""
    directory = params["directory"]
    head = find_head(os.environ)
    if head is not None:
        from sshq.api.away import Nonces

        nonces = Nonces(head)
        show, hide = nonces.show, nonces.hide
    proof = (show or show_nonce)(directory) if isinstance(directory, dict) else None
    try:
        return client.call(method, {**params, "directory": proof})
    finally:
        if proof is not None or head is not None:
            (hide or hide_nonce)(proof or {})


def show_nonce(proof: Proof) -> Proof | None:
    """Put a nonce file into the directory; None where we may not write there: then nothing is proved."""
    nonce = os.urandom(16).hex()
    path = os.path.join(str(proof["path"]), f".sshq-nonce-{os.urandom(16).hex()}")
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    shown = proof | {"nonce_path": path, "nonce": nonce}
    try:
        os.write(file, nonce.encode())
        os.fsync(file)  # a network file system must show it to others now
    except OSError:
        hide_nonce(shown)
        return None
    finally:
        os.close(file)
    return shown


def hide_nonce(proof: Proof) -> None:
    """Remove the nonce file again."""
    try:
        os.unlink(str(proof["nonce_path"]))
    except OSError:
        pass
