"""sacct: as recorded, over rows of history like the recording's."""

import shlex

import pytest

from sshq.errors import OptionError
from sshq.slurm.fields_sacct import FIELDS, GETTERS, scale_memory
from sshq.slurm.sacct import read_sacct_options, render_helpformat, render_sacct
from sshq.slurm.table import find_column

from .recordings import UID, at, load, make_job, print_lines

RECORDED = load("sacct")
NOW = at("2026-11-22T17:11:49")
PLACES = {"<J1>": "22520", "<J2>": "22521", "<A1>": "22522", "<A2>": "22527"}
# A step of srun is on these lines of the recording; sshq keeps no steps but the batch step.
STEP = "22520.0"


def ended(job_id, name, state="COMPLETED", code=0, **changes):
    start, end = at("2026-11-22T17:11:31"), at("2026-11-22T17:11:32")
    attempt = {"attempt": 1, "node": "node3", "state": state, "start_at": start, "end_at": end, "exit_code": code,
               "exit_signal": None, "cancelled_by": None, "cpu_time_s": None, "max_rss_kib": None}  # fmt: skip
    return make_job(
        job_id=job_id, name=name, state=state, exit_code=code, nodes=["node3"], start_at=start, end_at=end,
        submit_at=start, eligible_at=start, attempts=[attempt],
    ) | changes  # fmt: skip


ROWS = [
    ended(22520, "acok", cpus=2, cpus_per_task=2),
    ended(22521, "acfail", "FAILED", 3),
    *(
        ended(22522 + task, "acarr", "FAILED" if task == 2 else "COMPLETED", int(task == 2), array_job_id=22522,
              array_task_id=task)
        for task in (1, 2, 3)
    ),
    make_job(job_id=22527, array_job_id=22527, array_tasks="1-4", name="acap", submit_at=at("2026-11-22T17:11:40")),
]  # fmt: skip


def ask(argv, rows=ROWS, environ=None, me="recuser"):
    options = read_sacct_options(argv, environ or {}, now=NOW, me=me, lookup_uid={"recuser": UID}.get)
    if options.helpformat:
        return render_helpformat()
    return print_lines(render_sacct(rows, options, NOW))[0]


@pytest.mark.parametrize("name", list(RECORDED))
def test_prints_what_slurm_prints(name):
    entry = RECORDED[name]
    text = entry["cmd"]
    for mark, value in PLACES.items():
        text = text.replace(mark, value)
    expected = "".join(line for line in entry["stdout"].splitlines(keepends=True) if STEP not in line)
    try:
        out = ask(shlex.split(text)[1:])
    except OptionError as error:
        assert error.render("sacct").startswith(entry["stderr"])
        assert (error.exit_code, entry["stdout"]) == (entry["exit"], "")
        return
    assert out == expected
    assert entry["exit"] == 0


@pytest.mark.parametrize(
    ("changes", "job", "step"),
    [
        ({"state": "COMPLETED"}, "COMPLETED|0:0", "COMPLETED|0:0"),
        ({"state": "FAILED", "exit_code": 3}, "FAILED|3:0", "FAILED|3:0"),
        ({"state": "FAILED", "exit_code": 130}, "FAILED|130:0", "FAILED|130:0"),
        ({"state": "FAILED", "exit_code": 0, "exit_signal": 9}, "FAILED|0:9", "CANCELLED|0:9"),
        ({"state": "CANCELLED", "cancelled_by": UID}, "CANCELLED by 1002|0:0", "CANCELLED|0:15"),
        ({"state": "TIMEOUT", "exit_signal": 9}, "TIMEOUT|0:0", "CANCELLED|0:9"),
        ({"state": "OUT_OF_MEMORY"}, "OUT_OF_MEMORY|0:125", "OUT_OF_MEMORY|0:125"),
        ({"state": "RUNNING", "end_at": None}, "RUNNING|0:0", "RUNNING|0:0"),
    ],
)
def test_endings_are_told_as_slurm_does(changes, job, step):
    row = ended(5, "x") | changes
    assert ask(["-n", "-P", "-o", "State,ExitCode", "-j", "5"], [row]) == f"{job}\n{step}\n"


def test_a_job_that_never_ran_has_no_step_and_no_node():
    when = at("2026-11-22T17:10:09")
    row = make_job(job_id=5, state="CANCELLED", cancelled_by=UID, start_at=when, end_at=when)
    show = ["-n", "-P", "-o", "JobID,State,ExitCode,Start,End,Elapsed,NodeList,AllocCPUS", "-j", "5"]
    assert ask(show, [row]) == ("5|CANCELLED by 1002|0:0|2026-11-22T17:10:09|2026-11-22T17:10:09|00:00:00|None assigned|0\n")


def test_a_running_jobs_expected_end_is_not_its_end():
    row = ended(5, "x", "RUNNING", end_at=at("2026-11-22T18:00:00"))
    assert ask(["-X", "-n", "-P", "-o", "End,Elapsed", "-j", "5"], [row]) == "Unknown|00:00:18\n"


def test_duplicates_are_the_attempts():
    row = ended(5, "x")
    row["attempts"] = [row["attempts"][0] | {"attempt": 1, "state": "NODE_FAIL", "node": "node1"}, row["attempts"][0]]
    show = ["-X", "-n", "-P", "-o", "State,NodeList", "-j", "5"]
    assert ask(show, [row]) == "COMPLETED|node3\n"
    assert ask([*show, "-D"], [row]) == "NODE_FAIL|node1\nCOMPLETED|node3\n"


def test_usage_stands_on_the_step():
    row = ended(5, "x", max_rss_kib=2048, cpu_time_s=0.011)
    assert ask(["-n", "-P", "-o", "MaxRSS,TotalCPU,NTasks", "-j", "5"], [row]) == "|00:00.011|\n2048K|00:00.011|1\n"


def test_the_window_is_today_and_all_time_with_ids():
    old = ended(5, "x", end_at=at("2026-11-20T00:00:00"), start_at=at("2026-11-19T00:00:00"))
    assert ask(["-X", "-n", "-P", "-o", "JobID"], [old]) == ""
    assert ask(["-X", "-n", "-P", "-o", "JobID", "-j", "5"], [old]) == "5\n"
    assert ask(["-X", "-n", "-P", "-o", "JobID", "-S", "2026-11-19"], [old]) == "5\n"
    assert ask(["-X", "-n", "-P", "-o", "JobID", "-S", "2026-11-01", "-E", "2026-11-02"], [old]) == ""


def test_others_jobs_are_shown_on_request():
    other = ended(5, "x", user="mara", uid=7)
    show = ["-X", "-n", "-P", "-o", "User"]
    assert ask(show, [other]) == ""
    assert ask([*show, "-a"], [other]) == "mara\n"
    assert ask(show, [other], me="root") == "mara\n"
    assert ask([*show, "-u", "7"], [other]) == "mara\n"


def test_sacct_format_is_the_default_format():
    assert ask(["-X", "-n", "-j", "22520"], environ={"SACCT_FORMAT": "jobid%6,state%-10"}) == " 22520 COMPLETED  \n"


def test_fields_are_found_by_their_beginning():
    assert find_column("jobid", FIELDS) == ("JobID", -12)
    assert find_column("elap", FIELDS) == ("Elapsed", 10)
    assert find_column("nosuch", FIELDS) is None


def test_every_getter_has_its_field():
    assert set(GETTERS) <= {name for name, _ in FIELDS}
    for row in ROWS:
        assert ask(["-P", "-o", "ALL", "-j", str(row["array_job_id"] or row["job_id"])], [row])


@pytest.mark.parametrize(("kib", "units", "text"), [(204800, "", "200M"), (204800, "K", "204800K"), (204800, "G", "0.20G")])
def test_amounts_come_in_the_unit_asked_for(kib, units, text):
    assert scale_memory(kib, units) == text


def test_lists_given_twice_add_up_and_the_command_line_replaces_the_variable():
    argv = ["-j", "12", "--jobs=13_4", "-o", "JobID", "-o", "State%5", "-s", "F", "-s", "CD"]
    options = read_sacct_options(argv, {"SACCT_FORMAT": "User"}, now=NOW, me="root")
    assert options.filter["refs"] == [[12, None], [13, [4]]]
    assert [name for name, _ in options.columns] == ["JobID", "State"]
    assert options.states == {"FAILED", "COMPLETED"}


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["-i", "1"], "1 2"), (["-i", "2-4"], "3"), (["-I", "4-8"], "3"), (["-I", "1"], "1 2"), (["-k", "10"], "1"),
        (["-k", "5", "-K", "30"], "1 2"), (["-k", "UNLIMITED"], "3"),
    ],
)  # fmt: skip
def test_jobs_are_chosen_by_size_and_limit(argv, shown):
    jobs = [
        make_job(job_id=1, time_limit_s=600), make_job(job_id=2, time_limit_s=1200),
        make_job(job_id=3, num_nodes=2, cpus=8, time_limit_s=None),
    ]  # fmt: skip
    assert ask(["-a", "-X", "-n", "-P", "-o", "JobID", "-S", "2026-11-01", *argv], jobs).split() == shown.split()


def test_times_are_cut_to_the_window_when_asked():
    job = make_job(
        job_id=1, state="COMPLETED", nodes=["n"], submit_at=at("2026-11-22T09:00:00"), start_at=at("2026-11-22T10:00:00"), end_at=at("2026-11-22T12:00:00"),
    )  # fmt: skip
    show = ["-a", "-X", "-n", "-P", "-S", "2026-11-22T11:00:00", "-E", "2026-11-22T11:30:00", "-o", "Start,End,Elapsed"]
    assert ask(show, [job]) == "2026-11-22T10:00:00|2026-11-22T12:00:00|02:00:00\n"
    assert ask([*show, "-T"], [job]) == "2026-11-22T11:00:00|2026-11-22T11:30:00|00:30:00\n"


@pytest.mark.parametrize(
    ("asked", "users", "uids"), [("anna,mara", ["anna", "mara"], None), ("7,1000", None, [7, 1000]), ("anna,7", None, None), (str(1 << 62), None, [])]
)
def test_the_controller_chooses_by_names_or_by_numbers(asked, users, uids):
    """Of a number it used to look for a user of that name."""
    options = read_sacct_options(["-u", asked], {}, now=0.0, me="anna", lookup_uid=lambda _: 1)
    assert (options.filter["users"], options.filter["uids"]) == (users, uids)
