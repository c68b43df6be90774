"""Steps as a node tells them: of all that ever ran, and of those that run with what they use; a signal to one of them."""

import os
import secrets

import pytest
from shell_node import Runner, wait_until
from test_runner_steps import launch

from sshq.runner import protocol as p
from sshq.runner.steps import read_step
from sshq.runner.words import BadLineError


def steps_of(runner: Runner, *ids: str, live: bool = False) -> tuple[p.StepEntry, ...]:
    tag = secrets.token_hex(4)
    runner.send(p.encode_steps(tag=tag, ids=ids, live=live))
    return runner.wait(p.Steps, lambda r: r.tag == tag).entries


def test_the_steps_of_a_job_that_has_ended(shared, tmp_path):
    script = """srun true; srun -n2 -J 'my name' sh -c 'exit $((SLURM_PROCID+1))'; srun sh -c 'kill -9 $$'
        srun -n9 true; srun --exact -c2 echo 'a	b
c'; exit 0"""
    call = launch(shared, tmp_path, script)
    record = shared.wait_end(call.id)
    assert record.steps
    told = steps_of(shared, call.id)
    assert [(s.number, s.state, s.code, s.name, s.tasks, s.nodes, s.cpus, s.node_list) for s in told] == [
        (0, "done", 0, "true", 1, 1, 4, "node3"), (1, "done", 2, "my name", 2, 1, 4, "node3"),
        (2, "done", 137, "sh", 1, 1, 4, "node3"), (3, "done", 0, "echo", 1, 1, 2, "node3"),
    ]  # fmt: skip
    assert [s.line for s in told] == [
        "srun true", "srun -n2 -J my name sh -c exit $((SLURM_PROCID+1))", "srun sh -c kill -9 $$", "srun --exact -c2 echo a b c",
    ]
    for step in told:
        assert record.start_uptime_s <= step.began_uptime_s <= step.ended_uptime_s <= record.end_uptime_s
        assert abs(step.start_uptime_s - record.start_uptime_s) < 5
    if any(name in shared.node.shell[0] for name in ("dash", "bash")):
        assert all(step.user_s is not None and step.system_s is not None for step in told)
    assert steps_of(shared, call.id, live=True) == ()


def test_a_job_without_steps_says_so(shared, tmp_path):
    call = launch(shared, tmp_path, "exit 0")
    assert not shared.wait_end(call.id).steps
    assert steps_of(shared, call.id) == ()


def test_a_step_that_runs_is_told_with_what_it_uses_and_can_be_ended(shared, tmp_path):
    call = launch(shared, tmp_path, "srun sleep 300; echo rc=$?; srun true")
    (step,) = wait_until(lambda: [s for s in steps_of(shared, call.id, live=True) if s.sampled_rss_kib])
    assert (step.number, step.state, step.name, step.code) == (0, "run", "sleep", None)
    assert step.sampled_cpu_s >= 0
    assert end_step(shared, call.id, 1, None) == 0, "there is none of this number"
    assert end_step(shared, call.id, 0, None) == 1
    assert shared.wait_end(call.id).code == 0
    assert (tmp_path / "out").read_text() == "rc=143\n"
    err = (tmp_path / "err").read_text()
    assert f"slurmstepd-node3: error: *** STEP {call.job_id}.0 ON node3 CANCELLED AT " in err
    assert "srun: error: node3: task 0: Terminated\n" in err
    assert [s.code for s in steps_of(shared, call.id)] == [143, 0]


def end_step(runner: Runner, launch_id: str, number: int, signal: int | None) -> int:
    tag = secrets.token_hex(4)
    runner.send(p.encode_end_step(tag=tag, id=launch_id, number=number, signal=signal, grace_s=20))
    return len(runner.wait(p.Steps, lambda r: r.tag == tag).entries)


def test_a_signal_reaches_one_step_only(shared, tmp_path):
    words = "trap 'echo got; exit 0' USR1; echo up; while :; do sleep 0.05; done"
    call = launch(shared, tmp_path, f'srun sh -c "{words}" & srun -o other sh -c "{words}" & wait')
    wait_until(lambda: (tmp_path / "out").exists() and (tmp_path / "other").exists() and "up" in (tmp_path / "out").read_text())
    wait_until(lambda: "up" in (tmp_path / "other").read_text())
    running = {s.line.startswith("srun -o"): s.number for s in wait_until(lambda: steps_of(shared, call.id, live=True))}
    assert end_step(shared, call.id, running[False], 10) == 1
    wait_until(lambda: "got" in (tmp_path / "out").read_text())
    assert "got" not in (tmp_path / "other").read_text()
    end_step(shared, call.id, running[True], 9)
    shared.wait_end(call.id)


def test_a_step_whose_srun_was_killed_is_dead(shared, tmp_path):
    call = launch(shared, tmp_path, "srun sleep 300 & sleep 0.1; wait %1 2>/dev/null; exit 0")
    wait_until(lambda: steps_of(shared, call.id, live=True))
    file = shared.node.spool / "a" / f"{call.id}.steps" / "0"
    pid = int(file.read_text().split()[1])
    os.kill(pid, 9)
    shared.wait_end(call.id)
    assert [s.state for s in steps_of(shared, call.id)] == ["dead"]


@pytest.mark.parametrize("line", ["", "x", f"{'a' * 32} 0 run", f"{'a' * 32} 0 odd - 1 1 1 1 - - - - - - - 1.0 \tn\tx\ty"])
def test_lines_that_are_no_steps(line):
    with pytest.raises(BadLineError):
        read_step(line)


def test_what_a_job_wrote_is_made_fit_to_be_shown():
    step = read_step(f"{'a' * 32} 7 done 0 1 2 1 4 5.00 6.00 0m1.50s 0m0.00s - - 4.00 9.00 \tn[1-2]\tna\x1bme\t" + "x" * 2000)
    assert (step.number, step.tasks, step.user_s, step.name, len(step.line)) == (7, 2, 1.5, "na?me", 1024)
