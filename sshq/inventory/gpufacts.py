"""What the tools of GPU makers say (runner/gpus.sh fetches it), read.  Hostile input: what is not as expected is absent.

nvidia-smi and rocm-smi are read as they are known from machines of several generations, amd-smi as its documentation has it.
"""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sshq.core.gpus import Gpu, GpuUse, type_word

GPUS_MAX: Final = 64
PIDS_MAX: Final = 200

_PID = re.compile(r"[1-9][0-9]{0,9}")
_PIDGPUS = re.compile(r"PID ([0-9]{1,10}) is using ([0-9]{1,4}) DRM device")
_LISTED = re.compile(r"GPU ([0-9]{1,4}): ")
_INSTANCE = re.compile(r"\s*MIG (\S+)\s+Device\s+[0-9]+: \(UUID: (MIG-[\w/.-]+)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuAnswer:
    """One look.  `problem`: the tool is there and did not tell; then the rest says nothing."""

    gpus: tuple[Gpu, ...] = ()
    used_mib: tuple[tuple[str, int], ...] = ()  # by id, of those that say so
    processes: tuple[tuple[str, int, int], ...] = ()  # GPU's id, pid, MiB (0 unknown)
    tool: str = ""
    devices: tuple[int, ...] = ()  # /dev/nvidiaN
    problem: str = ""

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(pid for _, pid, _ in self.processes))[:PIDS_MAX]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessOwner:
    """Whose a process is."""

    user: str
    ours: bool  # it belongs to a job of this spool
    name: str = ""


def parse_gpus_answer(lines: Iterable[tuple[str, str]]) -> GpuAnswer:
    """Return what a look at a node's GPUs showed, from (key, value) lines.  Never raises."""
    said: dict[str, list[str]] = {}
    for key, value in lines:
        said.setdefault(key, []).append(value)
    numbers = {int(word) for line in said.get("devices", ()) for word in line.split() if _is_count(word)}
    devices = tuple(sorted(numbers))[:GPUS_MAX]
    tool = said.get("tool", [""])[0]
    if tool == "nvidia-smi":
        return _read_nvidia(said, devices)
    if tool == "rocm-smi":
        return _read_rocm(said, devices)
    if tool == "amd-smi":
        return _read_amd(said, devices)
    return GpuAnswer(devices=devices)


def parse_owners(lines: Iterable[tuple[str, str]]) -> dict[int, ProcessOwner]:
    """Return whose the processes are that a node was asked about; who is not in it has ended, or is in another container."""
    owners = {}
    for key, value in lines:
        user, _, rest = value.partition(" ")
        ours, _, name = rest.partition(" ")
        if _PID.fullmatch(key):
            owners[int(key)] = ProcessOwner(user=_word(user), ours=ours not in ("-", ""), name=_word(name))
    return owners


def find_uses(answer: GpuAnswer, owners: Mapping[int, ProcessOwner], idle_mib: int) -> tuple[GpuUse, ...]:
    """Return which GPUs somebody outside the queue has in use: by a process that is no job's, or by memory of nobody's.

    So much memory in use as `idle_mib` means nothing without a process: a desktop, a driver.
    """
    used = dict(answer.used_mib)
    found: dict[str, GpuUse] = {}
    explained = set()
    for gpu, pid, mib in answer.processes:
        owner = owners.get(pid)
        if owner is None:  # gone, or out of sight: its memory decides
            continue
        explained.add(gpu)
        if not owner.ours and (gpu not in found or mib > found[gpu].memory_mib):
            found[gpu] = GpuUse(id=gpu, user=owner.user, pid=pid, memory_mib=mib or used.get(gpu, 0))
    for gpu, mib in answer.used_mib:
        if gpu not in explained and mib > idle_mib:
            found[gpu] = GpuUse(id=gpu, memory_mib=mib)
    return tuple(found[gpu] for gpu in sorted(found))


# ---- NVIDIA ----------------------------------------------------------------------------------------------------------


def _read_nvidia(said: Mapping[str, Sequence[str]], devices: tuple[int, ...]) -> GpuAnswer:
    plain = "plain" in said or "plain.status" in said
    key = "plain" if plain else "gpus"
    lines, status = said.get(key, ()), _status(said, key)
    if status != "0":
        text = next((line for line in lines if line.strip()), "")
        if "No devices were found" in text:
            return GpuAnswer(tool="nvidia-smi", devices=devices)
        return GpuAnswer(tool="nvidia-smi", devices=devices, problem=_explain("nvidia-smi", status, text))
    instances = _read_instances(said.get("list", ()))
    gpus: list[Gpu] = []
    used: list[tuple[str, int]] = []
    for words in _rows(lines):
        if len(words) < 6 or not _is_count(words[0]) or len(gpus) >= GPUS_MAX:
            continue
        index, uuid, bus = int(words[0]), words[1], words[2]
        mig = not plain and words[-1] == "Enabled"
        memory, in_use = words[-2:] if plain else words[-3:-1]
        name = _word(", ".join(words[3:-2] if plain else words[3:-3]))
        gpu = Gpu(
            id=_word(uuid) if uuid.startswith("GPU-") else f"index:{index}", index=index, type=type_word(name), name=name,
            bus=_word(bus), memory_mib=_mib(memory), vendor="nvidia", mig=mig, instances=instances.get(index, ()) if mig else (),
        )  # fmt: skip
        gpus.append(gpu)
        if _is_count(in_use):
            used.append((gpu.id, int(in_use)))
    if not gpus and any(line.strip() and "No devices were found" not in line for line in lines):
        return GpuAnswer(tool="nvidia-smi", devices=devices, problem=_explain("nvidia-smi", status, next(iter(lines))))
    processes = [
        (words[0], int(words[1]), _mib(words[2])) for words in _rows(said.get("apps", ()))
        if len(words) >= 3 and _PID.fullmatch(words[1]) and words[0] in {gpu.id for gpu in gpus}
    ]  # fmt: skip
    return GpuAnswer(
        gpus=_ordered(gpus), used_mib=tuple(used), processes=tuple(processes[:PIDS_MAX]), tool="nvidia-smi", devices=devices
    )


def _read_instances(lines: Iterable[str]) -> dict[int, tuple[str, ...]]:
    """The MIG instances of each GPU in `nvidia-smi -L`, as "3g.20gb MIG-…"."""
    found: dict[int, tuple[str, ...]] = {}
    index = -1
    for line in lines:
        if head := _LISTED.match(line):
            index = int(head[1])
        elif instance := _INSTANCE.match(line):
            found[index] = (*found.get(index, ()), f"{instance[1]} {instance[2]}")
    return found


# ---- AMD -------------------------------------------------------------------------------------------------------------


def _read_rocm(said: Mapping[str, Sequence[str]], devices: tuple[int, ...]) -> GpuAnswer:
    status = _status(said, "gpus")
    lines = [line for line in said.get("gpus", ()) if line.strip()]
    start = next((i for i, line in enumerate(lines) if line.startswith("device,")), None)
    if start is None or status == "hangs":
        text = " ".join(lines[-1:])
        if status == "0" and (not lines or "No AMD GPUs" in " ".join(lines)):
            return GpuAnswer(tool="rocm-smi", devices=devices)
        return GpuAnswer(tool="rocm-smi", devices=devices, problem=_explain("rocm-smi", status, text))
    gpus: list[Gpu] = []
    used: list[tuple[str, int]] = []
    for row in _records(lines[start:]):
        place = re.fullmatch(r"card([0-9]{1,4})", row.get("device", ""))
        if place is None or len(gpus) >= GPUS_MAX:
            continue
        index = int(place[1])
        name = next((row[key] for key in ("card series", "card model", "device name") if not _is_code(row.get(key, ""))), "")
        gpu = Gpu(
            id=_amd_id(row.get("unique id", ""), index), index=index, type=type_word(name), name=_word(name),
            bus=_word(row.get("pci bus", "")), memory_mib=_bytes_to_mib(row.get("vram total memory (b)", "")), vendor="amd",
        )  # fmt: skip
        gpus.append(gpu)
        if _is_count(row.get("vram total used memory (b)", "")):
            used.append((gpu.id, _bytes_to_mib(row["vram total used memory (b)"])))
    by_index = {gpu.index: gpu.id for gpu in gpus}
    processes, pid = [], 0
    for line in said.get("pids", ()):
        if head := _PIDGPUS.search(line):
            pid = int(head[1])
        elif pid and re.fullmatch(r"[\s0-9,]+", line):
            processes += [(by_index[int(w)], pid, 0) for w in re.split(r"[\s,]+", line) if _is_count(w) and int(w) in by_index]
        else:
            pid = 0
    return GpuAnswer(
        gpus=_ordered(gpus), used_mib=tuple(used), processes=tuple(processes[:PIDS_MAX]), tool="rocm-smi", devices=devices
    )


def _read_amd(said: Mapping[str, Sequence[str]], devices: tuple[int, ...]) -> GpuAnswer:
    status = _status(said, "gpus")
    rows = _amd_rows(said, "gpus")
    if not rows:
        text = next((line for line in said.get("gpus", ()) if line.strip()), "")
        problem = "" if status == "0" and not text else _explain("amd-smi", status, text)
        return GpuAnswer(tool="amd-smi", devices=devices, problem=problem)
    names = {row["gpu"]: row for row in _amd_rows(said, "names")}
    memory = {row["gpu"]: row for row in _amd_rows(said, "memory")}
    gpus: dict[str, Gpu] = {}
    used: list[tuple[str, int]] = []
    for row in rows[:GPUS_MAX]:
        key, index = row["gpu"], int(row["gpu"])
        name = _word(names.get(key, {}).get("market_name", ""))
        total, in_use = memory.get(key, {}).get("total_vram", ""), memory.get(key, {}).get("used_vram", "")
        gpus[key] = Gpu(
            id=_amd_id(row.get("gpu_uuid", ""), index), index=index, type=type_word(name), name=name,
            bus=_word(row.get("gpu_bdf", "")), memory_mib=_mib(total), vendor="amd",
        )  # fmt: skip
        if _is_count(in_use):
            used.append((gpus[key].id, int(in_use)))
    processes = [
        (gpus[row["gpu"]].id, int(row["pid"]), 0) for row in _amd_rows(said, "pids")
        if row["gpu"] in gpus and _PID.fullmatch(row.get("pid", ""))
    ]  # fmt: skip
    return GpuAnswer(
        gpus=_ordered(gpus.values()), used_mib=tuple(used), processes=tuple(processes[:PIDS_MAX]), tool="amd-smi", devices=devices
    )


def _amd_rows(said: Mapping[str, Sequence[str]], key: str) -> list[dict[str, str]]:
    lines = [line for line in said.get(key, ()) if "," in line]
    start = next((i for i, line in enumerate(lines) if line.startswith("gpu,")), len(lines))
    return [row for row in _records(lines[start:]) if _is_count(row.get("gpu", ""))]


def _amd_id(text: str, index: int) -> str:
    """The unique id of a card as ROCm's own variables take it (GPU-…), or a UUID; cards for desktops have none."""
    text = text.strip().lower()
    if re.fullmatch(r"0x[0-9a-f]{4,16}", text) and int(text, 16):
        return f"GPU-{text[2:]}"
    return text if re.fullmatch(r"[0-9a-f-]{32,36}", text) and text.strip("0-") else f"index:{index}"


# ---- pieces ----------------------------------------------------------------------------------------------------------


def _status(said: Mapping[str, Sequence[str]], key: str) -> str:
    return next(iter(said.get(f"{key}.status", ())), "hangs")


def _explain(tool: str, status: str, text: str) -> str:
    if status == "hangs":
        return f"{tool} does not answer"
    text = _word(text)
    return f"{tool} fails ({status}){f': {text}' if text else ''}"


def _rows(lines: Iterable[str]) -> list[list[str]]:
    return [[word.strip() for word in line.split(",")] for line in lines]


def _records(lines: Sequence[str]) -> list[dict[str, str]]:
    """CSV with a head line, names in lower case."""
    try:
        rows = list(csv.reader(lines))
    except csv.Error:
        return []
    head = [name.strip().lower() for name in rows[0]] if rows else []
    return [dict(zip(head, (word.strip() for word in row), strict=False)) for row in rows[1:]]


def _ordered(gpus: Iterable[Gpu]) -> tuple[Gpu, ...]:
    """By index, each id once: twins (partitions of one card) are told apart by their index."""
    seen: dict[str, Gpu] = {}
    for gpu in sorted(gpus, key=lambda gpu: gpu.index):
        seen.setdefault(gpu.id, gpu)
    return tuple(seen.values())


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 15


def _is_code(text: str) -> bool:
    """No name for people: 0x738c, N/A, nothing."""
    return not text or text.lower().startswith("0x") or text in ("N/A", "[N/A]")


def _mib(text: str) -> int:
    return int(text) if _is_count(text) else 0


def _bytes_to_mib(text: str) -> int:
    return int(text) >> 20 if _is_count(text) else 0


def _word(text: str) -> str:
    """Printable, and not endless: it ends up in listings."""
    return "".join(c if c.isprintable() else "?" for c in text[:120]).strip()
