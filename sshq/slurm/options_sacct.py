"""The rows of sacct."""

from sshq.slurm.options import HONOURED as H
from sshq.slurm.options import IGNORED as I
from sshq.slurm.options import REFUSED as R
from sshq.slurm.options import Option

_ONE_CLUSTER = "there is one cluster"
_WHICH = "which jobs are shown"

OPTIONS: tuple[Option, ...] = (
    Option("-A --accounts --account", "NAMES", "", "accounts", "text", H, "only jobs of these accounts"),
    Option("-L --allclusters", "", "", "allclusters", "flag", I, "all clusters", _ONE_CLUSTER),
    Option("-X --allocations", "", "", "allocations", "flag", H, "jobs only, no steps"),
    Option("-a --allusers", "", "", "allusers", "flag", H, "jobs of all users"),
    Option("-x --associations", "IDS", "", "associations", "text", R, "only jobs of these associations", _WHICH),
    Option("-B --batch-script", "", "", "batch_script", "flag", H, "print the script of the jobs of -j"),
    Option("-b --brief", "", "", "brief", "flag", H, "JobID, State and ExitCode"),
    Option("-M --clusters", "NAMES", "", "clusters", "skip", I, "clusters to ask", _ONE_CLUSTER),
    Option("-c --completion", "", "", "completion", "flag", I, "from the completion log", "there is one record"),
    Option("-C --constraints", "LIST", "", "constraints", "text", H, "only jobs that asked for these features"),
    Option("--delimiter", "TEXT", "", "delimiter", "text", H, "what -p and -P put between fields"),
    Option("-D --duplicates", "", "", "duplicates", "flag", H, "every attempt of a job, not only the last"),
    Option("-E --endtime", "TIME", "", "end_at", "begin", H, "only jobs that lived before this time"),
    Option("--env-vars", "", "", "env_vars", "flag", R, "print the environment of the jobs", "what is shown"),
    Option("--federation", "", "SACCT_FEDERATION", "federation", "flag", I, "all clusters of a federation", _ONE_CLUSTER),
    Option("-f --file", "FILE", "", "file", "text", R, "read a completion log", _WHICH),
    Option("-F --flags", "FLAGS", "", "flags", "text", R, "only jobs with these flags", _WHICH),
    Option("-o --format --fields", "FIELDS", "SACCT_FORMAT", "format", "text", H, "columns: JobID%20,State,Elapsed"),
    Option("-g --gid --group", "NAMES", "", "groups", "text", H, "only jobs of these groups"),
    Option("-h --help", "", "", "help", "flag", H, "show this help"),
    Option("-e --helpformat", "", "", "helpformat", "flag", H, "list the fields"),
    Option("-j --jobs", "IDS", "", "jobs", "text", H, "only these jobs: 12,13_4,14.batch"),
    Option("--json", "", "", "json", "flag", H, "everything, as JSON"),
    Option("--yaml", "", "", "yaml", "flag", H, "everything, as YAML"),
    Option("--local", "", "SACCT_LOCAL", "local", "flag", I, "only this cluster", _ONE_CLUSTER),
    Option("-l --long", "", "", "long", "flag", H, "many columns"),
    Option("--name", "NAMES", "", "names", "text", H, "only jobs of these names"),
    Option("-i --nnodes", "MIN[-MAX]", "", "nnodes", "text", H, "only jobs of so many nodes"),
    Option("-I --ncpus", "MIN[-MAX]", "", "ncpus", "text", H, "only jobs of so many CPUs"),
    Option("--noconvert", "", "", "noconvert", "flag", H, "amounts in their own unit"),
    Option("-N --nodelist", "HOSTS", "", "nodes", "text", H, "only jobs that ran on these nodes"),
    Option("-n --noheader", "", "", "noheader", "flag", H, "no header"),
    Option("-p --parsable", "", "", "parsable", "flag", H, "fields between bars, one at the end too"),
    Option("-P --parsable2", "", "", "parsable2", "flag", H, "fields between bars"),
    Option("-r --partition", "NAMES", "", "partitions", "text", H, "only jobs of these partitions"),
    Option("-q --qos", "NAMES", "", "qos", "text", H, "only jobs of these qualities of service"),
    Option("-R --reason", "REASONS", "", "reasons", "text", H, "only jobs with these reasons"),
    Option("-S --starttime", "TIME", "", "start_at", "begin", H, "only jobs that lived after this time (default: midnight)"),
    Option("-s --state", "STATES", "", "states", "text", H, "only jobs in these states: F,CA,TO"),
    Option("-K --timelimit-max", "TIME", "", "timelimit_max", "text", H, "with -k: only jobs of at most this limit"),
    Option("-k --timelimit-min", "TIME", "", "timelimit_min", "text", H, "only jobs of this limit; with -K: of at least it"),
    Option("-T --truncate", "", "", "truncate", "flag", H, "show times within -S and -E only"),
    Option("-u --uid --user", "NAMES", "", "users", "text", H, "only jobs of these users"),
    Option("--units", "KMGTP", "", "units", "text", H, "unit of amounts"),
    Option("--usage", "", "", "usage", "flag", H, "show a short usage"),
    Option("--use-local-uid", "", "", "use_local_uid", "flag", I, "names of this machine", "they are"),
    Option("-v --verbose", "", "", "verbose", "flag", H, "say more"),
    Option("-V --version", "", "", "version", "flag", H, "show the version"),
    Option("-W --wckeys", "KEYS", "", "wckeys", "text", R, "only jobs of these workload keys", _WHICH),
    Option("--whole-hetjob", "[=yes|no]", "", "whole_hetjob", "skip", I, "whole heterogeneous jobs", "there are none"),
)  # fmt: skip
