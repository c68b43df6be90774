"""What commands say when nobody listens, and what they refuse before they ask: exact stdout, stderr and status."""

import os
import shlex
import socket
import subprocess

import pytest

SILENT = """\
    No sshq controller listens on {home}/sock
    Jobs already running go on without it; nothing is lost.
    hint: sshq up
"""
UNABLE = "Unable to contact slurm controller (connect failure)\n"


@pytest.mark.parametrize(
    "words,first",
    [
        (["sbatch", "--wrap", "true"], "sbatch: error: Batch job submission failed: "),
        (["srun", "true"], "srun: error: Unable to allocate resources: "),
        (["squeue"], "slurm_load_jobs error: "),
        (["scancel", "1"], "scancel: error: "),
        (["sacct"], "sacct: error: "),
        (["scontrol", "show", "job", "1"], "slurm_load_jobs error: "),
        (["status"], "sshq: error: "),
        (["down"], "sshq: error: "),
        (["logs", "1"], "sshq: error: "),
        (["why", "1"], "sshq: error: "),
        (["hosts"], "sshq: error: "),
        (["hosts", "retry"], "sshq: error: "),
        (["purge"], "sshq: error: "),
    ],
)
def test_without_a_controller_each_command_says_so_in_its_words(place, sshq, words, first):
    done = sshq(*words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == first + UNABLE + SILENT.format(home=place.sshq_home)


def test_a_socket_left_behind_is_nobody(place, sshq):
    left = socket.socket(socket.AF_UNIX)
    left.bind(f"{place.sshq_home}/sock")
    left.close()
    assert sshq("squeue").stderr.startswith("slurm_load_jobs error: " + UNABLE)


def test_ping_says_down(sshq):
    done = sshq("scontrol", "ping")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == f"Slurmctld(primary) at {os.uname().nodename} is DOWN\n"


@pytest.mark.parametrize("verb", ["show", "why", "logs", "reproduce"])
@pytest.mark.parametrize("job,what", [("12_[1-3]", "several tasks"), ("12.0", "a step"), ("12_3.batch", "a step")])
def test_where_one_job_is_meant_nothing_else_is_taken_for_it(sshq, verb, job, what):
    done = sshq(verb, job)
    assert (done.returncode, done.stdout) == (1, "")
    says = f"{job} is {what}: one job is meant here\n    hint: 12 is a job or a whole array, 12_4 one of its tasks\n"
    assert done.stderr == f"sshq: error: {says}"


@pytest.mark.parametrize("verb", ["wait", "purge"])
def test_where_jobs_are_meant_a_step_is_none(sshq, verb):
    done = sshq(verb, "12_[1-2]", "12.0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "sshq: error: 12.0 is a step: jobs are meant here\n    hint: job ids look like 12, 12_4 or 12_[1-5]\n"


@pytest.mark.parametrize(
    "words,code,stderr",
    [
        (["sbatch", "nosuch.sh"], 1, "sbatch: error: Unable to open file nosuch.sh\n"),
        (["sbatch", "."], 1, "sbatch: error: Batch script is empty!\n"),
        (["sbatch"], 1, "sbatch: error: Batch script is empty!\n"),
        (
            ["sbatch", "--no-such-option", "--wrap", "true"], 255,
            "sbatch: unrecognized option '--no-such-option'\nTry \"sbatch --help\" for more information\n",
        ),
        (
            ["sbatch", "-t", "abc", "--wrap", "true"], 255,
            ("sbatch: error: Invalid --time specification\n    -t abc\n"
            "    Times are minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS.\n"),
        ),
        (["sbatch", "--wrap", "true", "x.sh"], 1, "sbatch: error: Script arguments not permitted with --wrap option\n"),
        (["sacct", "-u", "\u00b2"], 1, "sacct: error: Invalid user id: \u00b2\n"),
        (["sacct", "-u", "9" * 5000], 1, f"sacct: error: Invalid user id: {'9' * 5000}\n"),
        (["squeue", "--no-such"], 1, "squeue: unrecognized option '--no-such'\nTry \"squeue --help\" for more information\n"),
        (
            ["squeue", "-j", "abc"], 1,
            "squeue: error: Invalid job id: abc\n    hint: job ids look like 12, 12_4 (array task) or 12_[1-5]\n",
        ),
        (["scancel"], 1, "scancel: error: No job identification provided\n"),
        (["scancel", "-s", "NOSIG", "7"], 1, "Unknown job signal: NOSIG\n"),
        (["scontrol", "frobnicate"], 1, "invalid keyword: frobnicate\n"),
        (["scontrol", "show", "nosuch"], 1, "invalid entity:nosuch for keyword:show \n"),
        (["scontrol", "show", "job", "abc"], 1, "scontrol_print_job error: Invalid job id specified\n"),
        (
            ["scontrol", "shutdown"], 1,
            "slurm_shutdown error: Requested operation is presently disabled\n    hint: sshq down stops the controller; jobs run on\n",
        ),
        (
            ["scontrol", "update", "jobid=1", "NoSuchKey=1"], 1,
            "Update of this parameter is not supported: NoSuchKey=1\nRequest aborted\n",
        ),
        (
            ["scontrol", "update", "nodename=n1", "state=drain"], 1,
            "You must specify a reason when DOWNING or DRAINING a node. Request denied\n",
        ),
        (["frobnicate"], 2, "sshq: error: no such command: frobnicate\n    hint: sshq help\n"),
        (["sbach"], 2, "sshq: error: no such command: sbach\n    hint: sshq sbatch\n"),
        (["up", "--nosuch"], 2, "sshq: error: No such option '--nosuch'\n    hint: sshq up --help\n"),
        (["logs"], 2, "sshq: error: which job?\n    hint: sshq logs JOB, or sshq logs --controller\n"),
        (["logs", "abc"], 1, "sshq: error: Invalid job id: abc\n    hint: job ids look like 12 or 12_4 (array task)\n"),
        (["wait"], 2, "sshq: error: Missing argument 'JOB…'\n    hint: sshq wait --help\n"),
        (["purge", "--older-than", "soon"], 2, "sshq: error: 'soon' is not a time\n    hint: times look like 90s, 30m, 12h, 7d, 2w\n"),
        (["hosts", "trust"], 2, "sshq: error: name hosts, or give --all\n    hint: sshq hosts trust --help\n"),
        (
            ["hosts", "frob"], 2,
            "sshq: error: no such command: hosts frob\n    hint: sshq hosts trust, retry, accept, remove\n",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_refused_before_anybody_is_asked(sshq, words, code, stderr):
    done = sshq(*words)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", stderr)


@pytest.mark.parametrize(
    "text,stderr",
    [
        ("#!/bin/sh\r\ntrue\r\n", ("sbatch: error: Batch script contains DOS line breaks (\\r\\n)\n"
                                  "sbatch: error: instead of expected UNIX line breaks (\\n).\n")),
        (" \n\n", "sbatch: error: Batch script contains only whitespace!\n"),
        ("echo hi\n", ("sbatch: error: This does not look like a batch script.  The first\n"
                      "sbatch: error: line must start with #! followed by the path to an interpreter.\n"
                      "sbatch: error: For instance: #!/bin/sh\n")),
        ("#!/bin/sh\n\0\n", ("sbatch: error: The Slurm controller does not allow scripts that\n"
                            "sbatch: error: contain a NULL character '\\0'.\n")),
    ],
)  # fmt: skip
def test_a_script_that_cannot_run_is_refused(place, sshq, text, stderr):
    place.write("job.sh", text)
    for done in (sshq("sbatch", "job.sh"), sshq("sbatch", input=text)):
        assert (done.returncode, done.stdout, done.stderr) == (1, "", stderr)


def test_an_unreadable_script_is_named(place, sshq):
    if os.geteuid() == 0:
        os.symlink("loop.sh", f"{place.work}/loop.sh")  # root reads everything but this
        assert "loop.sh" in sshq("sbatch", "loop.sh").stderr
        return
    place.write("job.sh", "#!/bin/sh\n", mode=0)
    assert sshq("sbatch", "job.sh").stderr.startswith("sbatch: error: Unable to open file job.sh\n")


def test_a_bad_directive_is_refused_with_its_line(place, sshq):
    place.write("job.sh", "#!/bin/sh\n#SBATCH -J x\n#SBATCH --time=abc\n")
    done = sshq("sbatch", "job.sh")
    assert done.returncode == 255
    assert "job.sh:3: #SBATCH --time=abc" in done.stderr


def test_an_inventory_is_checked_without_a_controller(place, sshq):
    good = place.write("hosts.yaml", "all:\n  hosts:\n    n1:\n      ansible_host: 10.0.0.1\n      sshq_slots: 4\n    n2:\n")
    done = sshq("inventory", good)
    assert (done.returncode, done.stderr) == (0, "")
    assert "n1" in done.stdout and "10.0.0.1" in done.stdout
    assert '"n1"' in sshq("inventory", "--json", good).stdout
    bad = place.write("bad.yaml", "all:\n  hosts:\n    n1:\n      sshq_slot: 4\n")
    done = sshq("inventory", bad)
    assert (done.returncode, done.stdout) == (1, "")
    assert "bad.yaml:4:7: unknown key `sshq_slot`" in done.stderr
    assert "did you mean `sshq_slots`?" in done.stderr
    assert "bad.yaml:4:7" in sshq("inventory", env={"SSHQ_INVENTORY": bad}).stderr
    assert sshq("inventory", "nosuch.yaml").returncode == 1


def test_a_bad_inventory_or_configuration_stops_up_and_leaves_nothing_running(place, sshq):
    bad = place.write("bad.yaml", "all:\n  hosts:\n    n1:\n      sshq_slot: 4\n")
    done = sshq("up", "--inventory", bad)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("sshq: error: ") and "unknown key `sshq_slot`" in done.stderr
    assert not os.path.exists(f"{place.sshq_home}/sock")
    place.write("../q/config.yaml", "log_leve: info\n")
    done = sshq("up")
    assert (done.returncode, done.stdout) == (1, "")
    assert "unknown setting `log_leve`" in done.stderr


def test_a_configuration_is_shown_with_origins(place, sshq):
    place.write("../q/config.yaml", "kill_wait: 7s\n")
    done = sshq("config")
    assert (done.returncode, done.stderr) == (0, "")
    assert "config.yaml:1" in done.stdout
    assert "kill_wait" in sshq("config", "--keys").stdout
    assert '"kill_wait"' in sshq("config", "--json").stdout


def test_an_inventory_that_is_not_there_is_an_error(sshq):
    done = sshq("up", "--inventory", "/nonexistent/hosts.yaml")
    assert done.returncode == 1
    assert "/nonexistent/hosts.yaml" in done.stderr


def test_a_state_directory_others_can_write_to_is_refused(place, sshq):
    os.makedirs(f"{place.work}/open", mode=0o700)
    os.chmod(f"{place.work}/open", 0o777)
    done = sshq("up", "--state", f"{place.work}/open")
    assert (done.returncode, done.stdout) == (1, "")
    assert "can be written to by others" in done.stderr


def test_hostnames_and_hostlists_need_no_controller(sshq):
    assert sshq("scontrol", "show", "hostnames", "n[1-3,07-09],x").stdout == "n1\nn2\nn3\nn07\nn08\nn09\nx\n"
    assert sshq("scontrol", "show", "hostlist", "n1,n2,n3,n10,x").stdout == "n[1-3,10],x\n"
    assert sshq("scontrol", "show", "hostlistsorted", "n3,n1,n2").stdout == "n[1-3]\n"
    assert sshq("scontrol", "show", "hostnames", env={"SLURM_JOB_NODELIST": "a[1-2]"}).stdout == "a1\na2\n"


def test_scontrol_without_a_verb_takes_them_from_stdin(sshq):
    done = sshq("scontrol", input="version\nfrobnicate\nquit\n")
    assert done.returncode == 1
    assert done.stdout == "scontrol: slurm 22.05.8\nscontrol: scontrol: "
    assert done.stderr == "invalid keyword: frobnicate\n"
    assert sshq("scontrol").stdout == "scontrol: \n"


def test_a_bug_is_one_line_status_70_and_a_private_log(place):
    import subprocess
    import sys

    program = (
        "import sys; import sshq.cli.version as v; from sshq.cli.main import main\n"
        "def broken(_): raise KeyError('oops')\n"
        "v.run = broken; sys.exit(main(['version']))"
    )
    done = subprocess.run([sys.executable, "-c", program], env=place.env, capture_output=True, text=True, check=False)
    log = f"{place.sshq_home}/crash.log"
    assert (done.returncode, done.stdout) == (70, "")
    assert done.stderr == f"sshq: error: a bug of sshq: KeyError: 'oops'\n    hint: the details are in {log}\n"
    assert os.stat(log).st_mode & 0o777 == 0o600
    assert "Traceback" in open(log).read()


def test_a_script_without_an_end_is_not_read_for_ever(instance):
    done = instance.run("sbatch", "/dev/zero")
    assert (done.returncode, done.stderr) == (1, "sbatch: error: Unable to open file /dev/zero\n    /dev/zero: File too large\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_streams_that_the_caller_has_closed_are_done_without(instance, closed):
    """As in `sshq squeue >&-` of a cron job: it was a traceback, and a socket became the standard output."""
    command = " ".join(["exec", *map(shlex.quote, instance.argv("version")), closed])
    done = subprocess.run(["/bin/sh", "-c", command], env=instance.env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("" if ">&-" in closed.split() else "sshq ")


@pytest.mark.parametrize("name", ["\u00b2", "9" * 5000])
def test_a_user_that_is_nearly_a_number_is_no_bug(sshq, name):
    done = sshq("squeue", "-u", name)
    assert done.returncode == 1
    assert done.stderr.startswith("slurm_load_jobs error: Unable to contact slurm controller")
