"""The rows of scancel."""

from sshq.slurm.options import HONOURED as H
from sshq.slurm.options import IGNORED as I
from sshq.slurm.options import REFUSED as R
from sshq.slurm.options import Option

_WHICH = "which jobs are cancelled"

OPTIONS: tuple[Option, ...] = (
    Option("-A --account", "NAME", "SCANCEL_ACCOUNT", "account", "text", H, "only jobs of this account"),
    Option("-b --batch", "", "SCANCEL_BATCH", "batch", "flag", H, "signal the batch shell only"),
    Option("-M --clusters --cluster", "NAMES", "SLURM_CLUSTERS", "clusters", "skip", I,
           "clusters to ask", "there is one cluster"),
    Option("--ctld", "", "SCANCEL_CTLD", "ctld", "flag", I, "through the controller", "everything goes through it"),
    Option("-f --full", "", "SCANCEL_FULL", "full", "flag", H, "signal the batch shell and all it started"),
    Option("--help", "", "", "help", "flag", H, "show this help"),
    Option("-H --hurry", "", "SCANCEL_HURRY", "hurry", "flag", H, "do not wait for output to come back"),
    Option("-i --interactive", "", "SCANCEL_INTERACTIVE", "interactive", "flag", H, "ask for each job"),
    Option("-n --jobname --name", "NAME", "SCANCEL_NAME", "name", "text", H, "only jobs of this name"),
    Option("--json", "", "", "json", "flag", H, "what became of each job, as JSON"),
    Option("--me", "", "", "me", "flag", H, "only my jobs"),
    Option("-w --nodelist", "HOSTS", "", "nodes", "hosts", H, "only jobs on these nodes"),
    Option("-p --partition", "NAME", "SCANCEL_PARTITION", "partition", "text", H, "only jobs of this partition"),
    Option("-q --qos", "NAME", "SCANCEL_QOS", "qos", "text", H, "only jobs of this quality of service"),
    Option("-Q --quiet", "", "", "quiet", "flag", H, "say nothing of jobs that have ended"),
    Option("-R --reservation", "NAME", "", "reservation", "text", R, "only jobs of a reservation", _WHICH),
    Option("--sibling", "NAME", "", "sibling", "text", R, "a sibling job of a federation", _WHICH),
    Option("-s --signal", "SIGNAL", "", "signal", "text", H, "send this signal instead of ending the jobs"),
    Option("-t --state", "STATE", "SCANCEL_STATE", "state", "text", H, "only jobs in this state: PENDING, RUNNING, SUSPENDED"),
    Option("--usage", "", "", "usage", "flag", H, "show a short usage"),
    Option("-u --user", "NAME", "SCANCEL_USER", "user", "text", H, "only jobs of this user"),
    Option("-v --verbose", "", "SCANCEL_VERBOSE", "verbose", "flag", H, "say what is done"),
    Option("-V --version", "", "", "version", "flag", H, "show the version"),
    Option("--wckey", "KEY", "SCANCEL_WCKEY", "wckey", "text", R, "only jobs of this workload key", _WHICH),
)  # fmt: skip
