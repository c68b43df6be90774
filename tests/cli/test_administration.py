"""scontrol's verbs of administration against a live controller: reservations, partitions, nodes, limits, and over a restart."""

import os
import pwd

import pytest

ME = pwd.getpwuid(os.getuid()).pw_name
RESERVE = ("scontrol", "create", "reservation", "StartTime=now", "Duration=60", "Nodes=ALL")


@pytest.fixture
def up(instance):
    done = instance.up()
    assert done.returncode == 0, done.stderr
    return instance


def reasons(up, job):
    return up.out("squeue", "-h", "-j", str(job), "-o", "%t %r").strip()


def test_what_administrators_arrange_is_in_force_and_outlives_the_controller(up):
    assert up.out(*RESERVE, f"Users={ME}", "ReservationName=course", "Flags=IGNORE_JOBS") == "Reservation created: course\n"
    assert up.run("sbatch", "-W", "--reservation=course", "-o", "/dev/null", "--wrap", "true").returncode == 0
    outside = up.wrap("true", "-t", "10")
    up.wait_for(lambda: "May be reserved for other job" in reasons(up, outside))
    assert up.out("scontrol", "update", "partitionname=lab", "maxtime=2:00:00", "state=drain") == ""
    assert up.out("scontrol", "update", "nodename=localhost", "weight=7", "features=big,fast", "comment=mine") == ""
    assert up.run("down").returncode == 0
    assert up.up().returncode == 0
    shown = up.out("scontrol", "show", "reservation", "course")
    assert f"Users={ME} Groups=(null)" in shown and "Flags=IGNORE_JOBS" in shown and "State=ACTIVE" in shown
    partition = up.out("scontrol", "show", "partition", "lab")
    assert "MaxTime=02:00:00" in partition and "State=DRAIN" in partition
    refused = up.run("sbatch", "--wrap", "true")
    assert refused.stderr.startswith("sbatch: error: Batch job submission failed: Required partition not available (inactive or drain)\n")
    assert up.out("sinfo", "-h", "-o", "%f %w") == "big,fast 7\n"
    assert up.out("scontrol", "delete", "reservationname=course") == ""
    assert up.out("scontrol", "show", "reservation") == "No reservations in the system\n"
    up.until_state(outside, "COMPLETED")


@pytest.mark.parametrize(
    ("words", "text", "code"),
    [
        (("create", "reservation", "Duration=5"), "scontrol: error: A start time must be given.  No reservation created.\n", 1),
        (("delete", "reservation=x"), "delete_reservation reservation=x: Requested reservation is invalid\n", 1),
        (("notify", "1", "hi"), "job notify failure: Requested operation is presently disabled\n", 1),
        (("reboot", "localhost"), "scontrol: error: RebootProgram isn't defined\n", 1),
        (("wait_job", "99"), "slurm_job_node_ready error: Invalid job id specified\n", 1),
        (("update", "partitionname=nosuch", "state=up"), "slurm_update error: Invalid partition name specified\n", 1),
        (("update", "nodename=localhost", "state=future"), "Invalid input: state=future\nRequest aborted\n", 1),
        (("wait_job",), "too few arguments for keyword:wait_job\n", 1),
    ],
)
def test_bad_words_are_refused_as_slurm_does(shared_up, words, text, code):
    done = shared_up.run("scontrol", *words)
    assert done.stderr.startswith(text)
    assert (done.returncode, done.stdout) == (code, "")


def test_lesser_verbs_answer(shared_up):
    up = shared_up
    assert up.out("scontrol", "errnumstr", "2017") == "Invalid job id specified\n"
    job = up.wrap("sleep 300", "-t", "30")
    assert up.run("scontrol", "wait_job", str(job)).returncode == 0
    pid, number, step = up.out("scontrol", "listpids", str(job)).splitlines()[1].split()[:3]
    assert (number, step) == (str(job), "batch") and os.path.exists(f"/proc/{pid}")
    assert up.out("scontrol", "update", f"jobid={job}", "timelimit=20") == ""
    assert up.out("squeue", "-h", "-j", str(job), "-o", "%l") == "20:00\n"
    assert up.out("scancel", str(job)) == ""


@pytest.fixture(scope="module")
def shared_up():
    import bed

    with bed.Instance() as made:
        assert made.up().returncode == 0
        yield made


def test_a_reserved_node_is_shown_so(shared_up):
    up = shared_up
    made = up.out("scontrol", "create", "reservation", "StartTime=now", "Duration=5", "Nodes=localhost", f"Users={ME}", "Flags=MAINT")
    assert made == f"Reservation created: {ME}_1\n"
    up.wait_for(lambda: up.out("sinfo", "-h", "-o", "%t %T") == "maint maint\n")  # once what was cancelled before has gone
    assert "State=IDLE+MAINT" in up.out("scontrol", "show", "node", "localhost")
    job = up.submit("-H", "--mincpus=2", "--tmp=10", f"--reservation={ME}_1", "--wrap", "true")
    shown = up.out("scontrol", "show", "job", str(job))
    assert "MinCPUsNode=2" in shown and "MinTmpDiskNode=10M" in shown and f"Reservation={ME}_1" in shown
    assert up.out("squeue", "-h", "-o", "%v %d") == f"{ME}_1 10M\n"
    assert up.out("scancel", str(job)) == up.out("scontrol", "delete", f"reservation={ME}_1") == ""
