"""sinfo: nodes folded into lines by partition and by all that the columns show.

Every partition has a line, even one without a matching node (`0 n/a`); a filter on partitions is silent about
names it does not know.  A node that does not answer bears a star, as in Slurm.
"""

from sshq.errors import OptionError
from sshq.slurm.clock import format_banner
from sshq.slurm.fields_sinfo import (
    MATCHED,
    MATCHED_EXACTLY,
    NODE_FIELDS,
    PARTITION_LETTERS,
    NodeGroup,
    name_state,
    rank_state,
    reason_of,
)
from sshq.slurm.getopt import Parsed, parse_options
from sshq.slurm.layout import Layout, Output, read_format, read_interval, read_long_format, show_all_format
from sshq.slurm.messages import ExactError
from sshq.slurm.views import View, int_of, names_of, text_of, time_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    Filter = Callable[[View], bool]

NAME_WIDTH_MIN = 9  # of the columns PARTITION and NODELIST, which grow with the longest name
VALID_STATES = (
    "unknown,down,idle,allocated,?,mixed,future,drain,drained,draining,no_respond,reserved,perfctrs,cloud,completing,"
    "powering_down,powered_down,power_down,powering_up,fail,maint,reboot,reboot^,unknown"
)
NEVER_STATES = (
    "future", "reserved", "perfctrs", "cloud", "completing", "powering_down", "powered_down", "power_down",
    "powering_up", "fail", "maint", "reboot", "reboot^", "?", "error", "planned", "resv", "comp", "npc", "futr",
)  # fmt: skip  # Slurm's states that no node of ours is ever in: known, and matching none


class SinfoOptions:
    """What a call of sinfo asked for."""

    def __init__(self, parsed: Parsed, environ: "Mapping[str, str]") -> None:
        self.parsed = parsed
        self.wants = parsed.wants
        self.warnings = parsed.warnings
        self.is_document = parsed.has("json") or parsed.has("yaml")
        self.iterate_s = read_interval(parsed.value("iterate") or "")
        self.time_style = environ.get("SLURM_TIME_FORMAT", "")
        self.filters: list[Filter] = []

    @property
    def is_filtered(self) -> bool:
        return bool(self.filters)


def read_sinfo_options(argv: "Sequence[str]", environ: "Mapping[str, str]") -> SinfoOptions:
    """Return what a call of sinfo asks for; raises OptionError with Slurm's text and status."""
    parsed = parse_options("sinfo", argv, environ)
    iterate = parsed.value("iterate")
    if not parsed.wants and iterate is not None and read_interval(iterate) is None:
        raise ExactError((f"Error: invalid entry for --iterate={iterate}",))
    options = SinfoOptions(parsed, environ)
    if options.wants:
        return options
    nodes, states = parsed.value("nodes"), parsed.value("states")
    if nodes is not None:
        from sshq.core.hostlist import expand_hostlist

        try:
            names = frozenset(expand_hostlist(nodes))
        except ValueError as error:
            raise OptionError(f"'{nodes}' invalid entry for --nodes", detail=(str(error),)) from None
        options.filters.append(lambda node: text_of(node, "name") in names)
    if states is not None and states.lower() != "all":
        tests = [_read_state(word) for word in states.split(",") if word]
        options.filters.append(lambda node: any(test(node) for test in tests))
    if parsed.has("dead"):
        options.filters.append(lambda node: bool(node.get("unreachable")))
    if parsed.has("responding"):
        options.filters.append(lambda node: not node.get("unreachable"))
    if parsed.has("reasons"):
        options.filters.append(lambda node: bool(reason_of(node)))
    return options


def render_sinfo(nodes: "Iterable[View]", partitions: "Iterable[View]", options: SinfoOptions, now: float) -> Output:
    """Return what sinfo prints for the views of all nodes and partitions."""
    parsed = options.parsed
    all_nodes = {text_of(node, "name"): node for node in nodes}
    wanted = parsed.value("partitions")
    chosen = [part for part in partitions if not part.get("hidden") or parsed.has("all") or wanted]
    if wanted is not None:
        names = set(wanted.split(","))
        chosen = [part for part in chosen if text_of(part, "name") in names]
    layout = choose_layout(options, chosen, all_nodes)
    groups = _group(all_nodes, chosen, options, layout, now)
    messages = [
        f"sinfo: error: Invalid job format specification: {fault}"
        if parsed.value("long_format") is not None
        else f"Invalid node format specification: {fault}"
        for fault in layout.faults
    ]
    head = [format_banner(now)] if parsed.has("long") or options.iterate_s else []
    if not parsed.has("noheader"):
        head.append(layout.header())
    try:
        groups = _sort(groups, _sort_text(options))
    except ValueError as error:
        return Output(head, [*messages, f"sinfo: error: Invalid sort specification: {error}"], 1)
    return Output(_concatenate(head, (layout.line(group) for group in groups)), messages)


def choose_layout(options: SinfoOptions, partitions: "Sequence[View]", nodes: "Mapping[str, View]") -> Layout[NodeGroup]:
    """Return the columns: asked for, or those of -R, -s, -N, -l, or the plain ones."""
    parsed = options.parsed
    long_format, short_format = parsed.value("long_format"), parsed.value("format")
    if long_format is not None:
        return read_long_format(long_format, NODE_FIELDS)
    if short_format is not None:
        text = show_all_format(NODE_FIELDS) if short_format.strip().lower() == "%all" else short_format
        return read_format(text, NODE_FIELDS)
    long = parsed.has("long")
    if parsed.has("reasons"):
        return read_format("%20E %12U %19H %6t %N" if long else "%20E %9u %19H %N", NODE_FIELDS)
    titles = [text_of(part, "name") + ("*" if part.get("default") else "") for part in partitions]
    part = max([NAME_WIDTH_MIN, *map(len, titles)])
    if parsed.has("summarize"):
        return read_format(f"%{part}P %.5a %.10l %.16F %N", NODE_FIELDS)
    if parsed.has("by_node"):
        name = max([NAME_WIDTH_MIN, *map(len, nodes)])
        tail = "%.11T %4c %.8z %.6m %.8d %.6w %.8f %20E" if long else "%6t"
        return read_format(f"%{name}N %.6D %.{part}P {tail}", NODE_FIELDS)
    if long:
        return read_format(f"%{part}P %.5a %.10l %.10s %.4r %.8h %.10g %.6D %.11T %N", NODE_FIELDS)
    return read_format(f"%{part}P %.5a %.10l %.6D %.6t %N", NODE_FIELDS)


def _concatenate(head: list[str], lines: "Iterable[str]") -> "Iterator[str]":
    yield from head
    yield from lines


def _group(
    nodes: "Mapping[str, View]", partitions: "Sequence[View]", options: SinfoOptions, layout: Layout[NodeGroup], now: float
) -> list[NodeGroup]:
    letters = layout.letters()
    keys = [MATCHED[letter] for letter in letters if letter in MATCHED]
    if options.parsed.has("exact"):
        keys += [MATCHED_EXACTLY[letter] for letter in letters if letter in MATCHED_EXACTLY]
    by_node = options.parsed.has("by_node")
    if by_node:
        keys.append(lambda node: text_of(node, "name"))
    # Without a column of the partition its nodes are listed once, whatever partitions they are in.
    by_partition = by_node or bool(letters & PARTITION_LETTERS)
    groups: dict[tuple[object, ...], NodeGroup] = {}
    for partition in partitions:
        name = text_of(partition, "name") if by_partition else ""
        members = [nodes[member] for member in names_of(partition, "nodes") if member in nodes]
        members = [node for node in members if all(test(node) for test in options.filters)]
        for node in members:
            key = (name, *(get(node) for get in keys))
            group = groups.setdefault(key, NodeGroup(partition, [], now, options.time_style))
            if by_partition or node not in group.nodes:
                group.nodes.append(node)
        if not members and by_partition and not by_node and not options.parsed.has("reasons"):
            groups[name, None] = NodeGroup(partition, [], now, options.time_style)
    return list(groups.values())


def _read_state(word: str) -> "Filter":
    """Return the test for one state of --states; a state matches what it includes: alloc also the mixed nodes."""
    name = word.lower()
    if name in ("alloc", "allocated"):
        return lambda node: text_of(node, "state") in ("ALLOCATED", "MIXED")
    if name in ("mix", "mixed", "idle", "down", "unk", "unknown"):
        base = {"mix": "MIXED", "unk": "UNKNOWN"}.get(name, name.upper())
        return lambda node: text_of(node, "state", "UNKNOWN") == base and (base != "IDLE" or not node.get("drain"))
    if name == "drain":
        return lambda node: bool(node.get("drain"))
    if name in ("drained", "drng", "draining"):
        return lambda node: name_state(node, long=True).startswith("drained" if name == "drained" else "draining")
    if name in ("no_respond", "noresp"):
        return lambda node: bool(node.get("unreachable"))
    if name == "plnd":
        return lambda node: bool(node.get("planned"))
    if name in NEVER_STATES:
        return lambda _node: False
    raise ExactError((f'sinfo: error: Bad state string: "{word}"', f"sinfo: error: valid states: {VALID_STATES}"))


def _sort_text(options: SinfoOptions) -> str:
    given = options.parsed.value("sort")
    if given is not None:
        return given
    if options.parsed.has("reasons"):
        return "-H"
    return "N" if options.parsed.has("by_node") else "#P,-t"


def _sort(groups: list[NodeGroup], text: str) -> list[NodeGroup]:
    ordered = list(groups)
    at = len(text) - 1
    while at >= 0:
        letter = text[at]
        at -= 1
        if letter in ", ":
            continue
        mark = ""
        while at >= 0 and text[at] in "+-#":
            mark += text[at]
            at -= 1
        if letter == "P" and "#" in mark:  # the order of the inventory, which is how they were made
            positions = {id(group.partition): number for number, group in reversed(list(enumerate(groups)))}
            ordered.sort(key=lambda group: positions[id(group.partition)])
            continue
        key = SORT_KEYS.get(letter)
        if key is None:
            raise ValueError(letter)
        ordered.sort(key=key, reverse="-" in mark)
    return ordered


def _natural(name: str) -> str:
    """Return a key by which n2 stands before n10."""
    head = name.rstrip("0123456789")
    return f"{head}\0{int(name[len(head) :] or 0):020}"


def _first_number(get: "Callable[[View], float]") -> "Callable[[NodeGroup], tuple[float, str]]":
    return lambda group: (get(group.nodes[0]) if group.nodes else -1, "")


def _first_text(get: "Callable[[View], str]") -> "Callable[[NodeGroup], tuple[float, str]]":
    return lambda group: (0, get(group.nodes[0]) if group.nodes else "")


def _partition_text(get: "Callable[[View], str]") -> "Callable[[NodeGroup], tuple[float, str]]":
    return lambda group: (0, get(group.partition) if group.partition is not None else "")


SORT_KEYS: "dict[str, Callable[[NodeGroup], tuple[float, str]]]" = {
    "a": _partition_text(lambda part: text_of(part, "state")),
    "c": _first_number(lambda node: int_of(node, "cpus")),
    "d": _first_number(lambda node: int_of(node, "tmp_disk_mib")),
    "D": lambda group: (len(group.nodes), ""),
    "e": _first_number(lambda node: time_of(node, "memory_free_mib") or 0),
    "E": _first_text(reason_of),
    "f": _first_text(lambda node: ",".join(names_of(node, "features"))),
    "G": _first_text(lambda node: text_of(node, "gres")),
    "H": _first_number(lambda node: time_of(node, "reason_at") or 0),
    "m": _first_number(lambda node: int_of(node, "memory_mib")),
    "n": _first_text(lambda node: _natural(text_of(node, "name"))),
    "N": _first_text(lambda node: _natural(text_of(node, "name"))),
    "O": _first_number(lambda node: time_of(node, "load") or 0),
    "P": _partition_text(lambda part: text_of(part, "name")),
    "R": _partition_text(lambda part: text_of(part, "name")),
    "t": _first_number(rank_state),
    "T": _first_number(rank_state),
    "u": _first_text(lambda node: text_of(node, "reason_user")),
    "w": _first_number(lambda node: int_of(node, "weight", 1)),
}
