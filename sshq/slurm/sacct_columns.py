"""What sacct needs of the controller: of each job the values that it shows or chooses by, and not whole jobs."""

from sshq.slurm.sacct import WORDS, SacctOptions

_RUN = ("start_at", "end_at", "state")
_TRES = ("cpus", "batch_cpus", "num_nodes", "memory_mib", "memory_per_cpu_mib", "gpus", "nodes", "start_at")
_CPU_TIME = (*_RUN, "cpus", "batch_cpus", "nodes")
_EXIT = ("state", "exit_code", "exit_signal")
_CPUS = ("cpus", "batch_cpus", "nodes", "start_at")
# Of each field what it reads of a job.  One that is not here shows nothing, or the same of all jobs.
VALUES: "dict[str, tuple[str, ...]]" = {
    "Account": ("account",), "AllocCPUS": _CPUS, "AllocNodes": ("nodes", "start_at"), "AllocTRES": _TRES,
    "AveRSS": ("max_rss_kib",), "Comment": ("comment",), "Constraints": ("features",), "ConsumedEnergy": ("state",),
    "CPUTime": _CPU_TIME, "CPUTimeRAW": _CPU_TIME, "DBIndex": ("job_id",),
    "DerivedExitCode": ("derived_exit_code", "derived_exit_signal"), "Elapsed": _RUN, "ElapsedRaw": _RUN,
    "Eligible": ("eligible_at", *_RUN), "End": _RUN, "ExitCode": _EXIT, "Flags": ("nodes", "start_at"), "GID": ("gid",),
    "Group": ("group",), "JobID": ("job_id", "array_job_id", "array_task_id", "array_tasks"), "JobIDRaw": ("job_id",),
    "JobName": ("name",), "MaxRSS": ("max_rss_kib",), "NCPUS": _CPUS, "NNodes": ("num_nodes",), "NodeList": ("nodes",),
    "Partition": ("partition",), "Priority": ("priority",), "QOS": ("qos",), "Reason": ("reason",),
    "ReqCPUS": ("cpus", "batch_cpus"), "ReqMem": ("memory_mib", "memory_per_cpu_mib", "cpus", "num_nodes"),
    "ReqNodes": ("num_nodes",), "ReqTRES": _TRES, "Reserved": ("eligible_at", "start_at", "state"), "Start": _RUN,
    "State": ("state", "cancelled_by", "exit_signal"), "Submit": ("submit_at", *_RUN), "SubmitLine": ("submit_line",),
    "SystemCPU": ("system_s",), "Timelimit": ("time_limit_s",), "TimelimitRaw": ("time_limit_s",), "TotalCPU": ("cpu_time_s",),
    "UID": ("uid",), "User": ("user",), "UserCPU": ("user_s",), "WorkDir": ("work_dir",),
}  # fmt: skip
# To choose by, and to know which lines a job has.
ALWAYS = (*VALUES["JobID"], *_RUN, "user", "uid", "nodes", "submit_at", "batch_flag", "attempt")


def choose_columns(options: SacctOptions) -> list[str]:
    """Return the columns of `history` that hold all a call prints; it prints no document."""
    names = [*ALWAYS, *(name for field, _ in options.columns for name in VALUES.get(field, ()))]
    names += [key for field, key, _ in WORDS if options.words(field) is not None]
    if options.limits_s is not None:
        names.append("time_limit_s")
    names += ["cpus"] if options.cpu_counts is not None else []
    names += ["num_nodes"] if options.node_counts is not None else []
    names.append("attempts" if options.parsed.has("duplicates") else "launched")
    if options.refs or not options.parsed.has("allocations"):
        names.append("steps")
    return list(dict.fromkeys(names))
