"""What a submission tells of where it comes from, and how an older controller that does not know it is served all the same."""

from sshq import __version__
from sshq.api.gitfacts import read_git
from sshq.api.proof import find_own, find_own_cwd
from sshq.errors import RefusedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

LOOK_S = 0.003  # a submission takes about 20 ms of CPU: more than this would be felt in a loop
PATIENT_LOOK_S = 0.25  # where files go along, or in a program that runs on


def describe_origin(directory: str, *, look_s: float = LOOK_S) -> dict[str, str]:
    """Return version and commit, branch and state of the work tree that a directory of this machine is in.

    Args:
        directory: absolute.
        look_s: how long all tracked files may be looked at.
    """
    return {"version": __version__} | read_git(directory, look_s=look_s)


def is_about_origin(error: RefusedError) -> bool:
    """Whether a controller refused because it does not know what we tell of our origin, or of our token: it is older than us."""
    told = error.message.startswith("unknown parameter '") and error.message.endswith(("origin'", "'fresh'"))
    return told and error.code == "bad_request"


def leave_out_origin(params: "Mapping[str, object]") -> dict[str, object]:
    """Return the parameters of a submission without it: nothing that was asked for is lost with it."""
    shorter = {name: value for name, value in params.items() if name != "fresh"}
    for key in ("description", "common"):
        described = params.get(key)
        if isinstance(described, dict):
            shorter[key] = {name: value for name, value in described.items() if name != "origin"}
    several = params.get("descriptions")
    if isinstance(several, list):
        shorter["descriptions"] = [{name: value for name, value in one.items() if name != "origin"} for one in several]
    return shorter


def find_directory(sync: str | None) -> str:
    """Return the directory of this machine that is looked at: the tree that goes along, else where the command was typed."""
    return find_own(sync) if sync is not None else find_own_cwd()
