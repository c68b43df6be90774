"""Upgrades: what the previous release left running is taken over, releases beside each other say so, files may be replaced.

`tests/runner/previous/0.1.0` holds what that release sends to a node, byte for byte: jobs are started with it over a real
sshd, as its controller would have, and its supervisors then meet this release.
"""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

import bed as beds
from bed.session import REPO, is_zombie, wait_until
from sshq.core.lifecycle import State
from sshq.core.model import SEQ_PER_GENERATION, Job, JobSpec, Launch, LaunchState, NodeRecord
from sshq.store.jobs import Store

PREVIOUS = Path(__file__).parents[1] / "runner" / "previous" / "0.1.0"
WAITER = 'echo $$ >>"$HOME/pids.$SLURM_JOB_ID"; until [ -e "$HOME/go" ]; do sleep 0.05; done; '


@pytest.fixture
def host(loopback) -> Iterator[beds.LoopbackHost]:
    """One host, clean before and after."""
    chosen = loopback.hosts[0]
    clear(chosen)
    yield chosen
    clear(chosen)


def clear(host) -> None:
    shutil.rmtree(f"{host.home}/spool", ignore_errors=True)
    for path in [*Path(host.home).glob("pids.*"), Path(host.home, "go")]:
        path.unlink(missing_ok=True)


def is_alive(pid: int) -> bool:
    return not is_zombie(pid)


# ---- the previous release's supervisors ----------------------------------------------------------------------------


class OldRelease:
    """A controller of release 0.1.0 as far as a host sees it: its text over its channel, and the replies as they come."""

    def __init__(self, host, store_id: str) -> None:
        self.host, self.store_id = host, store_id
        options = [f"-o{o}" for o in ("BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")]
        argv = ["ssh", "-F", "none", *options, "-i", host.key, "-p", str(host.port), f"{host.user}@{host.addr}", "exec /bin/sh"]
        self.channel = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.said = b""
        os.set_blocking(self.channel.stdout.fileno(), False)
        self.send("bootstrap.txt", NONCE="previous", STORE=store_id, BASE=host.vars["sshq_spool"])
        self.wait(r"^h took_over \d+$")
        self.boot, self.spool_id = self.hello("boot"), self.hello("spool_id")
        self.send("reserve.txt")
        self.wait(r"^R t1 1 1 \d+$")

    def send(self, name: str, **values: object) -> None:
        text = (PREVIOUS / name).read_bytes()
        for word, value in values.items():
            text = text.replace(f"@{word}@".encode(), str(value).encode())
        assert not re.search(rb"@[A-Z]+@", text)
        self.channel.stdin.write(text)
        self.channel.stdin.flush()

    def wait(self, pattern: str) -> str:
        def said() -> str:
            self.said += self.channel.stdout.read() or b""
            found = re.search(pattern, self.said.decode(), re.MULTILINE)
            return found[0] if found else ""

        return wait_until(said, 60, lambda: f"{pattern}; it said {self.said.decode()}")

    def hello(self, key: str) -> str:
        return re.search(rf"^h {key} (.*)$", self.said.decode(), re.MULTILINE)[1]

    def launch(self, job: int, script: str, *, limit_s: int | None = None, work: str) -> Launch:
        """Start a job as that release does; return the row its controller would have stored."""
        launch_id, seq = secrets.token_hex(16), SEQ_PER_GENERATION + job
        self.send(
            "launch.txt", ID=launch_id, JOB=job, SEQ=seq, ATTEMPT=1, EPOCH=1, UID=os.geteuid(), BOOT=self.boot, WORK=work,
            LIMIT="" if limit_s is None else limit_s,
            SCRIPT=f"SLURM_JOB_ID={job}; {script}".replace("'", "'\\''"),
        )  # fmt: skip
        pid = int(self.wait(rf"^S {launch_id} (\d+)").split()[2])
        return Launch(
            id=launch_id, job_id=job, attempt=1, node=self.host.name, seq=seq, epoch=1, boot=self.boot, spool_id=self.spool_id,
            state=LaunchState.RUNNING, decided_at=time.time(), started_at=time.time(), pid=pid,
        )  # fmt: skip

    def leave(self) -> None:
        """The controller goes, and with it its channel; jobs and supervisors stay."""
        self.channel.stdin.close()
        self.channel.wait(20)
        self.channel.stdout.close()


def spec_of(job: int, limit_s: int | None, work: str) -> JobSpec:
    return JobSpec(
        name=f"old{job}", uid=os.geteuid(), user="root", gid=0, group="root", script="0" * 64, environ="0" * 64, work_dir=work,
        submit_dir=work, std_out=f"{work}/out-{job}", time_limit_s=limit_s, partitions=("all",), requeue="no",
    )  # fmt: skip


def store_as_before(instance, old: OldRelease, launches: Mapping[int, tuple[Launch, int | None]]) -> None:
    """Write the store that release would have left: each job running, each launch open."""
    state = Path(instance.sshq_home, "state")
    store = Store.open(state, create=True)
    store.begin_epoch()
    rows: list[object] = [NodeRecord(name=old.host.name, generation=1, boot=old.boot, spool_id=old.spool_id)]
    for job, (launch, limit_s) in launches.items():
        spec = spec_of(job, limit_s, instance.work)
        rows += [launch, Job(
            job_id=job, spec=spec, spec_id=job, state=State.RUNNING, submit_at=launch.decided_at, attempt=1, launch_id=launch.id,
            nodes=(launch.node,), slots=(job - 1,), released=False, start_at=launch.started_at, eligible_at=launch.decided_at,
        )]  # fmt: skip
    store.commit(rows, max(launches) + 1)
    store.close()


def read_store_id(instance) -> str:
    state = Path(instance.sshq_home, "state")
    Store.open(state, create=True).close()
    return (state / "store_id").read_text().strip()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_jobs_of_the_previous_releases_supervisors_are_adopted_cancelled_timed_out_and_settled(instance, host):
    instance.use([host], sshq_slots=8, sshq_cpus=8)
    old = OldRelease(host, read_store_id(instance))
    scripts = {
        1: (WAITER + "squeue -h -o %T -j 1; echo done", None),  # a command that its own release did not have
        2: (WAITER, None),
        3: (WAITER, 4),
        4: (WAITER + "exit 3", None),
        5: ("trap '' TERM; " + WAITER, None),
        6: ('echo "$WORD"; exit 7', None),
        7: (WAITER, None),
    }
    launches = {
        job: (old.launch(job, script, limit_s=limit_s, work=instance.work), limit_s) for job, (script, limit_s) in scripts.items()
    }
    pids = {job: launch.pid for job, (launch, _) in launches.items()}
    old.wait(rf"^X 1 {launches[6][0].id} ")  # ended, and nobody acknowledged it
    (spool,) = Path(host.home, "spool/spool").iterdir()
    os.kill(int((spool / f"a/{launches[7][0].id}.sup").read_text().split()[1]), signal.SIGKILL)  # its supervisor, not the job
    old.leave()
    store_as_before(instance, old, launches)
    instance.write_config("kill_wait: 2s\n")
    instance.up()
    instance.ready(timeout_s=60)
    instance.until_state(6, "FAILED", timeout_s=60)
    assert "7:0" in instance.out("sacct", "-n", "-X", "-o", "exitcode", "-j", "6")
    assert instance.read("out-6") == "it's\n"
    assert {instance.state(job) for job in (1, 2, 4, 5, 7)} == {"RUNNING"}
    assert [job for job in (1, 2, 4, 5, 7) if not is_alive(pids[job])] == []

    instance.out("scancel", "2", "5", "7")
    instance.until_state(2, "CANCELLED", timeout_s=60)
    instance.until_state(7, "CANCELLED", timeout_s=60)
    instance.until_state(5, "CANCELLED", timeout_s=60)  # deaf to TERM: its old supervisor sends KILL after the grace it is told now
    instance.until_state(3, "TIMEOUT", timeout_s=60)
    host.sh("touch go")
    instance.until_state(1, "COMPLETED", timeout_s=60)
    instance.until_state(4, "FAILED", timeout_s=60)
    assert instance.read("out-1") == "RUNNING\ndone\n"
    assert [job for job, pid in pids.items() if is_alive(pid)] == []
    instance.wait_for(lambda: not list((spool / "a").iterdir()), 60, "all are acknowledged and nothing is left")
    rows = {int(row["job_id"]): row for row in json.loads(instance.out("sacct", "--json"))["jobs"]}
    assert {job: len(row["sshq"]["attempts"]) for job, row in rows.items()} == dict.fromkeys(scripts, 1)
    # A job of this release beside them, in the same spool.
    instance.until_state(instance.wrap("true"), "COMPLETED", timeout_s=60)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_lost_store_is_rebuilt_from_what_the_previous_release_launched(instance, host):
    instance.use([host])
    old = OldRelease(host, "0123456789abcdef0123456789abcdef")
    running = old.launch(11, WAITER + "echo done", work=instance.work)
    ended = old.launch(12, "exit 3", work=instance.work)
    old.wait(rf"^X 1 {ended.id} ")
    old.leave()
    instance.wait_for(lambda: instance.run("rebuild", "--yes").returncode == 0, 60, "rebuilt once its runner has gone")
    instance.up()
    instance.ready(timeout_s=60)
    instance.until_state(12, "FAILED", timeout_s=60)
    assert instance.state(11) == "RUNNING" and is_alive(running.pid)
    host.sh("touch go")
    instance.until_state(11, "COMPLETED", timeout_s=60)
    assert instance.read("out-11") == "done\n"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_spool_of_a_newer_format_is_refused_in_one_line_and_left_as_it_is(instance, host):
    instance.use([host])
    store_id = read_store_id(instance)
    spool = Path(host.home, "spool/spool", store_id)
    spool.mkdir(parents=True, mode=0o700)
    for directory in (spool.parent, spool.parent.parent):
        directory.chmod(0o700)
    (spool / "version").write_text("2\n")
    instance.up()
    said = instance.wait_for(lambda: line_about(instance, host.name, "format"), 60, "the reason in sinfo")
    assert "has format 2, this sshq knows 1: use the release that wrote it" in said, said
    assert [path.name for path in spool.iterdir()] == ["version"]
    instance.down()
    shutil.rmtree(f"{instance.sshq_home}/state")
    refused = instance.run("rebuild", "--yes")
    assert refused.returncode == 1 and "has format 2" in refused.stderr and "Traceback" not in refused.stderr, refused.stderr


def line_about(instance, name: str, word: str) -> str:
    return next((line for line in instance.out("hosts").splitlines() if line.startswith(name) and word in line), "")


# ---- a command and a controller of neighbouring releases -----------------------------------------------------------

AS_RELEASE = "import sshq, sshq.wire.protocol as wire; wire.PROTOCOL, sshq.__version__ = {protocol}, {version!r}; "
COMMAND = AS_RELEASE + "import sys; from sshq.cli.main import main; sys.exit(main(sys.argv[1:]))"
CONTROLLER = AS_RELEASE + "import sys; from sshq.controller.start import main; sys.exit(main(sys.argv[1:]))"
ASKING = [("squeue",), ("sinfo",), ("scancel", "1"), ("scontrol", "show", "job"), ("sacct",), ("sbatch", "--wrap", "true"), ("why", "1")]


def run_as(instance, protocol: int, version: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of another release: the constants are patched in its own process."""
    code = COMMAND.format(protocol=protocol, version=version)
    return subprocess.run(
        [sys.executable, "-c", code, *words], cwd=instance.work, env=instance.env, capture_output=True, text=True, timeout=60,
        check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture
def start_as(instance) -> Iterator[Callable[[int, str], "subprocess.Popen[bytes]"]]:
    """Starts a controller of another release."""
    started: list[subprocess.Popen[bytes]] = []

    def start(protocol: int, version: str) -> "subprocess.Popen[bytes]":
        state = f"{instance.sshq_home}/state"
        os.makedirs(state, mode=0o700, exist_ok=True)
        code = CONTROLLER.format(protocol=protocol, version=version)
        argv = [sys.executable, "-c", code, "--state", state, "--socket", f"{instance.sshq_home}/sock", "--home", instance.sshq_home]
        environ = {name: value for name, value in instance.env.items() if not name.startswith("SSHQ_")}
        started.append(subprocess.Popen(argv, env=environ, cwd="/", stdin=subprocess.DEVNULL, start_new_session=True))
        instance.wait_for(lambda: instance.status(), 60, "it answers")
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize(("theirs", "ours"), [((2, "0.2.0"), (1, "0.1.0")), ((1, "0.1.0"), (2, "0.2.0"))], ids=["older", "newer"])
def test_a_command_of_another_protocol_says_so_in_one_line_and_can_stop_the_controller(instance, start_as, theirs, ours):
    """`older`: an older command asks a newer controller; `newer`: the other way round."""
    controller = start_as(*theirs)
    for words in ASKING:
        done = run_as(instance, *ours, *words)
        lines = done.stderr.splitlines()
        assert done.returncode == 1 and done.stdout in ("", "\n") and len(lines) <= 3, (words, done)
        said = f"protocol version mismatch: the controller (sshq {theirs[1]}) speaks {theirs[0]}, the client {ours[0]}"
        assert said in done.stderr and "sshq down && sshq up" in done.stderr, (words, done)
    again = run_as(instance, *ours, "up")
    assert again.returncode == 1 and f"a controller is already running (pid {controller.pid})" in again.stderr, again
    status = run_as(instance, *ours, "status")
    assert status.returncode == 0 and f"sshq {theirs[1]}" in status.stdout, status
    down = run_as(instance, *ours, "down")
    assert down.returncode == 0 and f"controller stopped (pid {controller.pid})" in down.stdout, down


@pytest.mark.slow
def test_releases_of_one_protocol_understand_each_other(instance, start_as):
    start_as(1, "0.3.0")
    job = int(run_as(instance, 1, "0.2.0", "sbatch", "--parsable", "--wrap", "true").stdout)
    instance.until_state(job, "COMPLETED", timeout_s=60)


# ---- pip install -U under a running controller ---------------------------------------------------------------------


def copy_package(target: Path, version: str) -> None:
    """A release of its own: this tree under another number."""
    shutil.rmtree(target / "sshq", ignore_errors=True)
    shutil.copytree(f"{REPO}/sshq", target / "sshq", ignore=shutil.ignore_patterns("__pycache__"))
    (target / "sshq/__init__.py").write_text(f'"""A release."""\n\n__version__ = "{version}"\n')


def spoil_package(target: Path) -> None:
    """In the middle of an upgrade: files are another release's, in which nothing fits, or gone."""
    for path in sorted((target / "sshq").rglob("*")):
        if path.suffix == ".py" and "transport" in path.parts:
            path.unlink()
        elif path.suffix == ".py":
            path.write_text("raise RuntimeError('this is the other release')\n")
        elif path.suffix in (".sh", ".sql"):
            path.write_text("exit 99\n")
    for cache in sorted((target / "sshq").rglob("__pycache__")):
        shutil.rmtree(cache)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_replacing_the_package_under_a_running_controller_breaks_nothing(instance, loopback, host, tmp_path):
    here, late = loopback.hosts[:2]
    clear(late)
    late.stop()
    instance.use([here, late])
    copy_package(tmp_path, "0.1.0")
    repo, instance.env["PYTHONPATH"] = instance.env["PYTHONPATH"], str(tmp_path)
    instance.up()
    instance.ready(here.name, timeout_s=60)
    assert "sshq 0.1.0" in instance.out("status")
    job = instance.wrap(WAITER + "echo done", "-w", here.name, "--output=out")
    pids = Path(here.home, f"pids.{job}")
    instance.wait_for(lambda: pids.exists() and pids.read_text().strip(), 60, "the job's pid")
    pid = int(pids.read_text())
    instance.down()
    here.stop()
    instance.up()  # this one has met no host, and sent nothing to any, before its files change
    spoil_package(tmp_path)

    instance.env["PYTHONPATH"] = repo  # commands of the new release
    for away in (here, late):
        away.start()
        away.wait_up()
    instance.run("hosts", "retry")
    instance.ready(timeout_s=60)
    instance.until_state(instance.wrap("true", "-w", late.name, "--wait"), "COMPLETED", timeout_s=60)
    held = instance.submit("-H", "--array=1-3", "--dependency=afterany:1", "--wrap", "true")
    use_every_verb(instance, job, held)
    instance.write_inventory(Path(instance.inventory).read_text().replace("sshq_slots: 2", "sshq_slots: 3"))
    instance.wait_for(lambda: slots_of(instance) == {3}, 60, "the edit of the inventory takes effect")
    assert "Traceback" not in instance.logs(400) and "other release" not in instance.logs(400), instance.logs(400)

    instance.down()
    copy_package(tmp_path, "0.2.0")
    instance.env["PYTHONPATH"] = str(tmp_path)
    instance.up()
    instance.ready(timeout_s=60)
    assert "sshq 0.2.0" in instance.out("status")
    assert instance.state(job) == "RUNNING" and is_alive(pid)
    here.sh("touch go")
    instance.until_state(job, "COMPLETED", timeout_s=60)
    assert instance.read("out") == "done\n" and pids.read_text().split() == [str(pid)]


def slots_of(instance) -> set[int]:
    return {host["slots"] for host in json.loads(instance.out("hosts", "--json"))["hosts"]}


def use_every_verb(instance, running: int, held: int) -> None:
    """Ask for all that a user can ask for: whatever is loaded late would fail here."""
    verbs: Sequence[tuple[str, ...]] = [
        ("squeue",), ("squeue", "--json"), ("sinfo", "-N", "-l"), ("sacct", "--json"), ("scontrol", "show", "job", str(running)),
        ("scontrol", "show", "node"), ("scontrol", "show", "partition"), ("scontrol", "update", f"jobid={held}", "name=x"),
        ("scontrol", "release", str(held)), ("scontrol", "hold", str(held)), ("why", str(held)), ("logs", str(running)),
        ("scontrol", "suspend", str(running)), ("scontrol", "resume", str(running)), ("scancel", f"{held}_2"), ("status",), ("hosts",),
        ("scontrol", "reconfigure"), ("purge", "--older-than", "1d"), ("inventory",), ("scancel", str(held)),
        ("doctor",), ("logs", "--controller"), ("scontrol", "write", "batch_script", str(running), "-"),
    ]  # fmt: skip
    for words in verbs:
        done = instance.run(*words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
