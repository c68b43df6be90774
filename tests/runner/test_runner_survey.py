"""Looking at a spool beside its runner, and removing it for good, in every shell."""

import secrets
import subprocess
from pathlib import Path

import pytest
from shell_node import SHELLS, Node, is_alive, new_id

from sshq.runner import protocol as p
from sshq.runner.survey import (
    Removal,
    Survey,
    SurveyError,
    encode_removal,
    encode_survey,
    parse_exports,
    parse_removal,
    parse_survey,
)

FOREVER = b"while :; do sleep 0.1; done\n"


def say(node, text: bytes) -> bytes:
    """What another login's shell answers."""
    return subprocess.run(node.shell, input=text, capture_output=True, timeout=60, env=node.env, cwd="/", check=False).stdout


def survey(node) -> Survey:
    nonce = secrets.token_hex(8)
    return parse_survey(say(node, encode_survey(nonce=nonce, bases=(str(node.base),))), nonce)


def remove(node, *, force: bool = False) -> Removal:
    nonce = secrets.token_hex(8)
    return parse_removal(say(node, encode_removal(nonce=nonce, store_id="test", force=force, bases=(str(node.base),))), nonce)


def test_a_survey_tells_all_launches_and_disturbs_nothing(node, runner):
    told = '{"about": 1, "name": "it\'s $(x) \\u00e9"}'
    running = runner.launch(script=FOREVER, about=told)
    ended = runner.launch(script=b"exit 3\n# \xff\xfe binary\n")
    fenced = new_id()
    runner.wait_start(running.id)
    runner.wait_end(ended.id)
    runner.send(p.encode_fence(id=fenced, seq=runner.gen * 1_000_000 + 900))
    runner.wait(p.FenceResult)
    found = survey(node)
    (spool,) = found.spools
    assert (spool.store_id, spool.format, spool.spool_id) == ("test", "1", runner.hello.spool_id)
    assert spool.runners == (runner.hello.pid,) and spool.path == str(node.spool) and spool.generation == 1
    launches = {launch.entry.id: launch for launch in spool.launches}
    assert launches.keys() == {running.id, ended.id, fenced}
    assert launches[running.id].about == told and launches[running.id].entry.alive
    assert launches[running.id].boot == found.boot == runner.hello.boot
    assert launches[ended.id].script == b"exit 3\n# \xff\xfe binary\n" and launches[ended.id].entry.record.code == 3
    assert launches[ended.id].about == "" and launches[ended.id].assigned("job_id") == str(ended.job_id)
    assert launches[fenced].entry.go == "directory"
    runner.send(p.encode_ping(tag="t"))
    assert runner.wait(p.Pong).tag == "t"  # the runner is the one it was


def test_an_answer_that_was_cut_anywhere_is_no_answer(node, runner):
    runner.wait_end(runner.launch(script=b"true\n").id)
    nonce = secrets.token_hex(8)
    whole = say(node, encode_survey(nonce=nonce, bases=(str(node.base),)))
    assert len(parse_survey(b"noise\n" + whole, nonce).spools[0].launches) == 1
    for end in range(0, len(whole) - 1, 7):
        with pytest.raises(SurveyError):
            parse_survey(whole[:end], nonce)


def test_a_spool_goes_only_when_nothing_of_it_runs_and_takes_strays_along(node, runner):
    busy = runner.launch(script=b"(exec setsid sleep 600 </dev/null >/dev/null 2>&1) & echo $! >stray; " + FOREVER)
    runner.wait_start(busy.id)
    runner.close()
    assert [kept[:2] for kept in remove(node).kept] == [("alive", "1")]
    (other := node.base / "spool" / "other").mkdir()
    done = remove(node, force=True)
    assert done.removed == (str(node.spool),) and done.kept == () and done.others == (str(other),)
    assert not node.spool.exists() and done.killed >= 1
    left = [entry for entry in Path("/proc").glob("[0-9]*/environ") if mentions(entry, str(node.spool))]
    assert [entry for entry in left if is_alive(int(entry.parts[2]))] == []
    assert remove(node).removed == ()


def test_a_spool_whose_runner_lives_is_left_alone(tmp_path):
    with Node(tmp_path) as node:
        runner = node.connect()
        assert [kept[:2] for kept in remove(node, force=True).kept] == [("runner", str(runner.hello.pid))]
        assert runner.ping() and node.spool.exists()


def mentions(entry: Path, text: str) -> bool:
    try:
        return f"SSHQ_DIR={text}/".encode() in entry.read_bytes()
    except OSError:
        return False


def test_an_environment_comes_back_as_it_was_sent():
    environ = {"A": "it's\n\"x\" $(y)", "B": "", "LANG": "C", "Z": "''"}
    call = p.LaunchCall(
        id="0" * 32, job_id=1, attempt=1, seq=1, epoch=1, uid=1, boot="b", node="n", script=b"", environ=environ, work_dir="/"
    )
    (text,) = p.encode_launch(call)
    done = subprocess.run(
        [*SHELLS["bash"], "-c", 'call_launch() { printf "%s" "$7"; }; ' + text.decode()], capture_output=True, check=True
    )
    assert parse_exports(done.stdout) == environ
    assert parse_exports(done.stdout[:-3]) == {} or "LANG" not in parse_exports(done.stdout[:-3])
    assert parse_exports(b"") == {} == parse_exports(b"export A='1'\n")
