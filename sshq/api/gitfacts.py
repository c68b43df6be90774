"""What git knows of a directory, read from its files: no git process is started, and nothing is raised.

A submission costs as much as starting Python; git alone takes longer.  So HEAD, references and the index are read here.
Whatever cannot be read becomes a word in `problem`: a repository that is broken disturbs no submission.
"""

import os

LEVELS_MAX = 64  # from the directory upwards
SMALL_BYTES_MAX = 4096  # of HEAD, a reference, a .git file
PACKED_BYTES_MAX = 16 << 20
SYMBOLIC_MAX = 5  # references that name references, as git has it
NAME_BYTES_MAX = 1024


class Repository:
    """Where the parts of a repository lie: of a linked work tree they are in two places."""

    __slots__ = ("common", "own", "top")

    def __init__(self, top: str, own: str, common: str) -> None:
        self.top = top  # of the work tree
        self.own = own  # HEAD, index
        self.common = common  # references, objects


def read_git(directory: str, *, look_s: float) -> dict[str, str]:
    """Return what is known of the work tree that holds a directory; empty where it is in none.

    Args:
        directory: absolute.
        look_s: how much CPU time the look at the tracked files may take, in seconds.

    Returns:
        Some of: top, commit, branch (none for a detached HEAD), state ("clean", "changed", "unknown"), files (digest of the
        tracked files as they lie there), problem (what could not be read or was not looked at).
    """
    try:
        top = find_top(os.path.realpath(directory))
        if top is None:
            return {}
        facts = {"top": top}
        try:
            repository = open_repository(top)
            facts |= read_head(repository)
            if "problem" not in facts:
                from sshq.api.gitindex import read_state

                facts |= read_state(repository, facts.get("commit", ""), look_s)
        except (OSError, ValueError) as error:
            facts["problem"] = _explain(error)
    except (OSError, ValueError):
        return {}
    return facts


def _explain(error: "OSError | ValueError") -> str:
    if isinstance(error, OSError):
        return f"{error.filename or '.git'}: {error.strerror}"
    return str(error)


def find_top(directory: str) -> str | None:
    """Return the nearest directory upwards with a `.git`, None where there is none."""
    for _ in range(LEVELS_MAX):
        try:
            os.lstat(f"{directory.rstrip('/')}/.git")
        except OSError:
            parent = os.path.dirname(directory)
            if parent == directory:
                return None
            directory = parent
        else:
            return directory
    return None


def open_repository(top: str) -> Repository:
    """Return where the repository of a work tree lies.  Raises OSError, ValueError."""
    own = f"{top.rstrip('/')}/.git"
    if not os.path.isdir(own):
        text = read_small(own)
        if not text.startswith(b"gitdir: "):
            raise ValueError(f"{own} is no directory and names none")
        own = os.path.join(top, os.fsdecode(text[8:].rstrip(b"\r\n")))
    common = own
    try:
        text = read_small(f"{own}/commondir")
    except FileNotFoundError:
        pass
    else:
        common = os.path.join(own, os.fsdecode(text.rstrip(b"\r\n")))
    return Repository(top, own, common)


def read_head(repository: Repository) -> dict[str, str]:
    """Return commit and branch.  Raises OSError, ValueError."""
    text = read_small(f"{repository.own}/HEAD").rstrip()
    facts: dict[str, str] = {}
    for depth in range(SYMBOLIC_MAX):
        if not text.startswith(b"ref:"):
            break
        name = os.fsdecode(text[4:].strip())
        check_reference(name)
        if depth == 0:
            if name == "refs/heads/.invalid":
                return {"problem": "its references are in a format that is not read here (reftable)"}
            facts["branch"] = name.removeprefix("refs/heads/")
        found = find_reference(repository, name)
        if found is None:
            return facts | {"problem": "there is no commit yet"}
        text = found
    if not is_commit(text):
        raise ValueError(f"{repository.own}/HEAD names no commit")
    return facts | {"commit": text.decode("ascii")}


def check_reference(name: str) -> None:
    """Refuse what would lead out of the repository."""
    if not name.startswith("refs/") or "\0" in name or len(name) > NAME_BYTES_MAX or ".." in name.split("/"):
        raise ValueError("HEAD is malformed")


def find_reference(repository: Repository, name: str) -> bytes | None:
    """Return what a reference says: a commit, or `ref: …`; None where there is none."""
    for folder in dict.fromkeys((repository.own, repository.common)):
        try:
            return read_small(f"{folder}/{name}").rstrip()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            continue
    try:
        packed = read_bounded(f"{repository.common}/packed-refs", PACKED_BYTES_MAX)
    except FileNotFoundError:
        return None
    wanted = b" " + os.fsencode(name) + b"\n"
    if not packed.endswith(b"\n"):
        packed += b"\n"
    at = packed.find(wanted)
    while at >= 0:
        found = packed[packed.rfind(b"\n", 0, at) + 1 : at]
        if is_commit(found):
            return found
        at = packed.find(wanted, at + 1)
    return None


def is_commit(text: bytes) -> bool:
    """Whether it is the name of an object: 40 or 64 hexadecimal digits."""
    return len(text) in (40, 64) and not text.strip(b"0123456789abcdef")


def read_small(path: str) -> bytes:
    """Return the beginning of a file that ought to be small."""
    return read_bounded(path, SMALL_BYTES_MAX)


def read_bounded(path: str, bytes_max: int) -> bytes:
    """Return a file's bytes.  Raises OSError; ValueError for a larger one and for what is no file."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # of a FIFO nobody shall wait for
    try:
        found = os.fstat(file)
        if found.st_mode & 0o170000 != 0o100000:
            if found.st_mode & 0o170000 == 0o040000:
                raise IsADirectoryError(21, "Is a directory", path)
            raise ValueError(f"{path} is no file")
        if found.st_size > bytes_max:
            raise ValueError(f"{path} is too large to be looked at")
        pieces = []
        left = bytes_max
        while left > 0:
            piece = os.read(file, min(left, 1 << 20))
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)
    finally:
        os.close(file)
