"""Cancel, signals and ends: what is killed, what a job's end is called, and what survives a scancel (nothing)."""

import shlex

import pytest

from .ledger import SIGN, attempts_of, read_accounts

LOOP = 'until [ -e "$HOME/go" ]; do sleep 0.05; done'


@pytest.fixture
def host(hosts, instance):
    (made,) = hosts()
    instance.use([made], sshq_slots=8)
    instance.write_config("kill_wait: 2s\nkeepalive_interval: 1s\nkeepalive_count: 2\nreconcile_interval: 5s\n")
    instance.up()
    instance.ready()
    return made


def start(instance, host, script, *options) -> int:
    """Submit a job that says when it is ready by a file of its number."""
    job = instance.wrap(f"{SIGN}; {script}", *options)
    instance.wait_for(lambda: host.exists(f"{host.home}/ready.{job}"), 10, f"job {job} is ready")
    instance.until_state(job, "RUNNING")
    return job


READY = 'touch "$HOME/ready.$SLURM_JOB_ID"'


def row(instance, job) -> str:
    return instance.out("sacct", "-n", "-P", "-X", "-o", "state,exitcode", "-j", str(job)).strip()


def both_rows(instance, job) -> list[str]:
    """The job's own row and its batch step's, where Slurm says how a cancelled script died."""
    return instance.out("sacct", "-n", "-P", "-o", "state,exitcode", "-j", str(job)).splitlines()


def processes(host) -> str:
    """Command lines of alice's processes that are no sshd and nothing of sshq's connection."""
    return host.sh("ps -u alice -o args=", check=False).stdout


# ---- scancel -------------------------------------------------------------------------------------------------------


def test_a_pending_job_is_cancelled_without_ever_starting(instance, host):
    job = instance.wrap(f"{SIGN}; true", "--hold")
    done = instance.run("scancel", str(job))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert row(instance, job) == "CANCELLED by 0|0:0"
    assert not host.exists(f"{host.home}/ledger")


def test_a_running_job_is_cancelled_with_its_processes(instance, host):
    job = start(instance, host, f"{READY}; sleep 777 & wait")
    done = instance.run("scancel", str(job))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    instance.until_state(job, "CANCELLED")
    assert both_rows(instance, job) == ["CANCELLED by 0|0:0", "CANCELLED|0:15"]
    assert "sleep 777" not in processes(host)
    assert "CANCELLED AT" in instance.wait_for(lambda: instance.read(f"slurm-{job}.out"), 5, "output came home")


def test_a_job_that_ignores_term_is_killed_after_the_grace(instance, host):
    job = start(instance, host, f"trap '' TERM; {READY}; while :; do sleep 0.1; done")
    instance.run("scancel", str(job), check=True)
    instance.until_state(job, "CANCELLED", timeout_s=10)
    assert both_rows(instance, job) == ["CANCELLED by 0|0:0", "CANCELLED|0:9"]


def test_a_job_may_clean_up_within_the_grace(instance, host):
    job = start(instance, host, f"trap 'echo cleaned; exit 0' TERM; {READY}; while :; do sleep 0.05; done")
    instance.run("scancel", str(job), check=True)
    instance.until_state(job, "CANCELLED", timeout_s=10)
    instance.wait_for(lambda: "cleaned\n" in instance.read(f"slurm-{job}.out"), 5, "output came home")


def test_children_that_left_group_and_session_die_with_the_job(instance, host):
    strays = "setsid sleep 771 & (setsid sh -c 'sleep 772 & exec sleep 773' &) ; nohup sleep 774 >/dev/null 2>&1 &"
    job = start(instance, host, f"{strays}\n{READY}; wait; {LOOP}")
    instance.wait_for(lambda: all(f"sleep 77{n}" in processes(host) for n in "1234"), 5, "the strays run")
    instance.run("scancel", str(job), check=True)
    instance.until_state(job, "CANCELLED", timeout_s=10)
    assert "sleep 77" not in processes(host)


AGAIN = """trap 'exec sh -c "$BODY"' TERM; touch "$HOME/again.$$"; while :; do sleep 0.11; done"""
FORKING = """trap 'setsid sh -c "$BODY" & exit 0' TERM; touch "$HOME/again.$$"; while :; do sleep 0.11; done"""


@pytest.mark.parametrize("body", [AGAIN, FORKING], ids=["becomes another program", "leaves another one behind"])
def test_a_job_that_starts_anew_at_each_term_dies_after_the_grace(instance, host, body):
    job = start(instance, host, f'export BODY={shlex.quote(body)}; {READY}; eval "$BODY"')
    instance.run("scancel", str(job), check=True)
    instance.until_state(job, "CANCELLED", timeout_s=20)
    assert len(host.sh("ls /home/alice/again.*").stdout.split()) >= (2 if body is FORKING else 1)
    assert "sleep 0.11" not in processes(host)  # sshq's own naps are of 0.1


def test_children_that_left_with_an_empty_environment_die_while_their_parents_tell(instance, host):
    strays = "env -i setsid sleep 761 & setsid sh -c 'env -i sleep 762 & wait' &"
    job = start(instance, host, f"{strays}\n{READY}; wait; {LOOP}")
    instance.wait_for(lambda: all(f"sleep 76{n}" in processes(host) for n in "12"), 15, "the strays run")
    instance.run("scancel", str(job), check=True)
    instance.until_state(job, "CANCELLED", timeout_s=20)
    assert "sleep 76" not in processes(host)


def test_a_daemon_without_environment_and_parents_is_the_known_miss(instance, host):
    """Nothing that a user may read without control groups ties it to its job.  The README says so; it should not be news."""
    daemon = "(env -i setsid sleep 763 >/dev/null 2>&1 &)"
    job = start(instance, host, f"{daemon}; {READY}; {LOOP}")
    instance.wait_for(lambda: "sleep 763" in processes(host), 15, "the daemon runs")
    instance.run("scancel", str(job), check=True)
    instance.until_state(job, "CANCELLED", timeout_s=20)
    assert "sleep 763" in processes(host)
    assert "sleep 0.05" not in processes(host)


@pytest.mark.slow  # the node tries for twenty seconds
def test_the_result_of_a_cancel_names_what_survived(instance, host):
    """A process of another user in the job's session: what sudo starts, say."""
    host.sh("cp /usr/bin/unshare /usr/bin/as-root && chmod 4755 /usr/bin/as-root")
    job = start(instance, host, f"as-root --setuid 0 --setgid 0 sleep 764 & {READY}; {LOOP}")
    survivor = instance.wait_for(lambda: host.sh("pgrep -u root -x sleep", check=False).stdout.strip(), 15, "it runs as root")
    instance.run("scancel", str(job), check=True)
    instance.until_state(job, "CANCELLED", timeout_s=40)
    named = f"{survivor}:sleep"
    assert f"could not be killed: {named}" in instance.out("scontrol", "show", "job", str(job))
    assert f"could not be killed: {named}" in instance.out("why", str(job))
    row = read_accounts(instance)[job]
    assert (row["sshq"]["survivors"], attempts_of(row)[0]["survivors"]) == ([named], [named])
    host.sh(f"kill {survivor}")


def test_signal_kill_ends_a_job_at_once(instance, host):
    job = start(instance, host, f"trap '' TERM; {READY}; while :; do sleep 0.1; done")
    instance.run("scancel", "-s", "KILL", str(job), check=True)
    instance.until_state(job, "CANCELLED", timeout_s=5)
    assert both_rows(instance, job) == ["CANCELLED by 0|0:0", "CANCELLED|0:9"]


def test_another_signal_is_delivered_and_ends_nothing(instance, host):
    job = start(instance, host, f"trap 'echo got usr1' USR1; {READY}; {LOOP}; exit 0")
    instance.run("scancel", "--signal=USR1", str(job), check=True)
    instance.wait_for(lambda: "got usr1" in instance.run("logs", str(job)).stdout, 5, "the trap ran")
    assert instance.state(job) == "RUNNING"
    host.sh(f"touch {host.home}/go")
    instance.until_state(job, "COMPLETED")


def test_signal_to_the_batch_script_alone_spares_its_children(instance, host):
    child = """sh -c 'trap "echo child got it" USR1; until [ -e "$HOME/go" ]; do sleep 0.05; done' &"""
    job = start(instance, host, f"trap 'echo script got it' USR1; {child}\n{READY}; {LOOP}; wait")
    instance.run("scancel", "-b", "-s", "USR1", str(job), check=True)
    instance.wait_for(lambda: "script got it" in instance.run("logs", str(job)).stdout, 5, "the trap ran")
    host.sh(f"touch {host.home}/go")
    instance.until_state(job, "COMPLETED")
    instance.wait_for(lambda: instance.read(f"slurm-{job}.out"), 5, "output came home")
    assert "child got it" not in instance.read(f"slurm-{job}.out")


def test_elements_and_ranges_of_an_array_are_cancelled_alone(instance, host):
    job = instance.wrap(f"{SIGN}; {LOOP}", "-a", "0-9%2")
    instance.wait_for(lambda: instance.state(f"{job}_1") == "RUNNING", 10, "two tasks run")
    instance.run("scancel", f"{job}_1", f"{job}_[3-5,9]", check=True)
    instance.until_state(f"{job}_1", "CANCELLED")
    for task in (3, 4, 5, 9):
        assert instance.state(f"{job}_{task}").startswith("CANCELLED"), task
    host.sh(f"touch {host.home}/go")
    assert instance.run("wait", str(job)).returncode == 1
    states = {task: instance.state(f"{job}_{task}").split()[0] for task in range(10)}
    assert states == {n: "CANCELLED" if n in (1, 3, 4, 5, 9) else "COMPLETED" for n in range(10)}
    ran = sorted(int(line.split()[1]) for line in host.read(f"{host.home}/ledger").splitlines())
    assert len(ran) == len(set(ran)) == 6


def test_a_whole_array_is_cancelled_by_its_number(instance, host):
    job = instance.wrap(f"{SIGN}; {LOOP}", "-a", "1-20%3")
    instance.wait_for(lambda: instance.state(f"{job}_3") == "RUNNING", 10, "tasks run")
    instance.run("scancel", str(job), check=True)
    instance.wait_for(lambda: not instance.out("squeue", "-h"), 10, "the queue is empty")
    assert {instance.state(f"{job}_{n}").split()[0] for n in (1, 2, 3)} == {"CANCELLED"}
    assert len(host.read(f"{host.home}/ledger").splitlines()) == 3


def test_cancel_of_a_job_on_a_host_that_is_away_is_kept_and_carried_out(instance, host):
    job = start(instance, host, f"{READY}; {LOOP}")
    host.cut()
    instance.wait_for(lambda: instance.out("sinfo", "-h", "-N", "-o", "%T").strip().endswith("*"), 15, "flagged")
    instance.run("scancel", str(job))
    assert instance.state(job) == "COMPLETING"
    host.heal()
    instance.until_state(job, "CANCELLED", timeout_s=20)
    assert both_rows(instance, job) == ["CANCELLED by 0|0:0", "CANCELLED|0:15"]


def test_a_cancel_survives_the_death_of_the_controller(instance, host):
    job = start(instance, host, f"{READY}; {LOOP}")
    host.cut()
    instance.wait_for(lambda: instance.out("sinfo", "-h", "-N", "-o", "%T").strip().endswith("*"), 15, "flagged")
    instance.run("scancel", str(job))
    instance.kill9()
    host.heal()
    instance.up()
    instance.until_state(job, "CANCELLED", timeout_s=20)
    assert len(attempts_of(read_accounts(instance)[job])) == 1


# ---- ends, as Slurm names them -------------------------------------------------------------------------------------


ENDS = [
    ("exit 0", "COMPLETED|0:0"),
    ("exit 3", "FAILED|3:0"),
    ("exit 255", "FAILED|255:0"),
    ("kill -9 $$", "FAILED|0:9"),
    ("kill -TERM $$", "FAILED|0:15"),
    ("kill -SEGV $$", "FAILED|0:11"),
    ("kill -INT $$", "FAILED|0:2"),
    ("no-such-command", "FAILED|127:0"),
    ("(sleep 600 &) ; exit 4", "FAILED|4:0"),
]


def test_the_end_of_a_job_has_slurms_name_and_numbers(instance, host):
    jobs = [instance.wrap(script) for script, _ in ENDS]
    instance.run("wait", *map(str, jobs))
    found = [(script, row(instance, job)) for (script, _), job in zip(ENDS, jobs, strict=True)]
    assert found == ENDS


def test_what_a_job_leaves_behind_is_swept_and_its_end_stays_its_own(instance, host):
    other = start(instance, host, f"{READY}; setsid sleep 779 & {LOOP}")
    job = instance.wrap("setsid sleep 778 >/dev/null 2>&1 & sleep 0.3; exit 0")
    instance.until_state(job, "COMPLETED")
    assert "sleep 778" in processes(host)
    instance.wait_for(lambda: "sleep 778" not in processes(host), 15, "the next sweep")
    assert "sleep 779" in processes(host)
    assert (instance.state(job), instance.state(other)) == ("COMPLETED", "RUNNING")


def test_a_retried_job_shows_each_attempt_and_only_its_last_end(instance, host):
    script = f'{SIGN}; echo "try $SLURM_RESTART_COUNT"; [ "$(wc -l <"$HOME/ledger")" -ge 3 ]'
    job = instance.wrap(script, "--retries", "5")
    after = instance.wrap("true", "-d", f"afternotok:{job}")
    instance.until_state(job, "COMPLETED")
    states = [a["state"] for a in attempts_of(read_accounts(instance)[job])]
    assert states == ["FAILED", "FAILED", "COMPLETED"]
    assert "DependencyNeverSatisfied" in instance.out("squeue", "-h", "-o", "%r", "-j", str(after))


def test_dependencies_follow_the_real_end(instance, host):
    first = instance.wrap(LOOP)
    good, bad, either = (instance.wrap("true", "-d", f"{kind}:{first}") for kind in ("afterok", "afternotok", "afterany"))
    assert [instance.state(job) for job in (good, bad, either)] == ["PENDING"] * 3
    host.sh(f"touch {host.home}/go")
    instance.until_state(good, "COMPLETED")
    instance.until_state(either, "COMPLETED")
    assert instance.state(bad) == "PENDING"
