"""The columns of sinfo: letter, names, header, and how a group of like nodes shows them.

sinfo's lines are groups: the nodes of a partition that agree in every column shown.  Sizes may differ within a
group unless --exact is given; then the least is shown with a plus sign.
"""

from sshq.core.hostlist import fold_hostlist
from sshq.core.units import format_time_limit
from sshq.slurm.clock import format_local
from sshq.slurm.layout import Field
from sshq.slurm.messages import SLURM_VERSION
from sshq.slurm.views import View, int_of, int_or_none, names_of, text_of, time_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

NULL = "(null)"
_BASE_NAMES = {  # base state: compact, long, rank in a sort by state
    "UNKNOWN": ("unk", "unknown", 0), "DOWN": ("down", "down", 1), "IDLE": ("idle", "idle", 2),
    "ALLOCATED": ("alloc", "allocated", 3), "MIXED": ("mix", "mixed", 5),
}  # fmt: skip
_DRAIN_RANK, _UNREACHABLE_RANK, _PLANNED_RANK = 0x200, 0x800, 0x800000  # Slurm's flag bits


class NodeGroup:
    """Nodes on one line, and the partition the line is of (None: the columns show none)."""

    __slots__ = ("nodes", "now", "partition", "time_style")

    def __init__(self, partition: View | None, nodes: list[View], now: float, time_style: str) -> None:
        self.partition = partition
        self.nodes = nodes
        self.now = now
        self.time_style = time_style

    def time(self, at: float | None) -> str:
        return "Unknown" if at is None else format_local(at, self.time_style, self.now)


def name_state(node: View, *, long: bool = False) -> str:
    """Return a node's state as sinfo shows it: idle, mix, drng, drain, down, unk; * if it does not answer."""
    base = text_of(node, "state", "UNKNOWN")
    compact, full, _ = _BASE_NAMES.get(base, _BASE_NAMES["UNKNOWN"])
    if node.get("drain"):
        busy = base in ("ALLOCATED", "MIXED")
        name = ("draining" if busy else "drained") if long else ("drng" if busy else "drain")
    elif node.get("reserved") and base == "IDLE":
        maintained = node["reserved"] == "MAINT"
        name = ("maint" if maintained else "reserved") if long else ("maint" if maintained else "resv")
    elif node.get("planned") and base == "IDLE":
        name = "planned" if long else "plnd"
    else:
        name = full if long else compact
    return f"{name}*" if node.get("unreachable") else name


def rank_state(node: View) -> int:
    """Return a node's place in a sort by state: flags above base states, as in Slurm's numbers."""
    rank = _BASE_NAMES.get(text_of(node, "state", "UNKNOWN"), _BASE_NAMES["UNKNOWN"])[2]
    if node.get("drain"):
        rank += _DRAIN_RANK
    if node.get("unreachable"):
        rank += _UNREACHABLE_RANK
    if node.get("planned"):
        rank += _PLANNED_RANK
    return rank


def may_be_used(node: View) -> bool:
    """Return whether a node's CPUs count as idle or allocated, and not as "other"."""
    return text_of(node, "state") in ("IDLE", "MIXED", "ALLOCATED") and not node.get("drain") and not node.get("unreachable")


def reason_of(node: View) -> str:
    """Return why a node is not used: the reason an admin gave, else what sshq noticed."""
    return text_of(node, "reason") or text_of(node, "note")


def count_nodes(nodes: "Iterable[View]") -> tuple[int, int, int, int]:
    """Return how many nodes are allocated, idle, other, in all."""
    allocated = idle = total = 0
    for node in nodes:
        total += 1
        if text_of(node, "state") in ("ALLOCATED", "MIXED"):
            allocated += 1
        elif may_be_used(node):
            idle += 1
    return allocated, idle, total - allocated - idle, total


def count_cpus(nodes: "Iterable[View]") -> tuple[int, int, int, int]:
    """Return how many CPUs are allocated, idle, other, in all."""
    allocated = idle = total = 0
    for node in nodes:
        cpus, used = int_of(node, "cpus"), int_of(node, "cpus_alloc")
        total += cpus
        allocated += used
        if may_be_used(node):
            idle += cpus - used
    return allocated, idle, total - allocated - idle, total


def _counts(counts: tuple[int, ...]) -> str:
    return "/".join(map(str, counts))


def _least(key: str, default: int = 0) -> "Callable[[NodeGroup], str]":
    def show(group: NodeGroup) -> str:
        values = [int_of(node, key, default) for node in group.nodes]
        return "0" if not values else str(min(values)) + ("+" if min(values) != max(values) else "")

    return show


def _range(values: list[str], numbers: list[float]) -> str:
    if not numbers:
        return "N/A"
    low, high = values[numbers.index(min(numbers))], values[numbers.index(max(numbers))]
    return low if low == high else f"{low}-{high}"


def _load(group: NodeGroup) -> str:
    loads = [load for node in group.nodes if (load := time_of(node, "load")) is not None]
    return _range([f"{load:.2f}" for load in loads], loads)


def _free_memory(group: NodeGroup) -> str:
    free = [mib for node in group.nodes if (mib := int_or_none(node, "memory_free_mib")) is not None]
    return _range([str(mib) for mib in free], [float(mib) for mib in free])


def _first(show: "Callable[[View], str]", missing: str) -> "Callable[[NodeGroup], str]":
    return lambda group: show(group.nodes[0]) if group.nodes else missing


def _of_partition(show: "Callable[[View], str]") -> "Callable[[NodeGroup], str]":
    return lambda group: show(group.partition) if group.partition is not None else "n/a"


def _always(text: str) -> "Callable[[NodeGroup], str]":
    return lambda _group: text


def _shape(group: NodeGroup) -> str:
    return ":".join(_least(key, 1)(group) for key in ("sockets", "cores", "threads"))


def _user(node: View) -> str:
    return text_of(node, "reason_user", "Unknown")


def _long_user(node: View) -> str:
    user, uid = _user(node), int_or_none(node, "reason_uid")
    return user if uid is None else f"{user}({uid})"


def _reason_at(node: View) -> float | None:
    at = time_of(node, "reason_at")
    return time_of(node, "since_at") if at is None and reason_of(node) else at


def _gres_used(node: View) -> str:
    return text_of(node, "gres_used", "gpu:0")


def _gres(node: View) -> str:
    return text_of(node, "gres", NULL)


def _features(node: View) -> str:
    return ",".join(names_of(node, "features")) or NULL


def _limit(key: str, missing: str) -> "Callable[[View], str]":
    return lambda partition: format_time_limit(int_or_none(partition, key), unlimited=missing)


NODE_FIELDS: tuple[Field[NodeGroup], ...] = (
    Field("a", "Available", "AVAIL", _of_partition(lambda part: text_of(part, "state", "UP").lower())),
    Field("A", "NodeAI", "NODES(A/I)", lambda group: _counts(count_nodes(group.nodes)[:2])),
    Field("b", "ActiveFeatures features_act", "ACTIVE_FEATURES", _first(_features, NULL)),
    Field("B", "MaxCPUsPerNode", "MAX_CPUS_PER_NODE", _always("UNLIMITED")),
    Field("c", "CPUs", "CPUS", _least("cpus")),
    Field("C", "CPUsState", "CPUS(A/I/O/T)", lambda group: _counts(count_cpus(group.nodes))),
    Field("d", "Disk", "TMP_DISK", _least("tmp_disk_mib")),
    Field("D", "Nodes", "NODES", lambda group: str(len(group.nodes))),
    Field("e", "FreeMem", "FREE_MEM", _free_memory),
    Field("E", "Reason", "REASON", _first(lambda node: reason_of(node) or "none", "none")),
    Field("f", "Features", "AVAIL_FEATURES", _first(_features, NULL)),
    Field("F", "NodeAIOT", "NODES(A/I/O/T)", lambda group: _counts(count_nodes(group.nodes))),
    Field("g", "Groups", "GROUPS", _always("all")),
    Field("G", "Gres", "GRES", _first(_gres, NULL)),
    Field("h", "OverSubscribe", "OVERSUBSCRIBE", _always("NO")),
    Field("H", "TimeStamp", "TIMESTAMP",
          lambda group: group.time(_reason_at(group.nodes[0])) if group.nodes else "Unknown"),
    Field("I", "PriorityJobFactor", "PRIO_JOB_FACTOR", _always("1")),
    Field("l", "Time", "TIMELIMIT", _of_partition(_limit("max_time_s", "infinite"))),
    Field("L", "DefaultTime", "DEFAULTTIME", _of_partition(_limit("default_time_s", "n/a"))),
    Field("m", "Memory", "MEMORY", _least("memory_mib")),
    Field("M", "PreemptMode", "PREEMPT_MODE", _always("OFF")),
    Field("n", "NodeHost", "HOSTNAMES", lambda group: fold_hostlist(text_of(node, "name") for node in group.nodes)),
    Field("N", "NodeList", "NODELIST", lambda group: fold_hostlist(text_of(node, "name") for node in group.nodes)),
    Field("o", "NodeAddr", "NODE_ADDR", lambda group: ",".join(sorted({text_of(node, "address") for node in group.nodes}))),
    Field("O", "CPUsLoad", "CPU_LOAD", _load),
    Field("p", "PriorityTier Priority", "PRIO_TIER", _of_partition(lambda part: str(int_of(part, "priority_tier", 1)))),
    Field("P", "Partition", "PARTITION",
          _of_partition(lambda part: text_of(part, "name") + ("*" if part.get("default") else "")), keeps_star=True),
    Field("r", "Root", "ROOT", _always("no")),
    Field("R", "PartitionName", "PARTITION", _of_partition(lambda part: text_of(part, "name"))),
    Field("s", "Size", "JOB_SIZE", _always("1-infinite")),
    Field("S", "AllocNodes", "ALLOCNODES", _always("all")),
    Field("t", "StateCompact", "STATE", _first(name_state, "n/a")),
    Field("T", "StateLong", "STATE", _first(lambda node: name_state(node, long=True), "n/a")),
    Field("u", "User", "USER", _first(_user, "Unknown")),
    Field("U", "UserLong", "USER", _first(_long_user, "Unknown")),
    Field("v", "Version", "VERSION", _always(SLURM_VERSION)),
    Field("V", "Cluster", "CLUSTER", _always("N/A")),
    Field("w", "Weight", "WEIGHT", _least("weight", 1)),
    Field("X", "Sockets", "SOCKETS", _least("sockets", 1)),
    Field("Y", "Cores", "CORES", _least("cores", 1)),
    Field("Z", "Threads", "THREADS", _least("threads", 1)),
    Field("z", "SocketCoreThread", "S:C:T", _shape),
    # Names without a letter.
    Field("", "AllocMem", "ALLOCMEM", lambda group: str(sum(int_of(node, "memory_alloc_mib") for node in group.nodes))),
    Field("", "Comment", "COMMENT", _always(NULL)),
    Field("", "Extra", "EXTRA", _always(NULL)),
    Field("", "GresUsed", "GRES_USED", _first(_gres_used, "gpu:0")),
    Field("", "Port", "PORT", lambda group: ",".join(sorted({str(int_of(node, "port", 22)) for node in group.nodes}))),
    Field("", "StateComplete", "STATECOMPLETE", _first(lambda node: name_state(node, long=True), "n/a")),
)  # fmt: skip

# What nodes must agree in to share a line, by the column that shows it; columns not named here sum or range.
MATCHED: "dict[str, Callable[[View], object]]" = {
    "b": _features, "f": _features, "E": reason_of, "G": _gres, "H": _reason_at, "t": name_state,
    "T": lambda node: name_state(node, long=True), "u": _user, "U": _long_user, "gresused": _gres_used,
    "statecomplete": lambda node: name_state(node, long=True),
}  # fmt: skip
MATCHED_EXACTLY: "dict[str, Callable[[View], object]]" = {
    "c": lambda node: int_of(node, "cpus"), "d": lambda node: int_of(node, "tmp_disk_mib"),
    "m": lambda node: int_of(node, "memory_mib"), "w": lambda node: int_of(node, "weight", 1),
    "X": lambda node: int_of(node, "sockets", 1), "Y": lambda node: int_of(node, "cores", 1),
    "Z": lambda node: int_of(node, "threads", 1),
    "z": lambda node: (int_of(node, "sockets", 1), int_of(node, "cores", 1), int_of(node, "threads", 1)),
    "O": lambda node: time_of(node, "load"), "e": lambda node: int_or_none(node, "memory_free_mib"),
}  # fmt: skip
PARTITION_LETTERS = frozenset("aBghIlLMpPrRsSV")
