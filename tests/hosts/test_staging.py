"""Files that go along with a job to hosts that share nothing, some, or all: what arrives, what crosses the wire, what goes wrong."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bed import Cut, Cutter
from bed.screen import Screen

from .ledger import attempts_of, read_accounts
from .test_skeleton import share_directory


def tree_of(top):
    """What a tree holds, by path: kind, content or target, permissions."""
    found = {}
    top = os.fsencode(top)
    for folder, directories, files in os.walk(top):
        for name in (*directories, *files):
            path = os.path.join(folder, name)
            short = os.path.relpath(path, top)
            if os.path.islink(path):
                found[short] = ("link", os.readlink(path))
            elif os.path.isdir(path):
                found[short] = ("dir", b"")
            else:
                found[short] = (oct(os.stat(path).st_mode & 0o777), Path(os.fsdecode(path)).read_bytes())
    return found


def staged(instance):
    """Bytes sent and bytes of the tree, of each staging that the controller logged."""
    return [(int(a), int(b)) for a, b in re.findall(r"staged: (\d+) of (\d+) bytes sent", instance.logs(4000))]


CONFIG = "keepalive_interval: 1s\nkeepalive_count: 2\nconnect_timeout: 3s\nreconcile_interval: 5s\nkill_wait: 2s\n"


def start(instance, hosts, **keys):
    instance.use(hosts, **keys)
    instance.write_config(CONFIG)
    instance.up()
    instance.ready()


def spool_of(host, base="/home/alice/.local/state/sshq"):
    return host.sh(f"echo {base}/spool/*").stdout.strip()


def outcomes(instance, job):
    return [attempt["outcome"] for attempt in attempts_of(read_accounts(instance)[job])]


def until(instance, job, state, timeout_s=60):
    instance.until_state(job, state, timeout_s=timeout_s)
    instance.wait_for(lambda: not instance.out("squeue", "-h", "-j", str(job)), 30, f"what {job} left to be home")


def test_a_tree_goes_to_a_host_that_shares_nothing_and_only_what_changed_goes_again(hosts, instance):
    start(instance, hosts())
    work = Path(instance.work)
    (work / ".gitignore").write_text("*.tmp\n")
    (work / "lost.tmp").write_text("lost")
    (work / "src/empty").mkdir(parents=True)
    for number in range(40):
        (work / f"src/module{number}.py").write_bytes(os.urandom(20_000))
    (work / "data.bin").write_bytes(os.urandom(9_000_000))
    (work / "run.sh").write_text("#!/bin/sh\ncat message\nls -A\n")
    (work / "run.sh").chmod(0o755)
    (work / "message").write_text("first\n")
    (work / "link").symlink_to("src/module1.py")
    done = instance.run("sbatch", "--sync", "--wait", "--wrap", "./run.sh; test -L link -a -x run.sh && sha256sum <link")
    assert done.returncode == 0, done.stderr + instance.read("slurm-1.out") + instance.logs()
    assert re.match(r"sbatch: 47 files and directories go along, \d+ bytes \(\d+ new\)\n", done.stderr), done.stderr
    lines = instance.read("slurm-1.out").splitlines()
    assert lines[0] == "first"
    assert set(lines[1:-1]) == {".gitignore", "src", "data.bin", "run.sh", "message", "link"}
    (work / "message").write_text("second\n")
    assert instance.run("sbatch", "--sync", "--wait", "--wrap", "./run.sh").returncode == 0
    assert instance.read("slurm-2.out").startswith("second\n")
    (first, size), (second, _) = staged(instance)
    assert first > 9_800_000
    assert size > 9_800_000
    assert second < 1_000_000, second


def test_a_job_from_a_subdirectory_of_its_tree_starts_there_as_with_a_shared_directory(hosts, instance):
    start(instance, hosts())
    work = Path(instance.work)
    (work / "exp/one").mkdir(parents=True)
    (work / "data").write_text("of the top\n")
    (work / "exp/one/run.sh").write_text("#!/bin/sh\npwd\ncat ../../data aside\nmkdir -p out\necho result >out/r\n")
    (work / "exp/one/run.sh").chmod(0o755)
    (work / "exp/one/aside").write_text("named\n")
    (work / ".gitignore").write_text("aside\n")
    here = str(work / "exp/one")
    words = ("--wait", "--sync=../..", "--stage-in", "aside", "--stage-out", "out/*", "--wrap", "./run.sh; srun pwd")
    done = instance.run("sbatch", *words, cwd=here)
    assert done.returncode == 0, done.stderr + instance.logs()
    lines = (work / "exp/one/slurm-1.out").read_text().splitlines()
    assert re.fullmatch(r"/.*/a/[0-9a-f]{32}\.d/exp/one", lines[0]), lines
    assert lines[1:] == ["of the top", "named", lines[0]]
    assert (work / "exp/one/out/r").read_text() == "result\n"
    # -D names it too; one that is not in the tree changes nothing, and one that is left out is there all the same.
    (work / ".sshqignore").write_text("exp\n")
    assert instance.run("sbatch", "--wait", "--sync", "-D", "exp", "-o", "elsewhere", "--wrap", "pwd; ls").returncode == 0
    assert re.fullmatch(r"/.*/a/[0-9a-f]{32}\.d/exp\n", (work / "exp/elsewhere").read_text())
    assert instance.run("sbatch", "--wait", "--sync=exp", "--wrap", "pwd").returncode == 0
    assert re.fullmatch(r"/.*/a/[0-9a-f]{32}\.d\n", (work / "slurm-3.out").read_text())
    job = instance.submit("--sync=..", "--wrap", "cat ../data; echo kept >kept; sleep 60", cwd=str(work / "exp"))
    instance.wait_for(lambda: "of the top" in instance.run("logs", str(job)).stdout, 30, "its output")
    instance.run("cp", f"{job}:kept", ".", cwd=str(work))
    assert (work / "kept").read_text() == "kept\n"
    instance.out("scancel", str(job))
    again = int(re.search(r"batch job (\d+)", instance.out("reproduce", "1"))[1])
    until(instance, again, "COMPLETED")
    assert (work / f"exp/one/slurm-{again}.out").read_text().splitlines()[0].endswith(".d/exp/one")


def test_python_takes_files_along_too(hosts, instance):
    start(instance, hosts())
    Path(instance.work, "data").mkdir()
    Path(instance.work, "data/x.txt").write_text("from here\n")
    program = (
        "import sshq\nclient = sshq.Client()\n"
        "one = client.submit(['cat', 'data/x.txt'], stage_in=['data/x.txt'])\n"
        "two, three = client.submit_many([['cat', 'data/x.txt'], ['ls', 'data']], sync='.')\n"
        "for job in one, two, three:\n    print(job.result(60).state, job.stdout(), end='')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=instance.env, cwd=instance.work, capture_output=True, text=True, timeout=90)
    assert (done.stdout, done.stderr) == ("COMPLETED from here\nCOMPLETED from here\nCOMPLETED x.txt\n", "")


def test_where_some_hosts_share_the_directory_files_go_only_to_the_others_and_a_copy_is_of_the_moment_of_submit(hosts, instance):
    near, far = hosts(2)
    shared = share_directory([near], instance)
    start(instance, [far, near])
    work = Path(shared)
    (work / "x").write_text("as it was\n")
    command = "pwd; cat x; touch made"
    frozen = instance.submit("--sync", "-H", "-w", near.name, "-o", "frozen", "--wrap", command, cwd=shared)
    here = instance.submit("--stage-in", "x", "-o", "here", "--wrap", command, cwd=shared)
    until(instance, here, "COMPLETED")
    assert (work / "here").read_text() == f"{shared}\nas it was\n"
    assert (work / "made").exists()
    (work / "made").unlink()
    there = instance.submit("--stage-in", "x", "-w", far.name, "-o", "there", "--wrap", command, cwd=shared)
    until(instance, there, "COMPLETED")
    assert re.fullmatch(r"/.*/a/[0-9a-f]{32}\.d\nas it was\n", (work / "there").read_text())
    (work / "x").write_text("as it is\n")
    instance.out("scontrol", "release", str(frozen))
    until(instance, frozen, "COMPLETED")
    assert re.fullmatch(r"/.*/a/[0-9a-f]{32}\.d\nas it was\n", (work / "frozen").read_text())
    assert not (work / "made").exists()
    assert len(staged(instance)) == 2


@pytest.mark.parametrize("kind", ["busybox", "noisy_bashrc", "max_sessions_1"])
def test_on_odd_hosts_names_of_all_kinds_arrive(hosts, instance, kind):
    host = hosts.odd(kind)
    start(instance, [host])
    work = Path(instance.work)
    (work / "with space/-d").mkdir(parents=True)
    for name in (b"-n", b"two\nlines", b"trailing ", b"\xff", b"..x", b"$(touch pwned)", b"'", b"x" * 200, b"with space/-d/" + b"y" * 150):
        Path(os.fsdecode(os.path.join(os.fsencode(work), name))).write_bytes(name)
    (work / "link").symlink_to("with space/../-n")
    (work / "run").write_text("#!/bin/sh\nuntil [ -e go ]; do sleep 0.1; done\n")
    (work / "run").chmod(0o755)
    before = tree_of(work)
    job = instance.submit("--sync", "-o", "/dev/null", "--wrap", "./run")
    instance.wait_for(lambda: instance.out("squeue", "-h", "-j", str(job), "-o", "%T") == "RUNNING\n", 30, "the job to run")
    (place,) = host.sh("echo /home/alice/.local/state/sshq/spool/*/a/*.d").stdout.split()
    assert tree_of(host.path(place)) == before, host.sh(f"ls -lA {place}").stdout
    host.sh(f"touch {place}/go")
    until(instance, job, "COMPLETED")
    cache = host.sh(f"cd {spool_of(host)}/cache; ls x; find . ! -type d ! -perm 400 ! -name 'stage-*' ! -name boot ! -path './m/*'").stdout
    assert cache == ""


def test_a_line_cut_twice_loses_nothing_that_had_come(hosts, instance):
    (host,) = hosts()
    cuts = [Cut("up", 6_000_000, "rst"), Cut("up", 6_000_000, "fin")]
    with Cutter(host, lambda: cuts.pop(0) if cuts else None) as cutter:
        start(instance, [host])
        (Path(instance.work) / "data").write_bytes(os.urandom(12_000_000))
        for number in range(8):
            (Path(instance.work) / f"part{number}").write_bytes(os.urandom(900_000))
        job = instance.submit("--sync", "--wrap", "sha256sum data part7")
        until(instance, job, "COMPLETED", 90)
        assert len(cutter.made) == 2, cutter.made
    expected = subprocess.run(["sha256sum", "data", "part7"], cwd=instance.work, capture_output=True, text=True, check=True).stdout
    assert instance.read(f"slurm-{job}.out") == expected
    ((sent, size),) = staged(instance)
    assert sent < size - 4_000_000, (sent, size)
    assert outcomes(instance, job) == ["never_started", "never_started", "exited"]


@pytest.mark.parametrize("point", ["staging.mid_send", "staging.grown"])
def test_a_controller_that_dies_while_files_are_on_their_way_finds_them_there(hosts, instance, point):
    (host,) = hosts()
    instance.use([host])
    instance.write_config(CONFIG)
    (Path(instance.work) / "data").write_bytes(os.urandom(3_000_000))
    controller = instance.start_controller(point)
    instance.wait_for(instance.status, 30, "a controller")
    job = instance.submit("--sync", "--wrap", "sha256sum <data; ls -A")
    controller.wait(30)
    assert instance.crashed_at() == point
    instance.up()
    until(instance, job, "COMPLETED")
    expected = subprocess.run("sha256sum <data", shell=True, cwd=instance.work, capture_output=True, text=True, check=True).stdout
    assert instance.read(f"slurm-{job}.out") == expected + "data\n"
    if point == "staging.grown":
        assert staged(instance)[-1][0] == 0
    assert outcomes(instance, job) == ["never_started", "exited"]
    instance.wait_for(lambda: not host.sh(f"ls -d {spool_of(host)}/a/*.d", check=False).stdout, 15, "nothing to be left")


def test_a_cancel_ends_a_job_whose_files_are_on_their_way_and_others_go_on(hosts, instance):
    (host,) = hosts()
    start(instance, [host], sshq_slots=2)
    (Path(instance.work) / "data").write_bytes(os.urandom(8_000_000))
    host.rate(4_000)
    job = instance.submit("--sync", "--wrap", "cat data")
    instance.wait_for(lambda: "staging " in instance.out("why", str(job)), 30, lambda: instance.out("why", str(job)))
    why = instance.out("why", str(job))
    assert re.search(rf"is CONFIGURING on {host.name}, staging \S+ \w+ of 8\.0 MB to {host.name}", why), why
    other = instance.wrap("echo other")
    instance.until_state(other, "COMPLETED")
    assert instance.out("squeue", "-h", "-j", str(job), "-o", "%T") == "CONFIGURING\n"
    instance.out("scancel", str(job))
    instance.until_state(job, "CANCELLED", timeout_s=10)
    host.rate(None)
    instance.wait_for(lambda: not host.sh(f"ls -d {spool_of(host)}/a/*.d", check=False).stdout, 30, "nothing to be left")
    assert instance.read(f"slurm-{job}.out") == ""


# size of the spool, whether df tells the truth, the words that tell where it ended
FULL = {
    "it is told before": ("6m", True, r"10 MB needed for its files, \S+ \w+ free in /spool/"),
    "while chunks come": ("4m", False, "no space left on its disk"),
    "while the tree is built": ("8m", False, "no space left on its disk"),
}


@pytest.mark.parametrize("case", FULL)
def test_a_full_disk_sends_the_job_elsewhere_and_holds_it_where_there_is_no_other(hosts, instance, case):
    size, honest, words = FULL[case]
    bad, good = hosts(2)
    bad.tmpfs("/spool", size, mode="0700", owner="alice")
    bad.vars["sshq_spool"] = "/spool"
    if not honest:
        bad.write("/usr/local/bin/df", "#!/bin/sh\necho Filesystem\necho 'x 9999999 1 9999999 1% /'\n", 0o755)
    start(instance, [bad, good], sshq_weight=1)
    instance.out("scontrol", "update", f"nodename={good.name}", "weight=9")
    (Path(instance.work) / "data").write_bytes(os.urandom(5_200_000))
    job = instance.submit("--sync", "--wrap", "hostname")
    until(instance, job, "COMPLETED")
    assert instance.read(f"slurm-{job}.out") == f"{good.name}\n"
    assert outcomes(instance, job) == ["never_started", "exited"]
    alone = instance.submit("--sync", "-w", bad.name, "--wrap", "hostname")
    instance.wait_for(lambda: "launch failed requeued held" in instance.out("squeue", "-h", "-o", "%R"), 30, "the job to be held")
    assert re.search(words, instance.out("why", str(alone))), instance.out("why", str(alone))
    left = bad.sh("cd /spool/spool/*; ls cache/x; ls -d a/*.d", check=False).stdout
    assert left == ""
    bad.sh("rm -rf /spool/spool/*/cache/o; mount -o remount,size=64m /spool")
    instance.out("scontrol", "release", str(alone))
    until(instance, alone, "COMPLETED")


def test_what_was_used_longest_ago_leaves_a_cache_that_is_full_and_damage_is_found_after_a_reboot(hosts, instance):
    (host,) = hosts()
    start(instance, [host], sshq_cache_max="4M")
    data = Path(instance.work) / "data"
    contents = [os.urandom(2_500_000), os.urandom(2_500_000)]
    for content in (contents[0], contents[1], contents[1], contents[0]):
        data.write_bytes(content)
        job = instance.submit("--sync", "-o", "/dev/null", "--wrap", "true")
        until(instance, job, "COMPLETED")
    sent = [a for a, _ in staged(instance)]
    assert [one > 2_400_000 for one in sent] == [True, True, False, True], sent
    cache = f"{spool_of(host)}/cache"
    assert int(host.sh(f"du -sk {cache}/o | cut -f1").stdout) < 4_200
    host.sh(f"cd {cache}/o; for f in *; do chmod 600 $f; printf damaged >$f; done; echo another >{cache}/boot")
    job = instance.submit("--sync", "--wrap", "cmp data /dev/null; wc -c <data")
    until(instance, job, "COMPLETED")
    assert instance.read(f"slurm-{job}.out").split()[-1] == "2500000"


def test_a_host_that_cannot_compare_says_so(hosts, instance):
    (host,) = hosts()
    host.remove_tools("sha256sum", "shasum", "openssl")
    start(instance, [host])
    (Path(instance.work) / "x").write_text("x")
    job = instance.submit("--stage-in", "x", "--wrap", "cat x")
    instance.wait_for(lambda: "launch failed requeued held" in instance.out("squeue", "-h", "-o", "%R"), 30, "the job to be held")
    assert "neither sha256sum nor shasum nor openssl is there" in instance.out("why", str(job))
    assert "missing: sha256sum, shasum or openssl: jobs with --sync or --stage-in go elsewhere" in instance.run("doctor", host.name).stdout


def test_what_cannot_take_files_along_says_so(instance):
    instance.up()
    instance.ready()
    os.mkfifo(f"{instance.work}/pipe")
    done = instance.run("sbatch", "--sync", "--wrap", "true")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "sbatch: error: --sync: one of its members cannot be taken along\n    pipe is a FIFO\n"
        "    hint: name them in .sshqignore, or copy what they lead to into the directory\n"
    )
    done = instance.run("sbatch", "--stage-in", "none", "--wrap", "true")
    assert (done.returncode, done.stderr) == (1, f"sbatch: error: --stage-in: {instance.work}/none: No such file or directory\n")
    done = instance.run("srun", "--sync", "true")
    assert (done.returncode, done.stdout) == (1, "")
    assert "--sync" in done.stderr
    os.unlink(f"{instance.work}/pipe")
    job = instance.submit("--wrap", "sbatch --stage-in x --wrap true; true", "--wait")
    assert "--stage-in does not work inside a job" in instance.read(f"slurm-{job}.out")
    assert instance.out("squeue", "-h") == ""


def test_who_waits_at_a_terminal_sees_how_far_the_files_are_and_squeue_says_what_the_job_waits_for(hosts, instance):
    (host,) = hosts()
    start(instance, [host], sshq_slots=2)
    (Path(instance.work) / "data").write_bytes(os.urandom(3_000_000))
    host.rate(4_000)
    line = re.compile(rf"\r(\w+): job 1: staging (\S+ \w+) of 3\.0 MB to {host.name}\x1b\[K")
    with Screen(instance, "sbatch", "--wait", "--sync", "--wrap", "echo done; until [ -e go ]; do sleep 0.1; done") as waiter:
        waiter.read_until("batch job 1")
        with Screen(instance, "logs", "-f", "1") as reader, Screen(instance, "wait", "1") as other:
            instance.wait_for(lambda: "staging " in instance.out("why", "1"), 30, "its files to be on their way")
            assert instance.out("squeue", "-h", "-o", "%T %r %R %N") == f"CONFIGURING StageIn {host.name}(StageIn) {host.name}\n"
            assert "Reason=StageIn" in instance.out("scontrol", "show", "job", "1")
            shown = [screen.read_until("of 3.0 MB") + screen.read_until("\x1b[K") for screen in (waiter, reader, other)]
            assert [line.search(text)[1] for text in shown] == ["sbatch", "sshq", "sshq"], shown
            host.rate(None)
            # The line is gone before what the job wrote is shown, and before its end is told.
            rest = reader.read_until("done")
            assert rest.endswith("\r\x1b[Kdone"), rest
            instance.until_state(1, "RUNNING")
            assert instance.out("squeue", "-h", "-o", "%r %R") == f"None {host.name}\n"
            (place,) = host.sh("echo /home/alice/.local/state/sshq/spool/*/a/*.d").stdout.split()
            host.sh(f"touch {place}/go")
            assert "staging" not in other.read_until("1 COMPLETED 0:0").rpartition("\r\x1b[K")[2]
        assert waiter.process.wait(30) == 0
    done = instance.run("sbatch", "--wait", "--sync", "--wrap", "touch go")  # no terminal: nothing of it
    assert re.fullmatch(r"sbatch: \d+ files and directories go along, .*\n(sbatch: .*\n)?", done.stderr), done.stderr


def test_a_tree_on_a_slow_line_holds_nobody_up(hosts, instance):
    (host,) = hosts()
    start(instance, [host], sshq_slots=4)
    first = instance.submit("--wrap", "true")
    until(instance, first, "COMPLETED")
    (Path(instance.work) / "data").write_bytes(os.urandom(6_000_000))
    host.rate(4_000)
    job = instance.submit("--sync", "--wrap", "true")
    instance.wait_for(lambda: re.search(r"staging (6|7)\d\d kB|staging [1-5]\.\d MB", instance.out("why", str(job))), 30, "it to be on its way")
    others = []
    while not others or "staging " in instance.out("why", str(job)):
        others.append(instance.submit("-o", "/dev/null", "--wrap", "true"))
        instance.until_state(others[-1], "COMPLETED")
    until(instance, job, "COMPLETED")
    began = {one: moment(instance, f"job={one} .* started") for one in others}
    late = [at - moment(instance, f"job={one} submitted") for one, at in began.items() if at < moment(instance, ".* staged: ")]
    assert late, began  # none was beside it
    assert max(late) < 2.5, late  # a window of sshd, 2 MiB, is four seconds of this line
    took_s = float(re.search(r"staged: .* ([0-9.]+) s", instance.logs(4000))[1])
    assert took_s < 6_000_000 / 500_000 / 0.6


def moment(instance, pattern):
    """When the controller logged it, in seconds."""
    clock = re.search(rf"T(\d\d):(\d\d):([0-9.]+) \S+ \S+ {pattern}", instance.logs(4000))
    return int(clock[1]) * 3600 + int(clock[2]) * 60 + float(clock[3])
