"""The values of the options about containers, and what they come to in a description; read only where there are any."""

from sshq.errors import OptionError
from sshq.slurm.options_container import CONTAINER_FIELDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sshq.slurm.getopt import Given

OURS = "/.sshq"  # in a container: its script and streams


def parse_image(text: str | None) -> str:
    """Return an image's name or path; as pyxis has it, REGISTRY#NAME is REGISTRY/NAME."""
    image = (text or "").replace("#", "/", 1)
    if not image or image.startswith("-") or any(c.isspace() or not c.isprintable() for c in image):
        raise ValueError(image)
    return image


def parse_mounts(text: str | None) -> list[tuple[str, str, bool]]:
    """Return source, target and whether it is read-only, of SRC[:DST[:FLAGS]] by commas; a source may be relative."""
    mounts = []
    for word in (text or "").split(","):
        source, _, rest = word.partition(":")
        target, _, flags = rest.partition(":")
        if not source or not set(filter(None, flags.split("+"))) <= {"ro", "rw"}:
            raise ValueError(word)
        if target and (not target.startswith("/") or target.rstrip("/") in ("", OURS)):
            raise ValueError(word)
        mounts.append((source, target, "ro" in flags.split("+")))
    return mounts


def parse_inner_path(text: str | None) -> str:
    if not text or not text.startswith("/"):
        raise ValueError(text)
    return text


def parse_pull_policy(text: str | None) -> str:
    if text not in ("never", "missing", "always"):
        raise ValueError(text)
    return text


def parse_variables(text: str | None) -> list[str]:
    names = [name for name in (text or "").split(",") if name]
    if not names or not all(name.isidentifier() and name.isascii() for name in names):
        raise ValueError(text)
    return names


PARSERS: "Mapping[str, Callable[[str | None], object]]" = {
    "image": parse_image, "inner_path": parse_inner_path, "mounts": parse_mounts, "pull_policy": parse_pull_policy,
    "variables": parse_variables,
}  # fmt: skip


def refuse_stray(chosen: "Mapping[str, tuple[Given, object]]") -> OptionError:
    """Return the error for an option about the container of a job that has none."""
    stray = next(chosen[field][0] for field in CONTAINER_FIELDS if field in chosen)
    text = f"{stray.option.name} means nothing without --container"
    return OptionError(text, source=stray.source, detail=(stray.text,), exit_code=1)


def describe_container(values: "Mapping[str, object]", join: "Callable[[str], str]") -> dict[str, object]:
    """Return what the description says of an image; `join` makes a path absolute."""
    mounts = values.get("container_mounts")
    return {
        "kind": "container",
        "container": values["container"],
        "container_mounts": [
            [join(source), target or join(source), read_only]
            for source, target, read_only in (mounts if isinstance(mounts, list) else ())
        ],
        "container_workdir": values.get("container_workdir"),
        "container_pull": values.get("container_pull") or "never",
        "container_env": values.get("container_env") or [],
    }
