"""`sshq rebuild`: the head's disk is gone, and the hosts' spools say what runs and what has ended.

Jobs sign a ledger on their node before anything else, and wait at a gate (a FIFO of their host) that the test opens.
"""

import contextlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import bed as beds
from hosts.ledger import SIGN, find_wrong, read_accounts, read_ledgers
from sshq.controller.describing import describe_launch, parse_description
from sshq.core.lifecycle import State
from sshq.core.model import Job, JobSpec, Launch
from sshq.store.records import seal, unseal

AT_GATE = f'{SIGN}; echo "$SLURM_JOB_ID $$" >>"$HOME/pids"; read -r _ <"$HOME/gate.$GATE"; echo ended'
COLUMNS = "%i|%j|%u|%P|%l|%T|%N|%Z"


@pytest.fixture
def eight(loopback) -> Iterator[list[beds.LoopbackHost]]:
    """Eight hosts, clean and with gates closed."""
    added = loopback.add(max(0, 8 - len(loopback.hosts)))
    chosen = loopback.hosts[:8]
    for host in chosen:
        prepare(host)
    yield chosen
    for host in chosen:
        clear(host)
    for host in added:
        host.stop()
        loopback.hosts.remove(host)


@pytest.fixture
def pair(loopback) -> Iterator[list[beds.LoopbackHost]]:
    chosen = loopback.hosts[:2]
    for host in chosen:
        prepare(host)
    yield chosen
    for host in chosen:
        host.start() if host.process is None else None
        clear(host)


def prepare(host) -> None:
    clear(host)
    for gate in "AB":
        os.mkfifo(f"{host.home}/gate.{gate}")


def clear(host) -> None:
    for name in ("gate.A", "gate.B", "pids", "ledger"):
        Path(host.home, name).unlink(missing_ok=True)
    shutil.rmtree(f"{host.home}/spool", ignore_errors=True)


@contextlib.contextmanager
def open_gate(hosts, gate: str) -> Iterator[None]:
    """Whoever waits there, or comes there while it is open, goes on."""
    with contextlib.ExitStack() as stack:
        for host in hosts:
            pipe = os.open(f"{host.home}/gate.{gate}", os.O_RDWR)  # a reader as well: what was written stays for who comes later
            stack.callback(os.close, pipe)
            os.write(pipe, b"\n" * 250)
        yield


def read_pids(hosts) -> dict[int, int]:
    files = [Path(host.home, "pids") for host in hosts]
    lines = [line.split() for file in files if file.exists() for line in file.read_text().splitlines()]
    return {int(job): int(pid) for job, pid in lines}


def is_alive(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


def lose_the_disk(instance) -> None:
    """SIGKILL, and nothing of the state directory is left."""
    instance.kill9()
    shutil.rmtree(f"{instance.sshq_home}/state")
    Path(instance.sshq_home, "sock").unlink(missing_ok=True)


def rebuild(instance, *options: str) -> str:
    """`sshq rebuild`, once the runners of the killed controller have seen its end."""

    def attempt() -> str:
        done = instance.run("rebuild", *options, timeout_s=120)
        assert done.returncode == 0 or "may be alive" in done.stderr, done.stdout + done.stderr
        return done.stdout if done.returncode == 0 else ""

    return instance.wait_for(attempt, 60, "the hosts notice that the controller is gone")


def count_states(instance) -> Counter[str]:
    return Counter(instance.out("squeue", "-h", "-o", "%T", "-t", "all").split())


def rows_of(instance, *options: str) -> set[str]:
    return set(instance.out("squeue", "-h", "-o", COLUMNS, *options).splitlines())


# ---- the whole of it -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_200_jobs_on_8_hosts_are_found_again_and_each_has_run_exactly_once(instance, eight):
    instance.use(eight, sshq_slots=25, sshq_cpus=25)
    instance.up()
    instance.ready(timeout_s=60)
    quick = ["--job-name=early", "--export=GATE=A", "--output=/dev/null", "--wrap", AT_GATE]
    long = ["--job-name=late run", "--export=GATE=B", "--time=2:00:00", "--output=late-%a.out", "--wrap", AT_GATE]
    early = [instance.submit("--array=0-39", *quick)]
    instance.submit("--array=0-58", *long)
    early.append(instance.submit("--array=0-39", *quick))
    instance.submit("--array=100-159%70", *long)
    alone = instance.submit("--export=GATE=B", "--anywhere", "--output=home.out", "--comment=it's", "--wrap", AT_GATE)
    waiting = instance.submit("-H", "--wrap", "true")
    instance.wait_for(lambda: len(read_pids(eight)) == 200, 90, lambda: f"200 jobs at their gates: {len(read_pids(eight))}")
    instance.wait_for(lambda: count_states(instance)["RUNNING"] == 200, 60, "all are shown as running")
    before, pids = rows_of(instance, "-t", "R"), read_pids(eight)
    lose_the_disk(instance)
    spools = [Path(host.home, "spool/spool") for host in eight]
    with open_gate(eight, "A"):
        instance.wait_for(lambda: sum(map(count_records, spools)) == 80, 60, "80 jobs have ended on their own")

    shown = rebuild(instance)
    assert "nothing was changed" in shown and "200 jobs would be re-created: 120 launched and running, 80 ended" in shown, shown
    assert not os.path.exists(f"{instance.sshq_home}/state/sshq.db")
    done = rebuild(instance, "--yes")
    assert "200 jobs re-created" in done, done
    instance.up()
    instance.ready(timeout_s=60)
    instance.wait_for(lambda: count_states(instance) == {"RUNNING": 120, "COMPLETED": 80}, 60, lambda: f"{count_states(instance)}")
    after = rows_of(instance, "-t", "R")
    assert after == {row for row in before if int(re.split("[_|]", row)[0]) not in early}  # names, users, limits, places: as they were
    running = {job: pid for job, pid in read_pids(eight).items() if is_alive(pid)}
    assert len(running) == 120 and running.items() <= pids.items()
    assert waiting not in read_accounts(instance)
    assert instance.submit("-H", "--wrap", "true") > max(pids) + 1000  # the lost store may have given out more numbers

    with open_gate(eight, "B"):
        instance.wait_for(lambda: count_states(instance)["COMPLETED"] == 200, 60, lambda: f"{count_states(instance)}")
    starts = read_ledgers(eight)
    assert Counter(start.job for start in starts) == dict.fromkeys(pids, 1)
    assert find_wrong(starts, read_accounts(instance)) == []
    instance.wait_for(lambda: instance.read("home.out") == "ended\n", 60, "a private directory's output came home")
    instance.wait_for(lambda: instance.read("late-159.out") == "ended\n", 60, "output where it was asked for")
    assert "it's" in instance.out("scontrol", "show", "job", str(alone))
    instance.wait_for(lambda: sum(map(count_records, spools)) == 0, 60, "all are acknowledged, nothing is left")


def count_records(spool: Path) -> int:
    """How many whole records lie in these spools."""
    texts = [path.read_bytes().split(b"\n") for path in spool.glob("*/a/*.exit")]
    return sum(1 for lines in texts if lines[0].startswith(b"1 ") and lines[0] == lines[1])


# ---- what is doubtful, late or not ours ----------------------------------------------------------------------------


def start_waiter(instance, *options: str) -> int:
    job = instance.submit("--export=GATE=B", *options, "--wrap", AT_GATE)
    instance.until_state(job, "RUNNING", timeout_s=60)
    return job


def find_launch(host) -> Path:
    """The request of the one launch on a host."""
    (request,) = Path(host.home).glob("spool/spool/*/a/*.req")
    return request


def find_spool(host) -> Path:
    (spool,) = Path(host.home).glob("spool/spool/*")
    return spool


def leave_half(state: Path, store_id: str) -> None:
    """What a rebuild that was killed leaves: the new store aside, not all of it, and the id."""
    (state / "rebuilding").mkdir(parents=True, mode=0o700)
    (state / "rebuilding/sshq.db").write_bytes(b"half")
    (state / "store_id").write_text(f"{store_id}\n")


def add_unstarted(host, number: int) -> None:
    """Put beside the host's launch a copy that was claimed and never started, as a power cut can leave it."""
    request, fresh = find_launch(host), f"{number:032x}"
    folder = request.parent
    text = request.read_bytes()
    old = re.match(rb"# 1 (\d+) (\d+) 1 (\d+)\n", text)
    assert old is not None
    text = text.replace(old[0], b"# 1 %d %d 1 %b\n" % (int(old[1]) + 1, number, old[3]))
    head, about, rest = text.split(b"\n", 2)
    described = unseal(about.decode().removeprefix("# about "))
    before = old[2].decode()
    described = described.replace(f'"job_id":{before},"spec_id":{before}', f'"job_id":{number},"spec_id":{number}')
    text = b"\n".join([head, b"# about " + seal(described).encode(), rest])
    Path(folder, f"{fresh}.req").write_bytes(text)
    Path(folder, f"{fresh}.script").write_bytes(b"#!/bin/sh\n" + SIGN.encode() + b'\necho "$WORD"\n')
    Path(folder, f"{fresh}.env").write_bytes(b"export WORD='it'\\''s\ntwo lines'\nexport HOME='/x'\nSSHQ_WHOLE=1\nexport LANG='C'\n")
    Path(folder, f"{fresh}.exit").write_bytes(b" " * 1023 + b"\n")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_had_not_started_is_held_and_runs_once_released_in_its_own_environment(instance, pair):
    instance.use(pair[:1])
    instance.up()
    instance.ready(timeout_s=60)
    job = start_waiter(instance, "--output=out-%j")
    lose_the_disk(instance)
    add_unstarted(pair[0], job + 7)
    leave_half(Path(instance.sshq_home, "state"), find_spool(pair[0]).name)
    assert "1 held as they had not started" in rebuild(instance, "--yes")
    instance.up()
    instance.ready(timeout_s=60)
    instance.until_state(job, "RUNNING", timeout_s=60)
    instance.until_state(job + 7, "PENDING", timeout_s=60)
    assert "JobHeldUser" in instance.out("squeue", "-h", "-o", "%r", "-j", str(job + 7))
    assert "it had not started" in instance.out("scontrol", "show", "job", str(job + 7)) + instance.out("why", str(job + 7))
    instance.out("scontrol", "release", str(job + 7))
    instance.until_state(job + 7, "COMPLETED", timeout_s=60)
    instance.wait_for(lambda: instance.read(f"out-{job + 7}") == "it's\ntwo lines\n", 60, "its own environment")
    with open_gate(pair, "B"):
        instance.until_state(job, "COMPLETED", timeout_s=60)
    assert Counter(start.job for start in read_ledgers(pair)) == {job: 1, job + 7: 1}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_host_that_was_away_keeps_its_jobs_until_they_are_added(instance, pair):
    here, away = pair
    instance.use(pair)
    instance.up()
    instance.ready(timeout_s=60)
    jobs = {host: start_waiter(instance, "-w", host.name) for host in pair}
    lose_the_disk(instance)
    away.stop()
    assert f"not read: {away.name}; once they are back" in rebuild(instance, "--yes")
    instance.up()
    instance.ready(here.name, timeout_s=60)
    away.start()
    away.wait_up()
    instance.run("hosts", "retry")
    instance.ready(away.name, timeout_s=60)
    with open_gate([away], "B"):  # it ends while nobody here knows it
        instance.wait_for(lambda: count_records(Path(away.home, "spool/spool")) == 1, 60, "it ended")
    instance.restart()  # a listing, and one more generation: an ended launch that is not ours to judge stays
    instance.ready(timeout_s=60)
    assert count_records(Path(away.home, "spool/spool")) == 1
    instance.down()
    assert "1 job re-created" in rebuild(instance, "--add", "--yes")
    assert "0 jobs re-created" in rebuild(instance, "--add", "--yes")
    instance.up()
    instance.until_state(jobs[away], "COMPLETED", timeout_s=60)
    with open_gate([here], "B"):
        instance.until_state(jobs[here], "COMPLETED", timeout_s=60)
    assert find_wrong(read_ledgers(pair), read_accounts(instance)) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_it_refuses_where_a_store_or_a_controller_is_here_or_elsewhere_and_names_the_next_step(instances, pair):
    first, second = instances(), instances()
    for one in (first, second):
        one.use(pair[:1])
    first.up()
    first.ready(timeout_s=60)
    job = start_waiter(first)
    elsewhere = second.run("rebuild", "--yes")
    assert elsewhere.returncode == 1 and "may be alive: runners of it are on l1" in elsewhere.stderr, elsewhere.stderr
    assert "--force" in elsewhere.stderr and not os.path.exists(f"{second.sshq_home}/state/sshq.db")
    up = first.run("rebuild", "--yes")
    assert up.returncode == 1 and f"a controller is already running here: pid {first.pid()}" in up.stderr, up.stderr
    with open_gate(pair, "B"):
        first.until_state(job, "COMPLETED", timeout_s=60)
    first.down()
    there = first.run("rebuild", "--yes")
    assert there.returncode == 1 and "there is a store in" in there.stderr and "hint: sshq up" in there.stderr, there.stderr
    assert "Traceback" not in up.stderr + there.stderr + elsewhere.stderr


def test_nothing_to_rebuild_is_said_in_one_line(instance, pair):
    instance.use(pair[:1])
    said = instance.run("rebuild", "--yes")
    assert said.returncode == 1 and said.stderr.startswith("sshq: error: no host holds a spool of sshq\n"), said.stderr
    unknown = instance.run("rebuild", "--store", "abc")
    assert unknown.returncode == 1 and "no host holds a spool of store abc" in unknown.stderr


# ---- the description -----------------------------------------------------------------------------------------------

SPEC = JobSpec(name="n", uid=1, user="u", gid=1, group="g", script="s" * 64, environ="e" * 64)
LAUNCH = Launch(id="0" * 32, job_id=3, attempt=2, node="l1", seq=1000001, epoch=1, boot="b:1:2", spool_id="s", decided_at=2.5)
NAMES = ["plain", "it's", 'quo"te', "new\nline\r", "tab\t\x7f\x1b[0m", "ünï", "\udcff", "$(rm -rf /)`x`", "# about {}", "\x00"]


@pytest.mark.parametrize("name", NAMES)
def test_a_description_is_one_line_of_ascii_and_comes_back_as_it_was(name):
    job = Job(job_id=3, spec=JobSpec(**{f: getattr(SPEC, f) for f in ("uid", "user", "gid", "group", "script", "environ")}, name=name,
              work_dir=f"/{name}", args=(name, ""), dependency="afterok:1"), spec_id=3, submit_at=1.5, attempt=2, slots=(1, 2),
              state=State.CONFIGURING, array_job_id=1, array_task_id=0, private_dir=True)  # fmt: skip
    line = describe_launch(LAUNCH, job)
    assert line.isascii() and line.isprintable()
    found = parse_description(line)
    assert found is not None and (found.boot, found.decided_at) == ("b:1:2", 2.5)
    assert (found.job.spec.name, found.job.spec.args, found.job.spec.work_dir) == (name, (name, ""), f"/{name}")
    assert (found.job.slots, found.job.array_task_id, found.job.private_dir, found.job.attempt) == ((1, 2), 0, True, 2)
    assert found.job.spec.dependency is None and found.job.spec.environ == ""


def test_a_description_that_is_not_ours_is_none():
    line = describe_launch(LAUNCH, Job(job_id=3, spec=SPEC, spec_id=3, submit_at=1.0))
    good = json.loads(unseal(line))
    assert parse_description(line) is not None and parse_description(seal(json.dumps(good))) is not None
    wrong = [good | {"about": 2}, good | {"spec": {"v": 1}}, good | {"job": []}, good | {"boot": 3}, good | {"at": "x"}, [], {}]
    bad = [seal(json.dumps(one)) for one in wrong]
    bad += ["", "x", json.dumps(good), "[" * 100_000, line.replace('"name":"n"', '"name":"m"'), line[:-1], seal("[" * 100_000)]
    assert [parse_description(text) for text in bad] == [None] * len(bad)
