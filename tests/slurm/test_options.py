"""The option tables themselves: complete, without contradictions, and what help is made of."""

import subprocess
import sys

import pytest

from sshq.errors import OptionError
from sshq.slurm.getopt import parse_options
from sshq.slurm.help import describe_command
from sshq.slurm.options import HONOURED, IGNORED, REFUSED, options_of
from sshq.slurm.values import PARSERS

COMMANDS = ["sbatch", "srun", "salloc", "squeue", "scancel", "sinfo", "sacct", "scontrol"]
ROWS = [(command, row) for command in COMMANDS for row in options_of(command)]

# Every option of the manuals of 22.05, so that none is missing by oversight.
MANUALS = {
    "sbatch": "account acctg-freq array batch bb bbf begin chdir cluster-constraint clusters comment constraint container "
    "contiguous core-spec cores-per-socket cpu-freq cpus-per-gpu cpus-per-task deadline delay-boot dependency distribution "
    "error exclude exclusive export export-file extra-node-info get-user-env gid gpu-bind gpu-freq gpus gpus-per-node "
    "gpus-per-socket gpus-per-task gres gres-flags help hint hold ignore-pbs input job-name kill-on-invalid-dep licenses "
    "mail-type mail-user mcs-label mem mem-bind mem-per-cpu mem-per-gpu mincpus network nice no-kill no-requeue nodefile "
    "nodelist nodes ntasks ntasks-per-core ntasks-per-gpu ntasks-per-node ntasks-per-socket open-mode output overcommit "
    "oversubscribe parsable partition power prefer priority profile propagate qos quiet reboot requeue reservation signal "
    "sockets-per-node spread-job switches test-only thread-spec threads-per-core time time-min tmp uid usage use-min-nodes "
    "verbose version wait wait-all-nodes wckey wrap",
    "srun": "accel-bind bcast bcast-exclude compress cpu-bind disable-status epilog exact het-group immediate jobid "
    "kill-on-bad-exit label mpi msg-timeout multi-prog no-allocate overlap preserve-env prolog pty quit-on-interrupt relative "
    "resv-ports send-libs slurmd-debug task-epilog task-prolog threads unbuffered wait x11 ntasks nodes output error input",
    "squeue": "account all array array-unique clusters federation format Format help hide iterate jobs json licenses local long "
    "me name noconvert nodelist noheader partition priority qos reservation sibling sort start states steps usage user verbose "
    "version yaml",
    "scancel": "account batch clusters ctld full help hurry interactive jobname name me nodelist partition qos quiet reservation "
    "sibling signal state usage user verbose version wckey",
    "sinfo": "all clusters dead exact federation format Format help hide iterate json list-reasons local long noconvert Node nodes "
    "noheader partition reservation responding sort states summarize usage verbose version yaml",
    "sacct": "accounts allclusters allocations allusers associations batch-script brief clusters completion constraints delimiter "
    "duplicates endtime env-vars federation file flags format gid group help helpformat jobs json local long name nnodes ncpus "
    "noconvert nodelist noheader parsable parsable2 partition qos reason starttime state timelimit-max timelimit-min truncate uid "
    "user units usage use-local-uid verbose version wckeys whole-hetjob yaml",
    "scontrol": "all clusters details federation future help hide local oneliner quiet sibling uid verbose version",
}
VARIABLES = (
    "ACCOUNT ACCTG_FREQ ARRAY_INX BATCH CLUSTERS CONSTRAINT CONTAINER CORE_SPEC CPUS_PER_GPU DEBUG DELAY_BOOT DISTRIBUTION ERROR "
    "EXCLUSIVE EXPORT GET_USER_ENV GPUS GPUS_PER_NODE GPUS_PER_TASK GPU_BIND GPU_FREQ GRES GRES_FLAGS HINT IGNORE_PBS INPUT "
    "JOB_NAME MEM_BIND MEM_PER_CPU MEM_PER_GPU MEM_PER_NODE NETWORK NO_KILL NO_REQUEUE OPEN_MODE OUTPUT OVERCOMMIT PARTITION POWER "
    "PROFILE QOS REQUEUE REQ_SWITCH RESERVATION SIGNAL SPREAD_JOB THREADS_PER_CORE THREAD_SPEC TIMELIMIT USE_MIN_NODES WAIT "
    "WAIT_ALL_NODES WCKEY"
)


@pytest.mark.parametrize(("command", "row"), ROWS, ids=lambda value: getattr(value, "name", value))
def test_every_row_has_help_handling_and_a_reader(command, row):
    assert row.help
    assert "\n" not in row.help
    assert row.handling in (HONOURED, IGNORED, REFUSED)
    assert row.parser in PARSERS or row.parser == "begin"
    assert bool(row.reason) is (row.handling != HONOURED)
    assert not row.short or len(row.short) == 2


@pytest.mark.parametrize("command", list(MANUALS))
def test_every_option_of_the_manual_is_a_row(command):
    names = {long for row in options_of(command) for long in row.longs}
    assert {f"--{name}" for name in MANUALS[command].split()} - names == set()


def test_every_variable_of_sbatch_is_read():
    assert {f"SBATCH_{name}" for name in VARIABLES.split()} - {row.variable for row in options_of("sbatch")} == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_no_name_is_given_twice(command):
    rows = options_of(command)
    names = [name for row in rows for name in (row.short, *row.longs) if name]
    variables = [row.variable for row in rows if row.variable and row.field not in ("begin_at", "array", "bell")]
    assert len(names) == len(set(names))
    assert len(variables) == len(set(variables))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_tells_every_option(command):
    text = describe_command(command, "help")
    assert all(row.name in text and row.help in text for row in options_of(command))
    usage = describe_command(command, "usage")
    assert usage.startswith(f"Usage: {command} ")
    assert max(map(len, usage.splitlines())) <= 80
    assert describe_command(command, "version") == "slurm 22.05.8\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_unknown_options_end_with_the_status_of_the_command(command):
    with pytest.raises(OptionError) as caught:
        parse_options(command, ["--no-such"])
    assert caught.value.exit_code == (255 if command == "sbatch" else 1)
    text = caught.value.render(command)
    assert text.startswith(f"{command}: unrecognized option '--no-such'\n")
    assert ("Try" in text) is (command != "sacct")


def test_options_follow_words_where_slurm_lets_them():
    assert parse_options("scancel", ["5", "-v", "6"]).arguments == ["5", "6"]
    assert parse_options("scancel", ["5", "--", "-v"]).arguments == ["5", "-v"]
    assert parse_options("srun", ["-n2", "cmd", "-v"]).arguments == ["cmd", "-v"]
    assert parse_options("squeue", ["-hl", "-j5", "-u", "x"]).value("jobs") == "5"
    assert parse_options("squeue", ["-j", "-h"]).value("jobs") is None
    assert parse_options("squeue", ["-j", "5", "-h"]).value("jobs") == "5"


def test_values_of_the_environment_are_weaker_than_the_command_line():
    parsed = parse_options("squeue", ["-o", "%i"], {"SQUEUE_FORMAT": "%T", "SQUEUE_ALL": "1"})
    assert parsed.value("format") == "%i"
    assert parsed.has("all")
    assert parsed.last("all").text == "SQUEUE_ALL=1"


def test_unique_beginnings_stand_for_the_whole():
    assert parse_options("squeue", ["--noh"]).has("noheader")
    assert parse_options("squeue", ["--stat=PD"]).value("states") == "PD"  # two names of one row are not ambiguous


HEAVY = "dataclasses typing asyncio inspect logging yaml click tabulate sqlite3 re json socket importlib.metadata"


@pytest.mark.parametrize("module", ["sshq.slurm.submit", "sshq.slurm.environ", "sshq.slurm.filename", "sshq.slurm.getopt"])
def test_sbatch_starts_with_nothing_heavy(module):
    script = f"import sys, {module}; print(*set({HEAVY!r}.split()) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {script}"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout.split() == []
