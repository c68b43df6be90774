"""Output of jobs followed from hosts that share nothing, and the exit codes of the waiting commands."""

import json

import pytest

AWAIT_GO = 'until [ -e "$HOME/go0" ]; do sleep 0.02; done'
# Writes a line each time it is told to, on both streams.
TALKER = """
n=0
while [ $n -lt 3 ]; do
    until [ -e "$HOME/go$n" ]; do sleep 0.02; done
    echo "line $n"
    echo "trouble $n" >&2
    n=$((n + 1))
done
"""


@pytest.fixture
def host(hosts, instance):
    (made,) = hosts()
    instance.use([made], sshq_slots=4)
    instance.up()
    instance.ready()
    return made


def tell(host, word: object) -> None:
    host.write(f"{host.home}/go{word}", "")


def start_talker(instance) -> int:
    job = instance.wrap(TALKER, "-e", "err")
    instance.until_state(job, "RUNNING")
    return job


def assert_ends(followers, *texts: str) -> None:
    """Each of these commands ends by itself, well, with this as its last output."""
    ends = [(*follower.communicate(timeout=10), follower.returncode) for follower in followers]
    assert ends == [(text, "", 0) for text in texts]


# ---- following -----------------------------------------------------------------------------------------------------


def test_each_line_arrives_while_the_job_runs_at_every_follower(instance, host):
    job = start_talker(instance)
    out, again, err = (instance.start("logs", "-f", *options, str(job)) for options in ((), (), ("-e",)))
    for n in range(2):
        tell(host, n)
        assert [out.stdout.readline(), again.stdout.readline(), err.stdout.readline()] == [f"line {n}\n", f"line {n}\n", f"trouble {n}\n"]
        assert instance.state(job) == "RUNNING"
    assert instance.out("logs", str(job)) == "line 0\nline 1\n"
    assert instance.out("logs", "-e", str(job)) == "trouble 0\ntrouble 1\n"
    assert instance.read(f"slurm-{job}.out") == ""
    tell(host, 2)
    assert_ends([out, again, err], "line 2\n", "line 2\n", "trouble 2\n")
    assert instance.run("wait", str(job)).returncode == 0
    assert instance.out("logs", str(job)) == instance.read(f"slurm-{job}.out") == "line 0\nline 1\nline 2\n"
    assert instance.out("logs", "-e", str(job)) == instance.read("err") == "trouble 0\ntrouble 1\ntrouble 2\n"
    instance.wait_for(lambda: "tail" not in host.sh("cat /proc/[0-9]*/comm", check=False).stdout, 5, "no tail is left behind")


def test_a_follower_of_a_pending_job_waits_for_its_start(instance, host):
    job = instance.wrap("echo begun", "--hold")
    follower = instance.start("logs", "-f", str(job))
    assert instance.run("logs", str(job)).stdout == ""
    instance.out("scontrol", "release", str(job))
    assert_ends([follower], "begun\n")


def test_a_follower_of_a_job_that_is_over_gets_it_all_and_ends(instance, host):
    job = int(instance.run("sbatch", "-W", "--parsable", "--wrap", "echo done; exit 4").stdout)
    assert_ends([instance.start("logs", "-f", str(job))], "done\n")


def test_a_follower_of_a_job_that_writes_nothing_ends_with_it(instance, host):
    job = instance.wrap(AWAIT_GO)
    follower = instance.start("logs", "-f", str(job))
    instance.until_state(job, "RUNNING")
    assert instance.out("logs", str(job)) == ""
    tell(host, 0)
    assert_ends([follower], "")
    assert instance.read(f"slurm-{job}.out") == ""


def test_a_follower_of_a_job_that_is_cancelled_while_pending_ends(instance, host):
    job = instance.wrap("echo never", "--hold")
    follower = instance.start("logs", "-f", str(job))
    instance.out("scancel", str(job))
    follower.communicate(timeout=10)
    assert instance.run("logs", str(job)).stdout == ""


def test_a_huge_line_comes_whole_and_unchanged(instance, host):
    job = instance.wrap(AWAIT_GO + '; head -c 5000000 /dev/zero | tr "\\0" x; echo; printf end')
    instance.until_state(job, "RUNNING")
    follower = instance.start("logs", "-f", str(job))
    tell(host, 0)
    assert_ends([follower], "x" * 5_000_000 + "\nend")
    assert instance.out("logs", str(job)) == "x" * 5_000_000 + "\nend"


def test_array_tasks_have_their_own_output(instance, host):
    job = instance.wrap(f'echo "task $SLURM_ARRAY_TASK_ID"; {AWAIT_GO}', "-a", "3-4")
    instance.until_state(f"{job}_4", "RUNNING")
    followers = [instance.start("logs", "-f", f"{job}_{task}") for task in (3, 4)]
    assert [follower.stdout.readline() for follower in followers] == ["task 3\n", "task 4\n"]
    tell(host, 0)
    assert_ends(followers, "", "")
    assert instance.run("wait", str(job)).returncode == 0
    assert instance.out("logs", f"{job}_3") == instance.read(f"slurm-{job}_3.out") == "task 3\n"


def test_a_follower_goes_on_over_a_lost_connection_without_losing_or_repeating_a_line(instance, host):
    job = start_talker(instance)
    follower = instance.start("logs", "-f", str(job))
    tell(host, 0)
    assert follower.stdout.readline() == "line 0\n"
    host.kill_sessions()
    tell(host, 1)
    assert follower.stdout.readline() == "line 1\n"
    tell(host, 2)
    assert_ends([follower], "line 2\n")


def test_a_follower_of_a_job_that_is_retried_gets_the_output_of_both_attempts(instance, host):
    script = f'if [ -e "$HOME/tried" ]; then echo second; else touch "$HOME/tried"; echo first; {AWAIT_GO}; echo enough; exit 1; fi'
    job = instance.wrap(script, "--retries", "1")
    follower = instance.start("logs", "-f", str(job))
    assert follower.stdout.readline() == "first\n"
    tell(host, 0)
    assert_ends([follower], "enough\nsecond\n")
    assert instance.state(job) == "COMPLETED"


def test_output_on_a_host_that_is_away_is_waited_for_by_followers_alone(instance, host):
    job = start_talker(instance)
    host.sshd_signal("KILL")
    host.kill_sessions()
    instance.wait_for(lambda: instance.run("logs", str(job)).returncode == 1, 5, "the connection is gone")
    assert f"the output is on {host.name}, which cannot be reached now" in instance.run("logs", str(job)).stderr
    follower = instance.start("logs", "-f", str(job))
    for n in range(3):
        tell(host, n)
    host.sshd_start()
    assert_ends([follower], "line 0\nline 1\nline 2\n")


def test_a_follower_goes_on_over_a_restart_of_the_controller(instance, host):
    job = start_talker(instance)
    follower = instance.start("logs", "-f", str(job))
    tell(host, 0)
    assert follower.stdout.readline() == "line 0\n"
    instance.kill9()
    instance.up()
    tell(host, 1)
    assert follower.stdout.readline() == "line 1\n"
    tell(host, 2)
    assert_ends([follower], "line 2\n")


def test_one_error_for_a_job_that_does_not_exist_or_cannot_be_read(instance, host):
    for job in ("99", "1_7", "x"):
        done = instance.run("logs", job)
        assert (done.stdout, done.returncode in (1, 2), len(done.stderr.splitlines()) <= 3) == ("", True, True), done
        assert "error" in done.stderr


def test_the_controllers_own_log(instance, host):
    assert f"host={host.name} ready" in instance.out("logs", "--controller")
    assert len(instance.out("logs", "--controller", "-n", "1").splitlines()) == 1


# ---- waiting -------------------------------------------------------------------------------------------------------


def test_who_waits_gets_the_exit_code_of_the_job(instance, host):
    table = [("exit 0", 0, "COMPLETED"), ("exit 3", 3, "FAILED"), ("kill -9 $$", 1, "FAILED"), ("exit 255", 255, "FAILED")]
    for script, code, state in table:
        done = instance.run("sbatch", "--wait", "--wrap", script)
        job = int(done.stdout.split()[-1])
        assert done.returncode == code, done
        waited = instance.run("wait", str(job))
        assert (waited.returncode, waited.stdout.startswith(f"{job} {state} ")) == (code, True), waited
        assert instance.run("wait", "-q", str(job)).stdout == ""


def test_waiting_for_several_gives_the_worst_and_for_none_an_error(instance, host):
    jobs = [instance.wrap(f"exit {code}") for code in (0, 7, 2)]
    assert instance.run("wait", *map(str, jobs)).returncode == 7
    assert instance.run("wait", str(jobs[0])).returncode == 0
    array = instance.wrap("exit $SLURM_ARRAY_TASK_ID", "-a", "0-5")
    assert instance.run("wait", str(array)).returncode == 5
    assert instance.run("wait", f"{array}_2").returncode == 2
    unknown = instance.run("wait", "99")
    assert unknown.returncode == 1
    assert "Invalid job id specified: 99" in unknown.stderr


def test_who_waits_for_a_job_that_is_cancelled_is_told(instance, host):
    job = start_talker(instance)
    waiting = instance.start("wait", str(job))
    instance.out("scancel", str(job))
    out, _ = waiting.communicate(timeout=10)
    assert waiting.returncode == 1
    assert out.startswith(f"{job} CANCELLED ")


# ---- doctor --------------------------------------------------------------------------------------------------------


def test_doctor_finds_nothing_wrong_with_a_good_host_that_is_in_use(instance, host):
    job = start_talker(instance)
    assert instance.out("doctor", host.name).splitlines()[0] == f"{host.name}: usable"
    (report,) = json.loads(instance.out("doctor", "--json", host.name))["hosts"]
    assert [check for check in report["checks"] if check["verdict"] == "fail"] == []
    assert instance.state(job) == "RUNNING"
    assert instance.logs().count("ready generation=") == 1


def test_who_reads_nothing_holds_up_nobody_and_fills_nothing(instance, host):
    """128 MiB behind a reader that stands still: another reads them whole, jobs are submitted and run, the controller stays small."""
    size = 128 << 20
    job = instance.wrap(f'head -c {size} /dev/zero; : >"$HOME/written"; {AWAIT_GO}')
    instance.until_state(job, "RUNNING")
    instance.wait_for(lambda: host.sh(f"test -e {host.home}/written", check=False).returncode == 0, 30, "all is written")
    before = resident_kib(instance.pid())
    stalled = [instance.start("logs", "-f", str(job), text=False) for _ in range(2)]
    try:
        assert all(one.stdout.read(1) == b"\0" for one in stalled)  # they have begun, and go no further
        reader = instance.start("logs", str(job), text=False)
        assert sum(len(piece) for piece in iter(lambda: reader.stdout.read(1 << 20), b"")) == size
        assert reader.wait(10) == 0
        other = instance.wrap("true")
        assert instance.run("wait", str(other)).returncode == 0
        # What one of them may have waiting is two windows of 4 MiB, and a MiB or two on either side.
        assert resident_kib(instance.pid()) - before < 48 << 10
    finally:
        for one in stalled:
            one.kill()
            one.communicate()
    tell(host, 0)
    assert instance.run("wait", str(job)).returncode == 0


def resident_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))
