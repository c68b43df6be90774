"""squeue: as recorded, byte for byte, over the views of the recording's jobs."""

import shlex
import tracemalloc

import pytest

from sshq.errors import OptionError
from sshq.slurm.fields_squeue import JOB_FIELDS, shorten_tasks
from sshq.slurm.layout import read_format
from sshq.slurm.squeue import read_squeue_options, render_squeue, render_steps

from .recordings import JOBS, NOW, RUNNER, UID, load, make_job, print_lines

RECORDED = load("squeue")
PLACES = {"<J1>": "22483", "<J2>": "22484", "<J3>": "22485", "<N3>": "node3", "<P2>": "short", "$(id -un)": "recuser"}
# Entries of the same group whose cluster was not the one of `recordings`, or whose text is ours on purpose.
OTHERWISE = {"reasons", "squeue-empty", "squeue-empty-h", "squeue-steps"}


def ask(argv, environ=None, jobs=JOBS):
    options = read_squeue_options(
        argv, environ or {}, me="recuser", lookup_uid={"recuser": UID, "root": 0}.get
    )  # fmt: skip
    output = render_squeue(jobs, options, NOW)
    return (*print_lines(output), output.exit_code)


def split_command(entry):
    text = entry["cmd"]
    for mark, value in PLACES.items():
        text = text.replace(mark, value)
    words = shlex.split(text)
    at = words.index("squeue")
    return words[at + 1 :], dict(word.split("=", 1) for word in words[:at])


@pytest.mark.parametrize("name", [name for name in RECORDED if name not in OTHERWISE])
def test_prints_what_slurm_prints(name):
    entry = RECORDED[name]
    argv, environ = split_command(entry)
    try:
        out, err, exit_code = ask(argv, environ)
    except OptionError as error:
        rendered = error.render("squeue")
        assert rendered.startswith(entry["stderr"])
        assert (error.exit_code, entry["stdout"]) == (entry["exit"], "")
        return
    assert out == entry["stdout"]
    assert err == entry["stderr"]
    assert exit_code == entry["exit"]


def test_no_jobs_is_a_header_only():
    assert ask(["--me"], jobs=[])[0] == RECORDED["squeue-empty"]["stdout"]
    assert ask(["-h", "--me"], jobs=[])[0] == ""


STEPS = [
    {"job": RUNNER, "step_id": step, "name": name, "state": "RUNNING", "start_at": RUNNER["start_at"], "nodes": ["node3"]}
    for step, name in (("batch", "batch"), ("0", "sleep"))
]


def ask_steps(*argv):
    options = read_squeue_options(list(argv), {}, me="recuser", lookup_uid={"recuser": UID}.get)
    output = render_steps(STEPS, options, NOW)
    return (*print_lines(output), output.exit_code)


def test_steps_are_those_that_run():
    recorded = RECORDED["squeue-steps"]["stdout"]
    assert ask_steps("-s")[0].startswith(recorded)
    assert ask_steps("-h", "-s", "22483.batch")[0] == recorded.splitlines(keepends=True)[1]
    assert ask_steps("-h", "-s", "22483.0")[0].split() == ["22483.0", "sleep", "debug", "recuser", "0:06", "node3"]
    assert ask_steps("-h", "-s", "-u", "nobody-here")[0] == ""
    assert ask_steps("-h", "-s", "-o", "%A|%i|%t|%U")[0].splitlines()[1] == f"22483|22483.0|RUNNING|{UID}"
    assert ask_steps("-s", "-O", "stepid:12,stepname:.8,nosuch")[:2] == (
        "STEPID          NAME\n22483.batch    batch\n22483.0        sleep\n",
        "squeue: error: Invalid job step format specification: nosuch\n",
    )
    assert ask_steps("-h", "-s", "22483.7") == ("", "slurm_load_job_steps error: Invalid job id specified\n", 1)


def test_licenses_choose_jobs():
    jobs = [make_job(job_id=1, licenses="a:2,b"), make_job(job_id=2)]
    assert ask(["-h", "-L", "b", "-o", "%i %W"], jobs=jobs)[0] == "1 a:2,b\n"


def test_reasons_are_shown_as_recorded():
    jobs = [*JOBS, make_job(job_id=22488, name="wrap", reason="Priority", req_nodes=["node1"])]
    assert ask(["-h", "-t", "PD", "-S", "i", "-o", "%j %t %r %R"], jobs=jobs)[0] == RECORDED["reasons"]["stdout"]


def test_an_ended_job_is_known_but_listed_only_when_asked_for():
    ended = make_job(job_id=7, state="FAILED", reason="NonZeroExitCode", exit_code=3, nodes=["n"])
    assert ask(["-h", "-j", "7"], jobs=[ended]) == ("", "", 0)
    assert ask(["-h", "-j", "7", "-t", "all", "-o", "%i %t %T %r"], jobs=[ended])[0] == "7 F FAILED NonZeroExitCode\n"
    assert ask(["-h", "--finished", "-o", "%i"], jobs=[ended])[0] == "7\n"


def test_array_tasks_started_and_not_are_chosen_by_the_same_id():
    jobs = [
        make_job(job_id=12, array_job_id=12, array_tasks="3-9%2"),
        make_job(job_id=13, array_job_id=12, array_task_id=1, state="RUNNING", nodes=["n1"]),
    ]
    show = ["-h", "-S", "i", "-o", "%i"]
    assert ask([*show, "-j", "12"], jobs=jobs)[0] == "12_1\n12_[3-9%2]\n"
    assert ask([*show, "-j", "12_1"], jobs=jobs)[0] == "12_1\n"
    assert ask([*show, "-j", "12_4"], jobs=jobs)[0] == "12_[3-9%2]\n"
    assert ask([*show, "-r", "-t", "PD"], jobs=jobs)[0].split() == [f"12_{task}" for task in range(3, 10)]


def test_to_find_one_task_of_a_million_no_list_of_them_is_made():
    jobs = [make_job(job_id=12, array_job_id=12, array_tasks="1-1000000%2")]
    tracemalloc.start()
    try:
        assert ask(["-h", "-o", "%i", "-j", "12_500000"], jobs=jobs)[0] == "12_[1-1000000%2]\n"
        assert ask(["-h", "-o", "%i", "-j", "12_1000001"], jobs=jobs)[0] == ""
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_long_array_is_cut_as_in_slurm():
    tasks = ",".join(map(str, range(0, 200, 2)))
    assert len(shorten_tasks(tasks)) < 64
    assert shorten_tasks(tasks).endswith("...")
    assert shorten_tasks(tasks + "%3").endswith("...%3")
    assert shorten_tasks(tasks, 0) == tasks


def test_what_is_left_of_an_ended_job_is_completing():
    job = make_job(state="CANCELLED", completing=True, nodes=["n1"])
    assert ask(["-h", "-o", "%t %T %N"], jobs=[job])[0] == "CG COMPLETING n1\n"


def test_filters_are_all_asked_whoever_the_user_is():
    jobs = [make_job(job_id=1, name="a"), make_job(job_id=2, name="b")]
    assert ask(["-h", "-u", str(UID), "-n", "a", "-o", "%i"], jobs=jobs)[0] == "1\n"
    assert ask(["-h", "-u", "root", "-o", "%i"], jobs=jobs)[0] == ""


def test_kinds_are_our_own_filter():
    jobs = [make_job(job_id=1), make_job(job_id=2, kind="callable")]
    assert ask(["-h", "--type=callable", "-o", "%i"], jobs=jobs)[0] == "2\n"


def test_formats_on_the_command_line_beat_those_of_variables():
    assert ask(["-h", "-O", "jobid:6", "-j", "22483"], {"SQUEUE_FORMAT": "%T"})[0] == "22483 \n"
    with pytest.raises(OptionError, match="incompatible"):
        ask(["-O", "jobid", "-o", "%i"])


def test_times_follow_slurm_time_format():
    show = ["-h", "-j", "22483", "-o", "%S"]
    assert ask(show, {"SLURM_TIME_FORMAT": "relative"})[0] == "17:09:48\n"
    assert ask(show, {"SLURM_TIME_FORMAT": "%H"})[0] == "17\n"


def test_every_field_shows_every_job():
    names = ",".join(field.names[0] for field in JOB_FIELDS)
    out, err, _ = ask(["-O", names])
    assert (len(out.splitlines()), err) == (len(JOBS) + 1, "")
    assert ask(["-o", "%all"])[1] == ""


def test_letters_and_names_are_each_given_once():
    letters = [field.letter for field in JOB_FIELDS if field.letter]
    names = [name for field in JOB_FIELDS for name in field.names]
    assert len(set(letters)) == len(letters)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("text", ["", "%", "%%", "%5", "a%", "%.", "%.5", "%99999999999i", "%i%i"])
def test_no_format_is_too_odd(text):
    layout = read_format(text, JOB_FIELDS)
    assert isinstance(layout.header(), str)


def test_warnings_are_not_errors():
    options = read_squeue_options(["-M", "all"], {}, me="me", lookup_uid=lambda _name: None)
    assert options.warnings == ["--clusters has no effect here: there is one cluster"]
