"""sshq from another machine: commands on a laptop whose files the head does not see, over a real ssh."""

import os
import re
import signal
import sys

import pytest

import bed as beds

UNABLE = "Unable to contact slurm controller (connect failure)\n"


def submitted(done) -> int:
    assert done.returncode == 0, done.stderr
    return int(re.search(r"Submitted batch job (\d+)", done.stdout)[1])


def test_slurms_commands_and_ours_work_as_on_the_head(place, laptop):
    head, _ = place
    laptop.path("train.sh").write_text("#!/bin/sh\n#SBATCH -J train\necho it trains; echo $0 >&2\n")
    done = laptop.run("sbatch", "train.sh")
    job = submitted(done)
    where = laptop.there()
    assert done.stderr == (
        f"sbatch: submitted from {where} on head; output comes here with `sshq wait`, `sbatch --wait` or `sshq fetch`\n"
    )
    assert os.stat(where).st_mode & 0o777 == 0o700
    assert laptop.run("wait", str(job)).stdout == f"{job} COMPLETED 0:0\n"
    assert laptop.path(f"slurm-{job}.out").read_text().startswith("it trains\n")
    assert not [name for name in os.listdir(laptop.path(".")) if name.startswith(".")]
    for words in (["sinfo"], ["sacct", "-X", "-j", str(job)], ["logs", str(job)]):
        mine, theirs = laptop.run(*words), head.run(*words)
        assert (mine.returncode, mine.stderr, mine.stdout) == (0, "", theirs.stdout)
    waiting = submitted(laptop.run("sbatch", "--hold", "--wrap", "hostname"))
    assert "held" in laptop.run("why", str(waiting)).stdout.lower()
    assert laptop.run("scancel", str(waiting)).returncode == 0
    assert laptop.run("squeue", "-h", "-j", str(waiting)).stdout == ""


def test_wait_and_srun_bring_what_was_written(laptop):
    done = laptop.run("sbatch", "--wait", "-o", "logs/%j.txt", "--wrap", "echo one; exit 3")
    assert done.returncode == 1  # as on the head, logs is not there
    laptop.path("logs").mkdir()
    done = laptop.run("sbatch", "--wait", "-o", "logs/%j.txt", "--wrap", "echo one; exit 3")
    assert done.returncode == 3
    assert laptop.path(f"logs/{submitted_number(done)}.txt").read_text() == "one\n"
    done = laptop.run("srun", "sh", "-c", "cat; echo bad >&2; exit 4", input="typed here\n")
    assert (done.returncode, done.stdout) == (4, "typed here\n")
    assert done.stderr.startswith("bad\n")
    assert not list(laptop.there().glob(".sshq-*"))


def submitted_number(done) -> int:
    return int(re.search(r"Submitted batch job (\d+)", done.stdout)[1])


def test_what_names_places_of_the_laptop_does_not_travel(laptop):
    env = {"VIRTUAL_ENV": "/lap/v", "CONDA_PREFIX": "/lap/c", "LD_LIBRARY_PATH": "/lap/l", "KEPT": "yes", "PATH": "/lap/bin:" + laptop.env["PATH"]}
    script = 'echo "$VIRTUAL_ENV|$CONDA_PREFIX|$LD_LIBRARY_PATH|$KEPT"; echo $PATH'
    done = laptop.run("sbatch", "--wait", "-o", "env", "--wrap", script, env=env)
    assert done.returncode == 0
    first, second = laptop.path("env").read_text().splitlines()
    assert first == "|||yes"
    assert "/lap/" not in second
    assert "/usr/bin" in second
    laptop.run("sbatch", "--wait", "-o", "env", "--export", "ALL,VIRTUAL_ENV,PATH", "--wrap", script, env=env)
    assert laptop.path("env").read_text().startswith("/lap/v|||yes\n")
    assert "/lap/bin" in laptop.path("env").read_text()


@pytest.mark.slow
def test_fetch_brings_outputs_later_and_once(laptop):
    first = submitted(laptop.run("sbatch", "--wrap", "seq 200000"))
    second = submitted(laptop.run("sbatch", "--wrap", "echo second"))
    elsewhere = submitted(laptop.run("sbatch", "--chdir", str(laptop.instance.work), "--wrap", "echo third"))
    for job in (first, second, elsewhere):
        laptop.instance.until_state(job, "COMPLETED")
    done = laptop.run("fetch")
    size = len(laptop.there(f"slurm-{first}.out").read_bytes())
    assert sorted(done.stdout.splitlines()) == [f"slurm-{first}.out  {size} bytes", f"slurm-{second}.out  7 bytes"]
    assert laptop.path(f"slurm-{first}.out").read_bytes() == laptop.there(f"slurm-{first}.out").read_bytes()
    assert laptop.run("fetch").stdout == ""
    done = laptop.run("fetch", str(elsewhere))
    assert (done.returncode, done.stderr) == (1, (
        f"sshq: job {elsewhere} was not submitted from this machine, or writes elsewhere on head: "
        f"{laptop.instance.work}/slurm-{elsewhere}.out\n    hint: sshq logs {elsewhere}\n"
    ))  # fmt: skip
    laptop.path(f"slurm-{second}.out").write_text("changed")
    assert laptop.run("fetch", str(second)).stdout == f"slurm-{second}.out  7 bytes\n"
    assert laptop.path(f"slurm-{second}.out").read_text() == "second\n"


def test_a_head_that_was_broken_into_cannot_write_hidden_files(laptop):
    done = laptop.run("sbatch", "--wait", "-o", ".bashrc", "--wrap", "echo evil")
    assert done.returncode == 0
    assert ".bashrc is hidden: output is not brought there" in done.stderr
    assert not laptop.path(".bashrc").exists()


def test_names_of_any_bytes(laptop):
    name = "o u't\udcff\"$(x);\nü"
    laptop.path(name).mkdir()
    laptop.work = f"{laptop.dir}/w/{name}"
    done = laptop.run("sbatch", "--wait", "-o", "a 'b\" %j", "--wrap", "pwd")
    assert done.returncode == 0, done.stderr
    job = submitted_number(done)
    assert laptop.path(f"{laptop.work}/a 'b\" {job}").exists()


# ---- what is said where it does not work ----------------------------------------------------------------------


def test_the_way_is_named_where_it_does_not_work(laptop):
    ssh = laptop.env["SSHQ_SSH"]
    done = laptop.run("squeue", env={"SSHQ_HEAD_COMMAND": ""})
    assert (done.returncode, done.stderr) == (1, (
        f"squeue: error: {UNABLE}"
        "    sshq was not found on head: not on the PATH of a command run by ssh,\n"
        "    nor as ~/.local/bin/sshq, ~/bin/sshq, ~/.venv/bin/sshq, ~/venv/bin/sshq, /usr/local/bin/sshq, /opt/sshq/bin/sshq\n"
        "    hint: export SSHQ_HEAD_COMMAND=/path/there/to/sshq\n"
    ))  # fmt: skip
    done = laptop.run("sinfo", env={"SSHQ_HEAD_COMMAND": "/no/sshq"})
    assert done.stderr == (
        f"sinfo: error: {UNABLE}    head cannot run `/no/sshq`\n"
        "    hint: ssh head '/no/sshq version'; SSHQ_HEAD_COMMAND says where sshq is there\n"
    )
    assert laptop.run("squeue", env={"SSHQ_SSH": "/no/ssh -p 2222"}).stderr == (
        f"squeue: error: {UNABLE}    /no/ssh is no program of this machine\n    sh: 1: exec: /no/ssh: not found\n"
        "    hint: SSHQ_SSH, or `ssh:` in client.yaml, is the ssh to use; ssh if it says nothing\n"
    )
    done = laptop.run("wait", "1", env={"SSHQ_HEAD": "nobody.invalid"})
    assert (done.returncode, done.stderr) == (1, (
        f"sshq: error: {UNABLE}    ssh nobody.invalid failed:\n"
        "      ssh: Could not resolve hostname nobody.invalid: Name or service not known\n"
        f"    hint: {ssh} nobody.invalid true\n"
    ))  # fmt: skip
    old = "echo 'sshq: error: no such command: relay' >&2; exit 2; true"
    assert laptop.run("squeue", env={"SSHQ_HEAD_COMMAND": old}).stderr == (
        f"squeue: error: {UNABLE}    sshq on head is too old to be asked from here\n"
        "    sshq: error: no such command: relay\n    hint: upgrade sshq on head\n"
    )
    newer = """printf 'sshq-relay {"relay":7,"version":"9.0"}\\n'; cat; true"""
    assert laptop.run("squeue", env={"SSHQ_HEAD_COMMAND": newer}).stderr == (
        f"squeue: error: {UNABLE}    sshq on head is 9.0, and its relay speaks version 7, not 1\n"
        "    hint: install the same release on both machines\n"
    )
    assert laptop.run("squeue", env={"SSHQ_HEAD": "-oProxyCommand=touch x"}).stderr == (
        "squeue: error: `-oProxyCommand=touch x` names no head node\n    hint: export SSHQ_HEAD=user@host\n"
    )


def test_an_unknown_host_key_is_sshs_to_ask(laptop):
    laptop.write_config(known=False)
    done = laptop.run("squeue")
    assert done.stderr == (
        f"squeue: error: {UNABLE}    ssh head failed:\n      Host key verification failed.\n"
        f"    hint: {laptop.env['SSHQ_SSH']} head true  # once, in a terminal: it shows the host key and asks\n"
    )


def test_a_controller_that_is_down_is_started_from_here(instances, loopback):
    instance, head = instances(), loopback.add(1)[0]
    instance.use([head])
    laptop = beds.Laptop(instance, head)
    try:
        done = laptop.run("squeue")
        assert (done.returncode, done.stderr) == (1, (
            f"slurm_load_jobs error: {UNABLE}"
            f"    No sshq controller listens on head:{instance.sshq_home}/sock\n"
            "    Jobs already running go on without it; nothing is lost.\n    hint: sshq up\n"
        ))  # fmt: skip
        assert laptop.run("sinfo").returncode == 1  # not the hosts themselves: this machine may not even know them
        done = laptop.run("up")
        assert done.stdout.startswith("controller started"), done.stderr
        assert head.name in laptop.run("doctor").stdout
        assert laptop.run("down").returncode == 0
        assert instance.status() == {}
    finally:
        laptop.close()


def test_the_head_may_stand_in_a_file(laptop):
    folder = laptop.path(f"{laptop.dir}/home/.config/sshq")
    folder.mkdir(parents=True)
    lines = [f"{key}: {laptop.env[name]}" for key, name in (("head", "SSHQ_HEAD"), ("command", "SSHQ_HEAD_COMMAND"), ("ssh", "SSHQ_SSH"))]
    (folder / "client.yaml").write_text("# where the controller is\n" + "\n".join(lines) + "\n")
    for name in ("SSHQ_HEAD", "SSHQ_HEAD_COMMAND", "SSHQ_SSH"):
        del laptop.env[name]
    assert laptop.run("sinfo", "-h").returncode == 0
    done = laptop.run("squeue", env={"SSHQ_HEAD": ""})  # empty: this machine's own
    assert f"No sshq controller listens on {laptop.dir}/home/.local" in done.stderr
    (folder / "client.yaml").write_text("head: head\nport: 22\n")
    assert laptop.run("squeue").stderr == (
        f"squeue: error: {laptop.dir}/home/.config/sshq/client.yaml:2: not understood: port: 22\n"
        "    hint: its lines are `head: user@host`, `command: ~/venv/bin/sshq`, `ssh: ssh -p 2222`\n"
    )


def test_a_noisy_login_shell_is_read_past(laptop):
    noisy = "echo Welcome to head; echo sshq-rel; " + laptop.env["SSHQ_HEAD_COMMAND"]
    assert laptop.run("sinfo", "-h", env={"SSHQ_HEAD_COMMAND": noisy}).returncode == 0
    endless = "yes noise; true"
    done = laptop.run("sinfo", env={"SSHQ_HEAD_COMMAND": endless})
    assert done.stderr == f"sinfo: error: {UNABLE}    head answers with something else than sshq's relay\n"


# ---- cuts -----------------------------------------------------------------------------------------------------


def test_logs_go_on_where_a_killed_ssh_stopped(laptop, tmp_path):
    job = submitted(laptop.run("sbatch", "--wrap", "seq 2000; until [ -e go ]; do sleep 0.1; done; seq 2001 4000"))
    seen = tmp_path / "seen"
    with open(seen, "wb") as out:
        follower = laptop.start("logs", "-f", str(job), stdout=out)
    beds.wait_until(lambda: seen.read_bytes().endswith(b"2000\n"), 30, "the first half")
    for pid in laptop.ssh_pids():
        os.kill(pid, signal.SIGKILL)
    laptop.there("go").touch()
    _, err = follower.communicate(timeout=30)
    assert (follower.returncode, err) == (0, "")
    assert seen.read_text() == "".join(f"{n}\n" for n in range(1, 4001))


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_submission_that_is_cut_anywhere_is_one_job_or_none(place, laptop, way):
    instance, head = place
    name = f"cut{way}"
    cuts: list[beds.Cut | None] = []
    with beds.Cutter(head, lambda: cuts.pop() if cuts else None):
        laptop.write_config(port=head.port, addr=head.addr)
        told = 0
        for after in range(3000, 9000, 2000):
            cuts[:] = [beds.Cut(way, after, "fin")]
            done = laptop.run("sbatch", "-J", name, "--hold", "--wrap", "true" + " " * 2000)
            if done.returncode == 0:
                told += 1
                assert done.stdout.startswith("Submitted batch job ")
            else:  # before the relay spoke: nothing was sent, and trying again would be for the user to decide
                assert done.stderr.startswith(f"sbatch: error: {UNABLE}    ssh head failed:"), done.stderr
            cuts.clear()
    jobs = instance.out("squeue", "-h", "-n", name, "-o", "%i").split()
    assert len(jobs) == told
    assert told >= 1
    instance.run("scancel", "-n", name)


@pytest.mark.slow
def test_a_large_output_comes_whole_although_the_line_is_cut(place, laptop):
    _, head = place
    job = submitted(laptop.run("sbatch", "-o", "big", "--wrap", "head -c 20000000 /dev/urandom"))
    laptop.instance.until_state(job, "COMPLETED")
    cuts: list[beds.Cut | None] = [beds.Cut("down", 9_000_000, "rst"), beds.Cut("down", 9_000_000, "fin")]
    with beds.Cutter(head, lambda: cuts.pop() if cuts else None) as cutter:
        cuts.insert(0, None)
        cuts.reverse()  # the queue is asked first
        laptop.write_config(port=head.port, addr=head.addr)
        done = laptop.run("fetch", str(job))
        assert (done.returncode, done.stdout) == (0, "big  20000000 bytes\n"), done.stderr
        passed = sum(one.down for one in cutter.seen)
    assert laptop.path("big").read_bytes() == laptop.there("big").read_bytes()
    assert passed < 24_000_000  # what had come was not sent again
    assert sorted(os.listdir(laptop.path("."))) == ["big"]


# ---- from Python ----------------------------------------------------------------------------------------------

PROGRAM = """\
import os, sys
import sshq

def square(x):
    print("squares", x)
    return x * x

def many_bytes(count):
    return bytes(range(256)) * (count // 256)

def fails(x):
    raise KeyError(x)

with sshq.Client() as client:
    ending = client.submit(["echo", "from python"]).result(60)
    print(ending.state, ending.std_out, open(ending.std_out).read().strip())
with sshq.Executor() as executor:
    print([job.result(60) for job in executor.map_array(square, range(3))])
    job = executor.submit(square, 9)
    print(job.result(60), job.stdout().strip())
    print(executor.submit(many_bytes, 20_000_000).result(60) == many_bytes(20_000_000))
    print(executor.submit(len, os.urandom(6_000_000)).result(60))
    try:
        executor.submit(fails, 7).result(60)
    except KeyError as error:
        print("KeyError", error)
with sshq.Pool(2) as pool:
    print(pool.map(abs, range(-5, 5)))
print(sorted(os.listdir(".sshq")), os.listdir("."))
"""


@pytest.mark.slow
def test_client_executor_and_pool_work_from_the_laptop(place, laptop):
    laptop.path("program.py").write_text(PROGRAM)
    done = laptop.call("python", "program.py", timeout_s=120)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    number = re.fullmatch(rf"COMPLETED {laptop.work}/slurm-(\d+).out from python", lines[0])[1]
    assert lines[1:] == [
        "[0, 1, 4]", "81 squares 9", "True", "6000000", "KeyError 7", "[5, 4, 3, 2, 1, 0, 1, 2, 3, 4]", lines[-1],
    ]  # fmt: skip
    assert lines[-1].startswith("['.gitignore'] [")
    assert f"slurm-{number}.out" in lines[-1]
    left = {path.suffix for path in laptop.there(".sshq").iterdir()}
    assert left == {".out"}  # large arguments stay no longer than their job


WAITS = """\
import sshq
job = sshq.Client().submit("#!/bin/sh\\nuntil [ -e go ]; do sleep 0.1; done; echo went on\\n")
print(job.job_id, flush=True)
print(job.result(120).state, flush=True)
"""


@pytest.mark.slow
def test_a_future_outlives_controller_and_ssh(instances, loopback):
    head, node = loopback.hosts[:2]
    instance = instances()
    instance.use([node])
    instance.up()
    instance.ready()
    laptop = beds.Laptop(instance, head)
    try:
        laptop.path("waits.py").write_text(WAITS)
        out = laptop.path("out")
        with open(out, "wb") as file:
            waiter = laptop.spawn("python", "waits.py", stdout=file)
        beds.wait_until(lambda: out.read_text().endswith("\n"), 30, "the job's number")
        for pid in laptop.ssh_pids():
            os.kill(pid, signal.SIGKILL)
        instance.kill9()
        instance.up()
        laptop.there("go").touch()
        _, err = waiter.communicate(timeout=60)
        number, state = out.read_text().split()
        assert (state, waiter.returncode) == ("COMPLETED", 0), err
        assert laptop.path(f"slurm-{number}.out").read_text() == "went on\n"
    finally:
        laptop.close()


def test_fetch_all_brings_what_jobs_left_besides_their_output(laptop):
    script = "mkdir -p out/deep; echo model >out/deep/model.pt; echo mine >notes.txt; ln -s /etc/passwd link; echo x >.hidden"
    assert laptop.run("sbatch", "--wait", "-o", "/dev/null", "--wrap", script).returncode == 0
    laptop.path("notes.txt").write_text("newer here")
    done = laptop.run("fetch", "--all")
    assert (done.returncode, done.stdout) == (0, "out/deep/model.pt  6 bytes\n")
    assert done.stderr == "sshq: notes.txt is newer here, and stays as it is\n"
    assert laptop.path("out/deep/model.pt").read_text() == "model\n"
    assert laptop.path("notes.txt").read_text() == "newer here"
    assert sorted(os.listdir(laptop.path("."))) == ["notes.txt", "out"]
    assert laptop.run("fetch", "-a", "-q").stdout == ""


# ---- ssh as the user has it -----------------------------------------------------------------------------------


def on_a_terminal(laptop, words, answers, env=None) -> str:
    """What a command shows on a terminal, on which each of `answers` is typed once its question is there."""
    import pty

    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe("nsenter" if laptop.holder else "sh", laptop.argv(sys.executable, "-m", "sshq.cli.main", *words), laptop.env | (env or {}))
    shown = b""
    try:
        while data := os.read(terminal, 4096):
            shown += data
            if answers and answers[0][0] in shown:
                os.write(terminal, answers.pop(0)[1])
    except OSError:  # as Linux says that the other end is closed
        pass
    os.close(terminal)
    return f"{shown.decode()}[{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}]".replace("\r", "")


def test_what_ssh_asks_is_asked_on_the_terminal(laptop):
    laptop.write_config(known=False)
    shown = on_a_terminal(laptop, ["squeue", "-h"], [(b"(yes/no", b"yes\n")])
    assert "Are you sure you want to continue connecting" in shown
    assert shown.endswith("Warning: Permanently added 'head' (ED25519) to the list of known hosts.\n[0]")
    laptop.write_config(known=False)
    shown = on_a_terminal(laptop, ["squeue", "-h"], [(b"(yes/no", b"no\n")])
    assert "Host key verification failed.\n" in shown
    assert shown.endswith(
        f"squeue: error: {UNABLE}    ssh head failed:\n      its own words stand above\n    hint: {laptop.env['SSHQ_SSH']} head true\n[1]"
    )


def test_a_master_connection_is_used_and_no_pipe_waits_for_its_end(place, laptop):
    _, head = place

    def count_logins() -> int:
        with open(f"{head.dir}/log", encoding="utf-8") as log:
            return log.read().count("Accepted publickey")

    socket = f"{laptop.instance.session.dir}/cm"
    laptop.write_config("ControlMaster auto", f"ControlPath {socket}", "ControlPersist 60")
    done = laptop.run("sinfo", "-h")  # reads our output and errors to their end
    assert (done.returncode, done.stderr) == (0, "")
    assert os.path.exists(socket)
    logins = count_logins()
    assert laptop.run("squeue", "-h").returncode == 0
    assert count_logins() == logins
    assert laptop.call("ssh", "-F", laptop.config, "-O", "exit", "head").returncode == 0


def test_ctrl_c_asks_srun_and_leaves_its_connection(laptop):
    shown = on_a_terminal(
        laptop, ["srun", "sh", "-c", "echo begun; sleep 100"], [(b"begun", b"\x03"), (b"task 0: running", b"\x03"), (b"one more", b"\x03")],
    )  # fmt: skip
    assert "srun: interrupt (one more within 1 sec to abort)" in shown
    assert "task 0: running" in shown
    assert "Force Terminated" in shown


@pytest.mark.slow
def test_a_directory_that_the_head_sees_needs_no_other(place, laptop):
    instance, _ = place
    laptop.work = instance.work  # nothing of its own hides this one
    done = laptop.run("sbatch", "--wait", "-o", "here-%j", "--wrap", 'pwd; echo "$VIRTUAL_ENV"', env={"VIRTUAL_ENV": "/shared/v"})
    assert (done.returncode, done.stderr) == (0, "")
    assert instance.read(f"here-{submitted_number(done)}") == f"{instance.work}\n/shared/v\n"
    assert laptop.run("srun", "echo", "ran").stdout == "ran\n"
    code = "import os, sshq; print(sshq.Executor().submit(len, os.urandom(6_000_000)).result(60))"
    assert laptop.call("python", "-c", code).stdout == "6000000\n"
    assert laptop.run("fetch", "--all").stderr == "sshq: head sees this directory itself: there is nothing to bring\n"
    assert not [name for name in os.listdir(instance.work) if name.startswith(".sshq-")]
    if laptop.holder:
        laptop.work = f"{laptop.dir}/w"
        os.makedirs(laptop.work)  # of the same name there, and another directory
        assert laptop.run("sbatch", "--wait", "-o", "out", "--wrap", "pwd").returncode == 0
        assert laptop.path("out").read_text() == f"{laptop.there()}\n"


# ---- files that go along --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_tree_goes_along_and_only_what_changed_goes_again(place, laptop):
    _, head = place
    laptop.path("data").mkdir()
    laptop.path("data/large").write_bytes(os.urandom(3_000_000))
    laptop.path("data/small").write_text("first")
    script = "cat data/small; cksum <data/large; pwd"
    with beds.Cutter(head, lambda: None if cutter.made else beds.Cut("up", 1_000_000, "rst")) as cutter:
        laptop.write_config(port=head.port, addr=head.addr)
        done = laptop.run("sbatch", "--sync=.", "--wait", "-o", "out", "--wrap", script)
    assert cutter.made
    assert done.returncode == 0, done.stderr
    assert re.match(r"sbatch: 3 files and directories go along, 3\d{6} bytes \(3\d{6} new\)\n", done.stderr)
    said = laptop.path("out").read_text().splitlines()
    assert said[0].startswith("first") and said[0].endswith(" 3000000")
    assert not said[-1].startswith(str(laptop.there()))
    laptop.write_config()
    laptop.path("data/small").write_text("second")
    done = laptop.run("sbatch", "--stage-in=data", "--wait", "-o", "out", "--wrap", script)
    assert (done.returncode, laptop.path("out").read_text()[:6]) == (0, "second")
    assert int(re.search(r"\((\d+) new\)", done.stderr)[1]) < 10_000
