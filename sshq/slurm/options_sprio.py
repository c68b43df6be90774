"""The rows of sprio."""

from sshq.slurm.options import HONOURED as H
from sshq.slurm.options import IGNORED as I
from sshq.slurm.options import Option

_ONE_CLUSTER = "there is one cluster"

OPTIONS: tuple[Option, ...] = (
    Option("-M --clusters --cluster", "NAMES", "SLURM_CLUSTERS", "clusters", "skip", I, "clusters to ask", _ONE_CLUSTER),
    Option("--federation", "", "SPRIO_FEDERATION", "federation", "flag", I, "all clusters of a federation", _ONE_CLUSTER),
    Option("-o --format", "FORMAT", "SPRIO_FORMAT", "format", "text", H, 'columns: "%.15i %.10Y"'),
    Option("--help", "", "", "help", "flag", H, "show this help"),
    Option("-j --jobs", "[IDS]", "", "jobs", "text", H, "only these jobs"),
    Option("--local", "", "SPRIO_LOCAL", "local", "flag", I, "only this cluster", _ONE_CLUSTER),
    Option("-l --long", "", "", "long", "flag", H, "more columns"),
    Option("-h --noheader", "", "", "noheader", "flag", H, "no header"),
    Option("-n --norm", "", "", "norm", "flag", H, "priorities between 0 and 1"),
    Option("-p --partition", "NAMES", "", "partitions", "text", H, "only jobs of these partitions"),
    Option("--sibling", "", "SPRIO_SIBLING", "sibling", "flag", I, "siblings of a federation", _ONE_CLUSTER),
    Option("-S --sort", "LETTERS", "", "sort", "text", H, "order: i,-Y (letters of -o, - for descending)"),
    Option("--usage", "", "", "usage", "flag", H, "show a short usage"),
    Option("-u --user --users", "NAMES", "", "users", "text", H, "only jobs of these users"),
    Option("-v --verbose", "", "", "verbose", "flag", H, "say more"),
    Option("-V --version", "", "", "version", "flag", H, "show the version"),
    Option("-w --weights", "", "", "weights", "flag", H, "the weight of each factor instead of jobs"),
)  # fmt: skip
