"""What runs containers on a node: chosen from what its probe found and what the inventory says.

podman, apptainer and singularity act as the account that asks.  A docker whose daemon is root acts as root for whoever may
ask it, so it is taken only where the inventory names it, and only for the controller's own account.
"""

from typing import Final, Literal

ImageForm = Literal["", "name", "file"]

_OF_FILES: Final = ("apptainer", "singularity")
_PREFERRED: Final = ("podman", "apptainer", "singularity", "docker-rootless")
_AS_ROOT = "docker there acts as root"


def form_of(image: str | None) -> ImageForm:
    """Return whether an image is a file or directory, which only apptainer and singularity run, or a name; "" for none."""
    if image is None:
        return ""
    return "file" if image.startswith(("/", "./", "../")) or image.endswith((".sif", ".img")) else "name"


def choose_engine(form: ImageForm, *, asked: str | None, present: tuple[str, ...], own_account: bool) -> tuple[str, str]:
    """Return what runs images of a form on a node, and "" or why nothing does.

    Args:
        form: of the image.
        asked: the inventory's `sshq_container`.
        present: what the probe found; "docker" is one that acts as root, "docker-rootless" one that does not.
        own_account: whether jobs run there as the controller's own account.
    """
    if asked:
        return _judge_asked(form, asked, present, own_account=own_account)
    for engine in _PREFERRED:
        if engine in present and (form != "file" or engine in _OF_FILES):
            return engine.removesuffix("-rootless"), ""
    if form == "file":
        return "", "neither apptainer nor singularity there, which run images that are files"
    if "docker" in present:
        return "", f"no podman or apptainer; {_AS_ROOT}, which only sshq_container: docker in the inventory allows"
    return "", "no podman, apptainer, singularity or docker that its account could use"


def _judge_asked(form: ImageForm, asked: str, present: tuple[str, ...], *, own_account: bool) -> tuple[str, str]:
    if form == "file" and asked not in _OF_FILES:
        return "", f"sshq_container: {asked}, which does not run images that are files"
    if asked not in present and not (asked == "docker" and "docker-rootless" in present):
        return "", f"sshq_container: {asked}, which is not there, or not for its account"
    if asked == "docker" and "docker-rootless" not in present and not own_account:
        return "", f"{_AS_ROOT}, and jobs there do not run as the controller's own account"
    return asked, ""
