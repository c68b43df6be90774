"""What a node said about itself: the probe's lines, read into `Facts`.  Hostile input: what is not as expected is absent."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_COUNT = re.compile(r"[0-9]{1,15}")
_REAL = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?")
_TEXT_MAX: Final = 200
ENGINES: Final = ("podman", "apptainer", "singularity", "docker", "docker-rootless")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """None or empty: the node did not say, or not so that it could be read."""

    hostname: str = ""
    os: str = ""
    kernel: str = ""
    arch: str = ""
    cpu_model: str = ""
    gpu_driver: str = ""  # nvidia 535.54.03
    python: str = ""  # /usr/bin/python3 Python 3.11.2: the one that PATH finds
    cpus: int | None = None
    sockets: int | None = None
    cores_per_socket: int | None = None
    threads_per_core: int | None = None
    memory_mib: int | None = None
    memory_free_mib: int | None = None
    load1: float | None = None
    boot_at: float | None = None
    clock_at: int | None = None
    uptime_s: float | None = None
    login_shell: str = ""
    sh: str = ""  # what /bin/sh is
    setsid: str = ""  # how jobs get a session: setsid, perl, python3
    signals: str = ""  # how jobs get clean signals: env, perl, python3, none
    spool_fs: str = ""
    spool_free_mib: int | None = None
    room: str = ""  # in the spool, for a launch: ok, no-space, no-files, read-only
    tmp_mib: int | None = None
    machine: str = ""  # digest of the machine id
    tools: frozenset[str] = frozenset()
    user_scope: bool = False  # `systemd-run --user --scope` works
    kill_user_processes: bool = False  # logind ends jobs at logout, unless they have a scope and linger
    engines: tuple[str, ...] = ()  # of containers: podman, apptainer, singularity, docker (acting as root), docker-rootless
    linger: bool = False


def parse_facts(lines: Iterable[tuple[str, str]]) -> Facts:
    """Return the facts of a probe, given as (key, value) in any order; the first of a key counts.  Never raises."""
    said: dict[str, str] = {}
    for key, value in lines:
        said.setdefault(key, value)
    sockets, cores, threads = _topology(said.get("topology", ""))
    clock, uptime = _count(said.get("clock")), _real(said.get("uptime"))
    return Facts(
        hostname=_text(said.get("hostname")),
        os=_text(said.get("os")),
        kernel=_text(said.get("kernel")),
        arch=_text(said.get("arch")),
        cpu_model=_text(said.get("cpu_model")),
        gpu_driver=_text(said.get("gpu_driver")),
        python=_text(said.get("python")),
        cpus=_count(said.get("cpus")) or None,
        sockets=sockets,
        cores_per_socket=cores,
        threads_per_core=threads,
        memory_mib=_mib(said.get("memory_kib")),
        memory_free_mib=_mib(said.get("memory_free_kib")),
        load1=_real(said.get("load1")),
        boot_at=None if clock is None or uptime is None else clock - uptime,
        clock_at=clock,
        uptime_s=uptime,
        login_shell=_text(said.get("login_shell")),
        sh=_text(said.get("sh")),
        setsid=_text(said.get("setsid")),
        signals=_text(said.get("signals")),
        spool_fs=_text(said.get("spool_fs")),
        room=_text(said.get("room")),
        spool_free_mib=_count(said.get("spool_free_mib")),
        tmp_mib=_count(said.get("tmp_mib")),
        machine=_text(said.get("machine")),
        tools=frozenset(_text(said.get("tools")).split()),
        user_scope=said.get("user_scope") == "1",
        kill_user_processes=said.get("kill_user_processes") == "1",
        engines=tuple(word for word in _text(said.get("engines")).split() if word in ENGINES),
        linger=said.get("linger") == "1",
    )


def _text(value: str | None) -> str:
    """Printable, and not endless: it ends up in listings."""
    cut = (value or "")[: 2000 if value and " " in value else _TEXT_MAX]
    return "".join(c if c.isprintable() else "?" for c in cut)


def _count(value: str | None) -> int | None:
    return int(value) if value and _COUNT.fullmatch(value) else None


def _real(value: str | None) -> float | None:
    return float(value) if value and _REAL.fullmatch(value) else None


def _mib(value: str | None) -> int | None:
    kib = _count(value)
    return None if kib is None else kib // 1024


def _topology(value: str) -> tuple[int | None, int | None, int | None]:
    words = value.split()
    numbers = [_count(w) for w in words]
    if len(numbers) != 3 or not all(numbers):
        return None, None, None
    return numbers[0], numbers[1], numbers[2]
