"""A submission on its way in: checked as hostile input, its environment made durable, its directory proved, then one event.

The nonce: the client puts a file of a random name and content into the submit directory, as the user; each connected
host of the partition that has not answered for that directory on this connection is asked whether it sees it.  A name
alone proves nothing: /home/anna exists everywhere.
"""

import asyncio
import grp
import json
import os
import pwd
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from time import monotonic
from typing import Any

from sshq.controller.hosts import HostLink
from sshq.controller.mailbox import Mailbox
from sshq.core.arrays import ARRAY_SIZE_MAX, format_indices, parse_array
from sshq.core.events import DirectoryProved
from sshq.core.gpus import format_gpus, parse_gpus
from sshq.core.hostlist import expand_hostlist
from sshq.core.model import JobSpec
from sshq.core.origin import write_origin
from sshq.core.pythons import read_need, write_need
from sshq.core.replacing import replace
from sshq.core.stagenames import check_pattern
from sshq.errors import RefusedError
from sshq.inventory.config import Config
from sshq.inventory.values import format_duration
from sshq.kinds import KINDS
from sshq.wire.server import Peer

PROOF_S = 3.0  # a host that does not answer in time is taken as one that does not share the directory, for now
NEGATIVE_KEPT_S = 60.0  # something may be mounted later
NOTHING_ASKED = JobSpec(name="", uid=0, user="", gid=0, group="", script="", environ="")  # a copy is made faster than a spec
NAMES_KEPT_S = 10.0  # of users and groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A checked description, before anything is stored."""

    spec: JobSpec
    script: bytes
    environ: Mapping[str, str]
    held: bool
    array: str | None


def read_description(params: Mapping[str, Any], peer: Peer, config: Config) -> Incoming:
    """Return the submission, or refuse what is malformed.  `script` and `environ` digests are set later.

    Raises:
        RefusedError: "bad_request" or "too_large".
    """
    given = params.get("description")
    if not isinstance(given, dict):
        raise _bad("the description is missing")
    environ = params.get("environ") or {}
    if not isinstance(environ, dict) or not all(isinstance(k, str) and isinstance(v, str) for k, v in environ.items()):
        raise _bad("the environment is not a map of texts")
    script = os.fsencode(_text(given, "script") or "")
    if len(script) > config.script_bytes_max:
        raise RefusedError("Batch job submission failed: Pathname of a file, directory or other parameter too long",
                           detail=(f"the script has {len(script)} bytes, {config.script_bytes_max} are allowed",),
                           code="too_large")  # fmt: skip
    size = sum(len(k) + len(v) + 2 for k, v in environ.items())
    if size > config.environment_bytes_max:
        raise RefusedError("Batch job submission failed: the environment is too large", code="too_large",
                           hint="sbatch --export=NONE",
                           detail=(f"{size} bytes, {config.environment_bytes_max} are allowed",))  # fmt: skip
    kind = _text(given, "kind") or "script"
    if kind not in KINDS:
        raise _bad(f"no such kind of job: {kind}")
    array_text = _text(given, "array")
    array = None
    facts: dict[str, Any] = {"origin": write_origin(given.get("origin") or {})}
    if array_text is not None:
        try:
            array = parse_array(array_text, array_size_max=min(ARRAY_SIZE_MAX, config.array_size_max))
        except ValueError as error:
            bound = f"indices are whole numbers below {config.array_size_max} (array_size_max in config.yaml)"
            raise RefusedError(f"Batch job submission failed: {error}", code="bad_request", detail=(bound,)) from None
        limit = _int(given, "array_limit") or array.limit
        facts |= {
            "array_text": array_text, "array_limit": limit, "array_min": array.first, "array_max": array.last,
            "array_step": array.step, "array_count": array.count,
        }  # fmt: skip
    spec = replace(NOTHING_ASKED, kind=kind, **_identity(peer), **_fields(given, config), **facts)
    return Incoming(
        spec=spec,
        script=script,
        environ=environ,
        held=given.get("held") is True,
        array=format_indices(array.index_set()) if array is not None else None,
    )


def _identity(peer: Peer) -> dict[str, Any]:
    """Who submits is the kernel's word; names come from this machine, never from the client."""
    user, group = _look_up(peer.uid, peer.gid, int(monotonic() / NAMES_KEPT_S))
    return {"uid": peer.uid, "user": user, "gid": peer.gid, "group": group}


@lru_cache(maxsize=64)
def _look_up(uid: int, gid: int, _period: int) -> tuple[str, str]:
    """Return the names of a user and a group; a loop of submissions does not read the files of the machine each time."""
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    try:
        group = grp.getgrgid(gid).gr_name
    except KeyError:
        group = str(gid)
    return user, group


def _fields(given: Mapping[str, Any], config: Config) -> dict[str, Any]:
    requeue = given.get("requeue")
    signal = given.get("signal")
    limit = _int(given, "time_limit_s")
    partition = given.get("partition")
    return {
        "name": clean_name(_text(given, "name") or "sbatch"),
        "args": tuple(str(a) for a in given.get("args") or ()),
        "command": _text(given, "command") or "(null)",
        "work_dir": _path(given, "work_dir"),
        "submit_dir": _path(given, "submit_dir", _path(given, "work_dir")),
        "submit_host": _text(given, "submit_host") or "",
        "submit_line": _text(given, "submit_line") or "",
        "std_out": _text(given, "std_out"),
        "std_err": _text(given, "std_err"),
        "std_in": _text(given, "std_in"),
        "python": _python(given),
        "result": _text(given, "result"),
        "open_mode": _text(given, "open_mode"),
        "umask": _int(given, "umask") or 0,
        "export": _text(given, "export"),
        "partitions": tuple(str(p) for p in partition) if isinstance(partition, list) else (),
        "time_limit_s": limit if limit is not None else config.default_time_s,
        "num_nodes": _count(given, "num_nodes"),
        "nodes_given": given.get("nodes_given") is True,
        "num_tasks": _count(given, "num_tasks"),
        "ntasks_given": given.get("ntasks_given") is True,
        "ntasks_per_node": _int(given, "ntasks_per_node"),
        "cpus_per_task": _count(given, "cpus_per_task"),
        "cpus_per_task_given": given.get("cpus_per_task_given") is True,
        "memory_mib": _memory(given, config),
        "memory_per_cpu_mib": _int(given, "memory_per_cpu_mib"),
        "req_nodes": _hosts(given, "req_nodes"),
        "exc_nodes": _hosts(given, "exc_nodes"),
        "features": _text(given, "features"),
        "exclusive": bool(given.get("exclusive")),
        "nice": _int(given, "nice") or 0,
        "priority": _int(given, "priority"),
        "begin_at": _number(given, "begin_at"),
        "deadline_at": _number(given, "deadline_at"),
        "dependency": _text(given, "dependency"),
        "kill_on_invalid_dep": bool(given.get("kill_on_invalid_dep")),
        "requeue": {None: "yes", True: "yes", False: "no", "always": "always"}.get(requeue, "yes"),
        "retries": max(0, _int(given, "retries") or 0),
        "lease_s": _lease(given, config),
        "signal": (int(signal[0]), int(signal[1]), bool(signal[2])) if isinstance(signal, list) and len(signal) == 3 else None,
        "comment": _text(given, "comment"),
        "account": _text(given, "account"),
        "qos": _text(given, "qos"),
        **_container(given),
        "anywhere": given.get("anywhere") is True,
        "tree": _text(given, "tree"),
        "tree_below": _below(given),
        "frozen": given.get("frozen") is True,
        "stage_out": _patterns(given),
        "gpus_per_node": _gpus(given, "gpus_per_node"),
        "gpus_by_gres": given.get("gpus_by_gres") is True,
        "gpus_total": _gpus(given, "gpus_total"),
        "gpus_per_task": _gpus(given, "gpus_per_task"),
        "ntasks_per_gpu": _int(given, "ntasks_per_gpu") and _count(given, "ntasks_per_gpu"),
        "cpus_per_gpu": _int(given, "cpus_per_gpu") and _count(given, "cpus_per_gpu"),
        "memory_per_gpu_mib": _int(given, "memory_per_gpu_mib"),
        "min_cpus": _int(given, "min_cpus") or 0,
        "tmp_disk_mib": _int(given, "tmp_disk_mib") or 0,
        "prefer": _text(given, "prefer"),
        "overcommit": given.get("overcommit") is True,
        "licenses": _text(given, "licenses"),
        "limits": tuple(sorted((given.get("limits") or {}).items())),
        "reservations": tuple(name for name in (_text(given, "reservation") or "").split(",") if name),
    }


RENEWALS_A_LEASE = 4  # at least; they come with the listings
NAME_UNSAFE = re.compile(r"[\x00-\x1f\x7f/]")


def clean_name(name: str) -> str:
    """Return a job's name as it is kept: no control characters, no slash (it becomes part of file names), whole UTF-8."""
    return NAME_UNSAFE.sub("?", name.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))


def _bad(text: str) -> RefusedError:
    return RefusedError(f"Batch job submission failed: {text}", code="bad_request")


def _patterns(given: Mapping[str, Any]) -> tuple[str, ...]:
    try:
        return tuple(dict.fromkeys(check_pattern(text) for text in given.get("stage_out") or ()))
    except ValueError as error:
        raise _bad(f"Invalid --stage-out specification: {error}") from None


def _below(given: Mapping[str, Any]) -> str:
    below = _text(given, "tree_below") or ""
    if below and (given.get("tree") is None or any(part in ("", ".", "..") for part in below.split("/"))):
        raise _bad("tree_below is no directory in the tree that goes along")
    return below


def _text(given: Mapping[str, Any], key: str) -> str | None:
    value = given.get(key)
    if value is not None and (not isinstance(value, str) or "\0" in value):
        raise _bad(f"{key} is not a text")
    return value


def _int(given: Mapping[str, Any], key: str) -> int | None:
    value = given.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise _bad(f"{key} is not a whole number")
    return value


def _container(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a job in a container; none for one that is in none, whatever else is said of it."""
    image = _text(given, "container")
    if (image is None) == (given.get("kind") == "container"):
        raise _bad("a container job, and only one, names an image")
    if image is None:
        return {}
    if not image or image.startswith("-") or any(c.isspace() or not c.isprintable() for c in image):
        raise _bad("container is no name of an image")
    mounts = []
    for mount in given.get("container_mounts") or ():
        if len(mount) != 3 or not isinstance(mount[0], str) or not isinstance(mount[1], str) or not isinstance(mount[2], bool):
            raise _bad("container_mounts is not a list of source, target, read-only")
        if not mount[0].startswith("/") or not mount[1].startswith("/") or mount[1].rstrip("/") in ("", "/.sshq"):
            raise _bad(f"not a mount: {mount[0]}:{mount[1]}")
        mounts.append((mount[0], mount[1], mount[2]))
    if _count(given, "num_nodes") > 1:
        raise RefusedError("Batch job submission failed: a job in a container runs on one node", code="bad_request",
                           hint="one job a node, or an array")  # fmt: skip
    names = given.get("container_env") or ()
    if not all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) for name in names):
        raise _bad("container_env holds what is no name of a variable")
    return {
        "container": image, "container_mounts": tuple(mounts), "container_workdir": _text(given, "container_workdir"),
        "container_pull": given.get("container_pull") or "never", "container_env": tuple(names),
    }  # fmt: skip


def _lease(given: Mapping[str, Any], config: Config) -> int | None:
    """As long as it takes to restart a controller and to miss some renewals: else a busy moment would end jobs."""
    lease_s = _int(given, "lease_s")
    least_s = max(config.lease_min_s, RENEWALS_A_LEASE * config.reconcile_interval_s)
    if lease_s is not None and lease_s < least_s:
        text = f"--lease is at least {format_duration(least_s)} here"
        raise RefusedError(
            f"Batch job submission failed: {text}", code="bad_request",
            hint=f"lease_min in config.yaml; and {RENEWALS_A_LEASE} times reconcile_interval",
        )  # fmt: skip
    return lease_s


def _number(given: Mapping[str, Any], key: str) -> float | None:
    value = given.get(key)
    if value is not None and (not isinstance(value, int | float) or isinstance(value, bool)):
        raise _bad(f"{key} is not a number")
    return None if value is None else float(value)


def _python(given: Mapping[str, Any]) -> str | None:
    text = _text(given, "python")
    try:
        return text if text is None else write_need(read_need(text))
    except ValueError as error:
        raise _bad(str(error)) from None


def _count(given: Mapping[str, Any], key: str) -> int:
    value = _int(given, key)
    if value is not None and value < 1:
        raise _bad(f"{key} must be at least 1")
    return 1 if value is None else value


def _path(given: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = _text(given, key)
    if value is None and default is not None:
        return default
    if not value or not value.startswith("/"):
        raise _bad(f"{key} is not an absolute path")
    return value


def _hosts(given: Mapping[str, Any], key: str) -> tuple[str, ...]:
    text = _text(given, key)
    if not text:
        return ()
    try:
        return tuple(expand_hostlist(text))
    except ValueError as error:
        raise RefusedError(
            "Batch job submission failed: Invalid node name specified", code="bad_request", detail=(str(error),)
        ) from None


def _gpus(given: Mapping[str, Any], key: str) -> str | None:
    """Return a number of GPUs in the one form that is kept, None for none."""
    try:
        return format_gpus(parse_gpus(_text(given, key) or "0")) or None
    except ValueError as error:
        text = "Batch job submission failed: Invalid generic resource (gres) specification"
        raise RefusedError(text, code="bad_request", detail=(str(error),)) from None


def _memory(given: Mapping[str, Any], config: Config) -> int | None:
    value = _int(given, "memory_mib")
    if value is None and given.get("memory_per_cpu_mib") is None and given.get("memory_per_gpu_mib") is None:
        return config.default_memory_mib
    return value


class DirectoryProver:
    """Asks hosts about a directory, and knows whom it still has to ask."""

    def __init__(self, mailbox: Mailbox, links: Mapping[str, HostLink], clock: Callable[[], float]) -> None:
        self._mailbox = mailbox
        self._links = links
        self._clock = clock

    def unanswered(self, path: str, partitions: Sequence[str]) -> list[str]:
        """Return the connected hosts (of the partitions, or all) that have no fresh answer for `path`.

        It looks past the mailbox: what hosts said of a directory is stored nowhere, so nobody has to wait for the disk.
        """
        cluster, now = self._mailbox.cluster, self._clock()
        directories, wanted = cluster.directories, frozenset(partitions)
        names = []
        for node in cluster.nodes.values():
            if path.startswith(f"{node.name}:"):
                continue
            if not node.connected or (wanted and wanted.isdisjoint(node.config.partitions)):
                continue
            age = directories.age_s(path, node.name, now)
            if age is None or (directories.answer(path, node.name) is False and age > NEGATIVE_KEPT_S):
                names.append(node.name)
        return names

    def take_declared(self, path: str, names: Sequence[str]) -> list[str]:
        """Take the inventory's word (`sshq_shared`) where it was given; returns who is still to be asked."""
        left = []
        for name in names:
            link = self._links.get(name)
            if link is not None and any(path == d or path.startswith(d.rstrip("/") + "/") for d in link.host.shared):
                self._mailbox.post(DirectoryProved(now=self._clock(), path=path, node=name, shared=True))
            else:
                left.append(name)
        return left

    async def ask(self, path: str, names: Sequence[str], nonce_name: str, nonce: str, *, key: str = "") -> None:
        """Ask `names` side by side and post what they say, under `key` (default: the path); whoever is silent stays unknown."""

        async def one(name: str) -> None:
            link = self._links.get(name)
            shared = await link.prove(path, nonce_name, nonce) if link is not None else None
            if shared is not None:
                self._mailbox.post(DirectoryProved(now=self._clock(), path=key or path, node=name, shared=shared))

        tasks = [asyncio.create_task(one(name)) for name in names]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=PROOF_S)
            for task in late:
                task.cancel()


def check_directory(params: Mapping[str, Any]) -> tuple[str, str | None, str | None] | None:
    """Return (path, nonce file's name, nonce) of a submission's directory; None where it has none to prove."""
    directory = params.get("directory")
    if not isinstance(directory, dict) or not isinstance(directory.get("path"), str):
        return None
    nonce_path, nonce = directory.get("nonce_path"), directory.get("nonce")
    if nonce_path is None or nonce is None:
        return directory["path"], None, None
    name = os.path.basename(str(nonce_path))
    if not re.fullmatch(r"\.sshq-nonce-[0-9a-f]{8,64}", name) or not re.fullmatch(r"[0-9a-f]{8,64}", str(nonce)):
        raise _bad("the nonce is malformed")
    return directory["path"], name, str(nonce)


def read_seen_from(params: Mapping[str, Any]) -> str | None:
    """Return the node whose directory is meant, of a submission from inside a job."""
    node = params["directory"].get("seen_from")
    if node is None or isinstance(node, str):
        return node
    raise _bad("the node of the directory is malformed")


def encode_environ(environ: Mapping[str, str]) -> bytes:
    return json.dumps(dict(sorted(environ.items())), separators=(",", ":")).encode()


def decode_environ(data: bytes) -> dict[str, str]:
    decoded: dict[str, str] = json.loads(data)
    return decoded


def digest_of(data: bytes) -> str:
    """Return the name a script is kept under."""
    return sha256(data).hexdigest()
