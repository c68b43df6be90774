"""GPUs: what a node has, what a request wants, and which ones it gets.

A GPU is known by its UUID: indices change when one is replaced or falls off its bus.  Where no tool of its maker tells
UUIDs it is counted, and its id is "index:N".
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

Wanted = tuple[tuple[str, int], ...]  # type ("" any) and number
GpuShare = tuple[tuple[str, int, str], ...]  # what a job holds on one node: id, index, type

COUNT_MAX = 1024

_TYPED = re.compile(r"(?:([A-Za-z0-9][\w.-]*):)?([0-9]{1,6})|([A-Za-z][\w.-]*)", re.ASCII)
_MODEL = re.compile(
    r"(?i)\b(rtx|gtx|titan|quadro|mi|pro|rx|gt)[\s-]*([a-z]{0,2}[0-9]{1,5}[a-z]{0,3})\b|\b([a-z]{1,2}[0-9]{1,4}[a-z]?)\b"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU of a node, as the probe or the inventory has it."""

    id: str
    index: int  # of its maker's tool: the order of the PCI bus
    type: str = ""  # a100, rtx3090, mi210; "" unknown
    name: str = ""
    bus: str = ""
    memory_mib: int = 0
    vendor: str = ""  # nvidia, amd; "" unknown
    mig: bool = False  # cut into instances: it is not handed out
    instances: tuple[str, ...] = ()  # of MIG, as the tool names them


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuLimit:
    """What the inventory says (`sshq_gpus`): a number, a number of each type, or which ones (UUIDs or indices)."""

    count: int | None = None
    types: Wanted = ()
    ids: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ",".join(self.ids) or format_gpus(self.types) or str(self.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuUse:
    """Somebody outside the queue has a GPU in use."""

    id: str
    user: str = ""  # "" where only its memory shows it
    pid: int = 0
    memory_mib: int = 0

    def __str__(self) -> str:
        who = f"{self.user or '?'} pid {self.pid}" if self.pid else "no process that can be seen"
        return f"{who}, {self.memory_mib} MiB"


# ---- requests --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def parse_gpus(text: str) -> Wanted:
    """Return what --gpus and its kin ask for: 2, a100:2, a100, a100:2,v100:1; () for 0.

    Raises:
        ValueError: none of these.
    """
    counts: dict[str, int] = {}
    for item in text.split(","):
        found = _TYPED.fullmatch(item.strip())
        if not found:
            raise ValueError(f"not a number of GPUs: {item!r}")
        kind = (found[1] or found[3] or "").lower()
        counts[kind] = counts.get(kind, 0) + int(found[2] or 1)
    if sum(counts.values()) > COUNT_MAX:
        raise ValueError(f"more than {COUNT_MAX} GPUs")
    return tuple(sorted((kind, count) for kind, count in counts.items() if count))


def parse_gres(text: str) -> Wanted:
    """Return what --gres asks of each node: gpu, gpu:2, gpu:a100:2, several by commas; none and NULL are ().

    Raises:
        ValueError: another resource than gpu, or not of that form.
    """
    if text.strip().lower() in ("none", "null", ""):
        return ()
    wanted = []
    for item in text.split(","):
        name, colon, rest = item.strip().removeprefix("gres:").partition(":")
        if name.lower() != "gpu":
            raise ValueError(f"no such resource: {name!r}")
        wanted.append(rest if colon else "1")
    return parse_gpus(",".join(wanted))


def format_gpus(wanted: Iterable[tuple[str, int]]) -> str:
    """Return the text `parse_gpus` reads."""
    return ",".join(f"{kind}:{count}" if kind else str(count) for kind, count in wanted)


def format_gres(wanted: Iterable[tuple[str, int]]) -> str:
    """Return Slurm's words for it: gpu:a100:2,gpu:1."""
    return ",".join(f"gpu:{kind}:{count}" if kind else f"gpu:{count}" for kind, count in wanted)


def count_of(wanted: Iterable[tuple[str, int]]) -> int:
    return sum(count for _, count in wanted)


def times(wanted: Wanted, number: int) -> Wanted:
    return tuple((kind, count * number) for kind, count in wanted)


def share_of(wanted: Wanted, places: int, place: int) -> Wanted:
    """Return what of GPUs for a whole job falls to one of its nodes: as evenly as it goes, the first ones more."""
    parts = ((kind, count // places + (place < count % places)) for kind, count in wanted)
    return tuple((kind, count) for kind, count in parts if count)


# ---- choosing --------------------------------------------------------------------------------------------------------


def is_of_type(gpu: Gpu, kind: str) -> bool:
    """Whether a GPU is what a request calls `kind`: its type word, or its whole name as Slurm would write it."""
    kind = kind.lower()
    full = re.sub(r"\s+", "_", gpu.name.lower())
    return kind in (gpu.type.lower(), full, full.removeprefix("nvidia_"))


def pick_gpus(free: Sequence[Gpu], wanted: Wanted) -> tuple[Gpu, ...] | None:
    """Return GPUs that satisfy a request, the lowest indices first; None if there are too few."""
    left = sorted(free, key=lambda gpu: gpu.index)
    chosen: list[Gpu] = []
    for kind, count in sorted(wanted, key=lambda one: not one[0]):  # typed ones first: any will do for the others
        fitting = [gpu for gpu in left if not kind or is_of_type(gpu, kind)][:count]
        if len(fitting) < count:
            return None
        chosen += fitting
        left = [gpu for gpu in left if gpu not in fitting]
    return tuple(sorted(chosen, key=lambda gpu: gpu.index))


def hold(gpus: Iterable[Gpu]) -> GpuShare:
    """Return GPUs as a job's record keeps them."""
    return tuple((gpu.id, gpu.index, gpu.type) for gpu in gpus)


def tally(share: Iterable[tuple[str, int, str]]) -> Wanted:
    """Return how many of each type a job holds."""
    counts: dict[str, int] = {}
    for _, _, kind in share:
        counts[kind] = counts.get(kind, 0) + 1
    return tuple(sorted(counts.items()))


def tally_gpus(gpus: Iterable[Gpu]) -> Wanted:
    return tally(hold(gpus))


def fold_indices(indices: Collection[int]) -> str:
    """Return 0-2,5; "" for none."""
    parts: list[list[int]] = []
    for index in sorted(indices):
        if parts and parts[-1][1] == index - 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


# ---- what a node has -------------------------------------------------------------------------------------------------


def type_word(name: str) -> str:
    """Return the short name of a model: "NVIDIA A100-SXM4-80GB" is a100, "NVIDIA GeForce RTX 3090" rtx3090, "" unknown."""
    words = re.sub(r"(?i)\b(nvidia|amd|geforce|tesla|radeon|instinct|graphics|generation|gpu|laptop)\b|\[|\]|\(.*?\)", " ", name)
    found = _MODEL.search(words)
    if found is None:
        left = re.sub(r"[^a-z0-9]+", "", words.lower())
        return left if re.match(r"[a-z]", left) else ""
    # RTX A6000 and Quadro P2000 are a6000 and p2000 to everybody, RTX 3090 is rtx3090.
    word = found[3] or (found[2] if found[2][0].isalpha() else f"{found[1]}{found[2]}")
    suffix = re.match(r"(?i)\s+(ti super|ti|super|xtx|xt|ada)\b", words[found.end() :]) if found[1] else None
    return (word + (suffix[1].replace(" ", "") if suffix else "")).lower()


@lru_cache(maxsize=4096)
def usable_gpus(
    found: tuple[Gpu, ...], devices: tuple[int, ...], limit: GpuLimit | None, told: bool = False
) -> tuple[tuple[Gpu, ...], str]:
    """Return the GPUs to hand out, and where the inventory and the machine disagree ("" if they do not).

    Args:
        found: by the maker's tool.
        devices: /dev/nvidiaN, for machines without the tool.
        limit: the inventory's word, None where it says nothing: then all that were found.
        told: there is a tool and it has told: what it did not find is not there.
    """
    whole = tuple(gpu for gpu in found if not gpu.mig)
    if limit is None:
        return whole, ""
    if not found and not told:
        return _count_gpus(devices, limit)
    if limit.ids:
        known = {gpu.id.lower(): gpu for gpu in found} | {str(gpu.index): gpu for gpu in found}
        named = [known.get(one.lower()) for one in limit.ids]
        missing = [one for one, gpu in zip(limit.ids, named, strict=True) if gpu is None or gpu.mig]
        chosen = {gpu.id: gpu for gpu in named if gpu is not None and not gpu.mig}
        verb = "is" if len(missing) == 1 else "are"
        complaint = f"sshq_gpus names {', '.join(missing)}, which {verb} not there" if missing else ""
        return tuple(sorted(chosen.values(), key=lambda gpu: gpu.index)), complaint
    if limit.types:
        taken: list[Gpu] = []
        short = []
        for kind, count in limit.types:
            fitting = [gpu for gpu in whole if is_of_type(gpu, kind) and gpu not in taken][:count]
            taken += fitting
            if len(fitting) < count:
                short.append(f"{count} {kind}")
        complaint = f"sshq_gpus says {' and '.join(short)}, found {format_gpus(tally_gpus(whole)) or 'none'}" if short else ""
        return tuple(sorted(taken, key=lambda gpu: gpu.index)), complaint
    count = limit.count or 0
    complaint = f"sshq_gpus says {count}, found {len(whole)}" if len(whole) < count else ""
    return whole[:count], complaint


def _count_gpus(devices: tuple[int, ...], limit: GpuLimit) -> tuple[tuple[Gpu, ...], str]:
    """GPUs by the inventory's word alone, where no tool tells of them; device files, where there are any, bound the number."""
    if limit.ids:
        kinds = [(int(one), "") for one in limit.ids if one.isdecimal()]
        unknown = [one for one in limit.ids if not one.isdecimal()]
        if unknown:
            return (), f"sshq_gpus names {', '.join(unknown)}, and no tool tells of any GPU"
    else:
        names = [kind for kind, count in limit.types or (("", limit.count or 0),) for _ in range(count)]
        places = devices or tuple(range(len(names)))
        kinds = list(zip(places, names, strict=False))
    vendor = "nvidia" if devices else ""
    there = [(index, kind) for index, kind in kinds if not devices or index in devices]
    asked = len(limit.ids) or count_of(limit.types) or limit.count or 0
    complaint = f"sshq_gpus says {asked}, /dev has {len(devices)} of NVIDIA's" if len(there) < asked else ""
    return tuple(Gpu(id=f"index:{index}", index=index, type=kind, vendor=vendor) for index, kind in there), complaint
