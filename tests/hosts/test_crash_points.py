"""Every named crash point: the real controller is killed -9 there, over real sshd hosts, and nothing is lost or doubled."""

import contextlib
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import sshq.controller.crash as crash_module
from bed import REPO
from contrib.chaos.points import ELSEWHERE, kill_at_all
from sshq.controller.crash import POINTS

TIMES = int(os.environ.get("SSHQ_CRASH_TIMES", "3"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_controller_killed_at_any_point_loses_and_doubles_nothing(netns_bed):
    report = kill_at_all(netns_bed, POINTS, TIMES)
    assert report.failures == []
    assert [str(violation) for violation in report.violations] == []
    assert sum(report.kills.values()) >= TIMES * (len(POINTS) - len(ELSEWHERE))
    assert report.jobs >= TIMES * 10


def test_the_list_of_points_the_table_and_the_calls_agree():
    text = "".join(path.read_text() for path in Path(REPO, "sshq").rglob("*.py") if path.name != "crash.py")
    called = set(re.findall(r"crash\(\s*\"([a-z]+\.[a-z_]+)\"\s*\)", text))
    steps = set(re.findall(r"return \"([a-z]+)\"", Path(crash_module.__file__).read_text()))
    moments = set(re.findall(r"crash_at_steps\(self\._crash, rows, \"(\w+)\"\)", text))
    called |= {f"{step}.{moment}" for step in steps for moment in moments}
    assert called == set(POINTS)
    table = crash_module.__doc__ or ""
    assert set(re.findall(r"\b[a-z]+\.[a-z]+(?:_[a-z]+)?\b", table)) >= set(POINTS)
    assert {f"P{n}" for n in (*range(5), *range(7, 12), *range(12, 18))} <= set(re.findall(r"P\d+", table))


@pytest.mark.parametrize("point", ["outputs.fetched", "outputs.published", "settle.after_commit"])
def test_output_that_is_appended_comes_home_once(hosts, instance, point):
    (host,) = hosts()
    instance.use([host])
    Path(instance.work, "log").write_text("before\n")
    controller = instance.start_controller(point)
    instance.wait_for(instance.status, 30, "a controller")
    job = instance.submit("--open-mode=append", "-o", "log", "--wrap", "echo once")
    controller.wait(30)
    assert instance.crashed_at() == point
    instance.up()
    instance.until_state(job, "COMPLETED")
    instance.wait_for(lambda: not instance.out("squeue", "-h"), 30, "the output to be home")
    assert instance.read("log") == "before\nonce\n"
    instance.wait_for(lambda: os.listdir(instance.work) == ["log"], 10, lambda: f"nothing else to be left: {os.listdir(instance.work)}")


@pytest.mark.parametrize("point", ["migration.before_commit", "migration.after_commit"])
def test_a_store_whose_making_was_killed_is_made_whole_the_next_time(instance, point):
    for _ in range(TIMES):
        controller = instance.start_controller(point)
        controller.wait(30)
        assert instance.crashed_at() == point, instance.logs()
        assert not Path(instance.sshq_home, "state", "sshq.db").exists()
    instance.up()
    instance.ready()
    job = instance.wrap("echo ended")
    instance.until_state(job, "COMPLETED")


@pytest.mark.parametrize("point", ["restore.moved", "restore.placed"])
def test_a_restore_that_was_killed_leaves_a_way_to_restore(instance, point):
    instance.up()
    instance.ready()
    job = instance.wrap("echo ended")
    instance.until_state(job, "COMPLETED")
    instance.down()
    state = Path(instance.sshq_home, "state")
    backup = state / "copy.db"
    with closing(sqlite3.connect(state / "sshq.db")) as store:
        store.execute("VACUUM INTO ?", (str(backup),))
    for _ in range(TIMES):
        argv = [sys.executable, "-m", "sshq.controller.restoring", "--state", str(state), str(backup)]
        done = subprocess.run(argv, env=instance.env | {"SSHQ_CRASH": point}, check=False, timeout=30)
        assert done.returncode == -9
        assert instance.crashed_at() == point
        if point == "restore.moved":  # what was there is set aside, nothing is there: never an empty store
            refused = instance.run("up")
            assert refused.returncode != 0
            assert "sshq restore" in refused.stderr, refused.stderr
    if point == "restore.moved":
        instance.out("restore", str(backup))
    instance.up()
    instance.ready()
    assert instance.state(job) == "COMPLETED"
    with contextlib.closing(sqlite3.connect(f"file:{state}/sshq.db?mode=ro", uri=True)) as store:
        assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)
