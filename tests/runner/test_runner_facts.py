"""What a node says about itself: the probe under every shell, its facts, and how a job is started where tools are missing."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shell_node import Node, Runner, need_shell

from sshq.inventory.facts import Facts, parse_facts
from sshq.runner import protocol as p


def probe(runner: Runner) -> tuple[tuple[str, str], ...]:
    runner.send(p.encode_probe(tag="f"))
    return runner.wait(p.FactsReply).facts


def test_a_probe_says_what_this_machine_is(runner):
    facts = parse_facts(probe(runner))
    memory_kib = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1])
    assert facts.cpus == len(os.sched_getaffinity(0))
    assert facts.memory_mib == memory_kib // 1024 and 0 < facts.memory_free_mib <= facts.memory_mib
    assert (facts.kernel, facts.arch, facts.hostname) == (os.uname().release, os.uname().machine, os.uname().nodename)
    assert facts.boot_at + facts.uptime_s == pytest.approx(facts.clock_at) and facts.load1 >= 0
    assert facts.login_shell == "/bin/bash" and facts.spool_fs == runner.hello.fs and facts.signals == runner.hello.signals
    assert {
        "cat",
        "date",
        "env",
        "grep",
        "id",
        "ln",
        "ls",
        "mkdir",
        "mkfifo",
        "mv",
        "nice",
        "rm",
        "rmdir",
        "sleep",
        "tail",
    } <= facts.tools
    assert facts.tmp_mib > 0 and facts.spool_free_mib > 0 and facts.os


def test_a_probe_says_what_makes_results_differ(runner):
    facts = parse_facts(probe(runner))
    models = re.findall(r"^(?:model name|cpu model|cpu|Model|Hardware)[ \t]*: *(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    assert facts.cpu_model == (models[0][:200] if models else "")
    assert re.fullmatch(r"(/\S*python3 Python 3\.\d+\.\S+)?", facts.python)
    assert bool(facts.python) == ({"python3", "timeout"} <= facts.tools)
    drivers = [name for name in ("nvidia", "amdgpu") if Path(f"/sys/module/{name}/version").exists()]
    assert facts.gpu_driver.split(" ")[0] == (drivers[0] if drivers else "")


def test_a_probe_holds_up_no_other_call(runner):
    runner.send(p.encode_probe(tag="f"), p.encode_ping(tag="p"))
    runner.wait(p.Pong)
    assert runner.wait(p.FactsReply).tag == "f"


def test_no_facts_are_no_facts():
    assert parse_facts(()) == Facts()


@pytest.mark.parametrize(("line", "field", "value"), [
    (("cpus", "0"), "cpus", None), (("cpus", "eight"), "cpus", None), (("memory_kib", "-5"), "memory_mib", None), (("load1", "nan"), "load1", None),
    (("memory_kib", "2048"), "memory_mib", 2), (("topology", "2 8 2"), "cores_per_socket", 8), (("topology", "2 8"), "sockets", None),
    (("os", "De\x1b[2Jbian"), "os", "De?[2Jbian"), (("user_scope", "1"), "user_scope", True), (("linger", "yes"), "linger", False),
])  # fmt: skip
def test_a_fact_is_read_strictly(line, field, value):
    assert getattr(parse_facts([line]), field) == value


KEYS = st.sampled_from(["cpus", "memory_kib", "load1", "clock", "uptime", "topology", "tools", "os"]) | st.text(max_size=8)


@given(st.lists(st.tuples(KEYS, st.text(max_size=40)), max_size=12))
def test_no_facts_make_the_reader_raise(lines):
    parse_facts(lines)


@pytest.mark.parametrize(("missing", "setsid", "signals"), [
    ((), "setsid", "env"), (("setsid",), "perl", "env"), (("env",), "setsid", "perl"), (("setsid", "env", "perl"), "python3", "python3"),
])  # fmt: skip
def test_sessions_and_signals_are_had_some_way_or_other(tmp_path, missing, setsid, signals):
    need_shell("dash")
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in missing:  # found, and not able to do it
        real = "exec /usr/bin/env" if tool == "env" else "exit 1"
        (tools / tool).write_text(f'#!/bin/sh\ncase $1 in --default-signal*) exit 1 ;; esac\n{real} "$@"\n')
        (tools / tool).chmod(0o755)
    with Node(tmp_path, "dash", env={"PATH": f"{tools}:{os.environ['PATH']}"}) as node:
        runner = node.connect()
        assert (runner.hello.setsid, runner.hello.signals) == (setsid, signals)
        runner.reserve()
        call = runner.launch(
            b"cut -d' ' -f1,6 /proc/$$/stat; grep SigIgn /proc/self/status; exit 3\n",
            environ={"LC_ALL": "nowhere"} if signals == "perl" else {},
        )
        assert runner.wait_end(call.id).code == 3
        ids, ignored = Path(p.out_path(runner.hello.spool, call.id)).read_text().splitlines()
        assert len(set(ids.split())) == 1, "a session of its own"
        assert int(ignored.split()[1], 16) & 0x1007 == 0
