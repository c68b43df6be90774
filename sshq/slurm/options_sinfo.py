"""The rows of sinfo."""

from sshq.slurm.options import HONOURED as H
from sshq.slurm.options import IGNORED as I
from sshq.slurm.options import Option

_ONE_CLUSTER = "there is one cluster"

OPTIONS: tuple[Option, ...] = (
    Option("-a --all", "", "SINFO_ALL", "all", "flag", H, "hidden partitions too"),
    Option("-M --clusters --cluster", "NAMES", "SLURM_CLUSTERS", "clusters", "skip", I, "clusters to ask", _ONE_CLUSTER),
    Option("-d --dead", "", "", "dead", "flag", H, "only nodes that do not answer"),
    Option("-e --exact", "", "", "exact", "flag", H, "do not merge nodes of different size into one line"),
    Option("--federation", "", "SINFO_FEDERATION", "federation", "flag", I, "all clusters of a federation", _ONE_CLUSTER),
    Option("-o --format", "FORMAT", "SINFO_FORMAT", "format", "text", H, 'columns: "%9P %.5a %N"'),
    Option("-O --Format", "NAMES", "", "long_format", "text", H, "columns by name: nodelist,statelong,cpusstate"),
    Option("--help", "", "", "help", "flag", H, "show this help"),
    Option("--hide", "", "", "hide", "flag", H, "no hidden partitions (default)"),
    Option("-i --iterate", "SECONDS", "", "iterate", "count", H, "show again every so many seconds"),
    Option("--json", "", "", "json", "flag", H, "everything, as JSON"),
    Option("--yaml", "", "", "yaml", "flag", H, "everything, as YAML"),
    Option("-R --list-reasons", "", "", "reasons", "flag", H, "why nodes are down or drained"),
    Option("--local", "", "SINFO_LOCAL", "local", "flag", I, "only this cluster", _ONE_CLUSTER),
    Option("-l --long", "", "", "long", "flag", H, "more columns"),
    Option("--noconvert", "", "", "noconvert", "flag", H, "memory in MiB (it always is)"),
    Option("-N --Node", "", "", "by_node", "flag", H, "a line for each node"),
    Option("-n --nodes", "HOSTS", "", "nodes", "hosts", H, "only these nodes"),
    Option("-h --noheader", "", "", "noheader", "flag", H, "no header"),
    Option("-p --partition", "NAMES", "SINFO_PARTITION", "partitions", "text", H, "only these partitions"),
    Option("-T --reservation", "", "", "reservation", "flag", I, "reservations", "there are none"),
    Option("-r --responding", "", "", "responding", "flag", H, "only nodes that answer"),
    Option("-S --sort", "LETTERS", "SINFO_SORT", "sort", "text", H, "order: P,-t (letters of -o, - for descending)"),
    Option("-t --states", "STATES", "", "states", "text", H, "only these states: idle,mix,drain"),
    Option("-s --summarize", "", "", "summarize", "flag", H, "a line for each partition"),
    Option("--usage", "", "", "usage", "flag", H, "show a short usage"),
    Option("-v --verbose", "", "", "verbose", "flag", H, "say more"),
    Option("-V --version", "", "", "version", "flag", H, "show the version"),
)  # fmt: skip
