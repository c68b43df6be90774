"""Interactive work on real hosts that have nothing of ours: input, terminals, allocations; cuts, and a controller that goes away."""

import signal
import subprocess

import pytest

from bed.screen import Screen


@pytest.fixture
def up(hosts, instance):
    """An instance over one host, ready: `up()`, or an odd one, `up("fish")`."""

    def start(kind: str = ""):
        made = [hosts.odd(kind)] if kind else hosts(1)
        instance.use(made, sshq_slots=4, sshq_cpus=4)
        instance.up()
        instance.ready()
        return made[0]

    return start


def gone(instance) -> None:
    instance.wait_for(lambda: instance.out("squeue", "-h") == "", 30, "nothing is left in the queue")


def pipe(instance, data: bytes, *words: str) -> subprocess.CompletedProcess[bytes]:
    argv = instance.argv(*words)
    return subprocess.run(argv, input=data, cwd=instance.work, env=instance.env, capture_output=True, timeout=60, check=False)


BYTES = bytes(range(256)) * 200 + b"end"


@pytest.mark.parametrize("kind", ["", "busybox", "fish", "tcsh", "max_sessions_1", "noexec_tmp"])
def test_input_and_a_terminal_on_hosts_of_all_kinds(up, instance, kind):
    host = up(kind)
    done = pipe(instance, BYTES, "srun", "sh", "-c", "cat; echo wrong >&2; exit 3")
    assert (done.returncode, done.stdout) == (3, BYTES), done.stderr
    assert b"wrong\n" in done.stderr
    with Screen(instance, "srun", "--pty", "sh") as screen:
        screen.send("stty size; hostname; echo $TERM $SLURM_JOB_ID en''d\n")
        said = screen.read_until("vt100 2 end").replace("\r", "")
        assert f"40 100\n{host.name}\n" in said
        screen.resize(50, 120)
        screen.process.send_signal(signal.SIGWINCH)
        screen.insist("stty size\n", "50 120")
        screen.send("sh -c 'echo beg''un; exec sleep 1000'\n")
        screen.read_until("begun")
        screen.send("\x03")
        screen.insist("echo co''de $?\n", "code 130")
        screen.send("exit 7\n")
        assert screen.wait() == 7
        assert screen.restored
    script = f"echo in | {' '.join(instance.argv('srun'))} -n1 cat"
    assert instance.run("salloc", "-n1", "sh", "-c", script).stdout == "in\n"
    gone(instance)
    assert not [line for line in host.sh("ps -ef || ps").stdout.splitlines() if "sleep 1000" in line]


def test_a_controller_that_goes_away_costs_a_step_nothing(up, instance):
    host = up()
    with Screen(instance, "salloc", "-n1", "sh") as shell:
        shell.read_until("Granted job allocation 1")
        script = "while read line; do echo got $line; done; echo over; exit 4"
        step = subprocess.Popen(
            instance.argv("srun", "--jobid=1", "sh", "-c", script), cwd=instance.work, env=instance.env, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        job = subprocess.Popen(
            instance.argv("srun", "sh", "-c", script), cwd=instance.work, env=instance.env, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        for process in (step, job):
            process.stdin.write("one\n")
            process.stdin.flush()
            assert process.stdout.readline() == "got one\n"
        instance.kill9()
        for process in (step, job):
            process.stdin.write("two\n")
            process.stdin.flush()
        instance.up()
        for process in (step, job):
            assert process.stdout.readline() == "got two\n"
            process.stdin.write("three\n")
            stdout, stderr = process.communicate(timeout=60)
            assert (process.returncode, stdout) == (4, "got three\nover\n"), stderr
        shell.send("exit\n")
        assert shell.wait() == 0
    gone(instance)
    assert host.exists(host.home)


def test_a_lost_line_ends_a_terminal_and_gives_its_nodes_back(up, instance):
    host = up()
    with Screen(instance, "srun", "--pty", "sh", "-c", "echo rea''dy; exec sleep 4321") as screen:
        screen.read_until("ready")
        instance.kill9()
        assert screen.wait() != 0
        assert screen.restored
    instance.up()
    gone(instance)
    assert "sleep 4321" not in host.sh("ps -ef || ps").stdout


def test_an_allocation_over_two_nodes(hosts, instance):
    made = hosts(2)
    instance.use(made, sshq_slots=2, sshq_cpus=2)
    instance.up()
    instance.ready()
    srun = " ".join(instance.argv("srun"))
    script = f"echo $SLURM_JOB_NUM_NODES; {srun} hostname; echo in | {srun} -N1 -n1 cat; {srun} -l -n2 sh -c 'echo $SLURM_NODEID'"
    done = instance.run("salloc", "-N2", "sh", "-c", script)
    assert done.returncode == 0
    assert done.stderr == "salloc: Granted job allocation 1\nsalloc: Relinquishing job allocation 1\n"
    lines = done.stdout.splitlines()
    assert (lines[0], sorted(lines[1:3]), lines[3], sorted(lines[4:])) == (
        "2", sorted(host.name for host in made), "in", ["0: 0", "1: 1"],
    )  # fmt: skip
    gone(instance)
