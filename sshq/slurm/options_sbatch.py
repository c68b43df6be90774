"""The rows of sbatch, and of srun and salloc, which share most of them: the honoured options, and our own.

What these commands accept and ignore, or refuse, stands in `options_foreign`.
"""

from sshq.slurm.options import HONOURED as H
from sshq.slurm.options import IGNORED as I  # a column of a table
from sshq.slurm.options import REFUSED as R
from sshq.slurm.options import Option
from sshq.slurm.options_container import CONTAINER
from sshq.slurm.options_foreign import FOREIGN, SALLOC_FOREIGN, SRUN_FOREIGN
from sshq.slurm.options_gpus import GPUS

# Names of the variables are sbatch's; srun and salloc have SLURM_ and SALLOC_ in their place.
SHARED: tuple[Option, ...] = (
    Option("--begin", "TIME", "", "begin_at", "begin", H, "start no earlier: 16:00, now+1hour, 2030-01-02T03:04"),
    Option("-D --chdir", "DIR", "", "work_dir", "text", H, "working directory of the job"),
    Option("--comment", "TEXT", "", "comment", "text", H, "a comment, shown by squeue %k"),
    Option("-C --constraint", "LIST", "SBATCH_CONSTRAINT", "features", "text", H, "features the node must have: a&b, a|b"),
    Option("-c --cpus-per-task", "N", "", "cpus_per_task", "positive", H, "CPUs of each task"),
    Option("--deadline", "TIME", "", "deadline_at", "begin", H, "give up if the job cannot end by then"),
    Option("-d --dependency", "LIST", "", "dependency", "dependency", H, "wait for others: afterok:12,afterany:13_4"),
    Option("-x --exclude", "HOSTS", "", "exc_nodes", "hosts", H, "nodes not to use: ws[3-5]"),
    Option("--exclusive", "[=user|mcs]", "SBATCH_EXCLUSIVE", "exclusive", "flag", H, "the whole node for this job"),
    Option("-H --hold", "", "", "held", "flag", H, "submit held; scontrol release starts it"),
    Option("-J --job-name", "NAME", "SBATCH_JOB_NAME", "name", "text", H, "name of the job"),
    Option("--kill-on-invalid-dep", "yes|no", "", "kill_on_invalid_dep", "yes_no", H,
           "cancel the job if its dependency can never hold"),
    Option("--mem", "SIZE", "SBATCH_MEM_PER_NODE", "memory_mib", "memory", H, "memory of the node: 500 (MiB), 4G; 0 for all"),
    Option("--mem-per-cpu", "SIZE", "SBATCH_MEM_PER_CPU", "memory_per_cpu_mib", "memory", H, "memory for each CPU"),
    Option("--nice", "[=N]", "", "nice", "nice", H, "lower the priority by N (100 without a value)"),
    Option("-k --no-kill", "[=off]", "SBATCH_NO_KILL", "no_kill", "skip", I,
           "go on if a node fails", "a job on several nodes ends with any of them"),
    Option("-w --nodelist", "HOSTS", "", "req_nodes", "hosts", H, "the node to use"),
    Option("-N --nodes", "N[-M]", "", "num_nodes", "nodes", H, "number of nodes; the script runs on the first"),
    Option("-n --ntasks", "N", "", "num_tasks", "positive", H, "number of tasks"),
    Option("--ntasks-per-node --tasks-per-node", "N", "", "ntasks_per_node", "positive", H, "tasks on the node"),
    Option("-p --partition", "NAMES", "SBATCH_PARTITION", "partition", "partitions", H, "partition, or several by commas"),
    Option("--priority", "N|TOP", "", "priority", "priority", H, "set the priority"),
    Option("-Q --quiet", "", "", "quiet", "flag", H, "say nothing but errors"),
    Option("--signal", "{B|R}:SIG@SECONDS", "SBATCH_SIGNAL", "signal", "signal", H,
           "send a signal that long before the time limit (B: to the script only)"),
    Option("-t --time", "TIME", "SBATCH_TIMELIMIT", "time_limit_s", "time", H,
           "time limit: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS"),
    Option("-v --verbose", "", "SBATCH_DEBUG", "verbose", "flag", H, "say more"),
    Option("-h --help", "", "", "help", "flag", H, "show this help"),
    Option("--usage", "", "", "usage", "flag", H, "show a short usage"),
    Option("-V --version", "", "", "version", "flag", H, "show the version"),
)  # fmt: skip

FILES: tuple[Option, ...] = (  # sbatch and srun
    Option("-e --error", "FILE", "SBATCH_ERROR", "std_err", "text", H, "file of standard error: err-%j.txt"),
    Option("--export", "ALL|NONE|LIST", "SBATCH_EXPORT", "export", "text", H, "variables to pass: ALL, NONE, NAME,OTHER=value"),
    Option("-i --input", "FILE", "SBATCH_INPUT", "std_in", "text", H, "file of standard input (default /dev/null)"),
    Option("--open-mode", "append|truncate", "SBATCH_OPEN_MODE", "open_mode", "open_mode", H,
           "append to the output file, or empty it first"),
    Option("-o --output", "FILE", "SBATCH_OUTPUT", "std_out", "text", H, "file of standard output: %j job, %A_%a array, %x name"),
    Option("--test-only", "", "", "test_only", "flag", H, "check only; say when the job would start"),
)  # fmt: skip

SBATCH_ONLY: tuple[Option, ...] = (
    Option("-a --array", "INDICES[%N]", "SBATCH_ARRAY_INX", "array", "array", H, "an array: 0-9, 1,3,5, 0-99:10, %N at once"),
    Option("-b --begin", "TIME", "", "begin_at", "begin", H, "start no earlier: 16:00, now+1hour, 2030-01-02T03:04"),
    Option("--export-file", "FILE", "", "export_file", "text", H, "variables to pass, NAME=value separated by NUL"),
    Option("--ignore-pbs", "", "SBATCH_IGNORE_PBS", "ignore_pbs", "flag", H, "do not read #PBS and #BSUB lines"),
    Option("--no-requeue", "", "SBATCH_NO_REQUEUE", "requeue", "no_requeue", H, "never run the job again"),
    Option("--parsable", "", "", "parsable", "flag", H, "print the bare job id"),
    Option("--requeue", "[=always]", "SBATCH_REQUEUE", "requeue", "requeue", H,
           "run again if its node rebooted; =always: also if what became of it is unknown"),
    Option("-W --wait", "", "SBATCH_WAIT", "wait", "flag", H, "wait for the end; exit as the job did"),
    Option("--wrap", "COMMAND", "", "wrap", "text", H, "run a command line instead of a script"),
    # Ours.
    Option("--anywhere", "", "", "anywhere", "flag", H, "sshq: also use hosts that do not share the directory"),
    Option("--lease", "TIME", "", "lease_s", "lease", H,
           "sshq: end on a host that has not heard from the controller for so long (40m, 2h), and run again elsewhere"),
    Option("--retries", "N", "", "retries", "count", H, "sshq: run again up to N times if the job fails"),
    Option("--stage-in", "PATH...", "", "stage_in", "stage_in", H,
           "sshq: bring this file or directory along where the directory is not shared (may be repeated)"),
    Option("--sync", "[=DIR]", "", "sync", "directory", H,
           "sshq: run in a copy of the directory as it is now, but what .gitignore and .sshqignore name (default: this one)"),
    Option("--stage-out", "PATTERN...", "", "stage_out", "stage_out", H,
           "sshq: bring these files of a private directory home when the job ends: out/*.csv, results/ (may be repeated)"),
    # Without a meaning for a batch job of one node.
    Option("--batch", "FEATURES", "SBATCH_BATCH", "batch_features", "text", R,
           "features of the first node", "where the job runs"),
    Option("--get-user-env", "[=TIMEOUT][MODE]", "SBATCH_GET_USER_ENV", "get_user_env", "skip", I,
           "environment of a login", "HOME, USER, SHELL and LOGNAME are the node's anyway"),
    Option("--propagate", "[=LIMITS]", "", "propagate", "limits", H,
           "pass limits of this shell on: ALL, NONE, or NOFILE,CORE,…; else they are the account's on the node"),
    Option("--wait-all-nodes", "0|1", "SBATCH_WAIT_ALL_NODES", "wait_all_nodes", "skip", H,
           "wait for all nodes to be up: the script never starts before"),
)  # fmt: skip

SRUN_ONLY: tuple[Option, ...] = (
    Option("-b --begin", "TIME", "", "begin_at", "begin", H, "start no earlier: 16:00, now+1hour"),
    Option("-I --immediate", "[=SECONDS]", "SLURM_IMMEDIATE", "immediate", "skip", H, "give up if nodes are not free at once"),
    Option("--jobid", "ID", "SLURM_JOB_ID", "job_id", "text", H, "run a step of this job"),
    Option("-K --kill-on-bad-exit", "[=0|1]", "SLURM_KILL_BAD_EXIT", "kill_on_bad_exit", "text", H,
           "end all tasks if one fails"),
    Option("-l --label", "", "SLURM_LABELIO", "label", "flag", H, "put the task's number before each line"),
    Option("-u --unbuffered", "", "SLURM_UNBUFFEREDIO", "unbuffered", "flag", H, "pass output on at once"),
    Option("-W --wait", "SECONDS", "SLURM_WAIT", "wait", "count", H, "how long after the first task the others may go on"),
    Option("--stage-in", "PATH...", "", "stage_in", "skip", R,
           "sshq: bring files along", "which files the program finds (sbatch has it)"),
    Option("--sync", "[=DIR]", "", "sync", "skip", R,
           "sshq: run in a copy of the directory", "where the program runs (sbatch has it)"),
    Option("--exact", "", "SLURM_EXACT", "exact", "flag", H, "use only the CPUs asked for"),
    Option("--overlap", "", "SLURM_OVERLAP", "overlap", "flag", H, "share CPUs with other steps"),
)  # fmt: skip

SALLOC_ONLY: tuple[Option, ...] = (
    Option("-I --immediate", "[=SECONDS]", "SALLOC_IMMEDIATE", "immediate", "skip", H, "give up if nodes are not free at once"),
    Option("--stage-in", "PATH...", "", "stage_in", "skip", R,
           "sshq: bring files along", "which files the programs find (sbatch has it)"),
    Option("--sync", "[=DIR]", "", "sync", "skip", R,
           "sshq: run in a copy of the directory", "where the programs run (sbatch has it)"),
    Option("--no-shell", "", "", "no_shell", "flag", H, "allocate and return; scancel gives it back"),
    Option("--bell", "", "SALLOC_BELL", "bell", "flag", H, "ring when the allocation is made (else: after ten seconds)"),
    Option("--no-bell", "", "SALLOC_NO_BELL", "bell", "skip", H, "do not ring"),
    Option("-K --kill-command", "[=SIGNAL]", "SALLOC_KILL_CMD", "kill_command", "skip", H,
           "signal the command when the allocation is revoked (a shell on a terminal gets HUP anyway)"),
)  # fmt: skip

# Where srun's variable is not sbatch's with SLURM_ for SBATCH_.
_SRUN_VARIABLES = {
    "cpus_per_task": "SRUN_CPUS_PER_TASK", "dependency": "SLURM_DEPENDENCY", "name": "SLURM_JOB_NAME",
    "num_nodes": "SLURM_JOB_NUM_NODES", "num_tasks": "SLURM_NTASKS", "ntasks_per_node": "SLURM_NTASKS_PER_NODE",
    "std_err": "SLURM_STDERRMODE", "std_in": "SLURM_STDINMODE", "std_out": "SLURM_STDOUTMODE",
    "export": "SLURM_EXPORT_ENV", "verbose": "SRUN_DEBUG", "work_dir": "SLURM_WORKING_DIR",
}  # fmt: skip


def submit_options(command: str) -> tuple[Option, ...]:
    """Return the rows of sbatch, srun or salloc; a command's own row replaces the shared one of that long name."""
    if command == "sbatch":
        own, shared = SBATCH_ONLY, (*SHARED, *FILES, *GPUS, *CONTAINER, *FOREIGN)
    elif command == "srun":
        own, shared = (*SRUN_ONLY, *SRUN_FOREIGN), (*SHARED, *FILES, *GPUS, *CONTAINER, *FOREIGN)
    else:
        own, shared = (*SALLOC_ONLY, *SALLOC_FOREIGN), (*SHARED, *GPUS, *FOREIGN)
    replaced = {row.longs[0] for row in own}
    rest = tuple(row for row in shared if row.longs[0] not in replaced)
    if command != "sbatch":
        rest = tuple(_rename_variable(row, command) for row in rest)
    return (*rest, *own)


def _rename_variable(row: Option, command: str) -> Option:
    variable = row.variable.replace("SBATCH_", "SLURM_" if command == "srun" else "SALLOC_", 1)
    if command == "srun":
        variable = _SRUN_VARIABLES.get(row.field, variable)
    if variable == row.variable:
        return row
    names = " ".join(filter(None, (row.short, *row.longs)))
    return Option(names, row.metavar, variable, row.field, row.parser, row.handling, row.help, row.reason)
