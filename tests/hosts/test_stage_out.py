"""Files that come back from hosts that share nothing: what --stage-out names, hostile names, cuts, full disks, kills."""

import hashlib
import os
import subprocess
import textwrap
from pathlib import Path

import pytest

from bed import Cut, Cutter

HOSTILE = r"""
    mkdir -p out/deep "out/with space"
    echo one >out/a.csv; echo two >out/deep/b.csv; echo s >"out/with space/-c"
    printf x >'out/$(touch pwned)'; printf x >"out/$(printf '\377')"; : >out/empty; mkdir out/nothing
    printf x >"out/line
    end"
    ln -s /etc/passwd out/link; ln -s / out/root; mkfifo out/fifo
    echo '#!/bin/sh' >out/run.sh; chmod 755 out/run.sh
    """


@pytest.fixture
def up(hosts, instance):
    """An instance over one host of its own: `up()`, or an odd one, `up("busybox")`."""

    def start(kind: str = "", **kwargs: object):
        made = [hosts.odd(kind)] if kind else hosts(1, **kwargs)
        instance.use(made, sshq_slots=4)
        instance.write_config("kill_wait: 2s\nreconcile_interval: 5s\n")
        instance.up()
        instance.ready()
        return made[0]

    return start


def run(instance, script: str, *args: str, state: str = "COMPLETED", cwd: str | None = None) -> int:
    job = instance.submit(*args, input="#!/bin/sh\n" + textwrap.dedent(script), cwd=cwd)
    until_home(instance, job, state)
    return job


def until_home(instance, job: int, state: str = "COMPLETED") -> None:
    instance.until_state(job, state)
    instance.wait_for(lambda: not instance.out("squeue", "-h", "-j", str(job)), 30, f"what {job} left to be home")


def shown(instance, job: int) -> str:
    return instance.out("scontrol", "show", "job", str(job))


def tree(folder: str) -> set[str]:
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*")}


def left_on(host, instance) -> list[str]:
    return host.sh(f"ls -d {host.home}/.local/state/sshq/spool/*/a/*.d 2>/dev/null; true").stdout.split()


def test_what_matches_comes_home_and_nothing_else_is_written(up, instance):
    host = up()
    secret = Path(instance.dir, "outside")
    secret.mkdir()
    job = run(instance, HOSTILE + "exit 3", "--stage-out", "out/", "--stage-out", "*.none", state="FAILED")
    assert tree(instance.work) == {
        f"slurm-{job}.out", "out", "out/a.csv", "out/deep", "out/deep/b.csv", "out/with space", "out/with space/-c", "out/empty",
        "out/$(touch pwned)", "out/\udcff", "out/nothing", "out/run.sh",
    }  # fmt: skip
    assert (instance.read("out/a.csv"), instance.read("out/deep/b.csv"), instance.read("out/with space/-c")) == ("one\n", "two\n", "s\n")
    assert os.stat(f"{instance.work}/out/run.sh").st_mode & 0o777 == 0o755
    assert os.stat(f"{instance.work}/out/deep").st_mode & 0o777 == 0o755
    said = shown(instance, job)
    assert f"nothing on {host.name} matched *.none" in said
    assert f"4 not copied from {host.name}" in said
    assert "out/link: a symbolic link" in said
    assert "out/fifo: no regular file" in said
    assert "nothing on" in instance.out("why", str(job))
    assert list(secret.iterdir()) == []
    instance.wait_for(lambda: not left_on(host, instance), 10, lambda: f"its directory to go: {left_on(host, instance)}")


def test_nothing_here_is_followed_or_replaced_but_regular_files_and_what_was_in_the_way_is_kept_there(up, instance):
    host = up()
    outside = Path(instance.dir, "outside")
    outside.mkdir()
    (outside / "file").write_text("mine\n")
    Path(instance.work, "link").symlink_to(outside)
    Path(instance.work, "final").symlink_to(outside / "file")
    Path(instance.work, "dir").mkdir()
    Path(instance.work, "old").write_text("old\n")
    job = run(instance, "mkdir link; echo bad >link/file; echo bad >final; echo bad >dir; echo new >old; echo fine >fine", "--stage-out", "./")
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"file": "mine\n"}
    assert (instance.read("old"), instance.read("fine")) == ("new\n", "fine\n")
    assert Path(instance.work, "final").is_symlink() and Path(instance.work, "dir").is_dir()
    said = shown(instance, job)
    assert f"output not brought home: 4 of --stage-out stay on {host.name}: link: link " in said
    assert "there is a symbolic link of that name here" in said
    assert f"sshq cp {job}:" in said
    assert left_on(host, instance)
    assert not [name for name in tree(instance.work) if ".sshq-" in name]


@pytest.mark.parametrize("kind", ["busybox"])
def test_nodes_with_little_on_them(up, instance, kind):
    up(kind)
    job = run(instance, HOSTILE, "--stage-out", "out/*.csv", "--stage-out=out/deep/")
    assert tree(instance.work) == {f"slurm-{job}.out", "out", "out/a.csv", "out/deep", "out/deep/b.csv"}


@pytest.mark.slow
def test_a_result_of_100_mb_whose_line_is_cut_twice_comes_whole_and_goes_on_where_it_was(hosts, instance):
    (node,) = hosts()
    plans = [Cut("down", 40_000_000, "fin"), Cut("down", 50_000_000, "rst")]  # the last one first
    with Cutter(node, lambda: plans.pop() if plans else None) as cutter:
        instance.use([node])
        instance.write_config("reconcile_interval: 5s\n")
        instance.up()
        instance.ready()
        job = instance.submit("--stage-out", "big", "--wrap", "head -c 100000000 /dev/urandom >big; sha256sum <big")
        until_home(instance, job)
    with open(f"{instance.work}/big", "rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() in instance.read(f"slurm-{job}.out")
    assert len(cutter.made) == 2
    # Begun anew each time it would be 190 MB; what was in buffers at a cut comes once more.
    assert sum(passed.down for passed in cutter.seen) < 170_000_000, "it went on where it was"
    assert tree(instance.work) == {"big", f"slurm-{job}.out"}


def test_where_the_directory_is_shared_nothing_is_copied(hosts, instance):
    (host,) = hosts()
    host.share(instance.work, instance.work)
    os.chmod(instance.work, 0o777)
    instance.use([host], sshq_shared=[instance.work])
    instance.up()
    instance.ready()
    job = run(instance, "echo x >made; ls -i made", "--stage-out", "made")
    inode = instance.read(f"slurm-{job}.out").split()[0]
    assert os.stat(f"{instance.work}/made").st_ino == int(inode)
    assert "staged out" not in instance.logs()


@pytest.mark.parametrize("point", ["staged.listed", "staged.fetched", "staged.published", "staged.synced"])
def test_a_controller_killed_while_files_come_back_loses_none(hosts, instance, point):
    (host,) = hosts()
    instance.use([host])
    instance.write_config("reconcile_interval: 5s\n")
    controller = instance.start_controller(point)
    instance.wait_for(instance.status, 30, "a controller")
    job = instance.submit("--stage-out", "out/", "--wrap", "mkdir out; for i in 1 2 3; do echo $i >out/$i; done; echo said")
    controller.wait(30)
    assert instance.crashed_at() == point
    instance.up()
    until_home(instance, job)
    assert tree(instance.work) == {f"slurm-{job}.out", "out", "out/1", "out/2", "out/3"}
    assert [instance.read(f"out/{i}") for i in (1, 2, 3)] == ["1\n", "2\n", "3\n"]
    assert instance.read(f"slurm-{job}.out") == "said\n"
    instance.wait_for(lambda: not left_on(host, instance), 15, lambda: f"its directory to go: {left_on(host, instance)}")


def test_a_disk_without_room_here_keeps_all_there(up, instance):
    host = up()
    work = f"{instance.dir}/small"
    os.mkdir(work)
    with small_disk(work, "1m"):
        job = run(instance, "head -c 3000000 /dev/zero >big; echo said", "--stage-out", "big", cwd=work)
        assert sorted(os.listdir(work)) == [f"slurm-{job}.out"]
        said = shown(instance, job)
        assert "output not brought home:" in said
        assert "no room: 3000000 bytes of --stage-out are to come" in said
        assert left_on(host, instance)


class small_disk:  # noqa: N801
    """A file system of its own at a directory."""

    def __init__(self, path: str, size: str) -> None:
        self.path, self.size = path, size

    def __enter__(self) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.size}", "tmpfs", self.path], check=True)

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "-l", self.path], check=True)
