"""The kind "container": a batch script (or srun's command) that runs in an image, by podman, docker, apptainer or singularity.

What its node runs is `box.sh` and `boxend.sh`, in whose hands are the script, the environment and the command, as texts that a
sh in the container reads: values keep their newlines and quotes, and the engine itself meets nothing of the job's environment.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from sshq.core.model import JobSpec
from sshq.core.payload import Payload, Site
from sshq.kinds.script import interpreter_of

SCRIPT: Final = "/.sshq/script"  # in the container
# The image's own, or the node's business; --container-env=NAME passes one all the same.
_KEPT_OUT: Final = frozenset("HOME HOSTNAME LD_LIBRARY_PATH LD_PRELOAD LOGNAME PATH PWD SHELL TMPDIR USER".split())  # noqa: SIM905
_GIVEN: Final = re.compile(r"(SLURM|SBATCH|SSHQ|CUDA|ROCR|HIP|GPU)_.*")  # stronger than what the image says
# How the parts of what is sent follow each other: what `enclose` puts together `disclose` takes apart.
_INIT: Final = b"box_init() { printf '%s\\n' "
_THEN: Final = b"; }\nbox_script() { printf '%s' '"
_END: Final = b"'; }\nbox_main\n"
_QUOTE: Final = b"'\\''"
_DAEMONS: Final = ("docker",)  # whose containers are no children of ours, so they do not have our niceness


@cache
def _program() -> bytes:
    """Return the programs without comment and blank lines; read once in the life of the process."""
    lines = [line for name in ("box.sh", "boxend.sh") for line in Path(__file__).with_name(name).read_bytes().split(b"\n")]
    return b"".join(line + b"\n" for line in lines if line.strip() and not line.lstrip().startswith(b"#"))


def payload(spec: JobSpec, script: bytes) -> Payload:
    """Return what runs in the container."""
    return Payload(interpreter=interpreter_of(script), script=script, args=spec.args)


def enclose(spec: JobSpec, inner: Payload, site: Site) -> Payload:
    """Return what the node runs, so that `inner` runs in a container there.

    Raises:
        ValueError: there is no engine.
    """
    if not site.engine:
        raise ValueError(f"nothing on {site.node} runs containers any more")
    assignments = {
        "box_engine": site.engine, "box_image": spec.container or "", "box_pull": spec.container_pull, "box_node": site.node,
        "box_gpus": " ".join((site.gpu_vendor, *site.gpu_ids)) if site.gpu_ids else "",
        "box_workdir": spec.container_workdir or "", "box_below": spec.tree_below,
    }  # fmt: skip
    mounts = [f"box_mount {shlex.quote(a)} {shlex.quote(b)} {'ro' if only else 'rw'}" for a, b, only in spec.container_mounts]
    parts = [
        "".join(f"{name}={shlex.quote(value)}\n" for name, value in assignments.items()),
        "box_mounts() {\n" + "\n".join([*mounts, ":"]) + "\n}\n",
    ]
    head = "".join(parts).encode("utf-8", "surrogateescape")
    init = shlex.quote(_init(spec, inner, site)).encode("utf-8", "surrogateescape")
    script = inner.script.replace(b"'", _QUOTE)
    text = b"#!/bin/sh\n" + _program() + head + _INIT + init + _THEN + script + _END
    return Payload(interpreter=("/bin/sh",), script=text, own_environ=True)


def disclose(sent: bytes) -> tuple[bytes, dict[str, str]]:
    """Return the script that `enclose` put into this one, and the environment; what is none of its making comes back as it is."""
    head, _, rest = sent.partition(_THEN)
    init = head.rpartition(_INIT)[2]
    if not rest.endswith(_END) or init == head:
        return sent, {}
    script = rest.removesuffix(_END).replace(_QUOTE, b"'")
    try:
        words = iter(shlex.split("".join(shlex.split(init.decode("utf-8", "surrogateescape")))))
    except ValueError:  # cut off
        return sent, {}
    environ = {}
    for word in words:
        if word == "set":  # the command follows
            break
        if word == "export":
            name, _, value = next(words, "").partition("=")
            environ[name] = value
    return script, environ


def _init(spec: JobSpec, inner: Payload, site: Site) -> str:
    """Return what the sh in the container reads: the environment, then the command as its positional parameters."""
    lines = [*_exports(_renumber(site), frozenset(spec.container_env))]
    lines.append("set -- " + " ".join(map(shlex.quote, (*inner.interpreter, SCRIPT, *inner.args))))
    if "/" in inner.interpreter[0]:
        text = f"slurmstepd-{site.node}: error: execve(): bad interpreter({inner.interpreter[0]}): No such file or directory"
        said = shlex.quote(f"{text} in the image {spec.container}")
        lines.append(f"[ -x \"$1\" ] || {{ printf '%s\\n' {said} >&2; exit 2; }}")
    if site.engine in _DAEMONS and site.nice:
        lines.append(f'if nice -n {site.nice} true 2>/dev/null; then set -- nice -n {site.nice} "$@"; fi')
    return "\n".join(lines)


def _exports(environ: Mapping[str, str], wanted: frozenset[str]) -> Iterator[str]:
    """Yield the lines that set variables; locales last, as some shells read no further at one they do not have."""
    for name in sorted(environ, key=lambda n: (n.startswith("LC_") or n == "LANG", n)):
        value = shlex.quote(environ[name])
        if name in wanted or _GIVEN.fullmatch(name):
            yield f"export {name}={value}"
        elif name not in _KEPT_OUT:
            yield f'[ "${{{name}+x}}" ] || export {name}={value}'


def _renumber(site: Site) -> Mapping[str, str]:
    """Return the environment; where the container has only the job's GPUs, CUDA counts them from 0."""
    numbers = site.environ.get("CUDA_VISIBLE_DEVICES", "")
    if site.gpu_vendor != "nvidia" or site.engine not in ("docker", "podman") or not re.fullmatch(r"\d+(,\d+)*", numbers):
        return site.environ
    return {**site.environ, "CUDA_VISIBLE_DEVICES": ",".join(map(str, range(len(numbers.split(",")))))}
