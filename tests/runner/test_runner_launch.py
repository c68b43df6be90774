"""A launch: what is asked arrives byte for byte, runs once, and its end is told as it was."""

import os
import re
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shell_node import Runner, is_alive, new_id, wait_until

from sshq.runner import protocol as p


@pytest.fixture
def runner(shared: Runner) -> Runner:
    shared.replies.clear()
    return shared


def output_of(runner: Runner, call: p.LaunchCall) -> bytes:
    return Path(p.out_path(runner.hello.spool, call.id)).read_bytes()


def run(runner: Runner, script: bytes = b"", **fields: object) -> tuple[p.ExitRecord, bytes]:
    call = runner.launch(script, **fields)
    record = runner.wait_end(call.id)
    return record, output_of(runner, call) if call.stdout is None else b""


def test_an_exit_code_is_told_with_times_and_boot(runner):
    started = runner.wait_start(runner.launch(b"exit 0").id)
    record, out = run(runner, b"echo out; echo err >&2; exit 3\n")
    assert (record.how, record.code, record.signal, record.sure, record.sent, record.survivors) == ("exit", 3, None, True, (), ())
    assert out == b"out\nerr\n"
    assert record.boot == runner.hello.boot
    assert started.pid > 1 and 0 <= record.end_uptime_s - record.start_uptime_s < 10
    assert abs(record.start_at - runner.hello.clock_at) < 60 and record.cpu_s is not None


@pytest.mark.parametrize("signal", [9, 15, 11])
def test_a_signal_is_told_as_one(runner, signal):
    record, _ = run(runner, b"kill -%d $$\n" % signal)
    assert (record.how, record.signal, record.code) == ("signal", signal, None)


def test_the_codes_a_shell_makes_itself_are_codes(runner):
    for code in (126, 127, 200):
        record, _ = run(runner, b"exit %d" % code)
        assert (record.how, record.code) == ("exit", code)


def test_processor_time_is_counted(runner):
    record, _ = run(runner, b"i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done\n")
    assert 0 < record.cpu_s < 20


def test_a_launch_sent_again_answers_with_its_state_and_runs_once(runner, tmp_path):
    call = runner.call(b"echo x >>%s/runs; sleep 0.3; exit 4\n" % bytes(tmp_path))
    again = [*p.encode_launch(call)] * 3
    runner.send(*again)
    assert runner.wait(p.Known).entry.id == call.id
    assert runner.wait_end(call.id).code == 4
    runner.send(*again)
    entry = [runner.wait(p.Known).entry for _ in range(4)][-1]
    assert (entry.record.code, entry.go, entry.alive, entry.job_id) == (4, "file", False, call.job_id)
    assert (tmp_path / "runs").read_text() == "x\n"


def test_a_call_cut_off_at_any_byte_does_nothing(node):
    runner = node.connect()
    runner.reserve()
    call = runner.call(b"echo 'it''s' \"x\"\n" * 3, args=("END-x", "a b"), environ={"A": "'; touch /tmp/x; '"})
    [text] = p.encode_launch(call)
    # An ack cut off must not remove anything, a fence not close anything.
    calls = [(text, range(0, len(text) - 1, 293)), (p.encode_fence(id=call.id, seq=call.seq), range(3, 90, 23))]
    kept = runner.launch(b"exit 0")
    runner.wait_end(kept.id)
    acked = p.encode_ack(tag="t", high=call.seq, open_seqs=(call.seq,), ids=[kept.id])
    calls += [(acked, range(len(acked) - 45, len(acked) - 1, 13))]
    for whole, cuts in calls:
        for cut in [*cuts, len(whole) - 2]:
            other = node.connect()
            other.send(whole[:cut])
            other.close()
            assert [f.name for f in node.spool.glob(f"a/{call.id}*")] == [], f"cut at {cut}"
    other = node.connect()
    assert list(other.list()) == [kept.id]
    other.send(text)
    assert other.wait_end(call.id).code == 0


TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=60)
NASTY = st.one_of(
    TEXT,
    st.text(alphabet="'\"\\$`!*?[]{}()<>|&;~#%-\n\t\r =aé\x7f\x1b", max_size=30),
    st.sampled_from(["", "-n", "--", "END-", "'", "\n", "$(x)"]),
)
SHOW = (
    b"import os, sys\nwith open(sys.argv[1], 'wb') as f:\n"
    b"    f.write(b'\\0'.join([b'%d' % len(sys.argv), *map(os.fsencode, sys.argv[2:]), *(os.fsencode(os.environ[n]) for n in ('QA', 'QB')),"
    b" open(sys.argv[0], 'rb').read()]))\n"
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    args=st.lists(NASTY, max_size=4),
    values=st.tuples(NASTY, NASTY),
    tail=st.binary(max_size=50).map(lambda b: b.replace(b"\0", b"")),
)
def test_script_arguments_and_environment_arrive_byte_for_byte(runner, tmp_path, args, values, tail):
    script = SHOW + b"#" + re.sub(rb"[\r\n\x80-\xff]", b"'", tail)  # Python must still be able to read it
    shown = tmp_path / "shown"
    shown.unlink(missing_ok=True)
    environ = {"QA": values[0], "QB": values[1], "PATH": runner.node.env["PATH"]}
    call = runner.launch(script, interpreter=("/usr/bin/env", "python3"), args=(str(shown), *args), environ=environ)
    record = runner.wait_end(call.id)
    assert record.code == 0, output_of(runner, call)
    parts = shown.read_bytes().split(b"\0")
    expected = [str(len(args) + 2), *args, *values]
    assert parts == [e.encode() for e in expected] + [script]


@pytest.mark.parametrize("script", [b"", b"exit 5", b"exit 5\n", b"# \xff\xfe\x80 not UTF-8\nexit 5\n", b"#" + b"'" * 40_000 + b"\nexit 5", b"#" + bytes(range(1, 256)).replace(b"\n", b"") * 300 + b"\nexit 5\n"])  # fmt: skip
def test_a_script_of_any_size_arrives_byte_for_byte(runner, script):
    call = runner.call(script)
    writes = p.encode_launch(call)
    assert all(len(w) <= p.INLINE_MAX + 2048 for w in writes)
    runner.send(*writes)
    assert runner.wait_end(call.id).code == (5 if script else 0)
    assert (runner.node.spool / "a" / f"{call.id}.script").read_bytes() == script


def test_a_launch_whose_parts_did_not_all_come_is_refused_and_stays_so(runner):
    call = runner.call(b"#" * 50_000)
    writes = p.encode_launch(call)
    runner.send(*writes[:2], *writes[3:])
    assert runner.wait(p.Refused).why == "parts"
    runner.send(*writes)  # a second copy that was on its way: the caller has already been told "never"
    assert runner.wait(p.Refused).why == "parts"
    assert call.id not in runner.list()


def test_parts_that_come_again_do_not_touch_a_running_script(runner):
    call = runner.call(b"#" * 30_000 + b"\nsleep 0.2\nexit 6\n")
    writes = p.encode_launch(call)
    runner.send(*writes, *writes)
    assert runner.wait_end(call.id).code == 6


def test_output_goes_where_it_was_asked_to_and_is_cut_or_appended_to(runner, tmp_path):
    out, err = tmp_path / "o ut'1", tmp_path / "err"
    out.write_text("old\n")
    record, _ = run(runner, b"echo one; echo two >&2; pwd\n", work_dir=str(tmp_path), stdout=out.name, stderr=str(err))
    assert (record.code, out.read_text(), err.read_text()) == (0, f"one\n{tmp_path}\n", "two\n")
    run(runner, b"echo more\n", work_dir=str(tmp_path), stdout=str(out), append=True)
    assert out.read_text() == f"one\n{tmp_path}\nmore\n"


def test_an_output_that_cannot_be_opened_is_an_ending_of_its_own(runner, tmp_path):
    for fields in ({"stdout": "/no/such/x"}, {"stdout": str(tmp_path)}, {"stderr": "/no/such/y"}, {"stdin": "/no/such/in"}):
        record, _ = run(runner, b"touch %s/ran" % bytes(tmp_path), work_dir=str(tmp_path), **({"stdout": "/dev/null"} | fields))
        assert record.how == "output"
    assert not (tmp_path / "ran").exists()


def test_a_missing_work_directory_is_said_and_the_job_runs_in_tmp(runner):
    _, out = run(runner, b"pwd\n", work_dir="/no/such/dir")
    assert (
        out
        == b"slurmstepd-node3: error: couldn't chdir to `/no/such/dir': No such file or directory: going to /tmp instead\n/tmp\n"
    )


def test_a_missing_interpreter_is_said_as_slurm_says_it(runner):
    record, out = run(runner, b"x", interpreter=("/no/such/interpreter", "-u"))
    assert (record.how, record.code) == ("exit", 2)
    assert out == b"slurmstepd-node3: error: execve(): bad interpreter(/no/such/interpreter): No such file or directory\n"


def test_a_job_without_a_place_of_its_own_gets_one(runner):
    call = runner.launch(b"pwd; echo x >made\n")
    runner.wait_end(call.id)
    work = p.work_path(runner.hello.spool, call.id)
    assert output_of(runner, call).decode() == work + "\n" and Path(work, "made").exists()
    assert Path(work).stat().st_mode & 0o777 == 0o700


def test_standard_input_and_umask(runner, tmp_path):
    (tmp_path / "in").write_text("line\n")
    _, out = run(runner, b"cat; umask; : >%s/made\n" % bytes(tmp_path), work_dir=str(tmp_path), stdin="in", umask=0o027)
    assert out.startswith(b"line\n") and b"027" in out
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o640


def test_the_environment_is_what_was_asked_and_the_nodes_home(runner, tmp_path):
    environ = {
        "PATH": runner.node.env["PATH"],
        "HOME": "/home/else",
        "X": "a b",
        "UID": "7",
        "BASH_FUNC_f%%": "() { :; }",
        "LC_ALL": "C.UTF-8",
        "LANG": "nowhere",
    }
    call = runner.launch(b"env -0\n", environ=environ, slot=3, work_dir=str(tmp_path))
    runner.wait_end(call.id)
    got = dict(v.split("=", 1) for v in output_of(runner, call).decode().split("\0") if "=" in v)
    assert (got["X"], got["HOME"], got["LC_ALL"], got["PWD"]) == ("a b", str(runner.node.home), "C.UTF-8", str(tmp_path))
    assert (got["SSHQ_ATTEMPT"], got["SSHQ_SLOT"], got["SSHQ_DIR"]) == (call.id, "3", f"{runner.hello.spool}/a/{call.id}")
    assert got["SHELL"] == "/bin/bash" and {"USER", "LOGNAME"} <= set(got)
    extra = (
        set(got)
        - set(environ)
        - {"SSHQ_ATTEMPT", "SSHQ_SLOT", "SSHQ_DIR", "SHELL", "USER", "LOGNAME", "PWD", "OLDPWD", "SHLVL", "_", "A__z", "SLURM_TASK_PID", "TMPDIR"}
    )
    assert extra == set(), "nothing of the login reaches a job"
    assert (runner.node.spool / "a" / f"{call.id}.env").read_bytes() == b"", "emptied once read"


@pytest.mark.parametrize("locale", [{}, {"LC_ALL": ""}, {"LC_ALL": "C"}])
def test_a_locale_is_as_it_was_asked_or_not_there_at_all(runner, locale):
    _, out = run(runner, b"env -0\n", environ={"PATH": runner.node.env["PATH"], "LANG": "C.UTF-8", "LC_TIME": "C"} | locale)
    got = dict(v.split("=", 1) for v in out.decode().split("\0") if "=" in v)
    assert {n: v for n, v in got.items() if n.startswith(("LC_", "LANG"))} == {"LANG": "C.UTF-8", "LC_TIME": "C"} | locale


def test_an_interpreter_may_lie_where_its_path_looks_like_a_variable(runner, tmp_path):
    (tmp_path / "x=y").mkdir()
    (tmp_path / "x=y" / "sh").symlink_to("/bin/sh")
    record, out = run(runner, b"echo ran; exit 3\n", interpreter=(f"{tmp_path}/x=y/sh",))
    assert (record.code, out) == (3, b"ran\n")


def test_a_home_that_was_asked_for_explicitly_wins(runner):
    _, out = run(runner, b'echo "$HOME"\n', environ={"HOME": "/home/else", "PATH": "/bin:/usr/bin"}, own_home=True)
    assert out == b"/home/else\n"


def test_neither_environment_nor_script_is_in_any_command_line(runner):
    call = runner.launch(
        b"# canaryscript\ncat /proc/[0-9]*/cmdline 2>/dev/null\n", environ={"PATH": "/bin:/usr/bin", "SECRET": "canaryvalue"}
    )
    runner.wait_end(call.id)
    out = output_of(runner, call)
    assert b"canaryvalue" not in out and b"canaryscript" not in out
    for file in (runner.node.spool / "a").iterdir():
        assert file.stat().st_mode & 0o077 == 0, file
    assert runner.node.spool.stat().st_mode & 0o777 == 0o700


def test_a_job_hears_interrupts_and_hangups(runner):
    assert runner.hello.signals != "none"
    # The masks of /proc: none of HUP, INT, QUIT, PIPE is ignored (bits 0, 1, 2, 12).
    _, out = run(runner, b"grep SigIgn /proc/self/status\n")
    assert int(out.split()[1], 16) & 0x1007 == 0


def test_a_job_has_its_own_session_and_dies_before_its_supervisor_for_memory(runner):
    call = runner.launch(b"cut -d' ' -f1,4,5,6 /proc/$$/stat | tr -d '\\n'; cat /proc/self/oom_score_adj; cat /proc/$PPID/stat\n")
    runner.wait_end(call.id)
    ids, supervisor = output_of(runner, call).split(b"\n")[:2]
    score = ids.split()[-1]
    sessions = {int(f.read_text().rsplit(") ", 1)[1].split()[3]) for f in [Path(f"/proc/{runner.process.pid}/stat")]}
    assert int(supervisor.rsplit(b") ", 1)[1].split()[3]) not in sessions, "a supervisor does not share the channel's session"
    assert score.endswith(b"500")


def test_what_a_job_leaves_in_its_group_ends_with_it(runner):
    call = runner.launch(b"sleep 300 & echo $!; exit 0\n")
    runner.wait_end(call.id)
    wait_until(lambda: not is_alive(int(output_of(runner, call))))


def test_a_job_that_kills_its_whole_group_does_not_reach_its_supervisor(runner):
    record, _ = run(runner, b"kill -s KILL 0\nsleep 10\n")
    assert (record.how, record.signal) == ("signal", 9)


@pytest.mark.parametrize("nice", [0, 7])
def test_jobs_are_as_nice_as_the_connection_was_told(node, nice):
    runner = node.connect(nice=nice)
    runner.reserve()
    _, out = run(runner, b"nice\n")
    assert int(out) == nice + os.nice(0)
    if not nice:
        _, out = run(runner, b"nice\n", nice=5)
        assert int(out) == 5 + os.nice(0)


def test_many_launches_at_once_all_end_once(runner):
    calls = [runner.call(b"exit %d" % (n % 5)) for n in range(40)]
    runner.send(*(w for c in calls for w in p.encode_launch(c)))
    for n, call in enumerate(calls):
        assert runner.wait_end(call.id).code == n % 5
    assert {c.id for c in calls} <= set(runner.list())
    assert sorted(r.id for r in runner.replies if isinstance(r, p.Started)) == sorted(c.id for c in calls)


def test_a_hostile_store_or_launch_id_never_reaches_the_node(runner):
    for bad in ("../x", "a/b", "$(touch x)", "", "A" * 32, string.hexdigits[:16] * 3):
        with pytest.raises(ValueError):
            p.encode_fence(id=bad, seq=1)
    runner.send(b"call_fence ../../x 1 END-../../x\ncall_launch a b c d 0 '' '' '' END-a\ncall_part zz 1 req 1 x END-zz\n")
    runner.ping()
    assert not [f for f in os.listdir(runner.node.spool / "a") if len(f) < 34]
    assert not list(runner.node.base.rglob("x*")) and new_id() not in runner.list()
