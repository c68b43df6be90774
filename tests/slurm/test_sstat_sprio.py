"""sstat, sprio, and the lesser blocks of scontrol show: columns, which rows, bad words."""

import pytest

from sshq.errors import OptionError
from sshq.slurm.show_more import render_licenses, render_step
from sshq.slurm.sprio import read_sprio_options, render_sprio
from sshq.slurm.sstat import FIELDS, read_sstat_options, render_helpformat, render_sstat

from .recordings import JOBS, RUNNER, UID, print_lines


def make_step(step_id, **changes):
    step = {
        "job": RUNNER, "step_id": step_id, "name": "sleep", "state": "RUNNING", "start_at": RUNNER["start_at"],
        "nodes": ["node3"], "num_tasks": 2, "cpus": 2, "cpu_time_s": 8.0, "max_rss_kib": 1200,
    }  # fmt: skip
    return step | changes


STEPS = [make_step("batch", num_tasks=1, cpu_time_s=None, max_rss_kib=None), make_step("1"), make_step("0")]


def ask_sstat(*argv):
    output = render_sstat(STEPS, read_sstat_options(list(argv), {}))
    return (*print_lines(output), output.exit_code)


@pytest.mark.parametrize(
    ("argv", "ids"),
    [
        (["-j", "22483"], "22483.0"),
        (["-j", "22483.batch"], "22483.batch"),
        (["-j", "22483.1,22483.0"], "22483.1 22483.0"),
        (["-a", "-j", "22483"], "22483.batch 22483.1 22483.0"),
        (["22483.1"], "22483.1"),
    ],
)
def test_sstat_shows_the_steps_that_are_meant(argv, ids):
    assert ask_sstat("-n", "-P", "-o", "JobID", *argv)[0].split() == ids.split()


def test_sstat_tells_what_steps_use():
    out, err, code = ask_sstat("-n", "-P", "-j", "22483.0", "-o", "AveCPU,MaxRSS,AveRSS,MaxRSSNode,NTasks,Nodelist,AvePages")
    assert (out, err, code) == ("00:00:04|1200K|1200K|node3|2|node3|\n", "", 0)
    assert ask_sstat("-P", "-i", "-j", "22483")[0] == "JobID|Nodelist|Pids\n22483.0|node3|\n"
    assert ask_sstat("-j", "22483", "-o", "jobid%8,maxrss%-3")[0] == "   JobID Ma+ \n-------- --- \n 22483.0 12+ \n"


def test_sstat_says_what_does_not_run_and_goes_on():
    out, err, code = ask_sstat("-n", "-P", "-o", "JobID", "-j", "7,22483.0")
    assert (out, err, code) == ("22483.0\n", "sstat: error: no steps running for job 7\n", 0)


def test_sstat_lists_its_fields():
    assert render_helpformat().split() == [name for name, _ in FIELDS]
    assert ask_sstat("-n", "-a", "-j", "22483", "-o", "ALL")[1] == ""


def ask_sprio(*argv, jobs=JOBS):
    pending = [job for job in jobs if job["state"] == "PENDING"]
    options = read_sprio_options(list(argv), {}, lookup_uid={"recuser": UID}.get)
    return print_lines(render_sprio(pending, options))


def test_sprio_shows_who_comes_first():
    out, err = ask_sprio("-S", "-Y")
    assert out.splitlines()[:2] == [
        "          JOBID PARTITION   PRIORITY       SITE", "          22484 debug     4294896297          0",
    ]  # fmt: skip
    assert (err, out.splitlines()[-1].split()[:3]) == ("", ["22486", "debug", "0"])
    assert ask_sprio("-h", "-n", "-o", "%i %y")[0].splitlines()[0].startswith("22484 0.9999")
    assert ask_sprio("-w")[0].splitlines()[1].split() == ["Weights", "1"]
    assert ask_sprio("-h", "-l")[0].splitlines()[0].split()[:4] == ["22484", "debug", "recuser", "lab"]
    assert ask_sprio(jobs=[])[0] == "Unable to find jobs matching user/id(s) specified\n"


@pytest.mark.parametrize(
    ("read", "argv", "line"),
    [
        ("sstat", [], "sstat: error: You didn't give me any jobs to stat."),
        ("sstat", ["-j", "abc"], "sstat: fatal: Bad job/step specified: abc"),
        ("sstat", ["-j", "1", "-o", "NoSuch"], 'sstat: error: Invalid field requested: "NoSuch"'),
        ("sstat", ["--no-such"], "sstat: unrecognized option '--no-such'"),
        ("sstat", ["-j"], "sstat: option requires an argument -- 'j'"),
        ("sprio", ["-j", "abc"], "sprio: error: Invalid job id: abc"),
        ("sprio", ["-u", "nosuchuser"], "sprio: error: Invalid user: nosuchuser"),
        ("sprio", ["--no-such"], "sprio: unrecognized option '--no-such'"),
        ("sprio", ["12"], "sprio: error: Unrecognized option: 12"),
    ],
)
def test_bad_words_are_refused_in_slurms_words(read, argv, line):
    with pytest.raises(OptionError) as caught:
        read_sstat_options(argv, {}) if read == "sstat" else read_sprio_options(argv, {}, lookup_uid=lambda _name: None)
    assert caught.value.render(read).splitlines()[0] == line
    assert caught.value.exit_code == 1


def test_a_step_is_shown_with_slurms_keys():
    lines = render_step(make_step("0")).splitlines()
    assert lines[0] == f"StepId=22483.0 UserId={UID} StartTime=2026-11-22T17:09:48 TimeLimit=UNLIMITED"
    assert lines[1:4] == [
        "   State=RUNNING Partition=debug NodeList=node3", "   Nodes=1 CPUs=2 Tasks=2 Name=sleep Network=(null)",
        "   TRES=cpu=2,mem=200M,node=1",
    ]  # fmt: skip
    assert len(render_step(make_step("0"), oneline=True).splitlines()) == 1


def test_licenses_are_counted():
    shown = render_licenses([{"name": "matlab", "total": 10, "used": 2}])
    assert shown == "LicenseName=matlab\n    Total=10 Used=2 Free=8 Reserved=0 Remote=no\n"
    assert render_licenses([]) == "No licenses configured in Slurm.\n"
