"""The rows of scontrol; its verbs are words, not options."""

from sshq.slurm.options import HONOURED as H
from sshq.slurm.options import IGNORED as I
from sshq.slurm.options import REFUSED as R
from sshq.slurm.options import Option

_ONE_CLUSTER = "there is one cluster"

OPTIONS: tuple[Option, ...] = (
    Option("-a --all", "", "SCONTROL_ALL", "all", "flag", H, "hidden partitions too"),
    Option("-M --clusters --cluster", "NAMES", "SLURM_CLUSTERS", "clusters", "skip", I, "cluster to speak to", _ONE_CLUSTER),
    Option("-d --details", "", "", "details", "flag", H, "show more of each job"),
    Option("--federation", "", "SCONTROL_FEDERATION", "federation", "flag", I, "all clusters of a federation", _ONE_CLUSTER),
    Option("-F --future", "", "SCONTROL_FUTURE", "future", "flag", I, "nodes yet to come", "there are none"),
    Option("-h --help", "", "", "help", "flag", H, "show this help"),
    Option("--hide", "", "", "hide", "flag", H, "no hidden partitions (default)"),
    Option("--json", "", "", "json", "flag", H, "what is shown, as JSON"),
    Option("--local", "", "SCONTROL_LOCAL", "local", "flag", I, "only this cluster", _ONE_CLUSTER),
    Option("-o --oneliner", "", "", "oneline", "flag", H, "one line for each job, node or partition"),
    Option("-Q --quiet", "", "", "quiet", "flag", H, "say nothing of errors"),
    Option("--sibling", "", "SCONTROL_SIBLING", "sibling", "flag", I, "siblings of a federation", _ONE_CLUSTER),
    Option("-u --uid", "UID", "", "uid", "text", R, "act as another user", "whose jobs are touched"),
    Option("--usage", "", "", "usage", "flag", H, "show a short usage"),
    Option("-v --verbose", "", "", "verbose", "flag", H, "say more"),
    Option("--yaml", "", "", "yaml", "flag", H, "what is shown, as YAML"),
    Option("-V --version", "", "", "version", "flag", H, "show the version"),
)  # fmt: skip
