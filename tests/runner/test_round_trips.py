"""Whatever bytes a user's environment, arguments, script, directories and file names hold: the job gets the same ones.

Through the real program on each kind of /bin/sh, many strings a launch; and once from `sbatch` through store and sshd.

A campaign: SSHQ_ROUND_TRIPS=100000 SSHQ_ROUND_TRIP_SEED=n pytest tests/runner/test_round_trips.py
"""

import os
import random
import subprocess
from pathlib import Path

import pytest
from shell_node import SHELLS, Runner

from sshq.runner import protocol as p
from sshq.runner.calls import NUMBER_NAMES, UNSAFE_NAMES

STRINGS = int(os.environ.get("SSHQ_ROUND_TRIPS", "1000"))
SEED = int(os.environ.get("SSHQ_ROUND_TRIP_SEED", "1"))
A_LAUNCH = 100  # strings in each

PIECES = [
    "'", '"', "`", "$", "$(", ")", "${", "}", "\\", "\\\\", "\n", "\r", "\t", "\x0b", "\x1b[31m", "\x07", "\x7f", "\x01", " ", "  ", "-", "--", "-n",
    "-e", "*", "?", "[", "]", "[!a]", "~", "~root", "#", "!", "!!", "&", "&&", "|", ";", ";;", "<", ">", "<<EOF", "EOF", "=", ":", "%", "%s", "%j",
    "%%", "^", "{a,b}", "$((1))", "$HOME", "$PATH", "$'x'", '$"x"', "\\n", "\\0", "\\x41", "\\c", "'\\''", "END-", "END-1", "END", "END-" + "0" * 32,
    "PROGRAM=", "eval ", "exit 7", "rm -rf", "a" * 300, "é", "ß", "日本", "😀", "\u202e", "\ufeff", "\udc80", "\udcff\udcfe", "\udce2\udc82", "0", "x",
    "\n\n", "\n'", "'\n", "\\\n", "1>&2", "</dev/null", "#!", "_", ".", "..", "./", "é\udcc3",
]  # fmt: skip
# Names that some shell, locale or loader listens to; the job still has to get what was given.
LISTENED_TO = [
    "ENV", "BASH_ENV", "CDPATH", "PS1", "PS4", "MAIL", "TERM", "HISTFILE", "FPATH", "OPTERR", "GREP_OPTIONS", "NULLCMD", "VISUAL", "PROMPT", "FIGNORE",
    "MODULE_PATH", "POSIXLY_CORRECT", "BASH_COMPAT", "COMP_WORDBREAKS", "TTY", "path", "status", "argv", "WATCH", "OPTARG", "TZ", "IGNOREEOF",
]  # fmt: skip


class Strings:
    """Hostile strings by seed; the length of most is small, so that each mixes few things."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)
        self.made = 0

    def text(self) -> str:
        self.made += 1
        pick = self.random
        kind = pick.random()
        if kind < 0.05:
            return ""
        if kind < 0.15:
            return os.fsdecode(bytes(pick.randrange(1, 256) for _ in range(pick.randint(1, 60))))
        if kind < 0.2:
            return os.fsdecode(os.fsencode("".join(pick.choice(PIECES) for _ in range(200))))
        return os.fsdecode(os.fsencode("".join(pick.choice(PIECES) for _ in range(pick.randint(1, 8)))))

    def name(self) -> str:
        """Of a file or directory."""
        raw = os.fsencode(self.text().replace("/", "_"))[:200]
        return os.fsdecode(raw if raw.strip(b".") else b"dots" + raw)

    def environ(self, count: int) -> dict[str, str]:
        names = [f"V{n}" for n in range(count - 3)] + self.random.sample(LISTENED_TO, 3)
        return {name: self.text() for name in names}


# The job shows what it got: its variables and words from the kernel, its script, and where it is.
SHOW = """exec 3>&1
printf 'arguments\\0' >&3; for word in "$@"; do printf '%s\\0' "$word" >&3; done
printf 'directory\\0' >&3; printf '%s\\0' "$(pwd -P; printf .)" >&3
printf 'environ\\0' >&3; cat /proc/$$/environ >&3
printf 'script\\0' >&3; cat "$0" >&3
exit 0
"""


def read_shown(data: bytes) -> tuple[list[str], str, dict[str, str], bytes]:
    """Return arguments, directory, variables and script."""
    head, _, script = data.partition(b"\0script\0")
    head, _, environ = head.partition(b"\0environ\0")
    head, _, directory = head.partition(b"directory\0")
    words = [os.fsdecode(word) for word in head.split(b"\0")][1:-1]
    variables = dict(os.fsdecode(one).partition("=")[::2] for one in environ.split(b"\0") if one)
    return words, os.fsdecode(directory.removesuffix(b"\n.")), variables, script


def assert_equal(got: object, given: object, seed: str, what: str) -> None:
    assert got == given, f"{what} differ (seed {seed})"


@pytest.fixture
def runner(shared: Runner) -> Runner:
    shared.replies.clear()
    return shared


@pytest.mark.timeout(120 + STRINGS // 10)
def test_all_strings_arrive_byte_for_byte(runner, tmp_path):
    strings = Strings(f"{SEED} {runner.node.shell[0]}")
    number = 0
    while strings.made < STRINGS // len(SHELLS):
        number += 1
        environ = strings.environ(A_LAUNCH // 2)
        arguments = tuple(strings.text() for _ in range(A_LAUNCH // 2 - 3))
        folder = Path(tmp_path, f"{number}{strings.name()}")
        folder.mkdir()
        script = SHOW.encode() + os.fsencode(strings.text()) + b"\n"
        target = folder / f"o{strings.name()}"
        call = runner.launch(script, environ=environ | {"PATH": os.environ["PATH"]}, args=arguments, work_dir=str(folder), stdout=str(target))
        record = runner.wait_end(call.id, 60)
        data = target.read_bytes()
        assert (record.how, record.code) == ("exit", 0), data[:500]
        words, directory, variables, body = read_shown(data)
        where = f"{strings.made} of {SEED}, {runner.node.shell[0]}"
        assert_equal(words, list(arguments), where, "arguments")
        assert_equal({name: variables.get(name) for name in environ}, environ, where, "variables")
        assert_equal((directory, body), (os.path.realpath(folder), script), where, "directory or script")
    runner.ping()


def test_what_is_not_passed_on_is_known(runner):
    """Names that are no identifiers, or that one of the shells would choke on: left out on all of them alike."""
    odd = {"a b": "1", "1x": "1", "x-y": "1", "é": "1", "BASH_FUNC_f%%": "() { :; }", "\udcff": "1", "x\n": "1", "x;y": "1", "SSHQ_ATTEMPT": "stolen"}
    odd |= {name: "1" for name in UNSAFE_NAMES}
    assert set(p.dropped_names(odd)) == set(odd)
    call = runner.launch(b"cat /proc/$$/environ\n", environ=odd | {"PATH": os.environ["PATH"], "KEPT": "1"})
    runner.wait_end(call.id)
    data = Path(p.out_path(runner.hello.spool, call.id)).read_bytes()
    variables = dict(one.partition(b"=")[::2] for one in data.split(b"\0") if one)
    assert variables[b"KEPT"] == b"1"
    assert variables[b"SSHQ_ATTEMPT"] == call.id.encode()
    assert not {os.fsencode(name) for name in odd if not p.dropped_names({name: ""}) and name != "SSHQ_ATTEMPT"} & variables.keys()
    assert b"a b" not in variables and b"BASH_FUNC_f%%" not in variables


def test_numbers_of_a_shell_are_passed_on_as_numbers_or_not_at_all(runner):
    """`export COLUMNS=…` is arithmetic to zsh: anything but a number ended the shell before the job had started."""
    for value, kept in (("132", True), ("0", False), ("<", False), ("a[$(touch x)]", False), ("", False), ("08", False), ("1e9", False)):
        environ = dict.fromkeys(NUMBER_NAMES, value) | {"PATH": os.environ["PATH"]}
        call = runner.launch(b"cat /proc/$$/environ\n", environ=environ)
        assert runner.wait_end(call.id).code == 0
        data = Path(p.out_path(runner.hello.spool, call.id)).read_bytes()
        got = {os.fsdecode(one.partition(b"=")[0]) for one in data.split(b"\0") if one.partition(b"=")[2] == value.encode()}
        assert NUMBER_NAMES & got == (NUMBER_NAMES if kept else set()), value


@pytest.mark.slow
def test_from_sbatch_to_the_job_nothing_changes(instance, loopback):
    """Command line, environment, directory and file names as a user has them, through socket, store and sshd."""
    instance.use(loopback.hosts[:1])
    instance.up()
    instance.ready()
    strings = Strings(f"{SEED} sbatch")
    jobs = []
    for number in range(3):
        folder = os.path.join(instance.work, f"{number}{strings.name()}")
        os.mkdir(folder)
        script = f"j{strings.name().replace('%', '_')}"
        body = f"#!/bin/sh\n{SHOW}".encode() + os.fsencode(strings.text()) + b"\n"
        Path(folder, script).write_bytes(body)
        environ = strings.environ(60)
        arguments = [strings.text() for _ in range(40)]
        target = f"o{strings.name().replace('%', '_').replace(chr(92), '_')}"
        argv = instance.argv("sbatch", "--parsable", "-o", target, f"./{script}", *arguments)
        done = subprocess.run(argv, cwd=folder, env={**instance.env, **environ}, capture_output=True, text=True, errors="surrogateescape", check=False)
        assert done.returncode == 0, done.stderr
        jobs.append((done.stdout.strip(), folder, target, body, environ, arguments))
    for job, folder, target, body, environ, arguments in jobs:
        instance.until_state(job, "COMPLETED")
        words, directory, variables, script = read_shown(Path(folder, target).read_bytes())
        assert_equal(words, arguments, str(SEED), "arguments")
        assert_equal({name: variables.get(name) for name in environ}, environ, str(SEED), "variables")
        assert_equal((directory, script), (os.path.realpath(folder), body), str(SEED), "directory or script")
