"""The rows of squeue."""

from sshq.slurm.options import HONOURED as H
from sshq.slurm.options import IGNORED as I  # a column of a table
from sshq.slurm.options import Option

_ONE_CLUSTER = "there is one cluster"

OPTIONS: tuple[Option, ...] = (
    Option("-A --account --accounts", "NAMES", "SQUEUE_ACCOUNT", "accounts", "text", H, "only jobs of these accounts"),
    Option("-a --all", "", "SQUEUE_ALL", "all", "flag", H, "jobs of hidden partitions too"),
    Option("-r --array", "", "SQUEUE_ARRAY", "array", "flag", H, "one line for each array task"),
    Option("--array-unique", "", "SQUEUE_ARRAY_UNIQUE", "array", "flag", H, "one line for each array task"),
    Option("-M --clusters --cluster", "NAMES", "SLURM_CLUSTERS", "clusters", "skip", I, "clusters to ask", _ONE_CLUSTER),
    Option("--federation", "", "SQUEUE_FEDERATION", "federation", "flag", I, "all clusters of a federation", _ONE_CLUSTER),
    Option("-o --format", "FORMAT", "SQUEUE_FORMAT", "format", "text", H, 'columns: "%.18i %.9P %j"'),
    Option("-O --Format", "NAMES", "SQUEUE_FORMAT2", "long_format", "text", H, "columns by name: jobid:18,name,state"),
    Option("--help", "", "", "help", "flag", H, "show this help"),
    Option("--hide", "", "", "hide", "flag", H, "not the jobs of hidden partitions (default)"),
    Option("-i --iterate", "SECONDS", "", "iterate", "count", H, "show again every so many seconds"),
    Option("-j --jobs", "[IDS]", "", "jobs", "text", H, "only these jobs: 12,13_4,14_[1-3]"),
    Option("--json", "", "", "json", "flag", H, "everything, as JSON"),
    Option("--yaml", "", "", "yaml", "flag", H, "everything, as YAML"),
    Option("-L --licenses", "NAMES", "SQUEUE_LICENSES", "licenses", "text", H, "only jobs with these licenses"),
    Option("--local", "", "SQUEUE_LOCAL", "local", "flag", I, "only this cluster", _ONE_CLUSTER),
    Option("-l --long", "", "", "long", "flag", H, "more columns"),
    Option("--me", "", "", "me", "flag", H, "only my jobs"),
    Option("-n --name --names", "NAMES", "SQUEUE_NAMES", "names", "text", H, "only jobs of these names"),
    Option("--noconvert", "", "", "noconvert", "flag", H, "memory in MiB: 2048M, not 2G"),
    Option("-w --nodelist --nodes", "HOSTS", "", "nodes", "hosts", H, "only jobs on these nodes"),
    Option("-h --noheader", "", "", "noheader", "flag", H, "no header"),
    Option("-p --partition --partitions", "NAMES", "SQUEUE_PARTITION", "partitions", "text", H, "only these partitions"),
    Option("-P --priority", "", "SQUEUE_PRIORITY", "priority", "flag", H, "a line for each partition a job may use"),
    Option("-q --qos", "NAMES", "SQUEUE_QOS", "qos", "text", H, "only these qualities of service"),
    Option("-R --reservation", "NAME", "", "reservation", "text", I, "only jobs of a reservation", "there are none"),
    Option("--sibling", "", "SQUEUE_SIBLING", "sibling", "flag", I, "siblings of a federation", _ONE_CLUSTER),
    Option("-S --sort", "LETTERS", "SQUEUE_SORT", "sort", "text", H, "order: P,t,-p (letters of -o, - for descending)"),
    Option("--start", "", "", "start", "flag", H, "when pending jobs are expected to start"),
    Option("-t --states --state", "STATES", "SQUEUE_STATES", "states", "text", H, "only these states: PD,R,all"),
    Option("-s --steps --step", "[IDS]", "", "steps", "text", H, "steps instead of jobs"),
    Option("--usage", "", "", "usage", "flag", H, "show a short usage"),
    Option("-u --user --users", "NAMES", "SQUEUE_USERS", "users", "text", H, "only jobs of these users"),
    Option("-v --verbose", "", "", "verbose", "flag", H, "say more"),
    Option("-V --version", "", "", "version", "flag", H, "show the version"),
    # Ours.
    Option("--finished", "", "", "finished", "flag", H, "sshq: also jobs that have ended and are still remembered"),
    Option("--type", "KINDS", "", "kinds", "text", H, "sshq: only jobs of these kinds: container,callable; help lists them"),
)  # fmt: skip
