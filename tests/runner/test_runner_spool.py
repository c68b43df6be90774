"""Where the spool may lie and what may be wrong with it: links, owners, modes, other formats, full disks."""

import os
import resource
import shutil
import subprocess
from pathlib import Path

import pytest
from shell_node import Node, Runner

from sshq.runner import protocol as p


def fence(runner: Runner, call: p.LaunchCall) -> p.FenceResult:
    runner.send(p.encode_fence(id=call.id, seq=call.seq))
    return runner.wait(p.FenceResult, lambda r: r.id == call.id)


def ack(runner: Runner, high: int, open_seqs: tuple[int, ...], ids: list[str]) -> p.Acked:
    runner.send(p.encode_ack(tag="ack", high=high, open_seqs=open_seqs, ids=ids))
    return runner.wait(p.Acked)


def floor_of(runner: Runner) -> p.Floor:
    words = (runner.node.spool / "floor").read_text().split()
    return p.Floor(high=int(words[1]), open_seqs=frozenset(map(int, words[2:])))


def wait_refused(runner: Runner, call: p.LaunchCall) -> p.Refused:
    runner.send(*p.encode_launch(call))
    return runner.wait(p.Refused, lambda r: r.id == call.id)


# ------------------------------------------------------------ arbiter and floor


def unusable(node: Node, **boot: object) -> p.Unusable:
    reply = node.start(**boot).wait(p.Unusable)
    return reply


def test_a_spool_that_is_a_link_is_refused(node, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    node.base.symlink_to(tmp_path / "elsewhere")
    assert unusable(node).why == "spool-symlink"
    node.base.unlink()
    node.base.mkdir(mode=0o700)
    (node.base / "spool").symlink_to(tmp_path / "elsewhere")
    assert unusable(node).why == "spool-symlink"
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(("path", "mode"), [("", 0o777), ("", 0o720), ("spool", 0o750), ("spool", 0o701), ("spool/test", 0o755)])
def test_a_spool_open_to_others_is_refused(node, path, mode):
    (node.base / path).mkdir(parents=True, mode=0o700)
    for part in (node.base, node.base / "spool", node.base / "spool/test"):
        if part.exists():
            part.chmod(0o700)
    (node.base / path).chmod(mode)
    assert unusable(node).why == "spool-mode"


@pytest.mark.skipif(os.getuid() != 0, reason="optional: only root can make a directory of another user")
def test_a_spool_of_another_user_is_refused(node):
    node.base.mkdir(mode=0o700)
    os.chown(node.base, 12345, 12345)
    assert unusable(node).why == "spool-owner"


def test_a_spool_of_a_newer_format_is_refused_and_left_alone(node):
    node.spool.mkdir(parents=True, mode=0o700)
    for part in (node.base, node.base / "spool"):
        part.chmod(0o700)
    (node.spool / "version").write_text("2\n")
    assert unusable(node).why == "spool-version"
    assert [f.name for f in node.spool.iterdir()] == ["version"]


def test_a_spool_shared_between_hosts_is_refused_unless_forced(node, tmp_path, monkeypatch):
    """The mount table is what counts: shown here by a `cat` that adds a line to it."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "cat").write_text(
        f'#!/bin/sh\n/bin/cat "$@"\ncase $1 in /proc/self/mounts) echo "srv:/x {tmp_path} nfs4 rw 0 0" ;; esac\n'
    )
    (tools / "cat").chmod(0o755)
    node.env["PATH"] = f"{tools}:{node.env['PATH']}"
    if node.shell[0] == "busybox":
        pytest.skip("optional: busybox runs its own cat")
    assert unusable(node).why == "spool-remote"
    assert node.connect(force_spool=True).hello.fs == "nfs4"
    chosen = node.connect(base=None, store_id=f"test-{os.getpid()}").hello  # a directory of the whole machine
    assert chosen.spool.startswith(f"/var/tmp/sshq-{os.getuid()}/"), "home is remote, so not there"
    shutil.rmtree(chosen.spool)


def test_without_a_base_the_spool_is_in_the_home_directory(node):
    hello = node.connect(base=None).hello
    assert hello.spool == f"{node.home}/.local/state/sshq/spool/test"
    assert Path(hello.spool).stat().st_mode & 0o777 == 0o700


# ------------------------------------------------------------ no space


def test_a_file_size_limit_of_nothing_refuses_and_leaves_nothing(node, runner, tmp_path):
    call = runner.call(b"touch %s/ran\n" % bytes(tmp_path))
    resource.prlimit(runner.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    assert wait_refused(runner, call).why == "space"
    resource.prlimit(runner.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert wait_refused(runner, call).why == "space", "the caller was told never, so never it is"
    assert runner.list() == {} and not (tmp_path / "ran").exists()
    assert runner.wait_end(runner.launch(b"exit 0").id).code == 0


@pytest.fixture
def small(tmp_path, shell):
    """A node whose spool has one megabyte."""
    base = tmp_path / "small"
    base.mkdir()
    if (
        os.getuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", base], check=False).returncode
    ):
        pytest.skip("optional: needs root to mount a small file system")
    try:
        with Node(tmp_path, shell, base=base) as node:
            yield node
    finally:
        subprocess.run(["umount", "-l", base], check=True)


def test_a_full_spool_refuses_launches_and_still_takes_records_and_cancels(small, tmp_path):
    runner = small.connect()
    runner.reserve()
    fields = {"work_dir": str(tmp_path), "stdout": "/dev/null"}
    ending = runner.launch(b"while [ ! -e %s/stop ]; do sleep 0.02; done; exit 3\n" % bytes(tmp_path), **fields)
    deaf = runner.launch(b"sleep 300\n", **fields)
    for call in (ending, deaf):
        runner.wait_start(call.id)
    filler = small.base / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(b"x" * 4096)
    refused = runner.call(b"touch %s/ran\n" % bytes(tmp_path), **fields)
    assert wait_refused(runner, refused).why == "space"
    (tmp_path / "stop").touch()
    assert runner.wait_end(ending.id).code == 3
    runner.send(p.encode_kill(id=deaf.id, seq=deaf.seq, mode="cancel", grace_s=5))
    assert runner.wait_end(deaf.id).how == "cancel"
    runner = small.connect()
    assert runner.hello.took_over and runner.list()[ending.id].record.code == 3, "a connection can be made without space"
    assert ack(runner, ending.seq, (), [ending.id]).ok, "and the floor be raised, which is what makes space"
    assert runner.reserve(open_seqs=(deaf.seq,)).ok
    filler.unlink()
    assert runner.wait_end(runner.launch(b"exit 4\n", **fields).id).code == 4
    assert not (tmp_path / "ran").exists()


def test_of_the_commands_of_jobs_none_is_left_that_was_not_written_whole(small):
    small.connect().close()
    folder = small.base / "spool" / "test" / "bin"
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {"srun", "sbatch", "upcall"} <= whole.keys()
    for name in whole:
        (folder / name).unlink()
    block = os.statvfs(folder).f_bsize
    room = (-(-len(whole["srun"]) // block) + 3) * block  # for it, and for some of the others
    with (small.base / "filler").open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(b"x" * block)
    os.truncate(small.base / "filler", (small.base / "filler").stat().st_size - room)
    small.connect().close()
    left = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert left.items() <= whole.items() and left.keys() != whole.keys()
    (small.base / "filler").unlink()
    small.connect().close()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole


# ------------------------------------------------------------ the small calls
