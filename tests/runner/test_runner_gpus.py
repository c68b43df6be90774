"""A node asks the tools of GPU makers, under every shell: what they say comes as it is, and one that hangs holds up nothing."""

import os
import time
from pathlib import Path

import pytest
from shell_node import Node, Runner

from sshq.inventory.gpufacts import parse_gpus_answer, parse_owners
from sshq.runner import protocol as p
from sshq.runner.calls import encode_gpus, encode_who
from tests.bed.gpus import FakeNvidia, FakeRocm


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    (tmp_path / "tools").mkdir()
    return tmp_path / "tools"


@pytest.fixture
def node(tmp_path: Path, shell: str, tools: Path):
    with Node(tmp_path, shell, env={"PATH": f"{tools}:{os.environ['PATH']}"}) as node:
        yield node


def look(runner: Runner) -> tuple[tuple[str, str], ...]:
    runner.send(encode_gpus(tag="g"))
    return runner.wait(p.FactsReply, lambda r: r.tag == "g").facts


def test_what_nvidia_smi_says(runner, tools):
    FakeNvidia(tools).gpus("NVIDIA A100-SXM4-80GB", "NVIDIA GeForce RTX 3090").use(1, pid=77, mib=900).mig(0, "3g.40gb", "1g.10gb")
    answer = parse_gpus_answer(look(runner))
    assert [(g.index, g.type, g.mig) for g in answer.gpus] == [(0, "a100", True), (1, "rtx3090", False)]
    assert answer.gpus[0].instances == ("3g.40gb MIG-00-5555", "1g.10gb MIG-01-5555")
    assert answer.processes == ((answer.gpus[1].id, 77, 900),)
    assert not list(runner.node.spool.glob("gpu.*"))


def test_an_old_driver_no_devices_and_a_broken_driver(runner, tools):
    tool = FakeNvidia(tools).gpus("Tesla K80").old()
    assert [g.type for g in parse_gpus_answer(look(runner)).gpus] == ["k80"]
    tool.gpus()
    assert parse_gpus_answer(look(runner)).problem == ""
    tool.fail("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n")
    assert "couldn't communicate" in parse_gpus_answer(look(runner)).problem


def test_what_rocm_smi_says(runner, tools):
    FakeRocm(tools).gpus("AMD Instinct MI210", "AMD Instinct MI210").use(1, 4711)
    answer = parse_gpus_answer(look(runner))
    assert [g.type for g in answer.gpus] == ["mi210", "mi210"]
    assert answer.processes == (("GPU-20ef0d3db6f12111", 4711, 0),)


def test_no_tool_at_all(runner):
    assert parse_gpus_answer(look(runner)).gpus == ()


def test_whose_a_process_is(runner):
    job = runner.launch(b"exec sleep 100\n")
    pid = runner.wait_start(job.id).pid
    while Path(f"/proc/{pid}/comm").read_text() != "sleep\n":  # until then it has the environment of its supervisor
        time.sleep(0.01)
    runner.send(encode_who(tag="w", pids=[pid, os.getpid(), 4_000_000]))
    owners = parse_owners(runner.wait(p.FactsReply, lambda r: r.tag == "w").facts)
    assert set(owners) == {pid, os.getpid()}
    assert owners[pid].ours and not owners[os.getpid()].ours
    assert owners[os.getpid()].name.startswith(Path(f"/proc/{os.getpid()}/comm").read_text().strip()[:4])


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["dash"], indirect=True)  # each look takes its ten seconds
def test_a_tool_that_hangs_holds_up_nothing(runner, tools):
    FakeNvidia(tools).gpus("Tesla T4").hang()
    runner.send(encode_gpus(tag="g"))
    began = time.monotonic()
    runner.ping()
    assert runner.launch(b"exit 3\n") and time.monotonic() - began < 8
    answer = parse_gpus_answer(runner.wait(p.FactsReply, lambda r: r.tag == "g").facts)
    assert answer.problem == "nvidia-smi does not answer"
